"""A crawl whose every step is durable: what comes in and what comes of it goes through the ledger of a job."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.books import Books
from crawlpool.clock import LOOK_S
from crawlpool.crawl import Crawl
from crawlpool.errors import CrawlPoolError, SinkError
from crawlpool.intake import found_in
from crawlpool.jobs.clerk import Clerk
from crawlpool.jobs.entries import Entry, row_of_added, told_of
from crawlpool.jobs.feeding import feed
from crawlpool.jobs.hosts import HostMemory
from crawlpool.jobs.intake import JobIntake
from crawlpool.jobs.job import Job
from crawlpool.ledger.store import Batch
from crawlpool.sinks.base import json_of_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import requests

    from crawlpool.jobs.job import OpenJob
    from crawlpool.leg import Group, Leg, RunOptions
    from crawlpool.models import Result, Target
    from crawlpool.robots.gate import Fetched
    from crawlpool.sinks import Sink
    from crawlpool.source import BadLine
    from crawlpool.trail import LegNote
    from crawlpool.worker import Workforce

#: Reasons of results that are none in a job: the target waits for the next run.
_MOST_ROBOTS_BYTES = 512 * 1024  # of a robots.txt that are kept: as many as are read
GIVEN_BACK = frozenset({"interrupted", "cancelled"})


def maker(job: Job | str, in_flight: int) -> Callable[..., JobCrawl]:
    """Return what makes the crawl of a job, with the arguments that ``Crawl`` takes.

    Args:
        job: the job, or the path of its folder.
        in_flight: requests that may run at once.
    """

    def make(
        workforce: Workforce, handler: Any, options: RunOptions, group: Group, *, sinks: tuple[Sink, ...], **others: Any
    ) -> JobCrawl:
        wanted = Job(job) if isinstance(job, str) else job
        opened = wanted.open(
            dedupes=others["dedupe"], max_per_host=others["max_per_host"], in_flight=in_flight, clock=others["clock"]
        )
        try:
            crawl: type[JobCrawl] = opened.crawl_class or JobCrawl
            return crawl(workforce, handler, options, group, opened, in_flight, sinks=sinks, **others)
        except BaseException:
            opened.close()
            raise

    return make


class _Extras(threading.local):
    """What the handler that runs in a thread has added and emitted; ``None`` where none runs."""

    now: tuple[list[Any], list[Mapping[str, Any]]] | None = None
    is_broken = False  # whether something couldn't be added, for no fault of the handler's


class JobCrawl(Crawl):
    """A crawl of a job; all that ``Crawl`` says holds for it.

    A result, what its handler added and what it emitted are committed in one transaction; a handler that raises has
    added and emitted nothing. What a drain finds waiting, or a stop interrupts, has no result: it waits for the next
    run. Sinks, beside the job's own outputs, are told of a result after it is committed.

    Args:
        job: the job, open; it is closed at the end of ``run``.
        others: as ``Crawl`` takes them.

    Thread-safe as ``Crawl`` is.
    """

    def __init__(
        self,
        workforce: Workforce,
        handler: Callable[[Result, Crawl], None] | None,
        options: RunOptions,
        group: Group,
        job: OpenJob,
        in_flight: int,
        **others: Any,
    ) -> None:
        self._job = job
        self._in_flight = in_flight
        self._extras = _Extras()
        self._is_bound = False  # whether the frontier holds back for it
        group.owes = group.gives_back = True
        options = dataclasses.replace(options, keeps_trail=True, keeps_wire=job.outputs.needs_wire)
        super().__init__(workforce, handler, options, group, **others)
        self.is_instant = (
            handler is None and self._content_types is None and not options.request and options.retry is None
        )
        self._hosts = HostMemory(job.ledger, self, workforce.frontier, self._clock)
        self._clerk = Clerk(
            job,
            self._books,
            self._committed,
            self._given_up,
            self._hand_out,
            self._hosts.note,
            functools.partial(workforce.frontier.look, is_instant=self.is_instant),
            max(in_flight // 2, 1),
        )

    def _new_intake(self, max_per_host: int | None, dedupe: bool) -> JobIntake:
        return JobIntake(self, self._workforce, self._job, self._took)

    def _new_books(self) -> Books:
        return Books(self._clock, self._job.books)

    # The caller's side -------------------------------------------------------------------------------------------

    def add(self, target: str | Target, *, parent: Result | None = None) -> bool:
        """Add a target that a handler found; it is committed with the handler's result.

        Args:
            target: a URL or a target.
            parent: the result that it was found in; gives ``depth`` and ``parent`` to a plain URL.

        Returns:
            Whether it was taken: not where the job has it already, or the crawl is over. A crawl that drains takes it:
            the next run fetches it.

        Raises:
            ConfigError: when the target can't be written as JSON, or has what must not be written down.
        """
        row = row_of_added(found_in(target, parent))
        try:
            if self._is_over or not self._intake.is_new_digest(row[5]):
                return False
        except SinkError as error:
            self._extras.is_broken = True
            self._fail(error)
            raise
        extras = self._extras.now
        if extras is not None:
            extras[0].append(row)
            return True
        return self._keep_apart(Entry(None, None, [row], []))

    def emit(self, item: Mapping[str, Any]) -> None:
        """Write an item to the job's records; it is committed with the handler's result.

        Raises:
            ConfigError: when it isn't a mapping that JSON can say.
        """
        json_of_item(item)
        extras = self._extras.now
        if extras is not None:
            extras[1].append(item)
        else:
            self._keep_apart(Entry(None, None, [], [item]))

    def _keep_apart(self, entry: Entry) -> bool:
        """Keep what no handler's result goes with."""
        with self._lock:
            if self._is_over:
                return False
            self._outstanding += 1
        is_taken = self._clerk.keep([entry])
        if not is_taken:
            self._end(1)
        return is_taken

    @property
    def is_input_done(self) -> bool:
        """Whether all of the input is in the ledger, so that it isn't read any more."""
        return self._job.is_input_done

    @property
    def again(self) -> int:
        """How many failed targets of earlier runs are taken again."""
        return self._job.again

    def close(self) -> None:
        """Let go of a job whose crawl isn't run after all; ``run`` does it by itself. May be called again."""
        self._close()

    # The run's side ----------------------------------------------------------------------------------------------

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether the leg shall be sent; one that is counts as in flight until its result is committed."""
        if self._is_draining:
            return False
        self._job.flight.began(leg.ordinal)
        return True

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Take the one result of each target: handler, then the clerk."""
        if self._handler is None:
            self._finish(*ended)
        else:
            for one in ended:
                self._finish(one)

    def _finish(self, *ended: tuple[Leg, Result]) -> None:
        entries: list[Entry] = []
        back: list[Leg] = []
        for leg, result in ended:
            result = self._as_drained(result)
            if result.reason in GIVEN_BACK:
                back.append(leg)
                continue
            extras: tuple[list[Any], list[Mapping[str, Any]]] = ([], [])
            self._extras.now, self._extras.is_broken = extras, False
            try:
                handled = self._handled(result)
            except BaseException as error:  # to tell of a handler's failure failed: no thread may end of that
                self._fail(error)
                self._extras.is_broken = True
            finally:
                self._extras.now = None
            if self._extras.is_broken:  # its result goes with all that was to be added, or not at all
                self._intake.forget(extras[0])
                back.append(leg)
                continue
            if handled is not result and extras != ([], []):
                self._intake.forget(extras[0])
                extras = ([], [])
            entries.append(Entry(leg, handled, *extras, self._job.outputs.line_of(handled), told_of(leg, handled)))
        if entries and not self._clerk.keep(entries):
            back += [entry.leg for entry in entries if entry.leg is not None]
        if back:
            self._give_back(back)

    def _handled(self, result: Result) -> Result:
        # What was given up after crashes isn't shown to the handler: it may be what ends the process, each time.
        return result if result.reason == "crashes" else super()._handled(result)

    def _give_back(self, legs: Sequence[Leg]) -> None:
        """Leave targets to the next run."""
        self._pay(legs)
        self._end(len(legs))

    def _pay(self, legs: Iterable[Leg]) -> None:
        owed = sum(leg.is_owed for leg in legs)
        if owed:
            self._paid(owed)

    def _paid(self, count: int) -> None:
        """Tell the frontier that so many results are no longer owed, and that there may be more to be begun."""
        if not self._workforce.frontier.paid(count, is_instant=self.is_instant):
            self._clerk.look_soon()

    # The clerk's side --------------------------------------------------------------------------------------------

    def _committed(self, entries: Sequence[Entry], has_come: bool) -> None:
        """Take it that entries are on the disk: tell whom it concerns."""
        for entry in entries:
            if entry.adds:
                self._intake.forget(entry.adds)
        if has_come:
            self._intake.has_strangers = True
        legs = [entry.leg for entry in entries if entry.leg is not None]
        results = [entry.result for entry in entries if entry.result is not None and entry.handed_over is None]
        try:
            if self._sinks:
                self._written(results)
                for entry in entries:
                    for item in entry.items:
                        for sink in self._sinks:
                            sink.emit(item)
            if self._on_result is not None:
                for result in results:
                    self._on_result(result)
        except BaseException as error:  # on_result must not raise; if it does, the crawl ends with that
            self._fail(error)
        finally:
            self._pay(legs)
            self._end(len(entries))

    def _given_up(self, error: BaseException | None, entries: Sequence[Entry]) -> None:
        """Take it that entries can't be written, and nothing can be any more."""
        if error is not None:
            self._fail(error)
        self._pay(entry.leg for entry in entries if entry.leg is not None)
        self._end(len(entries))

    def _hand_out(self) -> None:
        """Move targets from the ledger to the frontier, as far as they help there."""
        if not self._is_draining:
            left = self._intake.refill()
            if left:
                self._give_back(left)
            if self.group.queued:
                self._paid(0)
            self._end_if_held()
        with self._lock:
            if not self._outstanding:
                self._quiet.notify_all()

    def _end_if_held(self) -> None:
        """End the run when nothing is left but what waits for held hosts: the next one may have it."""
        group = self.group
        if not group.told or not self._job.is_input_done or group.queued or self._workforce.running(self):
            return
        if self._clerk.is_empty and self._intake.holds_only_held():
            waiting = self._control.on_hold()
            with self._lock:
                is_over = waiting == self._outstanding  # else something is on its way
            if is_over:
                self.drain()

    def _robots_kept(
        self, origin: str, fetched: Fetched, response: requests.Response | None, trail: tuple[LegNote, ...]
    ) -> None:
        """Keep what a robots.txt said, and the legs for it."""
        status = None if response is None else response.status_code
        text = response.content[:_MOST_ROBOTS_BYTES] if response is not None and fetched.rules is not None else None
        legs = f"[{','.join([note.json for note in trail])}]"
        self._clerk.keep_robots((origin, self._clock.wall(), fetched.how.value, status, text, legs))

    def _took(self, count: int) -> None:
        with self._lock:
            self._outstanding += count

    def _refill(self) -> None:
        self._clerk.wake()

    # The way of a run --------------------------------------------------------------------------------------------

    def _feed(self, seeds: Iterable[str | Target | BadLine]) -> None:
        self._set_out()
        feed(self, self._job, self._clerk, seeds)

    def _set_out(self) -> None:
        """Begin with what waits in the ledger."""
        self._is_bound = True
        self._workforce.frontier.bind(2 * self._in_flight)
        self._hosts.restore()
        self._intake.has_strangers = True
        self._clerk.start()
        self._clerk.wake()

    def _wind_up(self) -> None:
        """Do what is to be done when nothing is fetched any more, while things can still be committed."""

    def _wait(self) -> BaseException | None:
        """Wait until nothing more is to be done; end the job's run."""
        while not self._is_quiet():
            self._clerk.wake()  # it sees to that by itself; should it ever not, it is asked
        self._wind_up()
        self._clerk.finish()
        job = self._job
        failure = self._failure
        with self._lock:
            self._is_over = True
        if not self._clerk.is_failed:
            try:
                left = job.ledger.count_waiting()
                self._books.left(left)
                is_complete = job.is_input_done and not left
                last = Batch(values={"books": json.dumps(self._books.saved())})
                self._clerk.note(last)
                job.end("complete" if is_complete else "interrupted", last, is_complete=is_complete)
            except CrawlPoolError as error:
                failure = failure or error
        return failure

    def _is_quiet(self) -> bool:
        """Wait a while; tell whether all that was begun has ended, and nothing is to be begun."""
        with self._lock:
            if not self._has_ended():
                self._quiet.wait(LOOK_S)
            return self._has_ended()

    def _has_ended(self) -> bool:
        if self._outstanding:
            return False
        return self._is_draining or (self._job.is_input_done and not self._job.waiting and self._clerk.is_empty)

    def _close(self) -> None:
        if self._is_bound:
            self._is_bound = False
            self._workforce.frontier.bind(math.inf)
        try:
            self._intake.close()
        finally:
            self._job.close()
