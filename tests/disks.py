"""Disks that fail, and disks that lose power: what stands under ``crawlpool.disk`` in tests."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from crawlpool import disk

#: Every function that changes the disk, in one place: the tests go through all of them.
CALLS = ("open_file", "write", "sync_file", "sync_folder", "cut", "rename", "link", "remove", "make_folder")


class Crash(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def instead(replaced: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Put other functions in place of those of ``crawlpool.disk``."""
    before = {name: getattr(disk, name) for name in replaced}
    try:
        for name, function in replaced.items():
            setattr(disk, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(disk, name, function)


class Faults:
    """Counts the calls that change the disk; at one of them the call fails, or the process "ends".

    Args:
        at: the ordinal of the call, from 1; ``None`` for none.
        error: an errno for a failure, which is an ``OSError``; ``None`` for a ``Crash``.
        half: whether a write that doesn't succeed has written half of its bytes.
    """

    def __init__(self, at: int | None = None, error: int | None = None, half: bool = False) -> None:
        self.at, self.error, self.half = at, error, half
        self.calls: list[str] = []

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stand under ``crawlpool.disk`` for a while."""
        with instead({name: self._wrapped(name, getattr(disk, name)) for name in CALLS}):
            yield

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.at:
                if name == "write" and self.half:
                    os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
                if self.error is None:
                    raise Crash
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **named)

        return call


ERRORS = {
    "open_file": (errno.EMFILE, errno.EACCES),
    "write": (errno.ENOSPC, errno.EIO),
    "sync_file": (errno.EIO,),
    "sync_folder": (errno.EIO,),
    "cut": (errno.EIO,),
    "rename": (errno.EIO, errno.EROFS),
    "remove": (errno.EROFS,),
    "make_folder": (errno.ENOSPC,),
}


@dataclasses.dataclass
class _File:
    content: bytes = b""
    pending: list[tuple[int, bytes] | int] = dataclasses.field(default_factory=list)  # writes, and lengths of cuts

    def kept(self, count: int, torn: int) -> bytes:
        """Return what is left when ``count`` of what wasn't synced got through, the last of it by ``torn`` / 4."""
        content = bytearray(self.content)
        for number, change in enumerate(self.pending[:count]):
            if isinstance(change, int):
                del content[change:]
                continue
            offset, data = change
            if number == count - 1:
                data = data[: len(data) * torn // 4] + bytes(len(data) - len(data) * torn // 4)  # zeros, as ext4 does
            content[offset : offset + len(data)] = data
        return bytes(content)


class PowerLoss:
    """Does what it is told to a real folder, and knows which other states of it a loss of power may leave.

    Of a file survives what was synced, and of what came after any prefix, its last write torn; of the names what was
    there when the folder was last synced, and of the changes after that any prefix. Each as little as it likes.

    Args:
        folder: holds files only; what lies in it now is taken to be on the disk.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.files = {path.name: _File(path.read_bytes()) for path in folder.iterdir()}  # as they are seen now
        self._names = dict(self.files)  # as they are on the disk
        self._changes: list[tuple[str | None, str | None, _File]] = []  # old name, new name, file
        self._open: dict[int, _File] = {}
        self._real = {name: getattr(disk, name) for name in CALLS}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stand under ``crawlpool.disk`` for a while."""
        replaced = {name: getattr(self, f"_{name}") for name in CALLS if hasattr(self, f"_{name}")}
        with instead(replaced):
            yield

    def lose(self, into: pathlib.Path, choose: Callable[[int], int]) -> None:
        """Write a folder as it may be after a loss of power; ``choose(n)`` gives a number from 0 to n."""
        names = dict(self._names)
        for old, new, file in self._changes[: choose(len(self._changes))]:
            if old is not None:
                names.pop(old, None)
            if new is not None:
                names[new] = file
        for name, file in sorted(names.items()):
            (into / name).write_bytes(file.kept(choose(len(file.pending)), choose(4)))

    def _open_file(self, path: str, **named: Any) -> int:
        fd: int = self._real["open_file"](path, **named)
        name = os.path.basename(path)
        if name not in self.files:
            self.files[name] = _File()
            self._changes.append((None, name, self.files[name]))
        self._open[fd] = self.files[name]
        return fd

    def _write(self, fd: int, data: bytes) -> int:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written: int = self._real["write"](fd, data)
        self._open[fd].pending.append((offset, bytes(data)[:written]))
        return written

    def _sync_file(self, fd: int) -> None:
        file = self._open[fd]
        file.content = file.kept(len(file.pending), 4)
        file.pending.clear()

    def _cut(self, fd: int, length: int) -> None:
        self._real["cut"](fd, length)
        self._open[fd].pending.append(length)

    def _sync_folder(self, path: str) -> None:
        self._names = dict(self.files)
        self._changes.clear()

    def _rename(self, old: str, new: str) -> None:
        self._real["rename"](old, new)
        before, after = os.path.basename(old), os.path.basename(new)
        file = self.files[after] = self.files.pop(before)
        self._changes.append((before, after, file))

    def _remove(self, path: str) -> None:
        self._real["remove"](path)
        name = os.path.basename(path)
        self._changes.append((name, None, self.files.pop(name)))
