"""``SessionPool``: the pool with workers of its own. What most users hold in their hands."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from requests.structures import CaseInsensitiveDict

from crawlpool.config import CRAWL_MAX_BODY_BYTES, check, check_cap, check_deadline, is_seconds
from crawlpool.crawl import Crawl
from crawlpool.errors import ConfigError, CrawlPoolError, PoolClosed, QueueFull
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.limits import POLITE, HostLimits, check_limits
from crawlpool.models import Report, Result, Statistics, Target
from crawlpool.pool import BlockingPool
from crawlpool.retry import RetryPolicy
from crawlpool.robots import product_token
from crawlpool.runs import MapResults, MapRun, ResponseFuture, SubmitRun, Submitted, give_up
from crawlpool.verbs import BodyOptions, SubmitOptions
from crawlpool.worker import Workforce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Unpack

    from crawlpool.jobs.job import Job
    from crawlpool.pool_options import CrawlOptions, PoolOptions
    from crawlpool.sinks import Sink
    from crawlpool.source import BadLine

_OF_SUBMIT = SubmitOptions.__optional_keys__


class SessionPool(BlockingPool):
    """A thread-safe pool of ``requests`` sessions, one for each thread, with workers to run many requests at once.

    Args:
        threads: workers of ``submit``, ``map`` and ``crawl``, started as work comes.
        headers: default headers, over requests' own.
        params: default query parameters.
        timeout: seconds for connecting and for each wait for bytes: one number, or (connect, read).
        deadline: wall-clock seconds of one call: redirects, body, retries, back-off, all of it; ``None`` for none.
        retry: a ``RetryPolicy``, or ``False`` for no retries.
        cookies: a ``CookieStore`` to use, or a mapping to begin with.
        auth: default auth as in requests; ``site`` sets that of one origin.
        proxies: proxies by scheme, over those of the environment. Or a list of proxies' URLs: each host goes by one of
            them, always the same, and by the next one while that rests for a minute after three failures in a row.
        verify: ``True``, ``False``, or the path of a CA bundle or folder; over the environment's.
        cert: client certificate as in requests.
        hooks: response hooks as in requests.
        max_body_bytes: cap on a decoded body; ``None`` for none.
        max_redirects: redirects followed at most.
        limits: how hard a host may be asked, by the verbs, ``submit`` and ``map``; ``None`` for no limits. ``crawl``
            has its own. A verb waits for the host's turn, and raises ``DeadlineExceeded`` when that comes too late.
        idle_connections: open connections that a thread keeps at most, over all hosts, least recently used out first.
        queue_size: targets that may wait for a worker before ``submit`` blocks; four for each thread unless given.
        trust_env: whether proxies, netrc and the CA bundle are taken from the environment, once, now.
        netrc: whether the netrc file counts as part of that environment.
        resolve: addresses to connect to instead of asking DNS: ``{("example.org", 443): "127.0.0.1"}``.

        transport: ``"urllib3"``, or ``"curl"`` for libcurl (extra ``crawlpool[curl]``); what the environment variable
            ``CRAWLPOOL_TRANSPORT`` says, or urllib3, unless given.
        in_flight: requests of ``submit``, ``map`` and ``crawl`` that may run at once over all workers, with the curl
            transport; as many as there are threads unless given.
        http: ``"1.1"`` or, with the curl transport, ``"2"``.
        memory_budget_bytes: bytes of bodies that all transfers of the curl transport may hold together: above it
            reading pauses, and the oldest goes on; ``None`` for any number.
        rate: requests that the workers start in a second at most, all hosts together; ``None`` for any number.
        addresses: which addresses that aren't public may be reached. Unless given, those of the hosts that a call's own
            URL, or a seed of a crawl, names as an IP address or as ``localhost``.

    Raises:
        ConfigError: for a value that can't be; the message names it.
        MissingExtra: for the curl transport where pycurl isn't installed.

    Thread-safe: every method may be called from any thread. Use it as a context manager: leaving it finishes what was
    submitted and closes every connection; leaving it by an exception cancels instead.
    """

    def __init__(self, *, limits: HostLimits | None = None, **settings: Unpack[PoolOptions]) -> None:
        super().__init__(**settings)
        self._recipe: dict[str, Any] = {**settings, "limits": limits}  # workers of a job of shards make one like it
        check_limits(limits)
        self._limits = limits
        self._begin_work()

    def _begin_work(self) -> None:
        settings = self._shared.settings
        self._workforce = Workforce(self, settings.threads)
        self._submitted = Submitted(settings.queue_room, self._limits, self._shared.sites)
        asked_by_callers = Group(None, self._limits, self._shared.sites)
        self._shared.turnstile = self._workforce.frontier.turnstile_of(asked_by_callers)

    def submit(self, method: str, url: str, **options: Unpack[SubmitOptions]) -> ResponseFuture:
        """Have a request sent by a worker; return its future.

        Blocks while the queue is full. The deadline begins when a worker takes the request up.

        Args:
            method: the HTTP method.
            url: what to request.
            **options: what ``Session.request`` takes, but for ``stream``: a streamed response would belong to a worker.

        Raises:
            QueueFull: in a worker or handler, when the queue is full: waiting there could lock up.
            PoolClosed: when the pool is closed.
            ConfigError: for an option that can't be.
        """
        _check_known("submit", options)
        future = ResponseFuture()
        workforce, group = self._workforce, self._submitted
        run = SubmitRun(workforce, group, self._options_of(options, is_of_leg=False), future)
        leg = Leg.first(run, Target(url, method))
        group.began()
        try:
            is_queued = workforce.put(leg, block=not workforce.is_worker())
        except BaseException:
            group.ended()
            raise
        if not is_queued:
            group.ended()
            if self._is_closed:
                raise PoolClosed("the session pool is closed")
            raise QueueFull(f"{self._submitted.queued} requests wait already, and a worker must not wait for room")
        return future

    def map(
        self,
        targets: Iterable[str | Target],
        *,
        ordered: bool = False,
        limits: HostLimits | None = None,
        max_wait_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> MapResults:
        """Fetch many targets; return an iterator of their results, as they come.

        Lazy in, bounded out: the input, however long, is read in the consumer's thread as workers get free, and only
        so many results wait to be consumed. Each target has one result, whatever happens to it; so has what is no
        target. Leaving the loop early stops the work; ``close()`` of the iterator does so at once.

        Args:
            targets: URLs or ``Target`` objects.
            ordered: whether results come in the order of the input.
            limits: how hard a host may be asked; the pool's unless given.
            max_wait_s: how long a target may wait in the queue and in back-off, all in all.
            **options: what ``Session.request`` takes, for all targets; ``deadline`` is of each leg.

        Raises:
            PoolClosed: when the pool is closed, also during the iteration; in a forked child, too.
            CrawlPoolError: in a handler or hook that a worker runs.
            ConfigError: for an option that can't be.

        What the input raises comes out at once; what was under way is dropped.
        """
        _check_known("map", options)
        check_limits(limits)
        self._check_may_wait("map")
        _check_many("targets", targets)
        if self._is_closed:
            raise PoolClosed("the session pool is closed")
        settings = self._shared.settings
        run_options = self._options_of(options, is_of_leg=True, max_wait_s=max_wait_s)
        group = Group(None, limits or self._limits, self._shared.sites)
        window = settings.running_at_most + settings.queue_room
        return MapResults(self._workforce, targets, MapRun(group, run_options), window, ordered)

    def crawl(
        self,
        seeds: Iterable[str | Target | BadLine],
        handler: Callable[[Result, Crawl], None] | None = None,
        *,
        limits: HostLimits | None = None,
        sinks: Iterable[Sink] = (),
        job: Job | str | None = None,
        engine: str | None = None,
        workers: int | None = None,
        max_body_bytes: int | None = CRAWL_MAX_BODY_BYTES,
        **options: Unpack[CrawlOptions],
    ) -> Report:
        """Fetch seeds and what their handlers add; return the balanced books.

        Args:
            seeds: URLs or ``Target`` objects, read lazily in the calling thread.
            handler: called in a worker with each result and the crawl, whose ``add(url)`` and ``emit(item)`` it may
                call.
            limits: how hard a host may be asked; unless given, one request at a time, the next half a second after the
                last has ended, loopback hosts excepted.
            sinks: where records and items go.
            job: a ``Job``, or the path of its folder: then the crawl survives the end of the process, and the same call
                goes on with it. One with shards, ``Job(path, shards=K)``, is run by an engine.
            engine: what runs the shards of a job: ``"threads"``, this pool; ``"dask"``, a worker process for each core,
                each with a pool like this one; ``"dask://HOST:PORT"`` or ``"dask://FILE.json"``, the workers of a
                cluster that runs. Handlers have to be importable there. ``None``: threads, where the job has shards.
            workers: how many, with Dask; ``None`` for as many as there are.
            max_body_bytes: cap on a decoded body.
            **options: as ``new_crawl`` takes them.

        Raises:
            SinkError: when a sink or the job can't write any more; what was written before stands.
            JobError: when the job is in use, is none, or was begun with other settings or input.
            PoolClosed: when the pool is closed.
            EngineError: when an engine can't be brought up, or is lost.
            CrawlPoolError: in a handler or hook that a worker runs.
        """
        _check_many("seeds", seeds)
        self._check_may_wait("crawl")
        if engine is not None or getattr(job, "shards", 1) > 1:
            from crawlpool.engines.library import Recipe, crawl_shards  # here: it takes its time to import

            given = {**options, "limits": limits, "sinks": sinks, "max_body_bytes": max_body_bytes}
            recipe = Recipe(type(self), self._recipe)
            return crawl_shards(self, recipe, seeds, handler, job, engine=engine or "threads", workers=workers, **given)
        crawl = self.new_crawl(handler, limits=limits, sinks=sinks, job=job, max_body_bytes=max_body_bytes, **options)
        return crawl.run(seeds)

    def new_crawl(
        self,
        handler: Callable[[Result, Crawl], None] | None = None,
        *,
        limits: HostLimits | None = None,
        sinks: Iterable[Sink] = (),
        job: Job | str | None = None,
        max_body_bytes: int | None = CRAWL_MAX_BODY_BYTES,
        max_wait_s: float | None = None,
        max_redirects: int | None = None,
        content_types: Iterable[str] | None = None,
        max_per_host: int | None = None,
        dedupe: bool = True,
        robots: bool = True,
        on_block: str = "hold",
        on_result: Callable[[Result], None] | None = None,
        **options: Unpack[BodyOptions],
    ) -> Crawl:
        """Return a crawl that isn't started: for those who want to watch it or stop it from another thread.

        Args:
            handler: as in ``crawl``, and so are ``limits``, ``sinks``, ``job`` and ``max_body_bytes``. A job is open
                from now on, and closed at the end of ``run``.
            max_wait_s: how long a target may wait in the queue and in back-off, all in all.
            max_redirects: redirects followed at most; the pool's unless given.
            content_types: media types wanted, such as ``text/html`` or ``image/*``; other bodies aren't read.
            max_per_host: targets of one host at most; the rest is skipped.
            dedupe: whether a seed that asks for what was asked for before is skipped, with reason ``duplicate``, and
                ``add`` refuses it. URLs are compared as the WHATWG URL standard writes them, without their fragments,
                together with method, params, data and headers.
            robots: whether robots.txt counts (RFC 9309), for the hosts that have limits: it is fetched first, by the
                name in ``User-Agent``, and what it forbids ends as ``disallowed``.
            on_block: what becomes of a host, one that has limits, of whose last 20 answers 18 say that it doesn't want
                us: 401, 403, 429, a challenge for browsers, or what ``HostLimits.is_block`` tells. ``"hold"`` leaves it
                alone: what waits for it ends as ``skipped``, reason ``held``. ``"record"`` asks on.
            on_result: called in a worker with each settled result, after handler and sinks; must not raise.
            **options: what ``Session.request`` takes, for all targets; ``deadline`` is of each leg.

        Raises:
            PoolClosed: when the pool is closed.
            ConfigError: for an option that can't be.
        """
        _check_known("crawl", options)
        check_limits(limits)
        check(isinstance(robots, bool), "robots", robots, "True or False")
        check(on_block in ("hold", "record"), "on_block", on_block, "'hold' or 'record'")
        check(isinstance(dedupe, bool), "dedupe", dedupe, "True or False")
        check(handler is None or callable(handler), "handler", handler, "a function of a result and the crawl, or None")
        if self._is_closed:
            raise PoolClosed("the session pool is closed")
        given = {**options, "max_body_bytes": max_body_bytes}
        run_options = self._options_of(given, is_of_leg=True, max_wait_s=max_wait_s, max_redirects=max_redirects)
        group = Group(
            Crawl.WAITING, POLITE if limits is None else limits, self._shared.sites, Crawl.RESTING, on_block == "hold"
        )
        make: Callable[..., Crawl] = Crawl
        if job is not None:
            from crawlpool.jobs.crawl import maker  # here: SQLite takes its time to import

            make = maker(job, self._shared.settings.running_at_most)
        return make(
            self._workforce,
            handler,
            run_options,
            group,
            sinks=tuple(sinks),
            content_types=content_types,
            max_per_host=max_per_host,
            dedupe=dedupe,
            on_result=on_result,
            token=product_token(self._user_agent(options)) if robots else None,
            clock=self._shared.clock,
        )

    def statistics(self) -> Statistics:
        """Return a frozen snapshot of what the pool has and did."""
        found = super().statistics()
        exits = self._shared.exits
        rested = None if exits is None else {one.name: one.rests for one in exits.all if one.rests}
        workforce = self._workforce
        return dataclasses.replace(
            found, threads=workforce.threads, queued=len(workforce.frontier), proxies_rested=rested
        )

    @property
    def starved_s(self) -> float:
        """For how many seconds no request came to anything for want of file descriptors; 0 while there are some."""
        return self._shared.shortage.lasted_s()

    def close(self, cancel: bool = False, timeout_s: float | None = None) -> None:
        """Close the pool.

        What was submitted is finished first, unless ``cancel``: then it is given up, the running transfers too. After
        that every socket of every thread is shut at once; a call that another thread has under way ends with
        ``PoolClosed``. No socket and no thread of the pool is left when this returns.

        Args:
            cancel: give up what is queued and running.
            timeout_s: how long to wait for submitted work before it is given up; ``None`` for as long as it takes.

        May be called from any thread, a worker's handler included, and again.
        """
        workforce = self._workforce
        if not cancel and not workforce.is_worker() and not self._is_closed:
            self._submitted.wait(timeout_s)
        with self._lock:
            self._is_closed = True
        self._shared.shutdown.set()
        left = workforce.close()
        super().close(cancel, timeout_s)
        give_up(left)  # before the workers are waited for: a handler may wait for one of these
        workforce.join()
        self._reap()

    def _check_may_wait(self, verb: str) -> None:
        if self._workforce.is_worker():
            raise CrawlPoolError(
                f"{verb}: a handler or hook can't wait for this pool's workers, which may all be in one; "
                "use crawl.add or pool.get, or another pool"
            )

    def _lifelines(self) -> list[Any]:
        self._workforce.end_abandoned()  # the watchdog looks here four times a second, and holds no lock then
        return super()._lifelines()

    def _user_agent(self, options: Mapping[str, Any]) -> str:
        for headers in (options.get("headers") or {}, self.headers):
            value = CaseInsensitiveDict(headers).get("user-agent")
            if value is not None:
                return value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return ""

    def _options_of(self, options: Mapping[str, Any], *, is_of_leg: bool, **more: Any) -> RunOptions:
        given = dict(options)
        settings = self._shared.settings
        deadline_s = given.pop("deadline", settings.deadline_s)
        check_deadline(deadline_s)
        cap = given.pop("max_body_bytes", settings.max_body_bytes)
        check_cap(cap)
        wait_s = more.get("max_wait_s")
        check(wait_s is None or is_seconds(wait_s), "max_wait_s", wait_s, "a positive number of seconds, or None")
        policy = RetryPolicy.given(given.pop("retry", None))
        follow = given.pop("allow_redirects", True)
        return RunOptions(
            deadline_s=deadline_s,
            is_deadline_of_leg=is_of_leg,
            max_body_bytes=cap,
            retry=policy,
            allow_redirects=follow,
            request=given,
            **more,
        )

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._begin_work()


def _check_known(verb: str, options: Mapping[str, object]) -> None:
    unknown = sorted(options.keys() - _OF_SUBMIT)
    if unknown:
        raise ConfigError(f"{verb}() takes no {unknown[0]!r}")


def _check_many(name: str, given: object) -> None:
    # Text is iterable too: each letter would be a URL.
    check(not isinstance(given, (str, bytes)), name, given, f"several of them: for a single one write [{name[:-1]}]")
