"""From the header lines that libcurl hands over to status, fields and a response."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from crawlpool.errors import ProtocolError
from crawlpool.transport.answer import HeaderCut, breach_of, check_switch
from crawlpool.transport.fields import (
    BLANK,
    FIELD_LINE,
    MOST_HEADER_BYTES,
    MOST_HEADERS,
    MOST_INTERIM,
    STATUS_LINE,
    SWITCHING,
    BrokenHeader,
    body_length,
    field_of,
    is_doubtful,
    must_close,
    too_large,
    too_many,
    too_many_interim,
    unfolded,
)
from crawlpool.transport.keeping import Kept, final_head
from crawlpool.transport.response import LeanResponse, lean_response
from crawlpool.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.transport.curl.transfer import Transfer

_VERSIONS = ("1.1", "1.0")
_FRAMING_SIZES = (len("content-length"), len("transfer-encoding"))
_SHORT_LENGTH = 18

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
        ProtocolError: for what isn't a header, one too large, and one that leaves in doubt where its body ends.
    """
    try:
        return _read_head(lines)
    except (HeaderCut, BrokenHeader) as error:
        raise breach_of(error, request) from error


def _read_head(lines: Sequence[bytes]) -> tuple[int, str, str, list[tuple[str, str]], dict[str, Any]]:
    known = _statuses.get(lines[0]) if lines else None
    if known is not None and known[0] >= 200 and lines[-1] in BLANK and len(lines) <= MOST_HEADERS:
        # Most answers have but lines that were seen before, each field once. One line that wasn't is no pair.
        try:
            store: dict[str, Any] = dict(map(_memos.get, lines[1:-1]))  # type: ignore[arg-type]
        except TypeError:
            pass
        else:
            if len(store) == len(lines) - 2 and not ("transfer-encoding" in store and "content-length" in store):
                return *known, list(store.values()), store
    start = 0
    for _ in range(MOST_INTERIM + 1):
        if start >= len(lines):
            raise HeaderCut("the connection ended in the middle of the header")
        known = _statuses.get(lines[start]) or _read_status(lines[start])
        fields: list[tuple[str, str]] = []
        store = {}
        end = _take_fields(lines, start + 1, fields, store)
        status, reason, version = known
        if status >= 200 or status == SWITCHING:
            _body_length(store)
            return status, reason, version, fields, store
        start = end + 1
    raise too_many_interim()


def _read_status(line: bytes) -> tuple[int, str, str]:
    found = STATUS_LINE.fullmatch(line)
    if found is None:
        raise BrokenHeader("the answer has no status line that HTTP knows")
    status = int(found[2]), (found[3] or b"").decode("iso-8859-1").strip(), found[1].decode("ascii")
    if len(line) <= _MOST_MEMO_BYTES and len(_statuses) < _MOST_MEMOS:
        _statuses[line] = status
    return status


def _take_fields(lines: Sequence[bytes], start: int, fields: list[tuple[str, str]], store: dict[str, Any]) -> int:
    position = start
    memos = _memos
    long_bytes = 0  # short lines, 100 of them, are never too many
    for position in range(start, len(lines)):
        line = lines[position]
        field = memos.get(line)
        if field is None:
            if line in BLANK:
                if position - start > MOST_HEADERS:
                    raise too_many()
                if long_bytes and sum(map(len, lines[start:position])) > MOST_HEADER_BYTES:
                    raise too_large()
                return position
            found = FIELD_LINE.fullmatch(line)
            if found is None:
                return _take_odd_fields(lines, start, fields, store)
            name = found[1].decode("ascii")
            field = (name.lower(), (name, found[2].decode("iso-8859-1")))
            if len(line) > _MOST_MEMO_BYTES:
                long_bytes += len(line)
            elif len(name) not in _FRAMING_SIZES or _is_sound_alone(*field):
                if len(memos) >= _MOST_MEMOS:
                    memos.clear()  # what comes often is soon there again: a date is only for a second
                memos[line] = field
        lower, pair = field
        fields.append(pair)
        if lower in store:
            store[lower] = (store[lower][0], f"{store[lower][1]}, {pair[1]}")
        else:
            store[lower] = pair
    raise HeaderCut("the connection ended in the middle of the header")


def _take_odd_fields(lines: Sequence[bytes], start: int, fields: list[tuple[str, str]], store: dict[str, Any]) -> int:
    """Read a header of which some line isn't plain: one goes on another, has no name, or is none."""
    end = next((at for at in range(start, len(lines)) if lines[at] in BLANK), None)
    if end is None:
        raise HeaderCut("the connection ended in the middle of the header")
    if end - start > MOST_HEADERS:
        raise too_many()
    if sum(map(len, lines[start:end])) > MOST_HEADER_BYTES:
        raise too_large()
    fields.clear()
    store.clear()
    for line in unfolded(lines[start:end]):
        name, value = field_of(line)
        lower = name.lower()
        fields.append((name, value))
        store[lower] = (store[lower][0], f"{store[lower][1]}, {value}") if lower in store else (name, value)
    return end


def _body_length(store: dict[str, Any]) -> int | None:
    length, coding = store.get("content-length"), store.get("transfer-encoding")
    return body_length(None if length is None else length[1], None if coding is None else coding[1])


def _is_sound_alone(lower: str, pair: tuple[str, str]) -> bool:
    """Tell whether a header of lines such as this one, each field once, needs no further look."""
    value = pair[1]
    if lower == "content-length":
        return len(value) <= _SHORT_LENGTH and value.isascii() and value.isdigit()
    return lower != "transfer-encoding" or value.lower() == "chunked"


def must_part(transfer: Transfer) -> bool:
    """Tell whether the connection of a transfer that libcurl calls well ended mustn't be used again; in the I/O thread.

    libcurl reads on where the header leaves in doubt where the body ends, and keeps the connection.
    """
    lines = transfer.head
    if not lines or not is_doubtful(lines):
        return False
    try:
        status, _, version, _, store = _read_head(lines)
        length = _body_length(store)
    except http.client.HTTPException:
        return True
    return status == SWITCHING or must_close(status, version, length, has_coding="transfer-encoding" in store)


def response_of(transfer: Transfer, adapter: Any) -> LeanResponse:
    """Build the response of a transfer whose header is whole.

    Raises:
        CutHeader, ProtocolError: as ``read_head`` does.
    """
    request = transfer.exchange.request
    status, reason, version, fields, store = read_head(transfer.head, request)
    check_switch(status, request)
    if version not in _VERSIONS and not (version == "2" and _may_be_http2(transfer)):
        raise ProtocolError(f"an answer that says HTTP/{version} to a request of HTTP/1.1", request=request)
    body: bytes | None = None
    unverified = False
    if transfer.stream is None:
        pieces = transfer.body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if "content-length" not in store:
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
