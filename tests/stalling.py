"""Servers, proxies and names that stall, each at one place of an exchange; and a page that answers at once."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.kit import RawServer, read_head

if TYPE_CHECKING:
    from crawlpool.testing.certificates import Certificates

_OK = b"HTTP/1.1 200 OK\r\n"
_GOOD = _OK + b"Content-Length: 4\r\n\r\ngood"
UPLOAD_BYTES = 8 << 20  # more than two sockets' buffers hold


@dataclasses.dataclass(frozen=True)
class Drip:
    """What a server sends at once, and then again and again; nothing more where ``byte`` is empty."""

    head: bytes
    byte: bytes = b""


#: Answers that never come to their end. A drip starts a socket's timeout anew with each byte.
ANSWERS: dict[str, Drip] = {
    "no answer": Drip(b""),
    "status line drips": Drip(b"HTTP/1.1 2", b"0"),
    "header stops": Drip(_OK + b"X-Half: "),
    "header drips": Drip(_OK + b"X-Long: ", b"a"),
    "header lines drip": Drip(_OK, b"X-More: 1\r\n"),
    "interim answers": Drip(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "continue, for ever": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
#: The same, once the header is there.
BODIES: dict[str, Drip] = {
    "body stops": Drip(_OK + b"Content-Length: 100000\r\n\r\nhalf"),
    "body drips": Drip(_OK + b"Content-Length: 100000\r\n\r\n", b"a"),
    "last body drips": Drip(_OK + b"Content-Length: 100000\r\nConnection: close\r\n\r\n", b"a"),
    "body without end drips": Drip(_OK + b"Connection: close\r\n\r\n", b"a"),
    "chunks drip": Drip(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "chunk size stops": Drip(_OK + b"Transfer-Encoding: chunked\r\n\r\n1"),
    "trailers drip": Drip(_OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X-T: 1\r\n"),
    "last chunk lacks its end": Drip(_OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
    "compressed body stops": Drip(_OK + b"Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n\x1f\x8b\x08"),
}
#: What proxies say, and go on to say.
TUNNELS: dict[str, Drip] = {
    "proxy says nothing": Drip(b""),
    "tunnel drips": Drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "tunnel lines drip": Drip(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
}
SOCKS: dict[str, Drip] = {
    "socks says nothing": Drip(b""),
    "socks stops half-way": Drip(b"\x05"),
    "socks drips its answer": Drip(b"\x05\x00\x05\x00\x00\x03\xff", b"a"),
}
OTHERS = (
    "name",
    "connect",
    "TLS says nothing",
    "TLS drips",
    "proxy takes no connection",
    "proxy says nothing to a plain request",
    "upload isn't read",
    "file isn't read",
    "proxy's name",
)
KINDS: tuple[str, ...] = (*ANSWERS, *BODIES, *TUNNELS, *SOCKS, *OTHERS)


@dataclasses.dataclass
class Asked:
    """A request that will stall."""

    url: str
    method: str = "GET"
    data: Any = None
    proxies: dict[str, str] | None = None


class Stalls:
    """All that stalls, on loopback; used as a context manager.

    Args:
        certificates: by which its TLS servers are known.
        every_s: the time from one drip to the next.
    """

    def __init__(self, certificates: Certificates, every_s: float = 0.05) -> None:
        self._every_s = every_s
        self._numbers = itertools.count(1)
        self._stack = contextlib.ExitStack()
        self._let_go = threading.Event()
        context = certificates.server_context()
        self.plain = RawServer(self._answer)
        self.secure = RawServer(self._answer, tls=context)
        self._proxies = {what: RawServer(self._saying(drip)) for what, drip in {**TUNNELS, **SOCKS}.items()}
        self._mute = RawServer(self._saying(Drip(b""), reads=False))
        # A record of a TLS handshake, 16 KiB long, whose bytes drip (RFC 8446 5.1).
        self._tls_drip = RawServer(self._saying(Drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\0"), reads=False))
        self._full = socket.socket()

    def __enter__(self) -> Stalls:
        for server in (self.plain, self.secure, *self._proxies.values(), self._mute, self._tls_drip):
            self._stack.enter_context(server)
        self._stack.enter_context(self._full)
        self._full.bind(("127.0.0.1", 0))
        self._full.listen(0)
        for _ in range(3):
            filler = self._stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(self._full.getsockname())
        return self

    def __exit__(self, *exc: object) -> None:
        self._let_go.set()
        self._stack.close()

    def lookup(self, host: str, port: int) -> list[str]:
        """Look a name up that never is found; in the place of ``getaddrinfo``."""
        self._let_go.wait()
        return ["127.0.0.1"]

    def good(self) -> str:
        """Return the URL of a page that answers at once."""
        return self.plain.url("/good")

    def ask(self, kind: str, chance: random.Random) -> Asked:
        """Return a request that stalls in a way of ``KINDS``; with TLS or without, by chance."""
        number = next(self._numbers)
        if kind in ANSWERS or kind in BODIES:
            server = chance.choice((self.plain, self.plain, self.secure))
            return Asked(server.url(f"/{kind.replace(' ', '+')}?{number}"))
        if kind in TUNNELS:
            return self._by(f"http://127.0.0.1:{self._proxies[kind].port}", "https", number)
        if kind in SOCKS:
            return self._by(f"socks5h://127.0.0.1:{self._proxies[kind].port}", chance.choice(("http", "https")), number)
        port = self._full.getsockname()[1]
        return {
            "name": lambda: Asked(f"{chance.choice(('http', 'https'))}://n{number}.test/"),
            "connect": lambda: Asked(f"{chance.choice(('http', 'https'))}://127.0.0.1:{port}/?{number}"),
            "TLS says nothing": lambda: Asked(f"https://127.0.0.1:{self._mute.port}/?{number}"),
            "TLS drips": lambda: Asked(f"https://127.0.0.1:{self._tls_drip.port}/?{number}"),
            "proxy takes no connection": lambda: self._by(
                f"{chance.choice(('http', 'socks5h'))}://127.0.0.1:{port}", "http", number
            ),
            "proxy says nothing to a plain request": lambda: self._by(
                f"http://127.0.0.1:{self._mute.port}", "http", number
            ),
            "proxy's name": lambda: self._by(
                f"{chance.choice(('http', 'socks5h'))}://p{number}.test:3128", "http", number
            ),
            "upload isn't read": lambda: Asked(
                f"http://127.0.0.1:{self._mute.port}/?{number}", "POST", b"x" * UPLOAD_BYTES
            ),
            "file isn't read": lambda: Asked(
                f"http://127.0.0.1:{self._mute.port}/?{number}", "PUT", Zeros(UPLOAD_BYTES)
            ),
        }[kind]()

    @staticmethod
    def _by(proxy: str, scheme: str, number: int) -> Asked:
        return Asked(f"{scheme}://site{number}.test/", proxies={"http": proxy, "https": proxy})

    def _answer(self, connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            kind = head.split(b" ")[1].partition(b"?")[0].decode().strip("/").replace("+", " ")
            if kind == "good":
                connection.sendall(_GOOD)
                continue
            self._drip(connection, (ANSWERS | BODIES)[kind])
            return

    def _saying(self, drip: Drip, *, reads: bool = True) -> Callable[[socket.socket, int], None]:
        def script(connection: socket.socket, _: int) -> None:
            if reads:
                connection.recv(4096)
            self._drip(connection, drip)

        return script

    def _drip(self, connection: socket.socket, drip: Drip) -> None:
        if drip.head:
            connection.sendall(drip.head)
        while not self._let_go.wait(self._every_s):
            if drip.byte:
                connection.sendall(drip.byte)
            elif _is_gone(connection):
                return


class Zeros:
    """A file of zeros that can be read again: requests sends it piece by piece."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 16):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """Return so many of them."""
        left = self._size - self._at
        count = left if size < 0 else min(size, left)
        self._at += count
        return b"\0" * count

    def tell(self) -> int:
        """Return how many were read."""
        return self._at

    def seek(self, at: int, whence: int = 0) -> int:
        """Go to a place of it."""
        self._at = at if whence == 0 else self._size + at if whence == 2 else self._at + at
        return self._at


def _is_gone(connection: socket.socket) -> bool:
    """Tell whether the other side has closed; what it says is not read."""
    if connection.fileno() < 0:
        return True
    before = connection.gettimeout()
    try:
        connection.settimeout(0)
        return socket.socket.recv(connection, 1, socket.MSG_PEEK) == b""
    except (BlockingIOError, ValueError):
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            connection.settimeout(before)
