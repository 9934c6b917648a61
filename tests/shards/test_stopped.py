"""A worker that is stopped past its lease: others take its shard over, and when it wakes it sends nothing."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crawlpool import Job, SessionPool, open_job
from crawlpool.shards import takeover
from crawlpool.shards import tenure as tenures
from crawlpool.shards.held import Busy, Held
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.testing import SiteServer
from crawlpool.transport.curl import library
from tests.gates import PATIENCE_S, until
from tests.house import ROOT
from tests.jobs.made import FREE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stops processes, and looks at them in /proc")
needs_curl = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")
LEASE_S, STOPPED_AT, URLS = 2.0, 5, 12


class World:
    """A site, the worker that crawls it, and who takes over."""

    def __init__(self, shard: pathlib.Path, server: SiteServer) -> None:
        self.shard, self.server = str(shard), server
        self.urls = [server.url(f"/{number}") for number in range(URLS)]
        self.keeper = LeaseKeeper(LEASE_S)
        self.child: subprocess.Popen[str] | None = None

    @property
    def paths(self) -> list[str]:
        """What the server was asked for."""
        return [request.path for request in self.server.requests]

    def start(self, transport: str, moment: str, *, kills: bool = False) -> subprocess.Popen[str]:
        """Start the worker, and wait until it is stopped."""
        words = [self.shard, LEASE_S, transport, moment, STOPPED_AT, "kills" if kills else "lets", *self.urls]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.shards.stopped", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        until(lambda: self.child is not None and (self.is_stopped() or self.child.poll() is not None))
        return self.child

    def is_stopped(self) -> bool:
        assert self.child is not None
        try:
            stat = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def take_over(self) -> takeover.Epoch:
        """Take the shard over as soon as that can be done."""
        got: list[Held | Busy] = []

        def claim() -> bool:
            got[:] = [self.keeper.claim(self.shard)]
            return isinstance(got[0], Held)

        until(claim)
        assert isinstance(got[0], Held)
        return takeover.enter(got[0])

    def wake(self) -> str:
        """Wake the worker; return what it says at its end."""
        assert self.child is not None
        self.child.send_signal(signal.SIGCONT)
        said, complaint = self.child.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in complaint, complaint
        return said

    def finish(self, epoch: takeover.Epoch) -> None:
        """Crawl what is left, and see that each URL has one record."""
        with SessionPool(threads=2, trust_env=False) as pool:
            report = pool.crawl(self.urls, job=Job(epoch.path), **FREE)
        assert (report.ok, report.failed, report.pending) == (URLS, 0, 0)
        with open_job(epoch.path) as job:
            assert sorted(record.url for record in job.records()) == sorted(self.urls)
        # Asked for again is what was answered and not committed when the worker was stopped.
        assert set(self.paths) == {f"/{number}" for number in range(URLS)}
        assert len(self.paths) <= URLS + 2


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[World]:
    with SiteServer(lambda request: request.path.encode()) as server:
        world = World(tmp_path / "0000", server)
        try:
            yield world
        finally:
            world.keeper.close()
            if world.child is not None:
                world.child.kill()
                world.child.communicate()


@pytest.mark.transports()
def test_a_worker_that_was_stopped_past_its_lease_sends_nothing(world: World, transport: str) -> None:
    """Stopped right before it looks at the fence for the last time, with its connection open: the server hears nothing
    more of it, what it had under way is its successor's, and what it writes is never read.
    """
    child = world.start(transport, "before")
    assert len(world.paths) == STOPPED_AT - 1
    epoch = world.take_over()
    assert child.poll() is None
    assert epoch.origin == 1
    before = {path: path.read_bytes() for path in pathlib.Path(epoch.path).rglob("*") if path.is_file()}
    said = world.wake()
    assert said.split() == [str(STOPPED_AT - 1), "0", str(URLS - STOPPED_AT + 1), "lost"]
    assert len(world.paths) == STOPPED_AT - 1
    assert {path: path.read_bytes() for path in pathlib.Path(epoch.path).rglob("*") if path.is_file()} == before
    newest = tenures.newest(world.shard)
    assert newest is not None
    assert (newest.number, newest.epoch, newest.is_released) == (2, 2, False)
    world.finish(epoch)


@needs_curl
def test_the_system_kills_a_worker_that_is_stopped_between_look_and_send(world: World) -> None:
    """It has been told that it may send, and nothing else would keep it from that: it never wakes."""
    child = world.start("curl", "after", kills=True)
    assert child.wait(PATIENCE_S) == -signal.SIGKILL
    epoch = world.take_over()  # at once: it is known to be dead
    assert len(world.paths) == STOPPED_AT - 1
    world.finish(epoch)


@needs_curl
def test_without_the_switch_one_request_gets_out_at_most(world: World) -> None:
    """Stopped between look and send, and woken later, it makes that one request, and none after it."""
    world.start("curl", "after")
    epoch = world.take_over()
    before = len(world.paths)
    world.wake()
    assert (before, len(world.paths) - before) in ((STOPPED_AT - 1, 0), (STOPPED_AT - 1, 1))
    world.finish(epoch)
