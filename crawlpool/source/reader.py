"""From a file or a stream to lines of bytes: bounded in memory, never late, and stoppable while it waits."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
import zlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from crawlpool.redact import one_line
from crawlpool.source.settings import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 16
HEAD_BYTES = 100
STDIN = "-"

#: Returns the next bytes of an input, as soon as there are any; nothing at its end.
Read: TypeAlias = "Callable[[], bytes]"

_GZIP = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_MARKS = (_GZIP, _UTF8_BOM, *_UTF16_BOMS)
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Stopped(Exception):
    """Reading was stopped by ``StopSignal.stop``; it never leaves this package."""


class LongLine(NamedTuple):
    """A line over the limit: its first bytes and how long it was, in bytes."""

    head: bytes
    length: int


class StopSignal:
    """A stop that also reaches a thread that waits for bytes of a pipe or a terminal. Thread-safe.

    On Windows a wait for standard input can't be broken off: there the stop takes effect at the next line.
    """

    def __init__(self) -> None:
        # Guards _is_set (writes; it is only ever set) and _wakers. A byte is written under it to pipes made here: that
        # never blocks, and under the lock no descriptor can be closed, and its number reused, before the write.
        self._lock = threading.Lock()
        self._is_set = False
        self._wakers: set[int] = set()

    @property
    def is_set(self) -> bool:
        """Whether ``stop`` was called."""
        return self._is_set

    def stop(self) -> None:
        """End all waiting, now and later. May be called again, from any thread."""
        with self._lock:
            if not self._is_set:
                self._is_set = True
                for waker in self._wakers:
                    os.write(waker, b"\0")

    @contextlib.contextmanager
    def pipe(self) -> Iterator[int]:
        """Give the reading end of a pipe that becomes readable by ``stop``; it is closed at the end."""
        reading, writing = os.pipe()
        with self._lock:
            self._wakers.add(writing)
            if self._is_set:
                os.write(writing, b"\0")
        try:
            yield reading
        finally:
            with self._lock:
                self._wakers.discard(writing)
                os.close(writing)
            os.close(reading)


def file_error(error: OSError | ValueError, place: str) -> InputFileError:
    """Return the error of one line for what the system said of an input."""
    if isinstance(error, FileNotFoundError):
        return InputFileError("no such file", place)
    if isinstance(error, PermissionError):
        return InputFileError("no permission to read it", place)
    if isinstance(error, ValueError):  # a NUL in it
        return InputFileError("no file can have this name", place)
    reason = error.strerror or str(error)
    return InputFileError(reason[:1].lower() + reason[1:], place)


def place_of(name: str) -> str:
    """Return how an input is called in messages."""
    return "stdin" if name == STDIN else one_line(name) or "''"


@contextlib.contextmanager
def opened(name: str, signal: StopSignal, stdin_fd: int = 0) -> Iterator[Read]:
    """Open an input and give a function that reads its bytes, unpacked if they are gzip, without a byte-order mark.

    Args:
        name: a path, or ``-`` for standard input. A pipe or device by path is a stream like standard input.
        signal: breaks a wait off; the read then raises ``Stopped``.
        stdin_fd: the descriptor of standard input, which stays open.

    Raises:
        InputFileError: at once, or by the read, when the input is missing, no file, unreadable, broken or UTF-16.
    """
    place = place_of(name)
    with contextlib.ExitStack() as stack:
        try:
            if name == STDIN:
                fd = stdin_fd
            else:
                fd = os.open(name, _OPEN_FLAGS)  # not blocking: to open a pipe must not wait for its writer
                stack.callback(os.close, fd)
            mode = os.fstat(fd).st_mode
        except (OSError, ValueError) as error:
            raise file_error(error, place) from error
        if stat.S_ISDIR(mode):
            raise InputFileError("is a directory", place)
        if stat.S_ISREG(mode) or sys.platform == "win32":
            read = _plain_read(fd, place)
        else:
            read = _stream_read(fd, place, stack.enter_context(signal.pipe()))
        yield _recognised(read, place, must_be_gzip=name.lower().endswith(".gz"))


def _plain_read(fd: int, place: str) -> Read:
    def read() -> bytes:
        try:
            return os.read(fd, CHUNK_BYTES)
        except OSError as error:
            raise file_error(error, place) from error

    return read


def _stream_read(fd: int, place: str, wake_fd: int) -> Read:
    # os.read and no buffered file: a reader thread that waits inside a BufferedReader holds its lock, and the
    # interpreter's exit would wait for that.
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.register(wake_fd, select.POLLIN)

    def read() -> bytes:
        while True:
            if any(ready == wake_fd for ready, _ in poller.poll()):
                raise Stopped
            try:
                return os.read(fd, CHUNK_BYTES)
            except BlockingIOError:  # somebody else who shares the stream took the bytes
                continue
            except OSError as error:
                raise file_error(error, place) from error

    return read


def _recognised(read: Read, place: str, *, must_be_gzip: bool = False, may_be_gzip: bool = True) -> Read:
    """Look at the first bytes: unpack gzip, skip a UTF-8 byte-order mark, refuse UTF-16."""

    def chunks() -> Iterator[bytes]:
        head = read()
        while head and any(len(head) < len(mark) and mark.startswith(head) for mark in _MARKS):
            more = read()
            if not more:
                break
            head += more
        if may_be_gzip and (must_be_gzip or head.startswith(_GZIP)):
            if not head.startswith(_GZIP):
                raise InputFileError("no gzip data, though its name ends in .gz", place)
            unpacked = _gunzipped(head, read, place)
            yield from iter(_recognised(lambda: next(unpacked, b""), place, may_be_gzip=False), b"")
            return
        if head.startswith(_UTF16_BOMS):
            raise InputFileError("is UTF-16; the input must be UTF-8", place)
        yield head.removeprefix(_UTF8_BOM)
        yield from iter(read, b"")

    source = filter(None, chunks())
    return lambda: next(source, b"")


def _gunzipped(head: bytes, read: Read, place: str) -> Iterator[bytes]:
    """Yield the unpacked bytes of all members, in pieces of bounded size however well they are packed."""
    unpacker = zlib.decompressobj(wbits=31)
    data = head
    try:
        while data:
            while data and not unpacker.eof:
                piece = unpacker.decompress(data, CHUNK_BYTES)
                data = unpacker.unconsumed_tail
                while piece:
                    yield piece
                    piece = b"" if data or unpacker.eof else unpacker.decompress(b"", CHUNK_BYTES)
            if unpacker.eof:
                data = unpacker.unused_data.lstrip(b"\0")  # zeros are padding, as gzip itself sees them
                while not data and (more := read()):
                    data = more.lstrip(b"\0")
                if data:
                    unpacker = zlib.decompressobj(wbits=31)
            else:
                data = read()
    except zlib.error as error:
        raise InputFileError("broken gzip data", place) from error
    if not unpacker.eof:
        raise InputFileError("the gzip data ends too early", place)


def split_lines(read: Read, max_bytes: int) -> Iterator[bytes | LongLine]:
    """Yield the lines of an input without their newline, each as soon as it is whole.

    A line of more than ``max_bytes`` comes as a ``LongLine``: beyond the limit its bytes are only counted. The last
    line needs no newline.
    """
    parts: list[bytes] = []
    length = 0  # of the line begun; above max_bytes, parts holds only its head
    while chunk := read():
        cut = chunk.find(b"\n")
        if cut < 0:
            length += len(chunk)
            parts.append(chunk)
            if length > max_bytes:
                parts = [b"".join(parts)[:HEAD_BYTES]]
            continue
        length += cut
        first = b"".join([*parts, chunk[:cut]])
        yield first if length <= max_bytes else LongLine(first[:HEAD_BYTES], length)
        lines = chunk[cut + 1 :].split(b"\n")
        last = lines.pop()
        for line in lines:
            yield line if len(line) <= max_bytes else LongLine(line[:HEAD_BYTES], len(line))
        parts = [last] if last else []
        length = len(last)
    if length:
        whole = b"".join(parts)
        yield whole if length <= max_bytes else LongLine(whole[:HEAD_BYTES], length)
