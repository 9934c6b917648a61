"""The lanes of a session: how a worker's loop drives its transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.errors import TakenBack
from crawlpool.transport.base import Completion, Exchange

if TYPE_CHECKING:
    import requests

    from crawlpool.transport.inbox import Inbox
    from crawlpool.transport.lifeline import Lifeline

_MOST_PIECES = 8  # of a body that the I/O thread puts together
_AT_ONCE = 64  # legs begun, and transfers finished, in one go: the others wait no longer than that takes


class LaneOwner(Protocol):
    """The session that a lane belongs to."""

    lifeline: Lifeline

    def send_leg(self, exchange: Exchange) -> requests.Response:
        """Send one leg and read its body."""

    def engine_adapter(self, exchange: Exchange) -> Any:
        """Return the adapter that moves the exchange's bytes in the pool's I/O thread, or ``None``."""

    def finish(self, exchange: Exchange, response: requests.Response) -> requests.Response:
        """Do what is to be done with an answer whose body has come."""

    def dispose(self) -> None:
        """Close the session's connections for good."""


class BlockingLane:
    """The lane of a session whose transport blocks: its room is one, and starting an exchange is fetching it.

    Args:
        session: whose lane it is.

    Only the session's own thread calls it.
    """

    def __init__(self, session: LaneOwner) -> None:
        self._session = session
        self._done: list[Completion] = []

    def room(self) -> int:
        """Return 1, or 0 while a completion waits to be taken."""
        return 0 if self._done else 1

    def blocks(self, exchange: Exchange) -> bool:
        """Say yes: to start is to wait for the end."""
        return True

    def has_news(self) -> bool:
        """Say no: what ends here has ended when ``start`` returns."""
        return False

    def start(self, exchange: Exchange) -> None:
        """Send the exchange and wait for its end."""
        started = time.monotonic()
        response: requests.Response | None = None
        error: Exception | None = None
        session = self._session
        if exchange.is_late is not None and exchange.is_late(started):
            late = TakenBack("its host refused another request", request=exchange.request)
            self._done.append(Completion(exchange, None, late, 0.0))
            return
        try:
            session.lifeline.enter()
            try:
                response = session.send_leg(exchange)
                if exchange.has_come is not None:
                    exchange.has_come(response.status_code)
            finally:
                if session.lifeline.leave():
                    session.dispose()
        except Exception as caught:
            error = caught
        self._done.append(Completion(exchange, response, error, time.monotonic() - started))

    def completed(self) -> list[Completion]:
        """Return what ended since the last call."""
        done, self._done = self._done, []
        return done

    def settled(self) -> None:
        """Do nothing: no other worker waits for this one to settle."""


class EngineLane(BlockingLane):
    """The lane of a session whose bytes the pool's I/O thread moves: many exchanges run, and any worker finishes them.

    An exchange that the I/O thread can't have, because a mock or an adapter of the user's takes it or its body is read
    from a file, is sent the blocking way.

    Args:
        session: whose lane it is.
        inbox: where ended transfers come in; one for all lanes of the pool.
    """

    def __init__(self, session: LaneOwner, inbox: Inbox) -> None:
        super().__init__(session)
        self._inbox = inbox
        self._started: list[Any] = []
        self._engine: Any = None
        self._attends = False
        self._has_blocked = False  # the last one did: likely the next one will
        self._chosen: tuple[Any, Any] = (None, None)  # an exchange that `blocks` was asked about, and its adapter

    def room(self) -> int:
        """Return how many may be started in one go; how many may run is the frontier's to know."""
        return 1 if self._has_blocked else _AT_ONCE

    def blocks(self, exchange: Exchange) -> bool:
        """Tell whether the I/O thread can't have the exchange, so that to start it is to wait for its end."""
        adapter = self._session.engine_adapter(exchange)
        self._chosen = exchange, adapter
        return adapter is None or adapter.must_pump(exchange)

    def has_news(self) -> bool:
        """Tell whether transfers have ended that this worker can finish."""
        return self._inbox.has_news()

    def start(self, exchange: Exchange) -> None:
        """Begin the exchange; it is on its way after ``completed``."""
        chosen_for, adapter = self._chosen
        if chosen_for is not exchange:
            adapter = self._session.engine_adapter(exchange)
        self._chosen = None, None
        self._has_blocked = adapter is None or adapter.must_pump(exchange)
        if self._has_blocked:
            self._send()  # what was started doesn't wait for this one
            super().start(exchange)
            return
        try:
            self._started.append(adapter.transfer_for(exchange, self._inbox))
            self._engine = adapter.engine
        except Exception as error:
            self._done.append(Completion(exchange, None, error, 0.0))

    def completed(self) -> list[Completion]:
        """Send off what was started, and return what has ended; waits for nothing."""
        done = self.send_off()
        if done:
            return done  # these may take a handler's time: the I/O thread's are for who is free
        taken, self._attends = self._inbox.take(_AT_ONCE)
        return [self.finished(transfer) for transfer in taken]

    def send_off(self) -> list[Completion]:
        """Hand what was started to the I/O thread; return what has ended without it."""
        self._send()
        return super().completed()

    def settled(self) -> None:
        """Say that what ``completed`` returned is settled."""
        if self._attends:
            self._attends = False
            self._inbox.leave()

    def _send(self) -> None:
        if self._started:
            started, self._started = self._started, []
            self._engine.submit(started)

    @staticmethod
    def finished_plain(transfer: Any) -> Completion | None:
        """Return the completion of a transfer whose answer needs nothing but to be built; ``None`` for any other.

        A failure, a redirect, an error status, a cookie and a coding may all need more time, or somebody's code. What
        is true of a quick exchange must have been asked before: nothing of the user's runs here.
        """
        head = transfer.head
        if not head or head[0][8:11] != b" 20" or len(transfer.body) > _MOST_PIECES:
            return None
        exchange: Exchange = transfer.exchange
        try:
            response = transfer.adapter.answer(transfer)
        except Exception:
            return None  # `finished` finds it again, and takes its time
        store = response.headers._store
        if "set-cookie" in store or "content-encoding" in store or not response.take_whole(exchange.max_body_bytes):
            return None
        exchange.end = None
        timings = transfer.timings
        return Completion(exchange, response, None, timings[0] + timings[4])

    def finished(self, transfer: Any) -> Completion:
        """Return the completion of a transfer that has ended."""
        exchange: Exchange = transfer.exchange
        exchange.end = None  # a method of the transfer, which knows the exchange: they would wait for the collector
        timings = transfer.timings
        elapsed_s = timings[0] + timings[4] if timings else 0.0
        try:
            response = self._session.finish(exchange, transfer.adapter.answer(transfer))
        except BaseException as error:  # SystemExit of a response hook, for one: it ends the target, not us
            return Completion(exchange, None, error, elapsed_s)
        return Completion(exchange, response, None, elapsed_s)
