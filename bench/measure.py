"""Rounds of all contenders in turn, A B C A B C …, so that a slow minute of the machine falls on all of them alike."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import tempfile
from typing import TYPE_CHECKING, Any

from bench import commands
from bench.contenders import CONTENDERS, REPOSITORY, Contender, Kind, version_of, why_not
from bench.process import Ended, RoundFailed, allow_files, run
from bench.serving import CannotServe, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.serving import Served
    from bench.work import Work
    from bench.workloads import Workload

ROUND_TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round of one contender took.

    Args:
        requests: pages that arrived, whole.
        seconds: a library's from the first session made to the last one closed; a command's whole process.
        cpu_s: processor time of the client, user and system, in that time.
        connections: connections that the server accepted.
        peak_bytes: most memory that the client had, its interpreter and imports included.
        peak_files: most descriptors that the client had open at once; ``None`` where that can't be seen.
    """

    requests: int
    seconds: float
    cpu_s: float
    connections: int
    peak_bytes: int
    peak_files: int | None

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.requests * 1e6


@dataclasses.dataclass
class Measured:
    """All rounds of all contenders on one workload.

    Args:
        workload: what was fetched.
        server: from which server.
        rounds: of each contender whose every round was good, in turn.
        absent: why a contender could not take part.
        failed: what was wrong with the round of a contender that failed.
        versions: of the contenders that tell one.
    """

    workload: Workload
    server: str = ""
    rounds: dict[str, list[Round]] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def per_second(self, contender: str) -> float:
        """Return the median of requests per second."""
        return statistics.median(one.per_second for one in self.rounds[contender])

    def cpu_us(self, contender: str) -> float:
        """Return the median of microseconds of the client's processor time for each request."""
        return statistics.median(one.cpu_us for one in self.rounds[contender])

    def peak_bytes(self, contender: str) -> float:
        """Return the median of the most memory."""
        return statistics.median(one.peak_bytes for one in self.rounds[contender])

    def ratio(self, contender: str, base: str, of: str = "per_second") -> float:
        """Return the median over rounds of how many times ``base``'s value: each round against its neighbour."""
        pairs = zip(self.rounds[contender], self.rounds[base], strict=True)
        return statistics.median(getattr(ours, of) / getattr(theirs, of) for ours, theirs in pairs)


def measure(
    workload: Workload, contenders: Sequence[str], *, rounds: int, bundled: bool, say: Callable[[str], None]
) -> Measured:
    """Run so many rounds of each contender, taking turns. Whoever fails a round is out, and its rounds don't count.

    Args:
        workload: what to fetch.
        contenders: who takes part, by slug.
        rounds: how many of each.
        bundled: whether to serve from the bundled server where there is an nginx, too.
        say: told how it goes.

    Raises:
        CannotServe: when the server, or this machine's limit on open files, can't do what the workload needs.
    """
    allowed = allow_files(workload.descriptors)
    if allowed < workload.descriptors:
        raise CannotServe(f"{allowed:,} files may be open here at once, and it takes {workload.descriptors:,}")
    measured = Measured(workload)
    for slug in contenders:
        reason = why_not(CONTENDERS[slug])
        if reason:
            measured.absent[slug] = reason
        else:
            measured.rounds[slug] = []
    with (
        tempfile.TemporaryDirectory(prefix="crawlpool-bench-") as name,
        serve(workload, pathlib.Path(name), bundled=bundled) as served,
    ):
        measured.server = served.server
        for number in range(1, rounds + 1):
            for slug in list(measured.rounds):
                try:
                    done = _round(CONTENDERS[slug], served, measured.versions)
                except RoundFailed as error:
                    del measured.rounds[slug]
                    measured.failed[slug] = str(error)
                    say(f"{workload.slug}, round {number}/{rounds}, {slug}: FAILED: {error}")
                else:
                    measured.rounds[slug].append(done)
                    say(f"{workload.slug}, round {number}/{rounds}, {slug}: {done.per_second:,.0f} requests/s")
    return measured


def _round(contender: Contender, served: Served, versions: dict[str, str]) -> Round:
    """Run one round in fresh processes, and count the connections that it made."""
    work, path = served.work_for(contender.slug)
    before = served.accepted()
    ways = {Kind.LIBRARY: _library, Kind.COMMAND: _command, Kind.CEILING: _ceiling}
    done, version = ways[contender.kind](contender, work, path)
    if version:
        versions[contender.slug] = version
    return dataclasses.replace(done, connections=served.accepted() - before)


def _library(contender: Contender, work: Work, path: pathlib.Path) -> tuple[Round, str | None]:
    arguments = [contender.python, "-m", "bench.client", contender.slug, str(path)]
    ended = run(arguments, folder=REPOSITORY, timeout_s=ROUND_TIMEOUT_S)
    report: dict[str, Any] = json.loads(ended.output)
    done = Round(len(work.urls), report["seconds"], report["cpu_s"], 0, int(report["peak_bytes"]), ended.peak_files)
    return done, report["version"]


def _command(contender: Contender, work: Work, path: pathlib.Path) -> tuple[Round, str | None]:
    with tempfile.TemporaryDirectory(prefix="crawlpool-bench-command-") as name:
        folder = pathlib.Path(name)
        arguments = commands.command(contender.slug, work, folder)
        ended = run(arguments, folder=folder, timeout_s=ROUND_TIMEOUT_S)
        wrong = commands.check(contender.slug, work, folder)
        if wrong:
            raise RoundFailed(wrong)
    return _of_process(ended, len(work.urls), ended.seconds), version_of(contender)


def _ceiling(contender: Contender, work: Work, path: pathlib.Path) -> tuple[Round, str | None]:
    ended = run(commands.wrk(work), folder=REPOSITORY, timeout_s=ROUND_TIMEOUT_S)
    try:
        count, seconds = commands.wrk_found(ended.output, work)
    except ValueError as error:
        raise RoundFailed(str(error)) from None
    return _of_process(ended, count, seconds), None


def _of_process(ended: Ended, requests: int, seconds: float) -> Round:
    return Round(requests, seconds, ended.cpu_s, 0, ended.peak_bytes, ended.peak_files)
