"""What a header must be to be believed: its lines, its size, and where it says that the body ends.

Both transports ask here, so that they take the same answers and refuse the same ones. http.client makes something of
nearly everything, libcurl of some of it; two readers of one header that differ about where its body ends is how one
answer's bytes get into another's (RFC 9112 11.2).
"""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How many lines a header may have, and bytes in all of them together, line ends included.
MOST_HEADERS, MOST_HEADER_BYTES = 100, 64 * 1024
#: Interim answers before the one that counts.
MOST_INTERIM = 16
#: What ends a header: a lone LF is taken for a line's end (RFC 9112 2.2).
BLANK = (b"\r\n", b"\n")
SWITCHING = 101

#: A status line (RFC 9112 4). The reason may be missing, its space too.
STATUS_LINE = re.compile(rb"HTTP/(\d(?:\.\d)?) ([1-9]\d\d)(?: ([^\r\n\0]*))?\r?\n")
#: A field line. The name takes more characters than RFC 9110 5.1 has, as servers do; space before the colon, a bare CR
#: and a NUL are what readers differ about.
FIELD_LINE = re.compile(rb"([!-9;-~]+):[ \t]*([^\r\n\0]*)\r?\n")
_NAMELESS = re.compile(rb":[^\r\n\0]*\r?\n")
_LENGTH = re.compile(r"[0-9]+")
_MOST_LENGTH = 2**63 - 1  # as libcurl counts
_PLAIN_DIGITS = 18
_MOST_SHOWN = 40


class BrokenHeader(http.client.HTTPException):
    """An answer's header isn't one that HTTP allows."""


class BrokenLength(BrokenHeader):
    """A Content-Length is no number, or two of them differ."""


def unfolded(lines: Sequence[bytes]) -> list[bytes]:
    """Return field lines with each that goes on the one before it joined to that by a space (RFC 9112 5.2).

    A line that has no name at all is left out, as http.client and libcurl do.

    Raises:
        BrokenHeader: when the first line goes on one that isn't there.
    """
    joined: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not joined:
                raise BrokenHeader("the header begins with a line that goes on another")
            before = joined[-1]
            joined[-1] = before[: -2 if before.endswith(b"\r\n") else -1] + b" " + line.lstrip(b" \t")
        else:
            joined.append(line)
    return [line for line in joined if _NAMELESS.fullmatch(line) is None]


def field_of(line: bytes) -> tuple[str, str]:
    """Return name and value of an unfolded field line.

    Raises:
        BrokenHeader: for a line without colon, a space in the name, a bare CR or a NUL.
    """
    found = FIELD_LINE.fullmatch(line)
    if found is None:
        raise BrokenHeader(f"a header line that is none: {line[:_MOST_SHOWN]!r}")
    return found[1].decode("ascii"), found[2].decode("iso-8859-1")


def too_many() -> BrokenHeader:
    """Return the error for a header of too many lines."""
    return BrokenHeader(f"got more than {MOST_HEADERS} headers")


def too_large() -> BrokenHeader:
    """Return the error for a header of too many bytes."""
    return BrokenHeader(f"got more than {MOST_HEADER_BYTES // 1024} KiB of headers")


def too_many_interim() -> BrokenHeader:
    """Return the error for a server that says again and again that it is at it."""
    return BrokenHeader("interim answers without end")


