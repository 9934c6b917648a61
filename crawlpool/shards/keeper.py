"""The leases of one process: claiming shards, refreshing what is held, and closing the fence when that fails.

Two threads: one refreshes, and may hang for as long as a file system likes; the other does no I/O at all, and ends what
is under way in the moment in which a lease ends. A lease that has ended doesn't come back, even if the refresh that
was under way succeeds in the end: another may have begun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.clock import LOOK_S
from crawlpool.errors import CrawlPoolError, JobError, SinkError
from crawlpool.events import logger
from crawlpool.fence import LEASE_CLOCK, Fence
from crawlpool.redact import one_line
from crawlpool.shards import tenure as tenures
from crawlpool.shards.lease import DEFAULT_LEASE_S, Terms, Watch
from crawlpool.shards.owner import Owner
from crawlpool.shards.tenure import Tenure

if TYPE_CHECKING:
    from types import TracebackType

    from crawlpool.clock import Clock

_log = logger("leases")
_LEAST_WAIT_S = 0.005


@dataclasses.dataclass(frozen=True)
class Busy:
    """A shard that somebody else has.

    Args:
        number: of the tenure that counts.
        owner: whose it is, for people.
        free_in_s: in how many seconds the shard may be claimed if nothing is heard of its owner until then.
    """

    number: int
    owner: str
    free_in_s: float


class Held:
    """A shard that this process has, from ``LeaseKeeper.claim`` until ``release`` or ``abandon``.

    Thread-safe.

    Attributes:
        folder: the shard's.
        number: of the tenure.
        former: the tenure before, ``None`` where there was none, or where its file is damaged.
        is_former_released: whether that one was given up by its owner, so that its folder may be gone on with.
    """

    def __init__(
        self, keeper: LeaseKeeper, folder: str, fd: int, now: Tenure, former: Tenure | None, ends_at: float
    ) -> None:
        self.folder = folder
        self.number = now.number
        self.former = former
        self.is_former_released = former is not None and former.is_released
        self._keeper = keeper
        # These are the keeper's, guarded by its lock; `ends_at` is read without.
        self._fd = fd
        self._tenure = now
        self._is_writing = False
        self._ends_at = ends_at

    @property
    def ends_at(self) -> float:
        """Until when it is held unless it is refreshed, by the keeper's clock."""
        return self._ends_at

    @property
    def epoch(self) -> int:
        """The number of the folder in use; 0 while there is none."""
        return self._tenure.epoch

    def is_held(self) -> bool:
        """Tell whether the shard is still ours. Never waits."""
        return self._keeper.clock.monotonic() < self._ends_at

    def check(self) -> None:
        """Raise unless the shard is still ours.

        Raises:
            JobError: when the lease has ended.
        """
        if not self.is_held():
            raise JobError(f"{one_line(self.folder)}: the lease has ended")

    def use(self, epoch: int) -> None:
        """Say which folder is in use, durably.

        Raises:
            JobError: when the lease has ended.
            SinkError: when that can't be written.
        """
        self._keeper._refresh(self, epoch=epoch)

    def release(
        self,
        *,
        pending: int | None = None,
        is_input_done: bool = False,
        report: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Give the shard up, with all its files closed; others may claim it at once.

        Args:
            pending: targets that are left.
            is_input_done: whether all of the input has come in.
            report: the shard's books; JSON-ready.
            reason: why it is given up before its end.

        Returns:
            Whether it was released; not where its lease had ended before: then nothing is written.

        Raises:
            SinkError: when that can't be written; the lease is at its end all the same.
        """
        told = {"is_released": True, "pending": pending, "is_input_done": is_input_done}
        return self._keeper._release(self, **told, report=report, reason=reason)

    def abandon(self) -> None:
        """Let go of the shard without a word, as one must whose lease has ended. May be called again."""
        self._keeper._drop(self)

    def __repr__(self) -> str:
        left_s = self._ends_at - self._keeper.clock.monotonic()
        return f"<Held tenure {self.number} epoch {self.epoch}, {left_s:.1f} s left>"


class LeaseKeeper:
    """Claims shards for this process and refreshes the leases on those that it holds.

    Args:
        lease_s: how long leases hold, in seconds; the same for all who work on a job.
        clock: where time comes from; one that goes on while the machine sleeps.
        has_threads: whether it refreshes by itself; without, ``refresh_all`` and ``look`` are for the caller to call.
        owner: who claims; this process unless given.

    Thread-safe. A context manager: leaving it abandons what is held.
    """

    def __init__(
        self,
        lease_s: float = DEFAULT_LEASE_S,
        clock: Clock = LEASE_CLOCK,
        *,
        has_threads: bool = True,
        owner: Owner | None = None,
    ) -> None:
        self.terms = Terms(lease_s)
        self.clock = clock
        self.owner = owner or Owner.here()
        self._has_threads = has_threads
        # Guards _held, _watch, _threads, _is_closed, _told, and of each Held its _fd, _tenure, _is_writing and _ends_at,
        # and the fence's `ends_at`. Files are read and written without it: who writes a tenure's says so in
        # `_is_writing`, and others wait on _changed.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._held: dict[str, Held] = {}
        self._watch = Watch(self.terms, clock)
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._told: set[Held] = set()  # of whose end the callbacks have been told
        self._fence = Fence(clock, unacked_s=self.terms.unacked_s)
        self._callbacks: tuple[Callable[[], object], ...] = ()

    def fence(self) -> Fence:
        """Return the fence that is open while each lease that is held is; for ``SessionPool.set_fence``.

        While no shard is held it is open. A lease that was lost keeps it closed until it is abandoned.
        """
        return self._fence

    def on_end(self, callback: Callable[[], object]) -> None:
        """Have a function called when a lease ends: it ends what is under way. It must be quick and not raise."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)
