"""The end of a pool over libcurl: whoever waits hears of it, wherever its transfer was, and nothing is left."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
import requests

from crawlpool import Session, SessionPool
from crawlpool.errors import Cancelled, PoolClosed
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.transport.curl import library
from crawlpool.transport.curl.adapter import CurlAdapter
from tests.gates import PATIENCE_S, Gate, Threads, until
from tests.kit import RawServer, read_head
from tests.leaks import leaked_sockets, leaked_threads, open_sockets

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

BIG = b"x" * 4_000_000


def new_pool(**more: Any) -> SessionPool:
    return SessionPool(transport="curl", retry=False, trust_env=False, **{"timeout": None, "deadline": None, **more})


def loop_of(pool: SessionPool) -> Any:
    return pool._shared.engine._loop  # type: ignore[union-attr]


def ends_as_closed(pool: SessionPool, call: Callable[[], object], is_there: Callable[[], object]) -> None:
    """Close ``pool`` when ``call``, in two threads and as a future, has come to the moment; all get ``PoolClosed``."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    with Threads() as threads:
        threads.start(run, 2)
        until(is_there)
        engine = pool._shared.engine
        pool.close(cancel=True)
        threads.join()
    assert [type(error) for error in raised] == [PoolClosed, PoolClosed]
    assert engine is not None
    assert engine.counts()[1] == 0


@pytest.fixture
def mute() -> Iterator[RawServer]:
    """Run a server that takes connections and says nothing."""

    def script(connection: socket.socket, _: int) -> None:
        while connection.recv(1) and not held.shutdown.is_set:  # what was sent may be megabytes
            held.shutdown.wait(PATIENCE_S)

    with RawServer(script) as held:
        yield held


def test_closed_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up can't be interrupted; nobody waits for it all the same, and its thread ends after it."""
    asked, let = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        asked.set()
        assert let.wait(PATIENCE_S)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        pool = new_pool()

        def both_wait() -> bool:
            loop = loop_of(pool)
            return loop is not None and len(loop._naming.waiting) == 2 and asked.is_set()

        ends_as_closed(pool, lambda: pool.get("http://slow.example/"), both_wait)
        let.set()
        assert leaked_threads(before) == []


