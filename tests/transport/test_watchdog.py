"""A server that drips is never late for a socket's timeout; the watchdog ends it at the call's deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from crawlpool import SessionPool
from crawlpool.errors import DeadlineExceeded, ErrorKind, kind_of
from crawlpool.testing import FAULTS, FaultServer, in_turn, script
from crawlpool.testing.certificates import temporary_certificates
from crawlpool.testing.steps import drip
from crawlpool.transport.lifeline import LegEnd, Lifeline
from crawlpool.transport.watchdog import Watchdog
from tests.gates import PATIENCE_S
from tests.kit import HandClock

DEADLINE_S = 0.6


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=(5, 5)) as pool:
        yield pool


@pytest.mark.parametrize(
    ("head", "byte"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["header", "body", "last body", "body without length", "chunks", "interim answers"],
)
def test_a_drip_ends_at_the_deadline(head: bytes, byte: bytes, pool: SessionPool) -> None:
    """Wherever the server drips, the call ends at its deadline, not before, and as deadline."""
    with FaultServer({"/": script(head, drip(byte))}) as server:
        started = time.monotonic()
        with pytest.raises(Exception, match=r"deadline|interim") as caught:
            pool.get(server.url(), deadline=DEADLINE_S)
        took = time.monotonic() - started
    if not head:
        assert kind_of(caught.value) in (ErrorKind.DEADLINE, ErrorKind.PROTOCOL)  # 16 of them are enough
        return
    assert isinstance(caught.value, DeadlineExceeded)
    assert kind_of(caught.value) is ErrorKind.DEADLINE
    assert DEADLINE_S * 0.9 < took < PATIENCE_S  # its bytes would come for fifty seconds and longer
    assert pool.statistics().connections_open == 0


def test_a_drip_under_tls_ends_too(pool: SessionPool) -> None:
    """The socket that is shut is the TLS one."""
    with temporary_certificates() as certificates:
        with FaultServer({"/": FAULTS["body_drip"]}, tls=certificates.server_context()) as server:
            with pytest.raises(DeadlineExceeded):
                pool.get(server.url(), deadline=DEADLINE_S, verify=str(certificates.authority))


def test_a_pool_goes_on_after_a_deadline(pool: SessionPool) -> None:
    """The next request has a connection of its own, and its own deadline."""
    with FaultServer({"/": in_turn(FAULTS["body_drip"], b"ok")}) as server:
        with pytest.raises(DeadlineExceeded):
            pool.get(server.url(), deadline=0.3)
        assert pool.get(server.url(), deadline=30).text == "ok"


def test_look_ends_what_is_past_and_nothing_else() -> None:
    """One look at the hand-ticked time: one leg is past, one isn't, one has no deadline."""
    clock = HandClock(now_s=100)
    legs = [Lifeline(), Lifeline(), Lifeline()]
    for lifeline, at in zip(legs, (100.0, 100.5, float("inf")), strict=True):
        lifeline.begin(at)
    watchdog = Watchdog(lambda: legs, clock)
    assert watchdog.look() == 1
    clock.tick(1)
    assert watchdog.look() == 1
    assert [lifeline.end() for lifeline in legs] == [LegEnd.DEADLINE, LegEnd.DEADLINE, None]


def test_it_runs_once_and_stops_for_good() -> None:
    """One thread however often it is asked for; after stop none is started."""
    watchdog = Watchdog(list, HandClock())
    for _ in range(3):
        watchdog.ensure_running()
    assert sum(thread.name == "crawlpool-watchdog" for thread in threading.enumerate()) == 1
    watchdog.stop()
    watchdog.stop()
    watchdog.ensure_running()
    assert not any(thread.name == "crawlpool-watchdog" for thread in threading.enumerate())
