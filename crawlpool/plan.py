"""What a run over some hosts will be like, before anything is fetched: arithmetic over how many URLs each host has.

A host's requests come in rounds, one after the other: of one request with a delay between them, or of as many as the
host may have at once. The longest of three times decides: that of the slowest host, that of the rate over all hosts,
and that of all requests with so many in flight. No run is faster, as far as the answers take the time assumed.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import enum
import heapq
from typing import TYPE_CHECKING, TypeAlias

from crawlpool.config import DEFAULT_THREADS, check, is_count, is_seconds
from crawlpool.limits import POLITE, HostLimits, check_limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Half a second is a slow page of a server that isn't near; nobody knows before.
DEFAULT_ANSWER_S = 0.5
#: Of a hundred URLs, so many are most of them: where few hosts have these, the list is one of few hosts.
MOST_PERCENT = 90

# Hosts are alike that have as many URLs and are both limited or both not: there are few kinds, however many hosts.
_Kind: TypeAlias = "tuple[int, bool]"


class Decides(enum.Enum):
    """What a run takes its time for."""

    HOSTS = "hosts"
    RATE = "rate"
    IN_FLIGHT = "in_flight"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a run is planned with.

    Args:
        limits: how hard each host may be asked.
        in_flight: requests that may run at once, over all hosts.
        rate: requests a second over all hosts; ``None`` for any number.
        answer_s: seconds from the start of a request to the end of its answer: an assumption.
        robots: whether each host that has limits is asked for its robots.txt first.

    Raises:
        ConfigError: for a value that can't be.
    """

    limits: HostLimits = POLITE
    in_flight: int = DEFAULT_THREADS
    rate: float | None = None
    answer_s: float = DEFAULT_ANSWER_S
    robots: bool = True

    def __post_init__(self) -> None:
        check(self.limits is not None, "limits", self.limits, "a HostLimits")
        check_limits(self.limits)
        check(is_count(self.in_flight), "in_flight", self.in_flight, "a whole number of at least 1")
        rule = "requests a second, a number above 0, or None for no limit"
        check(self.rate is None or is_seconds(self.rate), "rate", self.rate, rule)
        check(is_seconds(self.answer_s), "answer_s", self.answer_s, "a positive number of seconds")


@dataclasses.dataclass(frozen=True)
class HostPlan:
    """What one host demands.

    Args:
        host: its name.
        urls: how many URLs are of it.
        requests: the same and its robots.txt.
        demanded_s: the least that they take, were there no other host.
        waits_s: how much of it is the delay alone, however fast the host answers.
    """

    host: str
    urls: int
    requests: int
    demanded_s: float
    waits_s: float


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of the hosts: how many they are, their URLs, and these with each robots.txt."""

    hosts: int = 0
    urls: int = 0
    requests: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will be like; times in seconds.

    Args:
        terms: what it was planned with.
        whole: all hosts.
        hosts_s: what the slowest host demands.
        rate_s: what the rate demands; 0 where there is none.
        in_flight_s: what all requests take with so many in flight.
        decides: which of the three is the longest.
        deciding: the hosts each of which alone demands more than all requests of the hosts below it do together.
        rest: the other hosts.
        rest_s: what a run over these alone takes.
        most: the fewest hosts that hold 90 % of the URLs.
        doubled_s: what the run takes with twice as many in flight.
        enough: the smallest number in flight beyond which nothing gets faster.
        least_s: what the run takes with that many.
        top: the hosts that demand most, most first.
    """

    terms: Terms
    whole: Part
    hosts_s: float
    rate_s: float
    in_flight_s: float
    decides: Decides
    deciding: Part
    rest: Part
    rest_s: float
    most: Part
    doubled_s: float
    enough: int
    least_s: float
    top: tuple[HostPlan, ...]

    @property
    def total_s(self) -> float:
        """The least that the run takes."""
        return max(self.hosts_s, self.rate_s, self.in_flight_s)


def plan_of(counts: Mapping[str, int], terms: Terms | None = None, top: int = 10) -> Plan:
    """Return the plan of a run.

    Args:
        counts: how many URLs each host has; hosts as ``HostLimits.of_host`` takes them.
        terms: what it is planned with; ``None`` for the defaults.
        top: how many hosts to name at most.

    Raises:
        ConfigError: when a host has no whole number of URLs above 0, or ``top`` is no whole number.

    Its work grows with the number of hosts, and not with that of URLs. Thread-safe: no state.
    """
    check(is_count(top, 0), "top", top, "a whole number of at least 0")
    terms = terms if terms is not None else Terms()
    exempt = {host for host in counts if terms.limits.of_host(host) is None}
    free = collections.Counter(counts[host] for host in exempt)
    limited = collections.Counter(counts.values())
    limited.subtract(free)
    kinds = {(urls, True): hosts for urls, hosts in limited.items() if hosts}
    kinds.update(((urls, False), hosts) for urls, hosts in free.items())
    for urls, _ in kinds:
        check(is_count(urls), "urls", urls, "a host has a whole number of URLs, at least 1")
    return _Sums(terms, kinds).plan(_top(counts, exempt, terms, top))


def host_plan(host: str, urls: int, terms: Terms) -> HostPlan:
    """Return what one host demands."""
    kind = (urls, terms.limits.of_host(host) is not None)
    demanded_s = _demanded_s(kind, terms, terms.in_flight)
    waits_s = (_rounds(kind, terms, terms.in_flight) - 1) * _delay_s(kind, terms)
    return HostPlan(host, urls, _requests(kind, terms), demanded_s, waits_s)