def test_closed_during_the_tls_handshake(mute: RawServer) -> None:
    """Connected, and the other side doesn't shake hands."""
    pool = new_pool()
    url = mute.url().replace("http:", "https:")
    ends_as_closed(pool, lambda: pool.get(url, verify=False), lambda: len(mute.connections) == 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a full backlog hangs on Linux")
def test_closed_while_connecting() -> None:
    """The other side's queue of connections is full: it answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        pool = new_pool()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def both_connect() -> bool:
            loop = loop_of(pool)
            return loop is not None and loop.connections.opened == 2

        ends_as_closed(pool, lambda: pool.get(url), both_connect)
        for filler in fillers:
            filler.close()


def test_closed_while_a_body_is_sent(mute: RawServer) -> None:
    """The server reads nothing: bytes that can't go out, and a generator of which no more is asked."""
    for body in (lambda: BIG * 4, lambda: iter([BIG] * 4)):
        pool = new_pool()
        before = len(mute.connections)

        def send(body: Any = body, pool: SessionPool = pool) -> None:
            pool.post(mute.url(), data=body())

        ends_as_closed(pool, send, lambda before=before: len(mute.connections) == before + 2)  # type: ignore[misc]


def test_closed_while_a_users_body_blocks(mute: RawServer) -> None:
    """The user's code can't be interrupted; as soon as it goes on, its request ends, and ``close`` didn't wait."""
    reached, let = threading.Semaphore(0), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"x"
        reached.release()
        assert let.wait(PATIENCE_S)
        yield b"y"

    pool, raised = new_pool(), list[BaseException]()

    def run() -> None:
        try:
            pool.post(mute.url(), data=body())
        except PoolClosed as error:
            raised.append(error)

    with Threads() as threads:
        threads.start(run)
        assert reached.acquire(timeout=PATIENCE_S)
        pool.close()
        assert not raised
        let.set()
    assert len(raised) == 1


def test_closed_before_the_header(mute: RawServer) -> None:
    """Sent, and nothing comes; streamed or not."""
    for stream in (False, True):
        pool = new_pool()
        before = len(mute.connections)

        def fetch(pool: SessionPool = pool, stream: bool = stream) -> None:
            pool.get(mute.url(), stream=stream)

        ends_as_closed(pool, fetch, lambda before=before: len(mute.connections) == before + 2)  # type: ignore[misc]


@pytest.mark.parametrize("length", [b"Content-Length: 100\r\n", b""])
def test_closed_in_the_middle_of_a_body(length: bytes) -> None:
    """A part has come, and no more; the part is never taken for the whole, not of a body without a length either."""

    def script(connection: socket.socket, _: int) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n%s\r\npart" % length)
        connection.recv(1)

    def have_parts() -> bool:
        loop = loop_of(pool)
        return loop is not None and sum(len(handle.body) for handle in list(loop._running.values())) == 2

    with RawServer(script) as server:
        pool = new_pool()
        ends_as_closed(pool, lambda: pool.get(server.url()), have_parts)


def test_closed_while_paused_for_memory() -> None:
    """Behind an older one that takes all the room."""
    let = threading.Event()

    def slow(_: Request) -> Answer:
        def body() -> Iterator[bytes]:
            yield BIG
            let.wait(PATIENCE_S)

        return Answer(200, {"Content-Length": str(2 * len(BIG))}, body())

    with SiteServer(slow) as server:
        pool = new_pool(memory_budget_bytes=100_000)

        def one_waits() -> bool:
            loop = loop_of(pool)
            return loop is not None and len(loop._budget._paused) == 1

        ends_as_closed(pool, lambda: pool.get(server.url()), one_waits)
        let.set()


def test_streams_that_are_open_are_cut() -> None:
    """One that is paused, one that a thread waits for; each says so, and is never whole."""
    reading = threading.Event()

    def held(gate: Gate, request: Request) -> Iterator[bytes]:
        yield b"part"
        yield gate(request)

    with (
        Gate() as gate,
        SiteServer({"/": BIG, "/held": lambda r: Answer(200, {}, held(gate, r), chunked=True)}) as server,
        gate,
        Threads() as threads,
    ):
        pool = new_pool()
        paused, waiting = pool.get(server.url(), stream=True), pool.get(server.url("/held"), stream=True)
        pipe: Any = waiting.raw._fp._stream
        until(lambda: paused.raw._fp._stream.is_paused)

        def read() -> None:
            with pytest.raises(PoolClosed):
                _ = waiting.content
            reading.set()

        threads.start(read)
        until(lambda: pipe.is_awaited)
        pool.close()
        assert reading.wait(PATIENCE_S)
        with pytest.raises(PoolClosed):
            _ = paused.content
        paused.close()


def test_every_future_ends_when_the_pool_is_closed() -> None:
    """Those that wait in the queue, run, and have come in but no worker was free for: none is left undone."""
    blocked, let = threading.Event(), threading.Event()

    def block(response: requests.Response, **_: Any) -> None:
        blocked.set()
        assert let.wait(PATIENCE_S)

    with Gate() as gate, SiteServer({"/": b"x", "/held": gate}) as server, gate:
        pool = new_pool(threads=1, in_flight=6)
        first = pool.submit("GET", server.url(), hooks={"response": block})
        others = [pool.submit("GET", server.url("/held")) for _ in range(2)]
        others += [pool.submit("GET", server.url()) for _ in range(2)]
        assert blocked.wait(PATIENCE_S)
        with Threads() as threads:
            threads.start(lambda: pool.close(cancel=True))
            until(lambda: pool.is_closed)
            let.set()
        for future in (first, *others):
            assert future.done()
            error = None if future.cancelled() else future.exception()
            assert future.cancelled() or error is None or isinstance(error, (PoolClosed, Cancelled))


@pytest.mark.parametrize("cancel", [False, True])
def test_closed_from_a_handler(cancel: bool) -> None:
    """A worker that closes the pool doesn't wait for itself; the crawl comes to its end, and says why."""

    def handler(result: Any, crawl: Any) -> None:
        pool.close(cancel=cancel)

    before = set(threading.enumerate())
    with SiteServer({"/": b"x"}) as server:
        pool = new_pool(threads=2, in_flight=8)
        with pytest.raises(PoolClosed):
            pool.crawl([server.url(f"/?{number}") for number in range(30)], handler)
    assert leaked_threads(before) == []


def test_closed_from_a_hook_of_ones_own_call() -> None:
    """In the thread that asked: the answer that is being handled is still whole."""
    with SiteServer({"/": b"x"}) as server:
        pool = new_pool()
        response = pool.get(server.url(), hooks={"response": lambda *_, **__: pool.close()})
        assert response.content == b"x"
        with pytest.raises(PoolClosed):
            pool.get(server.url())


def test_two_may_close_at_once(mute: RawServer) -> None:
    """And again after that; one I/O thread ends once."""
    pool = new_pool()
    future = pool.submit("GET", mute.url())
    until(lambda: mute.connections)
    with Threads() as threads:
        threads.start(lambda: pool.close(cancel=True), 4)
    pool.close()
    assert future.cancelled() or isinstance(future.exception(), (PoolClosed, Cancelled))


def test_nothing_is_left_after_each_kind_of_work() -> None:
    """No thread, no socket, no other descriptor, no handle: of idle connections, streams, uploads, failures."""
    with SiteServer({"/": b"x", "/big": BIG, "/cut": Answer(raw=b"HTTP/1.1 200")}) as server:
        threads, sockets = set(threading.enumerate()), open_sockets()
        pool = new_pool(threads=2, in_flight=8)
        engine: Any = pool._shared.engine
        list(pool.map([server.url()] * 20))
        stream = pool.get(server.url("/big"), stream=True)
        pool.post(server.url(), data=iter([b"a"]))
        with pytest.raises(requests.ConnectionError):
            pool.get(server.url("/cut"))
        loop = weakref.ref(engine._loop)
        pool.close()
        stream.close()
        server.stop()
        assert leaked_threads(threads) == []
        assert leaked_sockets(sockets) == set()
        del stream
        gc.collect()
        assert loop() is None, "who holds the loop holds its handles"


@pytest.mark.parametrize("make", ["adapter", "session"])
def test_what_is_dropped_without_a_close_ends_its_thread(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter on a ``requests.Session``, a session that stands alone: with the last reference the thread ends."""
    before = set(threading.enumerate())
    with SiteServer({"/": b"x"}) as server:
        session: Any
        if make == "adapter":
            session = requests.Session()
            session.trust_env = False
            session.mount("http://", CurlAdapter())
        else:
            monkeypatch.setenv("CRAWLPOOL_TRANSPORT", "curl")
            session = Session()
        assert session.get(server.url()).content == b"x"
        ours = set(threading.enumerate()) - before
        assert "crawlpool-io" in {thread.name for thread in ours}
        del session
        gc.collect()
        until(lambda: "crawlpool-io" not in {thread.name for thread in threading.enumerate() if thread in ours})
        until(lambda: server.open_connections == 0)


def test_abort_in_the_middle_of_a_transfer() -> None:
    """Of a body that is half there: the future ends as ``Cancelled``, its connection goes, the others go on."""
    with (
        Gate() as gate,
        SiteServer({"/": b"x", "/held": lambda r: Answer(200, {}, [b"half", gate(r)])}) as server,
        gate,
        new_pool(threads=2) as pool,
    ):
        future = pool.submit("GET", server.url("/held"))
        gate.wait_for()
        assert pool.statistics().connections_open == 1
        assert future.abort()
        with pytest.raises((Cancelled, CancelledError)):
            future.result(PATIENCE_S)
        until(lambda: pool.statistics().connections_open == 0)
        assert pool.submit("GET", server.url()).result(PATIENCE_S).content == b"x"


def test_leaving_a_map_early_aborts_what_runs() -> None:
    """By ``break``: the transfers under way end at the server, too, and nothing more is asked for."""

    def targets() -> Iterator[str]:
        yield server.url()
        while True:
            yield server.url("/held")

    with Gate() as gate, SiteServer({"/": b"x", "/held": gate}) as server, gate:
        with new_pool(threads=2, in_flight=4) as pool:
            results = pool.map(targets())
            assert next(results).response is not None
            gate.wait_for(4)  # as many as may be in flight: none is on its way to the server any more
            results.close()
            until(lambda: pool.statistics().connections_open <= 1)  # that of the answer that came
            asked = gate.total
            assert pool.get(server.url()).ok
            assert gate.total == asked
