"""A bound on the bytes that all transfers of a pool hold together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer


class MemoryBudget:
    """Pauses reading above a bound; the oldest transfer goes on, so that something always ends.

    The I/O thread's. What a transfer holds counts until ``release``.

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

    def begin(self, transfer: Transfer) -> None:
        """Count a transfer in."""
        self._holders[transfer] = None

    def writer(self, transfer: Transfer, take: Callable[[bytes], object]) -> Callable[[bytes], int | None]:
        """Return the write function of a transfer whose body goes to ``take``."""

        def write(chunk: bytes) -> int | None:
            if self.held_bytes + len(chunk) > self.most_bytes and transfer is not next(iter(self._holders)):
                self._paused[transfer] = None
                transfer.is_paused = True
                return self._pause
            self.held_bytes += len(chunk)
            transfer.held_bytes += len(chunk)
            take(chunk)
            return None

        return write

    def ended(self, transfer: Transfer) -> None:
        """Say that a transfer reads no more; what it holds counts on."""
        self._holders.pop(transfer, None)
        self._paused.pop(transfer, None)

    def release(self, transfer: Transfer) -> None:
        """Say that somebody else has the transfer's bytes now, or nobody."""
        self.held_bytes -= transfer.held_bytes
        transfer.held_bytes = 0

    def to_resume(self) -> list[Transfer]:
        """Return the transfers that may go on: the oldest in any case, the others while there is room."""
        if not self._paused:
            return []
        oldest = next(iter(self._holders))
        go: list[Transfer] = [oldest] if oldest in self._paused else []
        if self.held_bytes < self.most_bytes // 4 * 3:
            go.extend(one for one in list(self._paused)[:_AT_ONCE] if one is not oldest)
        for one in go:
            del self._paused[one]
            one.is_paused = False
        return go


_AT_ONCE = 16  # more would all write at once, and nearly all be paused again
