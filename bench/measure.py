"""Rounds of all contenders in turn, A B C A B C …, so that a slow minute of the machine falls on all of them alike."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from bench.workloads import REPOSITORY, Workload, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUND_TIMEOUT_S = 300
_LOOK_EVERY_S = 0.02


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round of one contender took.

    Args:
        seconds: from the first session made to the last one closed.
        cpu_s: processor time of the client, user and system, in that time.
        connections: connections that the server accepted.
        peak_files: most file descriptors that the client had open at once; ``None`` where that can't be seen.
    """

    seconds: float
    cpu_s: float
    connections: int
    peak_files: int | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """All rounds of all contenders on one workload."""

    workload: Workload
    server: str
    rounds: dict[str, list[Round]]

    def per_second(self, contender: str) -> float:
        """Return the median of requests per second."""
        return statistics.median(self.workload.requests / one.seconds for one in self.rounds[contender])

    def cpu_us(self, contender: str) -> float:
        """Return the median of microseconds of the client's processor time for each request."""
        return statistics.median(one.cpu_s / self.workload.requests * 1e6 for one in self.rounds[contender])

    def ratio(self, contender: str, base: str) -> float:
        """Return the median over rounds of how many times as fast as ``base``: each round against its neighbour."""
        pairs = zip(self.rounds[contender], self.rounds[base], strict=True)
        return statistics.median(theirs.seconds / ours.seconds for ours, theirs in pairs)


def measure(
    workload: Workload, contenders: Sequence[str], *, rounds: int, bundled: bool, say: Callable[[str], None]
) -> Measured:
    """Run so many rounds of each contender, taking turns; ``bundled``: from the bundled server, nginx or not.

    Raises:
        RuntimeError: when a round failed, took too long, or lacked a page.
    """
    found: dict[str, list[Round]] = {contender: [] for contender in contenders}
    with (
        tempfile.TemporaryDirectory(prefix="crawlpool-bench-") as name,
        serve(workload, pathlib.Path(name), bundled=bundled) as served,
    ):
        work = json.dumps(served.work)
        for number in range(1, rounds + 1):
            for contender in contenders:
                before = served.accepted()
                done = _round(contender, work)
                done = dataclasses.replace(done, connections=served.accepted() - before)
                found[contender].append(done)
                rate = workload.requests / done.seconds
                say(f"{workload.name}, round {number}/{rounds}, {contender}: {rate:,.0f} requests/s")
        return Measured(workload, served.server, found)


def _round(contender: str, work: str) -> Round:
    """Run one round in a fresh process, whose environment has nothing that would decide it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy")
        and not name.startswith("CRAWLPOOL_")
        and name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE", "NETRC")
    }
    environment["PYTHONPATH"] = str(REPOSITORY)
    client = pathlib.Path(__file__).with_name("client.py")
    with subprocess.Popen(
        [sys.executable, str(client), contender],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        counter = _FileCounter(process.pid)
        try:
            output, errors = process.communicate(work, timeout=ROUND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError(f"{contender}: a round took more than {ROUND_TIMEOUT_S} s") from None
        finally:
            peak = counter.stop()
    if process.returncode:
        raise RuntimeError(f"{contender}: the round failed: {errors.strip()[-2000:]}")
    report = json.loads(output)
    return Round(report["seconds"], report["cpu_s"], 0, peak)


class _FileCounter:
    """Looks from outside, 50 times a second, how many descriptors a process has open; it costs the process nothing."""

    def __init__(self, pid: int) -> None:
        self._folder = f"/proc/{pid}/fd"
        self._peak: int | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="bench-files")
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            try:
                self._peak = max(self._peak or 0, len(os.listdir(self._folder)))
            except OSError:  # no /proc here, or the process has ended
                return

    def stop(self) -> int | None:
        """End the looking; return the most that was seen."""
        self._end.set()
        self._thread.join()
        return self._peak
