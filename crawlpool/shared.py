"""What all sessions of a pool share. Each part is thread-safe by itself; none knows of sessions."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.address import input_key_of_url
from crawlpool.clock import SYSTEM_CLOCK, Clock, Deadline, Shutdown
from crawlpool.config import TRANSPORTS, PoolSettings, check, proxy_url
from crawlpool.cookies import CookieStore
from crawlpool.defaults import Defaults, Snapshot
from crawlpool.environment import Environment, LiveEnvironment
from crawlpool.errors import ConfigError
from crawlpool.fence import FenceSlot
from crawlpool.politeness import Exits
from crawlpool.retry import RetryBudget, RetryPolicy
from crawlpool.shortage import Shortage
from crawlpool.sites import Sites
from crawlpool.transport.reach import Reach, StagedReach
from crawlpool.transport.resolver import Resolver
from crawlpool.transport.stage import clock_of_stage, current_stage, shutdown_of_stage
from crawlpool.transport.tls import TLSContexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests.adapters import BaseAdapter

    from crawlpool.address import AddressRules
    from crawlpool.transport.base import Exchange
    from crawlpool.transport.curl.engine import Engine
    from crawlpool.transport.stage import Stage


class Mounts:
    """Adapter factories by URL prefix, for sessions present and future.

    Thread-safe: a change publishes a new tuple; sessions compare it with the one they have built from.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the replacement of `current` by a changed copy
        self.current: tuple[tuple[str, Callable[[], BaseAdapter]], ...] = ()

    def put(self, prefix: str, factory: Callable[[], BaseAdapter]) -> None:
        """Add a factory, in place of the one that the same prefix had."""
        with self._lock:
            self.current = (*(pair for pair in self.current if pair[0] != prefix), (prefix, factory))

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()


def default_transport() -> str:
    """Return the transport of those who don't name one: what ``CRAWLPOOL_TRANSPORT`` says, else urllib3.

    Raises:
        ConfigError: when it says something else than a transport.
    """
    named = os.environ.get("CRAWLPOOL_TRANSPORT") or "urllib3"
    if named == "auto":
        from crawlpool.transport.curl.library import is_installed

        return "curl" if is_installed() else "urllib3"
    check(named in TRANSPORTS, "CRAWLPOOL_TRANSPORT", named, "urllib3, curl or auto")
    return named


def engine_for(
    settings: PoolSettings, reach: Reach, resolver: Resolver | None = None, *, is_reusable: bool = False
) -> Engine | None:
    """Return the engine of the curl transport, or ``None`` for the other.

    Args:
        settings: the pool's.
        reach: its rules of addresses.
        resolver: the pool's, which the engine closes; one of its own unless given.
        is_reusable: as for the engine.

    Raises:
        MissingExtra: when pycurl isn't installed.
    """
    if not settings.is_curl:
        return None
    # All of it, here as pycurl is an extra, and now: when a session is made no file may be left to be opened.
    from crawlpool.transport.curl.adapter import CurlAdapter  # noqa: F401
    from crawlpool.transport.curl.engine import Engine
    from crawlpool.transport.curl.library import EngineSettings

    return Engine(
        EngineSettings(settings.http, settings.connections, settings.memory_budget_bytes, settings.resolve, reach),
        resolver,
        is_reusable=is_reusable,
    )


def resolver_for(settings: PoolSettings) -> Resolver:
    """Return a resolver for a pool that is made now: on a stage it asks nobody outside."""
    stage = current_stage()
    return Resolver(overrides=settings.resolve, lookup=None if stage is None else stage.lookup)


def reach_for(rules: AddressRules | None) -> Reach:
    """Return what holds the rules of addresses for a pool that is made now; on a stage it judges URLs alone."""
    return Reach(rules) if current_stage() is None else StagedReach(rules)


def proxies_of(given: Any) -> tuple[dict[str, str], Exits | None]:
    """Return the proxies by scheme that hold for all hosts, and, where there are several, those that hosts share out.

    Args:
        given: a mapping by scheme, or a sequence of URLs.

    Raises:
        ConfigError: for what is neither; no message shows a URL, which may hold a password.
    """
    if given is None or isinstance(given, Mapping):
        return dict(given or {}), None
    check(
        isinstance(given, Sequence) and not isinstance(given, (str, bytes)),
        "proxies",
        type(given).__name__,
        "a mapping by scheme, a list of proxies' URLs, or None",
    )
    check(bool(given), "proxies", "[]", "one proxy at least; None to go without")
    urls: list[str] = []
    for place, one in enumerate(given):
        url = proxy_url(one) if isinstance(one, str) else None
        if url is None:
            raise ConfigError(f"proxies[{place}]: a proxy's URL is needed, such as http://127.0.0.1:3128")
        if url in urls:
            raise ConfigError(f"proxies[{place}]: it is there twice, first as proxies[{urls.index(url)}]")
        urls.append(url)
    if len(urls) < 2:
        return {scheme: url for url in urls for scheme in ("http", "https")}, None
    return {}, Exits(urls)