def body_length(length: str | None, coding: str | None) -> int | None:
    """Return how many bytes a header says that its body has; ``None`` where it doesn't say (RFC 9112 6.3).

    Args:
        length: the values of Content-Length, joined by commas; ``None`` without any.
        coding: those of Transfer-Encoding in the same way.

    Raises:
        BrokenHeader: for a transfer coding that isn't just ``chunked``, and for one along with a length. RFC 9112 lets
            a client read the latter as chunked; a proxy in between may have gone by the length.
        BrokenLength: for a length that is no number, is too large to be one, or for two that differ.
    """
    if coding is not None:
        if coding.strip(" \t").lower() != "chunked":
            raise BrokenHeader(f"a transfer coding other than chunked: {coding[:_MOST_SHOWN]!r}")
        if length is not None:
            raise BrokenHeader("a Content-Length along with a Transfer-Encoding")
        return None
    if length is None:
        return None
    if len(length) <= _PLAIN_DIGITS and _LENGTH.fullmatch(length):
        return int(length)
    found = set()
    for part in length.split(","):  # RFC 9110 8.6: the same one several times is one
        digits = part.strip(" \t")
        if not _LENGTH.fullmatch(digits):
            raise BrokenLength(f"a Content-Length that is no number: {length[:_MOST_SHOWN]!r}")
        digits = digits.lstrip("0")
        if len(digits) > _PLAIN_DIGITS + 1 or int(digits or "0") > _MOST_LENGTH:
            raise BrokenLength(f"a Content-Length beyond all measure: {length[:_MOST_SHOWN]!r}")
        found.add(int(digits or "0"))
    if len(found) > 1:
        raise BrokenLength(f"Content-Lengths that differ: {length[:_MOST_SHOWN]!r}")
    return found.pop()


def must_close(status: int, version: str, length: int | None, *, has_coding: bool) -> bool:
    """Tell whether a connection isn't to be used again though its answer can be read.

    Args:
        status: of the answer.
        version: ``"1.0"`` or ``"1.1"``.
        length: what ``body_length`` returned.
        has_coding: whether there is a Transfer-Encoding.

    A 204 that says that it has a body may send one (RFC 9110 8.6 and RFC 9112 6.1 forbid it to say so), and HTTP/1.0
    knows no transfer coding: whoever stands in between may see the body's end elsewhere (RFC 9112 6.1).
    """
    return (status == http.client.NO_CONTENT and (has_coding or bool(length))) or (has_coding and version == "1.0")


def is_doubtful(lines: Sequence[bytes]) -> bool:
    """Tell, quickly, whether what libcurl took for a header calls for a closer look before its connection is kept.

    Args:
        lines: status line, fields, blank line; maybe interim answers before them, and trailers after.

    It says no of nearly every header, mostly since its lines were seen before. What libcurl refuses by itself isn't
    looked for, and neither is a name of odd bytes: such a header is refused, but everybody reads its body alike.
    """
    if len(lines) > MOST_HEADERS + 2:
        return True
    if _quiet.issuperset(lines):
        return False
    for line in lines:
        if line in _quiet:
            continue
        if len(line) > _MOST_QUIET_BYTES and sum(map(len, lines)) > MOST_HEADER_BYTES:
            return True
        if line.startswith(b"HTTP/"):
            found = STATUS_LINE.fullmatch(line)
            if found is not None and found[1] == b"2":
                return False  # a stream is refused, and not its connection
            if found is None or found[1] != b"1.1" or found[2][:1] == b"1" or found[2] == b"204":
                return True
        elif line[:1] in _SPACES or (name := line.partition(b":")[0])[-1:] in _SPACES:
            return True
        elif len(name) == _CODING_SIZE and name.lower() == b"transfer-encoding":
            lower = b"".join(lines).lower()
            if lower.count(b"\ntransfer-encoding") > 1 or b"\ntransfer-encoding: chunked\r\n" not in lower:
                return True
            if b"\ncontent-length:" in lower:
                return True
            continue  # for the next header this has to be asked again
        if len(line) <= _MOST_QUIET_BYTES:
            if len(_quiet) >= _MOST_QUIET:
                _quiet.clear()  # what comes often is soon there again
            _quiet.add(line)
    return False


_SPACES = (b" ", b"\t")
_CODING_SIZE = len("transfer-encoding")
_MOST_QUIET, _MOST_QUIET_BYTES = 4096, 200
_quiet: set[bytes] = set()  # lines that nobody need look at twice, whatever they stand beside
