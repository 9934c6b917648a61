"""What is drawn by rich at the end of a terminal, with log lines and records above it: the progress bar of a run."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crawlpool.observe.pace import count_of, duration, hosts_of
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import RenderableType

    from crawlpool.books import Progress
    from crawlpool.observe.pace import Meter, Pace
    from crawlpool.observe.telling import Telling

BAR_WIDTH = 30


class LiveArea:
    """The last lines of a terminal, drawn again and again, and taken away at the end.

    It is redrawn by whoever draws, and by nobody else: rich's own thread would be one more to stop.

    Args:
        telling: whose lines stand above it meanwhile.
        file: the terminal; stderr unless given.

    A terminal that goes away ends the drawing, and nothing else.
    """

    def __init__(self, telling: Telling, file: TextIO | None = None) -> None:
        self._telling = telling
        terminal = file if file is not None else sys.stderr
        self._console = Console(file=terminal, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        # Held while the terminal is written to: rich draws the area and the lines above it in several writes.
        self._lock = threading.Lock()
        self._is_drawn = False

    def start(self) -> None:
        """Begin to draw."""
        with self._lock:
            try:
                self._live.start()
                self._is_drawn = True
            except (OSError, ValueError):
                return  # the terminal went away
        self._telling.draw_above(self._print)

    def draw(self, drawn: RenderableType) -> None:
        """Draw something else than before."""
        with self._lock:
            if self._is_drawn:
                try:
                    self._live.update(drawn, refresh=True)
                except (OSError, ValueError):
                    self._is_drawn = False

    def stop(self) -> None:
        """Take it away and give the cursor back. May be called again."""
        self._telling.draw_above(None)
        with self._lock:
            if self._is_drawn:
                self._is_drawn = False
                try:
                    self._live.stop()
                except (OSError, ValueError):
                    return

    def _print(self, text: str) -> None:
        with self._lock:
            self._console.print(Text.from_ansi(text), soft_wrap=True)


class BarDisplay:
    """Draws how far the crawl is: a bar where the total is known, the numbers, and the slowest hosts.

    Args:
        telling: whose lines stand above the bar meanwhile.
        meter: makes the numbers.
        file: the terminal; stderr unless given.
    """

    every_s = 0.25

    def __init__(self, telling: Telling, meter: Meter, file: TextIO | None = None) -> None:
        self._meter = meter
        self._area = LiveArea(telling, file)

    def start(self) -> None:
        """Begin to draw."""
        self._area.start()

    def update(self, progress: Progress, waits_for: str | None = None) -> None:
        """Draw a new snapshot."""
        self._area.draw(picture(self._meter.read(progress), waits_for))

    def stop(self) -> None:
        """Take the bar away and give the cursor back."""
        self._area.stop()


def picture(pace: Pace, waits_for: str | None = None) -> RenderableType:
    """Return what is drawn for a pace, and for what the run waits for."""
    row = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = []
    if pace.total is not None:
        cells.append(ProgressBar(total=max(pace.total, 1), completed=pace.done, width=BAR_WIDTH))
    cells.append(Text(count_of(pace), style="bold"))
    cells.append(Text(f"{pace.rate:.1f}/s"))
    cells.append(Text(f"{pace.in_flight} in flight"))
    cells.append(Text(f"{pace.failed} failed", style="red" if pace.failed else ""))
    cells.append(Text(f"{pace.http_errors} HTTP errors", style="yellow" if pace.http_errors else ""))
    cells.append(Text(f"ETA {duration(pace.eta_s)}" if pace.eta_s is not None else duration(pace.elapsed_s)))
    row.add_row(*cells)
    below: list[RenderableType] = []
    if waits_for:
        below.append(Text(one_line(waits_for), style="yellow", no_wrap=True, overflow="ellipsis"))
    if pace.slowest:
        below.append(Text(one_line(f"slowest: {hosts_of(pace, 3)}"), style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(row, *below) if below else row
