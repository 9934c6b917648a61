"""Proxies, over each transport: plain and by CONNECT, with credentials, SOCKS, and who gets none."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import Certificates
from tests.kit import Proxy, RawServer, read_head

pytestmark = pytest.mark.transports()

CREDENTIALS = b"Proxy-Authorization: Basic " + base64.b64encode(b"us er:pa:ss@")


class Socks(RawServer):
    """A SOCKS5 proxy (RFC 1928, 1929); every name leads to 127.0.0.1. ``asked`` holds what it was asked for."""

    def __init__(self, login: tuple[bytes, bytes] | None = None) -> None:
        super().__init__(self._serve)
        self.asked: list[tuple[bytes, int]] = []
        self._login = login

    def _serve(self, client: socket.socket, _: int) -> None:
        methods = client.recv(2)[1]
        client.recv(methods)
        client.sendall(b"\x05\x02" if self._login else b"\x05\x00")
        if self._login:
            given = client.recv(513)
            user, password = given[2 : 2 + given[1]], given[3 + given[1] :]
            is_right = (user, password) == self._login
            client.sendall(b"\x01\x00" if is_right else b"\x01\x01")
            if not is_right:
                return
        kind = client.recv(4)[3]
        host = client.recv(client.recv(1)[0]) if kind == 3 else client.recv(4 if kind == 1 else 16)
        (port,) = struct.unpack("!H", client.recv(2))
        self.asked.append((host, port))
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            with self.lock:
                self.connections.append(server)
            back = threading.Thread(target=relay, args=(server, client))
            back.start()
            relay(client, server)
            back.join()


def relay(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one of the two is gone
        return


@pytest.fixture
def server() -> Iterator[SiteServer]:
    with SiteServer(lambda request: Answer(200, {}, request.method.encode() + b" " + request.body)) as server:
        yield server


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[SiteServer]:
    with SiteServer({"/": b"secret"}, tls=certificates.server_context()) as server:
        yield server


@pytest.fixture
def pool(certificates: Certificates) -> Iterator[SessionPool]:
    with SessionPool(retry=False, trust_env=False, timeout=10, verify=str(certificates.authority)) as pool:
        yield pool


def through(proxy: RawServer, login: str = "", scheme: str = "http") -> dict[str, str]:
    url = f"{scheme}://{login}127.0.0.1:{proxy.port}"
    return {"http": url, "https": url}


def test_a_plain_request_goes_by_its_whole_url(pool: SessionPool, server: SiteServer) -> None:
    """The proxy gets the absolute URL, body and all, and resolves the name by itself; the next call goes without."""
    with Proxy() as proxy:
        url = f"http://site.example:{server.port}/a?b=c"
        assert pool.post(url, data=b"body", proxies=through(proxy)).text == "POST body"
        assert proxy.heads[0].startswith(f"POST {url} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization" not in proxy.heads[0]
        assert pool.get(server.url()).text == "GET "
        assert len(proxy.heads) == 1


def test_tls_goes_through_a_tunnel(pool: SessionPool, secure: SiteServer) -> None:
    """CONNECT for the host and port; the certificate is the server's, and is checked; the tunnel is used again."""
    with Proxy() as proxy:
        for _ in range(2):
            assert pool.get(secure.url(host="localhost"), proxies=through(proxy)).text == "secret"
        # CPython's own CONNECT says HTTP/1.0 before 3.12.
        asked = [head.split(b"\r\n")[0].rpartition(b" HTTP/1.")[0] for head in proxy.heads]
        assert asked == [f"CONNECT localhost:{secure.port}".encode()]
        with pytest.raises(requests.exceptions.SSLError) as caught:
            pool.get(secure.url(host="localhost"), proxies=through(proxy), verify=True)
        assert kind_of(caught.value) is ErrorKind.TLS


def test_credentials_reach_the_proxy_once_and_nobody_else(
    pool: SessionPool, server: SiteServer, secure: SiteServer
) -> None:
    """One header to the proxy, after a redirect too; none to the server behind a tunnel."""
    with Proxy() as proxy:
        proxies = through(proxy, "us%20er:pa%3Ass%40@")
        assert pool.get(server.url(), proxies=proxies).ok
        assert pool.get(secure.url(host="localhost"), proxies=proxies).ok
        assert [head.count(CREDENTIALS) for head in proxy.heads] == [1, 1]
        assert [head.lower().count(b"proxy-authorization") for head in proxy.heads] == [1, 1]
    assert "proxy-authorization" not in secure.requests[0].headers


