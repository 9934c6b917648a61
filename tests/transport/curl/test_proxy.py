"""Proxies over libcurl: which one is asked, how, with what login, and what is told of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import ErrorKind, PoolClosed, kind_of
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import Certificates, temporary_certificates
from crawlpool.transport.curl import library
from tests.gates import PATIENCE_S, Threads
from tests.kit import Proxy, RawServer, answering, read_head

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

LOGIN = b"proxy-authorization: basic dxnlcjpwdw=="  # user:pw


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    """Make an authority and a certificate for a host that only a proxy knows."""
    with temporary_certificates(["far.example", "127.0.0.1"]) as made:
        yield made


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Run a forward proxy."""
    with Proxy() as proxy:
        yield proxy


def new_pool(**more: Any) -> SessionPool:
    return SessionPool(transport="curl", retry=False, **{"trust_env": False, "timeout": 10, **more})


REFUSED = "http://127.0.0.1:1"  # nobody listens there; a port that was given back may be the next server's


def test_a_plain_request_goes_through_the_proxy(proxy: Proxy) -> None:
    """By its whole URL, over one connection; the name is the proxy's to resolve."""
    with SiteServer({"/a": b"via"}) as server, new_pool(proxies={"http": proxy.url()}) as pool:
        for _ in range(2):
            assert pool.get(server.url("/a?b=c", host="far.example")).text == "via"
        assert proxy.heads[0].startswith(f"GET http://far.example:{server.port}/a?b=c HTTP/1.1".encode())
        assert server.requests[0].headers["host"] == f"far.example:{server.port}"


def test_tls_goes_through_a_tunnel(proxy: Proxy, certificates: Certificates) -> None:
    """By CONNECT; the certificate that is verified is the far server's, and verify=False of one call is its own."""
    with SiteServer({"/": b"tunnelled"}, tls=certificates.server_context()) as server:
        url = server.url(host="far.example")
        with new_pool(proxies={"https": proxy.url()}) as pool:
            for _ in range(2):
                assert pool.get(url, verify=str(certificates.authority)).text == "tunnelled"
            assert len(proxy.heads) == 1, "the tunnel is used again"
            assert pool.get(url, verify=False).text == "tunnelled"
            with pytest.raises(requests.exceptions.SSLError):
                pool.get(url)
        assert {head.split(b"\r\n")[0] for head in proxy.heads} == {
            f"CONNECT far.example:{server.port} HTTP/1.1".encode()
        }


def test_nothing_of_the_request_is_told_to_a_tunnels_proxy(proxy: Proxy, certificates: Certificates) -> None:
    """Neither path nor headers nor cookies: they are for the server, which gets no login of the proxy's."""
    address = proxy.url().replace("http://", "http://user:pw@")
    with SiteServer({"/": b"x"}, tls=certificates.server_context()) as server, new_pool() as pool:
        options: Any = {"verify": str(certificates.authority), "proxies": {"https": address}}
        headers = {"X-Secret": "1", "Cookie": "a=secret", "Authorization": "Bearer secret"}
        assert pool.get(f"{server.url(host='far.example')}?secret=1", headers=headers, **options).ok
        assert b"secret" not in proxy.heads[0].lower()
        assert LOGIN in proxy.heads[0].lower()
        assert "proxy-authorization" not in server.requests[0].headers
        assert server.requests[0].headers["x-secret"] == "1"


