"""The limits in time that libcurl doesn't hold for us: reading without a byte, resolving, a stream's deadline.

libcurl's own low-speed limit counts in whole seconds, and goes on counting while a transfer is paused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crawlpool.transport.curl.faults import late, read_timeout, resolving_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crawlpool.transport.curl.handle import Handle
    from crawlpool.transport.curl.transfer import Transfer

_LOOK_S = 0.25
_QUICKEST_LOOK_S = 0.01


class Limits:
    """When to look at the running transfers, and which of them have gone on for too long. The I/O thread's."""

    def __init__(self) -> None:
        self.look_at = math.inf  # monotonic seconds; not while nothing runs
        self._look_s = _LOOK_S

    def watch(self, transfer: Transfer, now: float) -> None:
        """Look often enough for the limits of a transfer that begins."""
        read_s = transfer.way.read_s
        if read_s is not None and read_s / 4 < self._look_s:
            self._look_s = max(read_s / 4, _QUICKEST_LOOK_S)
            self.look_at = math.inf
        if self.look_at == math.inf:
            self.look_at = now + self._look_s

    def exceeded(self, resolving: Iterable[Transfer], running: Mapping[Transfer, Handle], now: float) -> list[Transfer]:
        """Return the transfers that have to end now; their ``error`` says why."""
        found = []
        for transfer in resolving:
            if now >= transfer.deadline_at:
                transfer.error = late(transfer.request)
                found.append(transfer)
            elif now >= transfer.connect_at:
                transfer.error = resolving_timeout(transfer)
                found.append(transfer)
        for transfer, handle in running.items():
            if now >= transfer.deadline_at:
                transfer.error = late(transfer.request)
                found.append(transfer)
            elif transfer.sends and self._is_stalled(transfer, handle, now):
                if not transfer.has_header:
                    transfer.head = handle.head[transfer.head_start :]
                transfer.error = read_timeout(transfer)
                found.append(transfer)
        return found

    def plan(self, *, is_idle: bool, now: float) -> None:
        """Say when to look next."""
        if is_idle:
            self._look_s = _LOOK_S
        self.look_at = math.inf if is_idle else now + self._look_s

    @staticmethod
    def _is_stalled(transfer: Transfer, handle: Handle, now: float) -> bool:
        read_s = transfer.way.read_s
        if read_s is None:
            return False
        mark = handle.progress(transfer)
        if mark is None or mark != transfer.seen or transfer.is_paused:
            transfer.seen, transfer.seen_at = mark, now
            return False
        return now - transfer.seen_at > read_s
