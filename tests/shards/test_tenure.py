"""Tenures' files: made by one alone, read whole or not at all, and never an older one for a newer."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import JobError, SinkError, disk
from crawlpool.shards import tenure as tenures
from crawlpool.shards.layout import tenure_name
from crawlpool.shards.owner import Owner
from crawlpool.shards.tenure import Tenure
from tests.disks import Crash, Faults, instead
from tests.gates import Threads

ME = Owner("here", "boot", 1, 42, 77, "token")


def test_a_tenure_is_read_as_it_was_written() -> None:
    """All of it, also a report with text of any language."""
    one = Tenure(3, ME, 2, 17, True, 5, True, {"ok": 3, "note": "é \n \u2028"}, "the disk is full")
    assert Tenure.from_bytes(3, one.to_bytes()) == one
    assert Tenure.from_bytes(4, Tenure(4, ME).to_bytes()) == Tenure(4, ME)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_one_changed_byte_is_noticed(place: int, byte: int) -> None:
    """A file that is damaged gives no tenure rather than a wrong one."""
    one = Tenure(3, ME, 2, 17)
    content = bytearray(one.to_bytes())
    content[place % len(content)] = byte
    assert Tenure.from_bytes(3, bytes(content)) in (one, None)


@given(st.integers(0, 1100))
def test_a_half_written_refresh_is_noticed(cut: int) -> None:
    """New bytes up to anywhere and old ones behind are the old tenure, the new one, or none."""
    old, new = Tenure(3, ME, 1, 9), Tenure(3, ME, 2, 1_000_000)
    mixed = new.to_bytes()[:cut] + old.to_bytes()[cut:]
    assert Tenure.from_bytes(3, mixed) in (old, new, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 5000, b"{}", b"\0" * 1024])
def test_what_is_no_tenure_gives_none(content: bytes) -> None:
    """Whatever a file holds, nothing is raised."""
    assert Tenure.from_bytes(1, content) is None


def test_a_text_with_the_right_digest_and_wrong_fields_gives_none() -> None:
    """Of a later version, for one: it isn't guessed at."""
    for text in (b"[]", b'{"owner": {}}', b"{", b"7"):
        assert Tenure.from_bytes(1, tenures._digest_of(text) + b" " + text + b"\n") is None


def test_only_one_makes_a_tenure(tmp_path: pathlib.Path) -> None:
    """Of many who try at once one succeeds; its file is whole, and nobody leaves anything beside it."""
    barrier, made = threading.Barrier(8), []

    def make() -> None:
        mine = dataclasses.replace(Tenure(1, ME), counter=threading.get_ident())
        barrier.wait()
        if tenures.make(str(tmp_path), mine):
            made.append(mine)

    with Threads() as threads:
        threads.start(make, 8)
    assert len(made) == 1
    assert tenures.newest(str(tmp_path)) == made[0]
    assert os.listdir(tmp_path) == [tenure_name(1)]


def test_the_newest_counts(tmp_path: pathlib.Path) -> None:
    """By its number, whatever lies there besides; a shard without any has none."""
    assert tenures.newest(str(tmp_path / "nowhere")) is None
    assert tenures.newest(str(tmp_path)) is None
    for number in (1, 2, 10):
        assert tenures.make(str(tmp_path), Tenure(number, ME))
    (tmp_path / "tenure-00000099x").write_text("")
    (tmp_path / "e0001").mkdir()
    found = tenures.newest(str(tmp_path))
    assert found is not None
    assert found.number == 10


def test_a_tenure_that_stays_damaged_is_told(tmp_path: pathlib.Path) -> None:
    """In one line that names the file."""
    (tmp_path / tenure_name(4)).write_bytes(b"rubbish")
    with pytest.raises(JobError, match="tenure-00000004: is damaged"):
        tenures.newest(str(tmp_path))


