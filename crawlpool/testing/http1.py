"""The HTTP/1.1 that the test server speaks: requests read from a stream, answers written to a socket."""

from __future__ import annotations

import dataclasses
import email.utils
import http
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from requests.structures import CaseInsensitiveDict

from crawlpool.config import check, is_count, is_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE_BYTES = 64 * 1024
MAX_FIELDS = 200
BODILESS = frozenset({204, 304})


class BadRequest(ValueError):
    """A client sent what is no HTTP/1.1 request; the message says what was wrong with it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as it arrived at a server of ``crawlpool.testing``.

    Args:
        method: as sent.
        target: what stood on the request line: ``/a?b=c``, or a whole URL when the client takes the server for a proxy.
        fields: the header fields in the order and spelling in which they came.
        body: the whole body, chunks already joined.
        peer: address and port of the client.
        host: the address of the server that the client connected to.
        connection: which connection of the server brought it, from 1.
        keeps_alive: whether the client wants to go on using the connection.
        arrived_s: when its header had been read, in seconds of the monotonic clock.

    Immutable, so safe in threads.
    """

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    peer: tuple[str, int]
    host: str
    connection: int
    keeps_alive: bool = True
    arrived_s: float = 0.0

    @property
    def path(self) -> str:
        """The path as sent, without the query; ``/a`` for ``/a?b=c``."""
        return urlsplit(self._origin_form).path or "/"

    @property
    def query(self) -> str:
        """The query as sent, without the question mark; empty without one."""
        return urlsplit(self._origin_form).query

    @property
    def headers(self) -> CaseInsensitiveDict[str]:
        """The header fields by name in any case; repeated ones joined by ``", "`` (RFC 9110, 5.3)."""
        joined: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for name, value in self.fields:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    @property
    def _origin_form(self) -> str:
        # "//x" would be taken for a host by urlsplit: the slash is put before it and belongs to the path.
        return f"http://host{self.target}" if self.target.startswith("/") else self.target


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server of ``crawlpool.testing`` shall answer.

    Args:
        status: the status code.
        headers: header fields, as a mapping or as pairs (for repeated ones such as ``Set-Cookie``). ``Content-Length``
            and ``Transfer-Encoding`` are added unless they stand here; a length that isn't true is sent as it is, and
            the connection closed after the answer.
        body: bytes, or an iterable of pieces that are each sent on their own.
        delay_s: seconds to wait before the first byte; a server that stops meanwhile drops the connection.
        chunked: send the body in chunks, without a length. Pieces without chunks and length end with the connection.
        close: close the connection after this answer.
        raw: exactly these bytes instead of all the above, then the connection is closed: for answers that break HTTP.

    Raises:
        ConfigError: for what can't be sent: a body of text, for one, or a body in the place of the headers.
    """

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: bytes | Iterable[bytes] = b""
    delay_s: float = 0.0
    chunked: bool = False
    close: bool = False
    raw: bytes | None = None

    def __post_init__(self) -> None:
        check(is_count(self.status, 100), "status", self.status, "a number such as 404")
        given: Any = self.headers
        is_fields = isinstance(given, (Mapping, Sequence)) and not isinstance(given, (str, bytes))
        check(is_fields, "headers", given, "a dict or pairs; a body is the third argument, or body=")
        for pair in given.items() if isinstance(given, Mapping) else given:
            is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
            is_text = is_pair and isinstance(pair[0], str) and isinstance(pair[1], (str, int))
            check(is_text, "headers", pair, "each field is a name and a value, both text")
        body: Any = self.body
        if not isinstance(body, bytes):
            is_pieces = isinstance(body, Iterable) and not isinstance(body, (str, bytearray, memoryview, Mapping))
            check(is_pieces, "body", body, "bytes, or pieces of bytes; text becomes bytes by .encode()")
        check(self.raw is None or isinstance(self.raw, bytes), "raw", self.raw, "bytes, or None")
        check(is_seconds(self.delay_s, zero=True), "delay_s", self.delay_s, "a number of seconds")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The header fields as pairs."""
        return list(self.headers.items()) if isinstance(self.headers, Mapping) else list(self.headers)


