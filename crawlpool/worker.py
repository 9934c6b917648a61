"""The worker threads of a pool and their loop: take legs, start them, settle what completed."""

from __future__ import annotations

import collections
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool.attend import Attendant, tell_refusals
from crawlpool.detour import by_another
from crawlpool.errors import PoolClosed, TakenBack
from crawlpool.events import carry, logger, tell
from crawlpool.evidence import is_logged, keep_trail, log_legs, note_of
from crawlpool.exchange import can_resend
from crawlpool.frontier import Frontier, Offered
from crawlpool.leg import Leg
from crawlpool.names import Names, goes_by_proxy
from crawlpool.politeness import AGAIN_S, UNSENT, How, Rate
from crawlpool.settle import begin, came_of, conclude, dropped, excused, starved, unsent
from crawlpool.shortage import is_starved
from crawlpool.transport.base import Completion
from crawlpool.transport.inbox import Inbox, has_gil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawlpool.clock import Clock
    from crawlpool.leg import Run
    from crawlpool.models import Result
    from crawlpool.pool import BlockingPool
    from crawlpool.session import Session
    from crawlpool.shared import Shared
    from crawlpool.trail import LegNote
    from crawlpool.transport.base import Lane

_log = logger("worker")
_START_TRIES, _START_S = 500, 0.002  # how long a thread may take to start


