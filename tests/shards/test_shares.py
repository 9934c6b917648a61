"""How a list falls into shards: each host is in one share, and the bounds of the time hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError
from crawlpool.limits import HostLimits
from crawlpool.plan import Terms, plan_of
from crawlpool.shards.hashing import Sharding
from crawlpool.shards.shares import Share, shares_of
from crawlpool.suffixes import SuffixList

SUFFIXES = SuffixList(b"example\n")
COUNTS = st.dictionaries(st.integers(0, 40).map("h{}.example".format), st.integers(1, 500), max_size=30)


def sharding(count: int) -> Sharding:
    """Return a sharding with so many shards."""
    return Sharding(count, SUFFIXES)


@given(counts=COUNTS, shards=st.integers(1, 20), workers=st.integers(1, 9), rate=st.none() | st.floats(0.1, 100))
def test_bounds_hold(counts: dict[str, int], shards: int, workers: int, rate: float | None) -> None:
    """A run is no faster than its slowest shard, than one without shards by as much, or than what is shared allows."""
    terms = Terms(rate=rate)
    found = shares_of(counts, sharding(shards), terms, workers)
    assert found.largest.urls >= -(-sum(counts.values()) // shards)
    assert found.used <= min(shards, len(counts))
    assert found.total_s >= found.slowest.demanded_s
    assert found.total_s * workers * found.at_once >= found.sum_s * (1 - 1e-9)
    assert found.total_s >= plan_of(counts, terms).total_s / workers * (1 - 1e-9)
    assert found.slowest.demanded_s <= found.sum_s or not counts
    if rate is None:
        assert shares_of(counts, sharding(shards), terms, found.enough).total_s == pytest.approx(
            found.slowest.demanded_s
        )


@given(counts=COUNTS)
def test_one_shard_and_one_worker_are_the_plan(counts: dict[str, int]) -> None:
    """Without any cutting it is what ``plan_of`` says."""
    found = shares_of(counts, sharding(1), Terms(), 1)
    assert found.total_s == pytest.approx(plan_of(counts).total_s)


def test_a_dominant_host_decides() -> None:
    """It stays in one shard, which is the largest and the slowest: from few workers on more bring nothing."""
    counts = {"big.example": 10_000, **{f"h{n}.example": 10 for n in range(200)}}
    found = shares_of(counts, sharding(64), Terms(), 8)
    assert found.slowest == found.largest
    assert (found.slowest.host, found.slowest.host_urls) == ("big.example", 10_000)
    assert found.slowest.demanded_s == pytest.approx(10_001 * 0.5 + 10_000 * 0.5)
    assert found.total_s == found.slowest.demanded_s and found.enough == 1


def test_what_is_open_at_once_decides_where_hosts_are_slow() -> None:
    """Many equal hosts in many shards wait for a free place: twice the workers take half of the time."""
    counts = {f"h{n}.example": 1000 for n in range(640)}
    terms = Terms(in_flight=10_000)
    times = [shares_of(counts, sharding(640), terms, workers, 1).total_s for workers in (1, 2, 4)]
    assert times[0] == pytest.approx(2 * times[1]) == pytest.approx(4 * times[2])
    assert shares_of(counts, sharding(640), terms, 1, 8).total_s == pytest.approx(times[0] / 8)


def test_what_is_in_flight_is_shared() -> None:
    """Where requests in flight decide, and not the hosts, more workers bring more of them."""
    counts = {f"h{n}.example": 10 for n in range(2000)}
    terms = Terms(limits=HostLimits(concurrency=10), in_flight=2, robots=False)
    one, four = (shares_of(counts, sharding(32), terms, workers, 32) for workers in (1, 4))
    assert one.total_s == pytest.approx(20_000 * 0.5 / 2)
    assert four.total_s == pytest.approx(one.total_s / 4)


def test_each_worker_has_its_share_of_the_rate() -> None:
    """With several workers a shard gets a part of the rate, and all together no more than the whole."""
    counts = {"a.example": 1000}
    terms = Terms(limits=HostLimits(concurrency=1000), in_flight=1000, rate=10.0, robots=False)
    assert shares_of(counts, sharding(9), terms, 1).total_s == pytest.approx(999 / 10 + 0.5)
    assert shares_of(counts, sharding(9), terms, 4).total_s == pytest.approx(4 * 999 / 10 + 0.5)


def test_nothing_takes_no_time() -> None:
    """An empty list has no slowest shard, and one worker is enough."""
    found = shares_of({}, sharding(5), Terms(rate=3.0), 2)
    assert (found.used, found.total_s, found.enough, found.slowest, found.largest) == (0, 0.0, 1, Share(), Share())


def test_numbers_that_cant_be_are_refused() -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match="workers=0"):
        shares_of({}, sharding(1), Terms(), 0)
    with pytest.raises(ConfigError, match="at_once=0"):
        shares_of({}, sharding(1), Terms(), 1, 0)
