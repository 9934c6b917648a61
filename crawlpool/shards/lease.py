"""The arithmetic of leases: until when a holder may send, and from when on another may take over. No I/O, no threads.

No clock of one machine is ever compared with another's. A holder counts from *before* its last refresh that was
acknowledged; an observer from *after* it has seen that refresh. So the observer's count begins later, however far apart
the two clocks are, and however long the file system takes to bring one's writing before the other's eyes::

    holder     t0 = refresh begins … written, synced, acknowledged          fence closes at t0 + lease - margin
    observer                    … sees it: t1 >= t0 …                       may take over at t1 + lease

Between the two lies the margin at least: for the requests that are under way as the fence closes, and for clocks that
don't run equally fast.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from crawlpool.config import check, is_seconds

if TYPE_CHECKING:
    from crawlpool.clock import Clock

DEFAULT_LEASE_S = 30.0
_MARGIN, _REFRESH, _UNACKED = 1 / 4, 1 / 6, 1 / 8
_MOST_WATCHED = 10_000


@dataclasses.dataclass(frozen=True)
class Terms:
    """How long leases hold.

    Args:
        lease_s: seconds for which a tenure must not have changed, before an observer, for it to count as ended.

    Raises:
        ConfigError: for a value that can't be.
    """

    lease_s: float = DEFAULT_LEASE_S

    def __post_init__(self) -> None:
        check(is_seconds(self.lease_s), "lease_s", self.lease_s, "a positive number of seconds")

    @property
    def margin_s(self) -> float:
        """By how many seconds the holder's end comes before an observer's: a quarter of the lease."""
        return self.lease_s * _MARGIN

    @property
    def refresh_s(self) -> float:
        """How often a holder refreshes: four times until its end, so that three may fail."""
        return self.lease_s * _REFRESH

    @property
    def unacked_s(self) -> float:
        """How long the system may try to bring bytes of a request to a host that doesn't answer: half the margin."""
        return self.lease_s * _UNACKED

    def end_after(self, refreshed_at: float) -> float:
        """Return until when a holder may send.

        Args:
            refreshed_at: the moment before its last refresh that was acknowledged, by its clock.
        """
        return refreshed_at + self.lease_s - self.margin_s


class Watch:
    """What one observer has seen of other owners' tenures, and since when by its own clock.

    Args:
        terms: how long leases hold.
        clock: the observer's.

    Not thread-safe.
    """

    def __init__(self, terms: Terms, clock: Clock) -> None:
        self._terms = terms
        self._clock = clock
        self._seen: dict[str, tuple[int, bytes, float]] = {}

    def has_ended(self, shard: str, number: int, content: bytes) -> bool:
        """Tell whether a tenure that wasn't released has ended: its content hasn't changed for as long as leases hold.

        Args:
            shard: whose tenure it is.
            number: of the tenure.
            content: what its file holds, read just now.
        """
        now = self._clock.monotonic()
        known = self._seen.get(shard)
        if known is None or known[:2] != (number, content):
            if len(self._seen) >= _MOST_WATCHED:
                self._seen.pop(next(iter(self._seen)))  # it is waited for anew, should it matter
            self._seen[shard] = (number, content, now)
            return False
        return now - known[2] >= self._terms.lease_s

    def left_s(self, shard: str) -> float:
        """Return in how many seconds a shard's tenure ends if its file isn't written to until then."""
        known = self._seen.get(shard)
        seen_at = self._clock.monotonic() if known is None else known[2]
        return max(seen_at + self._terms.lease_s - self._clock.monotonic(), 0.0)

    def forget(self, shard: str) -> None:
        """Forget what was seen of a shard."""
        self._seen.pop(shard, None)
