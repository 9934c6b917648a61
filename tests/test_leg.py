"""Legs: which host they count for, what group they belong to, and how one is ended from outside."""

from __future__ import annotations

import functools
import math
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.leg import Group, Leg, RunOptions, host_of, origin_text
from crawlpool.limits import HostLimits
from crawlpool.models import Target
from crawlpool.politeness.came import Came
from crawlpool.politeness.host import Host
from crawlpool.sites import Site, Sites, origin_of
from crawlpool.transport.base import Exchange
from crawlpool.transport.lifeline import LegEnd, Lifeline
from tests.gates import ListRun


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Example.ORG/x", "example.org"),
        ("https://example.org.:8443/x", "example.org"),
        ("http://user:pw@example.org/", "example.org"),
        ("http://a@b@example.org?x", "example.org"),
        ("http://[::1]:80/", "[::1]"),
        ("http://example.org\\@evil/", "example.org"),
        ("http://example.org#@evil/", "example.org"),
        ("no url", ""),
        ("", ""),
        ("http://", ""),
    ],
)
def test_host_of(url: str, host: str) -> None:
    """A leg counts for the host that will be asked: lower case, without port, userinfo and the dot at the end."""
    assert host_of(url) == host


@given(st.text())
def test_host_of_takes_anything(text: str) -> None:
    """No input line, however odd, is refused here: a bad URL is found when it is prepared."""
    assert isinstance(host_of(text), str)


def test_the_first_leg() -> None:
    """A first leg has its target's very object and host, nothing sent, and no time before which it may not run."""
    run, target = ListRun(), Target("http://H/x")
    leg = Leg.first(run, target, 7)
    assert leg.target is target
    assert (leg.run, leg.host, leg.attempt, leg.legs, leg.not_before, leg.ordinal) == (run, "h", 1, 0, 0.0, 7)
    assert leg.verdict is None


def test_options_begin_with_no_bounds() -> None:
    """A run that says nothing has no deadline, no cap, follows redirects, and begins the deadline anew for each leg."""
    options = RunOptions()
    assert (options.deadline_s, options.max_wait_s, options.max_body_bytes, options.retry) == (None,) * 4
    assert options.allow_redirects
    assert options.is_deadline_of_leg


@pytest.mark.parametrize(
    ("capacity", "queued", "is_full"), [(2, 1, False), (2, 2, True), (2, 3, True), (None, 9, False)]
)
def test_a_group_is_full_at_its_capacity(capacity: int | None, queued: int, is_full: bool) -> None:
    """A group is full when as many legs wait as may; one without capacity never is."""
    group = Group(capacity, None)
    group.queued = queued
    assert group.is_full is is_full


def test_a_sites_limits_hold_for_its_host() -> None:
    """Limits set for one origin go over the group's for that host, and hold for no other."""
    sites = Sites()
    sites.put(Site(origin_of("http://slow.example:8080"), limits=HostLimits(concurrency=1)))
    sites.put(Site(origin_of("http://plain.example")))
    group = Group(None, HostLimits(concurrency=5), sites)
    assert group.limits_of("slow.example") == HostLimits(concurrency=1)
    assert group.limits_of("plain.example") == HostLimits(concurrency=5)
    assert group.limits_of("other.example") == HostLimits(concurrency=5)
    assert Group(None, None, sites).limits_of("other.example") is None


def test_abort_ends_the_leg_that_is_sent() -> None:
    """Aborting marks the exchange and ends it by what whoever sends it has set; before that it is only marked."""
    leg = Leg.first(ListRun(), Target("http://h/"))
    leg.abort()  # nothing there yet
    lifeline = Lifeline()
    nothing: object = None
    exchange = Exchange(nothing, {}, nothing)  # type: ignore[arg-type]
    leg.exchange = exchange
    lifeline.begin(1e9, exchange)
    leg.abort()  # begun, and nobody has set yet how it is ended: who does looks at the mark then
    assert exchange.is_aborted
    exchange.end = functools.partial(lifeline.abort, exchange)
    leg.abort()
    assert lifeline.end() is LegEnd.CANCELLED


def test_abort_ends_no_other_leg() -> None:
    """A leg that has ended meanwhile isn't ended again: the session's next leg goes on."""
    leg = Leg.first(ListRun(), Target("http://h/"))
    lifeline = Lifeline()
    nothing: object = None
    exchange = leg.exchange = Exchange(nothing, {}, nothing)  # type: ignore[arg-type]
    exchange.end = functools.partial(lifeline.abort, exchange)
    lifeline.begin(1e9, "the next one")
    leg.abort()
    assert lifeline.end() is None


def test_a_torn_login_has_no_origin() -> None:
    """Nobody is asked for the robots.txt of a host that is the user of a login; sending the URL says what is wrong."""
    assert origin_text("http://user:/pw@host/") == origin_text("http://user:?pw@host:1/") == ""
    assert origin_text("http://host:80/@user") == "http://host"


@pytest.mark.parametrize(
    ("limits", "may"),
    [
        (None, False),
        (HostLimits(delay_s=0, concurrency=2), True),
        (HostLimits(delay_s=0, concurrency=None), True),
        (HostLimits(delay_s=0, concurrency=1), False),
        (HostLimits(delay_s=1), False),
    ],
)
def test_only_where_several_run_at_once_may_a_leg_be_late(limits: HostLimits | None, may: bool) -> None:
    """Where nothing else is asked of a host, nothing else can be refused between taking a leg and sending it."""
    leg = ListRun().leg("http://h/")
    leg.seat = types.SimpleNamespace(limits=limits, host=None)
    assert leg.may_be_late is may


@pytest.mark.parametrize(
    ("cooled_until", "running", "looked_at", "is_late"),
    [
        (-math.inf, 3, 100.0, False),
        (100.5, 1, 100.0, True),  # it has refused since
        (100.0, 3, 100.0, False),  # its rest is over
        (-math.inf, 3, 99.8, True),  # it may have: nobody has looked
        (-math.inf, 1, 99.8, False),  # nothing else of it is under way
    ],
)
def test_a_leg_is_late_when_its_host_refused_or_may_have(
    cooled_until: float, running: int, looked_at: float, is_late: bool
) -> None:
    """Nothing goes out to a host that rests by now, or of which an answer may lie unread for long."""
    leg, host = ListRun().leg("http://h/"), Host("h")
    host.cooled_until, host.running = cooled_until, running
    leg.seat = types.SimpleNamespace(host=host)
    clock = types.SimpleNamespace(monotonic=lambda: 100.0)
    assert leg.is_late(clock, looked_at) is is_late  # type: ignore[arg-type]


def test_a_leg_is_late_from_the_moment_at_which_a_refusal_of_its_host_was_read() -> None:
    """A refusal counts before it is judged; once it is, what it asks for counts, and nothing else does."""
    leg, answered, host = ListRun().leg("http://h/"), ListRun().leg("http://h/2"), Host("h")
    leg.seat = answered.seat = types.SimpleNamespace(host=host)
    clock = types.SimpleNamespace(monotonic=lambda: 100.0)
    answered.notice(clock, 200)  # type: ignore[arg-type]
    assert not leg.is_late(clock, 100.0)  # type: ignore[arg-type]
    answered.notice(clock, 503)  # type: ignore[arg-type]
    assert leg.is_late(clock, 100.0)  # type: ignore[arg-type]
    host.refuse(Came.refused(0.0), HostLimits(delay_s=0), 100.0)
    assert not leg.is_late(clock, 100.0)  # type: ignore[arg-type]
