"""A bound on the bytes that all transfers of a pool hold together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer


class MemoryBudget:
    """Pauses reading above a bound; the oldest transfer goes on, so that something always ends.

    What a transfer holds counts until ``release``. While bodies that are whole wait to be taken, the oldest waits, too:
    who takes them makes room. But who should take them may itself wait for a transfer that is paused here, so when
    nobody has taken any for a while, it goes on all the same. The I/O thread's.

    Args:
        most_bytes: the bound.
        pause: what a write answers to have libcurl stop reading (``WRITEFUNC_PAUSE``).
    """

    def __init__(self, most_bytes: int, pause: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._pause = pause
        self._holders: dict[Transfer, None] = {}  # those that run, in the order in which they began
        self._paused: dict[Transfer, None] = {}
        self._whole_bytes = 0  # of what is held: those of transfers that have ended
        self._quiet_since = math.inf  # the first look, in monotonic seconds, after the last release
        self._is_stuck = False

    def begin(self, transfer: Transfer) -> None:
        """Count a transfer in."""
        self._holders[transfer] = None

    def writer(self, transfer: Transfer, take: Callable[[bytes], int | None]) -> Callable[[bytes], int | None]:
        """Return the write function of a transfer whose body goes to ``take``."""

        def write(chunk: bytes) -> int | None:
            if self.held_bytes + len(chunk) > self.most_bytes and not self._may_exceed(transfer):
                self._paused[transfer] = None
                transfer.is_paused = True
                return self._pause
            self.held_bytes += len(chunk)
            transfer.held_bytes += len(chunk)
            return take(chunk)

        return write

    def ended(self, transfer: Transfer) -> None:
        """Say that a transfer reads no more; what it holds counts on."""
        if transfer in self._holders:
            del self._holders[transfer]
            self._whole_bytes += transfer.held_bytes
        self._paused.pop(transfer, None)

    def release(self, transfer: Transfer) -> None:
        """Say that somebody else has the transfer's bytes now, or nobody."""
        if transfer not in self._holders:
            self._whole_bytes -= transfer.held_bytes
        self.held_bytes -= transfer.held_bytes
        transfer.held_bytes = 0
        self._is_stuck, self._quiet_since = False, math.inf

    def to_resume(self) -> list[Transfer]:
        """Return the transfers that may go on: the oldest in most cases, the others while there is room."""
        if not self._paused:
            return []
        oldest = next(iter(self._holders))
        go: list[Transfer] = [oldest] if oldest in self._paused and self._may_exceed(oldest) else []
        if self.held_bytes < self.most_bytes // 4 * 3:
            go.extend(one for one in list(self._paused)[:_AT_ONCE] if one not in go)
        for one in go:
            del self._paused[one]
            one.is_paused = False
        return go

    def look(self, now: float) -> None:
        """Find out, a few times a second, whether those who should take whole bodies don't."""
        if self._paused and self._whole_bytes:
            self._quiet_since = min(self._quiet_since, now)
            self._is_stuck = now - self._quiet_since >= _PATIENCE_S
        else:
            self._is_stuck, self._quiet_since = False, math.inf

    def _may_exceed(self, transfer: Transfer) -> bool:
        return (not self._whole_bytes or self._is_stuck) and transfer is next(iter(self._holders))


_PATIENCE_S = 0.2
_AT_ONCE = 16  # more would all write at once, and nearly all be paused again
