"""What is fetched, and who fetches it: the workloads of a run, in order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Who is left in a quick look.
QUICK = {
    "session_per_thread",
    "get_urllib3",
    "map_urllib3",
    "get_curl",
    "map_curl",
    "map_curl_best",
    "aiohttp",
    "pycurl_multi",
    "run_curl",
    "run_urllib3",
    "wget2",
    "curl_parallel",
}
QUICK_SHARE = 10


@dataclasses.dataclass(frozen=True)
class Workload:
    """Pages of so many hosts.

    Args:
        slug: what the options and the JSON call it.
        name: what the tables call it.
        contenders: who takes part, and for each one n: it is given one n-th of the requests, so that a slow one takes
            no longer than the others. Of many hosts it gets one n-th of the hosts, each with all its pages.
        scheme: http or https.
        hosts: how many hosts (addresses) there are.
        per_host: how many requests each gets, among so many ``pages``.
        pages: how many pages a host has.
        page_bytes: how long each is.
        in_flight: how many requests may be under way at once.
        threads: workers of those that have workers beside that.
        delay_s: how long the server waits before each answer.
        is_gzip: whether the server sends gzip, and nothing else.
        cookies_per_host: cookies that a client has to have for each host from the start; the server sees to it.
        most_rounds: rounds at most, for a workload that is costly.
        is_in_quick: whether a quick look has it.
    """

    slug: str
    name: str
    contenders: Mapping[str, int]
    scheme: str = "http"
    hosts: int = 1
    per_host: int = 1
    pages: int = 10
    page_bytes: int = 20_000
    in_flight: int = 16
    threads: int = 16
    delay_s: float = 0.0
    is_gzip: bool = False
    cookies_per_host: int = 0
    most_rounds: int | None = None
    is_in_quick: bool = True

    @property
    def requests(self) -> int:
        """How many requests one round is, for a contender that gets all of them."""
        return self.hosts * self.per_host

    @property
    def descriptors(self) -> int:
        """How many descriptors a client or the server needs, with some to spare."""
        return max(self.in_flight, self.hosts) + 200

    def share_of(self, contender: str) -> tuple[int, int]:
        """Return how many hosts a contender gets, and how many requests to each."""
        divisor = self.contenders[contender]
        if self.hosts >= divisor:
            return self.hosts // divisor, self.per_host
        return self.hosts, max(1, self.per_host // divisor)

    def quick(self, chosen: Collection[str] = ()) -> Workload:
        """Return the same, small, with the ``chosen`` contenders, or those that one asks for first."""
        contenders = {one: min(n, 4) for one, n in self.contenders.items() if one in (chosen or QUICK)}
        name = f"{self.name} (quick: a tenth)"
        if self.hosts >= QUICK_SHARE:
            return dataclasses.replace(self, name=name, contenders=contenders, hosts=self.hosts // QUICK_SHARE)
        per_host = max(1, self.per_host // QUICK_SHARE)
        return dataclasses.replace(self, name=name, contenders=contenders, per_host=per_host)


def _latency(in_flight: int, requests: int, contenders: Mapping[str, int], *, is_in_quick: bool = False) -> Workload:
    return Workload(
        f"latency-{in_flight}",
        f"50 ms latency, {in_flight:,} in flight",
        contenders,
        per_host=requests,
        in_flight=in_flight,
        threads=min(16, in_flight),
        delay_s=0.05,
        is_in_quick=is_in_quick,
    )


#: Whom the plots by in-flight count show.
_PLOTTED = {"session_per_thread": 1, "map_urllib3": 1, "map_curl": 1, "aiohttp": 1, "pycurl_multi": 1}

_REQUESTS_FAMILY = {"unpooled": 6, "shared_session": 6, "session_per_thread": 4, "futures": 6}
_PEERS = {"urllib3": 4, "httpx_threads": 8, "httpx_async": 16, "niquests": 6, "curl_cffi": 2, "aiohttp": 1}
_OURS = {"get_urllib3": 4, "map_urllib3": 4, "get_curl": 1, "map_curl": 1}

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "one-http",
        "one HTTP host, 20 kB",
        _REQUESTS_FAMILY
        | _PEERS
        | {"aiohttp_64": 1}
        | _OURS
        | {"map_curl_best": 1, "pycurl_multi": 1, "pycurl_multi_64": 1, "wrk": 1},
        per_host=8000,
    ),
    Workload(
        "small",
        "one HTTP host, 300 B",
        {"session_per_thread": 4, "urllib3": 2, "curl_cffi": 2, "aiohttp": 1}
        | _OURS
        | {"map_curl_best": 1, "pycurl_multi": 1, "wrk": 1},
        per_host=8000,
        page_bytes=300,
    ),
    Workload(
        "one-https",
        "one HTTPS host, 20 kB",
        {"unpooled": 50, "shared_session": 6, "session_per_thread": 6, "urllib3": 4, "httpx_async": 8, "niquests": 8}
        | {"curl_cffi": 2, "aiohttp": 1}
        | _OURS
        | {"pycurl_multi": 1, "wrk": 1},
        scheme="https",
        per_host=6000,
    ),
    _latency(1, 15, _PLOTTED),
    _latency(4, 60, _PLOTTED),
    _latency(16, 240, _PLOTTED),
    _latency(
        64,
        1920,
        _PLOTTED | {"session_per_thread": 2, "httpx_async": 10, "curl_cffi": 1, "get_urllib3": 2, "get_curl": 1},
        is_in_quick=True,
    ),
    _latency(256, 5120, {**_PLOTTED, "session_per_thread": 5, "map_urllib3": 5}),
    _latency(
        1000,
        10_000,
        {"session_per_thread": 5, "map_curl": 1, "aiohttp": 1, "curl_cffi": 4, "pycurl_multi": 1},
        is_in_quick=True,
    ),
    Workload(
        "https-100",
        "100 HTTPS hosts × 10 pages",
        {"unpooled": 25, "shared_session": 5, "session_per_thread": 5, "urllib3": 4, "httpx_async": 4, "curl_cffi": 5}
        | {"aiohttp": 1, "get_urllib3": 2, "map_urllib3": 2, "get_curl": 1, "map_curl": 1, "pycurl_multi": 1},
        scheme="https",
        hosts=100,
        per_host=10,
    ),
    Workload(
        "https-400",
        "400 HTTPS hosts × 10 pages",
        {"session_per_thread": 20, "urllib3": 8, "aiohttp": 2, "map_urllib3": 8, "map_curl": 1, "pycurl_multi": 1},
        scheme="https",
        hosts=400,
        per_host=10,
        is_in_quick=False,
    ),
    Workload(
        "large",
        "one HTTP host, 4 MB",
        {"session_per_thread": 1, "urllib3": 1, "aiohttp": 1, "get_urllib3": 1, "get_curl": 1, "map_curl": 1}
        | {"pycurl_multi": 1},
        per_host=160,
        pages=4,
        page_bytes=4_000_000,
    ),
    Workload(
        "gzip",
        "one HTTP host, 60 kB as gzip",
        {"session_per_thread": 4, "urllib3": 2, "curl_cffi": 2, "aiohttp": 1} | _OURS | {"pycurl_multi": 1},
        per_host=3000,
        page_bytes=60_000,
        is_gzip=True,
    ),
    Workload(
        "cookies",
        "30 HTTP hosts, 10 cookies for each",
        {"shared_session": 10, "session_per_thread": 10, "httpx_async": 10, "aiohttp": 1} | _OURS,
        hosts=30,
        per_host=150,
        cookies_per_host=10,
    ),
    Workload(
        "ten-thousand",
        "1 s latency, 10,000 in flight",
        {"map_curl": 1, "aiohttp": 1},
        hosts=10,
        per_host=2000,
        in_flight=10_000,
        delay_s=1.0,
        most_rounds=2,
        is_in_quick=False,
    ),
    Workload(
        "commands",
        "whole commands: one HTTP host, 20 kB, what was fetched is written",
        {"run_curl": 1, "run_urllib3": 2, "wget2": 1, "curl_parallel": 1, "aria2": 1, "scrapy": 1},
        per_host=8000,
    ),
)
BY_SLUG = {one.slug: one for one in WORKLOADS}
