"""What an operator says of a host: which limits follow from it, and what becomes of its targets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crawlpool.errors import ConfigError
from crawlpool.limits import HostLimits
from crawlpool.politeness import NOTHING, Order, Told, on_hold

SEVERAL = HostLimits(concurrency=4, max_cooldown_s=7.0, adaptive=True)
USUAL = HostLimits(delay_s=0.5, max_cooldown_s=9.0, loopback_exempt=True)


@pytest.mark.parametrize(
    ("told", "own", "limits"),
    [
        (Told(), SEVERAL, SEVERAL),
        (Told(), None, None),
        (Told(delay_s=2), SEVERAL, HostLimits(1, 2.0, 7.0)),
        (Told(delay_s=0), SEVERAL, SEVERAL),
        (Told(delay_s=0), HostLimits(delay_s=3.0), HostLimits()),
        (Told(delay_s=0), None, None),
        (Told(delay_s=2), None, HostLimits(1, 2.0, 9.0, loopback_exempt=True)),
        (Told(Order.HOLD), SEVERAL, SEVERAL),
        (Told(Order.SKIP, 3.0), None, HostLimits(concurrency=None)),
    ],
)
def test_the_limits_that_follow(told: Told, own: HostLimits | None, limits: HostLimits | None) -> None:
    """A delay is one at a time and takes all else from the host's own limits, or from the usual ones where it has
    none; no delay leaves as many at once as there were; a host that isn't asked has some, so that it can be kept.
    """
    assert told.limits(own, USUAL) == limits


@pytest.mark.parametrize(
    ("told", "waits", "ends"),
    [
        (Told(), False, None),
        (Told(Order.HOLD), True, None),
        (Told(Order.HOLD, None, is_over=True), False, "held"),
        (Told(Order.SKIP), False, "host_skipped"),
        (Told().blocked(True), True, None),
        (Told().blocked(True).blocked(False), False, None),
    ],
)
def test_what_becomes_of_its_targets(told: Told, waits: bool, ends: str | None) -> None:
    """They go, they wait, or they end with a reason."""
    assert (told.waits, told.ends) == (waits, ends)
    assert on_hold({"h": told}) == ({"h"} if waits else set())


def test_order_and_delay_are_told_apart() -> None:
    """A new order keeps the delay, ends what was over; a new delay keeps the order; without either nothing is left."""
    told = NOTHING.ordered(Order.HOLD).delayed(3.0)
    assert (told.is_held, told.is_skipped, told.delay_s) == (True, False, 3.0)
    assert Told(Order.HOLD, 3.0, is_over=True).ordered(Order.HOLD) == told
    assert told.ordered(Order.SKIP).is_skipped
    assert not told.ordered(Order.GO).is_nothing
    assert told.ordered(Order.GO).delayed(None).is_nothing


def test_a_delay_that_can_not_be() -> None:
    """It is refused when it is told, and the message names it."""
    with pytest.raises(ConfigError, match="delay_s=-1"):
        Told(delay_s=-1)


def test_who_says_it_is_told_apart() -> None:
    """A hold of the crawl's own is none of an operator's; their next order takes its place, their delay doesn't."""
    own = NOTHING.blocked(True)
    assert (own.is_held, own.is_operators, own.is_nothing) == (False, False, False)
    slower = own.delayed(2.0)
    assert (slower.is_blocked, slower.waits, slower.is_operators) == (True, True, True)
    assert slower.ordered(Order.HOLD) == Told(Order.HOLD, 2.0)
    assert slower.blocked(False) == Told(Order.GO, 2.0)


def test_what_an_operator_says_is_written_and_read() -> None:
    """As JSON-ready fields; a hold that has come to its end is one again, and one of the crawl's own is none."""
    for told in (Told(Order.HOLD), Told(Order.SKIP, 3.5), Told(delay_s=0)):
        assert Told.of(json.loads(json.dumps(told.fields))) == told
    assert Told.of(Told(Order.HOLD, 1.0, is_over=True).fields) == Told(Order.HOLD, 1.0)
    assert Told.of(NOTHING.blocked(True).delayed(2.0).fields) == Told(delay_s=2.0)


@pytest.mark.parametrize(
    "fields", [{}, {"order": "stop"}, {"order": ["hold"]}, {"order": "go", "delay_s": "1"}, "hold", None]
)
def test_what_is_no_order_is_refused(fields: Any) -> None:
    """Whoever has written in the file."""
    with pytest.raises(ConfigError):
        Told.of(fields)
