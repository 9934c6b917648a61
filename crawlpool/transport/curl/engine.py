"""What the rest of crawlpool sees of the I/O thread: give it transfers, end them, close it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from crawlpool.errors import CrawlPoolError, PoolClosed
from crawlpool.shortage import shortage_now
from crawlpool.transport.curl.forking import abandon, register
from crawlpool.transport.curl.library import EngineSettings, require
from crawlpool.transport.curl.loop import Loop
from crawlpool.transport.curl.stream import BodyStream
from crawlpool.transport.curl.upload import Upload
from crawlpool.transport.lifeline import LegEnd
from crawlpool.transport.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlpool.transport.curl.transfer import Transfer


class Engine:
    """One I/O thread with libcurl in it, started by the first transfer.

    Thread-safe.

    Args:
        settings: what is fixed.
        resolver: looks names up, and is closed with the engine; one of its own unless given.
        is_reusable: whether it may be used again after ``close``, with a new thread: a session that stands alone can.

    Raises:
        MissingExtra: when pycurl isn't installed.
    """

    def __init__(
        self, settings: EngineSettings, resolver: Resolver | None = None, *, is_reusable: bool = False
    ) -> None:
        self._pycurl = require()
        self.settings = settings
        self._resolver = resolver
        self.is_reusable = is_reusable
        # Guards _loop, _lingering, _is_closed and _opened_before.
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._lingering: list[Loop] = []  # closed, with streams that are still read
        self._is_closed = False
        self._opened_before = 0
        register(self)

    def submit(self, transfers: Iterable[Transfer]) -> None:
        """Start transfers. Each of them ends: as it goes, as ``PoolClosed``, or of what keeps the thread from it."""
        batch = list(transfers)
        try:
            loop = self._running()
        except Exception as error:  # no descriptor, no thread, no memory is left
            why = shortage_now() or error
            for transfer in batch:
                refuse(transfer, why)
            return
        if loop is None or not loop.submit(batch):
            for transfer in batch:
                refuse(transfer)

    def end(self, transfer: Transfer, why: LegEnd) -> None:
        """End a transfer; it is told to whoever waits for it."""
        loop = self._loop
        if loop is not None:
            loop.command("end", transfer, why)

    def end_all(self, why: LegEnd) -> None:
        """End each transfer that is on the wire; those that aren't yet meet the gate."""
        with self._lock:
            loops = self._loops()
        for loop in loops:
            with loop.turn:
                running = loop.transfers()
            for transfer in running:
                loop.command("end", transfer, why)

    def resume(self, transfer: Transfer) -> None:
        """Have a paused transfer go on."""
        loop = self._loop
        if loop is not None:
            loop.command("resume", transfer)

    def call(self, function: Callable[[], None]) -> bool:
        """Have the I/O thread call a function soon; of several at a time the last one alone. It must not raise.

        Returns:
            Whether it will: not where there is no such thread now.
        """
        loop = self._loop
        return loop is not None and loop.call(function)

    def release(self, transfers: Iterable[Transfer]) -> None:
        """Say that the bodies of ended transfers are somebody else's now: they don't count for the memory budget."""
        loop = self._loop
        if loop is not None and self.settings.memory_budget_bytes is not None:
            for transfer in transfers:
                loop.command("release", transfer)

    def check_may_wait(self) -> None:
        """Raise unless the calling thread may wait for an answer: the I/O thread would wait for itself.

        Raises:
            CrawlPoolError: in the I/O thread.
        """
        loop = self._loop
        if loop is not None and loop.is_current_thread():
            raise CrawlPoolError("a request was made by code that runs in the I/O thread; it would wait for itself")

    def new_stream(self) -> BodyStream:
        """Return the pipe for the body of a streamed answer."""
        return BodyStream(self._pycurl.WRITEFUNC_PAUSE)

    def new_upload(self, body: Any, length: int | None) -> Upload:
        """Return the pipe for a request's body that isn't bytes."""
        return Upload(body, length, self._pycurl.READFUNC_PAUSE, self._pycurl.READFUNC_ABORT)

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more transfers."""
        return self._is_closed

    def counts(self) -> tuple[int, int]:
        """Return (connections opened so far, connections open now)."""
        with self._lock:
            loop, before = self._loop, self._opened_before
        if loop is None:
            return before, 0
        return before + loop.connections.opened, loop.connections.open_now()

    def close(self) -> None:
        """End every transfer as ``PoolClosed``, close every connection, wait for the thread. May be called again.

        One that may be used again lets what runs come to its end: as in requests, whose functions close their session
        before the answer that they return is read.
        """
        with self._lock:
            self._is_closed = not self.is_reusable
            loop, self._loop = self._loop, None
        if loop is None:
            return
        lingers = self.is_reusable and loop.retire()
        if not lingers:
            loop.stop()
        with self._lock:
            self._opened_before += loop.connections.opened
            if lingers:
                self._lingering = [*(one for one in self._lingering if one.is_alive()), loop]

    def __del__(self) -> None:
        # A session that stands alone and was dropped: its thread ends by itself, nobody waits for it.
        loop = getattr(self, "_loop", None)
        if loop is not None:
            loop.stop(waits=False)

    def _running(self) -> Loop | None:
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None and not self._is_closed:
                resolver = self._resolver or Resolver(overrides=self.settings.resolve)
                self._loop = Loop(self._pycurl, self.settings, resolver)
            return self._loop

    # Fork --------------------------------------------------------------------------------------------------------

    def hold_for_fork(self) -> None:
        """Keep the I/O thread out of libcurl until ``release_after_fork``: a child must not get it half-way.

        The one place where two locks are held at once, the engine's before the loop's ``turn``; nobody who has a
        ``turn`` asks for an engine's lock.
        """
        self._lock.acquire()
        for loop in self._loops():
            loop.turn.acquire()

    def release_after_fork(self) -> None:
        """Let the I/O thread go on, in the parent."""
        for loop in self._loops():
            loop.turn.release()
        self._lock.release()

    def reset_after_fork(self) -> None:
        """Start empty in a child; the parent's connections are put out of reach."""
        self._lock = threading.Lock()
        loops = self._loops()
        self._loop, self._lingering = None, []
        self._opened_before = 0
        for loop in loops:
            abandon(loop)

    def _loops(self) -> list[Loop]:
        return [*self._lingering, *([] if self._loop is None else [self._loop])]


def refuse(transfer: Transfer, error: Exception | None = None) -> None:
    """End a transfer that was never begun, because its pool is closed, or because of an error."""
    transfer.error = error
    if error is None:
        transfer.error = PoolClosed("the session pool is closed")
        transfer.stopped = LegEnd.CLOSED
    transfer.is_ended = True
    if transfer.stream is not None:
        transfer.stream.end()
    if transfer.upload is not None:
        transfer.upload.end()
    if transfer.inbox is not None:
        transfer.inbox.deliver([transfer])
    else:
        transfer.notify()
