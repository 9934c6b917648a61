"""The schedule, on simulated time: no host's limits are ever broken, nothing waits in vain, and everything ends."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool.errors import ErrorKind
from crawlpool.leg import Leg
from crawlpool.limits import HostLimits
from crawlpool.names import Found
from crawlpool.politeness import AGAIN_S, ANSWERED, BLOCKED, BROKEN, UNSENT, Came, Rate
from crawlpool.politeness.breaker import PROBES_S
from crawlpool.schedule import Schedule
from tests.gates import ListRun
from tests.world import Said, World, check_politeness, check_shared

LOST = Came.unreachable(ErrorKind.CONNECT)
CAP_S = 60.0

limits = st.sampled_from(
    [
        HostLimits(delay_s=0.5, max_cooldown_s=CAP_S),
        HostLimits(delay_s=3.25, max_cooldown_s=CAP_S),
        HostLimits(concurrency=1, max_cooldown_s=CAP_S),
        HostLimits(concurrency=3, max_cooldown_s=CAP_S, connect_failures=2),
        HostLimits(concurrency=None, max_cooldown_s=CAP_S),
        HostLimits(concurrency=4, max_cooldown_s=CAP_S, adaptive=True),
    ]
)
# What an operator says: at which time (between two events as a rule), of which host, and what.
operators = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.3, 1.7, 4.1, 9.3, 31.7, 77.7]),
        st.integers(0, 5),
        st.sampled_from([("hold", None), ("release", None), ("skip", None)])
        | st.tuples(st.just("delay"), st.sampled_from([None, 0.0, 2.5, 40.0])),
    ),
    max_size=8,
)
answers = st.lists(
    st.tuples(
        st.sampled_from([0.015625, 0.125, 1.0, 30.0]),
        st.sampled_from(
            [
                ANSWERED,
                ANSWERED,
                BLOCKED,
                BROKEN,
                LOST,
                Came.refused(None),
                Came.refused(0.0),
                Came.refused(7.5),
                Came.refused(1e9),
            ]
        ),
    ),
    min_size=1,
    max_size=8,
)


#: Names that are resolved to one of three addresses, to several, to none, to none at first; and those that aren't ours.
names = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 5.0]),
        st.sampled_from([("10.0.0.1",), ("10.0.0.2", "10.0.0.1"), ("10.0.0.2",), ("10.0.0.3",), (), None]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(limits | st.none(), answers, st.integers(1, 30), st.none() | names), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from([None, 0.5, 20.0]),
    st.sampled_from([None, 4.0]),
    st.booleans(),
    st.booleans(),
    operators,
)
def test_politeness_holds_and_everything_ends(
    plan: list[tuple[HostLimits | None, list[tuple[float, Came]], int, list[tuple[float, Found]] | None]],
    workers: int,
    per_s: float | None,
    patience_s: float | None,
    holds_blocked: bool,
    gives_back: bool,
    words: list[tuple[float, int, tuple[str, float | None]]],
) -> None:
    """For any targets, hosts, latencies, answers and orders: no limit is broken, each target ends, none waits idly.

    Neither are those of addresses that hosts share, wherever their names lead.
    """
    rate = None if per_s is None else Rate(per_s)
    said = sorted((Said(at, f"h{h % len(plan)}", *what) for at, h, what in words), key=lambda one: one.at)
    found = {f"h{number}": given for number, (_, _, _, given) in enumerate(plan) if given is not None}
    world = World(workers, {f"h{number}": given for number, (_, given, _, _) in enumerate(plan)}, rate, said, found)
    legs = []
    limits_of: dict[str, HostLimits | None] = {}
    for number, (of_host, _, count, _) in enumerate(plan):
        if of_host is not None:
            of_host = dataclasses.replace(of_host, per_ip=f"h{number}" in found)
        limits_of[f"h{number}"] = of_host
        run = ListRun(limits=of_host, max_wait_s=patience_s)
        run.group.holds_blocked, run.group.gives_back = holds_blocked, gives_back
        world.steer(f"h{number}", run.group)
        legs += [run.leg(f"http://h{number}/{one}", priority=one % 3) for one in range(count)]
    for leg in legs:
        world.schedule.put(leg, world.now)
    world.run()
    assert sorted(map(id, world.ended)) == sorted(map(id, legs))
    assert world.schedule.running == 0
    world.schedule.promote(world.now + 1e6)
    assert not world.schedule._lines
    check_politeness(world.asked, limits_of, said)
    check_shared(world.asked, limits_of)
    skipped = {leg.host for leg in legs if leg.verdict is not None and leg.verdict.reason == "host_skipped"}
    assert skipped <= {one.host for one in said if one.what == "skip"}
    if rate is not None and per_s is not None:
        starts = sorted(one.start for one in world.asked)
        for first, start in enumerate(starts):
            assert sum(s <= start + 10 for s in starts[first:]) <= per_s * 10.05 + 1


def test_a_host_out_of_reach_ends_soon() -> None:
    """Twenty thousand targets of a host that can't be connected to end in minutes, nearly all of them unsent."""
    run = ListRun(limits=HostLimits(delay_s=0.5))
    world = World(4, {"lost": [(5.0, LOST)]})
    for number in range(20_000):
        world.schedule.put(run.leg(f"http://lost/{number}"), 0.0)
    for _ in range(100):  # bounded: the rest of it goes in one sweep
        due_at = world.schedule.promote(world.now)
        while legs := world.schedule.take(1000, world.now):
            sent = [leg for leg in legs if leg.verdict is None]
            world.now += 5.0 * bool(sent)
            for leg in sent:
                leg.came = LOST
            world.schedule.ended(legs, world.now)
            world.ended += legs
            world.schedule.promote(world.now)
        due_at = world.schedule.promote(world.now)
        if due_at is None:
            break
        world.now = max(world.now, due_at)
    unsent = [leg.verdict for leg in world.ended if leg.verdict is not None]
    assert len(world.ended) == 20_000
    assert len(unsent) == 20_000 - 5 - len(PROBES_S)
    assert world.now < 5 * 5.5 + sum(PROBES_S) + 5 * len(PROBES_S) + 1
    assert unsent[0].reason == "host_unreachable"
    assert unsent[0].error_kind is ErrorKind.CONNECT


