"""Tests of crawlpool.plan: what a run will be like, by arithmetic alone."""

from __future__ import annotations

import dataclasses
import heapq
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import plan as module
from crawlpool.errors import ConfigError
from crawlpool.limits import POLITE, HostLimits
from crawlpool.plan import Decides, Part, Terms, host_plan, plan_of

NAMES = ("a.example", "b.example", "c.example", "d.example", "localhost", "127.0.0.1", "[::1]")
COUNTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 40), min_size=1)
LIMITS = st.one_of(
    st.builds(HostLimits, delay_s=st.floats(0.01, 5), loopback_exempt=st.booleans()),
    st.builds(HostLimits, concurrency=st.none() | st.integers(1, 6), loopback_exempt=st.booleans()),
)
TERMS = st.builds(
    Terms,
    limits=LIMITS,
    in_flight=st.integers(1, 30),
    rate=st.none() | st.floats(0.1, 50),
    answer_s=st.floats(0.01, 5),
    robots=st.booleans(),
)
NEVER = float("inf")


def total_s(counts: dict[str, int], terms: Terms, **other: Any) -> float:
    """Return what a run takes at least; ``other`` are terms that differ."""
    return plan_of(counts, dataclasses.replace(terms, **other)).total_s


@pytest.mark.parametrize(
    ("limits", "robots", "in_flight", "urls", "requests", "demanded_s", "waits_s"),
    [
        (HostLimits(delay_s=2.0), False, 16, 10, 10, 10 * 0.5 + 9 * 2.0, 18.0),
        (HostLimits(delay_s=2.0), True, 16, 10, 11, 11 * 0.5 + 10 * 2.0, 20.0),
        (HostLimits(delay_s=2.0), False, 16, 1, 1, 0.5, 0.0),
        (HostLimits(concurrency=1), False, 16, 10, 10, 5.0, 0.0),
        (HostLimits(concurrency=4), False, 16, 10, 10, 1.5, 0.0),
        (HostLimits(concurrency=4), True, 16, 10, 11, 2.0, 0.0),
        (HostLimits(concurrency=4), False, 2, 10, 10, 2.5, 0.0),
        (HostLimits(concurrency=None), False, 4, 10, 10, 1.25, 0.0),
    ],
)
def test_what_one_host_demands(
    limits: HostLimits, robots: bool, in_flight: int, urls: int, requests: int, demanded_s: float, waits_s: float
) -> None:
    """One at a time with pauses between, or in rounds of so many at once; robots.txt comes first, and alone."""
    terms = Terms(limits, in_flight, answer_s=0.5, robots=robots)
    found = host_plan("h.example", urls, terms)
    assert (found.urls, found.requests, found.demanded_s, found.waits_s) == (urls, requests, demanded_s, waits_s)
    assert plan_of({"h.example": urls}, terms).hosts_s == demanded_s


def test_a_loopback_host_without_limits_is_bound_by_what_is_in_flight() -> None:
    """No delay, no robots.txt; one answer is the least that anything takes."""
    terms = Terms(POLITE, 4, answer_s=0.5)
    assert (host_plan("localhost", 10, terms).demanded_s, host_plan("localhost", 10, terms).requests) == (1.25, 10)
    assert host_plan("localhost", 1, terms).demanded_s == 0.5
    limited = dataclasses.replace(terms, limits=HostLimits(delay_s=0.5))
    assert host_plan("localhost", 10, limited).demanded_s == 11 * 0.5 + 10 * 0.5


def test_few_hosts_that_hold_most_urls_decide() -> None:
    """Of a million URLs three hosts hold 97 %: they decide, the others are soon done, more in flight help nobody."""
    counts = {"a.example": 500_000, "b.example": 300_000, "c.example": 170_000}
    counts.update((f"h{number}.example", 1) for number in range(30_000))
    found = plan_of(counts, Terms(in_flight=16), top=4)
    assert found.decides is Decides.HOSTS
    assert found.whole == Part(30_003, 1_000_000, 1_030_003)
    assert found.deciding == found.most == Part(3, 970_000, 970_003)
    assert found.total_s == 500_001 * 0.5 + 500_000 * 0.5
    assert (found.rest, found.rest_s) == (Part(30_000, 30_000, 60_000), 60_000 * 0.5 / 16)
    assert found.doubled_s == found.least_s == found.total_s
    assert found.enough == 2  # a million answers of half a second, in half a million seconds and half
    assert [host.host for host in found.top] == ["a.example", "b.example", "c.example", "h0.example"]
    assert found.top[0].waits_s == 250_000.0


