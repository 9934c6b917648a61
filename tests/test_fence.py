"""The fence: what it says by the clock, and that nothing is sent past one that has closed, in whatever way it goes."""

from __future__ import annotations

import gc
import pathlib
import socket
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter

from crawlpool import Cancelled, ConfigError, CurlAdapter, Job, LeaseLost, RetryPolicy, SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.fence import LEASE_CLOCK, Fence, FenceSlot
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import Certificates
from tests.gates import PATIENCE_S, Gate, Threads, until
from tests.jobs.made import FREE
from tests.kit import HandClock, Proxy, RawServer, read_head

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAYS: dict[str, Callable[[SessionPool, str], Any]] = {
    "get": lambda pool, url: pool.get(url),
    "post": lambda pool, url: pool.post(url, data=b"x"),
    "chunked": lambda pool, url: pool.post(url, data=iter([b"x"])),
    "stream": lambda pool, url: pool.get(url, stream=True),
    "submit": lambda pool, url: pool.submit("GET", url).result(PATIENCE_S),
    "map": lambda pool, url: next(iter(pool.map([url]))).unwrap(),
    "crawl": lambda pool, url: _crawled(pool, url),
}


def _crawled(pool: SessionPool, url: str) -> None:
    ended: list[Any] = []
    pool.crawl([url], lambda result, crawl: ended.append(result))
    raise ended[0].error


class Closing:
    """A fence that lets so many requests through, and none after."""

    def __init__(self, lets_through: int) -> None:
        self.left = lets_through
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left >= 0


def pool_of(**more: Any) -> SessionPool:
    return SessionPool(**{"threads": 2, "trust_env": False, "timeout": 10, **more})


# The fence itself ------------------------------------------------------------------------------------------------


def test_a_fence_is_open_until_its_end_and_not_at_it() -> None:
    """The moment at which it ends is no moment at which may be sent; an end that is moved on opens it."""
    clock = HandClock()
    fence = Fence(clock, ends_at=clock.now_s + 2)
    assert (fence.may_send(), repr(fence)) == (True, "<Fence open, 2.000 s left>")
    clock.tick(2)
    assert (fence.may_send(), repr(fence)) == (False, "<Fence closed, 0.000 s left>")
    fence.ends_at += 1
    assert fence.may_send()


def test_a_fence_without_an_end_never_closes() -> None:
    """By itself a fence is open, and so is the slot of a pool that was given none."""
    assert Fence().may_send()
    slot = FenceSlot()
    slot.check()
    assert (slot.may_send(), slot.unacked_ms) == (True, 0)


def test_a_slot_asks_the_fence_that_it_was_given_last() -> None:
    """A fence brings how long the system may try; a function doesn't."""
    clock = HandClock()
    slot = FenceSlot()
    slot.put(Fence(clock, ends_at=clock.now_s, unacked_s=1.5))
    assert (slot.may_send(), slot.unacked_ms) == (False, 1500)
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    with pytest.raises(LeaseLost) as caught:
        slot.check(request)
    assert caught.value.request is request
    slot.put(lambda: True)
    assert slot.may_send()


def test_who_closed_a_fence_has_its_pools_told() -> None:
    """Each method is called; the fence keeps nobody alive for that."""

    class Told:
        count = 0

        def end(self) -> None:
            Told.count += 1

    fence, one, other = Fence(), Told(), Told()
    fence.at_end(one.end)
    fence.at_end(other.end)
    fence.tell_end()
    assert Told.count == 2
    del one
    gc.collect()
    fence.tell_end()
    assert Told.count == 3


def test_the_clock_of_leases_is_monotonic_and_counts_sleep() -> None:
    """On Linux it is the time since the machine was started, sleep included; nowhere does it go back."""
    before = LEASE_CLOCK.monotonic()
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert before <= time.clock_gettime(time.CLOCK_BOOTTIME) <= LEASE_CLOCK.monotonic()
    assert LEASE_CLOCK.monotonic() >= before


def test_a_lost_lease_is_a_cancelled_request() -> None:
    """So nothing retries it, and a job gives its target back."""
    error = LeaseLost("ended")
    assert isinstance(error, Cancelled)
    assert kind_of(error) is ErrorKind.CANCELLED


# Nothing is sent past it -----------------------------------------------------------------------------------------


@pytest.mark.transports
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_sent_past_a_closed_fence(way: str) -> None:
    """Whatever way a request goes, its server isn't even connected to; it ends as LeaseLost, untried."""
    with SiteServer({"/x": b"here"}) as server, pool_of(retry=RetryPolicy(backoff_s=0.0)) as pool:
        pool.set_fence(lambda: False)
        assert not pool.may_send()
        with pytest.raises(LeaseLost):
            WAYS[way](pool, server.url("/x"))
        assert server.requests == []
        assert pool.statistics().retries == 0
        assert pool.statistics().connections_open == 0


