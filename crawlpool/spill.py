"""A queue of targets that never blocks and never fills the memory: what is too much goes to a temporary file."""

from __future__ import annotations

import base64
import collections
import dataclasses
import json
import tempfile
import threading
from collections.abc import Mapping
from typing import IO, Any

from crawlpool.config import check, is_count
from crawlpool.errors import ConfigError, CrawlPoolError, PoolClosed
from crawlpool.models import Target

_BLOCK_BYTES = 1 << 18
_FIELDS = tuple(field.name for field in dataclasses.fields(Target))
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Target)}


def pack(target: Target) -> bytes:
    """Return ``target`` as one line of JSON.

    A field that has its default value is left out; ``data`` of bytes goes as base64.

    Raises:
        ConfigError: when a field isn't JSON; the message names the field.
    """
    # By identity: what is in a target may be of any type, and compare in any way.
    fields = {name: value for name in _FIELDS if (value := getattr(target, name)) is not _DEFAULTS[name]}
    if isinstance(target.headers, Mapping):
        fields["headers"] = dict(target.headers)
    if isinstance(target.data, (bytes, bytearray)):
        fields["data_b64"] = base64.b64encode(fields.pop("data")).decode("ascii")
    try:
        return _line(fields)
    except (TypeError, ValueError, RecursionError):
        for name, value in fields.items():
            try:
                _line(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"{name}: a target that is added to a crawl must be JSON: {error}") from error
        raise


def unpack(line: bytes) -> Target:
    """Return the target that ``pack`` made a line of; tuples in it have become lists."""
    fields = json.loads(line)
    encoded = fields.pop("data_b64", None)
    if encoded is not None:
        fields["data"] = base64.b64decode(encoded)
    return Target(**fields)


def _line(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


class _Segment:
    """One temporary file of lines, written at its end and read from its start. Not thread-safe: its queue locks."""

    def __init__(self) -> None:
        # Unbuffered: after a failed write nothing may be left in a buffer that a later call would write again.
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
        self._read_at = 0
        self._torn = b""  # the beginning of the next line, read with the block before it
        self.written = 0

    @property
    def is_drained(self) -> bool:
        return self._read_at == self.written

    def append(self, block: bytes) -> None:
        """Write whole lines; when it fails, they are not there."""
        self._file.seek(self.written)
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.written += len(block)

    def read_lines(self) -> list[bytes]:
        """Read the next lines, one at least; the caller has seen that there are any."""
        at = self._read_at
        self._file.seek(at)
        parts = [self._torn]
        while b"\n" not in parts[-1]:
            block = self._file.read(min(_BLOCK_BYTES, self.written - at))
            if not block:
                raise OSError("it was cut by somebody else")
            at += len(block)
            parts.append(block)
        lines = b"".join(parts).split(b"\n")
        self._read_at, self._torn = at, lines.pop()
        return lines

    def close(self) -> None:
        self._file.close()


class SpillQueue:
    """Targets in the order in which they were put; memory is bounded, ``put`` never waits for room.

    The first targets are held in memory, all later ones in anonymous temporary files, until the queue has shrunk again.
    Every target passes through JSON, in memory too, so what comes out doesn't depend on how full the queue was.

    Args:
        memory_items: how many targets are held in memory at most.
        memory_bytes: how many bytes of them, as JSON.
        segment_bytes: a temporary file that has grown to this is followed by another; the space of each is given back
            when it has been read, so a queue that is never empty doesn't fill the disk.

    Thread-safe.
    """

    def __init__(
        self,
        memory_items: int = 10_000,
        *,
        memory_bytes: int = 16 * 1024 * 1024,
        segment_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        check(is_count(memory_items), "memory_items", memory_items, "a whole number, at least 1")
        check(is_count(memory_bytes), "memory_bytes", memory_bytes, "a whole number, at least 1")
        check(is_count(segment_bytes), "segment_bytes", segment_bytes, "a whole number, at least 1")
        self._memory_items = memory_items
        self._memory_bytes = memory_bytes
        self._segment_bytes = segment_bytes
        # Guards all that follows, and the files' I/O, too: the order of the lines is the order of the queue, so a read
        # or write of the file can't be apart from the decision. It is a page-cache copy of a 256 KiB block once in
        # about a thousand targets; packing and unpacking are done outside.
        self._lock = threading.Lock()
        self._head: collections.deque[bytes] = collections.deque()  # the oldest
        self._head_bytes = 0
        self._segments: collections.deque[_Segment] = collections.deque()  # then these
        self._tail: list[bytes] = []  # the youngest, on their way to the last segment
        self._tail_bytes = 0
        self._size = 0
        self._is_closed = False

    def put(self, target: Target) -> None:
        """Add a target at the end.

        Raises:
            ConfigError: when a field of it isn't JSON, however full the queue is.
            CrawlPoolError: when the temporary file can't be written; the target is not in the queue then.
            PoolClosed: after ``close``.
        """
        line = pack(target)
        with self._lock:
            if self._is_closed:
                raise PoolClosed("the crawl takes no more targets: its queue was closed")
            if not self._segments and not self._tail and self._has_room(line):
                self._head.append(line)
                self._head_bytes += len(line)
            else:
                self._append_to_tail(line)
            self._size += 1

    def get_nowait(self) -> Target | None:
        """Take the oldest target; ``None`` when there is none, or the queue was closed.

        Raises:
            CrawlPoolError: when the temporary file can't be read.
        """
        with self._lock:
            if not self._head:
                self._refill()
            if not self._head:
                return None
            line = self._head.popleft()
            self._head_bytes -= len(line)
            self._size -= 1
        return unpack(line)

    def __len__(self) -> int:
        with self._lock:
            return self._size

    def close(self) -> None:
        """Drop what is left and the temporary files. May be called again."""
        with self._lock:
            self._is_closed = True
            self._size = self._head_bytes = self._tail_bytes = 0
            self._head.clear()
            self._tail.clear()
            while self._segments:
                self._segments.pop().close()

    def _has_room(self, line: bytes) -> bool:
        return not self._head or (
            len(self._head) < self._memory_items and self._head_bytes + len(line) <= self._memory_bytes
        )

    def _append_to_tail(self, line: bytes) -> None:
        self._tail.append(line)
        self._tail_bytes += len(line)
        # A small memory limit means a small tail, too.
        if self._tail_bytes >= min(_BLOCK_BYTES, self._memory_bytes) or len(self._tail) >= self._memory_items:
            try:
                self._write_tail()
            except OSError as error:
                self._tail.pop()
                self._tail_bytes -= len(line)
                raise CrawlPoolError(f"no room for waiting targets in {tempfile.gettempdir()}: {error}") from error

    def _write_tail(self) -> None:
        block = b"".join(self._tail)
        if self._segments and self._segments[-1].written < self._segment_bytes:
            self._segments[-1].append(block)
        else:
            segment = _Segment()
            try:
                segment.append(block)
            except OSError:
                segment.close()
                raise
            self._segments.append(segment)
        self._tail.clear()
        self._tail_bytes = 0

    def _refill(self) -> None:
        """Fill the empty head with what is next: the oldest lines of the files, or the tail."""
        if not self._segments:
            self._head.extend(self._tail)
            self._head_bytes = self._tail_bytes
            self._tail.clear()
            self._tail_bytes = 0
            return
        segment = self._segments[0]
        try:
            lines = segment.read_lines()
            self._head.extend(lines)
            self._head_bytes = sum(map(len, lines))
            if segment.is_drained:
                self._segments.popleft().close()
        except OSError as error:
            raise CrawlPoolError(f"the temporary file of waiting targets can't be read: {error}") from error
