"""The frontier: fair, bounded, never too early, and no wake-up lost."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crawlpool.errors import ErrorKind
from crawlpool.frontier import Frontier
from crawlpool.leg import Leg
from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, UNSENT, Came
from tests.gates import PATIENCE_S, ListRun, Threads, until
from tests.kit import HandClock

ONE_EACH = HostLimits(concurrency=1)


def urls(legs: list[Leg]) -> list[str]:
    return [leg.target.url for leg in legs]


def test_hosts_take_turns() -> None:
    """A host with a thousand legs holds no other back: the other's leg is the second that is taken."""
    frontier, run = Frontier(), ListRun()
    for number in range(1000):
        frontier.put(run.leg(f"http://big/{number}"))
    frontier.put(run.leg("http://small/"))
    assert urls(frontier.take(3)) == ["http://big/0", "http://small/", "http://big/1"]


def test_turns_hold_over_single_takes() -> None:
    """Hosts take turns also when legs are taken one by one and settled between."""
    frontier, run = Frontier(), ListRun(limits=ONE_EACH)
    for host in "abc":
        for number in range(3):
            frontier.put(run.leg(f"http://{host}/{number}"))
    seen = []
    for _ in range(9):
        (leg,) = frontier.take(1)
        seen.append(leg.host)
        frontier.settle([(leg, None)])
    assert sorted(seen[:3]) == sorted(seen[3:6]) == sorted(seen[6:]) == ["a", "b", "c"]


def test_a_host_has_no_more_than_its_limit() -> None:
    """Of a host with a limit of two, no third leg is handed out before one has ended."""
    frontier, run = Frontier(), ListRun(limits=HostLimits(concurrency=2))
    for number in range(4):
        frontier.put(run.leg(f"http://h/{number}"))
    first = frontier.take(10)
    assert urls(first) == ["http://h/0", "http://h/1"]
    frontier.settle([(first[0], None)])
    assert urls(frontier.take(10)) == ["http://h/2"]


def test_higher_priority_goes_first_then_order_of_arrival() -> None:
    """Among the legs of one host the higher priority goes first; equals go in the order in which they came."""
    frontier, run = Frontier(), ListRun()
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        frontier.put(run.leg(f"http://h/{name}", priority))
    assert [url[-1] for url in urls(frontier.take(5))] == list("bdace")


def test_what_is_excused_keeps_its_hosts_delay() -> None:
    """While it isn't known whether the outage is ours no host is tried faster than its limits allow."""
    clock = HandClock()
    frontier, run = Frontier(clock), ListRun(limits=HostLimits(delay_s=2.0))
    hosts = [f"h{number}.example" for number in range(12)]
    for name in hosts * 3:
        frontier.put(run.leg(f"http://{name}/"))
    answered = frontier.take(12)
    for leg in answered:
        leg.came = ANSWERED
    frontier.settle([(leg, None) for leg in answered])
    clock.tick(2.0)
    tried, excused = frontier.take(12), 0
    assert len(tried) == 12
    for leg in tried:
        leg.came = Came.unreachable(ErrorKind.CONNECT)
        if frontier.excuses(leg):
            leg.came = UNSENT
            excused += 1
    frontier.settle([(leg, None) for leg in tried])
    assert excused > 0
    clock.tick(1.9)
    assert frontier.take(12, lambda: True) == []
    clock.tick(0.1)
    assert len(frontier.take(12, lambda: True) or ()) == 12


def test_a_leg_never_runs_before_its_time() -> None:
    """A leg with a time is handed out when the clock has come to it and not before; the wait is told."""
    clock = HandClock()
    frontier, run = Frontier(clock), ListRun()
    frontier.put(run.leg("http://h/later", not_before=clock.now_s + 5))
    frontier.put(run.leg("http://h/now"))
    assert urls(frontier.take(5)) == ["http://h/now"]
    clock.tick(4.9)
    frontier.put(run.leg("http://h/between"))
    assert urls(frontier.take(5)) == ["http://h/between"]
    clock.tick(0.2)
    (late,) = frontier.take(5)
    assert late.target.url == "http://h/later"
    assert late.waited_s == pytest.approx(5.1)


def test_put_refuses_when_it_must_not_wait() -> None:
    """A full group refuses a leg that may not wait, and other groups still have room."""
    frontier, full, other = Frontier(), ListRun(capacity=1), ListRun(capacity=1)
    assert frontier.put(full.leg("http://h/1"))
    assert not frontier.put(full.leg("http://h/2"), block=False)
    assert frontier.put(other.leg("http://h/3"), block=False)
    assert len(frontier) == 2


def test_put_waits_for_room_in_its_own_group() -> None:
    """Who waits for room is woken by a take of its own group, whoever else waits for another's."""
    frontier = Frontier()
    full, mine = ListRun(capacity=1), ListRun(capacity=1)
    frontier.put(full.leg("http://full/1", not_before=time.monotonic() + 3600))
    frontier.put(mine.leg("http://mine/1"))
    done = threading.Event()

    def put_mine() -> None:
        assert frontier.put(mine.leg("http://mine/2"))
        done.set()

    with Threads() as threads:
        threads.start(
            lambda: frontier.put(full.leg("http://full/2"))
        )  # the first in the line, and its group stays full
        until(lambda: full.group in frontier._rooms._rooms)
        threads.start(put_mine)
        until(lambda: mine.group in frontier._rooms._rooms)
        assert urls(frontier.take(1)) == ["http://mine/1"]
        assert done.wait(PATIENCE_S)
        frontier.close()