@pytest.mark.transports
@pytest.mark.parametrize("way", ["get", "post", "submit"])
def test_nothing_is_sent_over_an_open_connection_either(way: str) -> None:
    """A connection that was made while the fence was open, and is kept, is no way past it."""
    with SiteServer({"/x": b"here"}) as server, pool_of(threads=1) as pool:
        WAYS[way](pool, server.url("/x"))
        pool.set_fence(lambda: False)
        with pytest.raises(LeaseLost):
            WAYS[way](pool, server.url("/x"))
        assert len(server.requests) == 1
        pool.set_fence(lambda: True)
        WAYS[way](pool, server.url("/x"))
        assert len(server.requests) == 2


@pytest.mark.transports
def test_a_fence_that_closes_between_the_connection_and_the_request_holds_it_back(transport: str) -> None:
    """The last look is after the handshake: a server that was connected to hears nothing."""
    heard: list[bytes] = []
    with RawServer(lambda connection, _: heard.append(read_head(connection))) as server, pool_of() as pool:
        closing = Closing(1 if transport == "curl" else 2)  # for the connection, and who asks for it
        pool.set_fence(closing)
        with pytest.raises(LeaseLost):
            pool.get(server.url())
        pool.close()
        until(lambda: len(server.connections) == 1)  # it is the server's to find out, in its own time
    assert [head for head in heard if head] == []
    assert closing.left == -1


@pytest.mark.transports
def test_a_redirect_asks_again() -> None:
    """The hop is a request of its own."""
    with SiteServer({"/a": Answer(302, {"Location": "/b"}, b""), "/b": b"here"}) as server, pool_of() as pool:
        pool.set_fence(lambda: len(server.requests) < 1)
        with pytest.raises(LeaseLost):
            pool.get(server.url("/a"))
        assert [one.path for one in server.requests] == ["/a"]


@pytest.mark.transports
def test_a_retry_asks_again_and_is_not_retried() -> None:
    """What a policy would send once more is held back, and that is the end of it."""
    with SiteServer({"/a": Answer(503, {}, b"")}) as server, pool_of(retry=RetryPolicy(backoff_s=0.0)) as pool:
        pool.set_fence(lambda: len(server.requests) < 1)
        with pytest.raises(LeaseLost):
            pool.get(server.url("/a"))
        assert len(server.requests) == 1


@pytest.mark.transports
def test_the_second_try_of_a_connection_that_the_server_closed_asks_again() -> None:
    """What a transport sends a second time by itself, over a new connection, is held back like anything else."""
    heads: list[bytes] = []

    def script(connection: socket.socket, number: int) -> None:
        head = read_head(connection)
        if head:
            heads.append(head)
            connection.sendall(FINE)
        head = read_head(connection)
        if head:
            heads.append(head)  # and closed, unanswered: as if the connection had been closed meanwhile

    with RawServer(script) as server, pool_of(retry=False) as pool:
        pool.get(server.url("/first"))
        pool.set_fence(lambda: len(heads) < 2)
        with pytest.raises(LeaseLost):
            pool.get(server.url("/second"))
    assert [head.split(b" ")[1] for head in heads] == [b"/first", b"/second"]


@pytest.mark.transports
def test_robots_txt_asks_too() -> None:
    """A crawl's first request to a host is for its robots.txt; with the fence closed there is none."""
    with SiteServer({"/robots.txt": b"", "/x": b"here"}) as server, pool_of() as pool:
        pool.set_fence(lambda: False)
        report = pool.crawl([server.url("/x")], limits=None)
        assert server.requests == []
        assert report.failed == 1


@pytest.mark.transports
def test_a_proxy_is_no_way_past_it() -> None:
    """Neither for plain requests nor through a tunnel, and the error is the same."""
    with Proxy() as proxy, SiteServer({"/x": b"here"}) as server:
        with pool_of(proxies={"http": proxy.url()}) as pool:
            pool.get(server.url("/x"))
            pool.set_fence(lambda: False)
            with pytest.raises(LeaseLost):
                pool.get(server.url("/x"))
        assert len(server.requests) == 1


@pytest.mark.transports
def test_a_tunnel_that_was_made_is_no_way_past_it(certificates: Certificates) -> None:
    """The request in it is held back after the handshake."""
    tls = certificates.server_context()
    with Proxy() as proxy, SiteServer({"/x": b"here"}, tls=tls) as server:
        with pool_of(proxies={"https": proxy.url()}, verify=str(certificates.authority), retry=False) as pool:
            pool.set_fence(lambda: not proxy.heads)  # the tunnel's own request is the last that may go
            with pytest.raises(LeaseLost):
                pool.get(server.url("/x"))
        assert server.requests == []
        assert len(proxy.heads) == 1


def test_an_adapter_of_the_users_is_held_back_too() -> None:
    """It knows nothing of fences; it isn't called."""
    with SiteServer({"/x": b"here"}) as server, pool_of() as pool:
        pool.mount("http://", HTTPAdapter)
        assert pool.get(server.url("/x")).text == "here"
        pool.set_fence(lambda: False)
        with pytest.raises(LeaseLost):
            pool.get(server.url("/x"))
        assert len(server.requests) == 1