@settings(max_examples=40)
@given(st.integers(10, 16), st.integers(2, 20), limits, st.floats(0.5, 30.0), st.floats(1.0, 200.0))
def test_an_outage_is_waited_out(hosts: int, workers: int, of_host: HostLimits, begins: float, lasts: float) -> None:
    """When all hosts are gone for a while no target fails for it, hosts are as before, and few requests are sent."""
    schedule = Schedule()
    run = ListRun(limits=of_host)
    answered: set[str] = set()
    tries: dict[str, int] = {}
    sent_while_on: list[float] = []
    running: list[tuple[float, int, Leg, Came]] = []
    order = itertools.count()
    for number in range(hosts * 20):
        schedule.put(run.leg(f"http://site{number % hosts}.example/{number}"), 0.0)
    now = 0.0
    for _ in range(200_000):
        schedule.promote(now)
        is_on = schedule._valve.outage.is_on
        for leg in schedule.take(workers - len(running), now):
            assert leg.verdict is None, "a host was given up"
            if is_on:
                sent_while_on.append(now)
            is_gone = begins <= now < begins + lasts
            heapq.heappush(running, (now + 0.125, next(order), leg, LOST if is_gone else ANSWERED))
        due_at = schedule.promote(now)
        now = min([math.inf if due_at is None else due_at, *(at for at, *_ in running[:1])])
        if now == math.inf:
            break
        while running and running[0][0] <= now:
            _, _, leg, came = heapq.heappop(running)
            url, again_s = leg.target.url, None
            if came is LOST:
                if schedule.excuses(leg, now):
                    came, again_s = UNSENT, AGAIN_S
                else:
                    tries[url] = tries.get(url, 0) + 1
                    again_s = 0.5 * 2 ** tries[url]
            else:
                answered.add(url)
            leg.came = came
            schedule.ended([leg], now)
            if again_s is not None:
                again = run.leg(url, not_before=now + again_s)
                again.excuses = leg.excuses + (came is UNSENT)
                schedule.put(again, now)
    assert len(answered) == hosts * 20
    assert max(tries.values(), default=0) <= 3
    assert all(after - before >= 10.0 for before, after in itertools.pairwise(sent_while_on))


