"""Reading an answer's body whole: capped, decoded by our own decoder, cut short only with an error."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING, Any

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ProtocolError as U3ProtocolError
from urllib3.response import HTTPResponse

from crawlpool.decode import Decoder, decode_body
from crawlpool.errors import BodyStalled, BodyTooLarge, TruncatedBody
from crawlpool.transport.response import LeanResponse

if TYPE_CHECKING:
    from crawlpool.transport.keeping import Kept

#: Of a redirect that is followed nobody looks at the body: where it is longer the connection is closed, not drained.
MOST_REDIRECT_BYTES = 64 * 1024
_PIECE_BYTES = 65536


class StreamedBody(HTTPResponse):
    """urllib3's answer whose user reads it piece by piece: urllib3 reads chunk sizes itself, by ``int``."""

    def _update_chunk_length(self) -> None:
        if self.chunk_left is None:
            fp: Any = self._fp
            try:
                self.chunk_left = fp._read_next_chunk_size()
            except ValueError as error:
                self.close()
                raise U3ProtocolError(f"the chunked body is malformed: {error}") from None


def read_body(response: requests.Response, max_body_bytes: int | None = None) -> bytes:
    """Read the rest of ``response`` into ``response.content`` and give its connection back.

    Args:
        response: an unread response; one that was read already is left as it is.
        max_body_bytes: cap on the decoded body, or ``None``.

    Returns:
        The decoded body, which is ``response.content`` from now on.

    Raises:
        TruncatedBody: when the connection or the compressed stream ends before its end.
        UndecodableBody: when the body isn't what its Content-Encoding says.
        BodyTooLarge: when it is larger than the cap; the connection is closed, not read to its end.
        BodyStalled: when the read timeout passes without a byte.
        requests.exceptions.SSLError: when TLS breaks.
    """
    content: Any = response._content
    if content is not False or response._content_consumed:
        return response.content or b""
    if isinstance(response, LeanResponse):
        whole = response.take_wire_body()
        if whole is not None:
            return _decode_whole(response, whole, max_body_bytes)
    raw = response.raw
    if type(raw) not in _OURS or raw._fp is not raw._original_response:
        return _read_any(response, max_body_bytes)  # a mock's, or another transport's: through its own interface
    try:
        body = _read_httplib(raw, response.headers.get("content-encoding"), max_body_bytes)
    except BaseException:
        # What is left on the wire belongs to this answer: the connection must not be used for another.
        connection = raw._connection
        if connection is not None:
            connection.close()
        raw.close()
        response._content_consumed = True
        raise
    raw.release_conn()
    response._content = body
    response._content_consumed = True
    return body


_OURS = (HTTPResponse, StreamedBody)


def has_header(response: requests.Response, lower_name: str) -> bool:
    """Tell whether an answer has a header, its name in lower case; ``in`` is slow where it is missing."""
    headers: Any = response.headers
    return lower_name in (headers._store if type(headers) is CaseInsensitiveDict else headers)


def _decode_whole(response: LeanResponse, wire_body: bytes, cap: int | None) -> bytes:
    response._content_consumed = True
    encoding = response.headers.get("content-encoding") if has_header(response, "content-encoding") else None
    if encoding and wire_body:
        wire_body = decode_body(wire_body, encoding, max_bytes=cap)
    elif cap is not None and len(wire_body) > cap:
        raise BodyTooLarge(f"the body is {len(wire_body):,} bytes long; the cap is {cap:,}")
    response._content = wire_body
    return wire_body


def _read_httplib(raw: HTTPResponse, encoding: str | None, cap: int | None) -> bytes:
    fp: Any = raw._original_response
    length = fp.length
    is_chunked = fp.chunked
    kept: Kept | None = getattr(fp, "kept", None)
    try:
        if cap is None:
            body: bytes = fp.read()
            wire_bytes = len(body)
            if kept is not None:
                kept.body = body
            if encoding:
                body = decode_body(body, encoding)
        else:
            wire_pieces: list[bytes] | None = [] if kept is not None and encoding else None
            body, wire_bytes = _read_capped(fp, encoding, cap, wire_pieces)
            if kept is not None:
                kept.body = body if wire_pieces is None else b"".join(wire_pieces)
    except http.client.IncompleteRead as error:
        raise TruncatedBody(_cut(len(error.partial), length)) from None
    except ssl.SSLEOFError as error:
        raise TruncatedBody(f"the connection broke in the middle of the body: {error.strerror}") from error
    except ssl.SSLError as error:
        raise requests.exceptions.SSLError(error) from error
    except TimeoutError as error:
        raise BodyStalled("no byte of the body came within the read timeout") from error
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise TruncatedBody(f"the connection broke in the middle of the body: {error.strerror or error}") from error
    except ValueError as error:  # http.client's int() of a chunk size
        raise TruncatedBody(f"the chunked body is malformed: {error}") from None
    if length is not None and not is_chunked and fp._method != "HEAD" and wire_bytes < length:
        if kept is not None:
            kept.body = None
        raise TruncatedBody(_cut(wire_bytes, length))  # read(n) of http.client ends early without a word
    raw._fp_bytes_read = wire_bytes
    raw.length_remaining = 0 if length is not None else None
    wire = getattr(raw, "wire", None)
    if wire is not None:
        wire.wire_bytes = wire_bytes
        wire.length_unverified = length is None and not is_chunked and wire_bytes > 0
    return body


def _read_capped(fp: Any, encoding: str | None, cap: int, wire_pieces: list[bytes] | None = None) -> tuple[bytes, int]:
    length = fp.length
    if length is not None and length > cap and not encoding:
        raise BodyTooLarge(f"the body is {length:,} bytes long; the cap is {cap:,}")
    if not encoding:
        pieces, total = [], 0
        while piece := fp.read(_PIECE_BYTES):
            total += len(piece)
            if total > cap:
                raise BodyTooLarge(f"the body is longer than the cap of {cap:,} bytes")
            pieces.append(piece)
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), total
    decoder, decoded, wire_bytes = Decoder(encoding, cap), [], 0
    while piece := fp.read(_PIECE_BYTES):
        wire_bytes += len(piece)
        if wire_pieces is not None:
            wire_pieces.append(piece)
        decoded.append(decoder.feed(piece))
    decoded.append(decoder.finish())
    return b"".join(decoded), wire_bytes


def _read_any(response: requests.Response, cap: int | None) -> bytes:
    if cap is None:
        return response.content or b""
    pieces, total = [], 0
    for piece in response.iter_content(_PIECE_BYTES):
        total += len(piece)
        if total > cap:
            response.close()
            raise BodyTooLarge(f"the body is longer than the cap of {cap:,} bytes")
        pieces.append(piece)
    response._content = b"".join(pieces)
    response._content_consumed = True
    return response._content


def _cut(got: int, length: int | None) -> str:
    return f"the body was cut after {got:,} bytes" + ("" if length is None else f"; its length is {length:,}")
