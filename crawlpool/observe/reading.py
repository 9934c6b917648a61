"""How far the reading of an input is: one line on a terminal, and only once it takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.observe.display import can_draw

if TYPE_CHECKING:
    from typing import TextIO

    from crawlpool.observe.bar import LiveArea
    from crawlpool.observe.telling import Telling

#: What is read faster needs no progress.
PATIENCE_S = 0.5
EVERY_S = 0.25


class ReadingDisplay:
    """Shows how many lines were read, and how many hosts they have. One thread updates and stops it.

    It is drawn on stderr, and only there where a progress bar could be.

    Args:
        telling: whose lines stand above it meanwhile; it says whether anything is shown at all.
        clock: where time comes from.
        file: the terminal; stderr unless given.
    """

    def __init__(self, telling: Telling, clock: Clock = SYSTEM_CLOCK, file: TextIO | None = None) -> None:
        self._telling = telling
        self._clock = clock
        self._file = file
        self._is_shown = can_draw(telling) and not telling.is_quiet
        self._next_at = clock.monotonic() + PATIENCE_S
        self._area: LiveArea | None = None

    def update(self, lines: int, hosts: int) -> None:
        """Show new numbers, unless the last ones are too near; never raises."""
        if not self._is_shown:
            return
        now = self._clock.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + EVERY_S
        # Here: rich takes 50 ms to import, and most inputs are read before anything is shown.
        from rich.text import Text

        if self._area is None:
            from crawlpool.observe.bar import LiveArea

            self._area = LiveArea(self._telling, self._file)
            self._area.start()
        self._area.draw(Text(f"reading: {lines:,} URLs of {hosts:,} hosts", no_wrap=True, overflow="ellipsis"))

    def stop(self) -> None:
        """Leave the terminal as it was. May be called again."""
        if self._area is not None:
            self._area.stop()
