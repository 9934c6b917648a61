"""An outage of our own network: told from hosts that are gone, and never from those alone."""

from __future__ import annotations

import pytest

from crawlpool.politeness import Outage, Rate, Valve
from crawlpool.politeness.outage import DOMAINS, EXCUSES, FAILURES, PROBE_S, SUSPICIOUS, domain_of


def hosts(count: int) -> list[str]:
    """Return names of so many domains."""
    return [f"www.site{number}.example" for number in range(count)]


def known(outage: Outage, count: int = DOMAINS) -> None:
    """Have hosts of so many domains answer."""
    for name in hosts(count):
        assert not outage.reached(name)


def fail(outage: Outage, failures: int, domains: int = DOMAINS, *, is_known: bool = True, now: float = 100.0) -> bool:
    """Have that many requests fail; return whether the last one began an outage."""
    names = hosts(domains)
    for number in range(failures - 1):
        assert not outage.failed(names[number % domains], now, is_known=is_known)
    return outage.failed(names[(failures - 1) % domains], now, is_known=is_known)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.a.example", "a.example"),
        ("a.example", "a.example"),
        ("localhost", "localhost"),
        ("127.0.0.7", "127.0.0.7"),
        ("[::1]", "[::1]"),
    ],
)
def test_domains(host: str, domain: str) -> None:
    """Two labels of a name, an address as a whole."""
    assert domain_of(host) == domain


def test_fifty_failures_in_a_row_of_ten_domains() -> None:
    """With one among them that had answered; then one is tried every ten seconds."""
    outage = Outage()
    known(outage)
    assert fail(outage, FAILURES)
    assert outage.is_on
    assert outage.probe_at == 100.0 + PROBE_S
    assert not outage.failed("www.site1.example", 101.0, is_known=True), "it has begun already"
    assert outage.reached("www.site1.example")
    assert not outage.is_on
    assert not outage.reached("www.site1.example"), "it is over already"


@pytest.mark.parametrize(
    ("failures", "domains", "is_known"),
    [(FAILURES - 1, DOMAINS, True), (2 * FAILURES, DOMAINS - 1, True), (2 * FAILURES, DOMAINS, False)],
)
def test_less_is_none(failures: int, domains: int, is_known: bool) -> None:
    """Fewer failures, fewer domains, or hosts that never answered: a list of dead names is no outage."""
    outage = Outage()
    known(outage)
    assert not fail(outage, failures, domains, is_known=is_known)
    assert not outage.is_on


def test_one_answer_breaks_the_row() -> None:
    """Whoever can be reached shows that the network is there."""
    outage = Outage()
    known(outage)
    fail(outage, FAILURES - 1)
    outage.reached("www.other.example")
    assert not fail(outage, FAILURES - 1)


def test_failures_are_excused_on_suspicion() -> None:
    """From the third in a row on, so often for each, if enough domains had answered; in an outage always."""
    outage = Outage()
    known(outage)
    fail(outage, SUSPICIOUS - 1)
    assert not outage.excuses(0)
    fail(outage, 1)
    assert outage.excuses(EXCUSES - 1)
    assert not outage.excuses(EXCUSES)
    fail(outage, FAILURES - SUSPICIOUS)
    assert outage.excuses(10_000)


def test_a_crawl_of_few_domains_excuses_nothing() -> None:
    """Where there can be no outage, a host that is gone is gone."""
    outage = Outage()
    known(outage, DOMAINS - 1)
    fail(outage, SUSPICIOUS)
    assert not outage.excuses(0)


def test_the_valve_lets_one_through_at_a_time_in_an_outage() -> None:
    """A probe each ten seconds, whatever the rate would allow."""
    valve = Valve(Rate(1000.0))
    assert valve.room(8, 0.0) >= 1
    known(valve.outage)
    fail(valve.outage, FAILURES)
    assert valve.is_timed
    assert valve.room(8, 100.0) == 0
    assert valve.opens_at == 100.0 + PROBE_S
    assert valve.room(8, valve.opens_at) == 1
    valve.spend(1, 110.0)
    assert valve.room(8, 110.0) == 0
    assert valve.opens_at == 120.0


def test_a_valve_without_rate_or_outage_is_open() -> None:
    """Any number may start, and no clock is to be watched."""
    valve = Valve()
    assert not valve.is_timed
    assert valve.room(8, 0.0) == 8
    assert valve.opens_at < 0