def test_no_leg_waits_longer_than_it_may() -> None:
    """Whatever holds its host back, a leg ends when its time is over: one that rests, and one that backs off."""
    schedule, run = Schedule(), ListRun(limits=HostLimits(delay_s=100.0), max_wait_s=2.0)
    for leg in (run.leg("http://h/1"), run.leg("http://h/2"), run.leg("http://h/later", not_before=50.0)):
        schedule.put(leg, 0.0)
    (first,) = schedule.take(5, 0.0)
    first.came = ANSWERED
    schedule.ended([first], 0.5)
    assert schedule.promote(1.0) == 2.0
    assert schedule.take(5, 1.9) == []
    assert schedule.has_timed
    schedule.promote(2.0)
    assert schedule.has_ready
    ended = schedule.take(5, 2.0)
    assert sorted(leg.target.url for leg in ended) == ["http://h/2", "http://h/later"]
    for leg in ended:
        assert leg.verdict is not None
        assert (leg.verdict.error_kind, leg.verdict.waited_s) == (ErrorKind.DEADLINE, 2.0)
    schedule.ended(ended, 2.0)
    schedule.promote(200.0)
    assert (schedule.running, list(schedule), schedule._lines) == (0, [], {})


def test_two_groups_share_a_host() -> None:
    """What one run asks of a host counts for another: the host doesn't care who asks."""
    schedule = Schedule()
    one, two = ListRun(limits=HostLimits(delay_s=2.0)), ListRun(limits=HostLimits(concurrency=2))
    schedule.put(one.leg("http://h/1"), 0.0)
    schedule.put(two.leg("http://h/2"), 0.0)
    schedule.put(two.leg("http://h/3"), 0.0)
    (first,) = schedule.take(1, 0.0)
    (second,) = schedule.take(5, 0.0)
    assert {first.target.url, second.target.url} == {"http://h/1", "http://h/2"}
    assert schedule.take(5, 0.0) == []
    schedule.ended([first, second], 1.0)
    assert [leg.target.url for leg in schedule.take(5, 1.0)] == ["http://h/3"]


def test_without_limits_nothing_is_kept_of_a_host() -> None:
    """A run that has no limits pays for no politeness."""
    schedule, run = Schedule(), ListRun()
    for number in range(3):
        schedule.put(run.leg(f"http://h/{number}"), 0.0)
    legs = schedule.take(10, 0.0)
    assert len(legs) == 3
    assert len(schedule.hosts) == 0
    schedule.ended(legs, 1.0)
    assert not schedule._lines


def test_taking_back_a_run_leaves_the_others() -> None:
    """The legs of one run go, from lines that rest and from lines that are ready; another's come in their turn."""
    schedule = Schedule()
    one, two = ListRun(limits=HostLimits(delay_s=2.0)), ListRun(limits=HostLimits(delay_s=2.0))
    for number in range(3):
        schedule.put(one.leg(f"http://h/{number}"), 0.0)
    schedule.put(one.leg("http://h/later", not_before=50.0), 0.0)
    (first,) = schedule.take(5, 0.0)
    first.came = ANSWERED
    schedule.ended([first], 0.0)
    schedule.put(two.leg("http://h/two"), 0.0)
    assert len(schedule.take_back(one, 0.5)) == 3
    assert schedule.promote(0.5) == 2.0
    assert schedule.promote(2.0) is None
    assert [leg.run for leg in schedule.take(5, 2.0)] == [two]


@pytest.mark.parametrize("hosts", [10, 1000])
def test_the_turn_is_fair_among_ready_hosts(hosts: int) -> None:
    """Each ready host has had its first leg before any has its second."""
    schedule, run = Schedule(), ListRun(limits=HostLimits(concurrency=5))
    for number in range(hosts * 3):
        schedule.put(run.leg(f"http://h{number % hosts}/{number}"), 0.0)
    seen = [leg.host for leg in schedule.take(hosts, 0.0)]
    assert len(set(seen)) == hosts
