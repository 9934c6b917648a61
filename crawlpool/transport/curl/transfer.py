"""One exchange on its way through the I/O thread: what is asked, what came back, and how others end it."""

from __future__ import annotations

import _thread
import math
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.clock import LOOK_S
from crawlpool.retry import IDEMPOTENT_METHODS
from crawlpool.transport.lifeline import LegEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import requests

    from crawlpool.transport.base import Exchange
    from crawlpool.transport.curl.route import Route
    from crawlpool.transport.curl.stream import BodyStream
    from crawlpool.transport.curl.upload import Upload
    from crawlpool.transport.reach import Need


class Ender(Protocol):
    """The engine, or its I/O thread, as a transfer knows it."""

    def end(self, transfer: Transfer, why: LegEnd) -> None:
        """End the transfer; from any thread."""

    def resume(self, transfer: Transfer) -> None:
        """Have it go on when it is paused; from any thread."""


class Inbox(Protocol):
    """Where transfers go that ended and that a worker shall finish."""

    def deliver(self, ended: list[Transfer]) -> None:
        """Take them. Called by the I/O thread; must be quick and must not raise."""


class Transfer:
    """One request on the wire, or on its way there.

    Made by the thread that wants it, then the I/O thread's until ``is_ended``, then its finisher's. ``cancel`` may be
    called by anybody at any time.

    Args:
        exchange: what to send, and its deadline and caps.
        url: the URL as libcurl gets it: normalised, without userinfo and fragment.
        route: whom to connect to, and how.
        ender: who ends it.
        adapter: who makes a response of it.
        inbox: who is told of its end; ``None`` for the thread that waits in ``wait``.

    Besides: ``stream`` is where the body goes as it comes, ``None`` to gather it; ``upload`` is where a request's body
    comes from if it isn't bytes.
    """

    # What nearly every transfer begins with; as attributes of the class they cost nothing to make.
    stream: BodyStream | None = None
    upload: Upload | None = None
    latch: Any = None
    # Non-idempotent: a server that has read it over a connection that then breaks must not see it again.
    is_fresh = False
    addresses: tuple[str, ...] | None = None
    grant: Need | None = None  # which addresses that aren't public it may reach
    connect_at: float = math.inf  # when resolving has taken too long
    is_bare = False  # whether it was ended on purpose after its header: an answer to HEAD
    is_first = False  # whether its connection was made for it
    is_paused = False
    is_poisoned = False
    is_ended = False
    has_header = False
    reused: Any = None  # the gate's note of a TLS connection that was open
    sends = 0
    head_start = 0
    held_bytes = 0
    seen: Any = None
    seen_at: float = 0.0
    dns_s: float = 0.0
    # What came of it.
    head: Sequence[bytes] = ()
    sent = b""  # the request's header, where the exchange keeps the wire
    body: Sequence[bytes] = ()
    code = 0
    message = ""
    os_error = 0
    has_connected = True  # looked at where it failed
    error: BaseException | None = None
    no_socket: OSError | None = None
    stopped: LegEnd | None = None
    ip: str | None = None
    timings: tuple[float, ...] = ()

    def __init__(
        self, exchange: Exchange, url: str, route: Route, ender: Ender, adapter: Any = None, inbox: Inbox | None = None
    ) -> None:
        self.exchange = exchange
        self.url = url
        self.route = route
        self.way = route.way
        self.ender = ender
        self.adapter = adapter
        self.inbox = inbox
        self.is_quick = exchange.is_quick
        self.deadline_at: float = exchange.deadline.at
        if inbox is None:
            self.latch = _thread.allocate_lock()  # held until there is something to look at: a header, or the end
            self.latch.acquire()
        if exchange.request.method not in IDEMPOTENT_METHODS:  # RFC 9110 9.2.2
            self.is_fresh = True

    @property
    def request(self) -> requests.PreparedRequest:
        """The request that is sent."""
        return self.exchange.request

    def cancel(self) -> None:
        """End it: it becomes ``Cancelled``; from any thread."""
        self.ender.end(self, LegEnd.CANCELLED)

    def wait(self) -> None:
        """Wait, in the thread that asked for it, until there is a header to look at (streams) or it has ended."""
        while not self.latch.acquire(timeout=LOOK_S):
            pass

    def notify(self) -> None:
        """Let the thread go on that waits; the I/O thread calls this, once for the header and once for the end."""
        try:
            self.latch.release()
        except RuntimeError:  # it wasn't waited for in between
            return

    def __repr__(self) -> str:
        state = "ended" if self.is_ended else "running"
        return f"<Transfer {self.exchange.request.method} {state} code={self.code}>"
