"""The header that libcurl sent, byte for byte.

libcurl tells it by a callback, and with it a dozen other things, each of which has to wait for the interpreter: 10 to
20 µs for a request. So it is asked once for a set of options. As long as a handle's options stay the same, only the
path and the host change; where what we make of these is what libcurl sent, it is made of them the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawlpool.transport.curl.transfer import Transfer

_DEFAULT_PORTS = {"http:": ":80", "https": ":443"}
_END = b"\r\n\r\n"


class SentHead:
    """Knows what one handle of libcurl sends. The I/O thread's, as the handle is.

    Args:
        pycurl: the module.
        curl: the handle.
    """

    def __init__(self, pycurl: Any, curl: Any) -> None:
        self._pycurl = pycurl
        self._curl = curl
        self._is_telling = False
        self._told: list[bytes] = []
        self._is_absolute = False
        self._rest: bytes | None = None  # what followed on the host's line; None where it isn't known

    def forget(self, *, was_reset: bool = False) -> None:
        """Note that the handle's options have changed, or are all as they were at first."""
        self._rest = None
        if was_reset:
            self._is_telling = False

    def arm(self, *, keeps: bool) -> None:
        """Have the handle tell what it is going to send, if that is wanted and not known."""
        tells = keeps and self._rest is None
        if tells != self._is_telling:
            if tells:
                self._curl.setopt(self._pycurl.DEBUGFUNCTION, self._tell)
            self._curl.setopt(self._pycurl.VERBOSE, int(tells))
            self._is_telling = tells
        self._told.clear()

    def of(self, transfer: Transfer) -> bytes:
        """Return what was sent for the transfer that was armed last; empty where nothing was."""
        if not self._is_telling:
            return self._first_lines(transfer) + (self._rest or b"")
        head = b"".join(self._told)
        parts = head.split(b"\r\n", 2)
        if len(parts) == 3:
            self._is_absolute = parts[0].split(b" ")[1:2] != [] and not parts[0].split(b" ")[1].startswith(b"/")
            self._rest = parts[2]
            if self._first_lines(transfer) + parts[2] != head:
                self._rest = None  # another host's name, another version: it has to be asked each time
        return head

    def _first_lines(self, transfer: Transfer) -> bytes:
        origin = transfer.route.origin
        path = transfer.url[len(origin) :]
        if path[:1] != "/":
            path = "/" + path
        origin = origin.removesuffix(_DEFAULT_PORTS[origin[:5]])
        host = origin[origin.find("//") + 2 :]
        target = f"{origin}{path}" if self._is_absolute else path
        return f"{transfer.exchange.request.method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode()

    def _tell(self, kind: int, data: bytes) -> None:
        if kind == self._pycurl.INFOTYPE_HEADER_OUT:
            if self._told and self._told[-1].endswith(_END):  # it was sent again, or to a proxy before
                self._told.clear()
            self._told.append(data)
