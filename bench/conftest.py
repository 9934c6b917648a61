"""The benchmark suite: crawlpool beside every way to fetch that a user would pick instead, in one run.

``tox -e bench``, or ``python -m pytest bench --timeout=0``; ``--quick`` for a minute's look, ``--rounds N`` for more
certainty, ``--workload NAME`` and ``--contender NAME`` (both repeated) for a part, ``--plots`` to draw the pictures.

A workload (``workloads.py``) is served from loopback by nginx where there is one, by the bundled server otherwise,
always in another process. Each round of each contender (``contenders.py``) is a fresh process, and the contenders take
turns (``measure.py``). pytest-benchmark is given the durations that were measured so, and makes its statistics of them;
the tables of ratios follow at the end (``tables.py``), then what the run must show (``targets.py``). Every round is
kept as JSON (``results.py``).

What is asserted is that the work was done: each page arrived whole in each round. No figure is.
"""

from __future__ import annotations

import argparse
import compileall
import pathlib
from typing import TYPE_CHECKING

import pytest

from bench import results, tables, targets
from bench.contenders import CONTENDERS, REPOSITORY
from bench.measure import Measured, measure
from bench.serving import CannotServe
from bench.workloads import BY_SLUG, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
IMAGES = REPOSITORY / "docs" / "images"
_MEASURED = pytest.StashKey[dict[str, Measured]]()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crawlpool's benchmarks")
    group.addoption("--quick", action="store_true", help="one small round of the first contenders, in about a minute")
    group.addoption("--bundled-server", action="store_true", help="use the bundled server where nginx is, too")
    group.addoption("--rounds", type=_count, default=ROUNDS, help="rounds of each contender (%(default)s)")
    group.addoption("--workload", action="append", default=[], choices=list(BY_SLUG), help="only this one")
    group.addoption("--contender", action="append", default=[], choices=list(CONTENDERS), help="only this one")
    group.addoption("--json", type=pathlib.Path, default=results.LATEST, help="where each round is kept (%(default)s)")
    group.addoption(
        "--plots", type=pathlib.Path, nargs="?", const=IMAGES, help="draw the pictures into a folder (docs/images)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[Workload], Measured]:
    """Measure a workload when it is first asked for: all contenders, in turn."""
    compileall.compile_dir(REPOSITORY / "crawlpool", quiet=1)  # as pip does when it installs
    done = pytestconfig.stash[_MEASURED]
    cannot: dict[str, str] = {}
    is_quick = pytestconfig.getoption("--quick")
    chosen = pytestconfig.getoption("--contender")
    rounds = 1 if is_quick else pytestconfig.getoption("--rounds")
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        if reporter is not None and pytestconfig.getoption("verbose") >= 0:
            with capture.global_and_fixture_disabled():  # a run takes minutes: say at once how it goes
                reporter.ensure_newline()
                reporter.write_line(line.splitlines()[-1])

    def get(workload: Workload) -> Measured:
        names = pytestconfig.getoption("--workload")
        if workload.slug not in (names or [workload.slug]):
            pytest.skip("--workload leaves it out")
        if is_quick and not (workload.is_in_quick or names):
            pytest.skip("--quick leaves it out")
        if workload.slug in cannot:
            pytest.skip(cannot[workload.slug])
        if workload.slug not in done:
            contenders = [one for one in workload.contenders if one in (chosen or [one])]
            sized = workload
            if is_quick:
                sized = workload.quick(chosen)
                contenders = [one for one in contenders if one in sized.contenders]
            try:
                done[workload.slug] = measure(
                    sized,
                    contenders,
                    rounds=min(rounds, workload.most_rounds or rounds),
                    bundled=pytestconfig.getoption("--bundled-server"),
                    say=say,
                )
            except CannotServe as error:
                cannot[workload.slug] = str(error)
                pytest.skip(str(error))
        return done[workload.slug]

    return get


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's: what is read first stands last
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables and what they must show, keep the JSON, draw the plots."""
    found = list(config.stash[_MEASURED].values())
    if not found:
        return
    terminalreporter.section("crawlpool and its peers")
    for one in found:
        for line in (*tables.lines(one), ""):
            terminalreporter.write_line(line)
    terminalreporter.section("what it must show")
    for line in targets.lines(found):
        terminalreporter.write_line(line)
    if config.getoption("--quick"):
        terminalreporter.write_line("a quick look: rounds this short tell little")
    path = config.getoption("--json")
    results.keep(found, path)
    terminalreporter.write_line(f"kept: {path}")
    folder = config.getoption("--plots")
    if folder is not None:
        from bench import plots  # matplotlib takes a second

        for path in plots.draw(found, folder):
            terminalreporter.write_line(f"drawn: {path}")
