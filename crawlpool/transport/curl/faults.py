"""What libcurl's errors mean: the exception that requests raises for the same, and so the same ``error.kind``."""

from __future__ import annotations

import http.client
import os
import socket
from typing import TYPE_CHECKING, Any

import requests
from requests import exceptions as rex
from urllib3.exceptions import NameResolutionError, ReadTimeoutError
from urllib3.exceptions import ProtocolError as U3ProtocolError

from crawlpool.errors import (
    BlockedAddress,
    BodyStalled,
    BodyTooLarge,
    Cancelled,
    CrawlPoolError,
    CutHeader,
    DeadlineExceeded,
    InvalidLength,
    NoDescriptors,
    OutOfMemory,
    PoolClosed,
    ProtocolError,
    TruncatedBody,
)
from crawlpool.fence import lost
from crawlpool.shortage import SHORT, shortage_now
from crawlpool.transport.answer import check_switch
from crawlpool.transport.curl.header import read_head
from crawlpool.transport.fields import BLANK
from crawlpool.transport.lifeline import LegEnd

if TYPE_CHECKING:
    from crawlpool.transport.curl.transfer import Transfer

# CURLcode; the names are libcurl's own, without CURLE_.
UNSUPPORTED_PROTOCOL, URL_MALFORMAT, COULDNT_RESOLVE_PROXY, COULDNT_RESOLVE_HOST, COULDNT_CONNECT = 1, 3, 5, 6, 7
WEIRD_SERVER_REPLY, HTTP2, PARTIAL_FILE, WRITE_ERROR, OUT_OF_MEMORY, CACERT_BADFILE = 8, 16, 18, 23, 27, 77
OPERATION_TIMEDOUT, ABORTED_BY_CALLBACK, BAD_FUNCTION_ARGUMENT = 28, 42, 43
GOT_NOTHING, SEND_ERROR, RECV_ERROR, BAD_CONTENT_ENCODING, FILESIZE_EXCEEDED, SEND_FAIL_REWIND = 52, 55, 56, 61, 63, 65
HTTP2_STREAM, PROXY, TOO_LARGE = 92, 97, 100

#: ENGINE_*, CERTPROBLEM, CIPHER, PEER_FAILED_VERIFICATION, USE_SSL_FAILED, CACERT_BADFILE, SHUTDOWN_FAILED,
#: CRL_BADFILE, ISSUER_ERROR, PINNEDPUBKEYNOTMATCH, INVALIDCERTSTATUS, CLIENTCERT, ECH_REQUIRED.
_TLS = frozenset((35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98, 101))
#: Of what libcurl does before it has a socket: it doesn't say why it couldn't.
_OPENS_FILES = frozenset((COULDNT_RESOLVE_PROXY, COULDNT_RESOLVE_HOST, CACERT_BADFILE))
#: What a deadline that has passed may look like.
_MAY_BE_LATE = (requests.Timeout, requests.ConnectionError, rex.ChunkedEncodingError)
_BROKEN = frozenset((HTTP2, GOT_NOTHING, SEND_ERROR, RECV_ERROR, HTTP2_STREAM, SEND_FAIL_REWIND, PARTIAL_FILE))


def fault_of(transfer: Transfer) -> BaseException | None:
    """Return the exception that says how a transfer failed, or ``None`` if it didn't.

    Never raises. The message doesn't show the URL, which may hold secrets.
    """
    if transfer.code == 0 and transfer.error is None and transfer.stopped is None:
        return None
    fault = _fault_of(transfer)
    deadline = transfer.exchange.deadline
    if deadline.is_set and isinstance(fault, _MAY_BE_LATE) and deadline.is_past():
        return fault if isinstance(fault, DeadlineExceeded) else late(transfer.exchange.request)
    return fault


