"""The gate before each send: what libcurl is about to do is looked at once more, and stopped where it must not be.

libcurl calls it before every request goes out, over a new connection, over one that is used again, and when it sends
a request a second time by itself. Without it a server could plant an answer: bytes that arrive on an idle connection
would be taken for the next request's answer. And a POST that the server has read could be sent again.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from crawlpool.errors import BlockedAddress, LeaseLost
from crawlpool.fence import FenceSlot, lost
from crawlpool.transport.curl.faults import UNSUPPORTED_PROTOCOL, WEIRD_SERVER_REPLY
from crawlpool.transport.reach import Reach

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
_RECORD_BYTES = 22  # that TLS adds at least
_BYTES_RECEIVED_AT = 128  # tcpi_bytes_received in Linux' struct tcp_info, since 4.1


class Connections:
    """The sockets that libcurl has opened through us, known by number and by local address.

    The I/O thread's; ``open_now`` may be called by any thread.
    """

    def __init__(
        self, forget: Callable[[int], None], reach: Reach | None = None, fence: FenceSlot | None = None
    ) -> None:
        self.reach = reach or Reach()
        self.fence = fence or FenceSlot()
        self.opened = 0
        # TLS reads ahead: what a server sent behind its last answer may be in OpenSSL's buffer, where no poll sees it.
        # But then the next request is answered in the very call that sent it. Here is whom to look at after that call.
        self.just_reused: list[Transfer] = []
        self._forget = forget
        self._inodes: dict[int, int] = {}
        self._by_local: dict[tuple[str, int], Ear] = {}
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

    def known(self, local: tuple[str, int]) -> Ear | None:
        """Return the ear at the connection with that local address, if it was sent on before."""
        return self._by_local.get(local)

    def learn(self, local: tuple[str, int], candidates: list[int]) -> bool:
        """Find which of the sockets just opened has that local address; return whether one has."""
        for fd in candidates:
            name = _local_name(fd)
            if name is None:
                continue
            if name[1] == local[1] and name[0].partition("%")[0] == local[0].partition("%")[0]:
                if self.fence.unacked_ms:
                    self._bind(fd)
                self._by_local[local] = Ear(fd)
                self._local_of[fd] = local
                return True
        return False

    def _bind(self, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        try:
            self.fence.bind(sock)
        finally:
            sock.detach()

    def part(self, local: tuple[str, int]) -> None:
        """End the connection that has that local address; libcurl finds that out before it would use it again."""
        ear = self._by_local.get(local)
        if ear is not None and self.is_open(ear.fd):
            sock = socket.socket(fileno=ear.fd)
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was quicker
                pass
            finally:
                sock.detach()

    def is_open(self, fd: int) -> bool:
        """Tell whether that number is a socket of ours still."""
        try:
            return os.fstat(fd).st_ino == self._inodes.get(fd)
        except OSError:
            return False

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
        self._fine = connections.reach.fine
        self._fence = connections.fence
        self._is_multiplexed = is_multiplexed  # then there are always others' bytes on a connection
        self._just_opened: list[int] = []
        self.transfer: Transfer | None = None
        self.head: list[bytes] = []  # the handle's: how much of it is a proxy's own is known here

    def open_socket(self, purpose: int, address: Any) -> int:
        """Make a socket (``CURLOPT_OPENSOCKETFUNCTION``); none for an address that must not be reached.

        It is what libcurl is going to connect to, however it came to it: it reads hosts in its own way.
        """
        try:
            self._fence.check()
            self._check(address.addr[0])
            fd = self._connections.open(address)
        except LeaseLost as error:
            if self.transfer is not None:
                self.transfer.error = error
            return _BAD_SOCKET
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
        # What a host was granted needs no further look: it is the address that it is written as.
        if ip not in self._fine and (transfer.grant is None or transfer.grant.address != ip):
            try:
                self._check(ip)
            except BlockedAddress as error:
                transfer.error = error
                return ABORT
        transfer.sends += 1
        if transfer.sends > 1 and not self._may_repeat(transfer):
            return ABORT  # the connection broke after the request was written: whether it was read, nobody knows
        local = (local_ip, local_port)
        opened = self._just_opened
        if not opened or not self._connections.learn(local, opened):
            ear = self._connections.known(local)
            if ear is not None:
                if not self._is_multiplexed and ear.has_unread():
                    transfer.sends -= 1
                    transfer.is_poisoned = True
                    return ABORT
                if transfer.way.has_tls:
                    transfer.reused = _reuse_of(ear.fd)
                    if transfer.reused is not None:
                        self._connections.just_reused.append(transfer)
        else:
            transfer.is_first = True
        if opened:
            opened.clear()
        transfer.ip = ip
        transfer.head_start = len(self.head)
        transfer.seen_at = time.monotonic()
        if not self._fence.may_send():  # last of all: what comes after this is the sending
            transfer.error = lost(transfer.exchange.request)
            return ABORT
        return OK

    def _check(self, ip: Any) -> None:
        """Raise ``BlockedAddress`` for the address of an origin that must not be reached; a proxy's is the user's."""
        transfer, reach = self.transfer, self._connections.reach
        if transfer is None or transfer.way.proxy is not None:
            return
        cls = reach.refused(ip, transfer.grant)
        if cls is not None:
            raise reach.blocked(transfer.route.host, ip, cls, None, transfer.exchange.request)

    def _may_repeat(self, transfer: Transfer) -> bool:
        """Tell whether libcurl may send a request again, since nothing came over the idle connection that it took.

        Once, over a connection that was made for it, and what can be sent twice (RFC 9112 9.3.1). That a transfer is
        ``is_fresh`` says that it can't, or was.
        """
        if transfer.is_first or transfer.is_fresh or transfer.upload is not None or not self._just_opened:
            return False
        transfer.is_fresh = True
        let_go(transfer)
        return True

    def begin(self, transfer: Transfer) -> None:
        """Answer for ``transfer`` from now on."""
        self.transfer = transfer
        self._just_opened.clear()


class Reuse:
    """How much was read from the socket of a TLS connection that is used again, since its request was sent.

    An answer of which less was read than it is long was there before the request. It has a descriptor of its own: an
    answer may be the last on its connection, and libcurl closes that before anybody can look.

    Args:
        fd: the socket, of which nothing is unread.

    Raises:
        OSError: when no descriptor is left.
    """

    def __init__(self, fd: int) -> None:
        # Named, it needn't ask the system what it is.
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, os.dup(fd))
        self._before = self._received()

    def has_read_less_than(self, least_bytes: int) -> bool:
        """Tell whether fewer bytes have been read since then."""
        while True:
            received = self._received()
            if received - self._before - self._unread() >= least_bytes:
                return False
            if self._received() == received:  # else some came between the two looks
                return True

    def shut(self) -> None:
        """End the connection; libcurl finds that out and closes it."""
        with contextlib.suppress(OSError):  # the other side was quicker
            self._sock.shutdown(socket.SHUT_RDWR)

    def fileno(self) -> int:
        """Return the number of our own descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Give our descriptor back: while it is open the server isn't told that libcurl has closed."""
        self._sock.close()

    def _received(self) -> int:
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
        return int.from_bytes(info[_BYTES_RECEIVED_AT:], sys.byteorder)

    def _unread(self) -> int:
        return int.from_bytes(fcntl.ioctl(self._sock, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


def is_planted(transfer: Transfer, reused: Reuse) -> bool:
    """Tell whether what a transfer has got was there before its request."""
    if transfer.head:
        size = sum(map(len, transfer.head)) + sum(map(len, transfer.body))
        return transfer.stream is None and reused.has_read_less_than(size + _RECORD_BYTES)
    return transfer.code in (UNSUPPORTED_PROTOCOL, WEIRD_SERVER_REPLY) and reused.has_read_less_than(1)


def let_go(transfer: Transfer) -> None:
    """Part from the connection that a transfer used again."""
    if transfer.reused is not None:
        transfer.reused.close()
        transfer.reused = None


def _reuse_of(fd: int) -> Reuse | None:
    if _CAN_COUNT:
        with contextlib.suppress(OSError):
            return Reuse(fd)
    return None


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

    Args:
        fd: the socket's number.
    """

    __slots__ = ("_poll", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._poll: Callable[[int], list[Any]] | None = None
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            self._poll = poll.poll

    def has_unread(self) -> bool:
        """Tell whether something can be read at once."""
        try:
            if self._poll is None:
                return bool(select.select([self.fd], [], [], 0)[0])
            return bool(self._poll(0))
        except (OSError, ValueError):
            return True
