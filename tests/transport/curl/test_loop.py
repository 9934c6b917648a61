"""Orders to the I/O thread come in any order: each transfer is told to have ended once, and no thread dies of it."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import SessionPool
from crawlpool.clock import Deadline
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl import library
from tests.kit import RawServer, answering

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Box:
    """An inbox that keeps what was delivered."""

    def __init__(self) -> None:
        self.ended: list[Any] = []
        self.came = threading.Semaphore(0)

    def deliver(self, ended: list[Any]) -> None:
        self.ended.extend(ended)
        self.came.release(len(ended))


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that answers each request."""
    with RawServer(answering(OK, close=True)) as one:
        yield one


def transfer_of(pool: SessionPool, url: str, box: Box) -> Any:
    """Return a transfer that isn't begun."""
    session: Any = pool.session
    request = session.prepare_plain("GET", url)
    exchange = Exchange(request, session.plain_settings(), Deadline(None))
    return session.get_adapter(url).transfer_for(exchange, box)


def test_an_abort_that_comes_before_the_beginning_ends_a_transfer_once(server: RawServer) -> None:
    """Between the making of a transfer and its hand-over another thread may abort it: it is delivered once."""
    box = Box()
    with SessionPool(transport="curl") as pool:
        assert pool.get(server.url()).text == "ok"  # the thread runs from now on
        engine: Any = pool._shared.engine
        aborted = transfer_of(pool, server.url(), box)
        aborted.exchange.abort()
        engine.submit([aborted])
        after = transfer_of(pool, server.url(), box)
        engine.submit([after])
        for _ in range(2):
            assert box.came.acquire(timeout=20)
    assert box.ended == [aborted, after]
    assert aborted.sends == 0


def test_an_order_about_a_transfer_that_has_ended_does_nothing(server: RawServer) -> None:
    """An abort, or a resumption, that comes too late changes nothing and is told to nobody."""
    box = Box()
    with SessionPool(transport="curl") as pool:
        done = transfer_of(pool, server.url(), box)
        engine: Any = pool._shared.engine
        engine.submit([done])
        assert box.came.acquire(timeout=20)
        done.exchange.abort()
        engine.resume(done)
        assert pool.get(server.url()).text == "ok"
    assert box.ended == [done]
    assert (done.code, done.stopped) == (0, None)


def test_what_has_come_counts_as_seen_once_all_of_it_is_taken_in() -> None:
    """While libcurl takes in what was ready, and sends as it does so, the look before that one is what counts."""
    from crawlpool.transport.curl.loop import Loop

    seen: list[float] = []
    poller = types.SimpleNamespace(asked_at=7.0, looked_at=3.0)
    multi = types.SimpleNamespace(socket_action=lambda *_: seen.append(poller.looked_at), info_read=lambda: (0, [], []))
    loop = types.SimpleNamespace(
        turn=threading.Lock(), connections=types.SimpleNamespace(just_reused=[]), _multi=multi, _poller=poller
    )
    loop._reap = functools.partial(Loop._reap, loop)
    assert Loop._act(loop, [(4, 1), (5, 1)])  # type: ignore[arg-type]
    assert seen == [3.0, 3.0]
    assert poller.looked_at == 7.0
    poller.asked_at = 8.0
    assert not Loop._act(loop, [])  # type: ignore[arg-type]
    assert poller.looked_at == 8.0
