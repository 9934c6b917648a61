"""How far the reading of an input is: shown on a terminal only, and only once it takes long."""

from __future__ import annotations

import io
import os
import pty

import pytest

from crawlpool.observe import Telling
from crawlpool.observe.reading import EVERY_S, PATIENCE_S, ReadingDisplay
from tests.kit import HandClock


def test_a_reading_that_takes_long_is_shown_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the first half second, then numbers four times a second at most; lines told meanwhile stand above."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    clock = HandClock()
    with os.fdopen(slave, "w") as terminal:
        telling = Telling(stream=terminal)
        display = ReadingDisplay(telling, clock, terminal)
        display.update(1, 1)
        clock.tick(PATIENCE_S)
        display.update(20_000, 30)
        display.update(30_000, 40)
        telling.warn("event", "a bad line")
        clock.tick(EVERY_S)
        display.update(40_000, 50)
        display.stop()
        display.stop()
        telling.say("event", "after it")
        terminal.flush()
        shown = b""
        while not shown.endswith(b"after it\r\n"):
            shown += os.read(master, 65536)
    os.close(master)
    seen = shown.decode()
    assert "reading: 20,000 URLs of 30 hosts" in seen and "reading: 40,000 URLs of 50 hosts" in seen
    assert "30,000" not in seen and "1 URLs" not in seen
    assert "crawlpool: a bad line\r\n" in seen
    assert seen.endswith("\x1b[2Kcrawlpool: after it\r\n")
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("telling", "term"),
    [
        (Telling(stream=io.StringIO()), "xterm"),
        (Telling(stream=Terminal()), "dumb"),
        (Telling(stream=Terminal(), is_quiet=True), "xterm"),
        (Telling("json", stream=Terminal()), "xterm"),
    ],
)
def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, telling: Telling, term: str) -> None:
    """A pipe, a terminal that can't draw, a log of JSON and those who want quiet get no progress."""
    monkeypatch.setenv("TERM", term)
    clock, drawn = HandClock(), io.StringIO()
    display = ReadingDisplay(telling, clock, drawn)
    clock.tick(10 * PATIENCE_S)
    display.update(1000, 10)
    display.stop()
    assert drawn.getvalue() == ""
