"""The body of a streamed answer on its way from the I/O thread to the thread that reads it."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING

from crawlpool.clock import LOOK_S

if TYPE_CHECKING:
    from collections.abc import Callable

HIGH_BYTES = 256 * 1024
LOW_BYTES = 64 * 1024


class BodyStream:
    """A bounded pipe: above a mark the transfer is paused, below another it goes on.

    Thread-safe: the I/O thread writes, one other thread reads.

    Args:
        pause: what a write answers to have libcurl keep the data and stop reading (``WRITEFUNC_PAUSE``).
    """

    def __init__(self, pause: int) -> None:
        self._pause = pause
        # Guards every field below; its condition is waited on by the reader. It can be taken again by its holder: the
        # garbage collector may run under it and drop the answer that this is the body of.
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._chunks: collections.deque[bytes] = collections.deque()
        self._held = 0
        self._is_ended = False
        self._is_dropped = False
        self.is_paused = False
        self.is_awaited = False  # whether the reader waits: only then the read timeout runs
        self.received = 0
        self.resume: Callable[[], None] = _nothing

    def write(self, chunk: bytes) -> int | None:
        """Take what came (``CURLOPT_WRITEFUNCTION``); in the I/O thread."""
        with self._lock:
            if self._is_dropped:
                return -1
            if self._held >= HIGH_BYTES:
                self.is_paused = True
                return self._pause
            self._chunks.append(chunk)
            self._held += len(chunk)
            self.received += len(chunk)
            self._news.notify()
        return None

    def end(self) -> None:
        """Say that no more comes; in the I/O thread."""
        with self._lock:
            self._is_ended = True
            self.resume = _nothing  # it knows the transfer, which knows this
            self._news.notify()

    def read_some(self, most: int | None = None) -> bytes:
        """Return what is there, at most so many bytes; wait for the first. Empty when all was read."""
        with self._lock:
            if not self._chunks and not self._is_ended:
                self.is_awaited = True
                try:
                    while not self._chunks and not self._is_ended:
                        self._news.wait(LOOK_S)
                finally:
                    self.is_awaited = False
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if most is not None and len(chunk) > most:
                self._chunks.appendleft(chunk[most:])
                chunk = chunk[:most]
            self._held -= len(chunk)
            goes_on = self.is_paused and self._held <= LOW_BYTES
            if goes_on:
                self.is_paused = False
            resume = self.resume
        if goes_on:
            resume()
        return chunk

    def drop(self) -> bool:
        """Take nothing any more; return whether the transfer was still going on."""
        with self._lock:
            self._is_dropped = True
            self._chunks.clear()
            self._held = 0
            return not self._is_ended

    def abandon_in_child(self) -> None:
        """In a forked child: what is left of the body comes to the parent."""
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._chunks.clear()
        self._is_ended = True

    @property
    def is_drained(self) -> bool:
        """Whether everything came, and was read."""
        return self._is_ended and not self._chunks


def _nothing() -> None:
    return None
