"""How the command ends: its exit codes, and which of them applies."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawlpool.models import Report


class Exit(enum.IntEnum):
    """The exit codes of the commands."""

    OK = 0
    FAULT = 1
    USAGE = 2
    FILES = 3
    FAILED = 4
    WORK_LEFT = 7
    HTTP_ERROR = 8


#: What each code means for a run, in the order in which they are looked at: the first that applies is the one.
MEANINGS: tuple[tuple[Exit, str], ...] = (
    (Exit.USAGE, "the command line, an environment variable or the config file is wrong; nothing was fetched"),
    (Exit.FILES, "trouble with a file: input, output, job, cookies, config, secret or control socket; or no room"),
    (Exit.FAULT, "a fault of crawlpool itself; please report it"),
    (Exit.WORK_LEFT, "work is left: interrupted, a host is held, or --run-for is over"),
    (Exit.FAILED, "some URL failed: network, protocol, a limit, or a bad input line"),
    (Exit.HTTP_ERROR, "some URL answered with an HTTP error (4xx or 5xx)"),
    (Exit.OK, "all went well"),
)

#: The same for a plan.
PLAN_MEANINGS: tuple[tuple[Exit, str], ...] = (
    (Exit.USAGE, "the command line, an environment variable or the config file is wrong"),
    (Exit.FILES, "trouble with a file: input or config, or standard output"),
    (Exit.FAULT, "a fault of crawlpool itself; please report it"),
    (Exit.WORK_LEFT, "interrupted: no plan is told of a part of the input"),
    (Exit.FAILED, "some line is bad; a run would end so, too"),
    (Exit.OK, "all lines are good"),
)


class Ending(enum.Enum):
    """Why a crawl took no further input."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    OUT_OF_TIME = "out_of_time"
    TOO_MANY_FAILURES = "too_many_failures"
    NO_ROOM = "no_room"
    ENGINE_GONE = "engine_gone"


@dataclasses.dataclass(frozen=True)
class FailureBound:
    """How many failures are borne: ``--max-failures``.

    Args:
        count: that many, or
        percent: that many in a hundred of all targets.
    """

    count: int | None = None
    percent: float | None = None

    def is_passed(self, failures: int, settled: int, total: int | None = None) -> bool:
        """Tell whether there are too many failures.

        Args:
            failures: targets that failed or answered with an HTTP error.
            settled: targets that have an outcome.
            total: how many there will be in the end; ``None`` where nobody knows: then a percentage is of those
                settled.
        """
        if self.count is not None:
            return failures > self.count
        if self.percent is None:
            return False
        return failures * 100 > self.percent * (settled if total is None else max(total, settled))


#: A percentage of an input of unknown length isn't looked at before so many are settled: 1 of 1 is 100 %.
FEW = 100


def exit_code(
    report: Report, ending: Ending, *, is_work_left: bool, faults: int = 0, bound: FailureBound | None = None
) -> Exit:
    """Return the exit code of a crawl that came to its end.

    Args:
        report: its books.
        ending: why it took no further input.
        is_work_left: whether there was input that it didn't take, or dropped.
        faults: targets that ended by a fault of crawlpool.
        bound: how many failures are borne; ``None`` where none was given.
    """
    if not report.is_balanced or faults:
        return Exit.FAULT
    if ending is Ending.TOO_MANY_FAILURES:
        return Exit.FAILED
    if is_work_left:
        return Exit.WORK_LEFT
    if bound is not None:
        is_passed = bound.is_passed(report.failed + report.http_error, report.settled)
        return Exit.FAILED if is_passed else Exit.OK
    if report.failed:
        return Exit.FAILED
    return Exit.HTTP_ERROR if report.http_error else Exit.OK
