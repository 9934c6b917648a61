"""A target on its way from one shard to another: it arrives as it was, with nothing that must not be on a disk."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import Target
from crawlpool.clock import Deadline
from crawlpool.handover import Moved
from crawlpool.jobs.chain import MARK, chain_of, handed_over
from crawlpool.jobs.entries import host_of_line, leg_of, target_of_line
from crawlpool.ledger.transfer import rank_of_line
from crawlpool.ledger.waiting import Taken
from crawlpool.leg import Leg, RunOptions, host_of
from crawlpool.models import Hop
from crawlpool.transport.base import Completion, Exchange

URLS = st.builds("http://{}.example/{}".format, st.sampled_from("abc"), st.text("ab/?=&%é", max_size=8))
TARGETS = st.builds(
    Target,
    URLS,
    method=st.sampled_from(["GET", "POST"]),
    headers=st.none() | st.dictionaries(st.sampled_from(["X-A", "Accept"]), st.text(max_size=3), max_size=2),
    data=st.none() | st.binary(max_size=5) | st.text(max_size=5) | st.dictionaries(st.text(max_size=2), st.text()),
    meta=st.none() | st.lists(st.integers() | st.text(max_size=3), max_size=3),
    priority=st.integers(-5, 5),
    depth=st.integers(0, 3),
    parent=st.none() | URLS,
    n=st.none() | st.integers(1, 99),
    input=st.none() | st.text(max_size=5),
)
HOPS = st.lists(st.builds(Hop, URLS, st.sampled_from([301, 302, 303, 307, 308])), min_size=1, max_size=4)


class FakeRun:
    options = RunOptions()


RUN: Any = FakeRun()


def moved_of(target: Target, hops: list[Hop], to: str, **known: Any) -> tuple[Leg, Moved]:
    """Return a leg that was redirected, and what its run gets."""
    leg = Leg(RUN, target, host_of(target.url))
    leg.ordinal = 17
    leg.legs, leg.waited_s, leg.robots, leg.excuses = 3, 1.25, "allowed", 2
    for name, value in known.items():
        setattr(leg, name, value)
    request: Any = requests.Request("GET", to).prepare()
    again = leg.next(request, 1, 0.0)
    again.host, again.hops = host_of(to), tuple(hops)
    nothing: Any = None
    return leg, Moved.of(leg, again, Completion(Exchange(nothing, {}, Deadline(None)), None, None, 0.1))


@given(TARGETS, HOPS)
def test_what_is_handed_over_arrives_as_it_was(target: Target, hops: list[Hop]) -> None:
    """Target, redirects, attempts, waits and the place in its queue are what they were; the row is plain JSON."""
    to = "http://c.example/there?x=1"
    leg, moved = moved_of(target, hops, to)
    given_over = handed_over(leg, moved, 4, 9)
    row = json.loads(json.dumps(json.loads(given_over.row)))
    n, host, rank, line, verdict, digest, is_found = row
    assert (n, host, rank, verdict, digest, is_found) == (target.n, "c.example", float(-target.priority), None, None, 0)
    chain = chain_of(line)
    assert chain._replace(target=target) == (target, to, tuple(hops), 3, 1.25, "allowed", 2, 4, 17)
    assert chain.target == target_of_line(line, None) == target
    assert (rank_of_line(line), host_of_line(line, None)) == (rank, host)
    there = leg_of(RUN, Taken(5, n, None, line), host)
    assert (there.url, there.host, there.hops, there.legs, there.ordinal) == (to, host, tuple(hops), 3, 5)
    assert (there.origin, there.kind, there.is_plain()) == ("http://c.example", "redirect", False)
    assert (given_over.shard, json.loads(given_over.told + ",1]")[:6]) == (9, [17, 6, None, None, None, 9])


def test_a_target_that_gave_up_on_its_way_has_its_verdict() -> None:
    """One that ended the process again and again ends as that, wherever its redirects had led it."""
    leg, moved = moved_of(Target("http://a.example/"), [Hop("http://a.example/", 302)], "http://b.example/")
    line = json.loads(handed_over(leg, moved, 0, 1).row)[3]
    there = leg_of(RUN, Taken(5, None, '{"crashes":5}', line), "")
    assert there.verdict is not None and there.verdict.reason == "crashes"
    assert there.verdict.target.url == "http://a.example/"


def test_no_credential_is_in_a_row() -> None:
    """Headers that were made for a request aren't part of what travels: not an auth's, not a cookie."""
    leg, moved = moved_of(Target("http://a.example/"), [Hop("http://a.example/", 302)], "http://b.example/")
    moved.again.request.headers["Authorization"] = "Basic c2VjcmV0"
    moved.again.request.headers["Cookie"] = "id=c2VjcmV0"
    assert "c2VjcmV0" not in handed_over(leg, moved, 0, 1).row


@pytest.mark.parametrize("line", [MARK, f"{MARK}{{}}", f'{MARK}{{"target":{{"url":"http://a/"}},"from":[1]}}'])
def test_a_chain_that_cannot_be_read_is_an_error(line: str) -> None:
    """A damaged row is one of those that readers take for damage."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        chain_of(line)
