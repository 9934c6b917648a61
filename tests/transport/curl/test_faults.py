"""What goes wrong on the wire is an exception of requests' tree, filed under what happened, and holds no secret."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from requests import exceptions as rex

from crawlpool import SessionPool
from crawlpool.clock import Deadline
from crawlpool.errors import (
    BodyStalled,
    BodyTooLarge,
    DeadlineExceeded,
    ErrorKind,
    OutOfMemory,
    PoolClosed,
    ProtocolError,
    RequestError,
    TruncatedBody,
    describe,
    kind_of,
)
from crawlpool.testing import FaultServer, script
from crawlpool.testing.certificates import Certificates
from crawlpool.testing.steps import drip
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl import library
from crawlpool.transport.curl.adapter import CurlAdapter
from crawlpool.transport.curl.faults import fault_of
from crawlpool.transport.lifeline import LegEnd
from tests.kit import RawServer, answering, read_head

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

SECRETS = ("pa55word", "t0ken", "c00kie", "0123key")
PATH = "/t0ken?key=0123key"
LOGIN, COOKIES = "user:pa55word@", {"c": "c00kie"}  # not in the tests' own lines, which a traceback shows
PROXY = "me:pa55word@127.0.0.1:1"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, by RST
BOMB = gzip.compress(bytes(4 * 2**20))
CUT_GZIP = gzip.compress(b"whole " * 1000)[:-12]

#: Every CURLcode that means something else than a broken connection, and what it is told as before a request was sent.
MEANT: dict[int, tuple[type[Exception], ErrorKind]] = {
    23: (OutOfMemory, ErrorKind.INTERNAL),
    27: (OutOfMemory, ErrorKind.INTERNAL),
    1: (rex.InvalidSchema, ErrorKind.INVALID_URL),
    3: (rex.InvalidURL, ErrorKind.INVALID_URL),
    5: (rex.ProxyError, ErrorKind.PROXY),
    6: (rex.ConnectionError, ErrorKind.DNS),
    8: (ProtocolError, ErrorKind.PROTOCOL),
    28: (rex.ConnectTimeout, ErrorKind.TIMEOUT),
    **dict.fromkeys(
        (35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98, 101), (rex.SSLError, ErrorKind.TLS)
    ),
    61: (ProtocolError, ErrorKind.PROTOCOL),
    63: (BodyTooLarge, ErrorKind.TOO_LARGE),
    97: (rex.ProxyError, ErrorKind.PROXY),
    100: (ProtocolError, ErrorKind.PROTOCOL),
}
#: The names that pycurl has for each; the rest of libcurl's range has none and counts, too.
CODES = range(1, 102)


@pytest.fixture
def adapter() -> Iterator[CurlAdapter]:
    """Give an adapter that nothing is sent by."""
    adapter = CurlAdapter()
    yield adapter
    adapter.close()


@pytest.fixture
def pool(transport: str) -> Iterator[SessionPool]:
    """Give a pool over the test's transport that doesn't retry."""
    with SessionPool(transport=transport, retry=False, trust_env=False, timeout=10) as pool:
        yield pool


def posed(adapter: CurlAdapter, *, proxy: str | None = None, **state: Any) -> Any:
    """Return a transfer that has ended as ``state`` says."""
    settings: dict[str, Any] = {"stream": False, "timeout": 10, "verify": True, "cert": None}
    settings["proxies"] = {"http": proxy} if proxy else {}
    request = requests.Request("GET", f"http://{LOGIN}127.0.0.1{PATH}", cookies=COOKIES).prepare()
    transfer = adapter.transfer_for(Exchange(request, settings, Deadline(state.pop("deadline", None))))
    for name, value in {"message": "libcurl's words", **state}.items():
        setattr(transfer, name, value)
    return transfer


def holds_no_secret(error: BaseException, transport: str = "curl") -> None:
    """Look through all that an error shows: itself, its record, its traceback, each cause.

    urllib3 puts the path into its own errors, which requests hands on; not into what the record says.
    """
    shown = [str(error), repr(error), describe(error), *traceback.format_exception(error)]
    for secret in SECRETS:
        looked_at = shown if transport == "curl" or secret not in PATH else [describe(error)]
        assert not any(secret in one for one in looked_at), secret


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_an_exception_of_requests(code: int, adapter: CurlAdapter) -> None:
    """Each has the class and the kind that it means; what means nothing here is a broken connection."""
    expected, kind = MEANT.get(code, (rex.ConnectionError, ErrorKind.CONNECT))
    for message in ("libcurl's words", ""):
        transfer = posed(adapter, code=code, message=message)
        fault: Any = fault_of(transfer)
        assert type(fault) is expected
        assert isinstance(fault, requests.RequestException)
        assert kind_of(fault) is kind
        assert fault.request is transfer.request
        assert str(fault)
        holds_no_secret(fault)


def test_pycurl_names_no_code_that_is_not_looked_at() -> None:
    """All of its ``E_*`` that a transfer can end with are in the table's range."""
    pycurl = library.require()
    other = ("E_MULTI", "E_OK", "E_CALL_MULTI", "E_ALREADY_COMPLETE")  # no transfer's end, and pycurl's own
    named = {name: code for name, code in vars(pycurl).items() if name.startswith("E_") and not name.startswith(other)}
    assert len(named) > 80
    assert set(named.values()) <= set(CODES)


