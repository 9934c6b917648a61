"""The settings of a session in layers: the pool's, with the session's own changes over them; and its adapters."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.hooks import default_hooks

from crawlpool.defaults import OwnHeaders, OwnMapping
from crawlpool.events import RetriesLeftToAdapter, emit, logger
from crawlpool.redact import conceal
from crawlpool.shared import Shared
from crawlpool.transport._urllib3 import Urllib3Adapter
from crawlpool.transport.connections import track
from crawlpool.transport.lifeline import Lifeline
from crawlpool.transport.stage import StagedAdapter

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

    from crawlpool.prepare import Plan
    from crawlpool.transport.base import Exchange

UNSET: Any = object()
_log = logger("session")


def _inherited(name: str) -> Any:
    def get(self: Any) -> Any:
        value = self._own.get(name, UNSET)
        return getattr(self._shared.defaults.current, name) if value is UNSET else value

    def put(self: Any, value: Any) -> None:
        self._own[name] = value
        self._own_version += 1

    return property(get, put, doc=f"``{name}`` as in requests: the pool's, until it is set on this session.")


def _layered(name: str) -> Any:
    def get(self: Any) -> Any:
        self._sync()
        return getattr(self, f"_{name}")

    def put(self: Any, value: Any) -> None:
        setattr(self, f"_{name}", value)

    return property(get, put, doc=f"``{name}`` as in requests: the pool's, with this session's changes over them.")


class LayeredSession(requests.Session):
    """A session whose every setting is its pool's until it is changed on the session itself.

    Not thread-safe: it belongs to the thread that made it.
    """

    auth = _inherited("auth")
    verify = _inherited("verify")
    cert = _inherited("cert")
    stream = _inherited("stream")
    max_redirects = _inherited("max_redirects")
    timeout = _inherited("timeout")
    is_working = False  # whether a worker is at a leg: the leg has had its host's turn, for what its auth sends, too
    headers = _layered("headers")
    params = _layered("params")
    proxies = _layered("proxies")

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared or Shared.alone()
        self._own: dict[str, Any] = {}
        self._own_version = 0
        self._plain: dict[str, Any] = {}
        self._plain_of: Any = None
        self._plan: Plan | None = None
        self._own_cookies: Any = None
        self._mounted: Any = ()
        self._self_mounted: set[str] = set()
        self._quiet: set[str] = set()  # prefixes whose adapters retry by themselves
        self._engine_adapter: Any = None  # the class of adapters whose bytes the pool's I/O thread moves
        self.lifeline = Lifeline(self._shared.fence)
        now = self._shared.defaults.current
        self._headers: Any = OwnHeaders(now.headers)
        self._params: Any = OwnMapping(now.params)
        self._proxies: Any = OwnMapping(now.proxies)
        self._synced = now
        self.hooks = default_hooks()
        self.trust_env = self._shared.settings.trust_env
        self.adapters = {}
        adapter = self._make_adapter()
        super().mount("https://", adapter)
        super().mount("http://", adapter)

    def _make_adapter(self) -> BaseAdapter:
        settings, engine, stage = self._shared.settings, self._shared.engine, self._shared.stage
        if engine is not None and stage is not None:
            from crawlpool.transport.curl.staged import StagedCurlAdapter  # here: pycurl is an extra

            self._engine_adapter = StagedCurlAdapter
            return StagedCurlAdapter(stage, engine)
        if engine is not None:
            from crawlpool.transport.curl.adapter import CurlAdapter  # here: pycurl is an extra

            self._engine_adapter = CurlAdapter
            return CurlAdapter(engine)
        make = Urllib3Adapter if stage is None else functools.partial(StagedAdapter, stage)
        return make(
            self.lifeline,
            self._shared.tls,
            idle_connections=settings.idle_connections,
            resolve=settings.resolve,
            resolver=self._shared.resolver,
            reach=self._shared.reach,
        )

    # Layered settings --------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        now = self._shared.defaults.current
        if now is not self._synced:
            for own, base in ((self._headers, now.headers), (self._params, now.params), (self._proxies, now.proxies)):
                if isinstance(own, (OwnHeaders, OwnMapping)):
                    own.sync(base)  # type: ignore[arg-type]
            self._synced = now

    @property
    def cookies(self) -> Any:
        """The pool's cookie store, unless this session was given a jar of its own."""
        return self._shared.cookies if self._own_cookies is None else self._own_cookies

    @cookies.setter
    def cookies(self, jar: Any) -> None:
        self._own_cookies = jar

    # Adapters ----------------------------------------------------------------------------------------------------

    def mount(self, prefix: str, adapter: BaseAdapter) -> None:
        """Mount an adapter in this session alone; ``pool.mount`` takes a factory and reaches every session."""
        self._self_mounted.add(prefix)
        self._adopt(prefix, adapter)

    def _adopt(self, prefix: str, adapter: BaseAdapter) -> None:
        replaced = self.adapters.get(prefix)
        if self._shared.stage is not None and isinstance(adapter, HTTPAdapter):
            adapter = self._make_adapter()  # one that would connect; a mock's own stays
        manager = getattr(adapter, "poolmanager", None)
        if manager is not None and not isinstance(adapter, Urllib3Adapter):
            track(manager, self.lifeline, self._shared.settings.resolve, self._shared.resolver, self._shared.reach)
        super().mount(prefix, adapter)
        retries = getattr(adapter, "max_retries", None)
        is_retrying = retries is not None and any(
            getattr(retries, part, None) for part in ("total", "connect", "read", "status", "other")
        )
        self._quiet.discard(prefix)
        if is_retrying:
            self._quiet.add(prefix)
            emit(_log, "info", RetriesLeftToAdapter(prefix, type(adapter).__name__))
        if isinstance(replaced, Urllib3Adapter) and all(replaced is not one for one in self.adapters.values()):
            replaced.close()  # nobody else has it

    def get_adapter(self, url: str) -> BaseAdapter:
        """Return the adapter for ``url``, as requests chooses it: the longest prefix that fits."""
        mounts = self._shared.mounts.current
        if mounts is not self._mounted:
            known = dict(self._mounted)
            for prefix, factory in mounts:
                if known.get(prefix) is not factory and prefix not in self._self_mounted:
                    self._adopt(prefix, factory())
            self._mounted = mounts
        try:
            return super().get_adapter(url)
        except InvalidSchema as error:
            conceal((error,), url)
            raise

    def engine_adapter(self, exchange: Exchange) -> Any:
        """Return the adapter for an exchange if the pool's I/O thread moves its bytes, else ``None``."""
        if self._engine_adapter is None:
            return None
        adapters: Any = self.adapters
        adapter: Any = adapters.get("http://")
        if not (
            # Nothing is mounted beside the pool's own: there is nothing to choose.
            len(adapters) == 2 and adapters.get("https://") is adapter and self._shared.mounts.current is self._mounted
        ):
            adapter = self.get_adapter(exchange.request.url)  # type: ignore[arg-type]
        return adapter if type(adapter) is self._engine_adapter and not adapter.is_mocked() else None

    def retries_by_itself(self, url: str) -> bool:
        """Tell whether the adapter for ``url`` retries by itself, so that the pool must not."""
        if not self._quiet:
            return False
        low = url.lower()
        return next((prefix for prefix in self.adapters if low.startswith(prefix.lower())), None) in self._quiet
