"""Exit codes by the books, the watch that counts for them, and the feed that knows its end."""

from __future__ import annotations

import io

import pytest
import requests

from crawlpool.cli.exits import FEW, MEANINGS, Ending, Exit, FailureBound, exit_code
from crawlpool.cli.watch import TOLD_LINES, Feed, Watch
from crawlpool.errors import InputError
from crawlpool.limits import POLITE
from crawlpool.models import Outcome, Report, Result, Target
from crawlpool.observe import Telling
from crawlpool.source import Source

OK = Report(inputs=1, ok=1)
ERROR = Report(inputs=2, ok=1, http_error=1)
FAILED = Report(inputs=3, ok=1, http_error=1, failed=1)
WRONG = Report(inputs=2, ok=1)


@pytest.mark.parametrize(
    ("report", "ending", "is_work_left", "faults", "bound", "code"),
    [
        (OK, Ending.DONE, False, 0, None, Exit.OK),
        (ERROR, Ending.DONE, False, 0, None, Exit.HTTP_ERROR),
        (FAILED, Ending.DONE, False, 0, None, Exit.FAILED),
        (FAILED, Ending.INTERRUPTED, True, 0, None, Exit.WORK_LEFT),
        (FAILED, Ending.OUT_OF_TIME, False, 0, None, Exit.FAILED),
        (OK, Ending.OUT_OF_TIME, True, 0, FailureBound(count=9), Exit.WORK_LEFT),
        (WRONG, Ending.INTERRUPTED, True, 0, None, Exit.FAULT),
        (FAILED, Ending.DONE, False, 1, FailureBound(count=9), Exit.FAULT),
        (FAILED, Ending.TOO_MANY_FAILURES, True, 0, FailureBound(count=0), Exit.FAILED),
        (FAILED, Ending.DONE, False, 0, FailureBound(count=2), Exit.OK),
        (FAILED, Ending.DONE, False, 0, FailureBound(count=1), Exit.FAILED),
        (ERROR, Ending.DONE, False, 0, FailureBound(percent=50), Exit.OK),
        (ERROR, Ending.DONE, False, 0, FailureBound(percent=49.9), Exit.FAILED),
        (Report(), Ending.DONE, False, 0, FailureBound(percent=0), Exit.OK),
    ],
)
def test_the_first_code_that_applies_is_the_one(
    report: Report, ending: Ending, is_work_left: bool, faults: int, bound: FailureBound | None, code: Exit
) -> None:
    """A fault goes before work left, that before failures, those before HTTP errors; a bound forgives the last two."""
    assert exit_code(report, ending, is_work_left=is_work_left, faults=faults, bound=bound) is code


def test_the_help_lists_every_code() -> None:
    """No code is without its meaning, none is there twice."""
    assert sorted(code for code, _ in MEANINGS) == sorted(Exit)


def result_of(outcome: Outcome, error: Exception | None = None, reason: str | None = None) -> Result:
    """Return a result that ended so."""
    return Result(Target("http://h/"), outcome, reason, error, elapsed_s=0.5, waited_s=0.25)


def test_the_watch_counts_what_the_end_needs() -> None:
    """Bad lines, dropped targets, faults, and the seconds that targets took, and waited for hosts with a limit."""
    stream = io.StringIO()
    watch = Watch(Telling(stream=stream), limits=POLITE)
    watch(Result(Target("http://127.0.0.1/"), Outcome.OK, waited_s=9.0))
    for result in (
        result_of(Outcome.OK),
        result_of(Outcome.FAILED, InputError("bad", "f:1")),
        result_of(Outcome.FAILED, requests.ConnectionError("x")),
        result_of(Outcome.FAILED, RuntimeError("x")),
        result_of(Outcome.SKIPPED, reason="interrupted"),
        result_of(Outcome.SKIPPED, reason="max_per_host"),
    ):
        watch(result)
    assert (watch.bad_lines, watch.dropped, watch.faults) == (1, 1, 1)
    assert (watch.busy_s, watch.waited_s) == (3.0, 1.5)
    assert stream.getvalue() == "crawlpool: f:1: bad\n"


def test_bad_lines_are_told_up_to_a_number() -> None:
    """The last one told says that the others are not."""
    stream = io.StringIO()
    watch = Watch(Telling(stream=stream))
    for n in range(3 * TOLD_LINES):
        watch(result_of(Outcome.FAILED, InputError("bad", f"f:{n}")))
    lines = stream.getvalue().splitlines()
    assert len(lines) == TOLD_LINES
    assert [("further" in line) for line in lines] == [False] * (TOLD_LINES - 1) + [True]


@pytest.mark.parametrize(
    ("bound", "total", "failures", "others", "is_told"),
    [
        (FailureBound(count=2), None, 2, 0, False),
        (FailureBound(count=2), None, 3, 0, True),
        (FailureBound(percent=10), 1000, 100, 0, False),
        (FailureBound(percent=10), 1000, 101, 0, True),
        (FailureBound(percent=10), None, FEW - 1, 0, False),
        (FailureBound(percent=10), None, 10, 90, False),
        (FailureBound(percent=9), None, 10, 89, False),
        (None, 5, 5, 0, False),
    ],
)
def test_too_many_failures_are_told_as_soon_as_it_is_certain(
    bound: FailureBound | None, total: int | None, failures: int, others: int, is_told: bool
) -> None:
    """A number at once; a percentage of a known total when it can't be kept; of an unknown one after a hundred."""
    told: list[bool] = []
    watch = Watch(Telling(is_quiet=True), bound, total, lambda: told.append(True))
    for _ in range(others):
        watch(result_of(Outcome.OK))
    for _ in range(failures):
        watch(result_of(Outcome.HTTP_ERROR))
    assert bool(told) is is_told


def test_a_percentage_of_an_unknown_total_is_of_those_settled() -> None:
    """After a hundred the next failure that is too much is told."""
    told: list[int] = []
    watch = Watch(Telling(is_quiet=True), FailureBound(percent=10), None, lambda: told.append(1))
    for n in range(FEW):
        watch(result_of(Outcome.HTTP_ERROR if n < 11 else Outcome.OK))
    assert told == []
    watch(result_of(Outcome.HTTP_ERROR))
    assert told == [1]


def test_a_feed_knows_whether_it_was_read_to_its_end() -> None:
    """Not before its end, and not when it was stopped."""
    feed = Feed(Source(["http://h/1", "http://h/2"]))
    items = iter(feed)
    next(items)
    assert not feed.is_exhausted
    assert len(list(items)) == 1
    assert feed.is_exhausted
    stopped = Feed(Source(["http://h/1", "http://h/2"]))
    stopped.stop()
    assert list(stopped) == []
    assert not stopped.is_exhausted
