"""Politeness as a pool's users meet it: over both transports, against real servers."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from crawlpool import HostLimits, Outcome, RetryPolicy, SessionPool
from crawlpool.errors import ConfigError, ErrorKind, HostUnreachable
from crawlpool.politeness import breaker
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.kit import HandClock, go_by_hand

pytestmark = pytest.mark.above_transports


class Arrivals:
    """Routes that write down, by the server's clock, when each request came and when its answer was ready to go."""

    def __init__(self, answer: Any = b"x") -> None:
        self._answer = answer
        self._lock = threading.Lock()  # guards spans
        self.spans: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, request: Request) -> Any:
        came = time.monotonic()
        answer = self._answer(request) if callable(self._answer) else self._answer
        with self._lock:
            host = request.headers["host"].partition(":")[0]
            self.spans.setdefault(host, []).append((came, time.monotonic()))
        return answer

    def gaps(self) -> list[float]:
        """Return what lay between the end of each answer and the next arrival at the same host."""
        return [
            after[0] - before[1]
            for spans in self.spans.values()
            for before, after in zip(sorted(spans), sorted(spans)[1:], strict=False)
        ]


def test_the_delay_holds_for_a_map_a_crawl_and_submit() -> None:
    """All runs of a pool share what is known of a host: together they ask it no faster than one may."""
    delay_s, arrivals = 0.08, Arrivals()
    with SiteServer(arrivals) as server, SessionPool(threads=6, limits=HostLimits(delay_s=delay_s)) as pool:
        futures = [pool.submit("GET", server.url(f"/s{n}")) for n in range(3)]
        mapped = pool.map(server.url(f"/m{n}") for n in range(4))
        report = pool.crawl([server.url(f"/c{n}") for n in range(3)], limits=HostLimits(delay_s=delay_s))
        assert [result.outcome for result in mapped] == [Outcome.OK] * 4
        assert report.ok == 3
        for future in futures:
            assert future.result().ok
    assert len(arrivals.spans["127.0.0.1"]) == 1 + 10  # the crawl asked for robots.txt
    assert min(arrivals.gaps()) >= delay_s


def test_redirects_and_retries_are_requests_like_any_other() -> None:
    """Each hop and each further try keeps the distance, too."""
    failed: set[str] = set()

    def answers(request: Request) -> Any:
        if request.path.startswith("/from"):
            return Answer(302, {"Location": request.path.replace("from", "to")})
        if request.path not in failed:
            failed.add(request.path)
            return Answer(500)
        return b"x"

    delay_s, arrivals = 0.05, Arrivals(answers)
    policy = RetryPolicy(backoff_s=0.001, budget=None)
    with SiteServer(arrivals) as server, SessionPool(threads=4, retry=policy) as pool:
        results = list(pool.map([server.url(f"/from{n}") for n in range(3)], limits=HostLimits(delay_s=delay_s)))
    assert [result.attempts for result in results] == [3] * 3
    assert len(arrivals.spans["127.0.0.1"]) == 9
    assert min(arrivals.gaps()) >= delay_s


@pytest.mark.parametrize(
    ("threads", "others", "pages", "limits"),
    [(2, 3, 20, HostLimits(concurrency=2)), (3, 1, 8, HostLimits(delay_s=0.02))],
    ids=["others without a delay", "others with a short one"],
)
def test_a_long_rest_of_one_host_holds_no_other_back(threads: int, others: int, pages: int, limits: HostLimits) -> None:
    """While one host rests for an hour, the others' pages come: no worker sleeps for it.

    With several workers, too: who watches the clock for the far moment is told of each nearer one.
    """
    slow, *fast = loopback_hosts(1 + others)
    arrivals = Arrivals()
    with SiteServer(arrivals, hosts=(slow, *fast)) as server, SessionPool(threads=threads) as pool:
        pool.site(f"http://{slow}:{server.port}", limits=HostLimits(delay_s=3600))
        urls = [f"http://{slow}:{server.port}/{n}" for n in range(8)]
        urls += [f"http://{host}:{server.port}/{n}" for n in range(pages) for host in fast]
        results = pool.map(urls, limits=limits)
        came = [next(results).target.url for _ in range(1 + others * pages)]
        results.close()
    assert sum(slow in url for url in came) == 1
    assert len(arrivals.spans[slow]) == 1
    assert [len(arrivals.spans[host]) for host in fast] == [pages] * others


def test_who_waits_for_a_host_waits_no_longer_than_it_may() -> None:
    """``max_wait_s`` ends a target on time, though its host rests for far longer; the rest of the map goes on."""
    hosts, clock = loopback_hosts(2), HandClock()
    with SiteServer(Arrivals(), hosts=hosts) as server, SessionPool(threads=2) as pool:
        go_by_hand(pool, clock)
        pool.site(f"http://{hosts[0]}:{server.port}", limits=HostLimits(delay_s=3600))
        urls = [f"http://{host}:{server.port}/{n}" for host in hosts for n in range(3)]
        results = pool.map(urls, limits=HostLimits(concurrency=1), max_wait_s=0.5)
        assert [next(results).outcome for _ in range(4)] == [Outcome.OK] * 4
        clock.tick(0.5)
        ended = list(results)
    assert [result.error_kind for result in ended] == [ErrorKind.DEADLINE] * 2
    assert [result.waited_s for result in ended] == [0.5] * 2


def test_bad_limits_are_named_at_once() -> None:
    """Wherever limits are given, what is none is refused before anything is begun."""
    with SessionPool() as pool:
        for call in (
            lambda: pool.map([], limits=1),  # type: ignore[arg-type]
            lambda: pool.crawl([], limits={"delay_s": 1}),  # type: ignore[arg-type]
            lambda: pool.site("http://a.example", limits=1),  # type: ignore[arg-type]
            lambda: pool.crawl([], robots="no"),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigError, match=r"^(limits|robots)="):
                call()


def test_a_dead_host_is_given_up_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a host out of reach ends unsent, as failed, with the reason; other hosts' pages all come."""
    monkeypatch.setattr(breaker, "PROBES_S", (0.05, 0.1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: it refuses, and nobody else gets the port
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with SiteServer({"/": b"x"}, hosts="127.0.0.2") as server, SessionPool(threads=4, retry=False) as pool:
            urls = [f"{dead}{n}" for n in range(500)] + [server.url(f"/?{n}") for n in range(20)]
            limits = HostLimits(concurrency=2, connect_failures=3)
            results = list(pool.map(urls, limits=limits))
    lost = [result for result in results if result.outcome is Outcome.FAILED]
    unsent = [result for result in lost if result.attempts == 0]
    assert (len(lost), len(results)) == (500, 520)
    assert 500 - len(unsent) <= 3 + 1 + 2  # to open it, one more under way, and the probes
    assert {result.reason for result in unsent} == {"host_unreachable"}
    assert {result.error_kind for result in lost} == {ErrorKind.CONNECT}
    assert isinstance(unsent[0].error, HostUnreachable)
    with pytest.raises(HostUnreachable, match="could not be reached"):
        unsent[0].unwrap()


def test_the_rate_bounds_all_workers() -> None:
    """Whatever the run and the host: not more starts in a second than the pool's rate."""
    arrivals, begin = Arrivals(), time.monotonic()
    with SiteServer(arrivals) as server, SessionPool(threads=8, rate=50.0) as pool:
        assert sum(result.is_ok for result in pool.map([server.url("/")] * 20)) == 20
    assert max(span[0] for span in arrivals.spans["127.0.0.1"]) - begin >= (20 - 1) / 50 - 0.05
