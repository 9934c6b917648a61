"""Tests of crawlpool.sinks.parts: rotation, cutting back, renames, and what any crash leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import stat
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool.errors import SinkError
from crawlpool.sinks.marks import Mark, part_name
from crawlpool.sinks.parts import BUFFER_BYTES, Parts
from tests.disks import ERRORS, Crash, Faults, PowerLoss


def names(folder: pathlib.Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def finished(parts: Parts) -> Mark:
    """Complete an output as a job does."""
    mark = parts.complete()
    parts.committed(mark)
    parts.close()
    return mark


def test_a_part_is_open_private_and_named_when_it_is_complete(tmp_path: pathlib.Path) -> None:
    """Until it is complete its name ends in ``.open``; the mode is 0600; ``append`` says the final name."""
    parts = Parts(str(tmp_path / "out.jsonl"))
    assert parts.append(b"one\n") == ("out.jsonl", 0)
    assert parts.append(b"three\n") == ("out.jsonl", 4)
    assert names(tmp_path) == ["out.jsonl.open"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "out.jsonl.open").stat().st_mode) == 0o600
    mark = parts.sync()
    assert (mark.part, mark.length, mark.is_complete) == (1, 10, False)
    assert finished(parts) == dataclasses.replace(mark, is_complete=True)
    assert names(tmp_path) == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize(
    ("base", "second"),
    [
        ("pages.warc.gz", "pages-00002.warc.gz"),
        ("my.site.warc.gz", "my.site-00002.warc.gz"),
        ("out.jsonl", "out-00002.jsonl"),
        ("plain", "plain-00002"),
        (".jsonl", ".jsonl-00002"),
    ],
)
def test_parts_are_numbered_before_their_suffix(base: str, second: str) -> None:
    """The number stands before what tells the format, ``.gz`` and the suffix before it together."""
    assert (part_name(base, 1), part_name(base, 2)) == (base, second)


def test_a_full_part_ends_before_what_would_not_fit(tmp_path: pathlib.Path) -> None:
    """What is appended never spans two parts; one that is too large for any has a part of its own."""
    parts = Parts(str(tmp_path / "p.warc.gz"), rotate_bytes=10, head=lambda name: f"<{name[1:-8]}>".encode())
    places = [parts.append(data) for data in (b"12345", b"123", b"1", b"x" * 50, b"2")]
    assert places == [
        ("p.warc.gz", 2),
        ("p.warc.gz", 7),
        ("p-00002.warc.gz", 8),
        ("p-00003.warc.gz", 8),
        ("p-00004.warc.gz", 8),
    ]
    assert names(tmp_path) == [f"p{n}.warc.gz.open" for n in ("-00002", "-00003", "-00004", "")]
    mark = parts.sync()
    assert names(tmp_path)[-1] == "p.warc.gz.open", "nothing is named before the ledger has committed"
    parts.committed(mark)
    assert names(tmp_path) == ["p-00002.warc.gz", "p-00003.warc.gz", "p-00004.warc.gz.open", "p.warc.gz"]
    finished(parts)
    assert (tmp_path / "p-00002.warc.gz").read_bytes() == b"<-00002>1"
    assert (tmp_path / "p-00003.warc.gz").read_bytes() == b"<-00003>" + b"x" * 50


def test_an_output_without_a_record_has_its_head(tmp_path: pathlib.Path) -> None:
    """What is complete with nothing in it is one part with the head, or empty where there is none."""
    finished(Parts(str(tmp_path / "a"), head=lambda name: b"head"))
    finished(Parts(str(tmp_path / "b")))
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"head", b""]


def test_what_was_not_committed_is_cut(tmp_path: pathlib.Path) -> None:
    """Opened at a mark, the open part ends there, and parts after it are gone."""
    parts = Parts(str(tmp_path / "o"), rotate_bytes=10)
    parts.append(b"12345")
    mark = parts.sync()
    parts.append(b"678")
    parts.append(b"123456")
    parts.sync()
    parts.close()
    assert names(tmp_path) == ["o-00002.open", "o.open"]
    again = Parts(str(tmp_path / "o"), rotate_bytes=10, mark=mark)
    assert again.mark == mark
    assert names(tmp_path) == ["o.open"]
    assert again.append(b"abc") == ("o", 5)
    finished(again)
    assert (tmp_path / "o").read_bytes() == b"12345abc"


def test_much_goes_out_before_a_sync(tmp_path: pathlib.Path) -> None:
    """When a mebibyte waits in memory, it is written first; ``flush`` brings the rest to the system."""
    parts = Parts(str(tmp_path / "o"))
    parts.append(b"x" * 10)
    assert (tmp_path / "o.open").stat().st_size == 0
    parts.append(b"x" * BUFFER_BYTES)
    parts.append(b"x")
    assert (tmp_path / "o.open").stat().st_size == BUFFER_BYTES + 10
    parts.flush()
    assert (tmp_path / "o.open").stat().st_size == BUFFER_BYTES + 11
    parts.close()


def test_another_file_is_not_cut(tmp_path: pathlib.Path) -> None:
    """A file with other bytes before the mark, too short a file and a missing one are refused as they are."""
    parts = Parts(str(tmp_path / "o"))
    parts.append(b"x" * 5000)
    mark = parts.sync()
    parts.close()
    path = tmp_path / "o.open"
    wrong = b"x" * 904 + b"y" + b"x" * 6000
    path.write_bytes(wrong)
    with pytest.raises(SinkError, match=r"o\.open is not the file that was written"):
        Parts(str(tmp_path / "o"), mark=mark)
    assert path.read_bytes() == wrong
    path.write_bytes(b"x" * 4999)
    with pytest.raises(SinkError, match=r"o\.open has 4,999 bytes; 5,000 of it count"):
        Parts(str(tmp_path / "o"), mark=mark)
    path.unlink()
    with pytest.raises(SinkError, match=r"o\.open is missing; 5,000 bytes of it count"):
        Parts(str(tmp_path / "o"), mark=mark)
    assert names(tmp_path) == []


def test_a_final_name_is_never_cut(tmp_path: pathlib.Path) -> None:
    """A file that has the final name and more than the mark says is somebody's: refused, as is one beside it."""
    (tmp_path / "o").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"o is there, with 8 bytes; only 0 of this output count"):
        Parts(str(tmp_path / "o"))
    (tmp_path / "o.open").write_bytes(b"")
    with pytest.raises(SinkError, match=r"both there"):
        Parts(str(tmp_path / "o"))
    with pytest.raises(SinkError, match=r"both there"):
        Parts(str(tmp_path / "o"), mark=Mark(part=2))
    (tmp_path / "p-00002").write_bytes(b"precious")
    parts = Parts(str(tmp_path / "p"), rotate_bytes=1)
    parts.append(b"1")
    with pytest.raises(SinkError, match=r"p-00002 is there, and is not of this output"):
        parts.append(b"2")
    assert (tmp_path / "o").read_bytes() == (tmp_path / "p-00002").read_bytes() == b"precious"


