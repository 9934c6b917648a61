"""A crawl: seeds in, handlers that find more, sinks out, and books that balance."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.books import Books, Progress
from crawlpool.clearance import Clearance
from crawlpool.clock import LOOK_S, SYSTEM_CLOCK, Clock
from crawlpool.config import check, is_count
from crawlpool.errors import Cancelled, CrawlPoolError, HandlerFailed, PoolClosed, SinkError, UnwantedContentType
from crawlpool.events import logger
from crawlpool.intake import Intake, found_in
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.models import Outcome, Report, Result, Target
from crawlpool.redact import redact_url
from crawlpool.seen import Seen
from crawlpool.settle import dropped
from crawlpool.steering import Steered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import requests

    from crawlpool.sinks import Sink
    from crawlpool.source import BadLine
    from crawlpool.worker import Workforce

_log = logger("crawl")


class Crawl(Steered):
    """One crawl over a pool's workers; it runs once.

    Args:
        workforce: who does the work.
        handler: called in a worker with each result and this crawl, but for targets that a stop interrupted.
        options: how legs are sent.
        group: what its legs are counted and limited by.
        sinks: where records and items go.
        content_types: media types wanted, such as ``text/html`` or ``image/*``; other bodies aren't read.
        max_per_host: targets of one host at most; the rest is skipped, reason ``max_per_host``.
        dedupe: whether what was asked for before is skipped, reason ``duplicate``; an added one isn't taken at all.
        on_result: called in a worker with each settled result, after handler and sinks; must not raise.
        token: the product token by which robots.txt is asked, for hosts that have limits; ``None`` not to ask it.
        clock: where time comes from.

    Thread-safe: ``add``, ``emit``, ``drain``, ``stop``, ``progress`` and what an operator has (``Steered``) may be
    called from any thread.
    """

    #: Legs of one crawl that wait in the frontier where enough of them may go; and where too few may: as many hosts at
    #: most rest side by side.
    WAITING, RESTING = 1000, 10_000

    def __init__(
        self,
        workforce: Workforce,
        handler: Callable[[Result, Crawl], None] | None,
        options: RunOptions,
        group: Group,
        sinks: tuple[Sink, ...] = (),
        *,
        content_types: Iterable[str] | None = None,
        max_per_host: int | None = None,
        dedupe: bool = True,
        on_result: Callable[[Result], None] | None = None,
        token: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check(max_per_host is None or is_count(max_per_host), "max_per_host", max_per_host, "1 or more, or None")
        self.group = group
        # Only where a sink wants them do answers keep the bytes of the wire.
        keeps_wire = any(getattr(sink, "needs_wire", False) for sink in sinks)
        self.options = dataclasses.replace(options, keeps_wire=True) if keeps_wire else options
        self._workforce = workforce
        self._handler = handler
        # Those that keep bodies first, so that the records of the others can say where a body lies.
        self._sinks = tuple(sorted(sinks, key=lambda sink: not getattr(sink, "keeps_bodies", False)))
        for one in content_types or ():
            check(one.count("/") == 1, "content_types", one, "media types such as text/html or image/*")
        self._content_types = tuple(t.strip().lower() for t in content_types) if content_types is not None else None
        self._on_result = on_result
        # What runs in the I/O thread must not wait: a pipe that nobody reads would hold up every transfer.
        self.is_instant = (
            handler is None
            and content_types is None
            and not options.request
            and options.retry is None
            and (on_result is None or getattr(on_result, "is_quick", False))
            and all(getattr(sink, "is_quick", False) for sink in sinks)
        )
        self._clock = clock
        self._control = workforce.frontier.control_of(group)
        self._intake: Any = self._new_intake(max_per_host, dedupe)
        self._books = self._new_books()
        if token is not None:
            group.clearance = Clearance(
                self, token, workforce.frontier.learn, self._books.asked_robots, self._robots_kept
            )
        group.ignores_robots = token is None
        # Guards all that follows; _quiet is waited on by run() for the end.
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._outstanding = 0
        self._lost = 0  # added targets that can't be read from disk any more; they are part of _outstanding for ever
        self._is_started = False
        self._is_over = False
        self._is_draining = False
        self._failure: BaseException | None = None

    #: Who keeps what robots.txt files said; a method where anybody does.
    _robots_kept: Any = None

    def _new_intake(self, max_per_host: int | None, dedupe: bool) -> Any:
        return Intake(self, self._workforce, Seen(max_per_host, remembers=dedupe), self._end_holds)

    def _new_books(self) -> Books:
        return Books(self._clock)

    # The caller's side -------------------------------------------------------------------------------------------

    def run(self, seeds: Iterable[str | Target | BadLine]) -> Report:
        """Fetch the seeds and all that is added; return the books when every target has its outcome.

        Args:
            seeds: URLs, targets, and lines that are neither; read lazily, in this thread.

        Raises:
            SinkError: when a sink failed; the crawl was stopped then.
            PoolClosed: when the pool was closed meanwhile.
            Exception: what iterating ``seeds`` raises, after what was begun has been settled.
            CrawlPoolError: when it ran before.
        """
        with self._lock:
            if self._is_started:
                raise CrawlPoolError("a crawl runs once; make another one")
            self._is_started = True
        self._books.start()
        try:
            self._feed(seeds)
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error
            self.stop()
        try:
            failure = self._wait()
        finally:
            self._close()
        if failure is not None:
            raise failure
        return self._books.report().check()

    def _wait(self) -> BaseException | None:
        """Wait until every target has its outcome; return what the crawl ends with."""
        while True:
            with self._lock:
                if self._outstanding > self._lost:
                    self._quiet.wait(LOOK_S)
                if self._outstanding <= self._lost:
                    self._is_over = True  # under the same hold of the lock: what is added now isn't taken
                    return self._failure
            self._refill()  # the workers see to that; should it ever be left to nobody, it is left to us
            self._end_holds()

    def _close(self) -> None:
        """Let go of what the crawl has opened."""
        self._intake.close()

    def add(self, target: str | Target, *, parent: Result | None = None) -> bool:
        """Add a target that a handler found; never blocks: what doesn't fit in memory goes to disk.

        Args:
            target: a URL or a target.
            parent: the result that it was found in; gives ``depth`` and ``parent`` to a plain URL.

        Returns:
            Whether it was taken: a URL that this crawl has seen is not fetched again, and a crawl that drains or is
            over takes nothing.

        Raises:
            ConfigError: when the target can't be written as JSON.
        """
        target = found_in(target, parent)
        with self._lock:
            if self._is_over or self._is_draining:
                return False
            self._outstanding += 1
        if not self._intake.is_new(target):
            self._end(1)
            return False
        self._books.found()
        try:
            self._intake.add(target)
        except BaseException:
            self._books.unfound()
            self._end(1)
            raise
        self._refill()
        return True

    def emit(self, item: Mapping[str, Any]) -> None:
        """Write an item to every sink.

        Raises:
            SinkError: when a sink can't write any more.
        """
        for sink in self._sinks:
            sink.emit(item)
        self._books.emitted()

    def drain(self) -> None:
        """Take no further input: what runs is finished, what waits is settled as skipped, reason ``interrupted``."""
        with self._lock:
            if self._is_draining:
                return
            self._is_draining = True
        self._books.interrupt()
        for leg in self._workforce.frontier.drop(self):
            self._finish((leg, dropped(leg, "interrupted")))
        self._refill()

    def stop(self) -> None:
        """Drain, and end the running transfers too."""
        self.drain()
        self._workforce.abort(self)
        if self.group.clearance is not None:
            self._workforce.abort(self.group.clearance)

    def progress(self) -> Progress:
        """Return a frozen snapshot of how far the crawl is."""
        told = self.group.told
        queued = self.group.queued + len(self._intake) + (self._control.on_hold() if told else 0)
        return self._books.progress(queued, self._workforce.running(self), told)

    @property
    def is_draining(self) -> bool:
        """Whether ``drain`` or ``stop`` was called."""
        return self._is_draining

    # The run's side ----------------------------------------------------------------------------------------------

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether the leg shall be sent: none of a crawl that drains."""
        return not self._is_draining

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Refuse the body of an unwanted content type."""
        if self._content_types is None:
            return
        given = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        main = given.partition("/")[0]
        if given not in self._content_types and f"{main}/*" not in self._content_types:
            raise UnwantedContentType(f"the content type is {given or 'missing'}", request=response.request)

    @property
    def is_quick(self) -> bool:
        """Whether there is no handler, which may take its time."""
        return self._handler is None

    @property
    def is_choosy(self) -> bool:
        """Whether content types were named."""
        return self._content_types is not None

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Take the one result of each target: handler, sinks, books; then see what else can be begun."""
        if self._handler is None:
            self._finish(*ended)
        else:  # what a handler takes its time over holds back no other's record
            for one in ended:
                self._finish(one)
        self._refill()

    def _finish(self, *ended: tuple[Leg, Result]) -> None:
        try:
            mine = [(leg, self._handled(self._as_drained(result))) for leg, result in ended]
            self._written([result for _, result in mine])
            for leg, result in mine:
                self._books.settle(result, leg)
            if self._on_result is not None:
                for _, result in mine:
                    self._on_result(result)
        except BaseException as error:  # on_result must not raise; if it does, the crawl ends with that
            self._fail(error)
        finally:
            self._end(len(ended))

    def _as_drained(self, result: Result) -> Result:
        """Return the result as it counts: what a drain has ended was skipped."""
        if result.error is None:
            return result
        if isinstance(result.error, PoolClosed):
            self._fail(result.error)
        if self._is_draining and isinstance(result.error, (Cancelled, PoolClosed)):
            return dataclasses.replace(result, outcome=Outcome.SKIPPED, reason="interrupted", error=None)
        return result

    def _handled(self, result: Result) -> Result:
        if self._handler is None or result.reason == "interrupted":
            return result
        try:
            self._handler(result, self)
        except SinkError as error:
            self._fail(error)
        except BaseException as error:  # whatever a handler raises, its target has one result and the worker lives on
            if error is result.error or getattr(error, "response", None) is result.response is not None:
                return result  # result.unwrap() raised it: the record keeps the first cause
            _log.error("the handler failed", url=redact_url(result.target.url), exc_info=error)
            failed = HandlerFailed(f"the handler raised {type(error).__name__}: {error}")
            failed.__cause__ = error
            return dataclasses.replace(result, outcome=Outcome.FAILED, reason="handler", error=failed)
        return result

    def _written(self, results: Sequence[Result]) -> None:
        try:
            for sink in self._sinks:
                write_all = getattr(sink, "write_all", None)
                if write_all is not None:
                    write_all(results)
                    continue
                for result in results:
                    sink.write(result)
        except BaseException as error:  # a user's sink may raise anything
            self._fail(error if isinstance(error, SinkError) else _sink_error(error))

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            is_first = self._failure is None
            self._failure = self._failure or error
        if is_first:
            self.stop()

    # Feeding -----------------------------------------------------------------------------------------------------

    def _feed(self, seeds: Iterable[str | Target | BadLine]) -> None:
        source, ordinal = iter(seeds), 0
        while not self._is_draining:
            try:
                seed = next(source)
            except StopIteration:
                return
            self._books.took()
            ordinal += 1
            self._begin(self._intake.leg_of(seed, ordinal))
        # drained: what the source still holds was never taken, and is no part of the books

    def _begin(self, leg: Leg) -> None:
        is_counted = False
        try:
            with self._lock:
                self._outstanding += 1
                is_counted = True
            is_taken = self._intake.begin(leg)
        except BaseException:  # Ctrl-C comes between any two calls; without this the end would be waited for in vain
            if is_counted:
                self._books.settle(dropped(leg, "interrupted"), leg)
                self._end(1)
            raise
        if not is_taken:
            self._finish((leg, dropped(leg, "interrupted")))
            if not self._is_draining:
                raise PoolClosed("the session pool was closed during the crawl")
        elif self.group.hungry:
            self._refill()

    def _refill(self) -> None:
        """Move targets from the backlog to the frontier, as far as they help there; settle them when draining.

        No handler runs in here: it may be one that adds.
        """
        try:
            left = self._intake.refill()
            while left or (self._is_draining and (left := self._intake.take_rest())):
                self._finish(*((leg, dropped(leg, "interrupted")) for leg in left))
                left = []
        except CrawlPoolError as error:  # the disk; what is on it is lost
            self._fail(error)
            lost = len(self._intake)
            with self._lock:
                self._lost = lost
                self._quiet.notify_all()

    def _end(self, count: int) -> None:
        with self._lock:
            self._outstanding -= count
            if self._outstanding <= self._lost:
                self._quiet.notify_all()


def _sink_error(error: BaseException) -> SinkError:
    failed = SinkError(f"a sink raised {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
