"""SiteServer: what it answers, what it remembers, and that it leaves nothing behind."""

from __future__ import annotations

import http.client
import pathlib
import socket
import threading

import pytest
import requests

from crawlpool.errors import ConfigError
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from crawlpool.testing.certificates import Certificates


def get(url: str, **kwargs: object) -> requests.Response:
    """Fetch on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=10, **kwargs)  # type: ignore[arg-type]


def test_a_route_is_bytes_text_an_answer_or_a_function() -> None:
    """Whatever form a route has, its body arrives; an unknown path is 404."""
    site = {
        "/bytes": b"b",
        "/text": "tä",
        "/answer": Answer(201, {"X-A": "1"}, b"made"),
        "/function": lambda request: f"{request.method} {request.query}",
        "/bytes?v=2": b"second",
    }
    with SiteServer(site) as server:
        assert get(server.url("/bytes")).content == b"b"
        assert get(server.url("/bytes?v=2")).content == b"second"
        assert get(server.url("/bytes?v=3")).content == b"b"
        assert get(server.url("/text")).text == "tä"
        answer = get(server.url("/answer"))
        assert (answer.status_code, answer.headers["X-A"], answer.content) == (201, "1", b"made")
        assert get(server.url("/function?q=1")).text == "GET q=1"
        assert get(server.url("/nothing")).status_code == 404


def test_requests_are_remembered_with_headers_body_and_connection() -> None:
    """Each request is kept as it arrived, and one connection carries several."""
    with SiteServer({"/a": b"", "/b": b""}) as server, requests.Session() as session:
        session.get(server.url("/a?x=1"), headers={"X-Thing": "yes"})
        session.post(server.url("/b"), data=iter([b"in ", b"chunks"]))
        first, second = server.requests
        assert (first.method, first.target, first.path, first.query) == ("GET", "/a?x=1", "/a", "x=1")
        assert first.headers["x-thing"] == "yes"
        assert first.host == "127.0.0.1"
        assert (second.method, second.body) == ("POST", b"in chunks")
        assert first.connection == second.connection == 1
        assert (server.connections, server.open_connections, server.request_count) == (1, 1, 2)
    assert server.open_connections == 0
    assert server.peak_open == 1


def test_nothing_is_remembered_when_told_so() -> None:
    """With ``remember=False`` requests are counted, not kept."""
    with SiteServer({"/": b""}, remember=False) as server:
        get(server.url())
        assert (server.requests, server.request_count) == ([], 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, {}, b"x" * 1000, chunked=True), b"x" * 1000),
        (Answer(200, {}, b"", chunked=True), b""),
        (Answer(200, {}, [b"one", b"", b"two"], chunked=True), b"onetwo"),
        (Answer(200, {}, [b"until ", b"the end"]), b"until the end"),
        (Answer(200, {"Content-Length": "6"}, [b"one", b"two"]), b"onetwo"),
        (Answer(200, {"Transfer-Encoding": "chunked"}, b"1\r\nz\r\n0\r\n\r\n"), b"z"),
        (Answer(204), b""),
    ],
)
def test_each_framing_arrives_whole(answer: Answer, expected: bytes) -> None:
    """A body arrives whole in chunks, with a length, until the end of the connection, and by hand."""
    with SiteServer({"/": answer}) as server, requests.Session() as session:
        assert [session.get(server.url()).content for _ in range(2)] == [expected, expected]


def test_raw_bytes_are_sent_as_they_are() -> None:
    """An answer by hand goes out as it is, however broken, and ends the connection."""
    raw = b"HTTP/1.1 299 \xff\r\nNo colon\r\n\r\nrest"
    with SiteServer({"/": Answer(raw=raw)}) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
            client.makefile("rb") as reader,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reader.read() == raw


def test_a_length_that_is_not_true_is_sent_as_it_is_and_ends_the_connection() -> None:
    """A scripted lie about the length reaches the client, which sees a truncated body and no second answer."""
    with SiteServer({"/": Answer(200, {"Content-Length": "10"}, b"short")}) as server:
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(server.url())


def test_head_has_the_length_and_no_body() -> None:
    """The answer to HEAD keeps its Content-Length, and the connection goes on."""
    with SiteServer({"/": b"12345"}) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        client.request("HEAD", "/")
        answer = client.getresponse()
        assert (answer.read(), answer.headers["Content-Length"]) == (b"", "5")
        client.request("GET", "/")
        assert client.getresponse().read() == b"12345"
        client.close()
        assert server.connections == 1


def test_a_repeated_header_is_sent_as_often() -> None:
    """Headers as pairs may repeat a name: two cookies are two fields."""
    site = {"/": Answer(200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])}
    with SiteServer(site) as server:
        assert get(server.url()).cookies.get_dict() == {"a": "1", "b": "2"}


def test_a_client_that_waits_for_100_continue_is_told_to_go_on() -> None:
    """The body is asked for before it is read."""
    with SiteServer(lambda request: request.body) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
            client.makefile("rb") as reader,
        ):
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            client.sendall(b"ok")
            assert reader.readline() == b"\r\n"
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad : x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_400(sent: bytes) -> None:
    """A broken request is answered with 400 and doesn't count as a request."""
    with SiteServer({"/": b""}) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
            client.makefile("rb") as reader,
        ):
            client.sendall(sent)
            assert reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
            reader.read()
        assert server.requests == []


