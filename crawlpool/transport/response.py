"""A ``requests.Response`` that makes what few look at only when somebody does: ``raw`` and ``cookies``."""

from __future__ import annotations

import datetime
import io
from typing import TYPE_CHECKING, Any

import requests
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import HTTPHeaderDict
from urllib3.response import HTTPResponse

if TYPE_CHECKING:
    from crawlpool.transport.keeping import Kept
    from crawlpool.wire import Wire

_MOST_MEMOS = 1000
_encodings: dict[str, str | None] = {}


class LeanResponse(requests.Response):
    """The answer of a transport that hands over the body as a whole, or a stream of its own.

    In all it shows it is a ``requests.Response``. Belongs to one thread, as those do.
    """

    wire: Wire
    # What nearly every answer begins with; as attributes of the class they cost nothing to make.
    _content: Any = False
    _content_consumed = False
    _next: Any = None
    _raw: Any = None
    _jar: Any = None
    _elapsed: Any = None
    _elapsed_s = 0.0
    _fields: list[tuple[str, str]] | tuple[()] = ()
    _wire_body: bytes | None = None
    kept: Kept | None = None

    @property
    def raw(self) -> Any:
        """What urllib3 would have given: built on first use."""
        if self._raw is None and self.status_code:
            body = b"" if self._content_consumed else self._wire_body
            self._raw = raw_of(self, io.BytesIO(body or b""))
        return self._raw

    @raw.setter
    def raw(self, value: Any) -> None:
        self._raw = value

    @property
    def cookies(self) -> Any:
        """The cookies that this answer set."""
        if self._jar is None:
            self._jar = RequestsCookieJar()
            if self.headers and "set-cookie" in self.headers:
                extract_cookies_to_jar(self._jar, self.request, self.raw)
        return self._jar

    @cookies.setter
    def cookies(self, value: Any) -> None:
        # Response.__init__ makes an empty jar; it would hide what the answer set.
        self._jar = value if value else None

    @property
    def elapsed(self) -> datetime.timedelta:
        """The time until the header had come."""
        if self._elapsed is None:
            self._elapsed = datetime.timedelta(seconds=self._elapsed_s)
        return self._elapsed  # type: ignore[no-any-return]

    @elapsed.setter
    def elapsed(self, elapsed: datetime.timedelta) -> None:
        # Response.__init__ sets none; it would hide what there is.
        self._elapsed = elapsed or None

    def take_wire_body(self) -> bytes | None:
        """Return the body as it came over the wire, once; ``None`` when it was taken, or comes as a stream."""
        body, self._wire_body = self._wire_body, None
        if body and self._raw is not None:  # a hook, or a cookie jar, has looked at it
            file = self._raw._fp
            if file.tell():
                return None  # and has begun to read: what is left comes through it
            file.seek(len(body))
        return body

    def take_whole(self, max_body_bytes: int | None) -> bool:
        """Take the body as it came for the content, where it has come and is no longer than the cap."""
        body = self._wire_body
        if body is None or self._raw is not None or (max_body_bytes is not None and len(body) > max_body_bytes):
            return False
        self._content, self._content_consumed, self._wire_body = body, True, None
        return True

    def close(self) -> None:
        """Let go of what is left of the answer."""
        if self._raw is not None:
            super().close()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._raw = self._jar = self._wire_body = None
        super().__setstate__(state)


class Original:
    """What code that knows http.client looks for behind an answer."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields
        self._message: Any = None

    @property
    def msg(self) -> Any:
        """The header as ``http.client.HTTPMessage``."""
        if self._message is None:
            import http.client

            message: Any = http.client.HTTPMessage()
            message._headers = list(self._fields)
            message._payload = ""
            self._message = message
        return self._message

    headers = msg

    def isclosed(self) -> bool:
        """Say yes: nothing is read by it."""
        return True

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


def raw_of(response: requests.Response, fp: Any, response_class: type[HTTPResponse] = HTTPResponse) -> Any:
    """Return urllib3's answer for ``response``, reading what is left of the body from ``fp``."""
    fields = response._fields  # type: ignore[attr-defined]
    request = response.request
    raw = response_class(
        body=fp,
        headers=HTTPHeaderDict(fields),
        status=response.status_code,
        version=10 if response.wire.http_version == "1.0" else 11,  # type: ignore[attr-defined]
        reason=response.reason,
        preload_content=False,
        decode_content=False,
        original_response=Original(fields),  # type: ignore[arg-type]
        request_method=request.method if request is not None else None,
        request_url=request.url if request is not None else None,
        enforce_content_length=False,
    )
    raw.wire = response.wire  # type: ignore[attr-defined]
    return raw


def lean_response(
    request: requests.PreparedRequest,
    adapter: Any,
    status: int,
    reason: str,
    fields: list[tuple[str, str]],
    store: dict[str, tuple[str, str]],
    wire: Wire,
    wire_body: bytes | None,
    elapsed_s: float,
) -> LeanResponse:
    """Build the response of an answer.

    Args:
        fields: the header, in order, with repeated fields.
        store: the same as requests has it: lower-case name to (name, values joined by a comma).
        wire_body: the body as it came, or ``None`` when it comes as a stream.
        elapsed_s: seconds until the header came.
    """
    headers: Any = _new_headers(CaseInsensitiveDict)
    headers._store = store
    # Not by Response.__init__: it would make a cookie jar each time, and headers.
    response: LeanResponse = _new(LeanResponse)
    response._fields = fields
    response._wire_body = wire_body
    response._elapsed_s = elapsed_s
    response.status_code = status
    response.headers = headers
    response.url = request.url  # type: ignore[assignment]
    content_type = store.get("content-type")
    response.encoding = None if content_type is None else _encoding_of(content_type[1], headers)
    response.history = []
    response.reason = reason
    response.request = request
    response.connection = adapter
    response.wire = wire
    return response


def _encoding_of(content_type: str, headers: Any) -> str | None:
    try:
        return _encodings[content_type]
    except KeyError:
        found = get_encoding_from_headers(headers)
        if len(_encodings) < _MOST_MEMOS:
            _encodings[content_type] = found
        return found


_new: Any = LeanResponse.__new__
_new_headers: Any = CaseInsensitiveDict.__new__
