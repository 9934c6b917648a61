"""Engines around ``fork``: none is inside libcurl while the process is copied, and the copy lets go of what it got.

A pool tells its own engine to start anew in a child; a session that stands alone has nobody to do it. So engines are
known here by themselves.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any, Protocol

from crawlpool.errors import PoolClosed


class Forkable(Protocol):
    """An engine, as it is known here."""

    def hold_for_fork(self) -> None:
        """Keep its thread out of libcurl."""

    def release_after_fork(self) -> None:
        """Let its thread go on."""

    def reset_after_fork(self) -> None:
        """Start empty, in a child."""


# Guards _engines. Held during a fork, too: two threads that fork at once take turns, and no engine is made meanwhile.
# It can be taken again by its holder: the garbage collector may run under it, and user code that makes a session.
_lock = threading.RLock()
_engines: weakref.WeakSet[Forkable] = weakref.WeakSet()
_abandoned: list[Any] = []
_held: list[Forkable] = []  # those that wait for the end of a fork, kept alive by it


def register(engine: Forkable) -> None:
    """Have an engine held at each fork, and reset in each child, as long as it lives."""
    with _lock:
        _engines.add(engine)


def abandon(loop: Any) -> None:
    """Part from the connections of the parent's loop, in a forked child: nothing done here may reach them.

    The objects are kept for ever: freeing them would have libcurl say goodbye on sockets that aren't ours.
    """
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for fd in loop.descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
    finally:
        os.close(null)
    for transfer in loop.transfers():
        if transfer.stream is not None:
            transfer.error = PoolClosed("the rest of this body comes to the process that asked for it")
            transfer.stream.abandon_in_child()
    _abandoned.append(loop)


def before_fork() -> None:
    """Take every engine's turn, so that none is half-way through a call of libcurl."""
    _lock.acquire()
    for engine in list(_engines):
        engine.hold_for_fork()
        _held.append(engine)


def after_fork_in_parent() -> None:
    """Give the turns back."""
    while _held:
        _held.pop().release_after_fork()
    _lock.release()


def after_fork_in_child() -> None:
    """Start every engine anew."""
    global _lock
    _lock = threading.RLock()
    while _held:
        _held.pop().reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent, after_in_child=after_fork_in_child)
