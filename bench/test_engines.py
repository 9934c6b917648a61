"""What engines cost and bring: two workers beside one, shards beside none, and lists that grow to a million.

``python -m pytest bench/test_engines.py --timeout=0 [--rounds N] [--quick]``. Each run is a process of its own with
workers of its own. Of the times the start of a Dask cluster, some seconds, is told apart.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from bench.process import run
from tests.cluster import command
from tests.cluster.site import Site, addresses

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

TIMEOUT_S = 3600.0
#: How long the pages of the latency-bound load take, and how many a worker asks for at once.
ANSWER_S, AT_ONCE = 0.2, 16


def client(*arguments: object) -> dict[str, Any]:
    """Run a client in a process of its own; return what it printed."""
    args = [sys.executable, "-m", "bench.clients.sharded", *map(str, arguments)]
    found: dict[str, Any] = json.loads(run(args, folder=pathlib.Path.cwd(), timeout_s=TIMEOUT_S).output)
    return found


def test_two_workers_beside_one(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> None:
    """On a load that waits for its hosts two workers are at least 1.8 times as fast as one."""
    is_quick = pytestconfig.getoption("--quick")
    rounds, count = (1, 400) if is_quick else (pytestconfig.getoption("--rounds"), 4_000)
    took: dict[int, list[float]] = {1: [], 2: []}

    def round_of(workers: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            site = Site(addresses(100, first=3), ANSWER_S)
            with site:
                urls = pathlib.Path(folder, "urls.txt")
                urls.write_text("\n".join(f"http://{site.hosts[n % 100]}:{site.port}/l/{n}" for n in range(count)))
                job = ("--job", str(pathlib.Path(folder, "job")), "--per-host", "50", "--ignore-robots")
                many = ("--threads", str(AT_ONCE), "--engine", "dask", "--workers", str(workers), "--shards", "32")
                command.run("run", str(urls), *job, *many, "--progress", "none", well=(0,))
            assert len(site.asked) == count
            took[workers].append(max(one.ended_s for one in site.asked) - min(one.came_s for one in site.asked))

    def all_rounds() -> None:
        for _ in range(rounds):
            for workers in took:
                round_of(workers)

    benchmark.pedantic(all_rounds, rounds=1)
    ratio = statistics.median(one / two for one, two in zip(took[1], took[2], strict=True))
    told = ", ".join(f"{workers}: {statistics.median(times):.1f} s" for workers, times in took.items())
    print(f"\n{count:,} pages of {ANSWER_S:g} s, workers {told}: {ratio:.2f} times as fast", end="")
    benchmark.extra_info["ratio"] = ratio


def test_shards_beside_none(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> None:
    """Of a run of 10⁵ URLs the engine takes at most 5 %."""
    is_quick = pytestconfig.getoption("--quick")
    rounds, count = (1, 4_000) if is_quick else (pytestconfig.getoption("--rounds"), 100_000)
    took: dict[str, list[float]] = {"none": [], "threads": []}

    def all_rounds() -> None:
        for _ in range(rounds):
            for engine in took:
                with tempfile.TemporaryDirectory() as folder:
                    found = client(engine, folder, count, 2_000, 1)
                assert found["ok"] == count
                took[engine].append(found["seconds"])

    benchmark.pedantic(all_rounds, rounds=1)
    ratio = statistics.median(x / y for x, y in zip(took["threads"], took["none"], strict=True))
    told = ", ".join(f"{engine} {statistics.median(times):.1f} s" for engine, times in took.items())
    print(f"\n{count:,} URLs, 64 shards: {told}: {ratio - 1:+.1%}", end="")
    benchmark.extra_info["overhead"] = ratio - 1


def test_cost_does_not_grow_with_the_list(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> None:
    """From 10⁴ to 10⁶ URLs the time of one is the same within 20 %, and so is the memory of client and scheduler."""
    counts = (1_000, 4_000) if pytestconfig.getoption("--quick") else (10_000, 100_000, 1_000_000)
    found: dict[int, dict[str, Any]] = {}

    def all_counts() -> None:
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                found[count] = client("dask", folder, count, 2_000, 2)
            assert found[count]["ok"] == count

    benchmark.pedantic(all_counts, rounds=1)
    for count, told in found.items():
        us = told["crawl_s"] / count * 1e6
        mib = {name: told[name] / 2**20 for name in ("client", "worker")}
        memory = f"client and scheduler {mib['client']:.0f} MiB, a worker {mib['worker']:.0f} MiB"
        print(f"\n{count:,} URLs: {us:.0f} µs each with 2 workers, {told['seconds']:.0f} s in all; {memory}", end="")
        benchmark.extra_info[str(count)] = {"us": us, **mib}
