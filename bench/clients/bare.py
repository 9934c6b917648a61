"""The floor: a bare pycurl multi in the main thread. Bodies and statuses only; no headers, no response objects."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import pycurl

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.work import Work

#: select() breaks above 1,024 descriptors; connections that idle count among them.
MOST_FOR_SELECT = 900
CONNECT_S, WHOLE_S = 5, 60
#: The most that libcurl takes; it makes large bodies a third faster, and no difference to others.
BUFFER_BYTES = 512 * 1024


class _Transfers:
    """Handles that are used again and again, and the URLs that wait for one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting = iter(work.urls)
        self._left = len(work.urls)
        self._bodies: dict[Any, tuple[str, list[bytes]]] = {}
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, max(work.in_flight, min(work.hosts, 400)))
        self._free = [self._handle() for _ in range(min(work.in_flight, len(work.urls)))]

    def _handle(self) -> Any:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.BUFFERSIZE, BUFFER_BYTES)
        handle.setopt(pycurl.CAINFO, self._work.verify)
        handle.setopt(pycurl.CONNECTTIMEOUT, CONNECT_S)
        handle.setopt(pycurl.TIMEOUT, WHOLE_S)
        handle.setopt(pycurl.ACCEPT_ENCODING, "gzip")
        return handle

    def start(self) -> None:
        """Start a transfer on each free handle while there are URLs."""
        while self._free:
            url = next(self._waiting, None)
            if url is None:
                return
            handle, body = self._free.pop(), []
            self._bodies[handle] = url, body
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.WRITEFUNCTION, body.append)
            self.multi.add_handle(handle)

    def settle(self) -> int:
        """Take the pages that are done; return how many were."""
        count = 0
        while True:
            queued, done, failed = self.multi.info_read()
            if failed:
                raise SystemExit(f"libcurl: {failed[0][1:]}")
            for handle in done:
                self.multi.remove_handle(handle)
                url, body = self._bodies.pop(handle)
                self._work.take(url, handle.getinfo(pycurl.RESPONSE_CODE), b"".join(body))
                self._free.append(handle)
            count += len(done)
            if not queued:
                self._left -= count
                return count

    @property
    def is_done(self) -> bool:
        return not self._left

    def close(self) -> None:
        """Close all handles and connections."""
        for handle in self._free:
            handle.close()
        self.multi.close()


def multi(work: Work) -> None:
    """As many transfers as may be in flight, on one multi."""
    transfers = _Transfers(work)
    try:
        if work.in_flight + work.hosts > MOST_FOR_SELECT:
            _by_epoll(transfers)
        else:
            _by_select(transfers)
    finally:
        transfers.close()


def _by_select(transfers: _Transfers) -> None:
    while not transfers.is_done:
        transfers.start()
        transfers.multi.perform()
        if not transfers.settle() and not transfers.is_done:
            transfers.multi.select(1.0)


def _by_epoll(transfers: _Transfers) -> None:
    poll = select.epoll()
    known: set[int] = set()
    wait_ms = -1
    events = {
        pycurl.POLL_IN: select.EPOLLIN,
        pycurl.POLL_OUT: select.EPOLLOUT,
        pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
    }

    def watch(what: int, descriptor: int, *_: object) -> None:
        if what == pycurl.POLL_REMOVE:
            known.discard(descriptor)
            poll.unregister(descriptor)
        elif descriptor in known:
            poll.modify(descriptor, events.get(what, 0))
        else:
            known.add(descriptor)
            poll.register(descriptor, events.get(what, 0))

    def set_timer(milliseconds: int) -> None:
        nonlocal wait_ms
        wait_ms = milliseconds

    transfers.multi.setopt(pycurl.M_SOCKETFUNCTION, watch)
    transfers.multi.setopt(pycurl.M_TIMERFUNCTION, set_timer)
    act: Callable[[int, int], object] = transfers.multi.socket_action
    while not transfers.is_done:
        transfers.start()
        ready = poll.poll(1.0 if wait_ms < 0 else wait_ms / 1000)
        if not ready or wait_ms == 0:
            wait_ms = -1  # the timer tells anew when there is one
            act(pycurl.SOCKET_TIMEOUT, 0)
        for descriptor, what in ready:
            is_in = pycurl.CSELECT_IN if what & ~select.EPOLLOUT else 0
            act(descriptor, is_in | (pycurl.CSELECT_OUT if what & select.EPOLLOUT else 0))
        transfers.settle()
    poll.close()
