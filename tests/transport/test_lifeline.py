"""What other threads may do to a session, posed step by step: no race is left to chance, and nothing sleeps."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from crawlpool.clock import Deadline
from crawlpool.errors import Cancelled, PoolClosed
from crawlpool.exchange import send_once
from crawlpool.session import Session
from crawlpool.shared import Shared
from crawlpool.testing.certificates import temporary_certificates
from crawlpool.transport.base import Exchange
from crawlpool.transport.lifeline import LegEnd, Lifeline
from tests.kit import RawServer, read_head


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two connected sockets."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(10)
        yield near, far


def is_shut(sock: socket.socket) -> bool:
    """Tell whether a socket was shut: then reading it ends at once."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_shut_tells_an_idle_caller_to_dispose_once() -> None:
    """Exactly one of many calls of shut returns True."""
    lifeline = Lifeline()
    assert [lifeline.shut() for _ in range(3)] == [True, False, False]
    assert lifeline.is_closed


def test_shut_during_a_call_leaves_disposing_to_the_owner() -> None:
    """The owner learns of it when its outermost call ends, and only then."""
    lifeline = Lifeline()
    lifeline.enter()
    lifeline.enter()
    assert not lifeline.shut()
    assert not lifeline.leave()
    assert lifeline.leave()
    with pytest.raises(PoolClosed):
        lifeline.enter()


def test_shut_wakes_each_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """Every registered socket is shut, also those of idle connections and streams."""
    near, far = pair
    lifeline = Lifeline()
    keys = lifeline.opened(near), lifeline.opened(far)
    assert keys == (1, 2)
    assert lifeline.counts() == (2, 2)
    lifeline.shut()
    assert is_shut(near)


def test_a_socket_that_its_owner_closes_is_touched_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    """After ``closing`` its descriptor may be another file's."""
    near, _ = pair
    lifeline = Lifeline()
    lifeline.closing(lifeline.opened(near))
    assert lifeline.counts() == (1, 0)
    lifeline.shut()
    assert not is_shut(near)


def test_a_socket_that_was_dropped_is_forgotten() -> None:
    """The lifeline keeps nothing alive: a dropped stream takes its socket with it."""
    lifeline = Lifeline()
    near, far = socket.socketpair()
    lifeline.opened(near)
    near.close()
    del near
    assert lifeline.counts() == (1, 0)
    assert lifeline.shut()
    far.close()