def test_no_code_is_no_fault(adapter: CurlAdapter) -> None:
    """0 is success, even if it came late."""
    assert fault_of(posed(adapter, code=0)) is None
    assert fault_of(posed(adapter, code=0, deadline=0)) is None


@pytest.mark.parametrize("code", [7, 18, 28, 52, 56])
def test_what_breaks_at_the_deadline_is_the_deadline(code: int, adapter: CurlAdapter) -> None:
    """A timeout or a broken connection that is told after the deadline is its doing; a refused URL isn't."""
    assert type(fault_of(posed(adapter, code=code, deadline=0))) is DeadlineExceeded
    assert type(fault_of(posed(adapter, code=3, deadline=0))) is rex.InvalidURL


@pytest.mark.parametrize(
    ("why", "expected"),
    [(LegEnd.CLOSED, PoolClosed), (LegEnd.CANCELLED, RequestError), (LegEnd.DEADLINE, DeadlineExceeded)],
)
def test_who_ended_it_counts_more_than_the_code(why: LegEnd, expected: type[Exception], adapter: CurlAdapter) -> None:
    """A transfer that was ended has libcurl's code for it; that isn't what happened."""
    fault = fault_of(posed(adapter, stopped=why, code=42))
    assert isinstance(fault, expected)
    assert kind_of(fault) is (ErrorKind.DEADLINE if why is LegEnd.DEADLINE else ErrorKind.CANCELLED)


@pytest.mark.parametrize(
    ("head", "expected", "kind"),
    [
        ((), rex.ConnectionError, ErrorKind.CONNECT),
        ((OK,), RequestError, ErrorKind.PROTOCOL),
        ((OK, b"A: 1\r\n"), RequestError, ErrorKind.PROTOCOL),
        ((OK, b"\r\n"), TruncatedBody, ErrorKind.TRUNCATED),
        ((b"HTTP/1.1 103 x\r\n", b"\r\n"), rex.ConnectionError, ErrorKind.CONNECT),
        ((b"HTTP/1.1 103 x\r\n", b"\r\n", OK, b"\r\n"), TruncatedBody, ErrorKind.TRUNCATED),
    ],
)
@pytest.mark.parametrize("code", [18, 52, 55, 56])
def test_how_far_it_came_tells_what_was_lost(
    code: int, head: tuple[bytes, ...], expected: type[Exception], kind: ErrorKind, adapter: CurlAdapter
) -> None:
    """Nothing of the answer, a part of its header, or a part of its body; an interim answer is nothing of it."""
    fault: Any = fault_of(posed(adapter, code=code, head=head, sends=1))
    assert isinstance(fault, expected)
    assert kind_of(fault) is kind
    holds_no_secret(fault)


@pytest.mark.parametrize("code", [7, 35, 52, 56, 60])
def test_a_proxy_that_fails_is_told_as_such(code: int, adapter: CurlAdapter) -> None:
    """Before the request was sent it was the proxy; a plain proxy has no TLS of its own. Its password isn't shown."""
    fault: Any = fault_of(posed(adapter, code=code, proxy=f"http://{PROXY}"))
    assert kind_of(fault) is (ErrorKind.TLS if code in (35, 60) else ErrorKind.PROXY)
    holds_no_secret(fault)
    fault = fault_of(posed(adapter, code=code, proxy=f"https://{PROXY}"))
    assert kind_of(fault) is ErrorKind.PROXY
    holds_no_secret(fault)


