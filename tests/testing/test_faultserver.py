"""FaultServer and ``serve``: scripts per path, request and connection; TLS, proxies, listeners; nothing left behind."""

from __future__ import annotations

import pathlib
import socket
import threading

import pytest
import requests

from crawlpool.errors import ConfigError
from crawlpool.testing import FAULTS, Answer, FaultServer, in_turn, script, serve
from crawlpool.testing.badtls import FLAVOURS, BadCertificates
from crawlpool.testing.catalog import BODY
from crawlpool.testing.faults import Fault, redirect_chain, redirect_loop, redirect_maze
from crawlpool.testing.http1 import Request
from crawlpool.testing.steps import Hold, Reset, Send, Wait, drip


def get(url: str, **kwargs: object) -> requests.Response:
    """Fetch on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, **{"timeout": 10, **kwargs})  # type: ignore[arg-type]


def connect(server: FaultServer, path: str = "/") -> socket.socket:
    """Return a connection that has asked for a path."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def test_routes_answer_in_turn() -> None:
    """The first request meets the first, and so on; the last one stays. A fault, a function and bytes are routes."""
    site = {"/": in_turn(Answer(503), FAULTS["short_length"], lambda request: request.method, b"fine")}
    with FaultServer(site) as server:
        assert get(server.url()).status_code == 503
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(server.url())
        assert [get(server.url()).text for _ in range(3)] == ["GET", "fine", "fine"]
        assert server.hits("/") == 5
        arrivals = server.arrivals("/")
        assert arrivals == sorted(arrivals)
        assert len(arrivals) == 5
        assert server.arrivals("/else") == []
    with pytest.raises(ConfigError, match="routes"):
        in_turn()


def test_a_connection_has_a_script_before_its_first_request() -> None:
    """By its ordinal: the first is reset, the second late, the others as ever."""
    openings = {1: script(Reset()), 2: script(Wait(0.01))}
    with FaultServer({"/": b"x"}, opening=openings.get) as server:
        with pytest.raises(requests.ConnectionError):
            get(server.url())
        assert [get(server.url()).text for _ in range(2)] == ["x", "x"]
        assert (server.connections, server.hits("/")) == (3, 2)


def test_a_release_lets_everything_go_on() -> None:
    """What is held goes on with its next step; what comes later isn't held any more."""
    event = threading.Event()
    site = {
        "/held": script(Hold(), b"HTTP/1.1 204 No Content\r\n\r\n"),
        "/by": script(Hold(event), b"HTTP/1.1 200 x\r\n\r\n"),
    }
    with FaultServer(site, opening=script(Hold())) as server:
        with connect(server, "/by") as first, connect(server, "/held") as second:
            server.release()
            assert first.recv(100).startswith(b"HTTP/1.1 200")
            assert second.recv(100).startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if fault.is_endless])
def test_stop_ends_whatever_has_no_end(name: str) -> None:
    """With the client still there, and the client's end ends it without a stop: no thread is left."""
    with serve(name) as served:
        server = served.server
        if server is None:
            return
        clients = [connect(server, served.fault.path) for _ in range(2)]
        clients.pop().close()
    assert server.open_connections == 0
    clients.pop().close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(f"crawlpool-site-{server.port}")]


def test_a_client_that_goes_ends_its_connection() -> None:
    """A held and a dripping connection end by themselves, while the server goes on."""
    ended = threading.Barrier(3)

    class Watched(FaultServer):
        def _serve(self, *args: object) -> None:
            super()._serve(*args)  # type: ignore[arg-type]
            ended.wait(10)

    with Watched({"/hold": script(Hold()), "/drip": script(drip(every_s=0.01))}) as server:
        for path in ("/hold", "/drip"):
            connect(server, path).close()
        ended.wait(10)
        assert server.open_connections == 0


def test_an_error_of_the_sites_own_pieces_is_kept() -> None:
    """What an iterable of a script raises ends the connection and is the test's to see."""

    def pieces() -> object:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        raise ArithmeticError("in the middle")

    with FaultServer({"/": script(Send(pieces))}) as server:  # type: ignore[arg-type]
        assert get(server.url()).content == b""
        assert [type(error) for error in server.errors] == [ArithmeticError]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_certificate_is_what_it_says(flavour: str, tmp_path: pathlib.Path) -> None:
    """The good one is taken; each other one is refused, for its own reason, by who trusts the authority."""
    certificates = BadCertificates(tmp_path)
    with FaultServer({"/": BODY}, tls=certificates.context(flavour)) as server:
        if flavour == "good":
            assert get(server.url(), verify=str(certificates.authority)).content == BODY
            return
        with pytest.raises(requests.exceptions.SSLError) as caught:
            get(server.url(), verify=str(certificates.authority))
    said = {
        "expired": "expired",
        "not_yet": "not yet valid",
        "wrong_name": "not valid for",
        "self_signed": "self-signed",
        "wrong_authority": "issuer certificate",
    }
    message = str(caught.value)
    assert said[flavour] in message or (flavour == "wrong_name" and "mismatch" in message)
    assert (tmp_path / f"{flavour}.key").stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="flavour"):
        certificates.context("none")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("tls_reset", requests.ConnectionError),
        ("tls_hang_up", requests.ConnectionError),
        ("tls_plain", requests.exceptions.SSLError),
        ("tls_cut", requests.RequestException),
        ("proxy_refuses", requests.exceptions.ProxyError),
        ("proxy_garbage", requests.ConnectionError),
        ("listen_none", requests.ConnectionError),
        ("reset", requests.ConnectionError),
        ("redirect_self", requests.TooManyRedirects),
    ],
)
def test_served_faults_are_met_by_plain_requests(name: str, error: type[Exception]) -> None:
    """By what ``serve`` says to ask, and how: where plain requests finds the fault it names it."""
    with serve(name) as served, pytest.raises(error):
        get(served.url, **served.options)
        raise AssertionError(served)


