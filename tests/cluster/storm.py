"""A cluster whose parts are killed: scheduler and workers as separate processes, and a server that keeps the time.

Workers are killed with ``kill -9`` at random moments and others take their places; one is stopped past its lease and
woken again; the scheduler is killed once, and with it the command, which is then given again. At the end each URL has
one record, none has two, and by the server's own clock no host was asked too soon.

Where network namespaces can be made each worker has one, with an address of its own: what it does goes over a wire.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from crawlpool.engines import notes
from tests.cluster import command
from tests.cluster.net import Nets, can_be_made
from tests.cluster.records import count_of, lines_of
from tests.cluster.same import looks
from tests.cluster.site import Site, addresses, breaches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DELAY_S = 0.15
_OURS = ("--allow-net", "127.0.0.0/8", "--allow-net", "10.77.0.0/16")
_MUTE = ("--progress", "none", "--log-format", "json")
LEASE_S = 3.0
#: By what a wait may come short for the resolution of clocks.
CLOCK_S = 0.001
_UP_S = 60.0


@dataclasses.dataclass
class Storm:
    """What is to happen.

    Args:
        urls: how many URLs.
        hosts: on how many hosts.
        workers: how many worker processes there are at a time.
        kills: how many of them are killed.
        stops: how many are stopped past their lease and woken.
        schedulers: how often the scheduler is killed.
        seed: of the moments.
    """

    urls: int = 12_000
    hosts: int = 60
    workers: int = 4
    kills: int = 30
    stops: int = 1
    schedulers: int = 1
    seed: int = 1


class Cluster:
    """A scheduler and workers, each a process of its own, as long as the block lasts.

    Args:
        folder: where the scheduler's file lies.
        workers: how many.
        nets: the namespaces that they are in; ``None`` for this one.
    """

    def __init__(self, folder: pathlib.Path, workers: int, nets: Nets | None = None) -> None:
        self._nets = nets
        self._places: dict[int, int] = {}  # of each worker's process the number of its namespace
        self.file = folder / "scheduler.json"
        self._folder = folder
        self._count = workers
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._log = open(folder / "cluster.log", "ab")  # noqa: SIM115  # closed in __exit__

    def __enter__(self) -> Cluster:
        try:
            self.start_scheduler()
            self.fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._log.close()

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with, so that it is where the scheduler is."""
        return () if self._nets is None else ("ip", "netns", "exec", self._nets.hub)

    def _start(self, *args: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*within, sys.executable, "-m", "distributed.cli." + args[0], *args[1:]],
            cwd=command.ROOT,
            env={**command.environ(), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def start_scheduler(self) -> None:
        """Start a scheduler, and wait until it can be reached."""
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
        host = "127.0.0.1" if self._nets is None else self._nets.hub_address
        args = ("--host", host, "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file))
        self.scheduler = self._start("dask_scheduler", *args, "--dashboard-address", "127.0.0.1:0", within=self.within)
        for _ in looks(_UP_S):
            if self.file.exists():
                return
        raise AssertionError("no scheduler comes up")

    def fill(self) -> None:
        """Start workers until there are as many as there shall be."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < self._count:
            args = ("--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
            place = ("--local-directory", str(self._folder / "scratch"), "--death-timeout", "30")
            host, within, number = "127.0.0.1", (), 0
            if self._nets is not None:
                taken = {self._places[worker.pid] for worker in self.workers}
                number = next(n for n in range(self._count) if n not in taken)
                name, host = self._nets.places[number]
                within = ("ip", "netns", "exec", name)
            worker = self._start("dask_worker", *args, *place, "--host", host, within=within)
            self._places[worker.pid] = number
            self.workers.append(worker)

    def busy(self, job: str) -> list[subprocess.Popen[bytes]]:
        """Return the workers that have a runner, by what these tell; waits for one, but not for long."""
        for _ in looks(20.0):
            told = [notes.read_note(job, name) for name in notes.names(job)]
            pids = {note.pid for note in told if note is not None and note.shards and not note.has_ended}
            found = [worker for worker in self.workers if worker.poll() is None and worker.pid in pids]
            if found:
                return found
        return [worker for worker in self.workers if worker.poll() is None]

    def kill(self, picks: random.Random, job: str) -> bool:
        """Kill one of the workers; return whether there was one."""
        alive = self.busy(job)
        if alive:
            worker = picks.choice(alive)
            worker.kill()
            worker.wait()
        return bool(alive)

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and start another one; workers of the old one end by themselves, or are ended."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()
        for worker in self.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.start_scheduler()


def main(folder: pathlib.Path, storm: Storm, say: Callable[[str], None] = print) -> None:
    """Have a job run through a storm; raise where anything is lost, doubled, or impolite."""
    picks = random.Random(storm.seed)
    job = str(folder / "storm")
    shutil.rmtree(job, ignore_errors=True)
    with contextlib.ExitStack() as opened:
        nets = opened.enter_context(Nets(storm.hosts, storm.workers)) if can_be_made() else None
        say("each worker in a network namespace of its own" if nets is not None else "all on loopback")
        hosts = addresses(storm.hosts, first=2) if nets is None else nets.hosts
        site = opened.enter_context(Site(hosts, place=None if nets is None else nets.hub))
        urls = site.urls(storm.urls)
        given = folder / "storm-urls.txt"
        given.write_text("\n".join(urls) + "\n")
        with Cluster(folder, storm.workers, nets) as cluster:
            _weather(cluster, storm, picks, job, str(given), say)
    records = lines_of(job)
    _check_records(records, urls, say)
    too_soon = breaches(site.asked, DELAY_S - CLOCK_S)
    say(f"the server was asked {len(site.asked):,} times, {len(too_soon)} of them too soon")
    assert not too_soon, f"{len(too_soon)} requests came too soon, the first: {too_soon[:3]}"


def _weather(
    cluster: Cluster, storm: Storm, picks: random.Random, job: str, given: str, say: Callable[[str], None]
) -> None:
    args = ("run", given, "--job", job, *_OURS, *_MUTE, "--delay", str(DELAY_S))
    more = ("--handler", "tests.cluster.site:follow", "--lease", str(LEASE_S), "--shards", "24")
    engine = ("--engine", f"dask://{cluster.file}", "--ignore-robots", "--min-free", "0")
    began_s = time.monotonic()
    process = command.start(*args, *more, *engine, within=cluster.within)
    killed = stopped = again = 0
    try:
        deeds = ["kill"] * storm.kills + ["stop"] * storm.stops + ["scheduler"] * storm.schedulers
        picks.shuffle(deeds)
        for _ in looks(_UP_S):
            if count_of(job) or process.poll() is not None:
                break
        for deed in deeds:
            time.sleep(picks.uniform(0.2, 2.5))
            say(f"{time.monotonic() - began_s:6.1f} s  {deed}, with {count_of(job):,} records")
            if deed == "kill":
                killed += cluster.kill(picks, job)
            elif deed == "stop":
                stopped += _stop_and_wake(cluster, picks, job)
            else:
                cluster.kill_scheduler()
                ran = command.ended(process, began_s, 120)
                assert ran.code in (7, 8, 0), f"exit code {ran.code}: {ran.told[-3000:]}"
                say(f"the scheduler was killed: the command ended with {ran.code}, with {count_of(job):,} records")
                cluster.fill()
                process = command.start("resume", job, *_MUTE, *engine[:2], within=cluster.within)
                again += 1
            cluster.fill()
            if process.poll() is not None:  # all is done, or it couldn't go on
                ran = command.ended(process, began_s)
                assert ran.code == 7, f"it ended before the storm did: exit code {ran.code}: {ran.told[-3000:]}"
                process = command.start("resume", job, *_MUTE, *engine[:2], within=cluster.within)
                again += 1
        ran = command.ended(process, began_s, 600)
        while ran.code == 7 and again < 5:
            again += 1
            ran = command.run("resume", job, *_MUTE, *engine[:2], well=(0, 7, 8), within=cluster.within)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert ran.code in command.WELL, f"exit code {ran.code}: {ran.told[-3000:]}"
    books = command.summary(ran)
    assert books["pending"] == 0, books
    ends = ", ".join(f"{books[key]:,} {key}" for key in ("ok", "http_error", "failed", "disallowed", "skipped"))
    say(
        f"{killed} workers killed, {stopped} stopped and woken, the command given again {again} times: done after "
        f"{time.monotonic() - began_s:.0f} s; books of all: {books['inputs']:,} + {books['found']:,} = {ends}"
    )
    assert killed == storm.kills, f"only {killed} were killed"
    assert stopped == storm.stops, f"only {stopped} were stopped"


def _stop_and_wake(cluster: Cluster, picks: random.Random, job: str) -> bool:
    alive = cluster.busy(job)
    if not alive:
        return False
    worker = picks.choice(alive)
    worker.send_signal(signal.SIGSTOP)
    time.sleep(2.5 * LEASE_S)  # past its lease, and until others have its shards
    worker.send_signal(signal.SIGCONT)
    time.sleep(1.0)
    return True


def _check_records(records: list[dict[str, object]], urls: list[str], say: Callable[[str], None]) -> None:
    by_line = collections.Counter(record["n"] for record in records if record["n"] is not None)
    lost = [n for n in range(1, len(urls) + 1) if not by_line[n]]
    doubled = [n for n, count in by_line.items() if count > 1]
    links = collections.Counter(record["url"] for record in records if record["n"] is None)
    twice = [url for url, count in links.items() if count > 1]
    wrong = [record for record in records if record["outcome"] == "failed"]
    kinds = collections.Counter(str(record["error"]) for record in wrong)
    say(
        f"{len(records):,} records of {len(urls):,} lines and {len(links):,} links: {len(lost)} lost, "
        f"{len(doubled) + len(twice)} doubled, {len(wrong)} failed {kinds.most_common(2) if wrong else ''}"
    )
    assert not lost, f"lost: {lost[:5]}"
    assert not doubled, f"doubled: {doubled[:5]}"
    assert not twice, f"doubled links: {twice[:5]}"
    assert not wrong, f"failed: {kinds}"