def _fault_of(transfer: Transfer) -> BaseException | None:
    request: Any = transfer.exchange.request
    if transfer.error is not None:
        if transfer.way.proxy is not None and isinstance(transfer.error, socket.gaierror):
            return rex.ProxyError(transfer.error, request=request)
        return _of_error(transfer.error, request, was_sent=transfer.sends > 0)
    if transfer.stopped is LegEnd.CLOSED:
        return PoolClosed("the session pool was closed during the request")
    if transfer.stopped is LegEnd.LEASE:
        return lost(request)
    if transfer.stopped is LegEnd.CANCELLED:
        return Cancelled("the request was aborted", request=request)
    if transfer.stopped is LegEnd.DEADLINE:
        return late(request)
    code = transfer.code
    if code == 0:
        return None
    if code == OPERATION_TIMEDOUT:
        return _timed_out(transfer)
    if code in _OPENS_FILES and (short := shortage_now()) is not None:
        return _of_error(short, request)
    breach = _breach(transfer)
    if breach is not None:
        return breach
    if code in _TLS:
        return _proxied(transfer) or rex.SSLError(transfer.message or "TLS failed", request=request)
    if code in _BROKEN:
        return _broken(transfer)
    return _other(transfer)


def _other(transfer: Transfer) -> BaseException:
    request: Any = transfer.exchange.request
    code, message = transfer.code, transfer.message
    if code == ABORTED_BY_CALLBACK:
        return _reset(request)
    if code == BAD_FUNCTION_ARGUMENT and transfer.way.cert:
        return rex.SSLError(message, request=request)  # the key isn't the certificate's
    if code == FILESIZE_EXCEEDED:
        return BodyTooLarge(
            f"the body is longer than the cap of {transfer.exchange.max_body_bytes or 0:,} bytes", request=request
        )
    if code == COULDNT_CONNECT:
        proxied = _proxied(transfer)
        if isinstance(transfer.no_socket, BlockedAddress):
            return transfer.no_socket
        if transfer.no_socket is not None:
            return _of_error(transfer.no_socket, request)
        return proxied or rex.ConnectionError(ConnectionError(transfer.os_error, _os_text(transfer)), request=request)
    if code == COULDNT_RESOLVE_HOST:
        return rex.ConnectionError(socket.gaierror(socket.EAI_NONAME, "the name doesn't resolve"), request=request)
    if code in (COULDNT_RESOLVE_PROXY, PROXY):
        return rex.ProxyError(message or "the proxy can't be used", request=request)
    if code == URL_MALFORMAT:
        return rex.InvalidURL("libcurl takes it for no URL", request=request)
    if code in (WEIRD_SERVER_REPLY, TOO_LARGE) and _has_whole_header(transfer):
        return TruncatedBody(f"the body's framing is broken: {message}", request=request)
    if code == WEIRD_SERVER_REPLY and "Content-Length" in message:
        return InvalidLength(f"the answer breaks HTTP: {message}", request=request)
    if code in (WEIRD_SERVER_REPLY, BAD_CONTENT_ENCODING, TOO_LARGE) or (
        code == UNSUPPORTED_PROTOCOL and transfer.sends
    ):
        return ProtocolError(f"the answer breaks HTTP: {message or 'its header is too large'}", request=request)
    if code == UNSUPPORTED_PROTOCOL:
        return rex.InvalidSchema(message or "libcurl doesn't speak this scheme", request=request)
    if code == OUT_OF_MEMORY:
        return OutOfMemory("libcurl ran out of memory", request=request)
    if code == WRITE_ERROR:  # nothing that takes a body says so: it raised, and of its own accord it doesn't
        return OutOfMemory("there was no memory for the body", request=request)
    return rex.ConnectionError(message or f"libcurl's error {code}", request=request)


def _of_error(error: BaseException, request: Any, *, was_sent: bool = False) -> BaseException:
    if isinstance(error, OSError) and error.errno in SHORT and not was_sent:
        return NoDescriptors(error.strerror or str(error), request=request)
    if isinstance(error, (NameResolutionError, socket.gaierror)):
        return rex.ConnectionError(error, request=request)
    if isinstance(error, TimeoutError):
        return rex.ConnectTimeout(error, request=request)
    if isinstance(error, (requests.RequestException, CrawlPoolError)):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return rex.ConnectionError(error, request=request)
    if isinstance(error, OSError):  # a CA bundle that isn't there: requests raises it as it is
        return error
    if type(error).__module__ == "pycurl":
        code = error.args[0] if error.args else 0
        return (
            rex.InvalidURL("libcurl takes it for no URL", request=request)
            if code == URL_MALFORMAT
            else (rex.ConnectionError(str(error.args[-1] if error.args else error), request=request))
        )
    return error  # the user's own