def test_a_reader_looks_again_when_a_refresh_is_half_way(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was half written in the first look is whole in the next."""
    tenures.make(str(tmp_path), Tenure(1, ME))
    whole = tenures.content_of(str(tmp_path), 1)
    contents = [b"half", None, whole]
    monkeypatch.setattr(tenures, "content_of", lambda folder, number: contents.pop(0))
    assert tenures.newest(str(tmp_path)) == Tenure(1, ME)


def test_a_refresh_is_written_in_place(tmp_path: pathlib.Path) -> None:
    """Into the same file, never shorter meanwhile: a new one could be hidden by what a file system remembers."""
    folder = str(tmp_path)
    tenures.make(folder, Tenure(1, ME))
    before = os.stat(tmp_path / tenure_name(1))
    fd = tenures.open_file(folder, 1)
    longer = Tenure(1, ME, 3, 2, True, report={"text": "x" * 3000})
    tenures.rewrite(fd, longer)
    assert tenures.newest(folder) == longer
    tenures.rewrite(fd, Tenure(1, ME, 3, 4))  # shorter again: what is left behind it counts for nothing
    os.close(fd)
    assert tenures.newest(folder) == Tenure(1, ME, 3, 4)
    after = os.stat(tmp_path / tenure_name(1))
    assert (after.st_ino, after.st_size >= 1024) == (before.st_ino, True)


def test_earlier_tenures_are_removed_and_never_the_newest(tmp_path: pathlib.Path) -> None:
    """With what their half-made files left; anything else stays."""
    for number in (1, 2, 3):
        tenures.make(str(tmp_path), Tenure(number, ME))
    for name in (".tenure-00000002-abc", ".tenure-00000009-abc", ".tenure-x", "other"):
        (tmp_path / name).write_text("")
    tenures.remove_before(str(tmp_path), 3)
    assert sorted(os.listdir(tmp_path)) == [".tenure-00000009-abc", ".tenure-x", "other", tenure_name(3)]
    tenures.remove_before(str(tmp_path / "nowhere"), 3)


def test_a_lost_answer_of_a_network_file_system_is_no_failure(tmp_path: pathlib.Path) -> None:
    """The link was made, the answer was lost, the second try says that the name is taken: it is by us."""

    def link(old: str, new: str) -> None:
        os.link(old, new)
        raise FileExistsError(errno.EEXIST, "lost and tried again")

    with instead({"link": link}):
        assert tenures.make(str(tmp_path), Tenure(1, ME))
    assert tenures.newest(str(tmp_path)) == Tenure(1, ME)


def test_a_file_system_without_links_makes_names_exclusively(tmp_path: pathlib.Path) -> None:
    """There the first has the name, too, and the second doesn't."""

    def link(old: str, new: str) -> None:
        raise OSError(errno.EPERM, "no links here")

    with instead({"link": link}):
        assert tenures.make(str(tmp_path), Tenure(1, ME, 5))
        assert not tenures.make(str(tmp_path), Tenure(1, ME, 6))
    assert tenures.newest(str(tmp_path)) == Tenure(1, ME, 5)


def test_a_crash_at_any_step_leaves_a_whole_tenure_or_none(tmp_path: pathlib.Path) -> None:
    """Whoever comes next finds a file that is whole, or makes it; and makes the next one."""
    counted = Faults()
    (tmp_path / "all").mkdir()
    with counted.installed():
        tenures.make(str(tmp_path / "all"), Tenure(1, ME))
    for at in range(1, len(counted.calls) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        with Faults(at).installed(), pytest.raises(Crash):
            tenures.make(str(folder), Tenure(1, ME))
        found = tenures.newest(str(folder))
        assert found in (None, Tenure(1, ME))
        assert tenures.make(str(folder), Tenure(1 if found is None else 2, ME))
        tenures.remove_before(str(folder), 3)
        assert os.listdir(folder) == []


@pytest.mark.parametrize("call", ["open_file", "write", "sync_file", "link", "sync_folder"])
def test_what_cannot_be_written_is_told(tmp_path: pathlib.Path, call: str) -> None:
    """As a SinkError that names the file; nothing is left behind that counts."""

    def fails(*args: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with instead({call: fails}), pytest.raises(SinkError, match="tenure-00000001: No space left"):
        tenures.make(str(tmp_path), Tenure(1, ME))
    if call != "sync_folder":
        assert tenures.newest(str(tmp_path)) is None


def test_what_cannot_be_read_is_told(tmp_path: pathlib.Path) -> None:
    """A tenure's name that is a folder, for one; and one that is gone is none."""
    (tmp_path / tenure_name(1)).mkdir()
    with pytest.raises(SinkError):
        tenures.content_of(str(tmp_path), 1)
    assert tenures.content_of(str(tmp_path), 2) is None
    with pytest.raises(SinkError):
        tenures.open_file(str(tmp_path), 2)
    assert disk.link  # what makes a tenure is one of the calls that tests can make fail
