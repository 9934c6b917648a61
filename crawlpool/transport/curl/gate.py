"""The gate before each send: what libcurl is about to do is looked at once more, and stopped where it must not be.

libcurl calls it before every request goes out, over a new connection, over one that is used again, and when it sends
a request a second time by itself. Without it a server could plant an answer: bytes that arrive on an idle connection
would be taken for the next request's answer. And a POST that the server has read could be sent again.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

try:
    import fcntl
    import termios
except ImportError:  # Windows
    _CAN_COUNT = False
else:
    _CAN_COUNT = sys.platform == "linux" and hasattr(socket, "TCP_INFO")

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer

OK, ABORT = 0, 1  # pycurl's PREREQFUNC_OK and PREREQFUNC_ABORT
_BAD_SOCKET = -1
_BYTES_RECEIVED_AT = 128  # tcpi_bytes_received in Linux' struct tcp_info, since 4.1


class Connections:
    """The sockets that libcurl has opened through us, known by number and by local address.

    The I/O thread's; ``open_now`` may be called by any thread.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self.opened = 0
        # TLS reads ahead: what a server sent behind its last answer may be in OpenSSL's buffer, where no poll sees it.
        # But then the next request is answered in the very call that sent it. Here is whom to look at after that call.
        self.just_reused: list[Transfer] = []
        self._forget = forget
        self._inodes: dict[int, int] = {}
        self._by_local: dict[tuple[str, int], int] = {}
        self._local_of: dict[int, tuple[str, int]] = {}

    def open(self, address: Any) -> int:
        """Make a socket for libcurl, which then owns it; return its number."""
        sock = socket.socket(address.family, address.socktype, address.protocol)
        fd = sock.detach()
        self.opened += 1
        self._forget(fd)
        local = self._local_of.pop(fd, None)
        if local is not None:  # the number was that of a connection that libcurl has closed
            self._by_local.pop(local, None)
        self._inodes[fd] = os.fstat(fd).st_ino
        return fd

    def known(self, local: tuple[str, int]) -> int | None:
        """Return the number of the connection with that local address, if it was sent on before."""
        return self._by_local.get(local)

    def learn(self, local: tuple[str, int], candidates: list[int]) -> bool:
        """Find which of the sockets just opened has that local address; return whether one has."""
        for fd in candidates:
            name = _local_name(fd)
            if name is None:
                continue
            if name[1] == local[1] and name[0].partition("%")[0] == local[0].partition("%")[0]:
                self._by_local[local] = fd
                self._local_of[fd] = local
                return True
        return False

    def is_planted(self, transfer: Transfer, least_bytes: int = 1) -> bool:
        """Tell whether a transfer has got an answer of which fewer bytes were read from its socket since it was sent.

        Where the system doesn't tell, and of a connection that libcurl has closed by now, nobody knows; the answer
        is no then.
        """
        if transfer.reused is None:
            return False
        fd, before = transfer.reused
        after, unread = _bytes_received(fd), _bytes_unread(fd)
        if before < 0 or after - unread - before >= least_bytes:
            return False
        while (now := _bytes_received(fd)) != after:  # some came between the two looks
            after, unread = now, _bytes_unread(fd)
        return after - unread - before < least_bytes and self.is_open(fd)

    def is_open_of(self, transfer: Transfer) -> bool:
        """Tell whether the connection is open that a transfer used again."""
        return transfer.reused is not None and self.is_open(transfer.reused[0])

    def is_open(self, fd: int) -> bool:
        """Tell whether that number is a socket of ours still."""
        try:
            return os.fstat(fd).st_ino == self._inodes.get(fd)
        except OSError:
            return False

    def shut(self, transfer: Transfer) -> None:
        """End the connection of a planted answer; libcurl finds that out and closes it."""
        if transfer.reused is None or not self.is_open(transfer.reused[0]):
            return
        sock = socket.socket(fileno=transfer.reused[0])
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was quicker
            return
        finally:
            sock.detach()

    def open_now(self) -> int:
        """Return how many of the sockets are still open."""
        return len(self.descriptors())

    def descriptors(self) -> list[int]:
        """Return the numbers of the sockets that are still open, and still ours."""
        found = []
        for fd in list(self._inodes):
            if self.is_open(fd):
                found.append(fd)
        return found


