"""How a list of URLs falls into shards, and what that costs: arithmetic over how many URLs each host has.

A shard is run by one worker at a time, so no number of workers is faster than the slowest shard. A worker has so many
shards open at once, so all shards together divided by what is open is a bound, too: hosts of open shards are asked side
by side, those of the others wait. And all requests share what the workers have in flight, and the rate.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from crawlpool.config import check, is_count
from crawlpool.plan import host_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.plan import Terms
    from crawlpool.shards.hashing import Sharding

#: Shards that a worker has open at once at most, unless told otherwise: as many as it takes to keep its pool busy. A
#: shard's hosts are few: a polite crawl of one shard after the other would wait for these, whatever the threads. Where
#: one shard keeps the pool busy, more of them would only share out the same commits into smaller ones.
AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Share:
    """What is of one shard.

    Args:
        shard: its number, from 0; -1 where there is no URL at all.
        hosts: how many hosts lie in it.
        urls: how many URLs.
        demanded_s: the least that these take, were there no other shard.
        host: the host in it that demands most.
        host_urls: how many URLs are of that one.
    """

    shard: int = -1
    hosts: int = 0
    urls: int = 0
    demanded_s: float = 0.0
    host: str = ""
    host_urls: int = 0


@dataclasses.dataclass(frozen=True)
class Shares:
    """How the URLs fall into shards; times in seconds.

    Args:
        shards: how many shards there are.
        workers: how many run them.
        at_once: how many shards each of these has open at once.
        used: shards that have a URL.
        largest: the shard with the most URLs.
        slowest: the one that demands most.
        sum_s: what all shards demand, one after the other.
        total_s: the least that a run with so many workers takes.
        enough: from how many workers on more bring nothing.
    """

    shards: int
    workers: int
    at_once: int
    used: int
    largest: Share
    slowest: Share
    sum_s: float
    total_s: float
    enough: int


def shares_of(
    counts: Mapping[str, int], sharding: Sharding, terms: Terms, workers: int, at_once: int = AT_ONCE
) -> Shares:
    """Return how a list of URLs falls into shards.

    Args:
        counts: how many URLs each host has, each at least 1; hosts as ``leg.host_of`` gives them.
        sharding: which shard each host belongs to.
        terms: how each worker asks. A rate is that of all workers, of which each has its share.
        workers: how many there are.
        at_once: shards that a worker has open at once.

    Raises:
        ConfigError: when ``workers`` or ``at_once`` is no whole number of at least 1.

    Thread-safe: no state.
    """
    check(is_count(workers), "workers", workers, "a whole number of at least 1")
    check(is_count(at_once), "at_once", at_once, "a whole number of at least 1")
    sums: dict[int, _Sum] = {}
    for host, urls in counts.items():
        shard = sharding.shard_of(host)
        found = sums.get(shard)
        if found is None:
            found = sums[shard] = _Sum()
        found.add(host, urls, terms)
    shares = [found.share(shard, terms, workers) for shard, found in sums.items()]
    slowest = max(shares, key=lambda share: (share.demanded_s, share.urls), default=Share())
    largest = max(shares, key=lambda share: (share.urls, share.demanded_s), default=Share())
    sum_s = math.fsum(share.demanded_s for share in shares)
    requests = sum(found.requests for found in sums.values())
    rate_s = 0.0 if terms.rate is None or not requests else (requests - 1) / terms.rate + terms.answer_s
    least_s = max(slowest.demanded_s, rate_s)
    # What would take so long if there were one worker, and is done by all of them side by side.
    shared_s = max(sum_s / at_once, requests * terms.answer_s / terms.in_flight)
    # A hair less, so that a sum of equal parts isn't one worker too many.
    enough = max(1, math.ceil(shared_s / least_s - 1e-9)) if least_s else 1
    total_s = max(least_s, shared_s / workers)
    return Shares(sharding.count, workers, at_once, len(shares), largest, slowest, sum_s, total_s, enough)


class _Sum:
    """What the hosts of one shard come to."""

    __slots__ = ("demanded_s", "host", "host_urls", "hosts", "requests", "urls")

    def __init__(self) -> None:
        self.hosts = self.urls = self.requests = self.host_urls = 0
        self.demanded_s = -1.0  # the slowest host's
        self.host = ""

    def add(self, host: str, urls: int, terms: Terms) -> None:
        """Count a host."""
        plan = host_plan(host, urls, terms)
        self.hosts += 1
        self.urls += urls
        self.requests += plan.requests
        if plan.demanded_s > self.demanded_s:
            self.demanded_s, self.host, self.host_urls = plan.demanded_s, host, urls

    def share(self, shard: int, terms: Terms, workers: int) -> Share:
        """Return what it came to: the longest of the times that ``plan`` tells of."""
        in_flight_s = terms.answer_s * max(self.requests / terms.in_flight, 1.0)
        rate_s = 0.0 if terms.rate is None else (self.requests - 1) * workers / terms.rate + terms.answer_s
        demanded_s = max(self.demanded_s, in_flight_s, rate_s)
        return Share(shard, self.hosts, self.urls, demanded_s, self.host, self.host_urls)
