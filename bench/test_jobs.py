"""What it costs that a crawl survives: a ledger and WARC files beside plain records, and long lists in a job.

Each round is a process of its own, and the ways take turns. The pages, of 20 kB, come from nginx on the same machine;
each has to have its record. ``python -m pytest bench/test_jobs.py --timeout=0 [--rounds N] [--quick]``
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench.clients.kept import KEPT
from bench.process import run
from crawlpool.testing.nginx import find_nginx, nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

PAGES, PAGE_BYTES = 200, 20_480
TIMEOUT_S = 900.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the pages; give their URL."""
    if find_nginx() is None:
        pytest.skip("nginx isn't installed")
    root = tmp_path_factory.mktemp("pages")
    for number in range(PAGES):
        words = f"<p>page {number} has some words that are alike, and some that are not: {number * 7919} </p>\n"
        (root / f"{number}.html").write_text((words * (PAGE_BYTES // len(words) + 1))[:PAGE_BYTES])
    with nginx(root) as server:
        yield f"http://127.0.0.1:{server.port}"


def client(what: str, *arguments: object) -> tuple[dict[str, Any], int]:
    """Run a client in a process of its own; return what it printed, and the most memory that it had, in bytes."""
    folder = pathlib.Path.cwd()
    ended = run(
        [sys.executable, "-m", "bench.clients.kept", what, *map(str, arguments)], folder=folder, timeout_s=TIMEOUT_S
    )
    return json.loads(ended.output), ended.peak_bytes


@pytest.mark.parametrize(("threads", "in_flight"), [(4, 64), (16, 16)])
def test_what_is_kept(
    benchmark: BenchmarkFixture, pytestconfig: pytest.Config, base: str, threads: int, in_flight: int
) -> None:
    """With a ledger at least 80 % of the throughput without, with WARC files, too, at least 60 %."""
    is_quick = pytestconfig.getoption("--quick")
    rounds, count = (1, 2_000) if is_quick else (pytestconfig.getoption("--rounds"), 12_000)
    per_second: dict[str, list[float]] = {what: [] for what in KEPT}
    cpu_us: dict[str, list[float]] = {what: [] for what in KEPT}

    def all_rounds() -> None:
        for _ in range(rounds):
            for what in KEPT:
                with tempfile.TemporaryDirectory() as folder:
                    found, _ = client(what, folder, base, PAGES, count, threads, in_flight)
                assert (found["ok"], found["records"]) == (count, count)
                per_second[what].append(count / found["seconds"])
                cpu_us[what].append(found["cpu_s"] / count * 1e6)

    benchmark.pedantic(all_rounds, rounds=1)
    for what in KEPT:
        ratio = statistics.median(x / y for x, y in zip(per_second[what], per_second["lines"], strict=True))
        told = f"{statistics.median(per_second[what]):,.0f}/s, {statistics.median(cpu_us[what]):.0f} µs of CPU a page"
        print(f"\n{threads} threads, {in_flight} in flight, {what}: {told}, {ratio:.0%} of lines alone", end="")
        benchmark.extra_info[what] = ratio


def test_a_long_list_in_a_job(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> None:
    """A million lines in at most 20 s and 200 MiB; with half of it done a job goes on within 3 s."""
    count = 50_000 if pytestconfig.getoption("--quick") else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        found: list[tuple[dict[str, Any], int]] = []
        benchmark.pedantic(lambda: found.append(client("import", folder, count, 500)), rounds=1)
        (taken, peak_bytes) = found[0]
        assert taken["pending"] == count
        settle_half(pathlib.Path(folder) / "job", count)
        gone_on, _ = client("start", folder, time.time())
        assert gone_on["settled"] >= count // 2
        assert gone_on["settled"] + gone_on["pending"] == count
    print(
        f"\n{count:,} lines: taken in within {taken['seconds']:.1f} s, {peak_bytes / 2**20:.0f} MiB; "
        f"with half of them done, the first of the others after {gone_on['seconds']:.2f} s",
        end="",
    )
    benchmark.extra_info.update(import_s=taken["seconds"], peak_bytes=peak_bytes, start_s=gone_on["seconds"])


def test_memory_does_not_grow_with_the_list(
    benchmark: BenchmarkFixture, pytestconfig: pytest.Config, base: str
) -> None:
    """A job of a million URLs needs at most 64 MiB more than one of ten thousand."""
    few, many = (1_000, 10_000) if pytestconfig.getoption("--quick") else (10_000, 1_000_000)
    peaks: dict[int, int] = {}

    def both() -> None:
        for count in (few, many):
            with tempfile.TemporaryDirectory() as folder:
                found, peaks[count] = client("job", folder, base, PAGES, count, 4, 64)
            assert (found["ok"], found["records"]) == (count, count)

    benchmark.pedantic(both, rounds=1)
    told = ", ".join(f"{count:,} URLs {peak / 2**20:.0f} MiB" for count, peak in peaks.items())
    print(f"\nmost memory of a job: {told}", end="")
    benchmark.extra_info.update({str(count): peak for count, peak in peaks.items()})


def settle_half(job: pathlib.Path, count: int) -> None:
    """Write results of half of a job's targets, as the clerk does, in large groups."""
    from crawlpool import Job, Outcome, Result, Target
    from crawlpool.books import Books
    from crawlpool.clock import SYSTEM_CLOCK
    from crawlpool.jobs.entries import told_of
    from crawlpool.ledger.store import Batch
    from crawlpool.leg import Leg

    opened = Job(str(job)).open()
    books = Books(SYSTEM_CLOCK, opened.books)
    nobody: Any = None
    for start in range(1, count // 2 + 1, 5_000):
        legs = []
        for number in range(start, start + 5_000):
            leg = Leg(nobody, Target(f"http://h.example/{number}"), "h.example")
            leg.ordinal = number
            legs.append(leg)
        results = [Result(leg.target, Outcome.OK) for leg in legs]
        places = opened.outputs.write(results, [], [opened.outputs.line_of(result) for result in results])
        batch = Batch(marks=opened.outputs.sync())
        for leg, result, place in zip(legs, results, places, strict=True):
            batch.results.append(told_of(leg, result).row(place))
            books.settle(result, leg)
        batch.values["books"] = json.dumps(books.saved())
        opened.ledger.commit(batch)
        opened.outputs.committed(batch.marks)
    opened.end("interrupted", Batch(), is_complete=False)
    opened.close()