def test_a_redirect_goes_by_the_same_proxy(pool: SessionPool) -> None:
    """With the same credentials, once."""
    heads: list[bytes] = []

    def script(connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            heads.append(head)
            if len(heads) == 1:
                connection.sendall(b"HTTP/1.1 302 There\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere")

    with RawServer(script) as proxy:
        answer = pool.get("http://site.example/", proxies=through(proxy, "us%20er:pa%3Ass%40@"))
        assert answer.text == "there"
    assert [head.split(b" ")[1] for head in heads] == [b"http://site.example/", b"http://site.example/next"]
    assert [head.count(CREDENTIALS) for head in heads] == [1, 1]
    assert [head.lower().count(b"proxy-authorization") for head in heads] == [1, 1]


def test_a_proxy_that_wants_credentials(pool: SessionPool, server: SiteServer, secure: SiteServer) -> None:
    """407 to a plain request is an answer like any; to CONNECT it is a ``ProxyError``."""

    def script(connection: socket.socket, _: int) -> None:
        while read_head(connection):
            connection.sendall(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno")

    with RawServer(script) as proxy:
        assert pool.get(server.url(), proxies=through(proxy)).status_code == 407
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            pool.get(secure.url(), proxies=through(proxy))
        assert kind_of(caught.value) is ErrorKind.PROXY
    assert server.request_count == secure.request_count == 0


def test_a_proxy_that_is_not_there(pool: SessionPool, server: SiteServer, secure: SiteServer) -> None:
    """A ``ProxyError``, and nothing goes to the server itself."""
    gone = "http://127.0.0.1:1"
    for url in (server.url(), secure.url()):
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            pool.get(url, proxies={"http": gone, "https": gone})
        assert kind_of(caught.value) is ErrorKind.PROXY
    assert server.request_count == secure.request_count == 0


@pytest.mark.parametrize("bad", ["http://", "http:///", "nonsense://127.0.0.1:1"])
def test_a_proxy_that_is_none(pool: SessionPool, server: SiteServer, bad: str) -> None:
    """A proxy URL that can't be is refused before anything is sent."""
    with pytest.raises((requests.RequestException, AssertionError, ValueError)):
        pool.get(server.url(), proxies={"http": bad})
    assert server.request_count == 0


def test_who_needs_no_proxy_gets_none(server: SiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """``no_proxy`` of the environment; and the environment of a later moment, which libcurl would read, is nothing."""
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with SessionPool(retry=False) as pool:
            assert pool.get(server.url()).ok
            assert pool.get(f"http://site.example:{server.port}/").ok
        assert len(proxy.heads) == 1
    with SessionPool(retry=False, trust_env=False) as pool:
        assert pool.get(server.url()).ok


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_socks(pool: SessionPool, server: SiteServer, secure: SiteServer, scheme: str) -> None:
    """With ``socks5h`` the proxy gets the name, with ``socks5`` the address; TLS goes through it as well."""
    with Socks() as proxy:
        proxies = through(proxy, scheme=scheme)
        assert pool.get(server.url(host="localhost"), proxies=proxies).ok
        assert pool.get(secure.url(host="localhost"), proxies=proxies).text == "secret"
        assert [port for _, port in proxy.asked] == [server.port, secure.port]
        for host, _ in proxy.asked:
            assert host == b"localhost" if scheme == "socks5h" else host in (b"\x7f\0\0\1", b"\0" * 15 + b"\1")


def test_socks_with_credentials(pool: SessionPool, server: SiteServer) -> None:
    """The right ones open it; wrong ones are an error that doesn't show them."""
    with Socks((b"user", b"right")) as proxy:
        assert pool.get(server.url(), proxies=through(proxy, "user:right@", "socks5h")).ok
        with pytest.raises(requests.ConnectionError) as caught:
            pool.get(server.url(), proxies=through(proxy, "user:wrong@", "socks5h"))
    assert "wrong" not in str(caught.value)
    assert kind_of(caught.value) is ErrorKind.PROXY
    assert server.request_count == 1


def test_a_socks_proxy_that_is_not_there(pool: SessionPool) -> None:
    """It is the proxy that can't be had, not the host behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"socks5h://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(requests.exceptions.ProxyError) as caught:
        pool.get("http://far.example/", proxies={"http": gone})
    assert kind_of(caught.value) is ErrorKind.PROXY


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_takes_no_connection_in_time(pool: SessionPool, scheme: str) -> None:
    """Its backlog is full: the connect timeout is the proxy's, whatever is asked for."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            pool.get(f"{scheme}://far.example/", proxies={scheme: url}, timeout=(0.2, 5))
    assert kind_of(caught.value) is ErrorKind.PROXY


def test_each_request_may_have_its_own(pool: SessionPool, server: SiteServer) -> None:
    """Two proxies and none, one after the other: no connection of one is used for another."""
    with Proxy() as one, Proxy() as two:
        for _ in range(2):
            for proxies in (through(one), None, through(two), through(one, "other:login@")):
                assert pool.get(server.url(), proxies=proxies).ok
        logins = [b"Proxy-Authorization" in head for head in one.heads]
        assert (logins.count(True) >= 1, logins.count(False) >= 1, len(two.heads) >= 1) == (True, True, True)
        assert server.request_count == 8
