"""What a sink is, and how many threads write to one without waiting for each other."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Protocol

from crawlpool.clock import LOOK_S
from crawlpool.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from crawlpool.models import Result

MAX_PENDING = 1024


class Sink(Protocol):
    """Where the records of a crawl go. Workers call it from their own threads; every method is thread-safe."""

    def write(self, result: Result) -> None:
        """Write the record of a settled result; it is out when the call returns, or on its way out in another thread.

        Raises:
            SinkError: when this or an earlier record can't be written; so does every later call.
        """

    def emit(self, item: Mapping[str, Any]) -> None:
        """Write an item that a handler found.

        Raises:
            ConfigError: when the item isn't JSON.
            SinkError: as ``write`` does.
        """

    def flush(self) -> None:
        """Return when all that was written before the call is out. Raises what ``write`` raises."""

    def close(self) -> None:
        """Flush, and let go of what the sink opened. May be called again. Raises what ``write`` raises."""


def json_of_item(item: Mapping[str, Any]) -> str:
    """Return an emitted item as JSON.

    Raises:
        ConfigError: when it isn't a mapping that JSON can say.
    """
    try:
        return json.dumps(dict(item), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"an emitted item must be a mapping that is JSON: {error}") from error


class Combiner:
    """Lets many threads put lines, and one of them at a time write.

    A thread that puts a line while another one writes leaves it there and goes on; the writer takes all that has come
    meanwhile as one batch. So a lone line is out at once, and under load there is one system call for many. When more
    than ``max_pending`` lines wait (nobody reads the pipe), the threads that put more wait for room.

    Args:
        write: writes bytes and returns how many it has written; only one thread at a time is in it.
        name: the destination as error messages call it.
        max_pending: how many lines may wait.

    Thread-safe.
    """

    def __init__(self, write: Callable[[memoryview], int], name: str, max_pending: int = MAX_PENDING) -> None:
        self._write = write
        self._name = name
        self._max_pending = max_pending
        # Guards _pending, _unwritten, _is_writing, _is_closed and _failure. Writing is done outside of it, by the one
        # thread that has set _is_writing. Waiters wait for _is_writing to fall or _pending to empty.
        self._changed = threading.Condition(threading.Lock())
        self._pending: list[bytes] = []
        self._unwritten = b""  # what a write that was broken off (Ctrl-C) left, to be written first
        self._is_writing = False
        self._is_closed = False
        self._failure: str | None = None

    def put(self, *lines: bytes) -> None:
        """Add lines; write them, unless another thread is writing.

        Raises:
            SinkError: when the destination has failed, or was closed.
        """
        with self._changed:
            while len(self._pending) >= self._max_pending and self._is_writing and self._failure is None:
                self._changed.wait(LOOK_S)
            self._raise_failure()
            if self._is_closed:
                raise SinkError(f"{self._name}: the sink was closed")
            self._pending.extend(lines)
            if self._is_writing:
                return
            self._is_writing = True
        self._drain()

    def flush(self) -> None:
        """Return when nothing waits any more.

        Raises:
            SinkError: when the destination has failed.
        """
        with self._changed:
            while self._is_writing:
                self._changed.wait(LOOK_S)
            self._raise_failure()
            if not self._pending and not self._unwritten:
                return
            self._is_writing = True
        self._drain()

    def close(self) -> None:
        """Refuse what comes later, then flush."""
        with self._changed:
            self._is_closed = True
        self.flush()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SinkError(self._failure)

    def _drain(self) -> None:
        """Write until nothing waits; the caller has set ``_is_writing``."""
        batch = memoryview(b"")
        try:
            while True:
                with self._changed:
                    batch = memoryview(b"".join([self._unwritten, *self._pending]))
                    self._pending.clear()
                    self._unwritten = b""
                    self._is_writing = len(batch) > 0
                    self._changed.notify_all()
                if not batch:
                    return
                while batch:
                    batch = batch[self._write(batch) :]
        except (OSError, ValueError) as error:  # ValueError: a file object that somebody closed
            message = f"{self._name}: {getattr(error, 'strerror', None) or error}"
            with self._changed:
                self._failure = message
                self._pending.clear()
                self._is_writing = False
                self._changed.notify_all()
            raise SinkError(message) from error
        except BaseException:  # Ctrl-C in the main thread: the others go on, and with the rest of this line first
            with self._changed:
                self._unwritten = bytes(batch)
                self._is_writing = False
                self._changed.notify_all()
            raise
