"""Connections: where they lead, what the lifeline knows of them, and what becomes of them."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connectionpool import HTTPConnectionPool

from crawlpool import AddressRules, SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import Answer, SiteServer, loopback_hosts
from crawlpool.transport.connections import track
from crawlpool.transport.lifeline import Lifeline
from tests.gates import until
from tests.kit import RawServer, resolving_to_nothing

pytestmark = pytest.mark.transports()


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry, and that may go to loopback by any name."""
    rules = AddressRules(allow_nets=("127.0.0.0/8",))
    with SessionPool(retry=False, trust_env=False, timeout=10, addresses=rules) as pool:
        yield pool


def test_a_resolved_name_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """``resolve`` leads a name and port to an address, in any case of letters; the Host header keeps the name."""
    with SiteServer({"/": b"here"}) as server:
        leads = {("Shop.Example", server.port): "127.0.0.1"}
        asked: list[Any] = []
        ask = socket.getaddrinfo
        with monkeypatch.context() as patch, SessionPool(retry=False, trust_env=False, resolve=leads) as pool:
            patch.setattr(socket, "getaddrinfo", lambda host, *rest: asked.append(host) or ask(host, *rest))
            response = pool.get(server.url("/", host="shop.example"))
            assert response.text == "here"
            assert response.wire.ip == "127.0.0.1"  # type: ignore[attr-defined]
        assert asked == []
        assert server.requests[0].headers["host"] == f"shop.example:{server.port}"


def test_a_name_on_another_port_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is resolved is resolved for one port."""
    with SessionPool(retry=False, trust_env=False, resolve={("shop.example", 81): "127.0.0.1"}) as pool:
        with resolving_to_nothing(monkeypatch), pytest.raises(requests.ConnectionError) as caught:
            pool.get("http://shop.example/")
    assert kind_of(caught.value) is ErrorKind.DNS


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch, pool: SessionPool) -> None:
    """The first refuses, the second answers."""
    hosts = loopback_hosts(2)
    if len(hosts) < 2:
        pytest.skip("this machine has one loopback address")
    with SiteServer({"/": b"second"}, hosts=hosts[1]) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port)) for host in hosts]
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_: found)
            response = pool.get(f"http://two.example:{server.port}/")
        assert response.text == "second"
        assert response.wire.ip == hosts[1]  # type: ignore[attr-defined]
        assert pool.statistics().connections_open == 1


def test_the_connect_timeout_is_not_the_read_timeout(pool: SessionPool) -> None:
    """Once connected, the read timeout holds: a slow answer isn't late for the connect timeout."""
    with SiteServer({"/": Answer(delay_s=1.3)}) as server:
        assert pool.get(server.url(), timeout=(1, 10)).ok  # a second, as connecting has to come within it
        with pytest.raises(requests.ReadTimeout):
            pool.get(server.url(), timeout=(10, 0.1))


@pytest.mark.transports("urllib3")  # libcurl closes the connection when it has read the body, whoever takes it when
def test_a_last_answer_is_watched_until_its_body_is_read(pool: SessionPool) -> None:
    """``Connection: close``: http.client lets go of the socket with the header; the lifeline doesn't."""
    with SiteServer({"/": Answer(200, {}, [b"a" * 10, b"b" * 10], close=True)}) as server:
        response = pool.get(server.url(), stream=True)
        assert pool.statistics().connections_open == 1
        assert response.content == b"a" * 10 + b"b" * 10
        assert pool.statistics().connections_open == 0
        with pool.get(server.url(), stream=True):
            assert pool.statistics().connections_open == 1
        assert pool.statistics().connections_open == 0


def test_a_dropped_stream_takes_its_connection_with_it(pool: SessionPool) -> None:
    """Nothing of ours keeps an unread response's socket open."""
    with SiteServer({"/": Answer(200, {}, [b"a" * 2_000_000] * 2, close=True)}) as server:
        response = pool.get(server.url(), stream=True)
        assert pool.statistics().connections_open == 1
        del response
        gc.collect()
        until(lambda: pool.statistics().connections_open == 0)  # with curl the I/O thread closes it


def test_a_users_adapter_is_watched_too(pool: SessionPool) -> None:
    """Its connections are known to the lifeline, so that closing the pool ends them."""
    with SiteServer({"/": b"x", "/close": Answer(200, {}, b"y", close=True)}) as server:
        pool.mount("http://", HTTPAdapter)
        assert pool.get(server.url()).text == "x"
        assert pool.statistics().connections_open == 1
        assert pool.get(server.url("/close")).text == "y"
        assert pool.statistics().connections_open == 0


def test_pool_classes_of_the_user_are_left_alone() -> None:
    """What a user built stays as it is."""

    class Own(HTTPConnectionPool):
        pass

    manager = PoolManager()
    manager.pool_classes_by_scheme = {"http": Own, "https": Own}
    track(manager, Lifeline(), {})
    assert manager.pool_classes_by_scheme == {"http": Own, "https": Own}


def test_a_label_too_long_is_an_invalid_url(pool: SessionPool) -> None:
    """A host that IDNA refuses is told as a bad URL, not as a failed look-up."""
    with pytest.raises(requests.exceptions.InvalidURL) as caught:
        pool.get(f"http://{'a' * 64}.example/")
    assert kind_of(caught.value) is ErrorKind.INVALID_URL


def test_a_server_that_answers_before_it_read_all_is_heard(pool: SessionPool) -> None:
    """413 comes while the body is still being sent, and the server closes: its answer counts."""

    def script(connection: socket.socket, _: int) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with RawServer(script) as server:
        assert pool.post(server.url(), data=b"x" * 5_000_000).status_code == 413