def read_request(
    reader: BinaryIO,
    *,
    peer: tuple[str, int],
    host: str,
    connection: int,
    go_on: Callable[[], None],
) -> Request | None:
    """Read one request.

    Args:
        reader: a buffered stream at the start of a request.
        peer: address and port of the client.
        host: the server's address.
        connection: ordinal of the connection.
        go_on: called before the body is read when the client waits for ``100 Continue``.

    Returns:
        The request, or ``None`` when the client closed the connection before another one.

    Raises:
        BadRequest: when it is no HTTP/1.x or ends in the middle.
    """
    line = _line(reader)
    while line == "":  # RFC 9112, 2.2: an empty line before the request line is ignored
        line = _line(reader)
    if line is None:
        return None
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(f"request line {line[:80]!r}")
    fields: list[tuple[str, str]] = []
    while True:
        line = _line(reader)
        if line is None:
            raise BadRequest("the headers ended in the middle")
        if not line:
            break
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or len(fields) >= MAX_FIELDS:
            raise BadRequest(f"header line {line[:80]!r}")
        fields.append((name, value.strip(" \t")))
    lower = {name.lower(): value for name, value in fields}
    arrived_s = time.monotonic()
    if lower.get("expect", "").lower() == "100-continue":
        go_on()
    connection_words = lower.get("connection", "").lower()
    return Request(
        method=words[0],
        target=words[1],
        fields=tuple(fields),
        body=_body(reader, lower),
        peer=peer,
        host=host,
        connection=connection,
        keeps_alive=words[2] == "HTTP/1.1" and "close" not in connection_words,
        arrived_s=arrived_s,
    )


def pieces_of(answer: Answer, method: str) -> tuple[Iterator[bytes], bool]:
    """Return what to send for ``answer`` to a request with ``method``, and whether the connection may stay open.

    A body that is given as bytes goes out together with its head in one piece: one packet where it fits.
    """
    if answer.raw is not None:
        return iter((answer.raw,)), False
    pairs = answer.pairs
    names = {name.lower(): value for name, value in pairs}
    bodiless = answer.status in BODILESS or answer.status < 200
    whole = answer.body if isinstance(answer.body, bytes) else None
    stays = not answer.close and names.get("connection", "").lower() != "close"
    if "transfer-encoding" in names:
        stays = False  # the body is whatever the test wrote by hand
    elif "content-length" in names:
        stays = stays and (
            bodiless or method == "HEAD" or (whole is not None and names["content-length"] == str(len(whole)))
        )
    elif answer.chunked and not bodiless:
        pairs.append(("Transfer-Encoding", "chunked"))
    elif whole is not None and not bodiless:
        pairs.append(("Content-Length", str(len(whole))))
    elif not bodiless:
        stays = False
    if not stays and "connection" not in names:
        pairs.append(("Connection", "close"))
    if "date" not in names:
        pairs.append(("Date", email.utils.formatdate(time.time(), usegmt=True)))
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}", *(f"{name}: {value}" for name, value in pairs)]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    in_chunks = answer.chunked and "transfer-encoding" not in names and "content-length" not in names
    if bodiless or method == "HEAD":
        return iter((head,)), stays
    if whole is None:
        return _streamed(head, answer.body, in_chunks), stays
    if in_chunks:
        return iter((head + _chunk(whole) + b"0\r\n\r\n",)), stays
    return iter((head + whole,)), stays


def _streamed(head: bytes, pieces: bytes | Iterable[bytes], in_chunks: bool) -> Iterator[bytes]:
    assert not isinstance(pieces, bytes)
    yield head
    for piece in pieces:
        if piece:  # an empty chunk would end the body
            yield _chunk(piece) if in_chunks else piece
    if in_chunks:
        yield b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _line(reader: BinaryIO) -> str | None:
    """Return the next line without its end; ``None`` at the end of the stream."""
    line = reader.readline(MAX_LINE_BYTES)
    if not line:
        return None
    if not line.endswith(b"\n"):
        raise BadRequest("a line without end")
    return line.rstrip(b"\r\n").decode("latin-1")


def _exactly(reader: BinaryIO, count: int) -> bytes:
    data = reader.read(count)
    if len(data) != count:
        raise BadRequest(f"the body ended after {len(data)} of {count} bytes")
    return data


def _body(reader: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        parts: list[bytes] = []
        while True:
            size_text = (_line(reader) or "").partition(";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise BadRequest(f"chunk size {size_text[:20]!r}") from None
            if size == 0:
                while _line(reader):  # trailers
                    pass
                return b"".join(parts)
            parts.append(_exactly(reader, size))
            _line(reader)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(f"Content-Length {length[:20]!r}")
    return _exactly(reader, int(length))
