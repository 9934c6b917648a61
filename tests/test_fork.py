"""Forking: the child starts with an empty pool, and nothing that it does reaches the parent's connections."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING

import pytest

from crawlpool import PoolClosed, Session, SessionPool, fork
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from tests.gates import PATIENCE_S, Gate, Threads
from tests.house import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.transports(), pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")]


@pytest.fixture
def tls_server(certificates: Certificates) -> Iterator[SiteServer]:
    with SiteServer({"/": b"secret"}, tls=certificates.server_context()) as server:
        yield server


def in_child(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked child that ends by ``os._exit``; return its exit code, 0 when all went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forking a process with threads: our case
        pid = os.fork()
    if pid == 0:
        code = 1
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE_S))  # a child that hangs ends itself
        try:
            work()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pool_for(certificates: Certificates) -> SessionPool:
    return SessionPool(verify=str(certificates.authority), threads=2)


def test_the_child_is_empty_and_can_fetch(tls_server: SiteServer, certificates: Certificates) -> None:
    """A forked child has no session of the parent's, makes its own, and fetches with the parent's settings."""
    with pool_for(certificates) as pool:
        pool.headers["X-Mine"] = "parent"
        pool.get(tls_server.url("/"))
        mine = pool.session

        def work() -> None:
            assert pool.statistics().sessions == 0
            assert pool.get(tls_server.url("/")).text == "secret"
            assert pool.session is not mine
            assert pool.session.headers["X-Mine"] == "parent"
            assert pool.submit("GET", tls_server.url("/")).result(PATIENCE_S).text == "secret"
            assert [r.unwrap().text for r in pool.map([tls_server.url("/")] * 3)] == ["secret"] * 3

        assert in_child(work) == 0


def test_the_parents_connection_outlives_the_child(tls_server: SiteServer, certificates: Certificates) -> None:
    """After a child fetched, closed the pool, collected garbage and ended, the parent's TLS connection still serves."""
    with pool_for(certificates) as pool:
        pool.get(tls_server.url("/"))

        def work() -> None:
            assert pool.get(tls_server.url("/")).text == "secret"
            pool.close()
            gc.collect()
            with pytest.raises(PoolClosed):
                pool.get(tls_server.url("/"))

        assert in_child(work) == 0
        assert tls_server.connections == 2
        assert pool.get(tls_server.url("/")).text == "secret"
        assert tls_server.connections == 2, "the parent had to connect again"


def test_connections_of_the_parents_other_threads_live_on(tls_server: SiteServer, certificates: Certificates) -> None:
    """A child ends the parent's other threads, as it must; the connections of those live on in the parent."""
    first, go_on, done = threading.Event(), threading.Event(), threading.Event()
    with pool_for(certificates) as pool:

        def work() -> None:
            pool.get(tls_server.url("/"))
            first.set()
            assert go_on.wait(PATIENCE_S)
            assert pool.get(tls_server.url("/")).text == "secret"
            done.set()

        with Threads() as threads:
            threads.start(work)
            assert first.wait(PATIENCE_S)
            assert in_child(gc.collect) == 0
            go_on.set()
            assert done.wait(PATIENCE_S)
        assert tls_server.connections == 1


def test_a_child_that_ends_by_sys_exit_does_no_harm(
    tls_server: SiteServer, certificates: Certificates, transport: str
) -> None:
    """A child that ends the usual way, with finalizers and exit handlers, leaves the parent's TLS connections whole."""
    code = f"""
import os, sys, warnings
from crawlpool import SessionPool
warnings.simplefilter("ignore", DeprecationWarning)
url = {tls_server.url("/")!r}
pool = SessionPool(verify={str(certificates.authority)!r}, threads=1)
pool.get(url)
pool.submit("GET", url).result()
pid = os.fork()
if pid == 0:
    pool.get(url)
    del pool
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
pool.get(url)
pool.submit("GET", url).result()
pool.close()
"""
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("7\n", "", 0)
    # One of the child's, and one of each of the parent's threads: with curl they have one together.
    assert tls_server.connections == (2 if transport == "curl" else 3), "the parent had to connect again"


