"""The session of a pool with all its defaults, for ``run.py --session-class pooled:PooledSession``.

A session that stands alone behaves as requests' own. A pool's has timeouts, a deadline, retries and an environment that
was read once; requests' tests that change the environment under a session, or count on one try, show it.
"""

from __future__ import annotations

from crawlpool import Session, SessionPool
from crawlpool.shared import Shared


class PooledSession(Session):
    """A session of a pool of its own."""

    def __init__(self, shared: Shared | None = None) -> None:
        super().__init__(shared or SessionPool()._shared)
