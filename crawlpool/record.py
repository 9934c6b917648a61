"""The record of a result: one line for one URL, always the same keys, JSON-ready. Schema version 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from typing import Any

from crawlpool.clock import iso_utc
from crawlpool.errors import describe, kind_of
from crawlpool.redact import one_line, redact_input, redact_text, redact_url

SCHEMA_VERSION = 1
MAX_INPUT_CHARS = 2048

#: Every key of a record with the value that means "unknown", in the order in which they are written.
EMPTY: dict[str, Any] = {
    "v": SCHEMA_VERSION,
    "n": None,
    "input": None,
    "url": None,
    "method": None,
    "meta": None,
    "depth": 0,
    "parent": None,
    "outcome": None,
    "reason": None,
    "status": None,
    "final_url": None,
    "redirects": [],
    "attempts": 0,
    "error": None,
    "content_type": None,
    "bytes": None,
    "wire_bytes": None,
    "sha256": None,
    "length_unverified": False,
    "http_version": None,
    "ip": None,
    "proxy": None,
    "headers": None,
    "robots": None,
    "blocked": False,
    "duplicate_of": None,
    "not_modified": False,
    "change": None,
    "started_at": None,
    "elapsed_s": None,
    "waited_s": None,
    "timings": None,
    "body": [],
    "run": 1,
}


class EveryHeader(Container[str]):
    """The names of all headers there are: everything is in it."""

    def __contains__(self, name: object) -> bool:
        return True


EVERY_HEADER = EveryHeader()


def record_of(result: Any, *, run: int = 1, headers: Container[str] | None = None) -> dict[str, Any]:
    """Build the record of ``result``.

    Args:
        result: a ``crawlpool.Result``; the body of its response has been read.
        run: the ordinal of the run that writes the record.
        headers: lower-case names of response headers to keep; ``None`` for none.

    Returns:
        A new dict with the keys of ``EMPTY`` in their order. No value holds a credential of a URL's userinfo.
    """
    target = result.target
    record: dict[str, Any] = {
        **EMPTY,
        "n": target.n,
        "input": _shortened(redact_input(target.url if target.input is None else target.input, target.url)),
        "url": redact_url(target.url),
        "method": target.method,
        "meta": target.meta,
        "depth": target.depth,
        "parent": None if target.parent is None else redact_url(target.parent),
        "outcome": result.outcome.value,
        "reason": result.reason,
        "redirects": [{"url": redact_url(hop.url), "status": hop.status} for hop in result.redirects],
        "attempts": result.attempts,
        "body": [],
        "run": run,
    }
    if result.error is not None:
        record["error"] = {
            "kind": kind_of(result.error).value,
            "message": one_line(redact_text(describe(result.error))),
        }
    if result.started_at_s is not None:
        record["started_at"] = iso_utc(result.started_at_s)
    if result.elapsed_s is not None:
        record["elapsed_s"] = round(result.elapsed_s, 6)
    if result.waited_s is not None:
        record["waited_s"] = round(result.waited_s, 6)
    response = result.response
    if response is not None:
        record["status"] = response.status_code
        record["final_url"] = redact_url(response.url)
        record["content_type"] = response.headers.get("content-type")
        record["not_modified"] = response.status_code == 304
        if headers is not None:
            record["headers"] = {k.lower(): redact_text(v) for k, v in response.headers.items() if k.lower() in headers}
        content = response._content
        if isinstance(content, bytes):
            record["bytes"] = len(content)
            record["sha256"] = hashlib.sha256(content).hexdigest()
        wire = getattr(response, "wire", None)
        if wire is not None:
            record["ip"] = wire.ip
            record["proxy"] = None if wire.proxy is None else redact_url(wire.proxy)
            record["http_version"] = wire.http_version
            record["wire_bytes"] = wire.wire_bytes
            record["length_unverified"] = wire.length_unverified
        timings = result.timings
        if timings is not None:
            record["timings"] = {name: round(value, 6) for name, value in vars(timings).items()}
    return record


# json.dumps with options makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def to_line(record: dict[str, Any]) -> bytes:
    """Return ``record`` as one line of JSON, UTF-8, newline included.

    Raises:
        TypeError: when ``meta`` isn't JSON.
        ValueError: when it holds NaN or infinity, or refers to itself.
    """
    return _encode(record).encode("utf-8", "backslashreplace") + b"\n"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_INPUT_CHARS else text[: MAX_INPUT_CHARS - 1] + "…"
