"""Deadlines on an injected clock, waits that end at shutdown, and times as records write them."""

from __future__ import annotations

import datetime
import math
import threading

from hypothesis import given
from hypothesis import strategies as st

from crawlpool.clock import SYSTEM_CLOCK, Deadline, Shutdown, iso_utc
from tests.kit import HandClock


def test_a_deadline_passes_when_its_clock_says_so() -> None:
    """What is left shrinks with the clock; at the moment itself it is past."""
    clock = HandClock()
    deadline = Deadline(2.5, clock)
    assert deadline.is_set
    assert (deadline.remaining_s(), deadline.is_past()) == (2.5, False)
    clock.tick(2.0)
    assert deadline.remaining_s() == 0.5
    clock.tick(0.5)
    assert deadline.is_past()
    clock.tick(1)
    assert deadline.remaining_s() == -1
    assert repr(deadline) == "<Deadline -1.000 s left>"


def test_no_deadline_never_passes() -> None:
    """``None`` and infinity are no deadline."""
    clock = HandClock()
    for deadline in (Deadline(None, clock), Deadline(math.inf, clock)):
        clock.tick(1e12)
        assert not deadline.is_set
        assert not deadline.is_past()
        assert deadline.remaining_s() == math.inf


def test_shutdown_ends_a_wait_under_way_and_each_later_one() -> None:
    """A thread that waits for an hour returns True at once; so does one that comes later."""
    shutdown = Shutdown()
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(shutdown.wait(3600)))
    thread.start()
    shutdown.set()
    thread.join(10)
    assert ended == [True]
    assert shutdown.is_set
    shutdown.set()
    assert shutdown.wait(3600)


def test_a_wait_that_is_over_says_so() -> None:
    """Without shutdown a wait ends by itself with False; a negative one is none, an endless one can be asked for."""
    shutdown = Shutdown()
    assert not shutdown.wait(-5)
    assert not shutdown.wait(0)
    shutdown.set()
    assert shutdown.wait(math.inf)


@given(st.floats(0, 4e9))
def test_times_are_written_as_rfc_3339_with_milliseconds(wall_s: float) -> None:
    """What is written reads back as the same moment, cut to the millisecond."""
    text = iso_utc(wall_s)
    assert len(text) == 24
    assert text.endswith("Z")
    moment = datetime.datetime.fromisoformat(text[:-1] + "+00:00")
    assert -0.001 < moment.timestamp() - wall_s < 0.000_001 + 1e-6


def test_the_example_of_the_design() -> None:
    """The form is that of the record in the documentation."""
    assert iso_utc(1795344361.1239) == "2026-11-22T10:46:01.123Z"


def test_the_system_clock_goes_on() -> None:
    """Monotonic seconds never go back; wall time is of this century."""
    first = SYSTEM_CLOCK.monotonic()
    assert SYSTEM_CLOCK.monotonic() >= first
    assert SYSTEM_CLOCK.wall() > 1.7e9