def test_a_complete_output_stays_as_it_is_until_more_comes(tmp_path: pathlib.Path) -> None:
    """Opened at its mark it keeps its name; what is appended takes the name back first."""
    parts = Parts(str(tmp_path / "o"))
    parts.append(b"12345")
    mark = finished(parts)
    again = Parts(str(tmp_path / "o"), mark=mark)
    assert (again.sync(), again.complete(), names(tmp_path)) == (mark, mark, ["o"])
    finished(again)
    more = Parts(str(tmp_path / "o"), mark=mark)
    more.append(b"67")
    assert names(tmp_path) == ["o.open"]
    finished(more)
    assert (names(tmp_path), (tmp_path / "o").read_bytes()) == (["o"], b"1234567")
    with pytest.raises(SinkError, match="with 7 bytes; only 5"):
        Parts(str(tmp_path / "o"), mark=mark)


def test_an_earlier_output_goes_when_the_new_one_is_whole(tmp_path: pathlib.Path) -> None:
    """With ``overwrites`` files of an earlier output stay until then, and none of its further parts is left."""
    earlier = Parts(str(tmp_path / "o"), rotate_bytes=1)
    for data in (b"1", b"2", b"3"):
        earlier.append(data)
    finished(earlier)
    new = Parts(str(tmp_path / "o"), rotate_bytes=1, overwrites=True)
    new.append(b"a")
    new.append(b"b")
    new.sync()
    assert (tmp_path / "o").read_bytes() == b"1"
    finished(new)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"o": b"a", "o-00002": b"b"}


def test_a_missing_folder_is_said(tmp_path: pathlib.Path) -> None:
    """The message names the file and what is wrong."""
    with pytest.raises(SinkError, match="o: its folder does not exist"):
        Parts(str(tmp_path / "none" / "o"))


# -- every call of the disk, in turn ---------------------------------------------------------------------------------


