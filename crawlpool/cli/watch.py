"""What a run learns of its input and its results: bad lines to tell of, failures to count, work that was left."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from crawlpool.cli.exits import FEW
from crawlpool.errors import ErrorKind, InputError
from crawlpool.leg import host_of
from crawlpool.models import Outcome
from crawlpool.source import InputFileError, check_inputs
from crawlpool.source.reader import STDIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crawlpool.cli.exits import FailureBound
    from crawlpool.limits import HostLimits
    from crawlpool.models import Report, Result, Target
    from crawlpool.observe import Telling
    from crawlpool.source import BadLine, Source, SourceSettings

#: Bad lines told one by one. A file that is none of URLs would fill the screen; each line has its record anyway.
TOLD_LINES = 10


def check_input(inputs: Sequence[str], settings: SourceSettings) -> None:
    """Find trouble with the inputs before anything is begun; see ``crawlpool.source.check_inputs``.

    Raises:
        InputFileError: also when standard input is wanted, and was closed when the program started.
        ConfigError: when standard input is given twice.
    """
    if STDIN in inputs and sys.__stdin__ is None:
        raise InputFileError("it was closed when the program started", "stdin")
    check_inputs(inputs, settings)


def tell_bad_line(telling: Telling, error: BaseException, number: int, others: str) -> None:
    """Tell of one bad line, unless enough were told.

    Args:
        telling: where to.
        error: what is wrong; its message has the place.
        number: which bad line it is, from 1.
        others: what becomes of those that aren't told; goes with the last one that is.
    """
    if number <= TOLD_LINES and not telling.is_quiet:
        telling.warn("bad input line", f"{error}{others if number == TOLD_LINES else ''}")


class Watch:
    """Looks at each result; called by workers and by the feeder.

    Args:
        telling: where bad lines are told.
        bound: how many failures are borne; ``None`` for any number.
        total: how many targets there will be; ``None`` where nobody knows.
        too_many: called, once or more, when more failed than is borne. Must not block.
        limits: how hard a host may be asked; only waits for hosts that have a limit are counted.

    Thread-safe.
    """

    is_quick = True  # for a page that came well it only counts: the I/O thread may call it

    def __init__(
        self,
        telling: Telling,
        bound: FailureBound | None = None,
        total: int | None = None,
        too_many: Callable[[], None] = lambda: None,
        limits: HostLimits | None = None,
    ) -> None:
        self._telling = telling
        self._bound = bound
        self._total = total
        self._too_many = too_many
        self._limits = limits
        # Guards _total and every field below.
        self._lock = threading.Lock()
        self._settled = self._failures = self._bad_lines = self._faults = 0
        self._dropped = self._held = self._duplicates = 0
        self._busy_s = self._waited_s = 0.0

    def go_on(self, before: Report, total: int | None) -> None:
        """Count what earlier runs of a job have settled, too; before the first result.

        Args:
            before: their books.
            total: how many targets there will be in all; ``None`` where nobody knows.
        """
        with self._lock:
            self._total = total
            self._settled = before.settled
            self._failures = before.failed + before.http_error

    def __call__(self, result: Result) -> None:
        """Take one settled result; never raises."""
        is_failure = result.outcome in (Outcome.FAILED, Outcome.HTTP_ERROR)
        is_bad_line = isinstance(result.error, InputError)
        is_fault = result.error is not None and result.error_kind is ErrorKind.INTERNAL
        is_limited = self._limits is not None and self._limits.of_host(host_of(result.target.url)) is not None
        waited_s = result.waited_s or 0.0 if is_limited else 0.0
        with self._lock:
            self._settled += 1
            self._failures += is_failure
            self._bad_lines += is_bad_line
            self._faults += is_fault
            self._dropped += result.reason == "interrupted"
            self._held += result.reason == "held"
            self._duplicates += result.reason == "duplicate"
            self._busy_s += result.elapsed_s or 0.0
            self._waited_s += waited_s
            bad_lines, is_too_much = self._bad_lines, is_failure and self._is_too_much()
        if is_bad_line and result.error is not None:
            others = "; further bad lines are told in their records only"
            tell_bad_line(self._telling, result.error, bad_lines, others)
        if is_too_much:
            self._too_many()

    def _is_too_much(self) -> bool:
        bound = self._bound
        if bound is None or (bound.percent is not None and self._total is None and self._settled < FEW):
            return False
        return bound.is_passed(self._failures, self._settled, self._total)

    @property
    def bad_lines(self) -> int:
        """How many input lines were no targets."""
        return self._bad_lines

    @property
    def dropped(self) -> int:
        """How many targets were given up because the run was drained or stopped."""
        return self._dropped

    @property
    def held(self) -> int:
        """How many targets weren't asked for because their hosts don't want us."""
        return self._held

    @property
    def duplicates(self) -> int:
        """How many targets asked for what another had asked for."""
        return self._duplicates

    @property
    def faults(self) -> int:
        """How many targets ended by a fault of crawlpool."""
        return self._faults

    @property
    def busy_s(self) -> float:
        """Seconds that the last legs took, over all targets."""
        return self._busy_s

    @property
    def waited_s(self) -> float:
        """Seconds that targets waited for their hosts and in back-off, over all targets."""
        return self._waited_s


class Feed:
    """A source that knows whether it was read to its end. One thread iterates; ``stop`` may be called from any."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._is_stopped = False
        self._is_exhausted = False

    def __iter__(self) -> Iterator[Target | BadLine]:
        yield from self._source
        # Written by this thread alone. A stop that came just before the end counts as a stop: work may be left.
        self._is_exhausted = not self._is_stopped

    def stop(self) -> None:
        """End the iteration, also where it waits for standard input."""
        self._is_stopped = True
        self._source.stop()

    @property
    def is_exhausted(self) -> bool:
        """Whether there was no further input."""
        return self._is_exhausted