# By real servers, over each transport --------------------------------------------------------------------------------

Script = Callable[[socket.socket, int], None]


def resets(data: bytes) -> Script:
    """Return a script that reads a request, says ``data`` and resets the connection."""

    def script(connection: socket.socket, _: int) -> None:
        read_head(connection)
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    return script


def lengthy(body: bytes, head: bytes = b"") -> Script:
    """Return a script that answers with a body whose length is told, and stays."""
    return answering(OK + head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


BROKEN: dict[str, tuple[Script, dict[str, Any], type[Exception], ErrorKind]] = {
    "reset": (resets(b""), {}, rex.ConnectionError, ErrorKind.CONNECT),
    "no answer": (answering(b"", close=True), {}, rex.ConnectionError, ErrorKind.CONNECT),
    "body cut": (
        answering(OK + b"Content-Length: 9\r\n\r\nhi", close=True),
        {},
        TruncatedBody,
        ErrorKind.TRUNCATED,
    ),
    "body reset": (resets(OK + b"Content-Length: 9\r\n\r\n"), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "chunks cut": (answering(CHUNKED + b"9\r\nhi", close=True), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "no last chunk": (answering(CHUNKED + b"2\r\nhi\r\n", close=True), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "bad chunk size": (answering(CHUNKED + b"zz\r\nhi\r\n"), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "negative chunk size": (answering(CHUNKED + b"-2\r\nhi\r\n"), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "chunk longer than its size": (
        answering(CHUNKED + b"2\r\nhixx\r\n0\r\n\r\n"),
        {},
        TruncatedBody,
        ErrorKind.TRUNCATED,
    ),
    "body too large": (lengthy(b"x" * 5000), {"max_body_bytes": 1000}, BodyTooLarge, ErrorKind.TOO_LARGE),
    "body too large, chunked": (
        answering(CHUNKED + b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"),
        {"max_body_bytes": 1000},
        BodyTooLarge,
        ErrorKind.TOO_LARGE,
    ),
    "body too large, to the end": (
        answering(OK + b"\r\n" + b"x" * 5000, close=True),
        {"max_body_bytes": 1000},
        BodyTooLarge,
        ErrorKind.TOO_LARGE,
    ),
    "one byte too large": (lengthy(b"x" * 1001), {"max_body_bytes": 1000}, BodyTooLarge, ErrorKind.TOO_LARGE),
    "gzip bomb": (
        lengthy(BOMB, b"Content-Encoding: gzip\r\n"),
        {"max_body_bytes": 100_000},
        BodyTooLarge,
        ErrorKind.TOO_LARGE,
    ),
    "gzip cut": (lengthy(CUT_GZIP, b"Content-Encoding: gzip\r\n"), {}, TruncatedBody, ErrorKind.TRUNCATED),
    "no gzip": (
        lengthy(b"plain", b"Content-Encoding: gzip\r\n"),
        {},
        rex.ContentDecodingError,
        ErrorKind.DECODE,
    ),
}


@pytest.mark.transports
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_exchange_is_told_as_what_it_is(name: str, pool: SessionPool, transport: str) -> None:
    """The same class and kind over each transport; and the next request is answered over a connection that is whole."""
    script, options, expected, kind = BROKEN[name]
    with RawServer(script) as server, RawServer(lengthy(b"hi")) as whole:
        with pytest.raises(expected) as caught:
            pool.get(server.url(PATH, host=LOGIN + "127.0.0.1"), cookies=COOKIES, **options)
        assert kind_of(caught.value) is kind
        holds_no_secret(caught.value, transport)
        assert pool.statistics().connections_open <= 1
        assert pool.get(whole.url()).text == "hi"


@pytest.mark.transports
def test_a_refused_port_is_told(pool: SessionPool, transport: str) -> None:
    """Nobody listens: no connection, and the system's own words."""
    with pytest.raises(rex.ConnectionError) as caught:
        pool.get(f"http://{LOGIN}127.0.0.1:1{PATH}")
    assert kind_of(caught.value) is ErrorKind.CONNECT
    assert describe(caught.value) == "Connection refused"
    holds_no_secret(caught.value, transport)


def speaks_plainly(connection: socket.socket, _: int) -> None:
    """Answer whatever is said as a server without TLS does."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


@pytest.mark.transports
def test_tls_that_fails_is_told(pool: SessionPool, transport: str, certificates: Certificates) -> None:
    """A port that speaks no TLS, an authority that isn't trusted, a certificate of another name."""
    with RawServer(speaks_plainly) as plain:
        with RawServer(lengthy(b"hi"), tls=certificates.server_context()) as server:
            urls = [f"https://{LOGIN}127.0.0.1:{port}{PATH}" for port in (plain.port, server.port)]
            leads = {("other.example", server.port): "127.0.0.1"}
            for url in urls:
                with pytest.raises(rex.SSLError) as caught:
                    pool.get(url)
                assert kind_of(caught.value) is ErrorKind.TLS
                holds_no_secret(caught.value, transport)
            options: dict[str, Any] = {"resolve": leads, "verify": certificates.authority}
            with SessionPool(transport=transport, retry=False, trust_env=False, **options) as other:
                with pytest.raises(rex.SSLError) as caught:
                    other.get(server.url(PATH, host=LOGIN + "other.example"))
                assert kind_of(caught.value) is ErrorKind.TLS
                holds_no_secret(caught.value, transport)
                assert other.get(server.url()).text == "hi"


@contextlib.contextmanager
def mute_listener() -> Iterator[int]:
    """Give a port that takes no connection and refuses none: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.transports
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse when the queue is full")
@pytest.mark.parametrize(
    ("options", "expected", "kind"),
    [
        ({"timeout": (0.2, 10)}, rex.ConnectTimeout, ErrorKind.TIMEOUT),
        ({"timeout": 10, "deadline": 0.2}, DeadlineExceeded, ErrorKind.DEADLINE),
        ({"timeout": 10, "deadline": 0.2, "stream": True}, DeadlineExceeded, ErrorKind.DEADLINE),
    ],
)
def test_connecting_has_its_time(
    options: dict[str, Any], expected: type[Exception], kind: ErrorKind, pool: SessionPool, transport: str
) -> None:
    """A host that doesn't answer at all: the connect timeout ends it, or the deadline if that comes first."""
    with mute_listener() as port:
        with pytest.raises(expected) as caught:
            pool.get(f"http://{LOGIN}127.0.0.1:{port}{PATH}", **options)
        assert kind_of(caught.value) is kind
        holds_no_secret(caught.value, transport)


MUTE = answering(b"")
STALLING = answering(OK + b"Content-Length: 9\r\n\r\nhi")


@pytest.mark.transports
@pytest.mark.parametrize(
    ("script", "read_s", "expected"),
    [(MUTE, 0.2, rex.ReadTimeout), (STALLING, 1.0, BodyStalled)],  # a header has to come within its own
    ids=["no header", "half a body"],
)
def test_reading_has_its_time(
    script: Script, read_s: float, expected: type[Exception], pool: SessionPool, transport: str
) -> None:
    """No byte for as long as the read timeout: before the header a ReadTimeout, in the body one that says so."""
    with RawServer(script) as server:
        with pytest.raises(expected) as caught:
            pool.get(server.url(PATH, host=LOGIN + "127.0.0.1"), timeout=(10, read_s))
        assert kind_of(caught.value) is ErrorKind.TIMEOUT
        holds_no_secret(caught.value, transport)
        assert pool.statistics().connections_open == 0


@pytest.mark.transports
@pytest.mark.parametrize("head", [OK + b"X: ", OK + b"Content-Length: 9999\r\n\r\n", CHUNKED + b"270f\r\n"])
def test_a_drip_ends_at_the_deadline(head: bytes, pool: SessionPool, transport: str) -> None:
    """A byte now and then keeps every read timeout away, in the header and in the body; the deadline comes."""
    with FaultServer({PATH: script(head, drip(b"x"))}) as server:
        with pytest.raises(DeadlineExceeded) as caught:
            pool.get(server.url(PATH).replace("//", f"//{LOGIN}", 1), timeout=10, deadline=0.4)
        assert kind_of(caught.value) is ErrorKind.DEADLINE
        holds_no_secret(caught.value, transport)
        assert pool.statistics().connections_open == 0
