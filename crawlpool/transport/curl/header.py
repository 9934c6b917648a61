"""From the header lines that libcurl hands over to status, fields and a response."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING, Any

from crawlpool.errors import CutHeader, ProtocolError
from crawlpool.models import Wire
from crawlpool.transport.answer import BLANK, MOST_HEADERS, MOST_LINE_BYTES, parse_header
from crawlpool.transport.keeping import Kept, final_head
from crawlpool.transport.response import LeanResponse, lean_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.transport.curl.transfer import Transfer

_MOST_LENGTH_DIGITS = 18
_STATUS = re.compile(rb"HTTP/(\d(?:\.\d)?) +(\d{3})(?: ([^\r\n]*))?[ \t]*\r?\n")
# As in transport/answer.py: the lines of which the parser of e-mails makes exactly a name and a value.
_PLAIN_LINE = re.compile(rb"([!-9;-~]+):[ \t]*([^\r\n]*)\r?\n")

# Servers say the same again and again: most lines of most answers are one of a few hundred.
_MOST_MEMOS = 4096
_MOST_MEMO_BYTES = 200
# A line: its name in lower case, and (name, value). The table of them all at once is what a CaseInsensitiveDict holds.
_memos: dict[bytes, tuple[str, tuple[str, str]]] = {}
_statuses: dict[bytes, tuple[int, str, str]] = {}


def read_head(lines: Sequence[bytes], request: Any) -> tuple[int, str, str, list[tuple[str, str]], dict[str, Any]]:
    """Take the header of the final answer apart.

    Args:
        lines: all header lines of the exchange: interim answers, the answer, and the trailers of a chunked body.

    Returns:
        Status, reason, version (``"1.1"``), the fields in order, and the fields as requests joins them.

    Raises:
        CutHeader: when the connection ended before the header did.
        ProtocolError: for what isn't a header, or a header too large.
    """
    known = _statuses.get(lines[0]) if lines else None
    if known is not None and known[0] >= 200 and lines[-1] in BLANK and len(lines) <= MOST_HEADERS:
        # Most answers have but lines that were seen before, each field once. One line that wasn't is no pair.
        try:
            store: dict[str, Any] = dict(map(_memos.get, lines[1:-1]))  # type: ignore[arg-type]
        except TypeError:
            pass
        else:
            if len(store) == len(lines) - 2:
                return *known, list(store.values()), store
    start = 0
    while True:
        if start >= len(lines):
            raise CutHeader("the connection ended in the middle of the header", request=request)
        known = _statuses.get(lines[start]) or _read_status(lines[start], request)
        fields: list[tuple[str, str]] = []
        store = {}
        end = _take_fields(lines, start + 1, fields, store, request)
        status, reason, version = known
        if status >= 200 or status == 101:
            return status, reason, version, fields, store
        start = end + 1


def _read_status(line: bytes, request: Any) -> tuple[int, str, str]:
    found = _STATUS.fullmatch(line)
    if found is None:
        raise ProtocolError("the answer has no status line that HTTP knows", request=request)
    status = int(found[2]), (found[3] or b"").decode("iso-8859-1").strip(), found[1].decode("ascii")
    if len(line) <= _MOST_MEMO_BYTES and len(_statuses) < _MOST_MEMOS:
        _statuses[line] = status
    return status


def _take_fields(
    lines: Sequence[bytes], start: int, fields: list[tuple[str, str]], store: dict[str, Any], request: Any
) -> int:
    position = start
    memos = _memos
    for position in range(start, len(lines)):
        line = lines[position]
        field = memos.get(line)
        if field is None:
            if line in BLANK:
                if position - start > MOST_HEADERS:
                    raise _too_large(f"got more than {MOST_HEADERS} headers", request)
                return position
            found = _PLAIN_LINE.fullmatch(line)
            if len(line) > MOST_LINE_BYTES:
                raise _too_large("a header line of more than 64 KiB", request)
            if found is None:
                return _take_odd_fields(lines, start, fields, store, request)
            name = found[1].decode("ascii")
            field = (name.lower(), (name, found[2].decode("iso-8859-1")))
            if len(line) <= _MOST_MEMO_BYTES:
                if len(memos) >= _MOST_MEMOS:
                    memos.clear()  # what comes often is soon there again: a date is only for a second
                memos[line] = field
        lower, pair = field
        fields.append(pair)
        if lower in store:
            store[lower] = (store[lower][0], f"{store[lower][1]}, {pair[1]}")
        else:
            store[lower] = pair
    raise CutHeader("the connection ended in the middle of the header", request=request)


def _take_odd_fields(
    lines: Sequence[bytes], start: int, fields: list[tuple[str, str]], store: dict[str, Any], request: Any
) -> int:
    """Have the parser of e-mails read what isn't plain, as http.client does."""
    end = next((at for at in range(start, len(lines)) if lines[at] in BLANK), None)
    if end is None:
        raise CutHeader("the connection ended in the middle of the header", request=request)
    if end - start > MOST_HEADERS:
        raise _too_large(f"got more than {MOST_HEADERS} headers", request)
    message = parse_header(list(lines[start:end]))
    fields[:] = [(str(name), str(value)) for name, value in message.items()]
    store.clear()
    for name, value in fields:
        lower = name.lower()
        store[lower] = (store[lower][0], f"{store[lower][1]}, {value}") if lower in store else (name, value)
    return end


def _too_large(what: str, request: Any) -> ProtocolError:
    error = ProtocolError(what, request=request)
    error.__cause__ = http.client.HTTPException(what)
    return error


def response_of(transfer: Transfer, adapter: Any) -> LeanResponse:
    """Build the response of a transfer whose header is whole.

    Raises:
        CutHeader, ProtocolError: as ``read_head`` does.
    """
    request = transfer.exchange.request
    status, reason, version, fields, store = read_head(transfer.head, request)
    if version[0] != "1" and not (version == "2" and _may_be_http2(transfer)):
        raise ProtocolError(f"an answer that says HTTP/{version} to a request of HTTP/1.1", request=request)
    body: bytes | None = None
    unverified = False
    if transfer.stream is None:
        pieces = transfer.body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        length = store.get("content-length")
        if length is None or len(length[1]) > _MOST_LENGTH_DIGITS:  # libcurl takes one too large for none
            unverified = bool(body) and "transfer-encoding" not in store
    timings = transfer.timings
    wire = Wire(
        transfer.ip if transfer.way.proxy is None else None,  # the proxy's address says nothing of the server
        transfer.way.proxy,
        version,
        None if body is None else len(body),
        unverified and version[0] == "1",
        timings,
    )
    elapsed_s = timings[0] + timings[3] if timings else 0.0
    response = lean_response(request, adapter, status, reason, fields, store, wire, body, elapsed_s)
    if transfer.exchange.keeps_wire:
        response.kept = Kept(final_head(transfer.head), transfer.sent, body)
    return response


def _may_be_http2(transfer: Transfer) -> bool:
    return transfer.adapter.engine.settings.http == "2" and transfer.url.startswith("https:")  # by ALPN alone


def early_response(transfer: Transfer) -> LeanResponse:
    """Build the response for one who looks at the header before the body has come."""
    return response_of(transfer, None)
