"""Taking a shard over: which folder its new owner works in, and how that is made of what the former one left.

A former owner that gave the shard up has closed all files: the same folder goes on. Of any other it can't be known that
it is dead: it may be stopped, and write on when it wakes. So its folder is left to it, and what counts is copied to a
new one, of which it knows nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawlpool.shards.keeper import Held


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The folder in which a shard's owner works.

    Args:
        path: of the folder.
        number: of the epoch.
        origin: the epoch that it was copied from; ``None`` where it is the first, or goes on.
    """

    path: str
    number: int
    origin: int | None = None


def enter(held: Held, *, is_shared: bool = False) -> Epoch:
    """Return the folder for a shard that was just claimed, made of what the former owner left; its tenure names it.

    Args:
        held: the claim.
        is_shared: whether the folder lies on a network file system, where a ledger must not use a write-ahead log.

    Raises:
        JobError: when the lease ended meanwhile, or what the former owner left is damaged.
        SinkError: when the new folder can't be written.

    May be called by any thread; copies as much as the ledger and the open files hold.
    """
    raise NotImplementedError