def test_settle_queues_what_follows_whatever_the_bound() -> None:
    """A retry or redirect of a target under way is queued though its group is full; else workers could lock up."""
    frontier, run = Frontier(), ListRun(capacity=1)
    frontier.put(run.leg("http://h/1"))
    (leg,) = frontier.take()
    frontier.put(run.leg("http://h/2"))
    assert frontier.settle([(leg, run.leg("http://h/again"))]) == []
    assert len(frontier) == 2


def test_drop_stops_one_run() -> None:
    """Dropping a run gives back its waiting legs, ready and later ones, and leaves the others'."""
    clock = HandClock()
    frontier, run, other = Frontier(clock), ListRun(), ListRun()
    frontier.put(run.leg("http://a/1"))
    frontier.put(run.leg("http://b/2", not_before=clock.now_s + 1))
    frontier.put(other.leg("http://a/3"))
    assert sorted(urls(frontier.drop(run))) == ["http://a/1", "http://b/2"]
    assert not frontier.put(run.leg("http://a/4"))
    assert urls(frontier.take(5)) == ["http://a/3"]
    assert len(frontier) == 0


def test_drop_wakes_who_waits_for_room() -> None:
    """A feeder that waits for room in a run that is dropped learns that its leg isn't queued."""
    frontier, run = Frontier(), ListRun(capacity=1)
    frontier.put(run.leg("http://h/1"))
    answers: list[bool] = []
    with Threads() as threads:
        threads.start(lambda: answers.append(frontier.put(run.leg("http://h/2"))))
        until(lambda: run.group in frontier._rooms._rooms)
        frontier.drop(run)
    assert answers == [False]


def test_take_back_leaves_the_group_going() -> None:
    """Taking a run's legs back frees their room and doesn't stop its group."""
    frontier, run = Frontier(), ListRun(capacity=1)
    leg = run.leg("http://h/1")
    frontier.put(leg)
    assert frontier.take_back(run) == [leg]
    assert frontier.put(run.leg("http://h/2"), block=False)


def test_close_ends_every_wait() -> None:
    """Closing wakes takers with nothing and putters with a refusal, and gives back what waited."""
    frontier, run = Frontier(), ListRun(capacity=1)
    waiting = run.leg("http://h/1", not_before=time.monotonic() + 3600)
    frontier.put(waiting)
    taken: list[list[Leg] | None] = []
    put: list[bool] = []
    with Threads() as threads:
        threads.start(lambda: taken.append(frontier.take()), 3)
        threads.start(lambda: put.append(frontier.put(run.leg("http://h/2"))))
        until(lambda: frontier.idle == 3 and run.group in frontier._rooms._rooms)
        assert frontier.close() == [waiting]
    assert taken == [None, None, None]
    assert put == [False]


def test_a_leg_settles_after_close() -> None:
    """A leg that was running when the frontier closed settles, also when its host had more that waited."""
    frontier, run = Frontier(), ListRun()
    for number in range(3):
        frontier.put(run.leg(f"http://h/{number}"))
    (leg,) = frontier.take()
    assert len(frontier.close()) == 2
    again = run.leg("http://h/again")
    assert frontier.settle([(leg, again)]) == [again]
    assert frontier.take() is None


def test_legs_that_fall_due_together_wake_a_worker_each() -> None:
    """When several legs fall due at once, every idle worker gets one: the first to wake wakes the next."""
    frontier, run, count = Frontier(), ListRun(), 4
    taken: list[Leg] = []
    all_in = threading.Barrier(count + 1)

    def work() -> None:
        taken.extend(frontier.take())
        all_in.wait(PATIENCE_S)  # no worker comes back before each has a leg

    with Threads() as threads:
        threads.start(work, count)
        until(lambda: frontier.idle == count)
        at = time.monotonic() + 0.05
        for number in range(count):
            frontier.put(run.leg(f"http://h{number}/", not_before=at))
        all_in.wait(PATIENCE_S)
    assert len(taken) == count


def test_somebody_always_watches_the_clock() -> None:
    """A retry is on time although the worker that put it there is busy and the one that was woken took another leg."""
    frontier, run = Frontier(), ListRun(limits=ONE_EACH)
    got: dict[str, threading.Event] = {"http://h/2": threading.Event(), "http://r/retry": threading.Event()}
    stay = threading.Event()

    def work() -> None:
        for leg in frontier.take():
            got[leg.target.url].set()
            stay.wait(PATIENCE_S)

    frontier.put(run.leg("http://h/1"))
    (first,) = frontier.take()
    frontier.put(run.leg("http://h/2"))
    with Threads() as threads:
        threads.start(work, 2)
        until(lambda: frontier.idle == 2)
        # This thread plays the worker that settles and is then busy with a handler: it never comes back to take.
        frontier.settle([(first, run.leg("http://r/retry", not_before=time.monotonic() + 0.05))])
        assert got["http://h/2"].wait(PATIENCE_S)
        assert got["http://r/retry"].wait(PATIENCE_S)
        stay.set()


