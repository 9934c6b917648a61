"""What is known of an origin's robots.txt, and when it is asked for again."""

from __future__ import annotations

import math

import pytest

from crawlpool.errors import ErrorKind
from crawlpool.robots import Fetched, Gate, Robots
from crawlpool.robots import gate as gates
from crawlpool.robots.gate import AGAIN_S, FRESH_S, GIVEN_UP_S, LOST_AGAIN_S, LOST_S, How, Verdict

ORIGIN = "http://a.example"
RULES = Fetched(How.RULES, Robots(b"User-agent: *\nDisallow: /x", "bot"))
TROUBLE = Fetched(How.UNREACHABLE)


def learned(*fetched: Fetched, now: float = 0.0) -> Gate:
    """Return a gate that has asked so often."""
    gate = Gate()
    for one in fetched:
        gate.begin(ORIGIN)
        gate.learn(ORIGIN, one, now)
    return gate


def test_robots_txt_comes_first_and_once() -> None:
    """Of an origin that nothing is known of it is fetched; while that goes on everybody else waits."""
    gate = Gate()
    assert gate.ask(ORIGIN, 0.0).verdict is Verdict.FETCH
    gate.begin(ORIGIN)
    assert gate.ask(ORIGIN, 0.0).verdict is Verdict.WAIT
    assert gate.opens_at(ORIGIN, 0.0) == math.inf
    assert gate.ask("http://b.example", 0.0).verdict is Verdict.FETCH
    gate.learn(ORIGIN, RULES, 1.0)
    assert gate.opens_at(ORIGIN, 1.0) <= 1.0
    assert gate.ask(ORIGIN, 1.0).rules is RULES.rules


@pytest.mark.parametrize("fetched", [RULES, Fetched(How.NONE)])
def test_what_is_known_holds_for_a_day(fetched: Fetched) -> None:
    """Then it is fetched anew (RFC 9309 2.4); a file that isn't there is known as well."""
    gate = learned(fetched)
    assert gate.ask(ORIGIN, FRESH_S - 1).verdict is Verdict.GO
    assert gate.ask(ORIGIN, FRESH_S).verdict is Verdict.FETCH


def test_trouble_is_waited_out_and_ends() -> None:
    """10, 20, 40, then 60 seconds between tries; after five minutes the legs end; later it is tried again."""
    gate, now, waits = Gate(), 0.0, []
    for _ in range(20):
        assert gate.ask(ORIGIN, now).verdict is Verdict.FETCH
        gate.begin(ORIGIN)
        gate.learn(ORIGIN, TROUBLE, now)
        if gate.ask(ORIGIN, now).verdict is not Verdict.WAIT:
            break
        waits.append(gate.opens_at(ORIGIN, now) - now)
        now += waits[-1]
    assert waits == [*AGAIN_S, 60, 60]
    assert 240 < sum(waits) <= 300
    assert gate.ask(ORIGIN, now).verdict is Verdict.UNREACHABLE
    assert gate.ask(ORIGIN, now + GIVEN_UP_S).verdict is Verdict.FETCH


def test_trouble_that_passes_leaves_nothing() -> None:
    """After a file has come, the patience is whole again."""
    gate = learned(TROUBLE, TROUBLE, TROUBLE, RULES, now=0.0)
    gate.learn(ORIGIN, TROUBLE, FRESH_S)
    assert gate.opens_at(ORIGIN, FRESH_S) == FRESH_S + AGAIN_S[0]


def test_a_lost_host_ends_its_legs_for_a_while() -> None:
    """What could not be connected to is not asked for each leg anew."""
    gate = learned(Fetched(How.LOST, None, ErrorKind.DNS))
    answer = gate.ask(ORIGIN, LOST_S - 1)
    assert (answer.verdict, answer.kind) == (Verdict.LOST, ErrorKind.DNS)
    assert gate.ask(ORIGIN, LOST_S).verdict is Verdict.FETCH


def test_a_host_that_is_out_of_reach_is_tried_as_often_as_a_page() -> None:
    """What may pass is asked for again before anything ends; after that it is the same as of any lost host."""
    lost = Fetched(How.LOST, None, ErrorKind.CONNECT, may_pass=True)
    gate, now = Gate(), 0.0
    for wait_s in LOST_AGAIN_S:
        gate.begin(ORIGIN)
        gate.learn(ORIGIN, lost, now)
        assert gate.opens_at(ORIGIN, now) == now + wait_s
        now += wait_s
        assert gate.ask(ORIGIN, now).verdict is Verdict.FETCH
    gate.begin(ORIGIN)
    gate.learn(ORIGIN, lost, now)
    assert gate.ask(ORIGIN, now).verdict is Verdict.LOST
    assert gate.ask(ORIGIN, now + LOST_S).verdict is Verdict.FETCH


def test_a_host_that_was_out_of_reach_for_a_moment_leaves_nothing() -> None:
    """It came up again: its rules hold, and a server's trouble after that has its whole patience."""
    lost = Fetched(How.LOST, None, ErrorKind.CONNECT, may_pass=True)
    assert learned(lost, RULES, now=0.0).ask(ORIGIN, 0.0).verdict is Verdict.GO
    gate = learned(lost, TROUBLE, now=0.0)
    assert gate.opens_at(ORIGIN, 0.0) == AGAIN_S[1]


def test_a_fetch_that_was_given_up_tells_nothing() -> None:
    """The next leg asks again."""
    assert learned(Fetched(How.UNASKED)).ask(ORIGIN, 0.0).verdict is Verdict.FETCH


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest origins go, but never one that is being fetched or waited for."""
    monkeypatch.setattr(gates, "MOST", 100)
    gate = learned(TROUBLE)
    gate.begin("http://busy.example")
    for number in range(1000):
        gate.begin(f"http://h{number}.example")
        gate.learn(f"http://h{number}.example", RULES, 0.0)
    assert len(gate._permits) <= 100
    assert gate.ask(ORIGIN, 0.0).verdict is Verdict.WAIT
    assert gate.ask("http://busy.example", 0.0).verdict is Verdict.WAIT
    assert gate.ask("http://h999.example", 0.0).verdict is Verdict.GO
    assert gate.ask("http://h0.example", 0.0).verdict is Verdict.FETCH


@pytest.mark.parametrize("origin", ["http://a.example", "https://a.example:8443", "http://[::1]:80"])
def test_a_host_that_is_released_is_asked_anew_where_it_could_not_be_had(origin: str) -> None:
    """An operator knows better: only what couldn't be had is forgotten, and of that host alone."""
    host = origin.partition("://")[2].rpartition(":")[0] if origin.count(":") > 1 else "a.example"
    for fetched, after in (
        (Fetched(How.LOST, None, ErrorKind.CONNECT), Verdict.FETCH),
        (Fetched(How.UNREACHABLE), Verdict.FETCH),
        (RULES, Verdict.GO),
    ):
        gate = Gate()
        gate.begin(origin)
        gate.learn(origin, fetched, 0.0)
        before = gate.ask(origin, 1.0).verdict
        gate.forgive("other.example")
        assert gate.ask(origin, 1.0).verdict is before
        gate.forgive(host)
        assert gate.ask(origin, 1.0).verdict is after
