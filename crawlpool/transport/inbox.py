"""Transfers that have ended, on their way from the I/O thread to the workers that finish them."""

from __future__ import annotations

import collections
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Ended(Protocol):
    """What passes through."""

    is_quick: bool


class Inbox:
    """Ended transfers of one pool's workers: those that are finished quickly are taken many at a time, by one worker.

    Each wake-up of a thread costs more than finishing a small answer does, and two threads that want the interpreter at
    once cost more than one. So while a worker is at the quick ones no other is woken for them. Those that may run
    user's code (a hook, a handler) or take long (a large body) are taken one by one, by as many workers as there are.

    Args:
        news: called, under no lock, when a worker should come and look.
        attend: called by the I/O thread with what has ended; it finishes what it can and returns the rest.
        goes_away: called, under no lock, by a worker that is about to get a slow one: it may be gone for long.

    Thread-safe.
    """

    def __init__(
        self,
        news: Callable[[], None],
        attend: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
        goes_away: Callable[[], None] | None = None,
    ) -> None:
        self._news = news
        self._attend = attend
        self._goes_away = goes_away
        # Guards every field below; `has_news` reads them without it, and whoever changes them says so afterwards.
        self._lock = threading.Lock()
        self._quick: collections.deque[Any] = collections.deque()
        self._slow: collections.deque[Any] = collections.deque()
        self._attendants = 0
        # Without the interpreter's lock there is no reason to leave it to one.
        self._most_attendants = 1 if has_gil() else 64

    def deliver(self, ended: Sequence[Ended]) -> None:
        """Take transfers that have ended; the I/O thread calls this."""
        if self._attend is not None:
            ended = self._attend(ended)
            if not ended:
                return
        with self._lock:
            for one in ended:
                (self._quick if one.is_quick else self._slow).append(one)
            calls = bool(self._slow) or self._attendants < self._most_attendants
        if calls:
            self._news()

    def has_news(self) -> bool:
        """Tell whether there is something for a worker that has nothing else to do."""
        return bool(self._slow) or (bool(self._quick) and self._attendants < self._most_attendants)

    def take(self, most: int) -> tuple[list[Any], bool]:
        """Return transfers to finish, at most so many, and whether the caller attends to the quick ones now.

        Who attends calls ``leave`` when it has settled them.
        """
        with self._lock:
            quick = self._quick
            if quick and self._attendants < self._most_attendants:
                self._attendants += 1
                taken, attends = [quick.popleft() for _ in range(min(most, len(quick)))], True
            else:
                taken, attends = [self._slow.popleft()] if self._slow else [], False
            has_more = bool(self._slow)
        if taken and not attends and self._goes_away is not None:
            self._goes_away()
        if taken and has_more:
            self._news()  # one delivery of many calls one worker: each who takes calls the next
        return taken, attends

    def leave(self) -> None:
        """Say that the caller attends no more; it looks for news itself, or calls somebody who does."""
        with self._lock:
            self._attendants -= 1


def has_gil() -> bool:
    """Tell whether this interpreter runs one thread at a time; without that lock the workers are the faster way."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())
