"""Legs: which host they count for, what group they belong to, and how one is ended from outside."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.leg import Group, Leg, RunOptions, host_of, origin_text
from crawlpool.limits import HostLimits
from crawlpool.models import Target
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
