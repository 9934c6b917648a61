"""A request's body that isn't bytes: read from the caller's file or generator, in the caller's thread.

A user's generator may use thread-locals, block, or raise; nothing of that belongs into the thread that moves the bytes
of all other transfers. So the caller's thread fills a small buffer and the I/O thread empties it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE_BYTES = 64 * 1024


class Upload:
    """The buffer between the two threads, and the reading of the body.

    Thread-safe: the I/O thread calls ``read`` and ``end``, the caller's thread ``pump``.

    Args:
        body: a file-like object, or something to iterate over.
        length: how many bytes it has; ``None`` when unknown, then it is sent chunked.
        pause, abort: what a read answers to be asked again later, and to give up (``READFUNC_PAUSE``, ``_ABORT``).
    """

    def __init__(self, body: Any, length: int | None, pause: int, abort: int) -> None:
        self.length = length
        self._body = body
        self._pause, self._abort = pause, abort
        # Guards every field below; its condition is waited on by the caller's thread.
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._piece = memoryview(b"")
        self._is_whole = False
        self._is_over = False
        self._is_failed = False
        self._is_waiting = False
        self.resume: Callable[[], None] = _nothing

    def read(self, most: int) -> bytes | int:
        """Hand out the next bytes (``CURLOPT_READFUNCTION``); in the I/O thread."""
        with self._lock:
            if self._is_failed:
                return self._abort
            if not self._piece:
                if self._is_whole:
                    return b""
                self._is_waiting = True
                return self._pause
            given, self._piece = bytes(self._piece[:most]), self._piece[most:]
            if not self._piece:
                self._turn.notify()
            return given

    def end(self) -> None:
        """Say that the transfer has ended, or that its answer came: nothing is read any more."""
        with self._lock:
            self._is_over = True
            self.resume = _nothing  # it knows the transfer, which knows this
            self._turn.notify()

    @property
    def is_waiting(self) -> bool:
        """Whether the next piece is the caller's to give: the read timeout doesn't run meanwhile."""
        return self._is_waiting

    def pump(self) -> None:
        """Read the body piece by piece, as the other side takes it; in the caller's thread, until the end of either.

        Raises:
            Exception: what the body raised; the transfer is given up then.
        """
        try:
            for piece in self._pieces():
                if not piece:
                    continue
                if not self._put(piece):
                    return
            self._put(None)
        except BaseException:
            with self._lock:
                self._is_failed = True
                resume = self.resume
            resume()
            raise

    def _put(self, piece: bytes | None) -> bool:
        with self._lock:
            while self._piece and not self._is_over:
                self._turn.wait(LOOK_S)
            if self._is_over:
                return False
            if piece is None:
                self._is_whole = True
            else:
                self._piece = memoryview(piece)
            is_waiting, self._is_waiting = self._is_waiting, False
            resume = self.resume
        if is_waiting:
            resume()
        return True

    def _pieces(self) -> Iterator[bytes]:
        body = self._body
        read = getattr(body, "read", None)
        if read is None:
            for piece in body:
                yield piece.encode("utf-8") if isinstance(piece, str) else memoryview(piece).tobytes()
            return
        while piece := read(_PIECE_BYTES):
            yield piece.encode("utf-8") if isinstance(piece, str) else piece


def _nothing() -> None:
    return None
