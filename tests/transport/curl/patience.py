"""The read timeout of one transfer, taken away for a moment: no test has to hope that a busy server is quick enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crawlpool.transport.curl.route import Way
from tests.gates import until

if TYPE_CHECKING:
    from crawlpool import SessionPool


def running(pool: SessionPool) -> list[Any]:
    """Return the transfers that are under way."""
    return list(pool._shared.engine._loop._running)  # type: ignore[union-attr]


def in_a_hurry(transfer: Any, read_s: float = 0.0) -> None:
    """Give a transfer that runs another read timeout; it counts from the next look at it."""
    way = transfer.way
    transfer.way = Way(way.is_tls, way.verify, way.cert, way.proxy, way.connect_s, read_s)


@contextlib.contextmanager
def no_patience(transfer: Any) -> Iterator[None]:
    """Within the block the transfer has no time to read anything; it is looked at before the block is left.

    A transfer that is to read ends at the second look at it; of one that isn't, each look notes its time.
    """
    patient = transfer.way
    in_a_hurry(transfer)
    yield
    for _ in range(3):
        seen_at = transfer.seen_at
        until(lambda seen_at=seen_at: transfer.seen_at != seen_at)  # type: ignore[misc]
    transfer.way = patient
