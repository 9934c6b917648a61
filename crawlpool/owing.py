"""Results that are settled and not committed yet: how many there are, and how many legs may run beside them.

Of a crawl that is killed, all is fetched again that was begun and isn't committed. So that this is bounded, no further
leg is begun while too many are either running or settled and not committed: a disk that is slow slows the crawl down,
and nothing piles up in memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.leg import Leg


class Owing:
    """What is owed to the disk.

    Not thread-safe: the frontier's lock guards it.
    """

    __slots__ = ("_binders", "_most", "count", "held_back")

    def __init__(self) -> None:
        self._most = math.inf
        self._binders = 0
        self.count = 0  # results that are settled and not committed
        self.held_back = 0  # how often no leg could be begun that was ready

    def bind(self, most: float) -> None:
        """Set how many legs may be running or settled and not committed, all in all.

        Args:
            most: so many; infinity for who asks for no bound any more. It holds until each who set one has done that.
        """
        self._binders = max(self._binders + (1 if most != math.inf else -1), 0)
        if not self._binders:
            self._most = math.inf
        elif most != math.inf:
            self._most = min(self._most, most)

    def room(self, wanted: int, running: int) -> int:
        """Return how many of so many legs may be begun.

        Args:
            wanted: so many.
            running: legs that run.
        """
        if self._most == math.inf:
            return wanted
        room = self._most - running - self.count
        if room < 1:
            self.held_back += 1
            return 0
        return int(min(wanted, room))

    def is_busy(self, running: int) -> bool:
        """Tell whether so many legs run that who ends one soon takes the next: nobody need be woken for it."""
        return 4 * running > self._most

    def settled(self, ended: Iterable[tuple[Leg, Leg | None]]) -> None:
        """Count results among legs that have ended, each with the leg that follows on it.

        Only those of a group that ``owes`` count, and of these not what only asks for a robots.txt.
        """
        for leg, again in ended:
            group = leg.run.group
            if again is None and group.owes and leg.run is not group.clearance:
                leg.is_owed = True
                self.count += 1

    def paid(self, count: int) -> None:
        """Take it that so many results are committed, or given up."""
        self.count -= count
