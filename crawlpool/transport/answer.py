"""http.client's answer, read with less trust and in half the time: status line, header and chunk sizes.

``http.client`` hands each header to the parser of e-mails, which takes a quarter of the CPU of a whole request, and
makes something of whatever comes. Here a header is what ``transport/fields.py`` takes for one, or an error.
"""

from __future__ import annotations

import email.parser
import http.client
import io
import re
from typing import Any

from crawlpool.errors import CutHeader, InvalidLength, ProtocolError
from crawlpool.transport.fields import (
    BLANK,
    FIELD_LINE,
    MOST_HEADER_BYTES,
    MOST_HEADERS,
    MOST_INTERIM,
    STATUS_LINE,
    SWITCHING,
    BrokenLength,
    body_length,
    field_of,
    must_close,
    too_large,
    too_many,
    too_many_interim,
    unfolded,
)
from crawlpool.transport.keeping import Kept, final_head

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
# As FIELD_LINE, of text: each line is decoded once.
_PLAIN_LINE = re.compile(FIELD_LINE.pattern.decode("ascii")).fullmatch
_READ_ONCE = 65536
_CUT = "the connection ended in the middle of the header"
_MOST_AT_ONCE = 16 * 1024 * 1024


class HeaderCut(http.client.HTTPException):
    """The connection ended before the blank line that ends a header."""


class Unanswered(http.client.RemoteDisconnected):
    """The connection broke before a byte of the answer; ``__cause__`` is how, where it didn't just end."""


def read_lines(fp: Any) -> list[bytes]:
    """Read the lines of a header, up to its blank one, which isn't among them.

    Raises:
        HeaderCut: when the stream ends before that.
        BrokenHeader: for more than 100 lines, or 64 KiB.
    """
    lines: list[bytes] = []
    readline, room = fp.readline, MOST_HEADER_BYTES
    try:
        while True:
            line = readline(room + 3)
            if line in BLANK:
                return lines
            if not line:
                raise HeaderCut(_CUT)
            room -= len(line)
            if room < 0:
                raise too_large()
            lines.append(line)
            if len(lines) > MOST_HEADERS:
                raise too_many()
    except ConnectionError as error:
        raise HeaderCut(_CUT) from error


def read_header(fp: Any) -> tuple[http.client.HTTPMessage, str | None, str | None]:
    """Read a header up to its blank line.

    Returns:
        The header as http.client has it, the values of its Content-Length and those of its Transfer-Encoding, each
        joined by commas, or ``None``.

    Raises:
        HeaderCut: when the stream ends before that.
        BrokenHeader: for what isn't one, and for one too large.
    """
    lines = read_lines(fp)
    fields: list[tuple[str, str]] = []
    for line in lines:
        found = _PLAIN_LINE(line.decode("iso-8859-1"))
        if found is None:
            fields = [field_of(one) for one in unfolded(lines)]
            break
        fields.append(found.groups())  # type: ignore[arg-type]
    length = coding = None
    for name, value in fields:
        size = len(name)
        if size == 14 and name.lower() == "content-length":
            length = value if length is None else f"{length}, {value}"
        elif size == 17 and name.lower() == "transfer-encoding":
            coding = value if coding is None else f"{coding}, {value}"
    return _message(fields), length, coding


