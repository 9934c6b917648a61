"""Throughput of each contender on each workload. What is asserted is that the work was done, never how fast."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from bench.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.measure import Measured

_now_s = 0.0


def replayed_time() -> float:
    """Tell pytest-benchmark the time: it goes on by what a round took when it was measured, in turn with others."""
    return _now_s


@pytest.mark.benchmark(timer=replayed_time, disable_gc=False)
@pytest.mark.parametrize(
    ("workload", "contender"),
    [
        pytest.param(workload, contender, id=f"{workload.slug}-{contender}")
        for workload in WORKLOADS
        for contender in workload.contenders
    ],
)
def test_throughput(
    request: pytest.FixtureRequest, measured: Callable[[Workload], Measured], workload: Workload, contender: str
) -> None:
    """Every page arrives whole in every round (the client checks it); pytest-benchmark gets the durations."""
    result = measured(workload)
    if contender in result.absent:
        pytest.skip(result.absent[contender])
    if contender in result.failed:
        pytest.fail(f"a round failed: {result.failed[contender]}", pytrace=False)
    if contender not in result.rounds:
        pytest.skip("--contender or --quick leaves it out")
    rounds = result.rounds[contender]
    waiting = [one.seconds for one in rounds]

    def replay() -> None:
        global _now_s
        _now_s += waiting.pop(0)

    # Asked for no sooner: pytest-benchmark complains of a test that failed before it used the fixture.
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    benchmark.group = f"{result.workload.name}; seconds of a round"
    benchmark.extra_info.update(
        requests=rounds[0].requests,
        requests_per_second=round(result.per_second(contender), 1),
        cpu_us_per_request=round(result.cpu_us(contender), 1),
        peak_bytes=result.peak_bytes(contender),
        connections=statistics.median(one.connections for one in rounds),
        peak_files=max((one.peak_files for one in rounds if one.peak_files is not None), default=None),
    )
    benchmark.pedantic(replay, rounds=len(rounds))  # type: ignore[no-untyped-call]
    assert not waiting
