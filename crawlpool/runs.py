"""Two ways to have work done by a pool's workers: a future for one request, and a lazy map over many."""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.errors import Cancelled, PoolClosed
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.models import Outcome, Result, Target
from crawlpool.settle import dropped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import requests

    from crawlpool.worker import Workforce


class ResponseFuture(concurrent.futures.Future["requests.Response"]):
    """The future of a submitted request.

    ``result()`` returns the response, whatever its status, or raises what the request raised. ``cancel()`` takes back
    a request that still waits; ``abort()`` ends one that is being sent, too. Thread-safe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._abort: Any = None

    def abort(self) -> bool:
        """Give the request up, even in the middle of its transfer.

        Returns:
            Whether the future was still undone. It ends as cancelled where it waited, else with ``Cancelled``.
        """
        if self.cancel():
            return True
        if self.done() or self._abort is None:
            return False
        self._abort()
        return True


class SubmitRun:
    """The run of one submitted request."""

    def __init__(self, group: Group, options: RunOptions, future: ResponseFuture) -> None:
        self.group = group
        self.options = options
        self.future = future

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Accept any answer; a cancelled future's is given up here."""
        if self.future.cancelled():
            raise Cancelled("the future was cancelled", request=response.request)

    def settled(self, leg: Leg, result: Result) -> None:
        """Hand the result to the future."""
        future = self.future
        if not future.running() and not future.set_running_or_notify_cancel():
            return
        if result.error is not None:
            future.set_exception(result.error)
        elif result.response is not None:
            future.set_result(result.response)
        else:
            future.set_exception(PoolClosed("the session pool was closed before the request was sent"))


class MapRun:
    """The results of many targets, one after the other: input is read as needed, output is bounded.

    Args:
        workforce: who does the work.
        targets: plain URLs or ``Target`` objects; read lazily, in the consumer's thread.
        group: capacity ``None``: the window bounds it.
        options: how the legs are sent.
        window: targets that may be under way or wait to be consumed.
        ordered: whether results come in the order of the input.

    An iterator for one thread. When the consumer stops early, closes it or drops it, what waits is dropped and what
    runs is aborted.
    """

    def __init__(
        self,
        workforce: Workforce,
        targets: Iterable[str | Target],
        group: Group,
        options: RunOptions,
        window: int,
        ordered: bool,
    ) -> None:
        self.group = group
        self.options = options
        self._workforce = workforce
        self._source = iter(targets)
        self._window = window
        self._ordered = ordered
        # Guards _ready and _is_over; its condition is waited on by the consumer.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._ready: collections.deque[tuple[Leg, Result]] = collections.deque()
        self._is_over = False
        # The consumer's own, without a lock: legs in order of input, results that came before their turn.
        self._taken: collections.deque[tuple[Leg, Result]] = collections.deque()
        self._sequence: collections.deque[Leg] = collections.deque()
        self._early: dict[Leg, Result] = {}
        self._first_of: dict[int, Leg] = {}
        self._out = 0
        self._is_exhausted = False

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Accept any answer."""

    def settled(self, leg: Leg, result: Result) -> None:
        """Take a result from a worker."""
        with self._lock:
            if not self._is_over:
                self._ready.append((leg, result))
                self._news.notify()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        try:
            result = self._next()
        except BaseException:
            self.close()
            raise
        if result is None:
            self._is_over = True
            raise StopIteration
        return result

    def _next(self) -> Result | None:
        while True:
            self._fill()
            if self._ordered and self._sequence:
                result = self._early.pop(self._sequence[0], None)
                if result is not None:
                    self._sequence.popleft()
                    self._out -= 1
                    return result
            if not self._taken:
                if self._out == len(self._early):
                    return None
                self._taken = self._wait()
            leg, result = self._taken.popleft()
            if not self._ordered:
                self._out -= 1
                return result
            self._early[self._first_of.pop(id(result.target))] = result

    def _fill(self) -> None:
        # While results wait to be consumed, only as much input is read as keeps the workers busy: input that blocks
        # must not hold back what is there.
        while not self._is_exhausted and self._out < self._window:
            if (self._taken or self._ready) and self.group.queued >= self._window // 4:
                return
            try:
                target = Target.of(next(self._source))
            except StopIteration:
                self._is_exhausted = True
                return
            leg = Leg.first(self, target)
            if self._ordered:
                self._sequence.append(leg)
                self._first_of[id(target)] = leg
            self._out += 1
            if not self._workforce.put(leg):
                raise PoolClosed("the session pool is closed")

    def _wait(self) -> collections.deque[tuple[Leg, Result]]:
        with self._lock:
            while not self._ready:
                self._news.wait()
            taken, self._ready = self._ready, collections.deque()
            return taken

    def close(self) -> None:
        """Stop: drop what waits, abort what runs. May be called again."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        self._is_exhausted = True
        self._workforce.frontier.drop(self)
        self._workforce.abort(self)

    def __del__(self) -> None:
        if not self._is_over:
            self.close()


def give_up(legs: Iterable[Leg]) -> None:
    """Settle legs that a closing pool found waiting."""
    for leg in legs:
        error = PoolClosed("the session pool was closed before the request was sent")
        kept = dropped(leg, "cancelled")
        leg.run.settled(leg, Result(leg.target, Outcome.FAILED, "cancelled", error, None, kept.redirects, leg.legs))