def test_a_login_goes_with_a_plain_request(proxy: Proxy) -> None:
    """Of the proxy's URL, percent-coding undone."""
    address = proxy.url().replace("http://", "http://us%65r:p%77@")
    with SiteServer({"/": b"x"}) as server, new_pool(proxies={"all": address}) as pool:
        assert pool.get(server.url(host="far.example")).ok
    assert LOGIN in proxy.heads[0].lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_login(scheme: str) -> None:
    """407 to a plain request is its answer; to CONNECT it is a failed proxy, and no secret is in what is said."""
    denied = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with RawServer(answering(denied)) as server:
        address = server.url().replace("http://", "http://user:secret@")
        with new_pool(proxies={"all": address}) as pool:
            if scheme == "http":
                assert pool.get("http://far.example/").status_code == 407
                return
            with pytest.raises(requests.exceptions.ProxyError) as caught:
                pool.get("https://far.example/")
            assert kind_of(caught.value) is ErrorKind.PROXY
            assert "407" in str(caught.value)
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://far.example/", "https://far.example/"])
def test_a_proxy_that_refuses_is_a_proxy_error(url: str) -> None:
    """Nobody listens there; the target itself is never asked."""
    with new_pool(proxies={"all": REFUSED}) as pool:
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            pool.get(url)
        assert kind_of(caught.value) is ErrorKind.PROXY
        results = list(pool.map([url] * 3))
        assert [kind_of(one.error) for one in results if one.error is not None] == [ErrorKind.PROXY] * 3


def test_a_proxy_whose_name_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that can't be had, not the target."""

    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with new_pool(proxies={"all": "http://proxy.example:3128"}) as pool, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(requests.exceptions.ProxyError):
            pool.get("http://far.example/")


def test_who_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """``no_proxy`` of the environment, and of the call."""
    monkeypatch.setenv("http_proxy", REFUSED)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with SiteServer({"/": b"x"}) as server, new_pool(trust_env=True) as pool:
        assert pool.get(server.url()).ok
        with pytest.raises(requests.exceptions.ProxyError):
            pool.get(server.url(host="far.example"))
    monkeypatch.delenv("no_proxy")
    with SiteServer({"/": b"x"}) as server, new_pool(trust_env=True) as pool:
        assert pool.get(server.url(), proxies={"no_proxy": "127.0.0.1"}).ok
        with pytest.raises(requests.exceptions.ProxyError):
            pool.get(server.url())


def test_the_environment_is_that_of_the_pools_making(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """libcurl reads variables of its own accord; here it never does, neither those set before nor after."""
    with SiteServer({"/": b"x"}) as server:
        with new_pool(trust_env=True) as before:
            for name in ("http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url())
            assert before.get(server.url()).ok
            assert proxy.heads == []
            with new_pool(trust_env=False) as blind, new_pool(trust_env=True) as after:
                for name in ("http_proxy", "ALL_PROXY", "all_proxy"):
                    monkeypatch.delenv(name)
                monkeypatch.setenv("no_proxy", "*")
                assert blind.get(server.url()).ok
                assert proxy.heads == []
                assert after.get(server.url()).ok
                assert len(proxy.heads) == 1


def test_each_request_has_its_own() -> None:
    """With one, without, with another: no handle keeps the one of the request before, and no connection is shared."""

    def answer(said: bytes) -> RawServer:
        return RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + said))

    with answer(b"one") as one, answer(b"two") as two, SiteServer({"/": b"own"}) as server, new_pool() as pool:
        for _ in range(2):
            assert pool.get(server.url(), proxies={"http": one.url()}).text == "one"
            assert pool.get(server.url()).text == "own"
            assert pool.get(server.url(), proxies={"http://127.0.0.1": two.url()}).text == "two"
            assert pool.get(server.url(), proxies={"http": None}).text == "own"
        assert (len(one.connections), len(two.connections), server.connections) == (1, 1, 1)


def test_a_proxy_gets_the_headers_that_requests_would_send(proxy: Proxy) -> None:
    """libcurl would add one of its own, by which it is told from requests."""
    heads = []
    with SiteServer({"/": b"x"}) as server:
        for transport in ("urllib3", "curl"):
            with SessionPool(transport=transport, retry=False, trust_env=False, proxies={"http": proxy.url()}) as pool:
                pool.get(server.url())
    for head in proxy.heads:
        heads.append(sorted(head.split(b"\r\n")))
    assert heads[0] == heads[1]


