"""The one tree of crawlpool's exceptions, and the kind that each error of a request is filed under."""

from __future__ import annotations

import enum
import socket
import ssl
from typing import TYPE_CHECKING

import requests
import requests.exceptions as rex
import urllib3.exceptions as u3

if TYPE_CHECKING:
    from collections.abc import Iterator


class ErrorKind(str, enum.Enum):
    """What went wrong with a target, as its record says it in ``error.kind``."""

    INVALID_URL = "invalid_url"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    PROXY = "proxy"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    TRUNCATED = "truncated"
    PROTOCOL = "protocol"
    DECODE = "decode"
    TOO_LARGE = "too_large"
    REDIRECT = "redirect"
    BLOCKED_ADDRESS = "blocked_address"
    CONTENT_TYPE = "content_type"
    ROBOTS = "robots"
    CANCELLED = "cancelled"
    HANDLER = "handler"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value


class CrawlPoolError(Exception):
    """The root of every error that crawlpool raises."""


class ConfigError(CrawlPoolError, ValueError):
    """A setting has a value that it can't have; the message names both."""


class MissingExtra(CrawlPoolError, ImportError):
    """An optional dependency isn't installed; the message names the ``pip install`` that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed: pip install 'crawlpool[{extra}]'")


class PoolClosed(CrawlPoolError, RuntimeError):
    """The pool, or the session of it, was closed before or during the call."""


class QueueFull(CrawlPoolError):
    """``submit`` was called from a worker or a handler while the queue was full; waiting there could lock up."""


class InputError(CrawlPoolError, ValueError):
    """One line of the input is no target; ``place`` names the file and the line."""

    def __init__(self, message: str, place: str | None = None) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class CookieFileError(CrawlPoolError, ValueError):
    """A ``cookies.txt`` can't be read or written as such; the message names the file and the line."""


class SinkError(CrawlPoolError, OSError):
    """Records can't be written any more; the crawl stops and nothing after the last written record counts."""


class JobError(CrawlPoolError):
    """A job can't be begun, gone on with or read: it is in use, is none, or was made with other settings."""


class EngineError(CrawlPoolError):
    """An engine can't be brought up, or was lost; the message says which, and why."""


class WarcError(CrawlPoolError, ValueError):
    """A place of a WARC file doesn't hold the record that was written there; the message says what is wrong."""


class TargetSkipped(CrawlPoolError):
    """``Result.unwrap()`` of a target that was skipped or disallowed; the message gives the reason."""


class HandlerFailed(CrawlPoolError):
    """A crawl's handler raised; the exception itself is the ``__cause__``."""


class RequestError(CrawlPoolError, requests.RequestException):
    """The root of the errors of crawlpool that are about one request."""


class Cancelled(RequestError):
    """The request was given up because its future was aborted, its crawl ended, or its pool closed."""


class TakenBack(Cancelled):
    """The request wasn't sent: its host refused another one meanwhile. A crawl sends it later; no user sees this."""


class LeaseLost(Cancelled):
    """The lease under which the request was to be sent has ended: nothing was sent, or it was broken off.

    It isn't tried again and counts as no attempt: in a crawl the target is whose the shard is next.
    """


class DeadlineExceeded(RequestError, rex.Timeout):
    """The wall-clock deadline of the call passed before its last byte."""


class HostUnreachable(RequestError, rex.ConnectionError):
    """The host was asked in vain for so long that what waited for it was given up unsent; ``kind`` is what failed."""

    def __init__(self, message: str, kind: ErrorKind) -> None:
        super().__init__(message)
        self.kind = kind


class NoDescriptors(RequestError, rex.ConnectionError):
    """The process, or the system, has no file descriptor left for a connection; nothing was sent."""


class OutOfMemory(RequestError, MemoryError):
    """There was no memory for the answer, or for what is to be done with it."""


class BlockedAddress(RequestError):
    """The host is, or leads to, an address that must not be reached; nothing was sent. It isn't tried again.

    ``host`` is as the URL has it, ``address`` what it is or leads to (``None`` for a loopback name), ``address_class``
    what that is: ``loopback``, ``private``, ``metadata`` and so on. The message says what permits it.
    """

    host: str = ""
    address: str | None = None
    address_class: str = ""


class BodyTooLarge(RequestError):
    """The body, decoded, is larger than ``max_body_bytes``; reading stopped there."""


class TruncatedBody(RequestError, rex.ChunkedEncodingError):
    """The body ended before the length, the last chunk or the compressed stream said so."""


class CutHeader(RequestError, rex.ConnectionError, rex.ChunkedEncodingError):
    """The connection ended in the middle of the header.

    A ``ConnectionError`` by what happened, and a ``ChunkedEncodingError`` because that is what requests raises where
    the half header announced a chunked body.
    """


class BodyStalled(RequestError, rex.ReadTimeout, rex.ConnectionError):
    """No byte of the body came for as long as the read timeout allows.

    A ``ReadTimeout`` by what happened, and a ``ConnectionError`` because that is what requests raises there.
    """


class UndecodableBody(RequestError, rex.ContentDecodingError):
    """The body can't be decoded by the Content-Encoding that it claims."""


class Unscripted(RequestError):
    """A test's scripted network has no answer for the request; nothing was sent. See ``crawlpool.testing.Offline``."""


class UnwantedContentType(RequestError):
    """The answer's Content-Type is not among those asked for; its body was not read."""


class ProtocolError(RequestError, rex.ConnectionError):
    """The answer breaks HTTP so that its extent or meaning can't be trusted."""


