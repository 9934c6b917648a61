"""What other threads may do to a session: end its running leg, shut its sockets, take it over when it is idle.

A session belongs to one thread, and only that thread moves bytes on it. Closing a pool and ending a leg at its deadline
come from other threads, though; all that they may touch is here. They never close a descriptor that the owner may be
reading from: they ``shutdown()`` the socket, which wakes the owner with an error, and the owner closes it.
"""

from __future__ import annotations

import contextlib
import enum
import math
import socket
import threading
import weakref
from typing import TYPE_CHECKING

from crawlpool.errors import PoolClosed
from crawlpool.fence import FenceSlot

if TYPE_CHECKING:
    from collections.abc import Iterator


class LegEnd(enum.Enum):
    """Why another thread ended a leg."""

    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    LEASE = "lease"


class Lifeline:
    """The part of a session that all threads may use.

    Thread-safe. ``enter``/``leave`` and ``begin``/``end`` are the owner's, the rest is anybody's.

    Args:
        fence: the pool's.
    """

    def __init__(self, fence: FenceSlot | None = None) -> None:
        #: What is asked right before a request's bytes go; the pool's.
        self.fence = fence or FenceSlot()
        # Guards every field below. Shutting a socket down happens under it too, against the rule: between a look at
        # the descriptor and the call the owner could close it, and its number could be another connection's by then.
        # It can be taken again by its holder: the garbage collector may run under it and close a dropped response,
        # whose connection then says ``closing`` here.
        self._lock = threading.RLock()
        # Weak: a streamed response that its user dropped takes its connection with it, as in requests.
        self._sockets: dict[int, weakref.ref[socket.socket]] = {}
        self._current: int | None = None
        self._depth = 0
        self._is_closed = False
        self._deadline_at = math.inf
        self._token: object = None
        self._ended_by: LegEnd | None = None
        self._opened = 0

    @property
    def is_closed(self) -> bool:
        """Whether the session takes no further call."""
        return self._is_closed

    def counts(self) -> tuple[int, int]:
        """Return (connections opened so far, connections open now)."""
        with self._lock:
            self._forget_dropped()
            return self._opened, len(self._sockets)

    # The owner's calls -----------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin a call on the session; calls nest.

        Raises:
            PoolClosed: when the session was closed.
        """
        with self._lock:
            if self._is_closed:
                raise PoolClosed("the session pool is closed")
            self._depth += 1

    def leave(self) -> bool:
        """End a call; return whether the session was closed meanwhile and the owner must now dispose of it."""
        with self._lock:
            self._depth -= 1
            return self._is_closed and self._depth == 0

    def begin(self, deadline_at: float, token: object = None) -> None:
        """Begin a leg that may run until ``deadline_at`` (monotonic seconds); ``abort`` knows it by ``token``."""
        with self._lock:
            self._token = token
            self._deadline_at = deadline_at
            self._current = None
            self._ended_by = LegEnd.CLOSED if self._is_closed else None

    def end(self) -> LegEnd | None:
        """End the leg; return who ended it from outside, if somebody did."""
        with self._lock:
            self._deadline_at = math.inf
            self._current = None
            self._token = None
            ended, self._ended_by = self._ended_by, LegEnd.CLOSED if self._is_closed else None
            return ended

    def opened(self, sock: socket.socket, replaces: int | None = None) -> int:
        """Register a socket of the session, before it connects; return the key to ``use`` and ``closing`` it.

        Args:
            sock: the socket, plain or TLS.
            replaces: the key of the plain socket that ``sock`` took over (TLS handshake).

        Raises:
            PoolClosed: when the session was closed or the leg ended; the socket is not registered.
        """
        with self._lock:
            self._check_running()
            key = replaces
            if key is None:
                self._forget_dropped()
                self._opened += 1
                key = self._opened
            self._sockets[key] = weakref.ref(sock)
            self._current = key
            return key

    def use(self, key: int) -> None:
        """Say that the leg's bytes go over the socket ``key``.

        Raises:
            PoolClosed: when the leg was ended, or the session closed, before there was a socket to shut.
        """
        with self._lock:
            self._check_running()
            self._current = key

    def closing(self, key: int) -> None:
        """Say that the owner closes the socket ``key`` now; after this no other thread touches it."""
        with self._lock:
            self._sockets.pop(key, None)

    # Anybody's calls -------------------------------------------------------------------------------------------

    def end_leg_past(self, now: float) -> bool:
        """Shut the running leg's socket if its deadline is before ``now``; return whether that was so."""
        with self._lock:
            if now < self._deadline_at or self._ended_by is not None:
                return False
            return self._end_leg(LegEnd.DEADLINE)

    def abort(self, token: object) -> bool:
        """Shut the socket of the leg that was begun with ``token`` if it still runs; return whether it did."""
        with self._lock:
            return self._token is token and token is not None and self._end_leg(LegEnd.CANCELLED)

    def cut(self) -> None:
        """Shut the running leg's socket because its lease has ended."""
        with self._lock:
            if self._token is not None and self._ended_by is None:
                self._end_leg(LegEnd.LEASE)

    def shut(self) -> bool:
        """Close the session to further calls and shut all its sockets.

        Returns:
            Whether the owner is in no call: then the caller may, and must, dispose of the session. Otherwise the
            owner does when its call ends. Only one call ever returns ``True``.
        """
        with self._lock:
            if self._is_closed:
                return False
            self._is_closed = True
            self._ended_by = LegEnd.CLOSED
            for held in list(self._sockets.values()):
                _shutdown(held())
            return self._depth == 0

    def sockets(self) -> Iterator[socket.socket]:
        """Yield the registered sockets that are open; for a child after ``fork`` only."""
        for held in list(self._sockets.values()):
            sock = held()
            if sock is not None and sock.fileno() >= 0:
                yield sock

    def _end_leg(self, why: LegEnd) -> bool:
        self._ended_by = why
        self._deadline_at = math.inf
        held = self._sockets.get(self._current) if self._current is not None else None
        if held is not None:
            _shutdown(held())
        return True

    def _check_running(self) -> None:
        if self._is_closed or self._ended_by is not None:
            raise PoolClosed("the session pool is closed" if self._is_closed else "the request was ended")

    def _forget_dropped(self) -> None:
        for key in [key for key, held in list(self._sockets.items()) if held() is None]:
            self._sockets.pop(key, None)


def _shutdown(sock: socket.socket | None) -> None:
    if sock is None:
        return
    # socket.socket's own, not SSLSocket's: that one drops the TLS object under the owner's reading thread.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