@pytest.mark.transports
def test_an_adapter_by_itself_says_the_same() -> None:
    """What a user's code sends by a session's own adapter is held back, with the same error."""
    with SiteServer({"/x": b"here"}) as server, pool_of() as pool:
        session = pool.session
        request = session.prepare_request(requests.Request("GET", server.url("/x")))
        assert session.get_adapter(server.url("/x")).send(request).status_code == 200
        pool.set_fence(lambda: False)
        with pytest.raises(LeaseLost) as caught:
            session.get_adapter(server.url("/x")).send(request)
        assert caught.value.request is request
        assert len(server.requests) == 1


def test_a_mock_is_held_back_too() -> None:
    """Tests of fences need no server."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock, pool_of() as pool:
        mock.get("http://site.example/", body=b"mocked")
        assert pool.get("http://site.example/").text == "mocked"
        pool.set_fence(lambda: False)
        with pytest.raises(LeaseLost):
            pool.get("http://site.example/")
        assert len(mock.calls) == 1


def test_libcurl_by_itself_has_no_fence() -> None:
    """An adapter that is mounted on a session of requests sends as ever."""
    pytest.importorskip("pycurl")
    with SiteServer({"/x": b"here"}) as server, requests.Session() as session:
        session.mount("http://", CurlAdapter())
        assert session.get(server.url("/x")).text == "here"


def test_what_cannot_be_asked_is_no_fence() -> None:
    """The error names what was given."""
    with pool_of() as pool, pytest.raises(ConfigError, match="fence=5"):
        pool.set_fence(5)  # type: ignore[arg-type]


# What is under way -----------------------------------------------------------------------------------------------


@pytest.mark.transports
@pytest.mark.parametrize("way", ["get", "stream", "submit", "map", "crawl"])
def test_the_end_of_a_fence_ends_what_is_under_way(way: str) -> None:
    """Whoever waits for an answer gets LeaseLost at once; the pool goes on when the fence opens again."""
    clock = HandClock()
    fence = Fence(clock, ends_at=clock.now_s + 10)
    errors: list[BaseException] = []

    def ask(pool: SessionPool, url: str) -> None:
        try:
            WAYS[way](pool, url)
        except BaseException as error:
            errors.append(error)

    gate = Gate()
    with SiteServer({"/slow": gate, "/x": b"here"}) as server, gate, pool_of(retry=False) as pool:
        pool.set_fence(fence)
        with Threads() as threads:
            url = server.url("/slow")
            threads.start(lambda: ask(pool, url))
            gate.wait_for(1)
            clock.tick(10)
            fence.tell_end()
        assert [type(error) for error in errors] == [LeaseLost]
        fence.ends_at += 10
        assert pool.get(server.url("/x")).text == "here"


@pytest.mark.transports
def test_a_job_gives_back_what_a_fence_held_back(tmp_path: pathlib.Path) -> None:
    """Such a target has no record and no attempt: it waits for the next run, which has each exactly once."""
    job = Job(str(tmp_path / "job"))
    with SiteServer(lambda request: request.path.encode()) as server, pool_of() as pool:
        seeds = [server.url(f"/{number}") for number in range(20)]
        pool.set_fence(lambda: len(server.requests) < 5)
        report = pool.crawl(seeds, job=job, **FREE)
        sent = len(server.requests)
        assert 5 <= sent < 20  # each of the two workers may have looked before the other's was counted
        assert (report.ok, report.failed) == (sent, 0)
        pool.set_fence(lambda: True)
        report = pool.crawl(seeds, job=job, **FREE)
        assert report.ok == 20
        assert sorted(one.path for one in server.requests) == sorted(f"/{number}" for number in range(20))
    with sqlite3.connect(tmp_path / "job" / "ledger.sqlite3") as database:
        assert database.execute("SELECT count(*), sum(state = 1) FROM target").fetchall() == [(20, 20)]
    database.close()


@pytest.mark.transports
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_the_system_gives_up_what_a_host_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection of a fenced pool is bound to it, so that no request arrives long after the process is cut off."""
    bound: list[int] = []
    real = FenceSlot.bind

    def bind(slot: FenceSlot, sock: socket.socket) -> None:
        real(slot, sock)
        bound.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    monkeypatch.setattr(FenceSlot, "bind", bind)
    with SiteServer({"/x": b"here"}) as server, pool_of() as pool:
        pool.set_fence(Fence(unacked_s=2.5))
        assert pool.get(server.url("/x")).text == "here"
        assert pool.get(server.url("/x")).text == "here"
    assert bound == [2500]


def test_a_socket_that_cannot_be_bound_is_used_all_the_same() -> None:
    """What isn't TCP has no such option."""
    slot = FenceSlot()
    slot.put(Fence(unacked_s=1.0))
    here, there = socket.socketpair()
    with here, there:
        slot.bind(here)