def test_many_hosts_want_more_in_flight() -> None:
    """Where no host has many URLs the requests in flight decide, up to a number where the slowest host does."""
    found = plan_of({f"h{number}.example": 10 for number in range(1000)}, Terms(in_flight=10, robots=False))
    assert found.decides is Decides.IN_FLIGHT
    assert (found.total_s, found.doubled_s) == (500.0, 250.0)
    assert (found.enough, found.least_s) == (527, 9.5)  # 5,000 s of answers in 9.5 s
    assert (found.deciding, found.rest_s) == (Part(), 500.0)
    assert found.most == Part(900, 9000, 9000)


def test_the_rate_decides_where_it_is_the_least() -> None:
    """The first request starts at once, the last one has its answer to come."""
    found = plan_of({f"h{number}.example": 1 for number in range(101)}, Terms(rate=2.0, robots=False))
    assert (found.decides, found.total_s) == (Decides.RATE, 50.5)
    assert found.least_s == 50.5


def test_nothing_takes_no_time() -> None:
    """An input without a URL is no error."""
    found = plan_of({})
    assert (found.decides, found.total_s, found.rest_s, found.enough, found.top) == (Decides.NOTHING, 0.0, 0.0, 1, ())
    assert found.whole == found.deciding == found.rest == found.most == Part()


@pytest.mark.parametrize("urls", [0, -1, 1.5, "3"])
def test_a_host_has_a_whole_number_of_urls(urls: Any) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ConfigError, match=f"urls={urls!r}"):
        plan_of({"a.example": 7, "b.example": urls})


@pytest.mark.parametrize(
    ("name", "value"),
    [("limits", None), ("in_flight", 0), ("rate", 0), ("rate", math.nan), ("answer_s", 0), ("answer_s", math.inf)],
)
def test_bad_terms_are_named(name: str, value: Any) -> None:
    """The message has the setting and the value."""
    with pytest.raises(ConfigError, match=f"^{name}={value!r}"):
        Terms(**{name: value})
    with pytest.raises(ConfigError, match="top=-1"):
        plan_of({}, top=-1)


@given(COUNTS, TERMS)
def test_the_sums_are_those_of_the_hosts(counts: dict[str, int], terms: Terms) -> None:
    """Hosts that are alike are counted together, and that changes nothing; the hosts named go down in their demand."""
    found = plan_of(counts, terms, top=len(counts))
    each = [host_plan(host, urls, terms) for host, urls in counts.items()]
    assert found.whole == Part(len(each), sum(h.urls for h in each), sum(h.requests for h in each))
    assert found.hosts_s == max(host.demanded_s for host in each)
    assert sorted(host.host for host in found.top) == sorted(counts)
    assert [host.demanded_s for host in found.top] == sorted((host.demanded_s for host in each), reverse=True)
    assert plan_of(counts, terms, top=2).top == found.top[:2]


@given(COUNTS, TERMS, st.integers(1, 60))
def test_more_in_flight_never_makes_it_slower(counts: dict[str, int], terms: Terms, more: int) -> None:
    """Whatever the limits; and what twice as many bring is told."""
    assert total_s(counts, terms, in_flight=terms.in_flight + more) <= total_s(counts, terms)
    assert plan_of(counts, terms).doubled_s == total_s(counts, terms, in_flight=2 * terms.in_flight)


@given(COUNTS, TERMS)
def test_enough_in_flight_is_exactly_enough(counts: dict[str, int], terms: Terms) -> None:
    """One less is slower, more is no faster."""
    found = plan_of(counts, terms)
    assert total_s(counts, terms, in_flight=found.enough) == found.least_s
    assert total_s(counts, terms, in_flight=1000) == found.least_s
    assert found.enough == 1 or total_s(counts, terms, in_flight=found.enough - 1) > found.least_s


@given(COUNTS, TERMS, st.data())
def test_less_work_never_makes_it_slower(counts: dict[str, int], terms: Terms, data: st.DataObject) -> None:
    """Without one host, without one URL, without robots.txt, with a higher rate or with quicker answers."""
    host = data.draw(st.sampled_from(sorted(counts)))
    before = total_s(counts, terms)
    assert total_s({name: urls for name, urls in counts.items() if name != host}, terms) <= before
    if counts[host] > 1:
        assert total_s({**counts, host: counts[host] - 1}, terms) <= before
    assert total_s(counts, terms, robots=False) <= before
    assert total_s(counts, terms, rate=None) <= before
    assert total_s(counts, terms, answer_s=terms.answer_s / 2) <= before


