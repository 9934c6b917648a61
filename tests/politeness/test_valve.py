"""The rate over all hosts, and the hosts that are remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, Host, Hosts, Rate
from crawlpool.politeness.hosts import _FEW

waits = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.01, 0.3, 5.0]), st.integers(1, 20)), min_size=1, max_size=60)


@given(st.sampled_from([0.5, 1.0, 10.0, 1000.0]), waits)
def test_no_span_has_more_than_its_share(per_s: float, steps: list[tuple[float, int]]) -> None:
    """However it is asked: in any span of t seconds at most per_s × (t + 0.05) + 1 start."""
    rate, now, starts = Rate(per_s), 0.0, []
    for wait_s, wanted in steps:
        now += wait_s
        count = min(wanted, rate.room(now))
        rate.spend(count, now)
        starts += [now] * count
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= per_s * (starts[last] - starts[first] + 0.05) + 1 + 1e-6


@pytest.mark.parametrize("per_s", [0.5, 3.0, 200.0])
def test_all_of_it_can_be_used(per_s: float) -> None:
    """Who comes whenever there is room gets the whole rate."""
    rate, now, count = Rate(per_s), 0.0, 0
    while now < 100 / per_s:
        room = rate.room(now)
        rate.spend(room, now)
        count += room
        now = max(now, rate.next_at)
    assert 99 <= count <= 102 + 0.05 * per_s


def test_hosts_are_forgotten_when_nothing_is_known_of_them() -> None:
    """A million hosts asked once each leave as few as were asked in the last minute."""
    hosts, limits, most = Hosts(), HostLimits(delay_s=1.0), 0
    for number in range(100_000):
        now = number * 0.01
        host = hosts.of(f"h{number}", now)
        host.start()
        host.end(ANSWERED, limits, now)
        most = max(most, len(hosts))
    assert 6_000 <= most <= 2 * 6_000 + _FEW


def test_what_has_a_delay_is_remembered_as_long() -> None:
    """A host asked with a delay of ten minutes isn't forgotten after one: its delay would be cut short."""
    hosts, limits = Hosts(), HostLimits(delay_s=600.0)
    first = hosts.of("first", 0.0, limits.delay_s)
    first.start()
    first.end(ANSWERED, limits, 0.0)
    for number in range(3 * _FEW):
        hosts.of(f"h{number}", 599.0)
    assert hosts.of("first", 599.0) is first
    assert isinstance(hosts.find("first"), Host)
    assert hosts.find("never met") is None
