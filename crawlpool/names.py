"""Where hosts are: their names looked up by the pool's resolver, for those whose limits are per address, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from requests.utils import select_proxy

from crawlpool.errors import DeadlineExceeded, PoolClosed
from crawlpool.leg import host_of
from crawlpool.redirects import names_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlpool.leg import Leg
    from crawlpool.shared import Shared
    from crawlpool.transport.base import Exchange
    from crawlpool.transport.resolver import Answered, Resolver

#: The addresses of a host: none where its name can't be resolved, ``None`` where it isn't for us to resolve it.
Found: TypeAlias = "tuple[str, ...] | None"

_PORTS = {"http": 80, "https": 443}


class Names:
    """Finds the addresses of hosts. Nothing is asked under a lock, and no thread that serves others waits.

    Args:
        resolver: which looks names up.
        goes_by_proxy: tells whether a URL is asked for through a proxy, by a request that brings such as are given.

    Thread-safe.
    """

    def __init__(self, resolver: Resolver, goes_by_proxy: Callable[[str, Mapping[str, Any]], bool]) -> None:
        self._resolver = resolver
        self._goes_by_proxy = goes_by_proxy

    def seek(self, leg: Leg, tell: Callable[[str, Found], None]) -> None:
        """Have the addresses of a leg's host told; never waits.

        Args:
            leg: the leg.
            tell: called once, with the host and its addresses: at once, or by a thread of the resolver.
        """
        url, host = leg.origin, leg.host
        try:
            if not url or self._goes_by_proxy(url, leg.run.options.request.get("proxies") or {}):
                tell(host, None)
                return
        except ValueError:  # it is no URL; sending it says so
            tell(host, ())
            return

        def answered(answer: Answered) -> None:
            tell(host, answer if isinstance(answer, tuple) else ())

        self._resolver.ask(host, _port_of(url), answered)

    def find(self, exchange: Exchange) -> Found:
        """Return the addresses of the host of a request that the calling thread is going to send; waits for them.

        Raises:
            DeadlineExceeded: when they didn't come before the deadline.
            PoolClosed: when the pool was closed.
        """
        deadline, url = exchange.deadline, exchange.request.url or ""
        if select_proxy(url, exchange.settings["proxies"]):
            return None
        timeout_s = deadline.remaining_s() if deadline.is_set else None
        try:
            return self._resolver.resolve(host_of(url), _port_of(url), timeout_s)
        except TimeoutError:
            what = "the deadline passed before the host's address was found"
            raise DeadlineExceeded(what, request=exchange.request) from None
        except PoolClosed:
            raise
        except (OSError, RuntimeError):  # sending it fails in the same way, and says why
            return ()


def goes_by_proxy(shared: Shared, url: str, given: Mapping[str, Any]) -> bool:
    """Tell whether a URL is asked for through a proxy, by a session that has none of its own.

    Args:
        shared: the pool's.
        url: an absolute URL.
        given: the proxies that come with the request, by scheme.
    """
    mine = shared.defaults.current.proxies
    if shared.exits is not None:
        if not names_proxy(url, mine, given):
            return True
        chosen = {**mine, **given}
    else:
        chosen = {**shared.environment.proxies_for(url, given.get("no_proxy")), **mine, **given}
    return bool(select_proxy(url, {scheme: proxy for scheme, proxy in chosen.items() if proxy is not None}))


def _port_of(url: str) -> int:
    try:
        parts = urlsplit(url)
        return parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:  # sending fails for the same reason, and says so
        return 0
