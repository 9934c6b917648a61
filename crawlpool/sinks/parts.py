"""The files of an output in a job: one after another, each cut back to what counts, and whole once it has its name.

An output ``pages.warc.gz`` is one or more numbered **parts**: ``pages.warc.gz``, ``pages-00002.warc.gz``, … The one
that is being written is called ``….open``. What the ledger has committed of the output is a ``Mark``; at the next start
the open part is cut back to it, and renames that a crash came between are done again. A file that has its final name is
whole and is never cut.

The order that makes this hold: bytes are written and synced (``sync``), then the ledger commits the mark, and only then
are the parts before it renamed (``committed``). So the ledger never speaks of bytes that could be lost, and no name
says that a part is whole before the ledger does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import zlib
from typing import TYPE_CHECKING, NoReturn

from crawlpool import disk
from crawlpool.errors import SinkError
from crawlpool.redact import one_line
from crawlpool.sinks.marks import OPEN_SUFFIX, TAIL_BYTES, Mark, digest_of_last, last_of, names_of, part_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: When so much of what was appended waits in memory, it is written before more is taken.
BUFFER_BYTES = 1 << 20


class Parts:
    """The numbered files of an output, open at a mark.

    Args:
        path: the first part's final name; its folder must be there.
        rotate_bytes: a part that would become longer than this ends before; ``None`` for one part without end. One
            ``append`` never spans two parts, so a part may be longer than this by what one ``append`` brings.
        mark: what the ledger has committed.
        head: gives the bytes that each part begins with, told the part's final base name.
        overwrites: whether files of an earlier output may go. They stay until the new ones take their names.

    Raises:
        SinkError: when a file can't be opened, isn't the one that the mark is about, is shorter than it, or is one that
            has its final name and is longer. Nothing was cut then.

    Not thread-safe: one thread drives it. After a call has failed, every later one raises the same ``SinkError``: what
    is on the disk then is known only by opening it anew at the last committed mark.
    """

    def __init__(
        self,
        path: str,
        *,
        rotate_bytes: int | None = None,
        mark: Mark | None = None,
        head: Callable[[str], bytes] | None = None,
        overwrites: bool = False,
    ) -> None:
        mark = mark or Mark()
        self._folder, self._base = os.path.split(path)
        self._name = one_line(path)
        self._rotate_bytes = rotate_bytes
        self._head = head
        self._overwrites = overwrites
        self._failure: str | None = None
        self._fd: int | None = None
        self._part = mark.part
        self._part_name = self.name_of(mark.part)
        self._length = 0  # of the part, what waits in memory included
        self._crc = mark.crc  # of the part, what waits in memory not included
        self._last = b""  # the last bytes of it, as many as a mark has the digest of
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._unsynced: list[int] = []  # descriptors of parts before this one that were not synced yet
        self._unnamed: set[int] = set()  # parts before this one that don't have their final names yet
        self._is_folder_changed = False
        self._synced = mark
        with self._guarded():
            self._open(mark)

    @property
    def mark(self) -> Mark:
        """What the last ``sync`` or ``complete`` returned; at first, what it was opened at."""
        return self._synced

    @property
    def part(self) -> int:
        """The number of the part in which the last ``append`` lies."""
        return self._part

    def name_of(self, part: int) -> str:
        """Return the final base name of a part."""
        return part_name(self._base, part)

    def append(self, data: bytes) -> tuple[str, int]:
        """Add bytes that belong together. They are with the system after ``flush``, on the disk after ``sync``.

        Returns:
            The final base name of the part they lie in, and where in it they begin.

        Raises:
            SinkError: when they can't be written.
        """
        offset, length = self._length, self._length + len(data)
        if (
            offset > 0
            and self._fd is not None
            and self._failure is None
            and self._waiting_bytes < BUFFER_BYTES
            and (self._rotate_bytes is None or length <= self._rotate_bytes)
        ):  # nothing but memory is concerned: nothing can fail
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._length = length
            return self._part_name, offset
        with self._guarded():
            if self._fd is None:
                self._reopen()
            self._write_out()
            if self._is_full(len(data)):
                self._rotate()
            if self._length == 0 and self._head is not None:
                self._put(self._head(self._part_name))
            offset = self._length
            self._put(data)
        return self._part_name, offset

    def flush(self) -> None:
        """Return when all that was appended is with the system. Raises ``SinkError`` when it can't be written."""
        with self._guarded():
            self._write_out()

    def sync(self) -> Mark:
        """Return when all that was appended is on the disk.

        Returns:
            What may be committed now.

        Raises:
            SinkError: when it can't be written or synced.
        """
        with self._guarded():
            self._sync()
        return self._synced

    def complete(self) -> Mark:
        """As ``sync``, for an output that is at its end; ``append`` may go on all the same, and then it isn't."""
        with self._guarded():
            if self._length == 0 and self._head is not None and self._fd is not None:
                self._put(self._head(self._part_name))
            self._sync()
            self._synced = dataclasses.replace(self._synced, is_complete=True)
        return self._synced

    def committed(self, mark: Mark) -> None:
        """Give what is complete its name, now that the ledger has committed ``mark``.

        Raises:
            SinkError: when a file can't be renamed.
        """
        with self._guarded():
            named = sorted(part for part in self._unnamed if part < mark.part)
            is_over = mark.is_complete and mark.part == self._part and mark.length == self._length
            for part in named:
                self._name_part(part)
                self._unnamed.discard(part)
            if is_over and self._fd is not None:
                fd, self._fd = self._fd, None
                os.close(fd)
                self._name_part(self._part)
                named.append(self._part)
                if self._overwrites:
                    for part in self._there():
                        if part > self._part:
                            disk.remove(self._path(part))
            if named:
                disk.sync_folder(self._folder or os.curdir)

    def close(self) -> None:
        """Let go of the files as they are; what wasn't synced may be lost. May be called again."""
        fds = [*self._unsynced, *([] if self._fd is None else [self._fd])]
        self._unsynced, self._fd = [], None
        self._waiting.clear()
        self._failure = self._failure or f"{self._name}: the output was closed"
        for fd in fds:
            with contextlib.suppress(OSError):  # what counts was synced; nothing else was promised
                os.close(fd)

    # -- the start -------------------------------------------------------------------------------------------------

    def _open(self, mark: Mark) -> None:
        there = self._there()
        for part, (is_final, is_open) in sorted(there.items()):
            if is_open and part > mark.part:
                disk.remove(self._path(part, is_open=True))  # it holds nothing that was committed
                self._is_folder_changed = True
            elif part < mark.part and is_open:
                if is_final and not self._overwrites:
                    self._refuse(f"{self._path(part)} and {self._path(part, is_open=True)} are both there")
                self._name_part(part)
                self._is_folder_changed = True
        is_final, is_open = there.get(mark.part, (False, False))
        if is_final and is_open and not self._overwrites:
            self._refuse(f"{self._path(mark.part)} and {self._path(mark.part, is_open=True)} are both there")
        if is_final and not is_open and not self._overwrites:
            self._check_final(mark)
            if not mark.is_complete:
                self._reopen()
        else:
            self._open_part(mark, is_new=not is_open)
        if self._is_folder_changed:
            disk.sync_folder(self._folder or os.curdir)
            self._is_folder_changed = False

    def _open_part(self, mark: Mark, *, is_new: bool) -> None:
        path = self._path(mark.part, is_open=True)
        if is_new and mark.length:
            self._refuse(f"{path} is missing; {mark.length:,} bytes of it count")
        self._fd = disk.open_file(path, create=is_new, exclusive=True)
        # An empty part may be one whose maker was killed before its name was on the disk.
        self._is_folder_changed |= is_new or not mark.length
        length = os.fstat(self._fd).st_size
        self._check(self._fd, path, length, mark)
        if length > mark.length:
            disk.cut(self._fd, mark.length)
            disk.sync_file(self._fd)
        self._length = mark.length
        os.lseek(self._fd, mark.length, os.SEEK_SET)
        if mark.is_complete:
            fd, self._fd = self._fd, None
            os.close(fd)
            self._name_part(mark.part)
            self._is_folder_changed = True

    def _check_final(self, mark: Mark) -> None:
        path = self._path(mark.part)
        fd = disk.open_file(path)
        try:
            length = os.fstat(fd).st_size
            if length > mark.length:
                self._refuse(f"{path} is there, with {length:,} bytes; only {mark.length:,} of this output count")
            self._check(fd, path, length, mark)
        finally:
            os.close(fd)
        self._length = mark.length

    def _check(self, fd: int, path: str, length: int, mark: Mark) -> None:
        if length < mark.length:
            self._refuse(f"{path} has {length:,} bytes; {mark.length:,} of it count")
        self._last = last_of(fd, mark.length)
        tail = digest_of_last(self._last)
        if tail != mark.tail:
            self._refuse(
                f"{path} is not the file that was written: the bytes before {mark.length:,} have the digest "
                f"{tail[:16]}…, not {mark.tail[:16]}…"
            )

    def _reopen(self) -> None:
        """Take back the final name of a complete part: more is to come. On the disk before anything is written."""
        path = self._path(self._part, is_open=True)
        disk.rename(self._path(self._part), path)
        disk.sync_folder(self._folder or os.curdir)
        self._fd = disk.open_file(path)
        os.lseek(self._fd, self._length, os.SEEK_SET)

    def _there(self) -> dict[int, tuple[bool, bool]]:
        """Return which parts there are: under the final name, under the open one."""
        pattern, found = names_of(self._base), dict[int, tuple[bool, bool]]()
        for name in os.listdir(self._folder or os.curdir):
            if match := pattern.fullmatch(name):
                part = int(match[1] or 1)
                if part_name(self._base, part) == name.removesuffix(OPEN_SUFFIX):
                    is_final, is_open = found.get(part, (False, False))
                    found[part] = (is_final or not match[2], is_open or bool(match[2]))
        return found

    # -- writing ---------------------------------------------------------------------------------------------------

    def _is_full(self, more_bytes: int) -> bool:
        return self._rotate_bytes is not None and self._length > 0 and self._length + more_bytes > self._rotate_bytes

    def _rotate(self) -> None:
        self._write_out()
        assert self._fd is not None
        self._unsynced.append(self._fd)
        self._unnamed.add(self._part)
        self._fd = None
        self._part += 1
        self._part_name = self.name_of(self._part)
        self._length = self._crc = 0
        self._last = b""
        if not self._overwrites and os.path.lexists(self._path(self._part)):
            self._refuse(f"{self._path(self._part)} is there, and is not of this output")
        self._fd = disk.open_file(self._path(self._part, is_open=True), create=True, exclusive=True)
        self._is_folder_changed = True

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._length += len(data)

    def _write_out(self) -> None:
        if self._waiting:
            assert self._fd is not None
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            disk.write_all(self._fd, data)
            self._crc = zlib.crc32(data, self._crc)
            self._last = (data if len(data) >= TAIL_BYTES else self._last + data)[-TAIL_BYTES:]
            self._waiting.clear()
            self._waiting_bytes = 0

    def _sync(self) -> None:
        self._write_out()
        while self._unsynced:
            disk.sync_file(self._unsynced[0])
            os.close(self._unsynced.pop(0))
        if self._fd is not None and (self._part, self._length) != (self._synced.part, self._synced.length):
            disk.sync_file(self._fd)
        if self._is_folder_changed:
            disk.sync_folder(self._folder or os.curdir)
            self._is_folder_changed = False
        if self._fd is not None:
            self._synced = Mark(self._part, self._length, digest_of_last(self._last), crc=self._crc)

    # -- names and failures ----------------------------------------------------------------------------------------

    def _path(self, part: int, *, is_open: bool = False) -> str:
        return os.path.join(self._folder, self.name_of(part) + (OPEN_SUFFIX if is_open else ""))

    def _name_part(self, part: int) -> None:
        disk.rename(self._path(part, is_open=True), self._path(part))

    def _refuse(self, message: str) -> NoReturn:
        raise SinkError(one_line(message))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            yield
        except BaseException as error:
            self._failure = str(error) if isinstance(error, SinkError) else failure_of(self._name, error)
            if isinstance(error, (SinkError, OSError, ValueError)):
                failure, cause = self._failure, error.__cause__ if isinstance(error, SinkError) else error
                self.close()
                raise SinkError(failure) from cause
            raise


def failure_of(name: str, error: BaseException) -> str:
    """Return the message of a ``SinkError``: what was written, and what the system says."""
    if isinstance(error, FileNotFoundError):
        return f"{name}: its folder does not exist, or a file of it is gone"
    return f"{name}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
