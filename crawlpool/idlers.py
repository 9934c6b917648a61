"""The wait of workers for legs: who is idle, who is woken for what, and which of them watches the clock for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.rooms import Wait

if TYPE_CHECKING:
    from crawlpool.clock import Clock
    from crawlpool.schedule import Schedule


_LONGEST_S = 3600.0  # of a wait: what is due later is looked at again
_SKIPPING_S = 0.005  # the same where waits take no time: in tests, whose legs end soon


class Idlers:
    """The workers that wait.

    Args:
        lock: the frontier's, which guards all of this; it is held in every call, and given up while one waits.
        schedule: what there is to do.
        clock: where time comes from.
    """

    def __init__(self, lock: Any, schedule: Schedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        self._skip_to = getattr(clock, "skip_to", None)
        self._work = Wait(lock)  # for legs
        self._clockwork = Wait(lock)  # by the one of them that watches the clock for all
        self._watched = math.inf  # what it waits for
        self._has_timekeeper = False
        self._longest_s = _LONGEST_S if self._skip_to is None else _SKIPPING_S
        self.count = 0

    def wait(self, due_at: float | None) -> None:
        """Wait to be woken.

        Args:
            due_at: when something becomes ready by the clock alone; ``None`` when nothing does.
        """
        if due_at is not None and self._skip_to is not None and not self._schedule.running:
            self._skip_to(due_at)  # nothing else can happen before
            return
        # One waiting worker watches the clock for all: sixteen that wake for one leg are fifteen too many.
        self.count += 1
        if due_at is None or self._has_timekeeper:
            if due_at is not None and due_at < self._watched:
                self._clockwork.notify()  # it watches for a later moment
            try:
                self._work.wait()
            finally:
                self.count -= 1
            return
        self._has_timekeeper, self._watched = True, due_at
        try:
            self._clockwork.wait(min(max(due_at - self._clock.monotonic(), 0.0), self._longest_s))
        finally:
            self.count -= 1
            self._has_timekeeper, self._watched = False, math.inf
            if self._schedule.has_timed:
                self.call(1)  # somebody else must watch the clock while this one works

    def call(self, count: int) -> None:
        """Wake so many; the one that watches the clock last."""
        waiting = self.count - self._has_timekeeper
        if waiting:
            self._work.notify(min(count, waiting))
        if count > waiting and self._has_timekeeper:
            self._clockwork.notify()

    def wake(self, most: int | None = None) -> None:
        """Wake whom there is something for that can be taken now, and see that somebody watches the clock for the rest.

        Args:
            most: how many are woken at most; ``None`` for as many as could be served.
        """
        schedule = self._schedule
        if not self.count:
            return
        if schedule.has_ready:
            self.call(most or schedule.breadth)
        if schedule.has_timed and schedule.may_start_more:
            if not self._has_timekeeper:
                self.call(1)
            elif schedule.due_at() < self._watched:
                self._clockwork.notify()
