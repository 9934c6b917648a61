"""Copies of files that belong together: of one moment, whoever writes meanwhile."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

import pytest

from crawlpool import JobError, SinkError
from crawlpool.shards import stable
from crawlpool.shards.stable import copy_stable
from tests.disks import instead

OLD_NS = 1_700_000_000_123_456_789


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> list[tuple[str, str]]:
    """Give two files that are there, one that isn't, and where their copies go."""
    (tmp_path / "to").mkdir()
    pairs = [(str(tmp_path / name), str(tmp_path / "to" / name)) for name in ("db", "db-wal", "db-journal")]
    for path, _ in pairs[:2]:
        write(path, b"old")
    return pairs


def write(path: str, data: bytes, at_ns: int = OLD_NS) -> None:
    pathlib.Path(path).write_bytes(data)
    os.utime(path, ns=(at_ns, at_ns))


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the times at which inodes were changed be those of the bytes: a test can't set them."""
    real = stable._look

    def look(path: str) -> tuple[int, int, int, int] | None:
        told = real(path)
        return None if told is None else (*told[:3], told[2])

    monkeypatch.setattr(stable, "_look", look)


def nothing() -> None:
    """Let the copy go on."""


def contents(paths: list[tuple[str, str]]) -> list[bytes | None]:
    return [pathlib.Path(to).read_bytes() if os.path.exists(to) else None for _, to in paths]


@pytest.mark.usefixtures("_settled")
def test_what_is_quiet_is_copied_at_once(paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't there isn't there in the copy; nothing else is left beside."""
    pauses: list[float] = []
    copy_stable(paths, nothing, pauses.append)
    assert contents(paths) == [b"old", b"old", None]
    assert sorted(os.listdir(os.path.dirname(paths[0][1]))) == ["db", "db-wal"]
    assert pauses == []


@pytest.mark.parametrize("what", ["changed", "grown", "made", "removed"])
@pytest.mark.usefixtures("_settled")
def test_a_copy_that_somebody_wrote_into_is_made_again(
    paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever became of any of the files between the first look and the last."""
    real, done = stable._copy_all, []

    def copied(*args: Any) -> None:
        real(*args)
        if not done:
            done.append(True)
            if what == "removed":
                os.unlink(paths[1][0])
            elif what == "made":
                write(paths[2][0], b"new")
            else:
                data = b"new" if what == "changed" else b"older"
                write(paths[1][0], data, OLD_NS + (1_000_000_000 if what == "changed" else 0))

    monkeypatch.setattr(stable, "_copy_all", copied)
    copy_stable(paths, nothing, lambda s: None)
    second = {"changed": b"new", "grown": b"older", "made": b"old", "removed": None}[what]
    assert contents(paths) == [b"old", second, b"new" if what == "made" else None]


def test_what_was_written_just_now_is_waited_for(paths: list[tuple[str, str]]) -> None:
    """Two changes within a tick of the clock would look like one; so the last must be older than that."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        assert contents(paths) == [None, None, None]
        if len(pauses) == 3:
            monkeypatch.setattr(stable, "_TICK_NS", -1)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stable, "_TICK_NS", 10**15)
        copy_stable(paths, nothing, pause)
    assert len(pauses) == 3
    assert contents(paths) == [b"old", b"old", None]


@pytest.mark.usefixtures("_settled")
def test_a_file_system_that_counts_seconds_has_a_longer_tick(
    paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all times are whole seconds, a second and more has to go by."""
    whole = OLD_NS // 10**9 * 10**9
    for path, _ in paths[:2]:
        write(path, b"old", whole)
    seen = stable._seen(paths)
    for offset_ns, is_old in ((2 * 10**9, False), (3 * 10**9, True), (10**9 + 5, True)):
        assert stable._are_old(seen, whole + offset_ns) is is_old


def test_who_writes_all_the_time_is_told(paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be the owner any more; the copy isn't tried for ever."""
    monkeypatch.setattr(stable, "_LOOKS", 5)
    monkeypatch.setattr(stable, "_TICK_NS", 10**15)
    with pytest.raises(JobError, match="somebody writes to it all the time"):
        copy_stable(paths, nothing, lambda s: None)


@pytest.mark.usefixtures("_settled")
def test_a_copy_that_is_not_wanted_any_more_ends(paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes it asks between its pieces whether to go on."""
    asked = []

    def check() -> None:
        asked.append(True)
        if len(asked) == 2:
            raise JobError("no")

    with pytest.raises(JobError, match="no"):
        copy_stable(paths, check, lambda s: None)


@pytest.mark.usefixtures("_settled")
def test_a_full_disk_is_told(paths: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a SinkError."""

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with instead({"write": full}), pytest.raises(SinkError, match="No space left"):
        copy_stable(paths, nothing, lambda s: None)
