"""http.client's answer, read with less trust and in half the time: status line, header and chunk sizes.

``http.client`` hands each header to the parser of e-mails, which takes a quarter of the CPU of a whole request. Nearly
every header is plain ``Name: value`` lines; those are taken apart here, and what isn't plain goes to that parser still.
"""

from __future__ import annotations

import email.parser
import http.client
import re
import sys
from typing import Any

from crawlpool.transport.keeping import Kept, final_head

#: Lines that a header may have, and bytes of each: as http.client has them.
MOST_HEADERS, MOST_LINE_BYTES = 100, 65536
_MAX_INTERIM = 16
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
# The lines of which the e-mail parser makes exactly a name and a value: no folding, no bare CR, a name without spaces.
# tests/transport/test_answer.py holds that it makes the same of them.
_PLAIN_LINE = re.compile(r"([!-9;-~]+):[ \t]*([^\r\n]*)\r?\n")
BLANK = (b"\r\n", b"\n")


class HeaderCut(http.client.HTTPException):
    """The connection ended before the blank line that ends a header."""


def read_header(fp: Any) -> http.client.HTTPMessage:
    """Read a header up to its blank line.

    Raises:
        HeaderCut: when the stream ends before that.
        http.client.LineTooLong: for a line of more than 64 KiB.
        http.client.HTTPException: for more than 100 lines, as http.client has it.
    """
    lines: list[bytes] = []
    readline = fp.readline
    while True:
        line = readline(MOST_LINE_BYTES + 1)
        if line in BLANK:
            return parse_header(lines)
        if not line:
            raise HeaderCut("the connection ended in the middle of the header")
        if len(line) > MOST_LINE_BYTES:
            raise http.client.LineTooLong("header line")
        lines.append(line)
        if len(lines) > MOST_HEADERS:
            raise http.client.HTTPException(f"got more than {MOST_HEADERS} headers")


def parse_header(lines: list[bytes]) -> http.client.HTTPMessage:
    """Make of header lines what http.client makes of them."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        found = _PLAIN_LINE.fullmatch(line.decode("iso-8859-1"))
        if found is None:
            text = b"".join([*lines, b"\r\n"]).decode("iso-8859-1")
            return email.parser.Parser(_class=http.client.HTTPMessage).parsestr(text)
        fields.append((found[1], found[2]))
    message: Any = http.client.HTTPMessage()
    message._headers = fields
    message._payload = ""  # as the parser leaves it
    return message  # type: ignore[no-any-return]


class Answer(http.client.HTTPResponse):
    """The answer of a tracked connection."""

    kept: Kept | None = None

    def begin(self) -> None:
        """Read status line and header, and find out how the body ends (RFC 9112 6.3)."""
        this: Any = self
        if this.headers is not None:  # it was called before
            return
        version, status, reason = self._read_status()
        this.code = this.status = status
        this.reason = reason.strip()
        if version in ("HTTP/1.0", "HTTP/0.9"):
            this.version = 10
        elif version.startswith("HTTP/1."):
            this.version = 11
        else:
            raise http.client.UnknownProtocol(version)
        header = this.headers = this.msg = read_header(this.fp)
        this.chunked = (header.get("transfer-encoding") or "").lower() == "chunked"
        this.chunk_left = None
        this.will_close = this._check_close()
        this.length = None
        given = header.get("content-length")
        if given and not this.chunked:
            try:
                this.length = int(given)
            except ValueError:
                this.length = None
            if this.length is not None and not 0 <= this.length <= sys.maxsize:
                this.length = None
        if status in (204, 304) or 100 <= status < 200 or this._method == "HEAD":
            this.length = 0
        if not this.will_close and not this.chunked and this.length is None:
            this.will_close = True  # nothing else tells where the body ends

    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips 100 and takes any other interim answer, such as 103, for the answer (RFC 9110 15.2).
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            read_header(self.fp)
        raise http.client.BadStatusLine("interim answers without end")

    def _read_next_chunk_size(self) -> int:
        # http.client's int() takes -5, +5, 0x5 and 5_0 for sizes.
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(MOST_LINE_BYTES))
        if found is None:
            raise ValueError("a line that is no chunk size")
        return int(found[1], 16)

    def _safe_read(self, amt: int) -> bytes:
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]
        if amt == 2 and getattr(self, "chunk_left", None) == 0 and data != b"\r\n":
            raise ValueError("a chunk that doesn't end where its size says")
        return data


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
