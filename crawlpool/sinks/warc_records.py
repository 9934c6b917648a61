"""From an exchange to the bytes of WARC 1.1 records: https://iipc.github.io/warc-specifications/ (ISO 28500:2017).

A block holds the header as it came and the payload as it was on the wire, with chunks undone. A header that announced
chunks would then say what isn't so; it is called ``X-Crawler-Transfer-Encoding``, and a ``Content-Length`` of the
payload is added, as Common Crawl's files have it and as every reader takes it. All else in the header is untouched.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from crawlpool._version import __version__
from crawlpool.clock import iso_utc
from crawlpool.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.models import Result

REVISIT_PROFILE = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
#: What stands in place of a credential.
HIDDEN = b"***"

_WARCINFO = (
    f"software: crawlpool/{__version__}\r\n"
    "format: WARC File Format 1.1\r\n"
    "conformsTo: http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/\r\n"
)
_AT_ONCE = 128  # record IDs made of one call for random bytes
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [a + b for a in _BASE32 for b in _BASE32]
#: hashlib lets go of the interpreter for anything longer. Where another thread runs, to get it back takes longer than
#: to hash a page; only what is larger than this many pieces is hashed beside others.
_PIECE_BYTES, _MOST_PIECES = 2047, 32
# Lines that go on a line before (obsolete folding) are part of it.
_SECRET = re.compile(
    rb"^((?:set-cookie2?|cookie2?|(?:proxy-)?authorization|x-api-key|x-auth-token)[ \t]*:)[^\r\n]*"
    rb"(?:\r?\n[ \t][^\r\n]*)*",
    re.IGNORECASE | re.MULTILINE,
)
_USERINFO = re.compile(rb"(?<=[:\s'\"(<=,])//[^/?#\s]*@")
_CHUNKED = re.compile(rb"^transfer-encoding[ \t]*:", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length[ \t]*:", re.IGNORECASE | re.MULTILINE)
_BLANK_AT_END = re.compile(rb"\r?\n\Z")
_PLAIN_URI = re.compile(r"[!-~]*")


class Earlier(NamedTuple):
    """Where a payload was stored before: the record's file and offset, its date and its target URI."""

    file: str
    offset: int
    date: str
    uri: str


class Captured(NamedTuple):
    """One exchange as it is going to be stored.

    Args:
        uri: what was asked, without userinfo and fragment; printable ASCII.
        date: when, as WARC-Date has it.
        ip: of the server, or ``None``.
        protocol: ``h2``, or ``None`` for HTTP/1.
        request: the request's header as it was sent, and its body; without credentials unless they were asked for.
        is_request_whole: whether the request's body is part of that: one that was read from a file isn't.
        head: the response's header, as it is stored.
        body: the payload; ``None`` where it wasn't whole.
        digest: the payload's SHA-1.
    """

    uri: str
    date: str
    ip: str | None
    protocol: str | None
    request: bytes
    is_request_whole: bool
    head: bytes
    body: bytes | None
    digest: bytes


def captured(result: Result, *, credentials: bool = False) -> Iterator[Captured]:
    """Yield what a result's exchanges were: its redirects in order, then its answer.

    An answer that kept nothing of the wire, a mock's for one, isn't among them.

    Args:
        credentials: whether credentials stay in the headers.
    """
    response: Any = result.response
    if response is None:
        return
    for one in (*response.history, response):
        kept = getattr(one, "kept", None)
        if kept is not None:
            started_s = kept.started_s if kept.started_s is not None else result.started_at_s
            yield _captured(one, kept, started_s or 0.0, credentials)


def _captured(response: Any, kept: Any, started_s: float, credentials: bool) -> Captured:
    request, wire, body = response.request, getattr(response, "wire", None), kept.body
    asked, head = kept.request_head, kept.head
    if not credentials:
        asked, head = hidden(asked), hidden(head)
    if body is not None and request.method != "HEAD":
        head = without_chunks(head, len(body))
    sent = request.body
    is_whole = sent is None or isinstance(sent, (bytes, bytearray, str))
    if sent and is_whole:
        asked += sent.encode() if isinstance(sent, str) else bytes(sent)
    ip = None if wire is None else wire.ip
    return Captured(
        uri_of(request.url),
        iso_utc(started_s),
        None if ip is None else ip.partition("%")[0],
        kept.protocol,
        asked,
        is_whole,
        head,
        body,
        _sha1(body or b""),
    )


def uri_of(url: str) -> str:
    """Return a URL as a target URI: without userinfo and fragment, and with nothing in it that could end its line."""
    uri = redact_url(url).partition("#")[0]
    return uri if _PLAIN_URI.fullmatch(uri) else quote(uri, safe="!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", errors="replace")


def hidden(head: bytes) -> bytes:
    """Return a header without what lets somebody in: values of cookies and logins, and the userinfo of URLs."""
    lower = head.lower()
    # The pattern takes ten times as long as to look for these, and few have any.
    if b"cookie" in lower or b"authorization" in lower or b"x-api-key" in lower or b"x-auth-token" in lower:
        head = _SECRET.sub(rb"\1 " + HIDDEN, head)
    return _USERINFO.sub(b"//" + HIDDEN + b"@", head) if b"@" in head else head


def without_chunks(head: bytes, length: int) -> bytes:
    """Return the header of an answer whose chunks were undone, ``length`` bytes of them; another's as it is."""
    if b"transfer-encoding" not in head.lower() or _CHUNKED.search(head) is None:
        return head
    head = _CHUNKED.sub(b"X-Crawler-Transfer-Encoding:", head)
    head = _LENGTH.sub(b"X-Crawler-Content-Length:", head)
    blank = _BLANK_AT_END.search(head)
    end = b"\r\n" if blank is None else blank[0]
    return head[: len(head) - len(end)] + b"Content-Length: %d" % length + end + end


