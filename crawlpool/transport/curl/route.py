"""Whom to connect to for the requests of one origin, and how: worked out once, and shared by its transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.exceptions import InvalidProxyURL, InvalidSchema, InvalidURL
from requests.utils import prepend_scheme_if_needed, select_proxy
from urllib3.exceptions import LocationParseError, LocationValueError
from urllib3.util import parse_url

from crawlpool.config import split_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.transport.reach import Need, Reach

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_MOST_ORIGINS = 2_000
_MOST_SETTINGS = 20


class Way:
    """How a connection is made: what a handle of libcurl must be told anew only when it is another one.

    Args:
        is_tls: whether the URL's scheme is https.
        verify, cert: as an adapter's ``send`` takes them.
        proxy: the proxy's URL, or ``None``.
        connect_s: seconds for resolving, connecting and the TLS handshake; ``None`` for any time.
        read_s: seconds that may pass without a byte; ``None`` for any time.

    Immutable.
    """

    __slots__ = ("cert", "connect_s", "has_tls", "is_tls", "proxy", "read_s", "verify")

    def __init__(
        self, is_tls: bool, verify: Any, cert: Any, proxy: str | None, connect_s: float | None, read_s: float | None
    ) -> None:
        self.is_tls = is_tls
        self.verify = verify
        self.cert = cert
        self.proxy = proxy
        self.connect_s = connect_s
        self.read_s = read_s
        self.has_tls = is_tls or (proxy is not None and proxy.startswith("https:"))  # to the end, or to the proxy


class Route:
    """The way to one origin.

    Args:
        host, port: whom to connect to: the origin's, or the proxy's.
        origin: the part of a URL before its path as libcurl gets it: without userinfo.
        way: how.
        need: what the origin's host has to be permitted for, as it isn't public; ``None`` for nothing.
        grant: what it is granted already, as the user gave its address.

    Immutable.
    """

    __slots__ = ("grant", "host", "need", "origin", "port", "way")

    def __init__(
        self, host: str, port: int, origin: str, way: Way, need: Need | None = None, grant: Need | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.origin = origin
        self.way = way
        self.need = need
        self.grant = grant


class Routes:
    """The routes of one adapter, remembered as long as its settings come again. Belongs to the adapter's thread.

    Args:
        reach: the rules of addresses.
        resolve: addresses to connect to instead of asking DNS, by (host, port).
    """

    def __init__(self, reach: Reach, resolve: Mapping[tuple[str, int], str]) -> None:
        self._reach = reach
        self._resolve = resolve
        self._settings: Any = None  # those of the request before, and the routes that go with them
        self._routes: dict[str, Route] = {}
        self._by_settings: dict[Any, dict[str, Route]] = {}
        self._ways: dict[Any, Way] = {}

    def to(self, url: str, settings: Mapping[str, Any], request: Any) -> tuple[Route, str]:
        """Return the route for a URL, and the URL as libcurl gets it.

        Args:
            settings: as an adapter's ``send`` takes them. A dict that is the very same one is the same settings.

        Raises:
            requests.exceptions.InvalidURL, InvalidSchema, InvalidProxyURL: for what can't be requested.
        """
        if settings is not self._settings:
            self._routes = self._known(settings)
            self._settings = settings
        end = url.find("/", 8)
        origin = url if end < 0 else url[:end]
        route = self._routes.get(origin)
        if route is None:
            route = self._learn(origin, url, settings, request)
        if route.origin != origin:
            url = route.origin + url[len(origin) :]
        return route, url

    def _known(self, settings: Mapping[str, Any]) -> dict[str, Route]:
        proxies, timeout, verify, cert = (settings[name] for name in ("proxies", "timeout", "verify", "cert"))
        if proxies or not isinstance(timeout, (tuple, float, int, type(None))):
            return {}
        try:
            key = (timeout, type(verify), verify, cert)  # True and 1 aren't the same to everybody
            found = self._by_settings.get(key)
        except TypeError:  # a list, which may be changed
            return {}
        if found is None:
            if len(self._by_settings) >= _MOST_SETTINGS:
                self._by_settings.clear()
            found = self._by_settings[key] = {}
        return found

    def _learn(self, origin: str, url: str, settings: Mapping[str, Any], request: Any) -> Route:
        scheme, host, port, clean = _taken_apart(origin, request)
        need, grant = self._reach.way_to(host, self._resolve.get((host.lower(), port)))
        proxy = None
        proxies: Any = settings["proxies"]
        chosen = select_proxy(url, proxies) if proxies else None
        if chosen:
            need, grant = self._reach.need_of(host), None  # where the proxy connects to nobody here can know
            proxy, host, port = _proxy(chosen)
        given = (scheme == "https", settings["verify"], settings["cert"], proxy, *split_timeout(settings["timeout"]))
        if len(self._routes) >= _MOST_ORIGINS:
            self._routes.clear()
        route = self._routes[origin] = Route(host, port, clean, self._way(given), need, grant)
        return route

    def _way(self, given: tuple[Any, ...]) -> Way:
        """Return the same object for the same settings: handles tell by it whether they must be set anew."""
        key = tuple((type(part), part) for part in given)
        try:
            way = self._ways.get(key)
        except TypeError:
            return Way(*given)
        if way is None:
            if len(self._ways) >= _MOST_SETTINGS:
                self._ways.clear()
            way = self._ways[key] = Way(*given)
        return way


def _taken_apart(origin: str, request: Any) -> tuple[str, str, int, str]:
    """Return scheme, host, port, and the origin without userinfo."""
    try:
        parts = parse_url(origin)
    except LocationParseError as error:
        raise InvalidURL(error, request=request) from error
    if parts.scheme not in ("http", "https"):
        raise InvalidSchema(f"No connection adapters were found for {parts.scheme!r}", request=request)
    if not parts.host:
        raise InvalidURL(LocationValueError("No host specified."), request=request)
    host = parts.host.strip("[]")
    try:
        host.encode("idna")
    except UnicodeError:
        why = LocationParseError(f"{host!r}, label empty or too long")
        raise InvalidURL(why, request=request) from None
    clean = origin
    if parts.auth is not None:  # requests has made a header of it, and libcurl would too
        clean = f"{parts.scheme}://{parts.host}{'' if parts.port is None else f':{parts.port}'}"
    return parts.scheme, host, _PORTS[parts.scheme] if parts.port is None else parts.port, clean


def _proxy(given: str) -> tuple[str, str, int]:
    """Return a proxy's URL with its scheme, its host and its port."""
    whole = prepend_scheme_if_needed(given, "http")
    parts = parse_url(whole)
    if not parts.host or parts.scheme not in _PORTS:
        raise InvalidProxyURL("Please check proxy URL. It is malformed and could be missing the host.")
    return whole, parts.host.strip("[]"), parts.port or _PORTS[parts.scheme]
