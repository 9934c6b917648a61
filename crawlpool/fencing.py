"""A pool whose right to send may end: its fence, and the end of what is under way when that closes.

The fence holds back what isn't sent yet; what is under way as it closes is ended from here. Together they see to it
that a pool asks nobody for anything any more, whatever its threads are at.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from crawlpool.config import check
from crawlpool.fence import Fence
from crawlpool.transport.lifeline import LegEnd
from crawlpool.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.shared import Shared


class Fenced(Verbs):
    """What a pool has of fences. Thread-safe."""

    _shared: Shared

    @abc.abstractmethod
    def _lifelines(self) -> list[Any]:
        """Return the lifelines of all sessions."""

    def set_fence(self, fence: Fence | Callable[[], bool]) -> None:
        """Have every request ask a fence right before it is sent: ``get`` and the others, workers' legs, robots.txt.

        Redirects, retries and what a transport sends a second time ask, too. A request that is held back raises
        ``LeaseLost``; in a crawl of a job its target is left to the next run. Call this before the first request.

        Args:
            fence: that of a ``LeaseKeeper``, which also ends what is under way when it closes; or any function that
                says whether a request may be sent now, and may be called by any thread, for each request.

        Raises:
            ConfigError: for what can't be asked.
        """
        check(isinstance(fence, Fence) or callable(fence), "fence", fence, "a Fence, or a function without arguments")
        if isinstance(fence, Fence):
            fence.at_end(self.end_fenced)
        self._shared.fence.put(fence)

    def may_send(self) -> bool:
        """Tell whether the fence lets a request be sent now; yes where there is none."""
        return self._shared.fence.may_send()

    def end_fenced(self) -> None:
        """End each request that is under way, of all threads, as ``LeaseLost``; the pool goes on.

        Its fence calls this when it closes. Requests that begin meanwhile are held back by the fence itself.
        """
        engine = self._shared.engine
        if engine is not None:
            engine.end_all(LegEnd.LEASE)
        for lifeline in self._lifelines():
            lifeline.cut()
