"""Waiting for sockets on behalf of libcurl: epoll where there is one, else what ``selectors`` offers.

libcurl takes a socket out of the watch at the end of each transfer and puts it back at the start of the next one over
the same connection. Doing that at once costs two system calls a request; here a socket stays registered until it is
closed, or speaks while nobody listens.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import time
from typing import Any

LONG_S = 0.03  # what was asked longer ago isn't news any more
READ, WRITE = 1, 2  # as libcurl has them, both in what it wants to know and in what it is told


class Poller:
    """Which sockets libcurl waits for, and which of them are ready.

    Belongs to the I/O thread, but for ``wake``.
    """

    def __init__(self) -> None:
        self.asked_at = time.monotonic()  # when it was last asked what has come
        self.looked_at = self.asked_at  # what had come by then has been taken in; set by who does that
        self._wanted: dict[int, int] = {}
        self._registered: dict[int, int] = {}
        self._backend = _backend()
        try:
            self._woken, self._waker = socket.socketpair()
        except BaseException:
            self._backend.close()
            raise
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._wake_fd = self._woken.fileno()
        self._backend.add(self._wake_fd, READ)

    def watch(self, what: int, fd: int, *_: Any) -> None:
        """Take what libcurl says of a socket (``CURLMOPT_SOCKETFUNCTION``): READ, WRITE, both, or to let it go."""
        if what > 3:
            self._wanted.pop(fd, None)
            return
        self._wanted[fd] = what
        known = self._registered.get(fd)
        if known != what:
            if known is None:
                self._backend.add(fd, what)
            else:
                self._backend.change(fd, what)
            self._registered[fd] = what

    def forget(self, fd: int) -> None:
        """Say that ``fd`` is a new socket: what had its number before was closed, and left the watch by that."""
        self._wanted.pop(fd, None)
        if self._registered.pop(fd, None) is not None:
            self._backend.drop(fd)

    def wait(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Return the sockets that are ready, with READ and WRITE as libcurl takes them; at the latest after so long."""
        ready: list[tuple[int, int]] = []
        self.asked_at = time.monotonic()
        found = self._backend.wait(timeout_s)
        # How long it was about coming back, and how long it slept, can't be told apart: so it is asked again.
        if timeout_s != 0.0 and time.monotonic() - self.asked_at > LONG_S:
            self.asked_at = time.monotonic()
            found = self._backend.wait(0.0)
        for fd, events in found:
            if fd in self._wanted:
                ready.append((fd, events))
            elif fd == self._wake_fd:
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
            else:  # an idle connection that has something to say, or was closed by the other side
                self._registered.pop(fd, None)
                self._backend.drop(fd)
        return ready

    def wake(self) -> None:
        """End the wait that runs, or the next one; from any thread."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: there is nobody to wake
            self._waker.send(b"\0")

    def close(self) -> None:
        """Let everything go."""
        self._backend.close()
        self._woken.close()
        self._waker.close()

    def own_descriptors(self) -> list[int]:
        """Return the descriptors that a forked child must not touch."""
        return [self._woken.fileno(), self._waker.fileno(), *self._backend.descriptors()]


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._masks = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)

    def add(self, fd: int, what: int) -> None:
        self._epoll.register(fd, self._masks[what])

    def change(self, fd: int, what: int) -> None:
        self._epoll.modify(fd, self._masks[what])

    def drop(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[tuple[int, int]]:
        out = select.EPOLLOUT
        found = self._epoll.poll(-1 if timeout_s is None else timeout_s)
        # An error or a hang-up is told as both: libcurl reads it from the socket.
        return [(fd, READ if events == 1 else WRITE if events == out else READ | WRITE) for fd, events in found]

    def close(self) -> None:
        self._epoll.close()

    def descriptors(self) -> list[int]:
        return [self._epoll.fileno()]  # a copy of it is the parent's watch still


class _Selector:
    """kqueue, poll or select, by the standard library's common face."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, fd: int, what: int) -> None:
        self._selector.register(fd, what)  # its EVENT_READ and EVENT_WRITE are 1 and 2, too

    def change(self, fd: int, what: int) -> None:
        self._selector.modify(fd, what)

    def drop(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(timeout_s)]

    def close(self) -> None:
        self._selector.close()

    def descriptors(self) -> list[int]:
        return []  # kqueue isn't handed on to a child, and the others have none


def _backend() -> Any:
    return _Epoll() if hasattr(select, "epoll") else _Selector()