class InvalidLength(ProtocolError, rex.InvalidHeader):
    """The answer's Content-Length is no number, or there are two that differ.

    A ``ProtocolError`` by what happened, and an ``InvalidHeader`` because that is what requests raises for two lengths.
    """


_BY_TYPE: tuple[tuple[type[BaseException], ErrorKind], ...] = (
    (Cancelled, ErrorKind.CANCELLED),
    (PoolClosed, ErrorKind.CANCELLED),
    (HandlerFailed, ErrorKind.HANDLER),
    (InputError, ErrorKind.INVALID_URL),
    (BlockedAddress, ErrorKind.BLOCKED_ADDRESS),
    (DeadlineExceeded, ErrorKind.DEADLINE),
    (NoDescriptors, ErrorKind.CONNECT),
    (MemoryError, ErrorKind.INTERNAL),
    (Unscripted, ErrorKind.BLOCKED_ADDRESS),
    (BodyTooLarge, ErrorKind.TOO_LARGE),
    (UnwantedContentType, ErrorKind.CONTENT_TYPE),
    (CutHeader, ErrorKind.PROTOCOL),
    (TruncatedBody, ErrorKind.TRUNCATED),
    (UndecodableBody, ErrorKind.DECODE),
    (ProtocolError, ErrorKind.PROTOCOL),
    (rex.ProxyError, ErrorKind.PROXY),
    (rex.SSLError, ErrorKind.TLS),
    (rex.ConnectTimeout, ErrorKind.TIMEOUT),
    (rex.Timeout, ErrorKind.TIMEOUT),
    (rex.TooManyRedirects, ErrorKind.REDIRECT),
    (rex.InvalidURL, ErrorKind.INVALID_URL),
    (rex.InvalidSchema, ErrorKind.INVALID_URL),
    (rex.MissingSchema, ErrorKind.INVALID_URL),
    (rex.ChunkedEncodingError, ErrorKind.TRUNCATED),
    (rex.ContentDecodingError, ErrorKind.DECODE),
    (rex.InvalidHeader, ErrorKind.PROTOCOL),
    (u3.NameResolutionError, ErrorKind.DNS),
    (u3.ProxyError, ErrorKind.PROXY),
    (u3.NewConnectionError, ErrorKind.CONNECT),  # urllib3 makes it a kind of timeout; it is none
    (u3.SSLError, ErrorKind.TLS),
    (u3.TimeoutError, ErrorKind.TIMEOUT),
    (u3.IncompleteRead, ErrorKind.TRUNCATED),
    (u3.InvalidChunkLength, ErrorKind.TRUNCATED),
    (u3.DecodeError, ErrorKind.DECODE),
    (u3.LocationValueError, ErrorKind.INVALID_URL),
    (ssl.SSLError, ErrorKind.TLS),
    (socket.gaierror, ErrorKind.DNS),
    (TimeoutError, ErrorKind.TIMEOUT),
    (UnicodeError, ErrorKind.INVALID_URL),
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what it was made of: its arguments, ``reason``, ``__cause__`` and ``__context__``.

    requests and urllib3 wrap the true cause up to four deep; the walk is bounded at 16 exceptions.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting and len(seen) < 16:
        one = waiting.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        inner = [*one.args, getattr(one, "reason", None), one.__cause__]
        if not one.__suppress_context__:
            inner.append(one.__context__)
        waiting.extend(e for e in inner if isinstance(e, BaseException))


def kind_of(error: BaseException) -> ErrorKind:
    """Tell the kind of an error that ended a target.

    The most telling exception of the chain decides: requests says ``ConnectionError`` for a name that doesn't
    resolve, a refused connection and an answer that is no HTTP.
    """
    if isinstance(error, HostUnreachable):
        return error.kind
    for one in causes(error):
        for cls, kind in _BY_TYPE:
            if isinstance(one, cls):
                return kind
    for one in causes(error):
        if isinstance(one, (ConnectionError, u3.NewConnectionError, rex.ConnectionError)):
            return ErrorKind.PROTOCOL if _is_bad_http(error) else ErrorKind.CONNECT
    if isinstance(error, requests.RequestException):
        return ErrorKind.PROTOCOL
    if isinstance(error, OSError):
        return ErrorKind.CONNECT
    return ErrorKind.INTERNAL


def describe(error: BaseException) -> str:
    """Say in a few words what went wrong: what the system or the protocol said, not what wrapped it.

    The path of a URL, which may hold secrets, isn't in it where requests and urllib3 would put it.
    """
    is_of_ours = isinstance(error, CrawlPoolError)
    if isinstance(error, rex.InvalidHeader) and not is_of_ours and not str(error).startswith("header "):
        return "a header has a name or a value that HTTP can't carry"  # requests' own message shows the value
    if not is_of_ours:
        chain = list(causes(error))
        for one in chain:
            if isinstance(one, OSError) and not isinstance(one, requests.RequestException) and one.strerror:
                return one.strerror
        for one in chain:
            if isinstance(one, u3.HTTPError) and not isinstance(one, u3.MaxRetryError):
                return str(one.args[-1] if one.args and isinstance(one.args[-1], str) else one).rpartition(": ")[2]
    return str(error) or type(error).__name__


def _is_bad_http(error: BaseException) -> bool:
    import http.client  # imported here only to keep the module's import light

    return any(
        isinstance(one, http.client.HTTPException) and not isinstance(one, http.client.RemoteDisconnected)
        for one in causes(error)
    )
