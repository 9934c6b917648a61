"""Waiting for sockets: they stay registered between transfers, and what is closed or speaks unasked is let go."""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool.transport.curl import poller as module
from crawlpool.transport.curl.poller import READ, WRITE, Poller
from tests.gates import PATIENCE_S, Threads

REMOVE = 4  # libcurl's CURL_POLL_REMOVE
KINDS = ["epoll", "DefaultSelector", "PollSelector", "SelectSelector"]


@pytest.fixture(params=[kind for kind in KINDS if hasattr(select, kind) or hasattr(selectors, kind)])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """Give a poller over each kind of backend."""
    if request.param != "epoll":
        monkeypatch.setattr(selectors, "DefaultSelector", getattr(selectors, request.param))
        monkeypatch.setattr(module, "_backend", module._Selector)
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def calls_of(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each call which costs the backend a system call."""
    calls: list[str] = []
    for name in ("add", "change", "drop"):
        real = getattr(poller._backend, name)

        def call(*given: Any, name: str = name, real: Any = real) -> None:
            calls.append(name)
            real(*given)

        monkeypatch.setattr(poller._backend, name, call)
    return calls


def test_what_is_watched_for_is_told(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """READ when there is something, WRITE when there is room, both when both; nothing when nothing."""
    here, there = pair
    fd = here.fileno()
    poller.watch(READ, fd)
    assert poller.wait(0) == []
    there.send(b"x")
    assert poller.wait(None) == [(fd, READ)]
    poller.watch(WRITE, fd)
    assert poller.wait(None) == [(fd, WRITE)]
    poller.watch(READ | WRITE, fd)
    assert poller.wait(None) == [(fd, READ | WRITE)]


def test_the_end_of_a_connection_is_told(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """A hang-up is something to read, so that libcurl finds it."""
    here, there = pair
    poller.watch(READ, here.fileno())
    there.close()
    [(fd, events)] = poller.wait(None)
    assert (fd, events & READ) == (here.fileno(), READ)


def test_a_socket_stays_registered_between_transfers(
    poller: Poller, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred transfers over one connection register it once; only another interest is told."""
    calls = calls_of(poller, monkeypatch)
    here, there = pair
    for _ in range(100):
        poller.watch(READ, here.fileno())
        there.send(b"x")
        assert poller.wait(None) == [(here.fileno(), READ)]
        here.recv(1)
        poller.watch(REMOVE, here.fileno())
        assert poller.wait(0) == []
    assert calls == ["add"]
    poller.watch(WRITE, here.fileno())
    assert calls == ["add", "change"]


def test_one_that_speaks_unasked_is_let_go(
    poller: Poller, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes on an idle connection wake once and are told to nobody; who watches it again hears of them."""
    here, there = pair
    poller.watch(READ, here.fileno())
    poller.watch(REMOVE, here.fileno())
    calls = calls_of(poller, monkeypatch)
    there.send(b"planted")
    assert poller.wait(PATIENCE_S) == []
    assert calls == ["drop"]
    assert poller.wait(0) == []
    assert calls == ["drop"]
    poller.watch(READ, here.fileno())
    assert poller.wait(None) == [(here.fileno(), READ)]
    assert calls == ["drop", "add"]


def test_a_number_that_is_used_again_is_another_socket(poller: Poller) -> None:
    """libcurl closes a socket without a word; what is made next may have its number, and is watched for itself."""
    first, other = socket.socketpair()
    number = first.fileno()
    poller.watch(READ, number)
    poller.watch(REMOVE, number)
    first.close()
    other.close()
    second, peer = socket.socketpair()
    with second, peer:
        if second.fileno() != number:
            second, peer = peer, second
        assert second.fileno() == number
        poller.forget(number)
        poller.forget(number)  # nothing is known of it any more: that is no error
        assert poller.wait(0) == []
        peer.send(b"x")
        assert poller.wait(0) == []
        poller.watch(READ, number)
        assert poller.wait(None) == [(number, READ)]


def test_a_closed_socket_that_was_watched_is_forgotten(poller: Poller) -> None:
    """Even if it was never taken out of the watch, its number tells nothing of it after ``forget``."""
    first, other = socket.socketpair()
    number = first.fileno()
    poller.watch(READ | WRITE, number)
    with other:
        first.close()
        poller.forget(number)
        assert poller.wait(0) == []


def test_many_sockets_are_told_at_once(poller: Poller) -> None:
    """All that are ready, and no other."""
    pairs = [socket.socketpair() for _ in range(50)]
    try:
        for here, _ in pairs:
            poller.watch(READ, here.fileno())
        for _, there in pairs[::2]:
            there.send(b"x")
        assert sorted(poller.wait(None)) == sorted((here.fileno(), READ) for here, _ in pairs[::2])
    finally:
        for one in (end for pair in pairs for end in pair):
            one.close()


def test_another_thread_ends_the_wait(poller: Poller) -> None:
    """A wait without a limit ends when another thread says so, and tells of no socket."""
    waits, woken = threading.Event(), threading.Event()

    def wait() -> None:
        waits.set()
        assert poller.wait(None) == []
        woken.set()

    with Threads() as threads:
        threads.start(wait)
        assert waits.wait(PATIENCE_S)
        poller.wake()
        assert woken.wait(PATIENCE_S)


def test_a_wake_before_the_wait_ends_it_once(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """However often it was woken, the next wait ends at once, and the one after it waits again."""
    here, there = pair
    for _ in range(10_000):  # more than fit into a socket: it doesn't block, nor raise
        poller.wake()
    assert poller.wait(None) == []
    poller.watch(READ, here.fileno())
    there.send(b"x")
    assert poller.wait(None) == [(here.fileno(), READ)]


def test_closing_gives_everything_back(poller: Poller) -> None:
    """Every descriptor of its own is closed; who wakes it after that is no error."""
    own = poller.own_descriptors()
    assert len(own) >= 2
    poller.close()
    for fd in own:
        with pytest.raises(OSError):
            os.fstat(fd)
    poller.wake()


def test_after_a_long_wait_it_is_asked_again(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long wait returns with may be old by then: what counts as seen is what was asked for just now."""
    now, asked = [100.0], []

    def wait(timeout_s: float | None) -> list[tuple[int, int]]:
        asked.append((timeout_s, now[0]))
        now[0] += 5.0 if timeout_s is None else 0.01
        return []

    poller.looked_at = 99.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(poller._backend, "wait", wait)
    poller.wait(None)
    assert asked == [(None, 100.0), (0.0, 105.0)]
    assert poller.asked_at == 105.0
    poller.wait(0.5)
    assert len(asked) == 3
    assert poller.looked_at == 99.0  # until somebody has taken in what came