def test_no_socket_is_opened_after_shut(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection attempt that began before ends here: nobody would ever shut its socket."""
    lifeline = Lifeline()
    lifeline.enter()
    lifeline.begin(math.inf)
    lifeline.shut()
    with pytest.raises(PoolClosed):
        lifeline.opened(pair[0])
    assert lifeline.end() is LegEnd.CLOSED
    assert lifeline.leave()


def test_the_deadline_ends_the_running_leg_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """Before its moment nothing happens, at it the socket is shut, after it there is nothing left to end."""
    near, _ = pair
    lifeline = Lifeline()
    lifeline.begin(100.0)
    lifeline.use(lifeline.opened(near))
    assert not lifeline.end_leg_past(99.9)
    assert not is_shut(near)
    assert lifeline.end_leg_past(100.0)
    assert is_shut(near)
    assert not lifeline.end_leg_past(101.0)
    assert lifeline.end() is LegEnd.DEADLINE


def test_a_leg_that_ended_in_time_is_not_ended_later(pair: tuple[socket.socket, socket.socket]) -> None:
    """The idle connection of a leg that is over belongs to the next one."""
    near, _ = pair
    lifeline = Lifeline()
    lifeline.begin(100.0)
    lifeline.use(lifeline.opened(near))
    assert lifeline.end() is None
    assert not lifeline.end_leg_past(1e9)
    assert not is_shut(near)


@pytest.mark.parametrize("end", ["deadline", "abort"])
def test_a_leg_ended_before_it_has_a_socket_gets_none(end: str, pair: tuple[socket.socket, socket.socket]) -> None:
    """Ended between its begin and its first byte: neither an idle connection nor a new one is used."""
    near, far = pair
    lifeline = Lifeline()
    lifeline.begin(math.inf)
    idle = lifeline.opened(near)
    lifeline.end()
    token = object()
    lifeline.begin(100.0, token)
    assert lifeline.end_leg_past(200) if end == "deadline" else lifeline.abort(token)
    with pytest.raises(PoolClosed, match="ended"):
        lifeline.use(idle)
    with pytest.raises(PoolClosed, match="ended"):
        lifeline.opened(far)
    assert lifeline.end() is (LegEnd.DEADLINE if end == "deadline" else LegEnd.CANCELLED)
    assert not is_shut(near)
    lifeline.opened(far)  # between legs, as an adapter that is used on its own


def test_abort_reaches_only_the_leg_that_it_means(pair: tuple[socket.socket, socket.socket]) -> None:
    """A future's abort comes late: the thread is at another leg by then."""
    near, _ = pair
    lifeline, mine, other = Lifeline(), object(), object()
    lifeline.begin(math.inf, other)
    lifeline.use(lifeline.opened(near))
    assert not lifeline.abort(mine)
    assert not lifeline.abort(None)
    assert not is_shut(near)
    assert lifeline.abort(other)
    assert is_shut(near)
    lifeline.end()
    assert not lifeline.abort(other)


def test_a_tls_socket_takes_the_place_of_its_plain_one(pair: tuple[socket.socket, socket.socket]) -> None:
    """The plain one has given up its descriptor; one connection stays one."""
    near, far = pair
    lifeline = Lifeline()
    key = lifeline.opened(near)
    assert lifeline.opened(far, replaces=key) == key
    assert lifeline.counts() == (1, 1)
    assert list(lifeline.sockets()) == [far]


def test_shut_ends_a_read_of_another_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    """The owner, blocked in recv, wakes with the end of the stream."""
    near, far = pair
    lifeline = Lifeline()
    lifeline.opened(near)
    far.sendall(b"x")
    read: list[bytes] = []
    began = threading.Event()

    def own() -> None:
        read.append(near.recv(1))
        began.set()
        read.append(near.recv(1))

    thread = threading.Thread(target=own)
    thread.start()
    assert began.wait(10)
    lifeline.shut()
    thread.join(10)
    assert read == [b"x", b""]


def test_shut_ends_a_handshake_that_hangs() -> None:
    """The server never answers the ClientHello; the TLS socket was registered before its handshake."""
    reached = threading.Event()
    session = Session(Shared.alone())

    def script(connection: socket.socket, _: int) -> None:
        connection.recv(1)
        reached.set()
        connection.recv(65536)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass

    caught: list[BaseException] = []

    def fetch(url: str) -> None:
        try:
            session.get(url, timeout=50)
        except Exception as error:
            caught.append(error)

    with RawServer(script) as server:
        thread = threading.Thread(target=fetch, args=(server.url().replace("http:", "https:"),))
        thread.start()
        assert reached.wait(10)
        assert not session.lifeline.shut()
        thread.join(10)
    assert [type(error) for error in caught] == [PoolClosed]
    assert session.lifeline.counts() == (1, 0)


def test_abort_ends_a_request_whose_answer_never_comes() -> None:
    """Another thread ends it by the exchange that it is; the session lives on."""
    session = Session(Shared.alone())
    reached = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        read_head(connection)
        if number == 1:
            reached.set()
            connection.recv(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        url = server.url()
        request = session.prepare_request(requests.Request("GET", url))
        settings = {**session.merge_environment_settings(url, {}, False, None, None), "timeout": 50}
        exchange = Exchange(request, settings, Deadline(None))
        caught: list[BaseException] = []

        def fetch() -> None:
            try:
                send_once(session, exchange)
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        assert reached.wait(10)
        assert session.lifeline.abort(exchange)
        thread.join(10)
        assert [type(error) for error in caught] == [Cancelled]
        assert session.get(url).text == "ok"
        session.close()


def test_shut_ends_a_connect_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is registered before it connects: shutting it then ends the attempt."""
    session = Session(Shared.alone())
    plain_connect = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        assert session.lifeline.counts() == (1, 1)
        assert not session.lifeline.shut()  # as another thread would, at this very moment
        plain_connect(self, address)  # type: ignore[arg-type]

    with RawServer(lambda connection, _: None) as server, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        with pytest.raises(PoolClosed):
            session.get(server.url(), timeout=50)
    assert session.lifeline.counts() == (1, 0)


def test_shut_just_before_the_handshake_ends_it() -> None:
    """Connected, but the descriptor is between two socket objects: registering the TLS one finds the session closed."""
    with temporary_certificates() as certificates:
        session = Session(Shared.alone())
        context = session._shared.tls.get(str(certificates.authority), None)
        plain = context.sslsocket_class
        seen: list[str] = []

        class Posed(plain):  # type: ignore[valid-type,misc]
            def do_handshake(self, block: bool = False) -> None:
                seen.append("handshake")
                session.lifeline.shut()
                super().do_handshake(block)

        context.sslsocket_class = Posed
        with RawServer(lambda connection, _: read_head(connection) and None) as server:
            url = server.url().replace("http:", "https:")
            with pytest.raises(PoolClosed):
                session.get(url, verify=str(certificates.authority), timeout=50)
        assert seen == ["handshake"]
        assert session.lifeline.counts() == (1, 0)


def test_a_collection_under_the_lock_can_close_a_dropped_connection() -> None:
    """The collector may run while the lock is held, in the same thread, and close a response that nobody holds."""
    lifeline = Lifeline()
    with socket.socket() as sock:
        key = lifeline.opened(sock)
        with lifeline._lock:
            lifeline.closing(key)
        assert lifeline.counts() == (1, 0)
