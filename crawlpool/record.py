"""The record of a result: one line for one URL, always the same keys, JSON-ready. Schema version 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container
from typing import Any

from crawlpool.clock import iso_utc
from crawlpool.errors import describe, kind_of
from crawlpool.escape import json_bytes
from crawlpool.redact import one_line, redact_input, redact_text, redact_url
from crawlpool.robots_tag import may_have_tags, tags_of
from crawlpool.wire import TIMINGS, spans_of

SCHEMA_VERSION = 1
MAX_INPUT_CHARS = 2048
HIDDEN = "***"

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
    "robots_tag": [],
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
        headers: lower-case names of response headers to keep; ``None`` for none. With ``EVERY_HEADER`` the values of
            cookies are ``***``; they are kept where ``set-cookie`` is named.

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
        "robots": result.robots,
        "blocked": result.is_blocked,
        "duplicate_of": result.duplicate_of,
        "redirects": [{"url": redact_url(hop.url), "status": hop.status} for hop in result.redirects],
        "attempts": result.attempts,
        "robots_tag": [],
        "body": [{"file": one.file, "offset": one.offset, "length": one.length} for one in result.bodies],
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
            kept = {k.lower(): redact_text(v) for k, v in response.headers.items() if k.lower() in headers}
            if headers is EVERY_HEADER and "set-cookie" in kept:  # who asks for all doesn't ask for this
                kept["set-cookie"] = HIDDEN
            record["headers"] = kept
        content = response._content
        if isinstance(content, bytes):
            record["bytes"] = len(content)
            record["sha256"] = hashlib.sha256(content).hexdigest()
            record["robots_tag"] = tags_of(response.headers, content)
        wire = getattr(response, "wire", None)
        if wire is not None:
            record["ip"] = wire.ip
            record["proxy"] = None if wire.proxy is None else redact_url(wire.proxy)
            record["http_version"] = wire.http_version
            record["wire_bytes"] = wire.wire_bytes
            record["length_unverified"] = wire.length_unverified
            if wire.timings:
                spans = (round(value, 6) for value in spans_of(wire.timings))
                record["timings"] = dict(zip(TIMINGS, spans, strict=True))
    return record


# json.dumps with options makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def record_line(result: Any, *, run: int = 1, headers: Container[str] | None = None) -> bytes:
    """Return the record of ``result`` as a line: ``to_line(record_of(...))``, for a plain page in a third of the time.

    Args:
        result, run, headers: as ``record_of`` takes them. ``meta`` that isn't JSON is written as ``not_json``.
    """
    plain = _plain_line(result, run) if headers is None else None
    if plain is not None:
        return plain
    record = record_of(result, run=run, headers=headers)
    try:
        return to_line(record)
    except (TypeError, ValueError, RecursionError):
        return to_line({**record, "meta": {"not_json": _shown(record["meta"])}})


def to_line(record: dict[str, Any]) -> bytes:
    """Return ``record`` as one line of JSON, UTF-8, newline included.

    Raises:
        TypeError: when ``meta`` isn't JSON.
        ValueError: when it holds NaN or infinity, or refers to itself.
    """
    return json_bytes(_encode(record)) + b"\n"


#: What isn't the same in the record of each plain page, in the order of EMPTY; all the rest is as it stands there.
_OF_PAGE = (
    *("n", "input", "url", "method", "depth", "outcome", "status", "final_url", "attempts", "content_type", "bytes"),
    *(
        "wire_bytes",
        "sha256",
        "length_unverified",
        "http_version",
        "ip",
        "robots",
        "started_at",
        "elapsed_s",
        "waited_s",
    ),
    *("timings", "body", "run"),
)
_PLAIN = "{" + ",".join(f'"{key}":{"%s" if key in _OF_PAGE else _encode(EMPTY[key])}' for key in EMPTY) + "}\n"
_TIMINGS = "{" + ",".join(f'"{name}":%r' for name in TIMINGS) + "}"
_JSON_OF = {None: "null", False: "false", True: "true"}
_quote: Callable[[str], str] = json.encoder.encode_basestring


def _plain_line(result: Any, run: int) -> bytes | None:
    """Return the line of a page that was simply fetched; ``None`` for any other result."""
    target, response = result.target, result.response
    wire = getattr(response, "wire", None)
    if (
        wire is None
        or wire.proxy is not None
        or target.meta is not None
        or target.parent is not None
        or result.error is not None
        or result.reason is not None
        or result.redirects
        or result.is_blocked
        or type(target.depth) is not int
        or type(target.n) not in _NUMBERS
        or type(response._content) is not bytes
        or response.status_code == 304
        or None in (result.started_at_s, result.elapsed_s, result.waited_s)
        or may_have_tags(response.headers, response._content)
    ):
        return None
    content = response._content
    content_type = response.headers.get("content-type")
    url = redact_url(target.url)
    shown_url = _quote(url)
    given = target.input
    line = _PLAIN % (
        "null" if target.n is None else target.n,
        _quote(_shortened(redact_input(target.url if given is None else given, target.url))),
        shown_url,
        _quote(target.method),
        target.depth,
        _quote(result.outcome.value),
        response.status_code,
        shown_url if response.url == url else _quote(redact_url(response.url)),
        result.attempts,
        "null" if content_type is None else _quote(content_type),
        len(content),
        "null" if wire.wire_bytes is None else wire.wire_bytes,
        _quote(hashlib.sha256(content).hexdigest()),
        _JSON_OF[wire.length_unverified],
        "null" if wire.http_version is None else _quote(wire.http_version),
        "null" if wire.ip is None else _quote(wire.ip),
        "null" if result.robots is None else _quote(result.robots),
        _quote(iso_utc(result.started_at_s)),
        round(result.elapsed_s, 6),
        round(result.waited_s, 6),
        _TIMINGS % tuple([round(value, 6) for value in spans_of(wire.timings)]) if wire.timings else "null",
        _bodies_json(result.bodies) if result.bodies else "[]",
        run,
    )
    return json_bytes(line)


_NUMBERS = (int, type(None))


def with_bodies(line: bytes, result: Any) -> bytes:
    """Return a record's line, made before its bodies were kept, with the places where they lie.

    Args:
        line: as ``record_line`` made it.
        result: the same result; its bodies have been noted meanwhile.
    """
    if not result.bodies:
        return line
    before, _, after = line.rpartition(_NO_BODY)  # the last one: nothing but the run comes after it
    return b'%s"body":%s%s' % (before, json_bytes(_bodies_json(result.bodies)), after)


_NO_BODY = b'"body":[]'


def _bodies_json(bodies: Any) -> str:
    places = [f'{{"file":{_quote(one.file)},"offset":{one.offset},"length":{one.length}}}' for one in bodies]
    return f"[{','.join(places)}]"


def _shown(value: object) -> str:
    try:
        return one_line(redact_text(repr(value)))
    except Exception:  # a repr is a user's code, and the record must come
        return type(value).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_INPUT_CHARS else text[: MAX_INPUT_CHARS - 1] + "…"
