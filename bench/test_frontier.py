"""What a leg costs the frontier: taken and settled, by how many hosts have legs that wait.

Each leg is followed by another for its host, so as many wait in each round, and every round is checked: as many legs as
asked for, no host twice while it may be asked once.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool.frontier import Frontier
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.limits import HostLimits
from crawlpool.models import Target
from crawlpool.politeness import ANSWERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

LEGS = 2048  # of a round
AT_ONCE = 64
LIMITS = {
    "none": None,
    "concurrency": HostLimits(concurrency=1),
    "delay": HostLimits(delay_s=0.5),
}


class Ticking:
    """A clock that goes on by as much as the delay of all hosts takes, with each batch."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 1000.0
        self.step_s = step_s

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class Waiting:
    """A run whose legs only wait."""

    def __init__(self, limits: HostLimits | None) -> None:
        self.group = Group(None, limits)
        self.options = RunOptions()


class Book:
    """Finds hosts at so many addresses, in turn."""

    def __init__(self, addresses: int) -> None:
        self._addresses = addresses

    def seek(self, leg: Leg, tell: Callable[[str, tuple[str, ...]], None]) -> None:
        number = int(leg.host[1:]) % self._addresses
        tell(leg.host, (str(ipaddress.IPv4Address(0x0A000000 + number)),))


@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize("hosts", [10, 1_000, 100_000, 1_000_000])
def test_a_leg_through_the_frontier(benchmark: BenchmarkFixture, hosts: int, kind: str) -> None:
    """At 100,000 hosts at most twice what it is at 10; at 1,000 at most 10 microseconds a leg."""
    batch = min(AT_ONCE, hosts)
    # As many hosts become free with each batch as it takes.
    clock = Ticking(0.6 * batch / hosts if hosts > batch else 0.6)
    frontier, run = Frontier(clock), Waiting(LIMITS[kind])
    targets = [Target(f"http://h{number}/") for number in range(hosts)]
    for target in targets:
        frontier.put(Leg.first(run, target))  # type: ignore[arg-type]

    measure(benchmark, frontier, clock, batch)
    assert len(frontier) == hosts


@pytest.mark.parametrize("kind", ["concurrency", "delay"])
@pytest.mark.parametrize("addresses", [10, None])
@pytest.mark.parametrize("hosts", [1_000, 100_000])
def test_a_leg_through_an_address(benchmark: BenchmarkFixture, hosts: int, addresses: int | None, kind: str) -> None:
    """With limits that hold for addresses, too: one for each host (``None``), or ten that all hosts share."""
    batch = min(AT_ONCE, addresses or hosts)
    clock = Ticking(0.6 * batch / (addresses or hosts))
    limits = dataclasses.replace(LIMITS[kind] or HostLimits(), per_ip=True)
    frontier, run = Frontier(clock, names=Book(addresses or hosts)), Waiting(limits)  # type: ignore[arg-type]
    for number in range(hosts):
        frontier.put(Leg.first(run, Target(f"http://h{number}/")))  # type: ignore[arg-type]
    measure(benchmark, frontier, clock, batch)
    assert len(frontier) == hosts


def measure(benchmark: BenchmarkFixture, frontier: Frontier, clock: Ticking, batch: int) -> None:
    """Take and settle legs, in batches."""

    def one_round() -> int:
        count = 0
        while count < LEGS:
            legs = frontier.take(batch)
            assert legs is not None
            for leg in legs:
                leg.came = ANSWERED
            frontier.settle([(leg, Leg(leg.run, leg.target, leg.host)) for leg in legs])
            clock.now_s += clock.step_s
            count += len(legs)
        return count

    moved: Any = benchmark.pedantic(one_round, rounds=15, warmup_rounds=2)
    assert LEGS <= moved < LEGS + batch
    benchmark.extra_info["us_per_leg"] = benchmark.stats.stats.median / moved * 1e6