@pytest.mark.parametrize("name", ["tls_stall", "tls_drip", "proxy_mute", "proxy_tunnel_mute", "mute"])
def test_served_stalls_stall(name: str) -> None:
    """Until the client loses patience."""
    with serve(name) as served:
        with pytest.raises((requests.Timeout, requests.ConnectionError)):
            get(served.url, **{**served.options, "timeout": 0.2})
        assert served.server is not None
        assert served.server.connections >= 1
        served.release()


def test_a_full_listener_lets_nobody_connect() -> None:
    """To connect takes for ever, and nothing has left loopback."""
    with serve("listen_full") as served, socket.socket() as client:
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.connect(("127.0.0.1", int(served.url.split(":")[2].split("/")[0])))
        served.release()


def test_a_cut_without_goodbye_gives_the_whole_body() -> None:
    """A body of a known length needs no closing word of TLS."""
    with serve("tls_no_goodbye") as served:
        assert get(served.url, **served.options).content == BODY


def asked(target: str, host: str = "h.example:81") -> Request:
    """Make a request without a server."""
    return Request("GET", target, (("Host", host),), b"", ("127.0.0.1", 1), "127.0.0.1", 1)


def walk(route: object, steps: int) -> list[str]:
    """Follow a route's redirects without a client."""
    target, seen = "/r", []
    for _ in range(steps):
        answer = route(asked(target))  # type: ignore[operator]
        if not isinstance(answer, Answer):
            return [*seen, "end"]
        target = dict(answer.pairs)["Location"]
        seen.append(target)
    return seen


def test_redirects_lead_where_they_say() -> None:
    """In a circle, along a chain to its end, and through a maze that never comes back to the same URL."""
    assert walk(redirect_loop(), 2) == ["/r", "/r"]
    assert walk(redirect_loop(2), 3) == ["/r?at=1", "/r?at=0", "/r?at=1"]
    assert walk(redirect_chain(2), 9) == ["/r?hop=1", "/r?hop=2", "end"]
    assert len(set(walk(redirect_maze(), 50))) == 50
    assert walk(redirect_maze(seed=1), 5) == walk(redirect_maze(seed=1), 5) != walk(redirect_maze(seed=2), 5)
    hosts = [url.split("/r")[0] for url in walk(redirect_maze(("a.example", "b.example")), 3)]
    assert hosts == ["http://b.example:81", "http://a.example:81", "http://b.example:81"]


def test_a_fault_says_what_is_right() -> None:
    """By outcome, kind and body; and a fault that isn't a route says how to serve it."""
    cut, planted, mute = FAULTS["short_length"], FAULTS["planted"], FAULTS["mute"]
    assert cut.expected == "failed: truncated"
    assert [cut.is_met("failed", kind) for kind in ("truncated", "protocol")] == [True, False]
    assert not cut.is_met("ok")
    assert [planted.is_met("ok", None, body) for body in (BODY, b"planted", None)] == [True, False, True]
    assert FAULTS["trailer_drip"].expected.startswith("ok, or failed: deadline")
    with pytest.raises(ConfigError, match="listener"):
        FAULTS["listen_full"](asked("/"))
    assert mute(asked("/")) == BODY
    with pytest.raises(ConfigError, match="place"):
        Fault("x", "x", frozenset({"ok"}), place="nowhere")
    with pytest.raises(ConfigError, match="outcomes"):
        Fault("x", "x", frozenset())


def test_names_and_kinds_are_known() -> None:
    """Every fault has a name of its own as a path has it, and kinds that crawlpool has."""
    from crawlpool import ErrorKind

    for name, fault in FAULTS.items():
        assert name == fault.name
        assert name.replace("_", "").isalnum()
        assert fault.about
        assert {str(kind) for kind in ErrorKind} >= fault.kinds
        assert bool(fault.kinds) == ("failed" in fault.outcomes)
