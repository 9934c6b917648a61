"""An easy handle of libcurl that is used again and again: from a transfer to options, and back to what came of it."""

from __future__ import annotations

import math
import os
import re
import socket
from typing import TYPE_CHECKING, Any

from requests.exceptions import InvalidHeader
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from crawlpool.errors import BodyTooLarge
from crawlpool.transport.curl.faults import GOT_NOTHING, RECV_ERROR, SEND_ERROR
from crawlpool.transport.curl.gate import Gate
from crawlpool.transport.curl.header import must_part
from crawlpool.transport.curl.sent import SentHead
from crawlpool.transport.reading import MOST_REDIRECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.gate import Connections
    from crawlpool.transport.curl.transfer import Transfer

# What libcurl reads in one go: it has one buffer for all transfers, and 4 MB pages take a fifth less CPU than with the
# small one. What was read of a transfer that pauses is kept aside for it: where many may pause, that is to be little.
_BUFFER_BYTES, _SMALL_BUFFER_BYTES = 512 * 1024, 64 * 1024
_MAX_MS = 2**31 - 1
_LOST = (GOT_NOTHING, SEND_ERROR, RECV_ERROR)
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+")  # RFC 9110 5.6.2
_FREE_PIECES = 4  # libcurl hands over 16 KiB at most
_REDIRECTS = (b"301", b"302", b"303", b"307", b"308")
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))  # as in http.client


