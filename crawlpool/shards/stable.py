"""Copying files that belong together, though their writer may live: until all were of one moment."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, TypeAlias

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PIECE_BYTES = 1 << 20
#: The times of files go by a coarse clock: two changes within one tick of it look like one. Linux ticks every 1 to 10
#: ms; file systems that count whole seconds tell so by the times that they give.
_TICK_NS, _COARSE_TICK_NS = 50_000_000, 2_100_000_000
_SECOND_NS = 1_000_000_000
_LOOKS = 2000
_PAUSE_S = 0.02


def copy_stable(
    paths: Sequence[tuple[str, str]], check: Callable[[], None], pause: Callable[[float], object] = time.sleep
) -> None:
    """Copy files as they all were at one moment; those that aren't there are left out.

    A copy counts if of all files together length and times were the same before and after, and were older than a tick
    of the clock that they go by. Else it is made again.

    Args:
        paths: of each file, and of its copy.
        check: raises when the copy isn't wanted any more.
        pause: waits some seconds between two looks.

    Raises:
        JobError: when they change all the time.
        SinkError: when the copies can't be written.
    """
    probe = paths[0][1] + ".clock"
    try:
        for _ in range(_LOOKS):
            check()
            before = _seen(paths)
            if _are_old(before, _now_ns(probe)):
                _copy_all(paths, before, check)
                if _seen(paths) == before:
                    return
            pause(_PAUSE_S)
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"{one_line(error.filename or paths[0][1])}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            disk.remove(probe)
    raise JobError(f"{one_line(paths[0][0])}: somebody writes to it all the time, and can't be its owner any more")


_Seen: TypeAlias = "tuple[tuple[int, int, int, int] | None, ...]"


def _seen(paths: Sequence[tuple[str, str]]) -> _Seen:
    return tuple(_look(path) for path, _ in paths)


def _look(path: str) -> tuple[int, int, int, int] | None:
    """Return by what a change of a file is noticed; ``None`` where there is none."""
    try:
        told = os.stat(path)
    except FileNotFoundError:
        return None
    return told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def _are_old(seen: _Seen, now_ns: int) -> bool:
    """Tell whether all times lie a tick back."""
    times = [at for one in seen if one is not None for at in one[2:]]
    is_coarse = now_ns % _SECOND_NS == 0 and all(at % _SECOND_NS == 0 for at in times)
    return now_ns - max(times, default=0) > (_COARSE_TICK_NS if is_coarse else _TICK_NS)


def _now_ns(probe: str) -> int:
    """Return the time by the clock of the file system itself, which may be another machine's."""
    fd = disk.open_file(probe, create=True)
    try:
        disk.cut(fd, 0)
        disk.write_all(fd, b".")
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)


def _copy_all(paths: Sequence[tuple[str, str]], seen: _Seen, check: Callable[[], None]) -> None:
    for (path, to), one in zip(paths, seen, strict=True):
        with contextlib.suppress(FileNotFoundError):
            disk.remove(to)
        if one is None:
            continue
        try:
            source = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return  # it isn't as it was seen: that is found out at once
        try:
            target = disk.open_file(to, create=True, exclusive=True)
            try:
                while piece := os.read(source, _PIECE_BYTES):
                    check()
                    disk.write_all(target, piece)
                disk.sync_file(target)
            finally:
                os.close(target)
        finally:
            os.close(source)
