"""How far a crawl is and how fast it goes: numbers made of its snapshots, and the one line that tells them."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from crawlpool.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from crawlpool.books import HostTimes, Progress

#: The rate is that of so many seconds: long enough to be calm, short enough to show that a crawl has slowed down.
WINDOW_S = 15.0


@dataclasses.dataclass(frozen=True)
class Pace:
    """How far a crawl is at one moment.

    Args:
        done: targets that have their outcome.
        total: how many there will be; ``None`` where nobody knows.
        rate: targets a second, of late.
        eta_s: seconds to the end at this rate; ``None`` where it can't be told.
        in_flight: targets that are being fetched.
        queued: targets that wait.
        failed: targets that failed.
        http_errors: targets that answered with an HTTP error.
        slowest: the slowest hosts, slowest first.
        elapsed_s: seconds since the crawl began.
    """

    done: int
    total: int | None
    rate: float
    eta_s: float | None
    in_flight: int
    queued: int
    failed: int
    http_errors: int
    slowest: tuple[HostTimes, ...]
    elapsed_s: float


class Meter:
    """Makes the pace of a crawl of its snapshots. Belongs to one thread.

    Args:
        total: how many targets there will be; ``None`` where nobody knows.
        clock: where time comes from.
        done: how many had their outcome before: they don't count for the rate.
    """

    def __init__(self, total: int | None = None, clock: Clock = SYSTEM_CLOCK, done: int = 0) -> None:
        self._total = total
        self._clock = clock
        self._marks: collections.deque[tuple[float, int]] = collections.deque([(clock.monotonic(), done)])

    def read(self, progress: Progress) -> Pace:
        """Return the pace as of ``progress``, which is of this moment."""
        report = progress.report
        now = self._clock.monotonic()
        marks = self._marks
        # The oldest mark is the last one outside of the window, so that a slow crawl has two marks, too.
        while len(marks) > 1 and now - marks[1][0] >= WINDOW_S:
            marks.popleft()
        since_s, before = marks[0]
        rate = (report.settled - before) / (now - since_s) if now > since_s else 0.0
        if now > marks[-1][0]:
            marks.append((now, report.settled))
        # A file that grew, or handlers that add, make a total wrong: then there is none.
        total = self._total if self._total is not None and report.inputs + report.found <= self._total else None
        left = None if total is None else total - report.settled
        # Of a host that waits, or goes at another pace, the rate of all tells nothing.
        is_even = not any(told.waits or told.delay_s for told in progress.told.values())
        eta_s = left / rate if left is not None and rate > 0 and is_even else None
        return Pace(
            report.settled,
            total,
            rate,
            eta_s,
            progress.running,
            progress.queued,
            report.failed,
            report.http_error,
            progress.slowest,
            report.elapsed_s,
        )


def line_of(pace: Pace) -> str:
    """Return the pace as a line of text."""
    parts = [f"{count_of(pace)} done", f"{pace.rate:.1f}/s", f"{pace.in_flight} in flight"]
    parts.append(f"{pace.failed} failed, {pace.http_errors} HTTP errors")
    if pace.slowest:
        parts.append(f"slowest {hosts_of(pace, 2)}")
    if pace.eta_s is not None:
        parts.append(f"about {duration(pace.eta_s)} left")
    return " · ".join(parts)


def count_of(pace: Pace) -> str:
    """Return how many of how many: ``530/1,170 (45 %)``."""
    if pace.total is None:
        return f"{pace.done:,}"
    return f"{pace.done:,}/{pace.total:,} ({100 * pace.done // max(pace.total, 1)} %)"


def hosts_of(pace: Pace, count: int) -> str:
    """Return the slowest hosts with their mean times: ``a.example 2.3 s, b.example 1.1 s``."""
    return ", ".join(f"{host.host} {host.mean_s:.2f} s" for host in pace.slowest[:count])


def duration(seconds: float) -> str:
    """Return a duration for eyes: ``4.2 s``, ``3 min 20 s``, ``5 h 07 min``, ``3 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
