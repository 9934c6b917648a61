"""Offline mode: a scripted network for tests of whole crawlers, any host name, real bytes, and waits without time."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

from crawlpool.clock import SkippingClock
from crawlpool.config import check
from crawlpool.errors import ConfigError, Unscripted
from crawlpool.limits import is_loopback
from crawlpool.redact import redact_url
from crawlpool.testing.asked import Asked, AskedLog
from crawlpool.testing.http1 import Answer
from crawlpool.testing.routes import answering, check_route, check_site
from crawlpool.testing.server import SiteServer
from crawlpool.testing.steps import Script
from crawlpool.transport.stage import LOOPBACK, PORTS, Lead, set_stage

if TYPE_CHECKING:
    from types import TracebackType

    import requests

    from crawlpool.testing.http1 import Request
    from crawlpool.testing.routes import Route, Site
    from crawlpool.transport.stage import Stage

_ROBOTS = "/robots.txt"
#: The key of the site that answers for every host without one of its own.
EVERYWHERE = "*"
_MOST_TOLD = 4
_Origin: TypeAlias = "tuple[str, str, int]"


class Offline(AskedLog):
    """A scripted network, used as a context manager: pools made meanwhile see it and nothing else.

    Requests are answered by real servers on loopback, over the transport that the pool has, whatever the host: no name
    is resolved, nothing else is connected to. What was https is spoken without TLS. A request without a scripted answer
    fails at once with ``Unscripted`` (kind ``blocked_address``), and isn't retried. A robots.txt that isn't scripted is
    a 404. Back-off, crawl delays and Retry-After take no time: they move ``clock``. A deadline doesn't count them, but
    a wait longer than what is left of it isn't begun, as ever. The rules of addresses hold for what a URL says, for a
    literal address and ``localhost``, before an answer is looked for; what a name resolves to isn't judged here.

    Args:
        sites: by origin (``https://shop.example``) a site as ``SiteServer`` takes one, or by URL
            (``https://shop.example/page``) a route. The key ``*`` is for every host that has none of its own.
        loopback: whether servers on loopback that aren't scripted may be asked: a ``FaultServer``, for one.

    Raises:
        ConfigError: for a key that is no http or https URL, and for a site or route that can't be one.

    Example:
        >>> from crawlpool import SessionPool
        >>> from crawlpool.testing import Offline
        >>> with Offline({"https://shop.example/": b"welcome"}) as web, SessionPool() as pool:
        ...     pool.get("https://shop.example/").text
        'welcome'

    Thread-safe. It holds for the whole process; one within another hides it.
    """

    def __init__(self, sites: Mapping[str, Site | Route] | None = None, *, loopback: bool = False) -> None:
        super().__init__()
        self.clock = SkippingClock()
        self._loopback = loopback
        # Guards _sites, _names, _servers and _is_over.
        self._script_lock = threading.Lock()
        self._sites: dict[_Origin | str, Any] = {}
        self._names: dict[tuple[int, str], _Origin] = {}
        self._servers: dict[tuple[str, int], SiteServer] = {}
        self._is_over = False
        self._before: list[Stage | None] = []
        given = {} if sites is None else sites
        check(isinstance(given, Mapping), "sites", given, "a dict of origins and URLs, with what they answer")
        for key, site in given.items():
            self.add(key, site)

    def add(self, url: str, site: Site | Route) -> None:
        """Script one more: for an origin its site, in place of what it had; for a URL its route.

        Args:
            url: ``https://shop.example`` for a site, ``https://shop.example/page?x=1`` for a route, ``*`` for a site.
            site: bytes, text, an ``Answer``, a ``Script``, a ``Fault`` or a function; for an origin a dict of paths to
                those, a folder, or a function.

        Raises:
            ConfigError: for a key that is no http or https URL, a site that has another form, and a route that is
                none; the message names it.
        """
        if url == EVERYWHERE:
            _check_whole(EVERYWHERE, site)
            with self._script_lock:
                self._sites[EVERYWHERE] = site
            return
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.fragment:
            raise ConfigError(f"{redact_url(url)!r}: an http or https URL is needed, such as https://shop.example/")
        origin = _origin(parts)
        if not parts.path and not parts.query:
            if isinstance(site, (bytes, Answer, Script)):
                raise ConfigError(f"{url!r} is an origin, whose site is a dict, a folder or a function; write {url}/")
            _check_whole(url, site)
            with self._script_lock:
                self._sites[origin] = site
            return
        if isinstance(site, Mapping):
            told = f"a dict is the site of an origin; write {_base(origin)!r}, and whole paths in the dict"
            raise ConfigError(f"{redact_url(url)!r}: {told}")
        check_route(redact_url(url), site)
        with self._script_lock:
            routes = self._sites.setdefault(origin, {})
            if not isinstance(routes, dict):
                raise ConfigError(f"{url!r}: its origin has a site that is no dict")
            routes[f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"] = site

    @property
    def skipped_s(self) -> float:
        """How many seconds of waiting took no time."""
        return self.clock.skipped_s

    @property
    def errors(self) -> list[BaseException]:
        """What functions of the sites raised."""
        with self._script_lock:
            servers = list(self._servers.values())
        return [error for server in servers for error in server.errors]

    def release(self) -> None:
        """End the waits of faults."""
        with self._script_lock:
            servers = list(self._servers.values())
        for server in servers:
            server.release()

    # What pools know it by -----------------------------------------------------------------------------------------

    def lead(self, request: requests.PreparedRequest) -> Lead | None:
        """Return where a request is led, as ``crawlpool.transport.stage`` has it.

        Raises:
            Unscripted: when there is no answer for it.
        """
        url = request.url or ""
        parts = urlsplit(url)
        origin = _origin(parts)
        with self._script_lock:
            is_over = self._is_over
            site: Any = self._site_of(origin)
        if site is None and self._loopback and is_loopback(origin[1]):
            return None
        if is_over or not (parts.path == _ROBOTS or _answers(site, parts)):
            shown = redact_url(url)
            self.note_unscripted(request.method or "", shown)
            why = "offline mode is over; nothing was sent"
            if not is_over:
                why = f"offline mode has no answer for it, and nothing was sent; {self._told_of(origin)}"
            raise Unscripted(f"{request.method} {shown}: {why}", request=request)
        server = self._server(origin[0], origin[2])
        host = _name_of(origin[1])
        headers: Any = request.headers or {}
        given = headers.get("Host")
        seen = [host, _netloc(origin)] if given is None else [_text(given)]
        with self._script_lock:
            self._names.update({(server.port, _without_port(one)): origin for one in seen})
        return Lead(host, server.port, origin[1], origin[2])

    @staticmethod
    def lookup(host: str, port: int) -> list[str]:
        """Return the one address that there is: no name is resolved."""
        return [LOOPBACK]

    def _told_of(self, origin: _Origin) -> str:
        """Return what there is for a host, or else for others, a few of it: what was misspelt is seen beside it."""
        with self._script_lock:
            sites = dict(self._sites)
        everywhere: Any = sites.pop(EVERYWHERE, None)
        own = [(_base(one), site) for one, site in sites.items() if one[1] == origin[1]]
        if own or everywhere is not None:
            about = "for that host" if own else "for every host"
            urls = [url for base, site in own or [("", everywhere)] for url in _urls_of(base, site)]
        else:
            about = "nothing for that host; for others" if sites else "nothing"
            urls = [_base(one) for one in sites]
        more = f" and {len(urls) - _MOST_TOLD} more" if len(urls) > _MOST_TOLD else ""
        return f"scripted is {about}: {', '.join(map(redact_url, urls[:_MOST_TOLD]))}{more}".removesuffix(": ")

    def _site_of(self, origin: _Origin) -> Any:
        """Return the site of an origin; the lock is held."""
        return self._sites[origin] if origin in self._sites else self._sites.get(EVERYWHERE)

    def _server(self, scheme: str, port: int) -> SiteServer:
        with self._script_lock:
            server = self._servers.get((scheme, port))
        if server is not None:
            return server
        made = SiteServer(lambda request: self._answer(made.port, request), remember=False).start()
        with self._script_lock:
            server = self._servers.setdefault((scheme, port), made)
        if server is not made:  # another thread was quicker
            made.stop()
        return server

    def _answer(self, port: int, request: Request) -> Answer | Script:
        start_s = self.clock.monotonic()
        with self._script_lock:
            origin = self._names[port, _without_port(request.headers.get("Host", ""))]
            site: Any = self._site_of(origin)
        own = _netloc(origin)
        meant = dataclasses.replace(
            request,
            target=f"{origin[0]}://{own}{request.target}",
            fields=tuple((name, own if name.lower() == "host" else value) for name, value in request.fields),
            host=origin[1],
        )
        answer: Answer | Script = Answer(404)
        try:
            if site is not None and (meant.path != _ROBOTS or _answers(site, urlsplit(meant.target))):
                answer = answering(site)(meant)
        finally:
            delay_s = answer.delay_s if isinstance(answer, Answer) else 0.0
            self.note(Asked(meant, start_s, self.clock.monotonic() + delay_s))
        return answer

    # Its life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Offline:
        with self._script_lock:
            if self._is_over:
                raise RuntimeError("offline mode is entered once")
        self._before.append(set_stage(cast("Stage", self)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        set_stage(self._before.pop())
        with self._script_lock:
            self._is_over = True
            servers = list(self._servers.values())
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)

    def __repr__(self) -> str:
        return f"<Offline {len(self._sites)} sites, {len(self.asked)} requests>"


def _origin(parts: Any) -> _Origin:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)


def _base(origin: Any) -> str:
    return f"{origin[0]}://{_netloc(origin)}"


def _urls_of(base: str, site: Any) -> list[str]:
    return [f"{base}{path}" for path in list(site)] if isinstance(site, Mapping) else [base or EVERYWHERE]


def _netloc(origin: _Origin) -> str:
    scheme, host, port = origin
    shown = f"[{host}]" if ":" in host else host
    return shown if PORTS[scheme] == port else f"{shown}:{port}"


def _check_whole(origin: str, site: Any) -> None:
    """Raise for what is no site; a folder that isn't there is told now, too."""
    check_site(site, "" if origin == EVERYWHERE else origin)
    answering(site)


def _answers(site: Any, parts: Any) -> bool:
    """Tell whether a site has an answer for a URL; a folder and a function always have."""
    if site is None or not isinstance(site, Mapping):
        return site is not None
    path = parts.path or "/"
    return path in site or f"{path}?{parts.query}" in site


def _name_of(host: str) -> str:
    """Return a host as a name: an address would be connected to as it is."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return f"address-{host.encode().hex()}.offline"


def _without_port(netloc: str) -> str:
    host, colon, port = netloc.lower().rpartition(":")
    return host if colon and port.isdigit() else netloc.lower()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