@pytest.mark.parametrize(("feeders", "takers", "capacity"), [(1, 8, 3), (8, 1, 1), (4, 4, 2)])
def test_no_wake_up_is_lost(feeders: int, takers: int, capacity: int) -> None:
    """Any number of feeders and takers move every leg through a small frontier once, and nobody is left asleep."""
    frontier, run, each = Frontier(), ListRun(capacity=capacity, limits=ONE_EACH), 150
    lock, seen = threading.Lock(), []
    start = threading.Barrier(feeders + takers)
    left = threading.Semaphore(0)
    names = iter(range(feeders))

    def feed() -> None:
        with lock:
            mine = next(names)
        start.wait(PATIENCE_S)
        for number in range(each):
            assert frontier.put(run.leg(f"http://h{number % 5}/{mine}-{number}"))

    def take() -> None:
        start.wait(PATIENCE_S)
        while legs := frontier.take(2):
            frontier.settle([(leg, None) for leg in legs])
            with lock:
                seen.extend(urls(legs))
            left.release(len(legs))

    with Threads() as threads:
        threads.start(feed, feeders)
        threads.start(take, takers)
        for _ in range(feeders * each):
            assert left.acquire(timeout=PATIENCE_S)
        frontier.close()
    assert len(seen) == len(set(seen)) == feeders * each


class FrontierMachine(RuleBasedStateMachine):
    """Any mix of puts, takes, settles, retries, drops and ticks keeps the frontier's promises."""

    @initialize(limit=st.sampled_from([1, 2, None]))
    def begin(self, limit: int | None) -> None:
        self.clock = HandClock()
        self.frontier = Frontier(self.clock)
        self.limit = limit
        # One has limits, the other none: its legs never count for a host.
        self.runs = [ListRun(limits=HostLimits(concurrency=limit)), ListRun()]
        self.waiting: set[Leg] = set()
        self.running: list[Leg] = []
        self.stopped: set[int] = set()

    @rule(
        run=st.integers(0, 1),
        host=st.sampled_from("abc"),
        priority=st.integers(-1, 1),
        delay=st.sampled_from([0, 0, 1, 7]),
    )
    def put(self, run: int, host: str, priority: int, delay: int) -> None:
        leg = self.runs[run].leg(f"http://{host}/", priority, self.clock.now_s + delay if delay else 0.0)
        if self.frontier.put(leg):
            assert run not in self.stopped
            self.waiting.add(leg)
        else:
            assert run in self.stopped

    @rule(n=st.integers(1, 4))
    def take(self, n: int) -> None:
        startable = [leg for leg in self.waiting if self._may_start(leg)]
        if not startable:
            return  # it would wait
        legs = self.frontier.take(n)
        assert 1 <= len(legs) <= n
        for leg in legs:
            assert leg in self.waiting
            assert leg.not_before <= self.clock.now_s
            self.waiting.discard(leg)
            self.running.append(leg)

    @rule(data=st.data(), again=st.booleans(), delay=st.sampled_from([0, 3]))
    def settle(self, data: st.DataObject, again: bool, delay: int) -> None:
        if not self.running:
            return
        leg = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        run = self.runs.index(leg.run)  # type: ignore[arg-type]
        follow = self.runs[run].leg(leg.target.url, 0, self.clock.now_s + delay) if again else None
        refused = self.frontier.settle([(leg, follow)])
        assert (refused == [follow]) == (again and run in self.stopped)
        if again and not refused:
            self.waiting.add(follow)  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from([0.5, 2, 10]))
    def tick(self, seconds: float) -> None:
        self.clock.tick(seconds)

    @rule(run=st.integers(0, 1))
    def drop(self, run: int) -> None:
        dropped = set(self.frontier.drop(self.runs[run]))
        assert dropped == {leg for leg in self.waiting if leg.run is self.runs[run]}
        self.waiting -= dropped
        self.stopped.add(run)

    @invariant()
    def counts_are_true(self) -> None:
        assert len(self.frontier) == len(self.waiting)
        for run in self.runs:
            assert run.group.queued == sum(leg.run is run for leg in self.waiting)

    @invariant()
    def no_host_is_over_its_limit(self) -> None:
        if self.limit is not None:
            for host in "abc":
                assert self._busy(self.runs[0], host) <= self.limit

    def _busy(self, run: object, host: str) -> int:
        return sum(leg.run is run and leg.host == host for leg in self.running)

    def _may_start(self, leg: Leg) -> bool:
        is_free = self.limit is None or leg.run is self.runs[1] or self._busy(leg.run, leg.host) < self.limit
        return leg.not_before <= self.clock.now_s and is_free


TestFrontierMachine = FrontierMachine.TestCase
TestFrontierMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
