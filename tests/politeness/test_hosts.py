"""The hosts of a pool: whose cooldown is news, and how they go on where an earlier process left them."""

from __future__ import annotations

import math

import pytest

from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, Came, Host, Hosts, hosts

LIMITS = HostLimits(delay_s=2.0, max_cooldown_s=60.0, per_ip=True)


def refuse(host: Host, now: float, seconds: float | None = None) -> None:
    """Have a host refuse."""
    host.start()
    host.end(Came.refused(seconds), LIMITS, now)


def test_each_change_of_a_cooldown_is_told_once() -> None:
    """A refusal with the seconds that are left; one that is over, or was lifted, with none. Answers are no news."""
    known = Hosts()
    for name in ("calm", "busy", "worse"):
        host = known.of(name, 0.0)
        host.start()
        host.end(ANSWERED, LIMITS, 0.0)
    assert not known.has_cooled
    refuse(known.of("busy", 0.0), 1.0, 10.0)
    refuse(known.of("worse", 0.0), 1.0, 1e9)
    assert known.has_cooled
    assert sorted(known.cooled(3.0)) == [("busy", 8.0), ("worse", 58.0)]
    assert not known.has_cooled
    assert known.cooled(3.0) == []
    known.of("worse", 4.0).lift(4.0)
    refuse(known.of("busy", 4.0), 4.0, 3.0)  # less than what it has asked for already
    assert sorted(known.cooled(4.0)) == [("busy", 7.0), ("worse", 0.0)]
    refuse(known.of("busy", 20.0), 20.0)
    assert known.cooled(30.0) == [("busy", 0.0)]


def test_where_nobody_asks_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """After very many changes they are forgotten; who asks then hears of all hosts that rest, and of all released."""
    monkeypatch.setattr(hosts, "_MOST_COOLED", 3)
    known = Hosts()
    refuse(known.of("first", 0.0), 0.0, 1.0)
    assert known._cooled is None  # nobody has ever asked
    assert known.cooled(0.5) == [("first", 0.5)]
    for number in range(5):
        refuse(known.of(f"h{number}", 1.0), 1.0, 5.0)
    known.of("h0", 1.0).lift(1.0)
    assert len(known._cooled or ()) <= 3
    assert sorted(known.cooled(2.0)) == [("h0", 0.0), *((f"h{number}", 4.0) for number in range(1, 5))]


def test_a_resumed_host_rests_and_waits_its_delay() -> None:
    """Hosts met before and after, and their addresses: each as if it had ended an answer at that moment."""
    known = Hosts()
    early = known.of("early", 0.0)
    known.locate("early", ["10.0.0.1"])
    known.resume([("busy", 7.0), ("over", 0.0), ("wrong", math.nan)], 100.0, waits_delay=True)
    assert known.find("over") is known.find("wrong") is None
    late = known.of("late", 100.5)
    known.locate("late", ["10.0.0.2"])
    assert early.may_start_at(LIMITS) == late.may_start_at(LIMITS) == 102.0
    assert early.address is not None
    assert late.address is not None
    assert early.address.may_start_at(LIMITS) == late.address.may_start_at(LIMITS) == 102.0
    busy = known.of("busy", 101.0)
    assert busy.may_start_at(LIMITS) == 107.0
    assert busy.may_start_at(HostLimits(concurrency=3)) == 107.0
    assert late.may_start_at(HostLimits(concurrency=3)) <= 0
    assert known.cooled(103.0) == [("busy", 4.0)]


def test_without_a_delay_to_wait_for_only_cooldowns_count() -> None:
    """A host that wasn't resting may be asked at once, and one that rests no shorter than it did already."""
    known = Hosts()
    refuse(known.of("busy", 0.0), 0.0, 50.0)
    known.resume([("busy", 7.0)], 10.0, waits_delay=False)
    assert known.of("busy", 10.0).may_start_at(LIMITS) == 50.0
    assert known.of("other", 10.0).may_start_at(LIMITS) <= 0


def test_each_of_several_askers_hears_of_its_own_hosts() -> None:
    """What is another's is kept for it, and counts as news until it has asked."""
    known = Hosts()
    known.cooled(0.0)
    for name in ("a", "b"):
        known.of(name, 0.0).rest(9.0, 0.0)
    assert known.cooled(1.0, lambda name: name == "a") == [("a", 8.0)]
    assert known.has_cooled
    assert known.cooled(1.0, lambda name: name == "a") == []
    assert known.cooled(1.0, lambda name: name == "b") == [("b", 8.0)]
    assert not known.has_cooled


def test_only_the_hosts_that_are_meant_wait_a_delay_anew() -> None:
    """Who goes on with some hosts doesn't have those of others wait again."""
    known = Hosts()
    mine, other = known.of("mine", 0.0), known.of("other", 0.0)
    known.resume([], 5.0, waits_delay=True, owns=lambda name: name == "mine")
    assert mine.ended_at == 5.0 > other.ended_at