class Handle:
    """One easy handle with its buffers. The I/O thread's.

    What most transfers share is set once; whatever else differs from the transfer before is set anew from nothing, so
    that no option of one transfer can be left for the next.

    Args:
        pycurl: the module.
        connections: who makes the sockets.
        http: ``"1.1"`` or ``"2"``.
        header_came: called with the transfer when its header is whole, where somebody wants to see it before the body;
            it returns whether to go on.
        has_budget: whether transfers may pause for want of memory.
    """

    def __init__(
        self,
        pycurl: Any,
        connections: Connections,
        http: str,
        header_came: Callable[[Transfer], bool],
        has_budget: bool = False,
    ) -> None:
        self._pycurl = pycurl
        self._has_budget = has_budget
        self._connections = connections
        self._is_http2 = http == "2"
        self._header_came = header_came
        self.curl = pycurl.Curl()
        self.curl.owner = self  # how the engine finds us again
        self.gate = Gate(connections, is_multiplexed=self._is_http2)
        self.head: list[bytes] = self.gate.head
        self.body: list[bytes] = []
        #: Takes a piece of the body; says by -1 that there has been enough.
        self.take: Callable[[bytes], int | None] = self._taker()
        self._sent = SentHead(pycurl, self.curl)
        self._signature: Any = None
        self._lines_of: Any = None  # the headers that are set, as a copy of the request's own dict
        self._shared_lines: Any = None  # the same, where many requests have one dict
        self._timeout_ms = 0
        self._block_start = 0  # where the header begins of which lines are coming, if somebody waits for its end
        self._redirect_bytes: int | None = None  # of the body so far, where it is a redirect's
        self._may_resolve = False  # whether libcurl may have the addresses of a transfer before

    def arm(self, transfer: Transfer, now: float) -> None:
        """Set everything for ``transfer``, which will be added to the multi handle next.

        Args:
            now: monotonic seconds.

        Raises:
            requests.exceptions.InvalidHeader: for a header that can't be sent.
            pycurl.error: when libcurl refuses an option.
        """
        exchange = transfer.exchange
        request = exchange.request
        body = request.body
        curl, pycurl = self.curl, self._pycurl
        is_special = body is not None or transfer.stream is not None or exchange.accept is not None
        signature = (transfer.way, request.method, exchange.max_body_bytes, transfer.is_fresh)
        if is_special or signature != self._signature:
            curl.reset()
            self._sent.forget(was_reset=True)
            self._set_base(transfer)
            self._signature = None if is_special else signature
            self._lines_of = self._shared_lines = None
            if is_special:
                self._set_special(transfer)
        curl.setopt(pycurl.URL, transfer.url)
        # A plain request's are those of its plan, and nobody changes them.
        shared: Any = getattr(request, "shared_lines", None)
        if shared is None or shared is not self._shared_lines:
            self._set_headers(transfer, request.headers._store if shared is None else shared, is_special)
            self._shared_lines = None if is_special else shared
        timeout_ms = 0
        if transfer.deadline_at != math.inf and transfer.stream is None:
            # A stream's deadline is for its header alone: the engine sees to that.
            timeout_ms = max(min(int((transfer.deadline_at - now) * 1000), _MAX_MS), 1)
        if timeout_ms != self._timeout_ms:
            curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
            self._timeout_ms = timeout_ms
        # libcurl forgets a list that it has read. One that it hasn't, as the transfer was ended first, or couldn't make
        # sense of, it would read for the next transfer: even after reset(), by which pycurl has freed it.
        if transfer.addresses is not None:
            curl.setopt(pycurl.RESOLVE, _resolve_entries(transfer))
            self._may_resolve = True
        elif self._may_resolve:
            curl.unsetopt(pycurl.RESOLVE)
            self._may_resolve = False
        self._sent.arm(keeps=exchange.keeps_wire)
        self.gate.begin(transfer)
        self.head.clear()
        self.body.clear()
        self._block_start = 0

    def finish(self, transfer: Transfer) -> None:
        """Give the transfer what came of it; the handle is out of the multi handle by now."""
        getinfo, pycurl = self.curl.getinfo, self._pycurl
        self.gate.transfer = None
        if not transfer.has_header or transfer.stream is None:
            transfer.head = self.head[transfer.head_start :]
        if transfer.code:
            transfer.is_poisoned = transfer.is_poisoned or self._was_lost(transfer)
        elif must_part(transfer):
            self._connections.part((getinfo(pycurl.LOCAL_IP), getinfo(pycurl.LOCAL_PORT)))
        if self.body:
            transfer.body = self.body[:]
            self.body.clear()
        self.head.clear()
        if transfer.exchange.has_come is not None:
            transfer.exchange.has_come(getinfo(pycurl.RESPONSE_CODE))
        if transfer.exchange.keeps_wire:
            transfer.sent = self._sent.of(transfer)
        if transfer.code:
            transfer.os_error = getinfo(pycurl.OS_ERRNO)
            transfer.has_connected = getinfo(pycurl.CONNECT_TIME) > 0
        transfer.timings = (
            transfer.dns_s,
            # Over a connection that was open, connecting took no time.
            getinfo(pycurl.CONNECT_TIME) if transfer.is_first else 0.0,
            getinfo(pycurl.APPCONNECT_TIME) if transfer.is_first else 0.0,
            getinfo(pycurl.STARTTRANSFER_TIME),
            getinfo(pycurl.TOTAL_TIME),
        )

    def _was_lost(self, transfer: Transfer) -> bool:
        """Tell whether the server closed an idle connection while the request was on its way (RFC 9112 9.3.1).

        No failure of the request's: if it may be sent twice it is, once, over a new connection. libcurl would do so by
        itself, over any other that is idle; the gate keeps it from that.
        """
        is_again = transfer.code == self._pycurl.E_ABORTED_BY_CALLBACK and transfer.sends > 1
        return (
            (is_again or (transfer.code in _LOST and transfer.sends == 1))
            and not (transfer.is_first or transfer.is_fresh or transfer.head)
            and transfer.upload is None
            and transfer.stopped is None
        )

    def take_body_by(self, write: Callable[[bytes], int | None]) -> None:
        """Have ``write`` take the body of the transfer that was armed."""
        self.curl.setopt(self._pycurl.WRITEFUNCTION, write)

    def progress(self, transfer: Transfer) -> Any:
        """Return something that changes when bytes move; ``None`` while they aren't wanted."""
        stream, upload = transfer.stream, transfer.upload
        if stream is not None and transfer.has_header:
            return None if not stream.is_awaited or stream.is_paused else stream.received
        if upload is not None and upload.is_waiting:
            return None
        mark = len(self.head) + len(self.body)
        if transfer.exchange.request.body is not None:
            return mark, self.curl.getinfo(self._pycurl.SIZE_UPLOAD_T)
        return mark

    def forget(self) -> None:
        """Part from a transfer that couldn't be armed; whatever was set is set anew next time."""
        self._signature = None
        self.gate.transfer = None

    def close(self) -> None:
        """Free the handle."""
        self.curl.close()

    # Options -----------------------------------------------------------------------------------------------------

    def _set_base(self, transfer: Transfer) -> None:
        curl, pycurl = self.curl, self._pycurl
        setopt = curl.setopt
        self._timeout_ms = 0
        setopt(pycurl.NOSIGNAL, 1)
        may_pause = self._has_budget or transfer.stream is not None
        setopt(pycurl.BUFFERSIZE, _SMALL_BUFFER_BYTES if may_pause else _BUFFER_BYTES)
        setopt(pycurl.PATH_AS_IS, 1)
        setopt(pycurl.TCP_NODELAY, 1)
        setopt(pycurl.NOPROXY, "")  # it would read no_proxy of the environment
        setopt(pycurl.PROXY, transfer.way.proxy or "")  # it would read http_proxy
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS if self._is_http2 else pycurl.CURL_HTTP_VERSION_1_1)
        setopt(pycurl.WRITEFUNCTION, self.take)
        setopt(pycurl.HEADERFUNCTION, self.head.append)
        setopt(pycurl.OPENSOCKETFUNCTION, self.gate.open_socket)
        setopt(pycurl.PREREQFUNCTION, self.gate.before_send)
        connect_s = transfer.way.connect_s
        setopt(pycurl.CONNECTTIMEOUT_MS, _MAX_MS if connect_s is None else max(min(int(connect_s * 1000), _MAX_MS), 1))
        cap = transfer.exchange.max_body_bytes
        if cap is not None:
            # Of what is compressed a little more may come than of what it unfolds to; the decoder has the exact cap.
            setopt(pycurl.MAXFILESIZE_LARGE, cap + cap // 8 + 1024)
        if transfer.is_fresh:
            setopt(pycurl.FRESH_CONNECT, 1)
        method = transfer.exchange.request.method or "GET"
        if method == "HEAD":
            setopt(pycurl.NOBODY, 1)
        elif method != "GET":
            if _TOKEN.fullmatch(method) is None:
                raise ValueError(f"method {method[:40]!r} is nothing that HTTP can carry")
            setopt(pycurl.CUSTOMREQUEST, method)
        self._set_tls(transfer)

    def _set_tls(self, transfer: Transfer) -> None:
        setopt, pycurl = self.curl.setopt, self._pycurl
        way = transfer.way
        if way.has_tls:
            verify = way.verify
            source = DEFAULT_CA_BUNDLE_PATH if verify is True or verify is None else verify
            if source:
                path = os.fspath(source)
                if not os.path.exists(path):
                    raise OSError(f"Could not find a suitable TLS CA certificate bundle, invalid path: {path}")
                is_folder = os.path.isdir(path)
                for bundle, folder in ((pycurl.CAINFO, pycurl.CAPATH), (pycurl.PROXY_CAINFO, pycurl.PROXY_CAPATH)):
                    if is_folder:
                        self.curl.unsetopt(bundle)
                        setopt(folder, path)
                    else:
                        setopt(bundle, path)
            else:
                setopt(pycurl.SSL_VERIFYPEER, 0)
                setopt(pycurl.SSL_VERIFYHOST, 0)
                setopt(pycurl.PROXY_SSL_VERIFYPEER, 0)
                setopt(pycurl.PROXY_SSL_VERIFYHOST, 0)
        if way.is_tls and way.cert:
            cert: Any = way.cert
            pair = (cert, None) if isinstance(cert, (str, os.PathLike)) else (cert[0], cert[1])
            certificate: Any = pair[0]
            key: Any = pair[1]
            for what, file in (("certificate", certificate), ("key", key)):
                if file is not None and not os.path.exists(file):
                    raise OSError(f"Could not find the TLS {what} file, invalid path: {file}")
            setopt(pycurl.SSLCERT, os.fspath(certificate))
            setopt(pycurl.SSLKEY, os.fspath(key if key is not None else certificate))

    def _set_headers(self, transfer: Transfer, store: dict[str, Any], is_special: bool) -> None:
        if store == self._lines_of:
            return
        request, proxy = transfer.exchange.request, transfer.way.proxy
        if proxy is not None and "@" in proxy and "proxy-authorization" in store:
            store = {lower: pair for lower, pair in store.items() if lower != "proxy-authorization"}  # libcurl adds it
        self._sent.forget()
        lines = header_lines(store, lacks_body=request.body is None and request.method in _WITH_BODY)
        self.curl.setopt(self._pycurl.HTTPHEADER, lines)
        self._lines_of = None if is_special else dict(store)

    def _set_special(self, transfer: Transfer) -> None:
        setopt, pycurl = self.curl.setopt, self._pycurl
        body: Any = transfer.exchange.request.body
        method = transfer.exchange.request.method or "GET"
        if transfer.upload is not None:
            setopt(pycurl.UPLOAD, 1)
            setopt(pycurl.CUSTOMREQUEST, method)
            setopt(pycurl.INFILESIZE_LARGE, -1 if transfer.upload.length is None else transfer.upload.length)
            setopt(pycurl.READFUNCTION, transfer.upload.read)
        elif body is not None:
            setopt(pycurl.POST, 1)
            setopt(pycurl.POSTFIELDS, body.encode("utf-8") if isinstance(body, str) else bytes(body))
            setopt(pycurl.CUSTOMREQUEST, method)
        if transfer.stream is not None:
            setopt(pycurl.WRITEFUNCTION, transfer.stream.write)
        if transfer.stream is not None or transfer.exchange.accept is not None or method == "HEAD":
            setopt(pycurl.HEADERFUNCTION, self._take_header)

    # Callbacks ---------------------------------------------------------------------------------------------------

    def _taker(self) -> Callable[[bytes], int | None]:
        body, append, look = self.body, self.body.append, self._look_at_redirect

        def take(piece: bytes) -> int | None:
            append(piece)
            return look() if len(body) > _FREE_PIECES else None

        return take

    def _look_at_redirect(self) -> int | None:
        transfer = self.gate.transfer
        if transfer is None or transfer.exchange.keeps_redirect:
            return None
        if len(self.body) == _FREE_PIECES + 1:
            self._redirect_bytes = sum(map(len, self.body)) if _is_redirect(self.head) else None
        elif self._redirect_bytes is not None:
            self._redirect_bytes += len(self.body[-1])
        if self._redirect_bytes is None or self._redirect_bytes <= MOST_REDIRECT_BYTES:
            return None
        transfer.error = BodyTooLarge("the body of a redirect goes on and on", request=transfer.exchange.request)
        return -1

    def _take_header(self, line: bytes) -> int | None:
        self.head.append(line)
        transfer = self.gate.transfer
        if transfer is None:
            return -1
        if line in (b"\r\n", b"\n") and not transfer.has_header and transfer.sends:
            status = self.head[max(transfer.head_start, self._block_start)][:13].split(b" ")
            if len(status) > 1 and status[1][:1] == b"1" and status[1] != b"101":
                self._block_start = len(self.head)  # an interim answer; the one that counts comes after it
                return None
            transfer.has_header = True
            transfer.head = self.head[transfer.head_start :]
            if not self._header_came(transfer):
                return -1
            if transfer.exchange.request.method == "HEAD" and transfer.exchange.request.body is not None:
                transfer.is_bare = True  # libcurl takes the request for a POST, and waits for the answer's body
                return -1
        return None


def _is_redirect(lines: list[bytes]) -> bool:
    """Tell whether header lines are those of an answer that leads elsewhere."""
    start = max((at for at, line in enumerate(lines) if line.startswith(b"HTTP/")), default=0)
    status = lines[start].split(b" ", 2)[1:2] if lines else []
    return bool(status) and status[0] in _REDIRECTS and any(line[:9].lower() == b"location:" for line in lines[start:])


def header_lines(store: dict[str, Any], *, lacks_body: bool) -> list[Any]:
    """Return the request's headers as libcurl takes them, and without those that it would add by itself.

    Args:
        store: of a CaseInsensitiveDict: lower-case name to (name, value).
        lacks_body: whether the request has no body though its method is one that has (RFC 9110 8.6).
    """
    lines: list[Any] = []
    if lacks_body and "content-length" not in store and "transfer-encoding" not in store:
        lines.append("Content-Length: 0")
    for lower, (name, value) in store.items():
        if lower == "content-length" and "transfer-encoding" in store:
            continue  # RFC 9112 6.2: never both; the body goes in chunks
        name, value = _native(name), _native(value)
        # "Name;" is how libcurl is told to send a header that has no value.
        line = f"{name}: {value}" if value.strip() else f"{name};"
        if "\r" in line or "\n" in line or "\0" in line:
            raise InvalidHeader(f"header {name[:40]!r}: its value is nothing that HTTP can carry")
        lines.append(line if line.isascii() else line.encode("latin-1", "surrogateescape"))
    for lower, name in _DEFAULTS:
        if lower not in store:
            lines.append(name)
    return lines


#: What libcurl sends of itself unless it is told not to.
_DEFAULTS = (
    ("expect", "Expect:"),
    ("content-type", "Content-Type:"),
    ("user-agent", "User-Agent:"),
    ("accept", "Accept:"),
    ("proxy-connection", "Proxy-Connection:"),
)


def _native(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _resolve_entries(transfer: Transfer) -> list[str]:
    host = transfer.route.host
    if ":" in host:
        # libcurl shortens an IPv6 address, and leaves one as it was written that would get longer; either has no zone.
        host = host.partition("%")[0]
        short = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
        hosts = [f"[{short}]", f"[{host}]"]
    else:
        hosts = [host]
    shown = ",".join(f"[{one}]" if ":" in one else one for one in transfer.addresses or ())
    return [f"+{one}:{transfer.route.port}:{shown}" for one in hosts]
