"""What urllib3's errors mean: the exception that requests raises for the same, and what may be sent once more."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import ProtocolError as U3ProtocolError

from crawlpool.errors import NoDescriptors, ProtocolError, causes
from crawlpool.redact import one_line
from crawlpool.shortage import shortage_in
from crawlpool.transport.answer import HeaderCut, Unanswered, breach_of
from crawlpool.transport.fields import BrokenHeader

# What is said of an answer that is no HTTP, or of a version that nobody asked for.
_NO_HTTP = (http.client.BadStatusLine, http.client.UnknownProtocol, http.client.LineTooLong)
# What a connection that the server has closed says, before a byte of an answer.
UNANSWERED = (Unanswered, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def is_at_hand(body: Any) -> bool:
    """Tell whether a request's body is there to be sent again."""
    return body is None or isinstance(body, (bytes, str))


def as_requests_error(
    error: BaseException, origin: Any, path: str, read_s: float | None, request: requests.PreparedRequest
) -> requests.RequestException:
    """Return the requests exception that requests' own adapter raises for ``error``."""
    rex = requests.exceptions
    if isinstance(error, NewConnectionError):  # it alone is of a time at which nothing was sent
        short = short_of(error, request)
        if short is not None:
            return short
    if isinstance(error, (HeaderCut, BrokenHeader)):
        return breach_of(error, request)
    breach = no_http(error, request)
    if breach is not None:
        return breach
    if isinstance(error, Unanswered) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, (ssl.SSLError, SSLError)):
        if isinstance(error, ssl.SSLError) and "timed out" in str(error):
            return rex.ConnectTimeout(ConnectTimeoutError(origin, str(error)), request=request)
        return rex.SSLError(MaxRetryError(origin, path, SSLError(error)), request=request)
    if isinstance(error, (NameResolutionError, NewConnectionError)):
        return rex.ConnectionError(MaxRetryError(origin, path, error), request=request)
    if isinstance(error, ConnectTimeoutError):
        return rex.ConnectTimeout(MaxRetryError(origin, path, error), request=request)
    if isinstance(error, LocationValueError):
        return rex.InvalidURL(error, request=request)
    if isinstance(error, InvalidHeader):
        return rex.InvalidHeader(error, request=request)
    if isinstance(error, TimeoutError):
        why = ReadTimeoutError(origin, path, f"Read timed out. (read timeout={read_s})")
        return rex.ReadTimeout(why, request=request)
    if isinstance(error, HTTPError) and not isinstance(error, U3ProtocolError):
        return rex.ConnectionError(error, request=request)
    return rex.ConnectionError(U3ProtocolError("Connection aborted.", error), request=request)


def no_http(error: BaseException, request: requests.PreparedRequest) -> ProtocolError | None:
    """Return the error, of one printable line, of an answer that is no HTTP; ``None`` where that isn't it."""
    for one in causes(error):
        if isinstance(one, _NO_HTTP) and not isinstance(one, http.client.RemoteDisconnected):
            said = one_line(str(one), 100)
            if isinstance(one, http.client.BadStatusLine):
                said = f"it begins with {said}"
            elif isinstance(one, http.client.UnknownProtocol):
                said = f"it is of HTTP/{said}"
            return ProtocolError(f"the answer breaks HTTP: {said}", request=request)
    return None


def short_of(error: BaseException, request: requests.PreparedRequest) -> NoDescriptors | None:
    """Return the error of a request for which no descriptor was left; ``None`` where that isn't it."""
    short = shortage_in(error)
    return None if short is None else NoDescriptors(short.strerror or str(short), request=request)
