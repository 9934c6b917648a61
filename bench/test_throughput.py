"""Throughput of each contender on each workload, and the ratios that crawlpool promises."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from bench.client import CONTENDERS
from bench.workloads import MANY_HTTPS_HOSTS, ONE_HTTP_HOST, WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.measure import Measured

_now_s = 0.0


def replayed_time() -> float:
    """Tell pytest-benchmark the time: it goes on by what a round took when it was measured, in turn with others."""
    return _now_s


@pytest.mark.benchmark(timer=replayed_time, disable_gc=False)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.slug)
def test_throughput(
    request: pytest.FixtureRequest, measured: Callable[[Workload], Measured], workload: Workload, contender: str
) -> None:
    """Every page arrives whole in every round (the client checks it); pytest-benchmark gets the durations."""
    result = measured(workload)
    if contender not in result.rounds:
        pytest.skip("--contender leaves it out")
    rounds = result.rounds[contender]
    waiting = [one.seconds for one in rounds]

    def replay() -> None:
        global _now_s
        _now_s += waiting.pop(0)

    # Asked for no sooner: pytest-benchmark complains of a test that failed before it used the fixture.
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    benchmark.group = f"{result.workload.name}, {result.workload.requests} requests"
    benchmark.extra_info.update(
        requests_per_second=round(result.per_second(contender), 1),
        cpu_us_per_request=round(result.cpu_us(contender), 1),
        connections=statistics.median(one.connections for one in rounds),
        peak_files=max((one.peak_files for one in rounds if one.peak_files is not None), default=None),
    )
    benchmark.pedantic(replay, rounds=len(rounds))  # type: ignore[no-untyped-call]
    assert not waiting


@pytest.mark.parametrize(
    ("workload", "contender", "base", "wanted"),
    [
        (ONE_HTTP_HOST, "pool_get", "session_per_thread", 1.6),
        (ONE_HTTP_HOST, "pool_get", "unpooled", 2.0),
        (MANY_HTTPS_HOSTS, "pool_get", "session_per_thread", 6.0),
        (MANY_HTTPS_HOSTS, "pool_map", "session_per_thread", 6.0),
    ],
    ids=lambda value: value.slug if isinstance(value, Workload) else str(value),
)
def test_promised_ratio(
    pytestconfig: pytest.Config,
    measured: Callable[[Workload], Measured],
    workload: Workload,
    contender: str,
    base: str,
    wanted: float,
) -> None:
    """A pool is so many times as fast as what it replaces."""
    if pytestconfig.getoption("--quick"):
        pytest.skip("--quick promises nothing")
    result = measured(workload)
    if not {contender, base} <= result.rounds.keys():
        pytest.skip("--contender leaves one of them out")
    assert result.ratio(contender, base) >= wanted
