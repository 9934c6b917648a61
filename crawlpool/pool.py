"""The pool's heart: makes a session for each thread that asks, owns them all, closes them all, and blocks no thread.

Knows nothing of queues and crawls: it serves those who have threads of their own. ``SessionPool``, which adds
``submit``, ``map`` and ``crawl``, is built on it in ``sessionpool.py``.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from requests.models import DEFAULT_REDIRECT_LIMIT
from requests.utils import default_headers

from crawlpool import fork
from crawlpool.address import AddressRules
from crawlpool.config import (
    DEFAULT_DEADLINE_S,
    DEFAULT_THREADS,
    DEFAULT_TIMEOUT,
    PoolSettings,
    TimeoutValue,
    check,
)
from crawlpool.cookies import CookieStore
from crawlpool.defaults import Defaults, Snapshot, as_hooks
from crawlpool.download import download
from crawlpool.environment import Environment
from crawlpool.errors import ConfigError, PoolClosed
from crawlpool.fencing import Fenced
from crawlpool.models import Statistics
from crawlpool.prepare import checked
from crawlpool.retry import RetryPolicy
from crawlpool.session import Session
from crawlpool.shared import Shared, cookies_of, default_transport, engine_for, proxies_of, reach_for, resolver_for
from crawlpool.sites import Site, declared_origin
from crawlpool.transport.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests.adapters import BaseAdapter

    from crawlpool.limits import HostLimits

_Self = TypeVar("_Self", bound="BlockingPool")


class _Token:
    """Dies with its thread: a thread's locals are the only thing that holds it."""

    __slots__ = ("_died", "_pid", "session")

    def __init__(self, session: Session, died: Callable[[Session], None]) -> None:
        self.session = session
        self._died = died
        self._pid = os.getpid()

    def __del__(self) -> None:
        # A forked child ends the parent's other threads, and so their tokens, before any hook of ours runs there: the
        # session lives on in the parent, and its connections are not to be shut.
        if os.getpid() == self._pid:
            self._died(self.session)


