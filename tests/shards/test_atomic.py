"""Small files that are there whole or not at all: an old one, or the new one, whatever breaks off the writing."""

from __future__ import annotations

import errno
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import JobError, SinkError
from crawlpool.shards import atomic
from tests.disks import Crash, Faults, PowerLoss


def test_a_crash_or_a_failure_at_any_step_leaves_the_old_or_the_new(tmp_path: pathlib.Path) -> None:
    """Whoever reads finds one of the two; the next writer isn't kept from writing by what was left."""
    path = str(tmp_path / "a.json")
    calls = Faults()
    with calls.installed():
        atomic.put(path, [b"old"])
    for at in range(1, len(calls.calls) + 1):
        for error in (None, errno.ENOSPC):
            atomic.put(path, [b"old"])
            with pytest.raises(Crash if error is None else SinkError), Faults(at, error, half=True).installed():
                atomic.put(path, [b"the new one"])
            assert atomic.get(path) in (b"old", b"the new one")
    atomic.put(path, [b"", b"x"])
    assert (atomic.get(path), [one.name for one in tmp_path.iterdir()]) == (b"x", ["a.json"])


@given(data=st.data())
def test_what_was_written_outlives_a_loss_of_power(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Once ``put`` has returned it is on the disk; before that the old one still is."""
    folder, left = (tmp_path_factory.mktemp(name, numbered=True) for name in ("before", "after"))
    path = str(folder / "a")
    atomic.put(path, [b"old"])
    power = PowerLoss(folder)
    at = data.draw(st.none() | st.integers(1, 6))
    with power.installed():
        if at is None:
            atomic.put(path, [b"the new one"])
        else:
            with pytest.raises(Crash), Faults(at).installed():
                atomic.put(path, [b"the new one"])
    power.lose(left, lambda most: data.draw(st.integers(0, most)))
    assert atomic.get(str(left / "a")) in ((b"the new one",) if at is None else (b"old", b"the new one"))


def test_what_needs_no_safety_isnt_waited_for(tmp_path: pathlib.Path) -> None:
    """What a worker tells of itself each second is replaced in one step, without waiting for the disk."""
    calls = Faults()
    with calls.installed():
        atomic.put_json(str(tmp_path / "w.json"), {"a": 1}, is_synced=False)
    assert not {"sync_file", "sync_folder"} & set(calls.calls)
    assert atomic.get_json(str(tmp_path / "w.json")) == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "\xff", "{" * 100_000, '{"a": NaNa}'])
def test_what_is_no_object_is_told_as_damage(tmp_path: pathlib.Path, text: str) -> None:
    """The message is one line, and names the file."""
    (tmp_path / "a.json").write_text(text, "latin-1")
    with pytest.raises(JobError, match=r"a\.json: is damaged: no JSON object"):
        atomic.get_json(str(tmp_path / "a.json"))


def test_trouble_with_a_file_is_the_projects_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can't be read, is far too long, or whose folder is gone is told; one that isn't there is ``None``."""
    assert atomic.get(str(tmp_path / "none")) is None and atomic.get_json(str(tmp_path / "none")) is None
    with pytest.raises(JobError, match="Is a directory"):
        atomic.get(str(tmp_path))
    with pytest.raises(SinkError, match=r"gone/a: No such file"):
        atomic.put(str(tmp_path / "gone" / "a"), [b""])
    monkeypatch.setattr(atomic, "_MOST_BYTES", 3)
    atomic.put(str(tmp_path / "a"), [b"1234"])
    with pytest.raises(JobError, match="longer than any such file"):
        atomic.get(str(tmp_path / "a"))
