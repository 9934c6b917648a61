"""The benchmark suite: what pooling brings, against the ways to fetch that a user would pick instead.

``tox -e bench``, or ``python -m pytest bench --timeout=0``; ``--quick`` for a look, ``--rounds N`` for more certainty,
``--workload NAME`` and ``--contender NAME`` (both repeated) for a part.

A workload (``workloads.py``) is served from loopback by nginx where there is one, by the bundled server otherwise,
always in another process. Each round of each contender (``client.py``) is a fresh process, and the contenders take
turns (``measure.py``). pytest-benchmark is given the durations that were measured so, and makes its statistics of them;
the tables of ratios follow at the end (``tables.py``), and every round is kept as JSON in ``bench/results/``.

A full run takes about ten minutes, and fails where crawlpool is not as much faster as it promises
(``test_throughput.py``). With ``--quick`` nothing is promised.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING

import pytest

from bench import tables
from bench.client import CONTENDERS
from bench.measure import Measured, measure
from bench.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = pathlib.Path(__file__).parent / "results"
ROUNDS = 5
_MEASURED = pytest.StashKey[dict[str, Measured]]()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crawlpool's benchmarks")
    group.addoption("--quick", action="store_true", help="one small round; promises are not held against it")
    group.addoption("--bundled-server", action="store_true", help="use the bundled server where nginx is, too")
    group.addoption("--rounds", type=_count, default=ROUNDS, help="rounds of each contender (%(default)s)")
    group.addoption(
        "--workload", action="append", default=[], choices=[one.slug for one in WORKLOADS], help="only this one"
    )
    group.addoption("--contender", action="append", default=[], choices=list(CONTENDERS), help="only this one")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[Workload], Measured]:
    """Measure a workload when it is first asked for: all contenders, in turn."""
    done = pytestconfig.stash[_MEASURED]
    failed: dict[str, str] = {}
    is_quick = pytestconfig.getoption("--quick")
    contenders = [one for one in CONTENDERS if one in (pytestconfig.getoption("--contender") or CONTENDERS)]
    rounds = 1 if is_quick else pytestconfig.getoption("--rounds")
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        if reporter is not None and pytestconfig.getoption("verbose") >= 0:
            with capture.global_and_fixture_disabled():  # a run takes minutes: say at once how it goes
                reporter.ensure_newline()
                reporter.write_line(line)

    def get(workload: Workload) -> Measured:
        if workload.slug not in (pytestconfig.getoption("--workload") or [workload.slug]):
            pytest.skip("--workload leaves it out")
        if workload.slug in failed:
            pytest.fail(failed[workload.slug], pytrace=False)
        if workload.slug not in done:
            try:
                done[workload.slug] = measure(
                    workload.quick() if is_quick else workload,
                    contenders,
                    rounds=rounds,
                    bundled=pytestconfig.getoption("--bundled-server"),
                    say=say,
                )
            except RuntimeError as error:
                failed[workload.slug] = f"{workload.slug} could not be measured"  # said in full once
                pytest.fail(f"{workload.slug}: {error}", pytrace=False)
        return done[workload.slug]

    return get


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables, and keep the JSON."""
    found = list(config.stash[_MEASURED].values())
    if not found:
        return
    terminalreporter.section("pooled against unpooled")
    for one in found:
        for line in tables.lines(one):
            terminalreporter.write_line(line)
        terminalreporter.write_line("")
    terminalreporter.write_line(f"kept: {tables.keep(found, RESULTS)}")
