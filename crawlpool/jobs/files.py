"""The files of a job's outputs as a reader finds them: under their final names, or those of files still written."""

from __future__ import annotations

import collections
import contextlib
import os
from typing import TYPE_CHECKING

from crawlpool.errors import JobError
from crawlpool.jobs.again import NEW_SUFFIX
from crawlpool.redact import one_line
from crawlpool.sinks.marks import OPEN_SUFFIX, part_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_MOST_OPEN = 8
_CHUNK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def found(path: str) -> str:
    """Return where a file is that has its final name, or that name with ``.open`` as long as it is written.

    Raises:
        FileNotFoundError: when there is neither.
    """
    # The final name once more at the end: it may have got that in between.
    for one in (path, path + OPEN_SUFFIX, path):
        if os.path.lexists(one):
            return one
    raise FileNotFoundError(2, "no such file", path)


class PartFiles:
    """The numbered files of one output, to be read.

    Args:
        folder: the job's.
        name: of the output.
        moves: files, relative to the folder, of which a new one counts that has yet to take its name.

    Raises:
        JobError: from each method, when a file isn't there, can't be read, or is too short.

    Not thread-safe.
    """

    def __init__(self, folder: str, name: str, moves: Collection[str] = ()) -> None:
        self._folder, self._base = os.path.split(os.path.join(folder, name))
        self._moves = {os.path.join(folder, one) for one in moves}
        self._open: collections.OrderedDict[int, int] = collections.OrderedDict()

    def name(self, part: int) -> str:
        """Return how messages call a part: its final base name."""
        return one_line(part_name(self._base, part))

    def read(self, part: int, offset: int, length: int) -> bytes:
        """Return the bytes at a place."""
        fd = self._descriptor(part)
        data = self._read(fd, part, offset, length)
        if len(data) < length:
            raise JobError(f"{self.name(part)} at {offset:,}: the file ends there, and {length:,} bytes should follow")
        return data

    def size(self, part: int) -> int:
        """Return how many bytes a part has."""
        return os.fstat(self._descriptor(part)).st_size

    def pieces(self, part: int, until: int, size: int = _CHUNK_BYTES, start: int = 0) -> Iterator[bytes]:
        """Yield a part's bytes from ``start`` up to ``until``, in pieces; fewer where it ends before."""
        fd, at = self._descriptor(part), start
        while at < until and (data := self._read(fd, part, at, min(size, until - at))):
            yield data
            at += len(data)

    def lines(self, part: int, until: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield each line of a part with its offset, from ``start`` up to ``until``; the last may lack its end."""
        at, rest = start, b""  # rest is what was read of the line that begins at `at`
        for data in self.pieces(part, until, start=start):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield at, line + b"\n"
                at += len(line) + 1
        if rest:
            yield at, rest

    def close(self) -> None:
        """Let go of the files. May be called again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _read(self, fd: int, part: int, offset: int, length: int) -> bytes:
        pieces = []
        try:
            while length > 0 and (piece := os.pread(fd, length, offset)):
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        except (OSError, OverflowError, ValueError) as error:  # an offset that can't be, of a damaged ledger
            raise JobError(f"{self.name(part)} at {offset:,}: {getattr(error, 'strerror', None) or error}") from error
        return b"".join(pieces)

    def _descriptor(self, part: int) -> int:
        fd = self._open.get(part)
        if fd is not None:
            self._open.move_to_end(part)
            return fd
        path = os.path.join(self._folder, part_name(self._base, part))
        with file_trouble_told(one_line(path)):
            try:
                fd = self._opened(found(path))
            except FileNotFoundError:
                fd = self._opened(path)  # it has just got its final name
        self._open[part] = fd
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _opened(self, path: str) -> int:
        if path in self._moves:
            with contextlib.suppress(FileNotFoundError):
                return os.open(path + NEW_SUFFIX, _FLAGS)
        return os.open(path, _FLAGS)


@contextlib.contextmanager
def file_trouble_told(what: str) -> Iterator[None]:
    """Have what the system says of a file come out as one clear line.

    Raises:
        JobError: in place of ``OSError``.
    """
    try:
        yield
    except FileNotFoundError:
        raise JobError(f"{what}: the job's file is gone") from None
    except OSError as error:
        raise JobError(f"{what}: {error.strerror or error}") from error