def _timed_out(transfer: Transfer) -> Exception:
    request: Any = transfer.exchange.request
    deadline = transfer.exchange.deadline
    # libcurl counts in milliseconds from its own first look at the clock.
    if transfer.sends or (deadline.is_set and deadline.remaining_s() < 0.01):
        return late(request)
    if transfer.way.proxy is not None and not transfer.has_connected:
        why = f"Connection to the proxy timed out. (connect timeout={transfer.way.connect_s})"
        return rex.ProxyError(why, request=request)  # as urllib3 has it
    return rex.ConnectTimeout(f"Connection timed out. (connect timeout={transfer.way.connect_s})", request=request)


def _broken(transfer: Transfer) -> Exception:
    request: Any = transfer.exchange.request
    lines = transfer.head
    proxied = None if transfer.sends else _proxied(transfer)  # the answer to CONNECT was no
    if proxied is not None:
        return proxied
    if "response headers" in transfer.message and not _has_whole_header(transfer):  # else they are trailers
        return ProtocolError(f"the answer breaks HTTP: {transfer.message}", request=request)
    if _has_whole_header(transfer):
        return TruncatedBody(f"the body was cut: {transfer.message}", request=request)
    if lines and lines[-1] not in BLANK:
        return CutHeader("the connection ended in the middle of the header", request=request)
    if transfer.code == GOT_NOTHING:
        why: Exception = http.client.RemoteDisconnected("Remote end closed connection without response")
    else:
        why = ConnectionResetError(transfer.os_error, _os_text(transfer))
    return rex.ConnectionError(U3ProtocolError("Connection aborted.", why), request=request)


def _reset(request: Any) -> Exception:
    why = ConnectionResetError("the connection broke after the request was written to it")
    return rex.ConnectionError(U3ProtocolError("Connection aborted.", why), request=request)


def _breach(transfer: Transfer) -> Exception | None:
    """Return what is wrong with a header that is whole: with the body so much more may be, and none of it counts."""
    if transfer.sends and _has_whole_header(transfer):
        try:
            check_switch(read_head(transfer.head, transfer.request)[0], transfer.request)
        except ProtocolError as error:
            return error
        except CutHeader:  # behind the interim answers something begins
            return None
    return None


def _has_whole_header(transfer: Transfer) -> bool:
    """Tell whether the header of the answer, not of an interim one, has come to its end."""
    is_interim = False
    for line in transfer.head:
        if line.startswith(b"HTTP/"):
            status = line.partition(b" ")[2][:3]
            is_interim = status[:1] == b"1" and status != b"101"
        elif line in BLANK and not is_interim:
            return True
    return False


def _proxied(transfer: Transfer) -> Exception | None:
    if transfer.way.proxy is None:
        return None
    if transfer.code in _TLS and not transfer.way.proxy.startswith("https:"):
        return None  # the proxy is plain: it was the other end's TLS
    return rex.ProxyError(transfer.message or "the proxy can't be used", request=transfer.exchange.request)


def read_timeout(transfer: Transfer) -> Exception:
    """Return the exception for a transfer of which no byte came for as long as its read timeout allows."""
    request: Any = transfer.exchange.request
    if transfer.has_header or _has_whole_header(transfer):
        breach = _breach(transfer)  # libcurl waits for the body of a 101
        if breach is not None:
            return breach
        return BodyStalled("no byte of the body came within the read timeout", request=request)
    told = f"Read timed out. (read timeout={transfer.way.read_s})"
    why = ReadTimeoutError(f"{transfer.route.host}:{transfer.route.port}", None, told)  # type: ignore[arg-type]
    return rex.ReadTimeout(why, request=request)


def resolving_timeout(transfer: Transfer) -> Exception:
    """Return the exception for a name that took longer than the connect timeout."""
    told = f"Connection timed out: the name didn't resolve. (connect timeout={transfer.way.connect_s})"
    return rex.ConnectTimeout(told, request=transfer.exchange.request)


def late(request: Any) -> DeadlineExceeded:
    """Return the exception for a deadline that passed."""
    return DeadlineExceeded("the deadline passed before the answer's last byte", request=request)


def _os_text(transfer: Transfer) -> str:
    return os.strerror(transfer.os_error) if transfer.os_error else transfer.message