class Ledger:
    """What a job keeps of an output: the mark, and beside it, for the tests, what was committed by then."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "out.jsonl")
        self.folder = folder
        self.mark = Mark()
        self.committed: list[bytes] = []

    def live(self, groups: list[list[bytes]], *, is_last: bool) -> None:
        """Open the output at the mark, write groups and commit each, complete it if it is the last time."""
        parts = Parts(self.path, rotate_bytes=20, mark=self.mark, head=lambda name: b"#\n")
        try:
            for group in groups:
                for line in group:
                    parts.append(line)
                self.commit(parts, parts.sync(), group)
            if is_last:
                self.commit(parts, parts.complete(), [])
        finally:
            parts.close()

    def commit(self, parts: Parts, mark: Mark, group: list[bytes]) -> None:
        """Commit a mark, then say so."""
        self.mark, self.committed = mark, [*self.committed, *group]
        parts.committed(mark)

    def check(self) -> None:
        """Hold that what was committed is there, once, in order, and nothing else; all of it under final names."""
        found = []
        for number in itertools.count(1):
            path = self.folder / part_name("out.jsonl", number)
            if not path.exists():
                break
            head, *lines = path.read_bytes().splitlines(keepends=True)
            assert head == b"#\n"
            found += lines
        assert found == self.committed
        assert len(names(self.folder)) == number - 1


GROUPS = [[b"one\n", b"two\n"], [b"three\n", b"four\n", b"five, a longer line\n"], [b"six\n"]]


def test_after_a_crash_at_any_call_the_next_start_goes_on(tmp_path: pathlib.Path) -> None:
    """Whichever call the process ended at, each committed line is there once, and what is added after it."""
    crashes = 0
    for at, half in ((at, half) for at in itertools.count(1) for half in (False, True)):
        folder = tmp_path / f"{at}-{half}"
        folder.mkdir()
        ledger, faults = Ledger(folder), Faults(at, half=half)
        with faults.installed():
            try:
                ledger.live(GROUPS, is_last=True)
            except Crash:
                crashes += 1
        # The start after it ends at each of its calls, too, and so does the work after that.
        for second in range(1, 6):
            with Faults(second).installed():
                with contextlib.suppress(Crash):
                    ledger.live([[b"again\n"]], is_last=False)
        ledger.live([[b"last\n"]], is_last=True)
        ledger.check()
        if at > len(faults.calls):
            break
    assert crashes > 30


def test_after_a_failure_of_any_call_nothing_is_trusted(tmp_path: pathlib.Path) -> None:
    """It raises a ``SinkError`` that names the file, as every later call does; opened anew all that counts is there."""
    failed = set()
    for at in itertools.count(1):
        probe = Faults(at)
        folder = tmp_path / str(at)
        folder.mkdir()
        with probe.installed(), pytest.raises(Crash):
            _calls_of(Ledger(folder))
        if len(probe.calls) < at:
            break
        name = probe.calls[-1]
        for number, error in enumerate(ERRORS[name]):
            folder = tmp_path / f"{at}-{number}"
            folder.mkdir()
            ledger = Ledger(folder)
            with Faults(at, error, half=True).installed(), pytest.raises(SinkError, match=r"out\.jsonl") as told:
                _calls_of(ledger)
            assert os.strerror(error) in str(told.value)
            assert isinstance(told.value.__cause__, OSError)
            ledger.live([[b"last\n"]], is_last=True)
            ledger.check()
            failed.add(name)
    assert failed == {"open_file", "write", "sync_file", "sync_folder", "cut", "rename", "remove"}


def _calls_of(ledger: Ledger) -> None:
    """Go through every kind of call; where one fails, hold that the rest fail alike."""
    ledger.live(GROUPS[:1], is_last=False)
    parts = Parts(ledger.path, rotate_bytes=20, mark=ledger.mark, head=lambda name: b"#\n")
    for line in GROUPS[1]:
        parts.append(line)
    parts.sync()
    parts.close()  # uncommitted: cut and removed at the next start
    ledger.live(GROUPS[1:2], is_last=True)
    parts = Parts(ledger.path, rotate_bytes=20, mark=ledger.mark, head=lambda name: b"#\n")
    try:
        for line in GROUPS[2]:
            parts.append(line)
        ledger.commit(parts, parts.sync(), GROUPS[2])
    except SinkError as error:
        calls: list[Callable[[], object]] = [
            lambda: parts.append(b"x"),
            parts.flush,
            parts.sync,
            parts.complete,
            lambda: parts.committed(Mark()),
        ]
        for call in calls:
            with pytest.raises(SinkError) as again:
                call()
            assert str(again.value) == str(error)
        raise
    finally:
        parts.close()
    ledger.live([], is_last=True)
    raise Crash  # there was no such call


LINES = st.lists(st.integers(0, 30).map(lambda size: b"x" * size + b"\n"), min_size=0, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_was_committed_is_there_after_any_loss_of_power(data: st.DataObject) -> None:
    """Of unsynced bytes and names any part may be lost, time and again: each committed line is there, once."""
    with tempfile.TemporaryDirectory() as root:
        ledger = Ledger(pathlib.Path(root, "0"))
        ledger.folder.mkdir()
        for life in range(1, data.draw(st.integers(2, 4))):
            groups = data.draw(st.lists(LINES, max_size=4))
            power, faults = PowerLoss(ledger.folder), Faults(data.draw(st.integers(1, 40)))
            with power.installed(), faults.installed():
                with contextlib.suppress(Crash):
                    ledger.live(groups, is_last=data.draw(st.booleans()))
            folder = pathlib.Path(root, str(life))
            folder.mkdir()
            power.lose(folder, lambda most: data.draw(st.integers(0, most)))
            ledger.folder, ledger.path = folder, str(folder / "out.jsonl")
        ledger.live([[b"last\n"]], is_last=True)
        ledger.check()
