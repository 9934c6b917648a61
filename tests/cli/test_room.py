"""``--min-free``: a run ends while there is still room."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from crawlpool.cli import main, room
from crawlpool.cli.room import Room
from crawlpool.testing import Answer, SiteServer
from tests.cli.command import finish, records_of, start

Capture = pytest.CaptureFixture[str]
MIB = 1 << 20


class Disk:
    """A disk that is free as far as a test says."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.looks: list[str] = []

    def statvfs(self, path: str) -> Any:
        """Answer as ``os.statvfs`` does."""
        self.looks.append(path)
        return os.statvfs_result((4096, 1024, 9, 0, self.free_bytes // 1024, 0, 0, 0, 0, 255))


def test_it_looks_now_and_then(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second, at the nearest folder that is there, one look for each; the trouble names both numbers."""
    disk, now = Disk(100 * MIB), [10.0]
    monkeypatch.setattr(room.os, "statvfs", disk.statvfs)
    paths = [str(tmp_path / "none" / "a.jsonl"), str(tmp_path / "b.jsonl"), str(tmp_path)]
    looking = Room(paths, 64 * MIB, lambda: now[0])
    assert looking.trouble() is None and disk.looks == [str(tmp_path)]
    disk.free_bytes = 63 * MIB
    now[0] += 0.5
    assert looking.trouble() is None and len(disk.looks) == 1
    now[0] = looking.look_at_s
    assert looking.trouble() == f"{tmp_path}: 66.1 MB are free on its disk, and 67.1 MB shall stay free (--min-free)"
    assert Room(paths, None).trouble() is None and Room(paths, None).look_at_s == float("inf")


def test_a_file_system_that_tells_nothing_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some say 0 of 0 blocks, or fail: then the next write says what is wrong."""

    def fail(path: str) -> Any:
        raise OSError

    monkeypatch.setattr(room.os, "statvfs", fail)
    assert Room(["/"], MIB).trouble() is None
    monkeypatch.setattr(room.os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert Room(["/"], MIB).trouble() is None


def test_without_room_nothing_is_begun(tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job looks by itself, a run without one when it is asked to: one line, exit code 3, nothing made."""
    monkeypatch.setattr(room.os, "statvfs", Disk(63 * MIB).statvfs)
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), "--job", str(tmp_path / "job")]) == 3
        output = ["-o", str(tmp_path / "o.jsonl")]
        assert main(["run", server.url("/"), *output, "--min-free", "64M"]) == 3
        err = capfd.readouterr().err
        assert err.count("shall stay free (--min-free): make room first\n") == len(err.splitlines()) == 2
        assert list(tmp_path.iterdir()) == [] and server.request_count == 0
        assert main(["run", server.url("/"), "--job", str(tmp_path / "job"), "--min-free", "0"]) == 0
        assert main(["run", server.url("/"), *output]) == 0


#: Has the disk be nearly full from the third look on.
_FILLS_UP = """
import os
import crawlpool.cli.room as room
looks = []
def statvfs(path, real=os.statvfs):
    looks.append(path)
    found = list(real(path))
    found[4] = 10**9 if len(looks) < 3 else 1
    return os.statvfs_result(found)
room.os.statvfs = statvfs
room.EVERY_S = 0.05
"""


def test_a_disk_that_fills_up_ends_the_run_and_the_job_goes_on(tmp_path: pathlib.Path) -> None:
    """Exit code 3, one line that says what to do; what was begun is finished, the rest waits."""
    job = tmp_path / "job"
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=0.05)) as server:
        urls = [server.url(f"/{n}") for n in range(30)]
        code, _, err = finish(start(["run", *urls, "--job", str(job), "--threads", "1"], before=_FILLS_UP))
        assert code == 3
        last = err.splitlines()[-1]
        assert "shall stay free (--min-free); stopped after" in last
        assert last.endswith(f"URLs; make room, then 'crawlpool resume {job}' goes on")
        assert finish(start(["resume", str(job)]))[0] == 0
        assert server.request_count == 30
    assert len(records_of(job / "results.jsonl")) == 30