def test_locks_held_by_another_thread_dont_matter(tls_server: SiteServer, certificates: Certificates) -> None:
    """A child made while other threads hold every lock of the pool works all the same."""
    with pool_for(certificates) as pool:
        mine = pool.session
        mine.get(tls_server.url("/"))
        pool.submit("GET", tls_server.url("/")).result(PATIENCE_S)
        shared, workforce = pool._shared, pool._workforce
        held = [
            pool._lock, pool._watchdog._lock, workforce._lock, workforce.frontier._lock, pool._submitted._lock,
            shared.defaults._lock, shared.sites._lock, shared.mounts._lock, shared.tls._lock, shared.budget._lock,
            shared.cookies._cookies_lock, fork._lock, *(session.lifeline._lock for session in pool._sessions),
        ]  # fmt: skip
        holding, may_go = threading.Event(), threading.Event()

        def hold() -> None:
            for lock in held:
                assert lock.acquire(timeout=PATIENCE_S)
            holding.set()
            may_go.wait(PATIENCE_S)
            for lock in held:
                lock.release()

        def work() -> None:
            pool.headers["a"] = "b"
            pool.cookies.set("c", "d")
            pool.site("http://x.example", headers={"e": "f"})
            assert pool.get(tls_server.url("/")).text == "secret"
            assert pool.submit("GET", tls_server.url("/")).result(PATIENCE_S).text == "secret"
            SessionPool().close()
            with pytest.raises(PoolClosed):
                mine.get(tls_server.url("/"))  # it is the parent's
            pool.close()

        with Threads() as threads:
            threads.start(hold)
            assert holding.wait(PATIENCE_S)
            try:
                assert in_child(work) == 0
            finally:
                may_go.set()


def test_queued_work_stays_in_the_parent() -> None:
    """What the parent had queued when it forked is sent once, by the parent."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1) as pool, gate:
        futures = [pool.submit("GET", server.url("/"))]
        gate.wait_for(1)
        futures += [pool.submit("GET", server.url("/")) for _ in range(2)]

        def work() -> None:
            assert pool.statistics().queued == 0
            pool.close()

        assert in_child(work) == 0
        gate.open()
        assert [future.result(PATIENCE_S).status_code for future in futures] == [200] * 3
        assert server.request_count == 3


def test_a_pool_closed_before_the_fork_stays_closed() -> None:
    """A child doesn't bring a closed pool back to life."""
    pool = SessionPool()
    pool.close()

    def work() -> None:
        with pytest.raises(PoolClosed):
            pool.get("http://127.0.0.1:1/")
        with pytest.raises(PoolClosed):
            pool.submit("GET", "http://127.0.0.1:1/")

    assert in_child(work) == 0


def test_registering_holds_no_pool_alive() -> None:
    """Being registered for forks doesn't keep a pool that nobody closed, and nobody has, in memory."""
    pool = SessionPool()
    assert pool in fork._pools
    before = len(fork._pools)
    del pool
    gc.collect()
    assert len(fork._pools) == before - 1


def test_a_session_that_stands_alone_lives_on_in_both(tls_server: SiteServer, certificates: Certificates) -> None:
    """It belongs to no pool that would be told: the child connects anew, and the parent's connection still serves."""
    with Session() as session:
        session.verify = str(certificates.authority)
        assert session.get(tls_server.url("/")).text == "secret"

        def work() -> None:
            with Session() as own:
                assert own.get(tls_server.url("/"), verify=str(certificates.authority)).text == "secret"
            gc.collect()

        assert in_child(work) == 0
        assert session.get(tls_server.url("/")).text == "secret"
        assert tls_server.connections == 2, "the parent had to connect again"


@pytest.mark.transports("curl")
def test_a_child_made_amid_transfers_harms_none(tls_server: SiteServer, certificates: Certificates) -> None:
    """The I/O thread is held while the process is copied: many forks during many transfers, and all come whole."""
    with SessionPool(verify=str(certificates.authority), threads=4, in_flight=8, retry=False) as pool:
        results = pool.map([tls_server.url("/")] * 400)
        for number, result in enumerate(results):
            assert result.unwrap().text == "secret"
            if number % 80 == 0:
                assert in_child(gc.collect) == 0


@pytest.mark.transports("curl")
def test_a_stream_of_the_parent_ends_in_the_child() -> None:
    """What is left of it comes to the parent; the child is told so and doesn't wait for it."""
    big = b"x" * 3_000_000
    with SiteServer({"/": big}) as server, SessionPool() as pool:
        response = pool.get(server.url("/"), stream=True)

        def work() -> None:
            with pytest.raises(PoolClosed):
                assert len(response.content) < len(big)
                raise AssertionError("it read on")

        assert in_child(work) == 0
        assert response.content == big


def test_a_map_goes_on_in_its_own_process_only() -> None:
    """In a forked child the parent's map raises at once: its workers aren't there. The parent loses nothing."""
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2) as pool:
        results = pool.map(server.url(f"/?{number}") for number in range(50))
        assert next(results).is_ok

        def work() -> None:
            with pytest.raises(PoolClosed, match="forked"):
                next(results)
            assert list(results) == []
            assert all(result.is_ok for result in pool.map([server.url()] * 3))

        assert in_child(work) == 0
        assert sum(result.is_ok for result in results) == 49
