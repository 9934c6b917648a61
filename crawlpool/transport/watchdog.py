"""One thread that ends legs whose deadline has passed.

A socket's timeout starts anew with each byte: a server that drips its header or its body one byte a second is never
late by it. This thread shuts the socket under such a leg; its owner wakes with an error and knows why.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from crawlpool.events import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crawlpool.clock import Clock
    from crawlpool.transport.lifeline import Lifeline

TICK_S = 0.25
_log = logger("watchdog")


class Watchdog:
    """Looks at all sessions of a pool four times a second, while there are any.

    Args:
        lifelines: returns the lifelines to look at.
        clock: where time comes from.

    Thread-safe.
    """

    def __init__(self, lifelines: Callable[[], Iterable[Lifeline]], clock: Clock) -> None:
        self._lifelines = lifelines
        self._clock = clock
        self._lock = threading.Lock()  # guards _thread and _is_stopped
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self._stop = threading.Event()

    def ensure_running(self) -> None:
        """Start the thread, unless it runs or ``stop`` was called."""
        with self._lock:
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._watch, name="crawlpool-watchdog", daemon=True)
                self._thread.start()

    def look(self) -> int:
        """End each leg whose deadline has passed; return how many there were."""
        now = self._clock.monotonic()
        return sum(lifeline.end_leg_past(now) for lifeline in self._lifelines())

    def stop(self) -> None:
        """End the thread and wait for it; may be called from any thread but its own."""
        with self._lock:
            self._is_stopped = True
            thread = self._thread
        self._stop.set()
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.look()
            except Exception:  # a fault of ours, or no memory: without this thread nobody would hold the deadlines
                _log.exception("the watchdog failed to look")
