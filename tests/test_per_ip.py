"""Hosts that share an address, as a pool's users meet them: over both transports, against real servers."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import requests

from crawlpool import DeadlineExceeded, HostLimits, SessionPool
from crawlpool.audit import judge
from crawlpool.errors import ErrorKind
from crawlpool.findings import Kind
from crawlpool.testing import SiteServer, loopback_hosts
from tests.gates import Gate, Threads
from tests.proof import Seen, breaches, legs_of, recorded
from tests.test_politeness import Arrivals

pytestmark = pytest.mark.transports()

DELAY_S = 0.03
DELAYED = HostLimits(delay_s=DELAY_S, per_ip=True)


def leads(server: SiteServer, count: int) -> dict[str, str]:
    """Return names, and the address of the server that each leads to, in turn."""
    return {f"shop{number}.example": server.hosts[number % len(server.hosts)] for number in range(count)}


def resolve(server: SiteServer, names: dict[str, str]) -> Any:
    """Return the pool's setting that makes it so."""
    return {(name, server.port): address for name, address in names.items()}


def complaints(arrivals: Arrivals, names: dict[str, str], limits: HostLimits) -> tuple[int, int]:
    """Return how many requests came too early and how many too much at once for an address, by the server's clock."""
    found = [0, 0]
    for address in set(names.values()):
        spans = [span for name, spans in arrivals.spans.items() if names.get(name, name) == address for span in spans]
        for kind, count in enumerate(breaches([Seen("/", *span, 0.0) for span in spans], limits)):
            found[kind] += count
    return found[0], found[1]


def test_the_delay_holds_for_an_address_by_the_servers_clock() -> None:
    """Ten names on two addresses, a crawl and callers' threads, robots.txt included: nobody comes too early."""
    arrivals = Arrivals()
    with SiteServer(arrivals, hosts=loopback_hosts(2)) as server, recorded() as legs:
        names = leads(server, 10)
        with SessionPool(threads=8, limits=DELAYED, resolve=resolve(server, names)) as pool, Threads() as threads:
            for name in list(names)[:4]:
                threads.start(lambda name=name: pool.get(f"http://{name}:{server.port}/").raise_for_status())  # type: ignore[misc]
            urls = [f"http://{name}:{server.port}/{n}" for n in range(3) for name in names]
            report = pool.crawl([*urls, server.url("/literal")], limits=DELAYED).check()
    assert report.ok == 31
    assert sum(map(len, arrivals.spans.values())) == 31 + 11 + 4
    assert complaints(arrivals, names, DELAYED) == (0, 0)
    found = judge(legs_of(legs))
    assert (found.breaches, found.tallies[Kind.ADDRESS_DELAY].asked) == ([], 31 + 11 + 4 - 2)
    assert {leg.address for leg in legs_of(legs)} == set(server.hosts)


def test_no_more_at_once_at_an_address_than_may() -> None:
    """Six names, two at once: the server never has more, whoever asks, and always has as many as it may."""
    limits = HostLimits(concurrency=2, per_ip=True)
    with Gate() as gate, SiteServer({"/": gate}) as server:
        names = leads(server, 6)
        urls = [f"http://{name}:{server.port}/" for name in names]
        with SessionPool(threads=8, limits=limits, resolve=resolve(server, names)) as pool, gate, Threads() as threads:
            futures = [pool.submit("GET", url) for url in urls]
            threads.start(lambda: pool.get(urls[0]).raise_for_status(), 2)
            gate.wait_for(2)
            gate.open()
            assert all(future.result().ok for future in futures)
        assert (gate.peak, gate.total) == (2, 8)


def test_without_it_each_host_is_by_itself() -> None:
    """As before: as many at once as there are hosts."""
    with Gate() as gate, SiteServer({"/": gate}) as server:
        names = leads(server, 4)
        with SessionPool(threads=4, limits=HostLimits(), resolve=resolve(server, names)) as pool, gate:
            futures = [pool.submit("GET", f"http://{name}:{server.port}/") for name in names]
            gate.wait_for(4)
            gate.open()
            assert all(future.result().ok for future in futures)


def test_a_name_that_leads_nowhere_fails_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds up nobody: the others of the crawl have their answers."""
    look_up = socket.getaddrinfo

    def fail(host: Any, *more: Any, **named: Any) -> Any:
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with SiteServer({"/": b"x"}) as server, SessionPool(limits=DELAYED, retry=False) as pool:
        results = list(pool.map(["http://nowhere.example/", server.url()], limits=DELAYED))
        with pytest.raises(requests.ConnectionError):
            pool.get("http://nowhere.example/")
    assert sorted(str(result.error_kind) for result in results) == sorted([str(ErrorKind.DNS), "None"])


def test_a_caller_whose_turn_comes_too_late_is_told_at_once() -> None:
    """Though its own host was never asked: another of the address was."""
    limits = HostLimits(delay_s=60.0, per_ip=True)
    with SiteServer({"/": b"x"}) as server:
        names = leads(server, 2)
        with SessionPool(limits=limits, resolve=resolve(server, names)) as pool:
            one, other = (f"http://{name}:{server.port}/" for name in names)
            assert pool.get(one).ok
            with pytest.raises(DeadlineExceeded, match="limits leave no turn"):
                pool.get(other, deadline=30)
        assert server.request_count == 1


def test_one_caller_waits_for_anothers_end() -> None:
    """Of one address, each under a name of its own."""
    limits = HostLimits(concurrency=1, per_ip=True)
    with Gate() as gate, SiteServer({"/": gate}) as server:
        names = leads(server, 5)
        urls = iter([f"http://{name}:{server.port}/" for name in names])
        with SessionPool(limits=limits, resolve=resolve(server, names)) as pool, gate, Threads() as threads:
            lock = threading.Lock()  # guards urls

            def ask() -> None:
                with lock:
                    url = next(urls)
                pool.get(url).raise_for_status()

            threads.start(ask, 5)
            gate.wait_for(1)
            gate.open()
        assert (gate.peak, gate.total) == (1, 5)


def test_loopback_is_exempt_where_its_hosts_are() -> None:
    """The default limits leave names apart that lead to this machine."""
    limits = HostLimits(concurrency=1, per_ip=True, loopback_exempt=True)
    with Gate() as gate, SiteServer({"/": gate}) as server:
        names = leads(server, 3)
        with SessionPool(threads=4, limits=limits, resolve=resolve(server, names)) as pool, gate:
            futures = [pool.submit("GET", f"http://{name}:{server.port}/") for name in names]
            gate.wait_for(3)
            gate.open()
            assert all(future.result().ok for future in futures)