def cookies_of(given: CookieStore | Mapping[str, str] | None) -> CookieStore:
    """Return a pool's cookie store: the one that was given, or a new one with what a mapping has."""
    if isinstance(given, CookieStore):
        return given
    store = CookieStore()
    if given:
        store.update(given)
    return store


class Turnstile(Protocol):
    """Where a thread waits until the host of a request may be asked."""

    def enter(self, exchange: Exchange, before: Any = None) -> Any:
        """Wait for the host's turn; return what ``leave`` takes, ``None`` where there is nothing to wait for.

        ``before`` is the turn of the same request that its proxy failed.
        """

    def leave(self, turn: Any, exchange: Exchange, response: Any, error: BaseException | None) -> bool:
        """Say what came of the request; return whether it is to be sent again by another proxy."""


@dataclasses.dataclass
class Shared:
    """The shared half of a pool; a session that stands alone has one to itself."""

    settings: PoolSettings
    defaults: Defaults
    cookies: CookieStore
    environment: Environment
    retry: RetryPolicy
    budget: RetryBudget
    sites: Sites = dataclasses.field(default_factory=Sites)
    mounts: Mounts = dataclasses.field(default_factory=Mounts)
    reach: Reach = dataclasses.field(default_factory=Reach)
    tls: TLSContexts = dataclasses.field(default_factory=TLSContexts)
    shutdown: Shutdown = dataclasses.field(default_factory=shutdown_of_stage)
    clock: Clock = dataclasses.field(default_factory=clock_of_stage)
    engine: Engine | None = None
    resolver: Resolver | None = None
    turnstile: Turnstile | None = None
    shortage: Shortage = dataclasses.field(default_factory=lambda: Shortage(SYSTEM_CLOCK))
    fence: FenceSlot = dataclasses.field(default_factory=FenceSlot)
    exits: Exits | None = None  # guarded by the frontier's lock, but for `Exits.of`
    stage: Stage | None = dataclasses.field(default_factory=current_stage)

    def __post_init__(self) -> None:
        if self.engine is not None:
            self.fence = self.engine.settings.fence  # one for all that sends for the pool

    @property
    def deadline_clock(self) -> Clock:
        """By what deadlines go: on a stage, whose waits take no time, by the machine's own."""
        return self.clock if self.stage is None else SYSTEM_CLOCK

    @classmethod
    def alone(cls) -> Shared:
        """Return what a session that stands alone starts from: requests' own defaults, and no retries."""
        settings, reach = PoolSettings(deadline_s=None, transport=default_transport()), reach_for(None)
        return cls(
            settings=settings,
            reach=reach,
            engine=engine_for(
                settings, reach, None if current_stage() is None else resolver_for(settings), is_reusable=True
            ),
            defaults=Defaults(Snapshot(timeout=None)),
            cookies=CookieStore(),
            environment=LiveEnvironment(),
            retry=RetryPolicy.never(),
            budget=RetryBudget(None, 0),
        )

    def close(self) -> None:
        """End what moves bytes and looks names up for all sessions; may be called again."""
        if self.engine is not None:
            self.engine.close()
        if self.resolver is not None:
            self.resolver.close()

    def reset_after_fork(self) -> None:
        """Make fresh locks and flags in a forked child: another thread of the parent may have held the old ones."""
        for part in (self.defaults, self.sites, self.mounts, self.tls):
            part._reset_after_fork()
        self.budget._reset_after_fork()
        self.shortage._reset_after_fork()
        self.cookies._reset_lock_after_fork()
        if self.exits is not None:
            self.exits = Exits(self.exits.urls)  # what the parent has under way by them ends there
        if self.resolver is not None:
            self.resolver._reset_after_fork()
        if not self.shutdown.is_set:
            self.shutdown = shutdown_of_stage() if self.stage is not None else Shutdown()


@dataclasses.dataclass
class Call:
    """What one call adds to what its session has: passed along redirects and retries.

    Args:
        deadline: when the whole call must have ended.
        retry: the policy of this call; ``None`` for the site's or the pool's.
        max_body_bytes: cap on the decoded body.
        accept: called with each final response before its body is read; raises to refuse it.
        is_counted: whether the retry budget knows of the call; its redirects are no further requests.
        follows: whether redirects are followed: then nobody looks at their bodies, and a broken one does no harm.
        url: the caller's own, which may name a host that isn't public.
    """

    deadline: Deadline
    retry: RetryPolicy | None = None
    max_body_bytes: int | None = None
    accept: Any = None
    is_counted: bool = False
    follows: bool = False
    url: str | None = None

    def permits(self, key: str) -> bool:
        """Tell whether the caller's own URL names the host of that key (``address.Inputs``)."""
        return self.url is not None and input_key_of_url(self.url) == key