class BlockingPool(Fenced):
    """A session for each thread, and what they share. See ``SessionPool`` for the arguments.

    Thread-safe: every method may be called from any thread.
    """

    def __init__(
        self,
        *,
        threads: int = DEFAULT_THREADS,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: TimeoutValue = DEFAULT_TIMEOUT,
        deadline: float | None = DEFAULT_DEADLINE_S,
        retry: RetryPolicy | bool | None = None,
        cookies: CookieStore | Mapping[str, str] | None = None,
        auth: Any = None,
        proxies: Mapping[str, str] | Sequence[str] | None = None,
        verify: bool | str | os.PathLike[str] = True,
        cert: Any = None,
        hooks: Any = None,
        max_body_bytes: int | None = None,
        max_redirects: int = DEFAULT_REDIRECT_LIMIT,
        idle_connections: int = 32,
        queue_size: int | None = None,
        trust_env: bool = True,
        netrc: bool = True,
        resolve: Mapping[tuple[str, int], str] | None = None,
        transport: str | None = None,
        in_flight: int | None = None,
        http: str = "1.1",
        memory_budget_bytes: int | None = None,
        rate: float | None = None,
        addresses: AddressRules | None = None,
    ) -> None:
        for name, value in (("headers", headers), ("params", params), ("resolve", resolve)):
            check(value is None or isinstance(value, Mapping), name, type(value).__name__, "a mapping, or None")
        check(
            auth is None or callable(auth) or isinstance(auth, tuple), "auth", type(auth).__name__, "as requests has it"
        )
        settings = PoolSettings(
            threads=threads,
            deadline_s=deadline,
            max_body_bytes=max_body_bytes,
            idle_connections=idle_connections,
            queue_size=queue_size,
            trust_env=trust_env,
            resolve={(host.lower(), port): to for (host, port), to in (resolve or {}).items()},
            transport=default_transport() if transport is None else transport,
            in_flight=in_flight,
            http=http,
            memory_budget_bytes=memory_budget_bytes,
            rate=rate,
        )
        check(addresses is None or isinstance(addresses, AddressRules), "addresses", addresses, "AddressRules, or None")
        policy = RetryPolicy.given(retry) or RetryPolicy()
        all_headers = default_headers()
        all_headers.update(headers or {})
        checked(all_headers)
        by_scheme, exits = proxies_of(proxies)
        first = Snapshot(
            headers=all_headers,
            params=dict(params or {}),
            proxies=by_scheme,
            hooks=as_hooks(hooks),
            auth=auth,
            verify=verify,
            cert=cert,
            max_redirects=max_redirects,
            timeout=timeout,
        )
        resolver, reach = resolver_for(settings), reach_for(addresses)
        self._shared = Shared(
            settings=settings,
            defaults=Defaults(first),
            cookies=cookies_of(cookies),
            environment=Environment.read(with_netrc=netrc) if trust_env else Environment.empty(),
            retry=policy,
            budget=policy.new_budget(),
            reach=reach,
            engine=engine_for(settings, reach, resolver),
            resolver=resolver,
            exits=exits,
        )
        # Guards _sessions, _made, _gone and _is_closed.
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._made = 0
        self._gone = (0, 0)  # sessions reaped, connections that they had opened
        self._is_closed = False
        # Sessions of threads that ended, not yet reaped. A deque and no lock: the end of a thread is told from a
        # destructor, which may run in any thread, at any moment, and so must not wait.
        self._dead: collections.deque[Session] = collections.deque()
        self._local = threading.local()
        self._watchdog = Watchdog(self._lifelines, self._shared.deadline_clock)
        fork.register(self)

    # Sessions ----------------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The calling thread's own session, made on first use.

        Raises:
            PoolClosed: when the pool is closed.
        """
        token: _Token | None = getattr(self._local, "token", None)
        if token is not None and not token.session.lifeline.is_closed:
            return token.session
        self._reap()
        session = Session(self._shared)
        with self._lock:
            if self._is_closed:
                raise PoolClosed("the session pool is closed")
            self._sessions.add(session)
            self._made += 1
        self._local.token = _Token(session, self._thread_died)
        self._watchdog.ensure_running()
        return session

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        """Send a request from the calling thread's session and wait for the answer; see ``Session.request``.

        Raises:
            requests.RequestException: as requests does.
            PoolClosed: when the pool is closed, before or during the call.
        """
        return self.session.request(method, url, **kwargs)

    def _thread_died(self, session: Session) -> None:
        # Runs in the dying thread. Its session can be in no call, so nobody but the pool uses it any more.
        if session.lifeline.shut():
            session.dispose()
        self._dead.append(session)
        if self._lock.acquire(blocking=False):
            try:
                self._reap_locked()
            finally:
                self._lock.release()

    def _reap(self) -> None:
        if self._dead:
            with self._lock:
                self._reap_locked()

    def _reap_locked(self) -> None:
        while self._dead:
            session = self._dead.popleft()
            if session in self._sessions:
                self._sessions.discard(session)
                self._gone = (self._gone[0] + 1, self._gone[1] + session.lifeline.counts()[0])

    def _lifelines(self) -> list[Any]:
        with self._lock:
            return [session.lifeline for session in self._sessions]

    # What all sessions start with ----------------------------------------------------------------------------------

    @property
    def headers(self) -> Any:
        """The default headers; a change is seen by every session's next request, unless that session set its own."""
        return self._shared.defaults.headers

    @headers.setter
    def headers(self, value: Mapping[str, str]) -> None:
        fresh = default_headers()
        fresh.clear()
        fresh.update(value)
        checked(fresh)
        self._shared.defaults.set(headers=fresh)

    @property
    def params(self) -> Any:
        """The default query parameters."""
        return self._shared.defaults.params

    @params.setter
    def params(self, value: Mapping[str, Any]) -> None:
        self._shared.defaults.set(params=dict(value))

    @property
    def proxies(self) -> Any:
        """The proxies by scheme, over those of the environment, and over a list of proxies that the pool was given."""
        return self._shared.defaults.proxies

    @proxies.setter
    def proxies(self, value: Mapping[str, str]) -> None:
        self._shared.defaults.set(proxies=dict(value))

    @property
    def cookies(self) -> CookieStore:
        """The one cookie store of all sessions."""
        return self._shared.cookies

    def _default(name: str, doc: str, taken: Any = None, shown: Any = None) -> Any:  # type: ignore[misc]
        def get(self: Any) -> Any:
            value = getattr(self._shared.defaults.current, name)
            return value if shown is None else shown(value)

        def put(self: Any, value: Any) -> None:
            self._shared.defaults.set(**{name: value if taken is None else taken(value)})

        return property(get, put, doc=doc)

    auth = _default("auth", "Default auth, sent with each first request to any origin; see ``site`` for one origin's.")
    verify = _default("verify", "``True``, ``False``, or the path of a CA bundle or folder, as in requests.")
    cert = _default("cert", "Client certificate, as in requests.")
    hooks = _default(
        "hooks", "Response hooks, as in requests; set as a whole.", as_hooks, lambda hooks: {"response": hooks}
    )
    timeout = _default("timeout", "Default timeout in seconds, one number or (connect, read).")
    max_redirects = _default("max_redirects", "Redirects followed at most.")

    def site(
        self,
        origin: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Any = None,
        retry: RetryPolicy | bool | None = None,
        limits: HostLimits | None = None,
    ) -> None:
        """Set what holds for one origin only, in place of what it had; a redirect away leaves it behind.

        Args:
            origin: ``https://api.example``; with a port where it isn't the scheme's own.
            headers: over the pool's and the session's, under a call's.
            auth: requests auth.
            retry: a policy, or ``False`` for no retries.
            limits: for ``submit``, ``map`` and ``crawl``.

        Raises:
            ConfigError: when ``origin`` is none.
        """
        self._shared.sites.put(Site(declared_origin(origin), dict(headers or {}), auth, retry, limits))

    def mount(self, prefix: str, factory: Callable[[], BaseAdapter]) -> None:
        """Mount an adapter under a URL prefix in every session, present and future.

        Args:
            prefix: as in requests: the longest that a URL begins with wins.
            factory: makes an adapter, in each session's thread; adapters aren't shared between threads.

        Raises:
            ConfigError: when an adapter is given instead of a factory.
        """
        if not callable(factory) or (hasattr(factory, "send") and not isinstance(factory, type)):
            raise ConfigError(f"mount({prefix!r}): give a factory such as `lambda: MyAdapter()`, not an adapter")
        self._shared.mounts.put(prefix, factory)

    def download(self, url: str, path: str | os.PathLike[str], *, sha256: str | None = None, **kwargs: Any) -> int:
        """Download to a file: streamed, resumed after a break, renamed when whole; see ``crawlpool.download``."""
        return download(self, url, path, sha256=sha256, **kwargs)

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of what the pool has and did."""
        self._reap()
        with self._lock:
            sessions, made, (_, gone) = list(self._sessions), self._made, self._gone
        counts = [session.lifeline.counts() for session in sessions]
        budget = self._shared.budget
        if self._shared.engine is not None:
            counts.append(self._shared.engine.counts())
        return Statistics(
            sessions=len(sessions),
            sessions_made=made,
            connections_open=sum(now for _, now in counts),
            connections_opened=gone + sum(opened for opened, _ in counts),
            requests=budget.requests,
            retries=budget.retries,
        )

    # Closing -----------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def close(self, cancel: bool = False, timeout_s: float | None = None) -> None:
        """Close the pool: shut every socket of every thread at once; running calls end with ``PoolClosed``.

        Args:
            cancel: give up queued and running work of ``submit``, ``map`` and ``crawl`` instead of finishing it first.
            timeout_s: how long to let that work finish; ``None`` for as long as it takes.

        May be called from any thread, and again.
        """
        with self._lock:
            self._is_closed = True
        self._shared.shutdown.set()
        self._close_sessions()
        self._shared.close()
        self._watchdog.stop()
        self._close_sessions()
        fork.unregister(self)

    def _close_sessions(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            if session.lifeline.shut():
                session.dispose()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._is_closed else f'{len(self._sessions)} sessions'}>"

    def _after_fork_in_child(self) -> None:
        """Start empty in a forked child: the parent's sessions, threads and connections are not ours."""
        for session in self._sessions:
            fork.let_go(session.lifeline)
        self._lock = threading.Lock()
        self._sessions = set()
        self._dead = collections.deque()
        self._made, self._gone = 0, (0, 0)
        self._local = threading.local()
        self._shared.reset_after_fork()
        self._watchdog = Watchdog(self._lifelines, self._shared.deadline_clock)
