"""A crawl that is killed and goes on, on simulated time: hosts see one crawl that keeps their limits."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool.frontier import Frontier
from crawlpool.limits import HostLimits
from crawlpool.names import Found
from crawlpool.politeness import BROKEN, Came, Order
from tests.gates import ListRun
from tests.kit import HandClock
from tests.test_schedule import answers, limits, names
from tests.world import World, check_politeness, check_shared


@settings(max_examples=200)
@given(
    st.lists(st.tuples(limits, answers, st.integers(1, 20), st.none() | names), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.015625, 0.4, 3.0, 31.0, 77.0]),
    st.sampled_from([0.0009765625, 0.25, 20.0]),
)
def test_a_kill_breaks_no_limit(
    plan: list[tuple[HostLimits, list[tuple[float, Came]], int, list[tuple[float, Found]] | None]],
    workers: int,
    killed_at: float,
    gap_s: float,
) -> None:
    """Whenever it is killed and goes on: each delay and each cooldown is kept over the gap, and everything ends.

    What is under way is taken to end with the process: nobody is there to see when it really does, and how.
    """
    found = {f"h{number}": given[:1] for number, (_, _, _, given) in enumerate(plan) if given is not None}
    limits_of = {
        f"h{number}": dataclasses.replace(of_host, per_ip=f"h{number}" in found)
        for number, (of_host, _, _, _) in enumerate(plan)
    }
    runs = {host: ListRun(limits=of_host) for host, of_host in limits_of.items()}
    urls = [
        (f"h{number}", f"http://h{number}/{one}") for number, (*_, count, _) in enumerate(plan) for one in range(count)
    ]
    given = {f"h{number}": given for number, (_, given, _, _) in enumerate(plan)}
    first = World(workers, dict(given), names=found)
    for host, url in urls:
        first.schedule.put(runs[host].leg(url), 0.0)
    first.run(killed_at)
    cooled = first.schedule.hosts.cooled(killed_at)
    cut = {"end": killed_at, "came": BROKEN}
    asked = [dataclasses.replace(one, **cut) if one.end > killed_at else one for one in first.asked]
    done = {leg.target.url for leg in first.ended}
    second = World(workers, dict(given), names=found)
    second.now = resumed_at = killed_at + gap_s
    second.schedule.hosts.resume([(host, left - gap_s) for host, left in cooled], resumed_at, waits_delay=True)
    legs = [runs[host].leg(url) for host, url in urls if url not in done]
    for leg in legs:
        second.schedule.put(leg, resumed_at)
    second.run()
    assert {leg.target.url for leg in second.ended} | done == {url for _, url in urls}
    check_politeness(asked + second.asked, dict(limits_of), [])
    check_shared(asked + second.asked, dict(limits_of))
    delays = {host: of_host.delay_s for host, of_host in limits_of.items()}
    assert all(one.start >= resumed_at + delays[one.host] for one in second.asked)


def test_a_frontier_hands_its_cooldowns_on() -> None:
    """From one to the next: the seconds left, no more than the limits allow, and none for a host without limits."""
    clock = HandClock()
    run = ListRun(limits=HostLimits(delay_s=2.0, max_cooldown_s=60.0))
    before = Frontier(clock)
    assert before.cooled() == []
    before.put(run.leg("http://busy/"))
    (leg,) = before.take(1) or []
    leg.came = Came.refused(1000.0)
    before.refused(leg)
    clock.tick(10.0)
    assert before.cooled() == [("busy", 50.0)]
    before.settle([(leg, None)])
    assert before.cooled() == []  # told at once, and once
    before.control_of(run.group).release("busy")
    assert before.cooled() == [("busy", 0.0)]
    assert before.cooled() == []

    free, told = ListRun(), ListRun(limits=HostLimits(delay_s=2.0, max_cooldown_s=5.0))
    after = Frontier(clock)
    after.control_of(told.group).order("held", Order.HOLD)
    after.resume_hosts(told.group, {"busy": 50.0, "held": 2.0}, waits_delay=True)
    after.resume_hosts(free.group, {"free": 50.0}, waits_delay=False)
    assert sorted(after.cooled()) == [("busy", 5.0), ("held", 2.0)]
    hosts = after._schedule.hosts
    assert hosts.find("free") is None
    assert hosts.of("other", clock.monotonic()).ended_at == clock.monotonic()
