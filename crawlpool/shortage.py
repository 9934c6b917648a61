"""A want of file descriptors (EMFILE, ENFILE): told from what a host has done, waited out, and given up after a while.

What can't have a socket for now can have one as soon as another connection is closed. So nothing is held against a
host, nothing is counted as an attempt, and what was to be sent is tried again shortly.
"""

from __future__ import annotations

import errno
import math
import os
import threading
from typing import TYPE_CHECKING

from crawlpool.errors import NoDescriptors, causes

if TYPE_CHECKING:
    from crawlpool.clock import Clock

#: Of the process, of the system.
SHORT = frozenset((errno.EMFILE, errno.ENFILE))
#: Seconds until what had no descriptor is tried again: doubled each time, from the first to the second.
FIRST_S, LAST_S = 0.1, 2.0
#: After so many seconds in which nothing could connect, and nothing else came to anything, requests fail of it.
GIVE_UP_S = 60.0
#: It is told once in so many seconds: a crawl at the edge of its limit runs out of them again and again.
TOLD_S = 60.0


def shortage_in(error: BaseException) -> OSError | None:
    """Return what says in a chain of exceptions that no descriptor was left; ``None`` where nothing does."""
    return next((one for one in causes(error) if isinstance(one, OSError) and one.errno in SHORT), None)


def shortage_now() -> OSError | None:
    """Return the error of a want of descriptors at this moment: for calls that fail of it and say something else."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.with_traceback(None) if error.errno in SHORT else None
    return None


def again_s(times: int) -> float:
    """Return in how many seconds to try again.

    Args:
        times: how often it was tried in vain before; 0 at first.
    """
    return min(FIRST_S * 2.0 ** min(times, 10), LAST_S)


def is_starved(error: BaseException | None, request: object) -> bool:
    """Tell whether a request wasn't sent for want of a descriptor; that of another, by a hook, is none of its own."""
    return isinstance(error, NoDescriptors) and error.request is request


class Shortage:
    """Whether descriptors are short, and for how long nothing came of any request. One for each pool.

    Args:
        clock: where time comes from.

    Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # guards _since and _told_at; _since is read without
        self._since = math.inf
        self._told_at = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether the last that was heard is a want of descriptors."""
        return self._since != math.inf

    def met(self) -> bool:
        """Take it that a request had no descriptor; return whether somebody should hear of it."""
        now = self._clock.monotonic()
        with self._lock:
            self._since = min(self._since, now)
            is_news = now - self._told_at >= TOLD_S
            if is_news:
                self._told_at = now
            return is_news

    def passed(self) -> None:
        """Take it that something else came of a request: an answer, or a failure of another kind."""
        with self._lock:
            self._since = math.inf

    def lasted_s(self) -> float:
        """Return for how many seconds nothing has come of any request; 0 where there is no shortage."""
        since = self._since
        return 0.0 if since == math.inf else max(self._clock.monotonic() - since, 0.0)

    def is_hopeless(self) -> bool:
        """Tell whether to wait on makes no sense."""
        return self.lasted_s() >= GIVE_UP_S

    def _reset_after_fork(self) -> None:
        self._begin()
