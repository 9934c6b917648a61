"""The libcurl transport on a stage: each request is led to a server on loopback; see ``crawlpool.transport.stage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.config import split_timeout
from crawlpool.transport.curl.adapter import CurlAdapter
from crawlpool.transport.curl.route import Route, Way
from crawlpool.transport.stage import judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.transport.base import Exchange
    from crawlpool.transport.curl.engine import Engine
    from crawlpool.transport.curl.route import Routes
    from crawlpool.transport.curl.transfer import Inbox, Transfer
    from crawlpool.transport.stage import Lead, Stage

_MOST_ROUTES = 2_000


class _StagedRoutes:
    """The routes of one adapter on a stage. Belongs to the adapter's thread.

    Args:
        stage: where requests are led.
        ordinary: the routes of requests that are sent as ever.
    """

    def __init__(self, stage: Stage, ordinary: Routes) -> None:
        self._stage = stage
        self._ordinary = ordinary
        self._routes: dict[tuple[Lead, Any], Route] = {}

    def to(self, url: str, settings: Mapping[str, Any], request: Any) -> tuple[Route, str]:
        """Return the route for a URL, and the URL as libcurl gets it.

        Raises:
            Unscripted: when the stage has no answer.
        """
        lead = self._stage.lead(request)
        if lead is None:
            return self._ordinary.to(url, {**settings, "proxies": None}, request)
        key = lead, split_timeout(settings["timeout"])
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            way = Way(False, True, None, None, *key[1])
            route = self._routes[key] = Route(lead.host, lead.port, f"http://{lead.host}:{lead.port}", way)
        end = url.find("/", 8)
        return route, route.origin + ("/" if end < 0 else url[end:])


class StagedCurlAdapter(CurlAdapter):
    """The libcurl transport on a stage.

    Args:
        stage: where requests are led.
        engine: the pool's.
    """

    def __init__(self, stage: Stage, engine: Engine) -> None:
        super().__init__(engine)
        self._routes: Any = _StagedRoutes(stage, self._routes)

    def transfer_for(self, exchange: Exchange, inbox: Inbox | None = None) -> Transfer:
        """Return the transfer of an exchange, as ``CurlAdapter`` does, to where the stage leads it.

        Raises:
            BlockedAddress: when the rules of addresses refuse its host.
            Unscripted: when the stage has no answer.
        """
        settings = self.engine.settings
        judge(exchange.request, settings.reach, settings.resolve, exchange.inputs)
        return super().transfer_for(exchange, inbox)