def parse_header(lines: list[bytes]) -> http.client.HTTPMessage:
    """Make of any header lines what http.client makes of them: of those that were kept in a file, for one."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        found = FIELD_LINE.fullmatch(line)
        if found is None:
            text = b"".join([*lines, b"\r\n"]).decode("iso-8859-1")
            return email.parser.Parser(_class=http.client.HTTPMessage).parsestr(text)
        fields.append((found[1].decode("ascii"), found[2].decode("iso-8859-1")))
    return _message(fields)


def _message(fields: list[tuple[str, str]]) -> http.client.HTTPMessage:
    message: Any = http.client.HTTPMessage()
    message._headers = fields
    message._payload = ""  # as the parser leaves it
    return message  # type: ignore[no-any-return]


class Answer(http.client.HTTPResponse):
    """The answer of a tracked connection."""

    kept: Kept | None = None
    has_surplus = False  # whether bytes came behind its end: then nothing may be asked over its connection any more

    def begin(self) -> None:
        """Read status line and header, and find out how the body ends (RFC 9112 6.3).

        Raises:
            Unanswered: when nothing came.
            http.client.HTTPException: for what is no answer; ``HeaderCut`` and ``BrokenHeader`` are such.
        """
        this: Any = self
        if this.headers is not None:  # it was called before
            return
        version, status, reason = self._read_status()
        this.code = this.status = status
        this.reason = reason.strip()
        this.version = 10 if version == "1.0" else 11
        header, length, coding = read_header(this.fp)
        this.headers = this.msg = header
        this.length = body_length(length, coding)
        this.chunked = coding is not None
        this.chunk_left = None
        this.will_close = this._check_close() or must_close(status, version, this.length, has_coding=coding is not None)
        if status in (204, 304) or status == SWITCHING:
            this.length, this.chunked = 0, False  # whatever it says (RFC 9112 6.3)
        elif this._method == "HEAD":
            this.length = 0
        if not this.will_close and not this.chunked and this.length is None:
            this.will_close = True  # nothing else tells where the body ends

    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips 100 and takes any other interim answer, such as 103, for the answer (RFC 9110 15.2).
        readline = self.fp.readline
        for number in range(MOST_INTERIM + 1):
            try:
                line = readline(_READ_ONCE)
            except ConnectionError as error:
                if number:
                    raise
                raise Unanswered(str(error)) from error
            if not line:
                gone = http.client.RemoteDisconnected if number else Unanswered
                raise gone("Remote end closed connection without response")
            found = STATUS_LINE.fullmatch(line)
            if found is None:
                raise http.client.BadStatusLine(repr(line[:80].rstrip().decode("iso-8859-1")))
            if found[1] not in (b"1.1", b"1.0"):
                raise http.client.UnknownProtocol(found[1].decode("ascii"))
            status = int(found[2])
            if status >= 200 or status == SWITCHING:
                return found[1].decode("ascii"), status, (found[3] or b"").decode("iso-8859-1")
            read_header(self.fp)
        raise too_many_interim()

    def _read_next_chunk_size(self) -> int:
        # http.client's int() takes -5, +5, 0x5 and 5_0 for sizes.
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(_READ_ONCE))
        if found is None:
            raise ValueError("a line that is no chunk size")
        return int(found[1], 16)

    def _close_conn(self) -> None:
        # What the buffer holds beyond the end would go with it, and what comes of it later be the next one's answer.
        fp = self.fp
        if not self.will_close and type(fp) is io.BufferedReader:
            self.has_surplus = _has_more(fp)
        super()._close_conn()  # type: ignore[misc]

    def _safe_read(self, amt: int) -> bytes:
        if amt > _MOST_AT_ONCE:  # room for all of it would be made first, however much a server says
            return self._read_pieces(amt)
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]
        if amt == 2 and getattr(self, "chunk_left", None) == 0 and data != b"\r\n":
            raise ValueError("a chunk that doesn't end where its size says")
        return data

    def _read_pieces(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = self.fp.read(min(size, _MOST_AT_ONCE))
            if not piece:
                raise http.client.IncompleteRead(b"".join(pieces), size)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _read_and_discard_trailer(self) -> None:
        # http.client takes the end of the connection for the end of the trailer, and reads lines without end.
        try:
            for line in unfolded(read_lines(self.fp)):
                field_of(line)
        except http.client.HTTPException as error:
            raise ValueError(f"its trailer: {error}") from None


def _has_more(fp: io.BufferedReader) -> bool:
    """Tell whether a socket's file has something to be read at once; a connection that ended has nothing."""
    sock: Any = getattr(fp.raw, "_sock", None)
    if sock is None:
        return False
    try:
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            return bool(fp.peek(1))
        finally:
            sock.settimeout(timeout)
    except (OSError, ValueError):  # it is closed, or shut; TLS says in its own way that nothing is there
        return False


class KeepingAnswer(Answer):
    """The answer of an exchange that keeps the wire."""

    def begin(self) -> None:
        """As ``Answer.begin``, keeping the header's bytes."""
        if self.headers is not None:
            return
        fp = self.fp
        tap = _Tap(fp)
        self.fp = tap
        try:
            super().begin()
        finally:
            if self.fp is tap:
                self.fp = fp
        self.kept = Kept(final_head(tap.lines), b"")


class _Tap:
    """Keeps the lines that are read through it."""

    def __init__(self, fp: Any) -> None:
        self._fp = fp
        self.lines: list[bytes] = []

    def readline(self, limit: int = -1) -> bytes:
        """Read a line."""
        line: bytes = self._fp.readline(limit)
        self.lines.append(line)
        return line

    def close(self) -> None:
        """Close what is read."""
        self._fp.close()


def breach_of(error: http.client.HTTPException, request: Any) -> ProtocolError | CutHeader:
    """Return the error for a header that was refused here or by ``transport/fields.py``.

    Args:
        error: what they raised; it becomes the cause.
        request: the request that was answered so.
    """
    if isinstance(error, HeaderCut):
        return CutHeader(_CUT, request=request)
    kind = InvalidLength if isinstance(error, BrokenLength) else ProtocolError
    breach = kind(str(error), request=request)
    breach.__cause__ = error
    return breach


def check_switch(status: int, request: Any) -> None:
    """Look whether a server goes over to another protocol that nobody asked for (RFC 9110 15.2.2).

    Args:
        status: of the answer.
        request: the prepared request.

    Raises:
        ProtocolError: for a 101 to a request without ``Upgrade``: what follows on the connection is anybody's guess.
    """
    if status == SWITCHING and not (request is not None and "upgrade" in request.headers):
        raise ProtocolError("the server goes over to a protocol that nobody asked for (101)", request=request)
