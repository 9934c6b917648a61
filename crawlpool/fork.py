"""What a forked child must do so that it starts with empty pools and never harms the parent's connections.

The child inherits copies of the parent's descriptors. Closing a copy is harmless for TCP, but a TLS library may write
a farewell on it, and ``shutdown()`` ends the connection for both. So the child first puts /dev/null in the place of
each.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from crawlpool.transport.lifeline import Lifeline


class Forkable(Protocol):
    """What can be registered here."""

    def _after_fork_in_child(self) -> None: ...


_lock = threading.Lock()  # guards _pools
_pools: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(pool: Forkable) -> None:
    """Have ``pool._after_fork_in_child()`` called in each forked child, as long as the pool lives."""
    with _lock:
        _pools.add(pool)


def unregister(pool: Forkable) -> None:
    """Forget a pool that was closed."""
    with _lock:
        _pools.discard(pool)


def let_go(lifeline: Lifeline) -> None:
    """In a child: put /dev/null in the place of each socket of the parent's session, and part it from its object.

    The descriptor stays taken, for ever: a TLS object that somebody still holds knows it by its number. A session that
    was kept from before the fork refuses to send; ``pool.session`` makes the child its own.
    """
    lifeline._lock = threading.RLock()  # a thread of the parent may have held it
    lifeline._is_closed = True
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for sock in lifeline.sockets():
            with contextlib.suppress(OSError):
                os.dup2(null, sock.fileno(), inheritable=False)
                sock.detach()
    finally:
        os.close(null)


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for pool in list(_pools):
        pool._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
