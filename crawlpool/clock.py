"""Monotonic time, deadlines on it, and a wait that ends at shutdown."""

from __future__ import annotations

import datetime
import functools
import math
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests inject one that they tick by hand."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""

    def wall(self) -> float:
        """Return seconds since 1970 (UTC), for records and HTTP dates only."""


class SystemClock:
    """The clock of this machine. Thread-safe: it has no state."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()


class SkippingClock:
    """A clock for tests by which waits take no time: who would wait until a moment moves it there instead.

    Beside that it goes as the machine's does. Thread-safe, and it never goes back.
    """

    def __init__(self) -> None:
        # Guards `skipped_s`; it is read without. Others' locks may be held when it is taken, and nothing is under it.
        self._lock = threading.Lock()
        #: By how many seconds it is ahead of the machine's.
        self.skipped_s = 0.0

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic() + self.skipped_s

    def wall(self) -> float:
        """Return seconds since 1970 (UTC)."""
        return time.time() + self.skipped_s

    def skip_to(self, at: float) -> None:
        """Move on to a moment; do nothing when it is past, or never comes.

        Args:
            at: as ``monotonic`` tells it.
        """
        if at == math.inf:
            return
        with self._lock:
            self.skipped_s = max(self.skipped_s, at - time.monotonic())


#: How long a wait of a user's thread goes on before Python looks for signals. One that comes between its last look and
#: the wait itself (Ctrl-C in just that moment) would else be noticed when the wait ends, which may be never.
LOOK_S = 0.5


class Deadline:
    """A moment on a monotonic clock after which a call has failed.

    Args:
        after_s: seconds from now; ``None`` or infinity for no deadline.
        clock: where time comes from.

    Thread-safe: it is immutable.
    """

    __slots__ = ("_clock", "at")

    def __init__(self, after_s: float | None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.at = math.inf if after_s is None else clock.monotonic() + after_s

    @property
    def is_set(self) -> bool:
        """Whether there is a deadline at all."""
        return self.at != math.inf

    def remaining_s(self) -> float:
        """Return the seconds left: infinity without a deadline, negative after it."""
        return math.inf if self.at == math.inf else self.at - self._clock.monotonic()

    def is_past(self) -> bool:
        """Tell whether the moment has come."""
        return self.at != math.inf and self._clock.monotonic() >= self.at

    def __repr__(self) -> str:
        return f"<Deadline {self.remaining_s():.3f} s left>"


class Shutdown:
    """A flag that is raised once, and waits that end when it is.

    Thread-safe. ``wait`` is how everything in crawlpool sleeps: a closing pool ends each such sleep at once.
    """

    def __init__(self) -> None:
        self._event = threading.Event()  # guards itself

    @property
    def is_set(self) -> bool:
        """Whether shutdown has begun."""
        return self._event.is_set()

    def set(self) -> None:
        """Begin shutdown; every present and future wait returns at once. May be called again."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep ``seconds`` or until shutdown; return whether shutdown ended it."""
        return self._event.wait(min(max(seconds, 0.0), threading.TIMEOUT_MAX))


def iso_utc(wall_s: float) -> str:
    """Write seconds since 1970 as records do: ``2026-11-22T10:46:01.123Z`` (RFC 3339, milliseconds)."""
    whole, part = divmod(round(wall_s * 1e6), 1_000_000)
    return f"{_second(whole)}.{part // 1000:03d}Z"


@functools.lru_cache(maxsize=16)
def _second(whole_s: int) -> str:
    # Thousands of records are of one second, and writing it out is most of the work.
    return f"{datetime.datetime.fromtimestamp(whole_s, datetime.timezone.utc):%Y-%m-%dT%H:%M:%S}"
