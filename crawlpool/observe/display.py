"""Which way progress is shown: a bar on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Protocol

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.observe.pace import Meter, line_of

if TYPE_CHECKING:
    from crawlpool.books import Progress
    from crawlpool.observe.telling import Telling

LINE_EVERY_S = 30.0
KINDS = ("auto", "bar", "lines", "none")


class Display(Protocol):
    """Shows progress. One thread starts, updates and stops it."""

    every_s: float
    """Seconds from one update to the next."""

    def start(self) -> None:
        """Begin to show."""

    def update(self, progress: Progress, waits_for: str | None = None) -> None:
        """Show a new snapshot, and what the run waits for, in words, where it does; must not raise."""

    def stop(self) -> None:
        """Leave the terminal as it was. May be called again."""


class NoDisplay:
    """Shows nothing."""

    every_s = 3600.0

    def start(self) -> None:
        """Do nothing."""

    def update(self, progress: Progress, waits_for: str | None = None) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class LinesDisplay:
    """Tells a line every 30 seconds, and never more often.

    Args:
        telling: where to.
        meter: makes the numbers.
        clock: where time comes from.
    """

    every_s = 1.0

    def __init__(self, telling: Telling, meter: Meter, clock: Clock = SYSTEM_CLOCK) -> None:
        self._telling = telling
        self._meter = meter
        self._clock = clock
        self._last = clock.monotonic()

    def start(self) -> None:
        """Count the first 30 seconds from now."""
        self._last = self._clock.monotonic()

    def update(self, progress: Progress, waits_for: str | None = None) -> None:
        """Tell a line, unless the last one is too near."""
        now = self._clock.monotonic()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        pace = self._meter.read(progress)
        fields = dataclasses.asdict(pace)
        fields["slowest"] = {host.host: round(host.mean_s, 3) for host in pace.slowest}
        if waits_for is not None:
            fields["waits_for"] = waits_for
        self._telling.say("progress", line_of(pace) + (f"; {waits_for}" if waits_for else ""), **fields)

    def stop(self) -> None:
        """Do nothing: the summary follows."""


def make_display(
    kind: str, telling: Telling, total: int | None = None, clock: Clock = SYSTEM_CLOCK, *, done: int = 0
) -> Display:
    """Return the display for ``--progress``.

    Args:
        kind: ``auto`` for a bar where there is a terminal for it and lines elsewhere; ``bar``, ``lines``, ``none``.
        telling: where it is shown.
        total: how many targets there will be; ``None`` where nobody knows.
        clock: where time comes from.
        done: how many had their outcome before.
    """
    if kind == "none" or telling.is_quiet:
        return NoDisplay()
    meter = Meter(total, clock, done)
    if kind in ("auto", "bar") and can_draw(telling):
        from crawlpool.observe.bar import BarDisplay  # here: rich takes 50 ms to import

        return BarDisplay(telling, meter)
    return LinesDisplay(telling, meter, clock)


def can_draw(telling: Telling) -> bool:
    """Tell whether a bar can be drawn: on a terminal that can move its cursor, and not among lines of JSON."""
    return telling.is_terminal and not telling.is_json and os.environ.get("TERM", "") not in ("", "dumb")