def _top(counts: Mapping[str, int], exempt: set[str], terms: Terms, top: int) -> tuple[HostPlan, ...]:
    """Return the hosts that demand most, most first; among hosts alike those that came first."""

    def biggest(hosts: Iterable[str]) -> list[str]:
        return heapq.nlargest(top, hosts, key=counts.__getitem__)

    # Of two hosts with the same limits the one with more URLs demands more.
    names = biggest(host for host in counts if host not in exempt) + biggest(host for host in counts if host in exempt)
    found = [host_plan(host, counts[host], terms) for host in names]
    return tuple(sorted(found, key=lambda host: (host.demanded_s, host.urls), reverse=True)[:top])


def _delay_s(kind: _Kind, terms: Terms) -> float:
    return terms.limits.delay_s if kind[1] else 0.0


def _robots(kind: _Kind, terms: Terms) -> int:
    return 1 if kind[1] and terms.robots else 0


def _requests(kind: _Kind, terms: Terms) -> int:
    return kind[0] + _robots(kind, terms)


def _rounds(kind: _Kind, terms: Terms, in_flight: int) -> float:
    """Return how many requests of a host come one after the other; nothing goes before its robots.txt has come."""
    urls, is_limited = kind
    most = terms.limits.concurrency if is_limited else None
    # A host without a limit is bound by what is in flight over all hosts, where rounds mean nothing.
    rounds = max(urls / in_flight, 1.0) if most is None else -(-urls // min(most, in_flight))
    return rounds + _robots(kind, terms)


def _demanded_s(kind: _Kind, terms: Terms, in_flight: int) -> float:
    rounds = _rounds(kind, terms, in_flight)
    return rounds * terms.answer_s + (rounds - 1) * _delay_s(kind, terms)


class _Sums:
    """The sums over all hosts, by their kinds: ``kinds`` tells how many hosts there are of each."""

    def __init__(self, terms: Terms, kinds: Mapping[_Kind, int]) -> None:
        self._terms = terms
        self._kinds = kinds
        self._whole = self._part(kinds.items())

    def plan(self, top: tuple[HostPlan, ...]) -> Plan:
        """Return the plan; ``top`` are the hosts that it names."""
        terms, whole = self._terms, self._whole
        slowest = sorted(self._kinds, key=lambda kind: (_demanded_s(kind, terms, terms.in_flight), kind), reverse=True)
        hosts_s = _demanded_s(slowest[0], terms, terms.in_flight) if slowest else 0.0
        rate_s, in_flight_s = self._rate_s(whole.requests), self._in_flight_s(whole.requests, terms.in_flight)
        deciding, rest_s = self._deciding(slowest)
        rest = Part(*(a - b for a, b in zip(dataclasses.astuple(whole), dataclasses.astuple(deciding), strict=True)))
        if not whole.urls:
            decides = Decides.NOTHING
        elif deciding.hosts:
            decides = Decides.HOSTS
        else:
            decides = Decides.RATE if rate_s >= in_flight_s else Decides.IN_FLIGHT
        # More than one for each request never run at once.
        least_s = self._total_s(max(whole.requests, 1))
        enough = 1 + bisect.bisect_left(
            range(1, max(whole.requests, 1)), True, key=lambda number: self._total_s(number) <= least_s
        )
        return Plan(
            terms=terms,
            whole=whole,
            hosts_s=hosts_s,
            rate_s=rate_s,
            in_flight_s=in_flight_s,
            decides=decides,
            deciding=deciding,
            rest=rest,
            rest_s=rest_s,
            most=self._most(),
            doubled_s=self._total_s(2 * terms.in_flight),
            enough=enough,
            least_s=least_s,
            top=top,
        )

    def _part(self, kinds: Iterable[tuple[_Kind, int]]) -> Part:
        hosts = urls = requests = 0
        for kind, number in kinds:
            hosts += number
            urls += number * kind[0]
            requests += number * _requests(kind, self._terms)
        return Part(hosts, urls, requests)

    def _rate_s(self, requests: int) -> float:
        if self._terms.rate is None or not requests:
            return 0.0
        return (requests - 1) / self._terms.rate + self._terms.answer_s

    def _in_flight_s(self, requests: int, in_flight: int) -> float:
        return self._terms.answer_s * max(requests / in_flight, 1.0) if requests else 0.0

    def _total_s(self, in_flight: int) -> float:
        """Return what the run takes with so many in flight."""
        requests = self._whole.requests
        hosts_s = max((_demanded_s(kind, self._terms, in_flight) for kind in self._kinds), default=0.0)
        return max(hosts_s, self._rate_s(requests), self._in_flight_s(requests, in_flight))

    def _deciding(self, slowest: list[_Kind]) -> tuple[Part, float]:
        """Return the hosts that decide, and what the others take without them.

        Hosts that are alike decide all or not at all: with each one that goes, the rest needs less time.
        """
        left = self._whole.requests
        for number, kind in enumerate(slowest):
            host_s = _demanded_s(kind, self._terms, self._terms.in_flight)
            others_s = max(self._rate_s(left), self._in_flight_s(left, self._terms.in_flight))
            if host_s <= others_s:
                return self._part((kind, self._kinds[kind]) for kind in slowest[:number]), others_s
            left -= self._kinds[kind] * _requests(kind, self._terms)
        return self._whole, 0.0

    def _most(self) -> Part:
        """Return the fewest hosts that hold nearly all URLs."""
        wanted = -(-MOST_PERCENT * self._whole.urls // 100)
        found = Part()
        for kind in sorted(self._kinds, reverse=True):
            if found.urls >= wanted:
                break
            number = min(self._kinds[kind], -(-(wanted - found.urls) // kind[0]))
            more = self._part([(kind, number)])
            found = Part(found.hosts + more.hosts, found.urls + more.urls, found.requests + more.requests)
        return found