class Gate:
    """The callbacks of one easy handle that decide about its connections. The I/O thread's, like the handle.

    None of them raises: an exception would be printed by pycurl and come out of somewhere else.
    """

    def __init__(self, connections: Connections, *, is_multiplexed: bool) -> None:
        self._connections = connections
        self._is_multiplexed = is_multiplexed  # then there are always others' bytes on a connection
        self._just_opened: list[int] = []
        self._ear = Ear()
        self.transfer: Transfer | None = None
        self.head: list[bytes] = []  # the handle's: how much of it is a proxy's own is known here

    def open_socket(self, purpose: int, address: Any) -> int:
        """Make a socket (``CURLOPT_OPENSOCKETFUNCTION``)."""
        try:
            fd = self._connections.open(address)
        except OSError as error:  # no descriptor left, or no IPv6 here: another address may do
            if self.transfer is not None:
                self.transfer.no_socket = error
            return _BAD_SOCKET
        self._just_opened.append(fd)
        return fd

    def before_send(self, ip: str, local_ip: str, port: int, local_port: int) -> int:
        """Let the request go out, or not (``CURLOPT_PREREQFUNCTION``)."""
        transfer = self.transfer
        if transfer is None:
            return ABORT
        transfer.sends += 1
        if transfer.sends > 1:
            return ABORT  # the connection broke after the request was written: whether it was read, nobody knows
        local = (local_ip, local_port)
        opened = self._just_opened
        if not opened or not self._connections.learn(local, opened):
            fd = self._connections.known(local)
            if fd is not None and not self._is_multiplexed and self._ear.has_unread(fd):
                transfer.sends -= 1
                transfer.is_poisoned = True
                return ABORT
            if fd is not None and (transfer.url[4] == "s" or (transfer.proxy or "").startswith("https:")):
                transfer.reused = fd, _bytes_received(fd)
                self._connections.just_reused.append(transfer)
        else:
            transfer.is_first = True
        opened.clear()
        transfer.ip = ip
        transfer.head_start = len(self.head)
        transfer.sent_at = transfer.seen_at = time.monotonic()
        return OK

    def begin(self, transfer: Transfer) -> None:
        """Answer for ``transfer`` from now on."""
        self.transfer = transfer
        self._just_opened.clear()


def _bytes_unread(fd: int) -> int:
    """Return how many of the bytes that have come wait to be read."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0


def _bytes_received(fd: int) -> int:
    """Return how many bytes have come over a TCP connection; -1 where the system doesn't tell."""
    if not _CAN_COUNT:
        return -1
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)  # named, it needn't ask the system what it is
    except OSError:
        return -1
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    except OSError:
        return -1
    finally:
        sock.detach()
    return int.from_bytes(info[_BYTES_RECEIVED_AT:], sys.byteorder) if len(info) == _BYTES_RECEIVED_AT + 8 else -1


def _local_name(fd: int) -> Any:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # it was closed: another address was quicker
        return None
    try:
        return sock.getsockname()
    except OSError:
        return None
    finally:
        sock.detach()


class Ear:
    """Listens whether a socket that nobody has asked anything has something to say, or was closed.

    Belongs to one thread.
    """

    def __init__(self) -> None:
        self._poll = select.poll() if hasattr(select, "poll") else None

    def has_unread(self, fd: int) -> bool:
        """Tell whether something can be read from ``fd`` at once."""
        poll = self._poll
        try:
            if poll is None:
                return bool(select.select([fd], [], [], 0)[0])
            poll.register(fd, _POLLIN)
            try:
                return bool(poll.poll(0))
            finally:
                poll.unregister(fd)
        except (OSError, ValueError):
            return True


_POLLIN: int = getattr(select, "POLLIN", 1)
