"""A stage: the scripted network that stands in for the real one while a test runs. ``crawlpool.testing`` sets it.

A pool that is made while there is a stage connects to nothing else, ever: the transports are the real ones and so are
the bytes, but each request is led to a server on loopback, whatever its host, port and scheme, or refused before
anything is sent. What was https is spoken without TLS. Waits take no time: they move the stage's clock.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationValueError
from urllib3.util import parse_url

from crawlpool.clock import SYSTEM_CLOCK, Clock, Shutdown, SkippingClock
from crawlpool.transport._urllib3 import Urllib3Adapter, _Origin
from crawlpool.transport.connections import TrackedHTTPConnection
from crawlpool.transport.reach import permits_here

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import requests

    from crawlpool.address import Inputs
    from crawlpool.transport.reach import Reach

LOOPBACK = "127.0.0.1"
PORTS = {"http": 80, "https": 443}


class Lead(NamedTuple):
    """Where a request is led.

    Args:
        host: by what the server on loopback is told which host was meant; a name, never an address.
        port: the server's, on 127.0.0.1.
        own_host, own_port: as the URL has them.
    """

    host: str
    port: int
    own_host: str
    own_port: int


class Stage(Protocol):
    """The scripted network, as pools know it. Thread-safe."""

    clock: SkippingClock

    def lead(self, request: requests.PreparedRequest) -> Lead | None:
        """Return where a request is led; ``None`` for a loopback host that is to be asked as ever.

        Raises:
            Unscripted: when there is no answer for it; nothing is sent.
        """

    def lookup(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, as text."""


class _Current:
    stage: Stage | None = None


def current_stage() -> Stage | None:
    """Return the stage that pools made now play on; ``None`` for the real network."""
    return _Current.stage


def set_stage(stage: Stage | None) -> Stage | None:
    """Set the stage of pools that are made from now on; return the one before. A process has one."""
    before, _Current.stage = _Current.stage, stage
    return before


def clock_of_stage() -> Clock:
    """Return the clock of a pool that is made now."""
    return SYSTEM_CLOCK if _Current.stage is None else _Current.stage.clock


def shutdown_of_stage() -> Shutdown:
    """Return the shutdown of a pool that is made now, by which it sleeps."""
    return Shutdown() if _Current.stage is None else SkippingShutdown(_Current.stage.clock)


class SkippingShutdown(Shutdown):
    """A shutdown whose waits take no time: they move a clock.

    Args:
        clock: which.
    """

    def __init__(self, clock: SkippingClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, seconds: float) -> bool:
        """Move the clock by ``seconds``; return whether shutdown has begun."""
        if not self.is_set:
            self._clock.skip_to(self._clock.monotonic() + max(seconds, 0.0))
        return self.is_set


def judge(
    request: requests.PreparedRequest,
    reach: Reach,
    resolve: Mapping[tuple[str, int], str],
    inputs: Inputs | None,
) -> None:
    """Hold the rules of addresses for what the URL of a request says: what a name leads to isn't known on a stage.

    Args:
        request: which isn't sent yet, nor looked for among the answers.
        reach: the pool's rules.
        resolve: addresses that the user gave, by (host, port).
        inputs: who knows what was named; ``None`` where the URL is the call's own.

    Raises:
        BlockedAddress: when its host is a literal address or a loopback name that nothing permits.
    """
    with contextlib.suppress(LocationValueError):  # what is no URL is said by those who send it
        parts = parse_url(request.url or "")
        host = (parts.host or "").strip("[]")
        port = PORTS.get(parts.scheme or "", 0) if parts.port is None else parts.port
        need, _ = reach.way_to(host, resolve.get((host.lower(), port)))
        if need is not None:
            reach.admit(need, inputs, request)


class _StagedConnection(TrackedHTTPConnection):
    """A connection to the stage's server, whatever host it is for."""

    lead: Lead | None = None

    def _new_conn(self: Any) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._key = self.lifeline.opened(sock)
            sock.settimeout(self.timeout)
            sock.connect((LOOPBACK, self.lead.port))
        except BaseException:  # the session was closed meanwhile, for one
            self._forget()
            sock.close()
            raise
        self.peer = LOOPBACK
        return sock


class _StagedOrigin(_Origin):
    __slots__ = ("lead",)
    lead: Lead

    def make(self, adapter: Urllib3Adapter) -> Any:
        adapter.evict(adapter.idle_connections - 1)
        connection: Any = _StagedConnection(self.host, self.port)
        connection.lifeline, connection.lead = adapter.lifeline, self.lead
        return connection


class StagedAdapter(Urllib3Adapter):
    """The urllib3 transport on a stage.

    Args:
        stage: where requests are led.
        options: as ``Urllib3Adapter`` takes them.
    """

    def __init__(self, stage: Stage, *args: Any, **options: Any) -> None:
        self._stage = stage
        self._lead: Lead | None = None
        super().__init__(*args, **options)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request to where the stage leads it; no proxy is asked.

        Raises:
            BlockedAddress: when the rules of addresses refuse its host.
            Unscripted: when there is no answer for it.
        """
        if HTTPAdapter.send is _REQUESTS_SEND:  # else somebody's mock answers
            judge(request, self.reach, self.resolve, permits_here())
            self._lead = self._stage.lead(request)
            proxies = None
        return super().send(request, stream, timeout, verify, cert, proxies)

    def _origin_of(self, url: str, verify: Any, cert: Any) -> _Origin:
        lead = self._lead
        if lead is None:
            return super()._origin_of(url, verify, cert)
        origin: _StagedOrigin | None = self._origins.get(lead)
        if origin is None:
            origin = _StagedOrigin(self, lead, "http", lead.own_host, lead.own_port, None)
            origin.lead = lead
            self._origins[lead] = origin
        return origin


_REQUESTS_SEND = HTTPAdapter.send