class Workforce:
    """Up to ``pool.threads`` worker threads over one frontier, started as work comes.

    Thread-safe.
    """

    def __init__(self, pool: BlockingPool, size: int) -> None:
        self._pool = pool
        self._size = size
        shared = pool._shared
        settings = shared.settings
        self.frontier = Frontier(
            pool._shared.clock,
            settings.running_at_most if settings.is_curl else None,
            None if settings.rate is None else Rate(settings.rate),
            shared.exits,
            None if shared.resolver is None else Names(shared.resolver, functools.partial(goes_by_proxy, shared)),
        )
        self._attendant = None
        if settings.is_curl and has_gil() and not pool._shared.retry.asks_every_response:
            self._attendant = Attendant(pool, self.frontier.take_now, self._start, self._settle, self._lane_of)
            self.frontier.poke = self._poke
        # Who goes off into a user's code sees that somebody stays: it may wait for what only another worker can finish.
        self._inbox = Inbox(self.frontier.call, self._attend, self._ensure_worker)
        self._local = threading.local()
        # Guards _threads, _running and _is_closed.
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._running: set[Leg] = set()
        self._is_closed = False
        # Runs whose consumer is gone. A deque and no lock: told from a destructor, which must not wait.
        self._abandoned: collections.deque[Run] = collections.deque()

    @property
    def threads(self) -> int:
        """How many worker threads live."""
        return sum(thread.is_alive() for thread in list(self._threads))

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def is_worker(self) -> bool:
        """Tell whether the calling thread is one of these workers; it must never wait for room in the queue."""
        return getattr(self._local, "is_worker", False)

    def put(self, leg: Leg, *, block: bool = True) -> bool:
        """Queue a leg and see that somebody works; return whether it was queued, as ``Frontier.put`` does."""
        return self.offer(leg, block=block, anyway=True) is Offered.QUEUED

    def put_all(self, legs: Sequence[Leg], has_more_of: str | None = None, *, wakes: bool = True) -> bool:
        """Queue legs of one run in one go, and see that somebody works; as ``Frontier.put_all`` does."""
        is_queued = self.frontier.put_all(legs, has_more_of, wakes=wakes)
        self._ensure_workers(len(legs))
        return is_queued

    def offer(self, leg: Leg, *, block: bool, anyway: bool = False) -> Offered:
        """Queue a leg and see that somebody works; as ``Frontier.offer`` does."""
        offered = self.frontier.offer(leg, block=False, anyway=anyway)
        if offered in (Offered.QUEUED, Offered.FULL):
            self._ensure_worker()
        if offered is Offered.FULL and block:
            offered = self.frontier.offer(leg, block=True, anyway=anyway)
        return offered

    def running(self, run: Run) -> int:
        """Return how many legs of a run are being sent or handled."""
        with self._lock:
            return sum(leg.run is run for leg in self._running)

    def abort(self, is_wanted: object) -> None:
        """End the running legs of a run, or the one leg, that ``is_wanted`` is."""
        with self._lock:
            legs = [leg for leg in self._running if leg is is_wanted or leg.run is is_wanted]
        for leg in legs:
            leg.abort()

    def abandon(self, run: Run) -> None:
        """Have a run stopped whose consumer is gone, and nobody waits for its results. Takes no lock.

        Of what waits nothing is sent any more; ``end_abandoned`` ends what runs.
        """
        run.group.is_stopped = True
        self._abandoned.append(run)

    def end_abandoned(self) -> None:
        """Drop and abort what is left of runs that were abandoned; the pool's watchdog calls this."""
        while self._abandoned:
            run = self._abandoned.popleft()
            self.frontier.drop(run)
            self.abort(run)

    def close(self) -> list[Leg]:
        """Stop: no leg is taken any more. Return those that still waited; ``join`` waits for the threads."""
        with self._lock:
            self._is_closed = True
        return self.frontier.close()

    def join(self) -> None:
        """Wait until every worker has ended. A worker doesn't wait: two that close the pool would for each other."""
        if self.is_worker():
            return
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            _join(thread)

    def _ensure_workers(self, legs: int) -> None:
        for _ in range(min(legs, self._size)):
            self._ensure_worker()

    def _ensure_worker(self) -> None:
        if len(self._threads) >= self._size or self.frontier.idle > len(self.frontier):
            return
        with self._lock:
            if self._is_closed or len(self._threads) >= self._size:
                return
            number = len(self._threads) + 1
            thread = threading.Thread(target=self._work, name=f"crawlpool-worker-{number}", daemon=True)
            self._threads.append(thread)  # first: Ctrl-C may come while it starts
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left; those that there are will do it
                self._threads.remove(thread)
                if not self._threads:
                    raise

    def _work(self) -> None:
        self._local.is_worker = True
        session = self._own_session()
        if session is None:
            return  # closed before this thread came to anything; ``close`` settles what waits
        session.is_working = True
        lane = self._lane_of(session)
        frontier = self.frontier
        while (legs := frontier.take(lane.room(), lane.has_news)) is not None:
            try:
                if legs:
                    self._settle(session, self._start(session, lane, legs))
                completed = lane.completed()
                if completed:
                    self._settle(session, completed)
            except Exception:  # a fault of ours, or no memory: the thread is needed for all that comes
                _log.exception("a worker met a fault")
                carry(None)
            lane.settled()

    def _own_session(self) -> Session | None:
        """Return this thread's session; ``None`` where the pool is closed."""
        while True:
            try:
                return self._pool.session
            except PoolClosed:
                return None
            except Exception:  # no memory, for one: others that there are go on meanwhile, and this one is needed, too
                _log.exception("a worker can't have a session yet")
                if self._pool._shared.shutdown.wait(AGAIN_S):
                    return None

    def _attend(self, ended: Sequence[Any]) -> Sequence[Any]:
        tell_refusals(ended, self._pool._shared.clock, self.frontier.refused)
        return ended if self._attendant is None else self._attendant(ended)

    def _poke(self) -> bool:
        """Have the I/O thread begin what may be begun; return whether there is one that will."""
        engine, attendant = self._pool._shared.engine, self._attendant
        return engine is not None and attendant is not None and engine.call(attendant.go_on)

    def _lane_of(self, session: Session) -> Lane:
        return session.lane(self._inbox)

    def _start(self, session: Session, lane: Lane, legs: list[Leg]) -> list[Completion]:
        """Start legs; return the completions of those that came to nothing."""
        with self._lock:
            self._running.update(legs)
        ended: list[Completion] = []
        fresh = 0
        plan = session.plan()
        carried = None  # what this thread's log lines carry: mostly nothing, and else the same for many legs
        for position, leg in enumerate(legs, 1):
            if leg.run.options.log_fields is not carried:
                carry(carried := leg.run.options.log_fields)
            fresh += leg.request is None and leg.verdict is None
            exchange = begin(leg, session, plan)
            if isinstance(exchange, Completion):
                ended.append(exchange)
                continue
            if position < len(legs) and lane.blocks(exchange):
                self._give_back(legs[position:])  # others may be free while this worker waits
                del legs[position:]
            try:
                lane.start(exchange)
            except BaseException as error:  # SystemExit of a response hook, for one: it ends the target, not us
                ended.append(Completion(exchange, None, error, 0.0))
        if carried is not None:
            carry(None)
        session._shared.budget.deposit(fresh)
        return ended

    def _give_back(self, legs: list[Leg]) -> None:
        """Queue legs again that were taken and not begun."""
        with self._lock:
            self._running.difference_update(legs)
        for leg in self.frontier.settle([(leg, leg) for leg in legs]):
            leg.run.settled([(leg, dropped(leg, "interrupted"))])
        self._ensure_workers(len(legs))  # while we had them all, there seemed to be nothing for another to do

    def _settle(self, session: Session, ended: list[Completion], *, comes_back: bool = True) -> None:
        if not ended:
            return
        follows: list[tuple[Leg, Leg | None]] = []
        results: dict[Run, list[tuple[Leg, Result]]] = {}
        is_quick = True
        clock = session._shared.clock
        end_s = clock.monotonic()  # before anybody is told
        logged: list[tuple[LegNote, str, Mapping[str, Any] | None]] | None = [] if is_logged() else None
        carried = None
        for completion in ended:
            leg: Leg = completion.exchange.token
            if leg.run.options.log_fields is not carried:
                carry(carried := leg.run.options.log_fields)
            verdict = self._verdict_on(leg, session, completion)
            if logged is not None or leg.run.options.keeps_trail:
                self._note(leg, completion, verdict, end_s, clock, logged)
            if isinstance(verdict, Leg):
                follows.append((leg, verdict))
            else:
                follows.append((leg, None))
                if leg.robots is not None:
                    verdict.note("robots", leg.robots)
                if leg.is_blocked:
                    verdict.note("is_blocked", True)
                results.setdefault(leg.run, []).append((leg, verdict))
                is_quick = is_quick and completion.exchange.is_quick
        if carried is not None:
            carry(None)
        # The hosts are free from now on; what a handler does with the result isn't their time.
        for again in self.frontier.settle(follows, wakes=not (is_quick and comes_back)):
            results.setdefault(again.run, []).append((again, dropped(again, "interrupted")))
        if logged:
            log_legs(logged)
        for event, host in self.frontier.news():
            tell(_log, event, host, next((leg.run.options.log_fields for leg, _ in follows if leg.host == host), None))
        session.is_working = False  # what a handler asks for waits for its turn
        carried = None
        for run, its in results.items():
            if run.options.log_fields is not carried:
                carry(carried := run.options.log_fields)
            try:
                run.settled(its)
            except BaseException:  # a worker outlives any target; a run that raises is a fault of ours, so say it
                _log.exception("a run failed to take results", hosts=sorted({leg.host for leg, _ in its}))
        if carried is not None:
            carry(None)
        session.is_working = True
        with self._lock:
            self._running.difference_update(leg for leg, _ in follows)
        for leg, _ in follows:
            leg.exchange = None  # it knows its leg: without this they wait for the garbage collector, body and all

    def _note(
        self,
        leg: Leg,
        completion: Completion,
        verdict: Leg | Result,
        end_s: float,
        clock: Clock,
        logged: list[tuple[LegNote, str, Mapping[str, Any] | None]] | None,
    ) -> None:
        """Put a leg that has ended on record, before it counts as ended: who takes the next one has its trail."""
        try:
            note = note_of(leg, completion, end_s, clock)
        except Exception:  # a fault of ours; it costs no target its result
            _log.exception("a leg could not be put on record", host=leg.host)
            note = None
        if note is not None and logged is not None:
            logged.append((note, leg.target.url, leg.run.options.log_fields))
        if leg.run.options.keeps_trail:
            keep_trail(leg, note, verdict if isinstance(verdict, Leg) else None)

    def _verdict_on(self, leg: Leg, session: Session, completion: Completion) -> Leg | Result:
        """Return what follows on a leg that has ended, and note what came of it for its host."""
        shared = session._shared
        clock, exits = shared.clock, shared.exits
        if completion.error is not None:
            if isinstance(completion.error, TakenBack):
                leg.came = UNSENT
                return unsent(leg, 0.0)
            again = self._starved(leg, shared, completion.error)
            if again is not None:
                return again
        elif shared.shortage.is_on and completion.response is not None:
            shared.shortage.passed()
        if exits is not None:
            again = by_another(leg, completion, exits, clock.monotonic())
            if again is not None:
                return again
        if leg.seat.limits is not None:
            leg.came = came_of(leg, completion, clock)
            if leg.came.how is How.REFUSED and not leg.is_told:  # now: others ask on, as long as nobody says so
                self.frontier.refused(leg)
            elif leg.came.how is How.UNREACHABLE and self.frontier.excuses(leg):
                leg.came = UNSENT
                return excused(leg, clock.monotonic())
        return conclude(leg, session, completion)

    @staticmethod
    def _starved(leg: Leg, shared: Shared, error: BaseException) -> Leg | None:
        """Return the leg that follows on one that wasn't sent for want of a descriptor; ``None`` for any other."""
        if leg.exchange is None:
            return None
        request = leg.exchange.request
        if not is_starved(error, request):
            if shared.shortage.is_on:
                shared.shortage.passed()
            return None
        if shared.shortage.met():
            tell(_log, "shortage", "")
        if shared.shortage.is_hopeless() or not can_resend(request):
            return None
        leg.came = UNSENT
        return starved(leg, shared.clock.monotonic())


def _join(thread: threading.Thread) -> None:
    """Wait for a thread's end; one whose start was broken off by Ctrl-C may have begun, and not have said so yet."""
    for _ in range(_START_TRIES):
        try:
            thread.join()
        except RuntimeError:
            time.sleep(_START_S)
        else:
            return
