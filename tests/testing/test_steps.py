"""The steps of a script: what each of them does to a connection, and what ends it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from crawlpool.clock import Shutdown
from crawlpool.errors import ConfigError
from crawlpool.testing.steps import (
    Close,
    HalfClose,
    Hold,
    Read,
    Reset,
    ScriptEnded,
    Send,
    Wait,
    Wire,
    drip,
    head,
    script,
)


class Ends:
    """Both ends of a connection, and what a server has beside them."""

    def __init__(self) -> None:
        self.shutdown, self.released = Shutdown(), threading.Event()
        self.counted: list[int] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname(), timeout=10)
            self.server, _ = listener.accept()
        self.wire = Wire(self.server, self.shutdown, self.released, self.counted.append)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with contextlib.closing(Ends()) as made:
        yield made


def later(call: object, ends: Ends) -> threading.Thread:
    """Play a step in a thread; what it raises there is its end."""

    def run() -> None:
        with contextlib.suppress(OSError):
            call.play(ends.wire)  # type: ignore[attr-defined]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_bytes_are_sent_as_they_are(ends: Ends) -> None:
    """Whole, in pieces of a size, from an iterable and from a function that makes it anew each time."""
    made = Send(lambda: iter((b"abc", b"de")), piece_bytes=2)
    for step in (Send(b"whole"), Send(b"cut up", piece_bytes=4), Send((b"a", b"b")), made, made):
        step.play(ends.wire)
    assert ends.client.recv(100) == b"wholecut upababcdeabcde"
    assert ends.counted == [5, 4, 2, 1, 1, 2, 1, 2, 2, 1, 2]


def test_a_bandwidth_takes_its_time(ends: Ends) -> None:
    """So many bytes a second are not sent in less time than that."""
    began = time.monotonic()
    Send(b"x" * 100, bytes_per_s=2000).play(ends.wire)
    assert time.monotonic() - began >= 0.04
    assert ends.client.recv(1000) == b"x" * 100


def test_an_endless_drip_ends_when_the_client_goes(ends: Ends) -> None:
    """The server finds out by itself, though it sends rarely."""
    thread = later(drip(b"x", 3600), ends)
    assert ends.client.recv(1) == b"x"
    ends.client.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_release_ends_a_drip_and_the_next_step_follows(ends: Ends) -> None:
    """What has no end goes on to the end of its script."""
    thread = later(script(drip(b"x", 3600), b"end"), ends)
    assert ends.client.recv(1) == b"x"
    ends.released.set()
    thread.join(10)
    assert ends.client.recv(10) == b"end"


@pytest.mark.parametrize("what", ["client", "shutdown", "release", "event"])
def test_a_hold_ends(ends: Ends, what: str) -> None:
    """By the client's going, the server's stop, a release, and the event that a test sets; the last two go on."""
    event = threading.Event()
    thread = later(script(Hold(event), b"on"), ends)
    {
        "client": lambda: ends.client.shutdown(socket.SHUT_RDWR),
        "shutdown": ends.shutdown.set,
        "release": ends.released.set,
        "event": event.set,
    }[what]()
    thread.join(10)
    assert not thread.is_alive()
    assert ends.counted == ([2] if what in ("release", "event") else [])


def test_a_client_that_has_sent_more_and_gone_is_noticed(ends: Ends) -> None:
    """Bytes that nobody reads don't hide that the client has closed."""
    ends.client.sendall(b"unread")
    thread = later(Hold(), ends)
    ends.client.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_wait_takes_its_time_and_no_more_after_a_release(ends: Ends) -> None:
    """So many seconds; after a release none."""
    began = time.monotonic()
    Wait(0.03).play(ends.wire)
    assert time.monotonic() - began >= 0.03
    ends.released.set()
    Wait(3600).play(ends.wire)


def test_a_reset_reaches_the_client_as_one(ends: Ends) -> None:
    """Not as an end in order."""
    with pytest.raises(ScriptEnded):
        Reset().play(ends.wire)
    ends.server.close()
    with pytest.raises(ConnectionResetError) as caught:
        ends.client.recv(1)
    assert caught.value.errno == errno.ECONNRESET


def test_a_half_close_goes_on_listening(ends: Ends) -> None:
    """The client reads the end, and may send still."""
    thread = later(HalfClose(), ends)
    assert ends.client.recv(1) == b""
    ends.client.sendall(b"still heard")
    assert ends.server.recv(100) == b"still heard"
    ends.client.close()
    thread.join(10)


def test_reading_waits_for_the_client(ends: Ends) -> None:
    """So many bytes are taken, and a client that goes first ends it."""
    thread = later(script(Read(3), b"on"), ends)
    for byte in (b"a", b"b", b"c"):
        ends.client.sendall(byte)
    thread.join(10)
    assert ends.client.recv(2) == b"on"
    ends.client.close()
    with pytest.raises(ScriptEnded):
        Read().play(ends.wire)


def test_a_script_closes_unless_it_goes_on(ends: Ends) -> None:
    """At its end the connection is closed without more words, or good for another request."""
    assert script(b"a", goes_on=True).play(ends.wire)
    for closing in (script(b"b"), script(Close(), b"never")):
        with pytest.raises(ScriptEnded):
            closing.play(ends.wire)
    assert ends.client.recv(10) == b"ab"


def test_a_head_is_what_one_writes() -> None:
    """Status line, fields in their order, the length where one is claimed, the empty line."""
    assert head(302, ("Location", "/caf\xe9"), reason="Found", length=3) == (
        b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize("wrong", [{"piece_bytes": 0}, {"every_s": -1}, {"bytes_per_s": 0}])
def test_a_step_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """When it is made, with the value."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Send(itertools.repeat(b"x"), **wrong)  # type: ignore[arg-type]
