"""How far a crawl is: the numbers, the lines, and the bar."""

from __future__ import annotations

import dataclasses
import io
import os
import pty

import pytest

from crawlpool.books import HostTimes, Progress
from crawlpool.models import Report
from crawlpool.observe import Meter, Telling, make_display
from crawlpool.observe.bar import BarDisplay
from crawlpool.observe.display import LINE_EVERY_S, LinesDisplay, NoDisplay
from crawlpool.observe.pace import WINDOW_S, duration, line_of
from crawlpool.politeness import Order, Told
from tests.kit import HandClock


def progress(done: int = 0, inputs: int | None = None, failed: int = 0, hosts: tuple[str, ...] = ()) -> Progress:
    """Return a snapshot of a crawl that has settled ``done`` targets."""
    report = Report(inputs=done if inputs is None else inputs, ok=done - failed, failed=failed)
    slowest = tuple(HostTimes(host, 3, 1.5) for host in hosts)
    return Progress(report, 5, 2, slowest, {}, {})


def test_the_rate_is_that_of_late() -> None:
    """A crawl that stands still has no rate after the window, however fast it once was."""
    clock = HandClock()
    meter = Meter(1000, clock)
    clock.tick(1)
    pace = meter.read(progress(100))
    assert (pace.rate, pace.eta_s) == (100.0, 9.0)
    for _ in range(int(WINDOW_S) + 1):
        clock.tick(1)
        pace = meter.read(progress(100))
    assert (pace.rate, pace.eta_s) == (0.0, None)


def test_what_was_done_before_is_no_pace() -> None:
    """A job that goes on: what earlier runs have done counts for how far it is, and not for the rate."""
    clock = HandClock()
    meter = Meter(1000, clock, done=500)
    clock.tick(1)
    pace = meter.read(progress(510))
    assert (pace.done, pace.rate, pace.eta_s) == (510, 10.0, 49.0)


def test_with_a_host_that_waits_nobody_knows_when_it_ends() -> None:
    """Nor with one that has a delay of its own, unless that is none; what is skipped is no longer waited for."""
    for told, eta_s in ((Told(Order.HOLD), None), (Told(delay_s=9.0), None), (Told(Order.SKIP), 9.0)):
        clock = HandClock()
        meter = Meter(1000, clock)
        clock.tick(1)
        assert meter.read(dataclasses.replace(progress(100), told={"a.example": told})).eta_s == eta_s


def test_an_unknown_total_has_no_eta() -> None:
    """Nor has one that turned out to be too small."""
    for total in (None, 5):
        clock = HandClock()
        meter = Meter(total, clock)
        clock.tick(1)
        pace = meter.read(progress(10))
        assert (pace.total, pace.eta_s, pace.rate) == (None, None, 10.0)


def test_a_line_tells_all_that_matters() -> None:
    """How many of how many, how fast, in flight, failures, slowest hosts, and how long it will take."""
    clock = HandClock()
    meter = Meter(2000, clock)
    clock.tick(2)
    line = line_of(meter.read(progress(1000, failed=3, hosts=("a.example",))))
    assert line == (
        "1,000/2,000 (50 %) done · 500.0/s · 2 in flight · 3 failed, 0 HTTP errors · slowest a.example 1.50 s · "
        "about 2.0 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (200, "3 min 20 s"), (18420, "5 h 07 min"), (273600, "3 d 4 h")],
)
def test_durations_are_for_eyes(seconds: float, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


def test_lines_come_every_thirty_seconds_and_never_sooner() -> None:
    """However often the display is updated."""
    clock, stream = HandClock(), io.StringIO()
    lines = LinesDisplay(Telling(stream=stream), Meter(None, clock), clock)
    lines.start()
    for _ in range(479):
        clock.tick(LINE_EVERY_S / 240)
        lines.update(progress(7))
    assert stream.getvalue().count("\n") == 1
    clock.tick(LINE_EVERY_S / 240)
    lines.update(progress(7))
    assert stream.getvalue().count("\n") == 2


def test_what_a_run_waits_for_is_shown_with_its_progress() -> None:
    """In the line, and below the bar; it is gone as soon as it is no longer so."""
    clock, stream = HandClock(), io.StringIO()
    lines = LinesDisplay(Telling(stream=stream), Meter(None, clock), clock)
    for waits_for in ("no workers yet", None):
        clock.tick(LINE_EVERY_S)
        lines.update(progress(7), waits_for)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("; no workers yet") and "workers" not in second
    terminal = Terminal()
    bar = BarDisplay(Telling(stream=terminal), Meter(10, clock), terminal)
    bar.start()
    bar.update(progress(7, hosts=("slow.example",)), "no workers\x1b[2J yet")
    shown = terminal.getvalue()
    bar.update(progress(7))
    bar.stop()
    assert "no workers\\x1b[2J yet" in shown and "slow.example" in shown
    assert "no workers" not in terminal.getvalue()[len(shown) :]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "stream", "log_format", "term", "quiet", "chosen"),
    [
        ("auto", Terminal(), "console", "xterm", False, BarDisplay),
        ("bar", Terminal(), "console", "xterm", False, BarDisplay),
        ("auto", Terminal(), "json", "xterm", False, LinesDisplay),
        ("auto", Terminal(), "console", "dumb", False, LinesDisplay),
        ("lines", Terminal(), "console", "xterm", False, LinesDisplay),
        ("bar", io.StringIO(), "console", "xterm", False, LinesDisplay),
        ("auto", io.StringIO(), "console", "xterm", False, LinesDisplay),
        ("none", Terminal(), "console", "xterm", False, NoDisplay),
        ("bar", Terminal(), "console", "xterm", True, NoDisplay),
    ],
)
def test_the_display_suits_the_place(
    monkeypatch: pytest.MonkeyPatch,
    kind: str, stream: io.StringIO, log_format: str, term: str, quiet: bool, chosen: type,
) -> None:  # fmt: skip
    """A bar needs a terminal that can draw and text around it; quiet shows nothing."""
    monkeypatch.setenv("TERM", term)
    telling = Telling(log_format, is_quiet=quiet, stream=stream)
    assert type(make_display(kind, telling, 10)) is chosen


def test_a_bar_is_drawn_below_the_lines_and_taken_away() -> None:
    """On a real terminal: numbers and hosts are drawn, a line told meanwhile stands above, the cursor comes back."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        telling = Telling(stream=terminal)
        bar = BarDisplay(telling, Meter(200, HandClock()), terminal)
        bar.start()
        bar.update(progress(100, failed=1, hosts=("slow.example\x1b[2J",)))
        telling.say("event", "a line of its own")
        telling.beside(terminal).write("200  http://h/\n")
        bar.stop()
        bar.stop()
        telling.say("event", "after it")
        terminal.flush()
        shown = b""
        while not shown.endswith(b"after it\r\n"):  # a terminal hands out what it has, not what was written
            shown += os.read(master, 65536)
    seen = shown.decode()
    os.close(master)
    for part in (
        "100/200 (50 %)",
        "1 failed",
        "slow.example",
        "crawlpool: a line of its own\r\n",
        "200  http://h/\r\n",
    ):
        assert part in seen
    assert "\x1b[2J" not in seen
    assert seen.endswith("\x1b[2Kcrawlpool: after it\r\n")
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1
