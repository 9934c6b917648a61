"""Tests of crawlpool.disk: it is thin, and the only one that changes what must survive a crash."""

from __future__ import annotations

import ast
import os
import pathlib
import stat

import pytest

from crawlpool import disk
from tests.disks import CALLS, instead
from tests.house import modules


def test_each_call_does_what_its_name_says(tmp_path: pathlib.Path) -> None:
    """A file is made, written, cut, renamed and removed, a folder made; modes are private."""
    folder = str(tmp_path / "f")
    disk.make_folder(folder)
    path = os.path.join(folder, "a")
    fd = disk.open_file(path, create=True, exclusive=True)
    with pytest.raises(FileExistsError):
        disk.open_file(path, create=True, exclusive=True)
    disk.write_all(fd, b"12345")
    disk.sync_file(fd)
    disk.cut(fd, 3)
    os.close(fd)
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    disk.rename(path, path + "b")
    disk.sync_folder(folder)
    assert pathlib.Path(path + "b").read_bytes() == b"123"
    disk.remove(path + "b")
    assert os.listdir(folder) == []


def test_all_is_written_in_as_many_calls_as_it_takes(tmp_path: pathlib.Path) -> None:
    """A disk that takes three bytes at a time has them all in the end."""
    real, taken = disk.write, []

    def write(fd: int, data: memoryview) -> int:
        taken.append(real(fd, data[:3]))
        return taken[-1]

    fd = disk.open_file(str(tmp_path / "a"), create=True)
    with instead({"write": write}):
        disk.write_all(fd, b"12345678")
    os.close(fd)
    assert (taken, (tmp_path / "a").read_bytes()) == ([3, 3, 2], b"12345678")


def test_nobody_takes_a_call_by_its_name() -> None:
    """Modules import ``disk`` and not its functions, so that a failing one reaches all of them; CALLS has them all."""
    wrong = [
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "crawlpool.disk"
    ]
    assert wrong == []
    defined = [node.name for node in modules()["crawlpool.disk"].body if isinstance(node, ast.FunctionDef)]
    assert {*defined} == {*CALLS, "write_all"}