def warcinfo(name: str, ids: RecordIds, date: str) -> bytes:
    """Return the record that a file begins with.

    Args:
        name: the file's own.
    """
    block = _WARCINFO.encode()
    safe = quote(name, safe=" !#$&'()+,;=@[]^_`{}~")
    return (
        f"WARC/1.1\r\nWARC-Type: warcinfo\r\nWARC-Record-ID: {ids.new()}\r\nWARC-Date: {date}\r\n"
        f"WARC-Filename: {safe}\r\nContent-Type: application/warc-fields\r\n"
        f"WARC-Block-Digest: {digest_text(_sha1(block))}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    ).encode() + b"%b\r\n\r\n" % block


def response_and_request(one: Captured, ids: RecordIds, earlier: Earlier | None = None) -> tuple[bytes, bytes]:
    """Return the two records of an exchange.

    Args:
        earlier: where the same payload lies already: then it isn't stored again, and the record is a ``revisit``.
    """
    identity, other = ids.new(), ids.new()
    common = f"WARC-Target-URI: {one.uri}\r\nWARC-Date: {one.date}\r\n"
    if one.ip is not None:
        common += f"WARC-IP-Address: {one.ip}\r\n"
    if one.protocol is not None:
        common += f"WARC-Protocol: {one.protocol}\r\n"
    body, more, payload_digest = one.body or b"", "", f"WARC-Payload-Digest: {digest_text(one.digest)}\r\n"
    kind = "response"
    if earlier is not None:
        kind, body = "revisit", b""
        more = (
            f"WARC-Profile: {REVISIT_PROFILE}\r\nWARC-Refers-To-Target-URI: {earlier.uri}\r\n"
            f"WARC-Refers-To-Date: {earlier.date}\r\nWARC-Refers-To-Filename: {quote(earlier.file)}\r\n"
            f"WARC-Refers-To-File-Offset: {earlier.offset}\r\n"
        )
    elif one.body is None:
        more, payload_digest = "WARC-Truncated: unspecified\r\n", ""
    response = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: {identity}\r\n{common}{more}"
        f"Content-Type: application/http;msgtype=response\r\n"
        f"WARC-Block-Digest: {digest_text(_sha1(one.head, body))}\r\n{payload_digest}"
        f"Content-Length: {len(one.head) + len(body)}\r\n\r\n"
    )
    request = (
        f"WARC/1.1\r\nWARC-Type: request\r\nWARC-Record-ID: {other}\r\n{common}"
        f"WARC-Concurrent-To: {identity}\r\nContent-Type: application/http;msgtype=request\r\n"
        f"WARC-Block-Digest: {digest_text(_sha1(one.request))}\r\n"
        f"{'' if one.is_request_whole else 'WARC-Truncated: unspecified' + chr(13) + chr(10)}"
        f"Content-Length: {len(one.request)}\r\n\r\n"
    )
    return (
        b"".join((response.encode(), one.head, body, b"\r\n\r\n")),
        b"".join((request.encode(), one.request, b"\r\n\r\n")),
    )


def digest_text(sha1: bytes) -> str:
    """Return a SHA-1 as WARC files have it: ``sha1:`` and base 32."""
    # Two digits at once, from forty bits at once: base64.b32encode takes twice as long.
    of, pairs = int.from_bytes, _PAIRS
    a, b, c, d = of(sha1[:5], "big"), of(sha1[5:10], "big"), of(sha1[10:15], "big"), of(sha1[15:], "big")
    return (
        f"sha1:{pairs[a >> 30]}{pairs[a >> 20 & 1023]}{pairs[a >> 10 & 1023]}{pairs[a & 1023]}"
        f"{pairs[b >> 30]}{pairs[b >> 20 & 1023]}{pairs[b >> 10 & 1023]}{pairs[b & 1023]}"
        f"{pairs[c >> 30]}{pairs[c >> 20 & 1023]}{pairs[c >> 10 & 1023]}{pairs[c & 1023]}"
        f"{pairs[d >> 30]}{pairs[d >> 20 & 1023]}{pairs[d >> 10 & 1023]}{pairs[d & 1023]}"
    )


def _sha1(*parts: bytes) -> bytes:
    hashed = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        if _PIECE_BYTES < len(part) <= _PIECE_BYTES * _MOST_PIECES:
            view = memoryview(part)
            for at in range(0, len(part), _PIECE_BYTES):
                hashed.update(view[at : at + _PIECE_BYTES])
        else:
            hashed.update(part)
    return hashed.digest()


class RecordIds:
    """Makes random record IDs: UUIDs of version 4, in a third of the time that ``uuid`` takes. Thread-safe."""

    def __init__(self) -> None:
        # Each call of the system lets go of the interpreter, and getting it back takes longer than the call. A deque's
        # own steps need no lock.
        self._left: collections.deque[str] = collections.deque()

    def new(self) -> str:
        """Return an ID in its brackets."""
        while True:
            try:
                return _id_of(self._left.popleft())
            except IndexError:
                text = os.urandom(16 * _AT_ONCE).hex()
                self._left.extend(text[at : at + 32] for at in range(0, len(text), 32))


def _id_of(text: str) -> str:
    return f"<urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANTS[text[16]]}{text[17:20]}-{text[20:32]}>"


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