def test_threads_with_different_proxies() -> None:
    """Each thread's requests go through its own, also when they run side by side in one engine."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    with (
        RawServer(answering(head + b"one")) as first,
        RawServer(answering(head + b"two")) as second,
        new_pool() as pool,
    ):

        def ask(address: str, said: str) -> None:
            for number in range(20):
                assert pool.get(f"http://far.example/{number}", proxies={"http": address}).text == said

        with Threads() as threads:
            for _ in range(3):
                threads.start(lambda: ask(first.url(), "one"))
                threads.start(lambda: ask(second.url(), "two"))


@pytest.mark.parametrize("prefix", ["http://", "http://user:pw@", ""])
def test_records_say_the_same_as_over_urllib3(proxy: Proxy, prefix: str) -> None:
    """``proxy`` without its login, however it was written, and no ``ip``: the proxy's address isn't the server's."""
    records: dict[str, tuple[Any, Any]] = {}
    address = proxy.url().rstrip("/").replace("http://", prefix)
    with SiteServer({"/": b"x"}) as server:
        for transport in ("urllib3", "curl"):
            with SessionPool(transport=transport, retry=False, trust_env=False, proxies={"http": address}) as pool:
                (result,) = pool.map([server.url(host="far.example")])
                assert result.is_ok
                records[transport] = (result.record["proxy"], result.record["ip"])
    assert records["curl"] == records["urllib3"] == (proxy.url().rstrip("/"), None)


def test_a_proxy_that_is_none_is_an_invalid_url() -> None:
    """Malformed, or of a scheme that isn't spoken: said before anything is sent."""
    with new_pool() as pool:
        for address in ("http://", "ftp://127.0.0.1:1", "http:///x"):
            with pytest.raises(requests.exceptions.InvalidProxyURL):
                pool.get("http://far.example/", proxies={"http": address})


def test_a_body_goes_through_both_ways(proxy: Proxy, certificates: Certificates) -> None:
    """An upload and a large answer, through a tunnel, streamed."""
    body = b"x" * 1_000_000
    with SiteServer(lambda one: Answer(200, {}, one.body), tls=certificates.server_context()) as server:
        with new_pool(proxies={"https": proxy.url()}, verify=str(certificates.authority)) as pool:
            url = server.url(host="far.example")
            assert pool.post(url, data=iter([body] * 3)).content == body * 3
            assert pool.post(url, data=body, stream=True).content == body


def test_socks_leads_to_the_target_by_its_name() -> None:
    """``socks5h``: the proxy resolves; the request inside is an ordinary one, and the login goes to the proxy alone."""
    seen: list[bytes] = []

    def script(connection: socket.socket, _: int) -> None:
        methods = connection.recv(2)[1]
        assert 2 in connection.recv(methods)
        connection.sendall(b"\5\2")
        seen.append(connection.recv(512))  # RFC 1929: version, user, password
        connection.sendall(b"\1\0")
        seen.append(connection.recv(512))  # RFC 1928: CONNECT to a name
        connection.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        seen.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nvia")
        connection.recv(1)

    with RawServer(script) as server, new_pool() as pool:
        address = f"socks5h://user:pw@127.0.0.1:{server.port}"
        assert pool.get("http://far.example:81/a", proxies={"http": address}).text == "via"
    assert seen[0] == b"\1\4user\2pw"
    assert seen[1] == b"\5\1\0\3\x0bfar.example" + (81).to_bytes(2, "big")
    assert seen[2].startswith(b"GET /a HTTP/1.1\r\nHost: far.example:81\r\n")
    assert b"pw" not in seen[2]


def test_closing_the_pool_ends_a_request_through_a_proxy() -> None:
    """One that takes CONNECT and never answers."""
    reached = threading.Event()
    raised: list[type[BaseException]] = []

    def script(connection: socket.socket, _: int) -> None:
        read_head(connection)
        reached.set()
        connection.recv(1)

    with RawServer(script) as mute, Threads() as threads:
        pool = new_pool(proxies={"all": mute.url()}, timeout=None)

        def fetch() -> None:
            try:
                pool.get("https://far.example/")
            except PoolClosed as error:
                raised.append(type(error))

        threads.start(fetch)
        assert reached.wait(PATIENCE_S)
        pool.close()
        threads.join()
    assert raised == [PoolClosed]