def test_a_function_that_raises_is_500_and_kept() -> None:
    """An error of the site reaches the client as 500 and the test as an object; so does one in the middle of a body."""

    def broken(request: Request) -> Answer:
        raise LookupError("no such thing")

    def torn(request: Request) -> Answer:
        def pieces() -> object:
            yield b"some"
            raise ArithmeticError("in the middle")

        return Answer(200, {}, pieces(), chunked=True)  # type: ignore[arg-type]

    with SiteServer({"/broken": broken, "/torn": torn}) as server:
        answer = get(server.url("/broken"))
        assert (answer.status_code, answer.text) == (500, "LookupError: no such thing\n")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(server.url("/torn"))
        assert [type(error) for error in server.errors] == [LookupError, ArithmeticError]


def test_several_addresses_share_a_port() -> None:
    """Each address has a socket of its own, and a request tells which one it came to."""
    hosts = loopback_hosts(3)
    with SiteServer({"/": lambda request: request.host}, hosts=hosts) as server:
        assert [get(server.url(host=host)).text for host in hosts] == list(hosts)


@pytest.mark.parametrize("hosts", ["0.0.0.0", "192.0.2.1", "example.org", ("127.0.0.1", "::"), ()])
def test_only_loopback_is_served(hosts: str) -> None:
    """An address that others could reach is refused when the server is made."""
    with pytest.raises(ConfigError, match="hosts="):
        SiteServer({}, hosts=hosts)


def test_stop_ends_idle_connections_delays_and_waiting_functions() -> None:
    """``stop`` doesn't wait for a keep-alive connection, a delay, or a function that waits on ``shutdown``."""
    reached = threading.Barrier(3)

    def waits(request: Request) -> bytes:
        reached.wait(10)
        server.shutdown.wait(3600)
        return b""

    def delays(request: Request) -> Answer:
        reached.wait(10)
        return Answer(delay_s=3600)

    server = SiteServer({"/waits": waits, "/delays": delays, "/idle": b"idle"}).start()
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    idle.request("GET", "/idle")
    assert idle.getresponse().read() == b"idle"
    others = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2)]
    for client, path in zip(others, ("waits", "delays"), strict=True):
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    reached.wait(10)
    assert server.open_connections == 3
    server.stop()
    assert server.open_connections == 0
    assert idle.sock.recv(1) == b""
    idle.close()
    for client in others:
        client.close()
    server.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(f"crawlpool-site-{server.port}")]


def test_a_stopped_server_frees_its_port() -> None:
    """Another server may take the same port at once; the same one isn't started again."""
    with SiteServer({"/": b"1"}) as first:
        assert get(first.url()).content == b"1"
    with SiteServer({"/": b"2"}, port=first.port) as second:
        assert get(second.url()).content == b"2"
    with pytest.raises(RuntimeError, match="once"):
        first.start()


def test_tls_serves_and_ends_in_order(tmp_path: pathlib.Path) -> None:
    """Over TLS a body without length arrives whole, and a client without trust is no error of the server."""
    certificates = Certificates(tmp_path)
    site = {"/": b"secret", "/end": Answer(200, {}, [b"a", b"b"])}
    with SiteServer(site, tls=certificates.server_context()) as server:
        assert server.url().startswith("https://")
        assert get(server.url(), verify=str(certificates.authority)).content == b"secret"
        assert get(server.url("/end"), verify=str(certificates.authority)).content == b"ab"
        with pytest.raises(requests.exceptions.SSLError):
            get(server.url())
        assert server.errors == []
        assert certificates.key.stat().st_mode & 0o077 == 0
