"""The fence before each send: a pool whose right to send may end asks here, right before a request's bytes go.

A shard of a job has one owner at a time, and a process may be stopped and woken again at any moment without knowing. So
it isn't enough to look when a target is begun: the transports look in the last moment that is theirs. What they ask
costs two attribute look-ups and a clock; no lock is taken.
"""

from __future__ import annotations

import contextlib
import functools
import math
import socket
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SystemClock
from crawlpool.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.clock import Clock

_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_LEASE_CLOCK: int | None = None
if hasattr(time, "CLOCK_BOOTTIME"):
    _LEASE_CLOCK = time.CLOCK_BOOTTIME
elif sys.platform == "darwin":  # time.monotonic stops there while the machine sleeps; this one doesn't
    _LEASE_CLOCK = time.CLOCK_MONOTONIC


class LeaseClock(SystemClock):
    """The clock that leases go by: monotonic, and it goes on while the machine sleeps, as others' clocks do.

    By ``time.monotonic`` a laptop that slept for an hour would take its leases for good still. Thread-safe.
    """

    if _LEASE_CLOCK is not None:
        monotonic = staticmethod(functools.partial(time.clock_gettime, _LEASE_CLOCK))


LEASE_CLOCK: Clock = LeaseClock()


class Fence:
    """Open until a moment, which who holds the leases moves on as long as he holds them.

    Args:
        clock: where time comes from; by itself ``LEASE_CLOCK``.
        ends_at: when it closes, by that clock; infinity for never.

    Thread-safe: each attribute that changes is replaced as a whole, and read without a lock.
    """

    __slots__ = ("_callbacks", "_now", "ends_at", "unacked_s")

    def __init__(self, clock: Clock = LEASE_CLOCK, ends_at: float = math.inf, unacked_s: float | None = None) -> None:
        self._now = clock.monotonic
        #: When it closes; by the clock that it was given.
        self.ends_at = ends_at
        #: For how many seconds the system may try to bring what was written before; ``None`` for as long as it likes.
        self.unacked_s = unacked_s
        self._callbacks: tuple[weakref.WeakMethod[Callable[[], object]], ...] = ()

    def may_send(self) -> bool:
        """Tell whether a request may be sent now. Never waits."""
        return self._now() < self.ends_at

    def at_end(self, callback: Callable[[], object]) -> None:
        """Have a method called when it has closed, to end what is under way; it is quick and doesn't raise.

        Whose method it is isn't kept alive for that. Call this before the fence is used.
        """
        self._callbacks = (*self._callbacks, weakref.WeakMethod(callback))

    def tell_end(self) -> None:
        """Call what waits for its end; by who closed it."""
        for one in self._callbacks:
            callback = one()
            if callback is not None:
                callback()

    def __repr__(self) -> str:
        left_s = self.ends_at - self._now()
        return f"<Fence {'open' if left_s > 0 else 'closed'}, {left_s:.3f} s left>"


def _always() -> bool:
    return True


class FenceSlot:
    """Where a pool's transports find its fence: open for ever until ``put`` gives another.

    A pool has one for life, so that what was made before a fence was put sees it, too. Thread-safe: ``put`` replaces
    one attribute after the other, each by a value that holds by itself.
    """

    __slots__ = ("may_send", "unacked_ms")

    def __init__(self) -> None:
        #: Tells whether a request may be sent now; called by the transports right before its bytes go.
        self.may_send: Callable[[], bool] = _always
        #: How long the system may try to bring what was written, in milliseconds; 0 for as long as it likes.
        self.unacked_ms = 0

    def put(self, fence: Fence | Callable[[], bool]) -> None:
        """Have each send ask this fence from now on: a ``Fence``, or a function that says whether to send."""
        if isinstance(fence, Fence):
            self.unacked_ms = 0 if fence.unacked_s is None else max(int(fence.unacked_s * 1000), 1)
            self.may_send = fence.may_send
        else:
            self.may_send = fence

    def check(self, request: Any = None) -> None:
        """Raise unless a request may be sent now.

        Raises:
            LeaseLost: when it may not.
        """
        if not self.may_send():
            raise lost(request)

    def bind(self, sock: socket.socket) -> None:
        """Have the system give up what is written to a connected socket when its host doesn't take it for so long.

        What a process has written the system goes on to send for many minutes, when the process is stopped, dead or cut
        off, and a request would arrive long after the lease. (``TCP_USER_TIMEOUT``, RFC 5482; where there is none it
        may.)
        """
        if self.unacked_ms and _USER_TIMEOUT is not None:
            with contextlib.suppress(OSError):  # no TCP, or closed by now
                sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, self.unacked_ms)


def lost(request: Any = None) -> LeaseLost:
    """Return the error of a request that a fence held back, or that was under way as it closed."""
    return LeaseLost("the lease on the shard has ended; nothing more is sent under it", request=request)