@given(COUNTS, TERMS)
def test_the_hosts_that_decide_are_slower_than_all_the_rest(counts: dict[str, int], terms: Terms) -> None:
    """Each of them alone takes longer than a run over the others; there are some exactly where the hosts decide."""
    found = plan_of(counts, terms, top=len(counts))
    parts = zip(*(dataclasses.astuple(part) for part in (found.deciding, found.rest, found.whole)), strict=True)
    assert all(deciding + rest == whole for deciding, rest, whole in parts)
    assert (found.decides is Decides.HOSTS) == bool(found.deciding.hosts)
    assert (found.decides is Decides.HOSTS) == (found.hosts_s > max(found.rate_s, found.in_flight_s))
    deciding, others = found.top[: found.deciding.hosts], found.top[found.deciding.hosts :]
    assert sum(host.urls for host in deciding) == found.deciding.urls
    assert all(host.demanded_s > found.rest_s for host in deciding)
    assert total_s({host.host: host.urls for host in others}, terms) == found.rest_s


@given(COUNTS, TERMS)
def test_the_fewest_hosts_hold_most_urls(counts: dict[str, int], terms: Terms) -> None:
    """They hold 90 %, and with one fewer they wouldn't."""
    most = plan_of(counts, terms).most
    biggest = sorted(counts.values(), reverse=True)
    assert most.urls == sum(biggest[: most.hosts])
    assert sum(biggest[: most.hosts - 1]) * 100 < 90 * sum(biggest) <= 100 * most.urls


def simulated_s(counts: dict[str, int], terms: Terms) -> float:
    """Return how long a crawl takes that starts what it may as soon as it may, the host with most URLs first."""
    limited = {host: terms.limits.of_host(host) for host in counts}
    left, running, free_at = dict(counts), dict.fromkeys(counts, 0), dict.fromkeys(counts, 0.0)
    robots = {host for host in counts if terms.robots and limited[host] is not None}
    is_waiting_for_robots = dict.fromkeys(counts, False)
    ends: list[tuple[float, str]] = []
    now = next_start = 0.0

    def may_start(host: str) -> bool:
        limits = limited[host]
        most = terms.in_flight if limits is None or limits.concurrency is None else limits.concurrency
        return bool(
            left[host] and running[host] < most and now >= free_at[host] and not is_waiting_for_robots[host]
        )  # fmt: skip

    while any(left.values()) or ends:
        ready = [host for host in counts if may_start(host)]
        if ready and len(ends) < terms.in_flight and now >= next_start:
            host = max(ready, key=left.__getitem__)
            if host in robots:
                robots.remove(host)
                is_waiting_for_robots[host] = True
            else:
                left[host] -= 1
            running[host] += 1
            heapq.heappush(ends, (now + terms.answer_s, host))
            next_start = now + (0.0 if terms.rate is None else 1 / terms.rate)
            continue
        now = min(
            ends[0][0] if ends else NEVER,
            next_start if ready and len(ends) < terms.in_flight else NEVER,
            *(free_at[host] if left[host] and free_at[host] > now else NEVER for host in counts),
        )
        while ends and ends[0][0] <= now:
            host = heapq.heappop(ends)[1]
            running[host] -= 1
            is_waiting_for_robots[host] = False
            limits = limited[host]
            free_at[host] = now + (limits.delay_s if limits is not None else 0.0)
    return now


@given(COUNTS, TERMS)
def test_no_run_is_faster_than_its_plan(counts: dict[str, int], terms: Terms) -> None:
    """A simulated crawl takes as long as planned at least; with enough in flight and no rate exactly so."""
    planned_s = total_s(counts, terms)
    assert simulated_s(counts, terms) >= planned_s * (1 - 1e-9)
    alone = dataclasses.replace(terms, rate=None, in_flight=1000)
    assert simulated_s(counts, alone) == pytest.approx(total_s(counts, alone))


def test_the_work_does_not_grow_with_hosts_that_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of 50,000 hosts that have up to three URLs are worked out as often as those of four hosts, nearly."""
    calls = 0
    work_out = module._demanded_s

    def counted(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        return work_out(*arguments)

    monkeypatch.setattr(module, "_demanded_s", counted)
    found = plan_of({f"h{number}.example": 1 + number % 3 for number in range(50_000)})
    assert found.whole.hosts == 50_000
    assert 0 < calls < 200
