"""The state machine of a host: when it may be asked next, whatever it answers."""

from __future__ import annotations

import math

import pytest

from crawlpool.errors import ErrorKind
from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, BROKEN, UNSENT, Came, Host

DELAYED = HostLimits(delay_s=2.0)
TWO = HostLimits(concurrency=2)
REFUSED = Came.refused(None)


def asked(host: Host, came: Came, now: float, limits: HostLimits = DELAYED) -> None:
    """Have a host asked once, with the answer at ``now``."""
    host.start()
    host.end(came, limits, now)


def test_a_new_host_may_be_asked_at_once() -> None:
    """Nothing is known of it that speaks against."""
    assert Host("h").may_start_at(DELAYED) <= 0


def test_the_delay_counts_from_the_end_of_the_answer() -> None:
    """While a request runs none may start; the next one may so long after its end, however long it took."""
    host = Host("h")
    host.start()
    assert host.may_start_at(DELAYED) == math.inf
    host.end(ANSWERED, DELAYED, 100.0)
    assert host.may_start_at(DELAYED) == 102.0


@pytest.mark.parametrize("came", [ANSWERED, BROKEN, Came.unreachable(ErrorKind.CONNECT)])
def test_whatever_comes_the_delay_holds(came: Came) -> None:
    """An answer that broke off, or no connection at all, is a request to the host as well."""
    host = Host("h")
    asked(host, came, 10.0)
    assert host.may_start_at(DELAYED) == 12.0


def test_what_was_never_sent_is_no_request() -> None:
    """A leg that was taken and given back leaves the host as it was."""
    host = Host("h")
    asked(host, ANSWERED, 10.0)
    asked(host, UNSENT, 11.0)
    assert host.may_start_at(DELAYED) == 12.0


def test_a_connection_that_was_tried_is_no_request_and_its_delay_holds() -> None:
    """Nobody counts it, as the outage may be ours; the host isn't tried again sooner for that."""
    host = Host("h")
    asked(host, ANSWERED, 10.0)
    host.start()
    host.tried(13.0)
    host.end(UNSENT, DELAYED, 13.0)
    assert host.may_start_at(DELAYED) == 15.0


def test_concurrency_without_delay() -> None:
    """So many at once, and the next one as soon as one has ended."""
    host = Host("h")
    host.start()
    assert host.may_start_at(TWO) < 0
    host.start()
    assert host.may_start_at(TWO) == math.inf
    host.end(ANSWERED, TWO, 5.0)
    assert host.may_start_at(TWO) <= 5.0


def test_no_concurrency_is_any_number() -> None:
    """``None`` never holds a request back."""
    host = Host("h")
    for _ in range(1000):
        host.start()
    assert host.may_start_at(HostLimits(concurrency=None)) < 0


def test_a_crawl_delay_counts_where_it_is_longer() -> None:
    """What robots.txt asks for lengthens the delay, and makes one of several at once."""
    host = Host("h")
    host.crawl_delay_s = 0.25
    asked(host, ANSWERED, 10.0, TWO)
    assert host.may_start_at(TWO) == 10.25
    host.start()
    assert host.may_start_at(TWO) == math.inf
    host.end(ANSWERED, TWO, 20.0)
    assert host.may_start_at(DELAYED) == 22.0


@pytest.mark.parametrize(("seconds", "until"), [(30.0, 40.0), (0.0, 12.0), (1.0, 12.0), (1e10, 130.0)])
def test_a_retry_after_holds_the_host(seconds: float, until: float) -> None:
    """A refusal keeps everybody from the host for as long as it asks, within the cap; the delay holds besides."""
    host = Host("h")
    asked(host, Came.refused(seconds), 10.0)
    assert host.may_start_at(DELAYED) == until


def test_without_a_retry_after_the_wait_doubles() -> None:
    """1, 2, 4 … seconds, up to the cap, however many refusals there are."""
    host, now, waits = Host("h"), 0.0, []
    for _ in range(1100):
        asked(host, REFUSED, now, TWO)
        waits.append(host.may_start_at(TWO) - now)
        now += waits[-1]
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 120, 120]
    assert waits[-1] == 120


def test_an_answer_ends_the_doubling() -> None:
    """A host that answers again begins at the first wait when it refuses once more."""
    host = Host("h")
    asked(host, REFUSED, 0.0, TWO)
    asked(host, REFUSED, 10.0, TWO)
    asked(host, ANSWERED, 20.0, TWO)
    asked(host, REFUSED, 30.0, TWO)
    assert host.may_start_at(TWO) == 31.0


def test_refusals_of_requests_under_way_are_one() -> None:
    """Several at once were sent before any of them was refused: the wait doubles once, and no wait shortens another."""
    host, many = Host("h"), HostLimits(concurrency=8)
    for _ in range(8):
        host.start()
    host.end(Came.refused(20.0), many, 10.0)
    for _ in range(6):
        host.end(REFUSED, many, 10.5)
    host.end(Came.refused(5.0), many, 11.0)
    assert host.may_start_at(many) == 30.0
    asked(host, REFUSED, 30.0, many)
    assert host.may_start_at(many) == 32.0


def test_a_host_is_forgettable_when_nothing_is_left_to_remember() -> None:
    """Not while it runs, cools down, is out of reach or has legs that wait."""
    host = Host("h")
    assert host.is_forgettable(0.0)
    host.start()
    assert not host.is_forgettable(0.0)
    host.end(Came.refused(5.0), TWO, 1.0)
    assert not host.is_forgettable(5.9)
    assert host.is_forgettable(6.0)
    host.lines.append(object())
    assert not host.is_forgettable(6.0)
    host.lines.clear()
    for _ in range(TWO.connect_failures):
        asked(host, Came.unreachable(ErrorKind.DNS), 7.0, TWO)
    assert not host.is_forgettable(1e9)


def test_a_late_refusal_counts_whatever_came_before_it() -> None:
    """Of three under way one is refused, one answers, and one is refused: the last one, too, is left its second."""
    host, three = Host("h"), HostLimits(concurrency=3)
    for _ in range(3):
        host.start()
    host.end(REFUSED, three, 10.0)
    host.end(ANSWERED, three, 10.1)
    host.end(REFUSED, three, 10.5)
    assert host.may_start_at(three) == 11.5
