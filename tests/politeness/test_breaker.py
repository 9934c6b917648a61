"""The circuit breaker: a host out of reach is probed rarely, given up in the end, and asked again when it is back."""

from __future__ import annotations

import math

from crawlpool.errors import ErrorKind
from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, BROKEN, Came, Host
from crawlpool.politeness.breaker import GIVEN_UP_S, PROBES_S

LIMITS = HostLimits(concurrency=4, connect_failures=3)
LOST = Came.unreachable(ErrorKind.CONNECT)


def failing(times: int, now: float = 0.0, kind: ErrorKind = ErrorKind.CONNECT) -> Host:
    """Return a host that was asked in vain so often."""
    host = Host("h")
    for _ in range(times):
        ask(host, Came.unreachable(kind), now)
    return host


def ask(host: Host, came: Came, now: float) -> None:
    host.start()
    host.end(came, LIMITS, now)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """Two of three don't open it, and an answer between them begins the count anew, even one that breaks off."""
    assert failing(2).may_start_at(LIMITS) <= 0.0
    host = failing(2)
    ask(host, BROKEN, 1.0)
    ask(host, LOST, 2.0)
    ask(host, LOST, 3.0)
    assert host.may_start_at(LIMITS) <= 3.0
    ask(host, LOST, 4.0)
    assert host.may_start_at(LIMITS) == 4.0 + PROBES_S[0]


def test_an_open_one_lets_a_single_probe_through() -> None:
    """Whatever the limits: while the probe runs, nothing else may start."""
    host = failing(3)
    assert host.may_start_at(LIMITS) == PROBES_S[0]
    host.start()
    assert host.may_start_at(LIMITS) == math.inf


def test_a_probe_that_is_answered_closes_it() -> None:
    """The host is asked as ever from then on."""
    host = failing(3)
    ask(host, ANSWERED, 50.0)
    assert host.may_start_at(LIMITS) <= 50.0
    assert host.trouble is None


def test_probes_get_rarer_and_end() -> None:
    """10, 20, 40 seconds apart; then what waits is to be ended, and minutes later one more probe decides."""
    host, now = failing(3, kind=ErrorKind.DNS), 0.0
    for wait_s in PROBES_S:
        assert host.may_start_at(LIMITS) == now + wait_s
        assert not host.is_given_up(now)
        now += wait_s
        ask(host, Came.unreachable(ErrorKind.DNS), now)
    assert host.is_given_up(now)
    assert host.trouble is ErrorKind.DNS
    later = now + GIVEN_UP_S
    assert not host.is_given_up(later)
    assert host.may_start_at(LIMITS) == later
    ask(host, LOST, later)
    assert host.is_given_up(later)


def test_requests_that_were_under_way_are_no_probes() -> None:
    """Those sent before it opened fail as well, and that tells nothing new."""
    host = Host("h")
    for _ in range(8):
        host.start()
    for _ in range(8):
        host.end(LOST, LIMITS, 1.0)
    assert host.may_start_at(LIMITS) == 1.0 + PROBES_S[0]
    assert not host.is_given_up(1.0)
