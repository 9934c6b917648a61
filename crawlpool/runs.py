"""Two ways to have work done by a pool's workers: a future for one request, and a lazy map over many."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from crawlpool.clock import LOOK_S
from crawlpool.errors import Cancelled, CrawlPoolError, PoolClosed
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.models import Outcome, Result, Target
from crawlpool.settle import dropped, first_leg

if TYPE_CHECKING:
    import requests

    from crawlpool.limits import HostLimits
    from crawlpool.sites import Sites
    from crawlpool.worker import Workforce


class ResponseFuture(concurrent.futures.Future["requests.Response"]):
    """The future of a submitted request.

    ``result()`` returns the response, whatever its status, or raises what the request raised. ``cancel()`` takes back
    a request that still waits; ``abort()`` ends one that is being sent, too. Thread-safe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: SubmitRun | None = None

    def result(self, timeout: float | None = None) -> requests.Response:
        """Return the response, waiting for it; as ``concurrent.futures.Future.result``, which see.

        Args:
            timeout: seconds to wait at most; ``None`` for as long as it takes.

        Raises:
            TimeoutError: when it has not come by then (``concurrent.futures.TimeoutError`` on CPython 3.10).
            CancelledError: when the request was taken back.
            Exception: what the request raised.
        """
        return super().result(self._waited(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the request raised, or ``None``; waits and raises as ``result`` does."""
        return super().exception(self._waited(timeout))

    def _waited(self, timeout: float | None) -> float | None:
        """Wait, with a look for signals now and then; return what is left to be waited: nothing."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.done():
            left_s = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if left_s <= 0:
                return 0.0
            with contextlib.suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
                super().exception(left_s)
        return timeout

    def cancel(self) -> bool:
        """Take the request back if no worker has begun with it; return whether the future is cancelled now."""
        is_cancelled = super().cancel()
        if is_cancelled and self._run is not None:
            self._run.take_back()
        return is_cancelled

    def abort(self) -> bool:
        """Give the request up, even in the middle of its transfer.

        Returns:
            Whether the future was still undone. It ends as cancelled where it waited, else with ``Cancelled``.
        """
        if self.done():
            return False
        if self.cancel():
            return True
        if self._run is not None:
            self._run.abort()
        return True


class Submitted(Group):
    """The group of all submitted requests of a pool; knows when each of them has its outcome."""

    def __init__(self, capacity: int, limits: HostLimits | None, sites: Sites) -> None:
        super().__init__(capacity, limits, sites)
        # Guards _undone; _none_left is waited on by those who close the pool.
        self._lock = threading.Lock()
        self._none_left = threading.Condition(self._lock)
        self._undone = 0

    def began(self) -> None:
        """Count a request that is about to be queued."""
        with self._lock:
            self._undone += 1

    def ended(self) -> None:
        """Count one that has its outcome."""
        with self._lock:
            self._undone -= 1
            if not self._undone:
                self._none_left.notify_all()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until every request has its outcome, at most ``timeout_s`` seconds; return whether they have."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while self._undone:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._none_left.wait(LOOK_S if left is None else min(left, LOOK_S))
            return True


class SubmitRun:
    """The run of one submitted request."""

    is_quick = False  # a callback of the future may wait for another one
    is_instant = False
    is_choosy = False

    def __init__(self, workforce: Workforce, group: Submitted, options: RunOptions, future: ResponseFuture) -> None:
        self.group = group
        self.options = options
        self._workforce = workforce
        self._future = future
        self._is_begun = False  # belongs, as the leg does, to the worker that has it
        self._is_aborted = False  # only ever set, before the leg is looked for
        future._run = self

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether the leg shall be sent: not one of a future that was cancelled or aborted."""
        return not self._is_aborted and self._begin()

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Accept any answer."""

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Hand the result to the future."""
        for _, result in ended:
            try:
                self._hand_over(result)
            finally:
                self.group.ended()

    def _hand_over(self, result: Result) -> None:
        if not self._begin():
            return
        if result.error is not None:
            self._future.set_exception(result.error)
        elif result.response is not None:
            self._future.set_result(result.response)
        else:
            self._future.set_exception(Cancelled("the request was given up before it was sent"))

    def take_back(self) -> None:
        """Take the leg out of the queue if it waits there."""
        for leg in self._workforce.frontier.take_back(self):
            self.settled([(leg, dropped(leg, "cancelled"))])

    def abort(self) -> None:
        """End the request, wherever it is."""
        self._is_aborted = True
        self._workforce.abort(self)
        self.take_back()  # a retry that backs off

    def _begin(self) -> bool:
        if not self._is_begun:
            self._is_begun = True
            return self._future.set_running_or_notify_cancel()
        return not self._future.cancelled()


class MapRun:
    """The workers' side of a map: takes results and hands them over in batches. Thread-safe."""

    is_quick = True
    is_choosy = False

    def __init__(self, group: Group, options: RunOptions) -> None:
        self.group = group
        self.options = options
        self.is_instant = not options.request and options.retry is None
        # Guards _ready; its condition is waited on by the consumer.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._ready: collections.deque[tuple[Leg, Result]] = collections.deque()

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether somebody waits for the result."""
        return not self.group.is_stopped

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Accept any answer."""

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Take results from a worker."""
        with self._lock:
            if not self.group.is_stopped:
                self._ready.extend(ended)
                self._news.notify()

    @property
    def has_news(self) -> bool:
        """Whether results wait to be taken."""
        return bool(self._ready)

    def wait(self) -> collections.deque[tuple[Leg, Result]]:
        """Return the results that came since the last call; wait for one."""
        with self._lock:
            while not self._ready:
                self._news.wait(LOOK_S)
            taken, self._ready = self._ready, collections.deque()
            return taken


_SLOW_S = 0.005  # for so long input is read while results wait

#: What iterates over something that is in memory as a whole: its next one is there at once.
_NOTHING: tuple[Iterable[str], ...] = ([], (), set(), {}, {"": ""}.values())
_IN_MEMORY = tuple(type(iter(nothing)) for nothing in _NOTHING)


class MapResults(Iterator[Result]):
    """The results of many targets, one after the other: input is read as needed, output is bounded.

    Args:
        workforce: who does the work.
        targets: plain URLs or ``Target`` objects; read lazily, in the consumer's thread. What it raises ends the map.
        run: its group has no capacity: the window bounds it.
        window: targets that may be under way or wait to be consumed.
        ordered: whether results come in the order of the input.

    An iterator for one thread. When its loop is left early, it is closed or an exception comes out of it, what waits is
    dropped and what runs is aborted. One that is just dropped, as by ``break``, has this done by another thread, within
    a quarter of a second; nothing new is sent from the first moment on.
    """

    _is_over = True  # until there is anything to be closed

    def __init__(
        self, workforce: Workforce, targets: Iterable[str | Target], run: MapRun, window: int, ordered: bool
    ) -> None:
        self._source = iter(targets)
        self._is_in_memory = isinstance(self._source, _IN_MEMORY)
        self._workforce = workforce
        self._run = run
        self._window = window
        self._ordered = ordered
        self._taken: collections.deque[tuple[Leg, Result]] = collections.deque()
        self._early: dict[int, Result] = {}  # results that came before their turn, by ordinal
        self._read = 0  # targets read, results handed out, targets under way or waiting to be consumed
        self._given = 0
        self._out = 0
        self._is_exhausted = False
        self._is_over = False
        self._pid = os.getpid()
        self._consumer = threading.Lock()  # held during a `next`; guards nothing, but tells a second consumer

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        if self._is_over:
            raise StopIteration
        if os.getpid() != self._pid:
            self._is_over = True  # not closed: the locks that would take may be held for ever, by threads not here
            raise PoolClosed("a map goes on in the process that began it; a forked child makes one of its own")
        if not self._consumer.acquire(blocking=False):
            raise CrawlPoolError("a map is iterated by one thread; give each thread a map of its own")
        try:
            result = self._next()
        except BaseException:
            self.close()
            raise
        finally:
            self._consumer.release()
        if result is None:
            self._is_over = True
            raise StopIteration
        return result

    def close(self) -> None:
        """Stop: drop what waits, abort what runs. May be called again."""
        if not self._is_over:
            self._is_over = True
            self._workforce.frontier.drop(self._run)
            self._workforce.abort(self._run)

    def __del__(self) -> None:
        # Locks may be held here, by this very thread: a garbage collection can come in the middle of anything.
        if not self._is_over:
            self._workforce.abandon(self._run)

    def _next(self) -> Result | None:
        while True:
            self._fill()
            if self._ordered and self._given in self._early:
                return self._give(self._early.pop(self._given))
            if not self._taken:
                if self._out == len(self._early):
                    return None
                self._taken = self._run.wait()
            leg, result = self._taken.popleft()
            if not self._ordered:
                return self._give(result)
            self._early[leg.ordinal] = result

    def _give(self, result: Result) -> Result:
        self._given += 1
        self._out -= 1
        return result

    def _fill(self) -> None:
        # While results wait to be consumed, only as much input is read as keeps the workers busy, and none that takes
        # its time: input that blocks must not hold back what is there.
        slow_at = time.monotonic() + _SLOW_S
        while not self._is_exhausted and self._out < self._window:
            has_results = self._taken or self._run.has_news
            if has_results and (self._run.group.queued >= self._window // 4 or time.monotonic() >= slow_at):
                return
            if self._is_in_memory:
                self._fill_at_once()
                return
            try:
                given = next(self._source)
            except StopIteration:
                self._is_exhausted = True
                return
            leg = first_leg(self._run, given, self._read)
            self._read += 1
            self._out += 1
            if not self._workforce.put(leg):
                raise PoolClosed("the session pool is closed")

    def _fill_at_once(self) -> None:
        """Read as much as there is room for: from a list there is nothing to wait for."""
        room = self._window - self._out
        legs = [
            first_leg(self._run, given, ordinal)
            for ordinal, given in enumerate(itertools.islice(self._source, room), self._read)
        ]
        self._is_exhausted = len(legs) < room
        self._read += len(legs)
        self._out += len(legs)
        if legs and not self._workforce.put_all(legs):
            raise PoolClosed("the session pool is closed")


def give_up(legs: Iterable[Leg]) -> None:
    """Settle legs that a closing pool found waiting."""
    for leg in legs:
        error = PoolClosed("the session pool was closed before the request was sent")
        kept = dropped(leg, "cancelled")
        result = Result(leg.target, Outcome.FAILED, "cancelled", error, None, kept.redirects, leg.legs)
        leg.run.settled([(leg, result)])
