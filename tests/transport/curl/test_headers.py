"""Headers that are odd, broken or endless: what is made of them, over both transports, and where the two differ."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool import SessionPool
from crawlpool.errors import CutHeader, DeadlineExceeded, ErrorKind, InvalidLength, ProtocolError, kind_of
from crawlpool.testing import SiteServer
from crawlpool.transport.answer import parse_header
from crawlpool.transport.curl import library
from crawlpool.transport.curl.header import read_head
from tests.kit import RawServer
from tests.kit import read_head as read_request

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
HI = b"\r\nhi"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"\r\n2\r\nhi\r\n0\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nSet-Cookie: early=1\r\n\r\n"


def says(data: bytes) -> Callable[[socket.socket, int], None]:
    """Return a script that says ``data`` to a request, and no more."""

    def script(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return script


def answer_to(data: bytes, transport: str, **options: Any) -> requests.Response:
    """Ask a server that says ``data``; return the response, its body read."""
    with RawServer(says(data)) as server, SessionPool(transport=transport, retry=False, trust_env=False) as pool:
        response = pool.get(server.url(), timeout=10, **options)
        response.content  # noqa: B018 - reads the body
        return response


#: What both make the same of: bytes, status, reason, and all the fields in order.
ALIKE: dict[str, tuple[bytes, int, str, list[tuple[str, str]]]] = {
    "no reason": (b"HTTP/1.1 200\r\n" + TWO + HI, 200, "", [("Content-Length", "2")]),
    "an empty reason": (b"HTTP/1.1 200 \r\n" + TWO + HI, 200, "", [("Content-Length", "2")]),
    "a reason in Latin-1": (b"HTTP/1.1 200 caf\xe9\r\n" + TWO + HI, 200, "café", [("Content-Length", "2")]),
    "an unknown status": (b"HTTP/1.1 999 Odd\r\n" + TWO + HI, 999, "Odd", [("Content-Length", "2")]),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nA: 1\r\n" + HI, 200, "OK", [("A", "1")]),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 200, "OK", [("Content-Length", "2")]),
    "a value in Latin-1": (OK + b"X: caf\xe9\r\n" + TWO + HI, 200, "OK", [("X", "café"), ("Content-Length", "2")]),
    "space after a value": (OK + b"X: a  \r\n" + TWO + HI, 200, "OK", [("X", "a  "), ("Content-Length", "2")]),
    "an empty value": (OK + b"X:\r\n" + TWO + HI, 200, "OK", [("X", ""), ("Content-Length", "2")]),
    "an empty name": (OK + b": x\r\n" + TWO + HI, 200, "OK", [("Content-Length", "2")]),
    "repeated Set-Cookie": (
        OK + b"Set-Cookie: a=1\r\nX: 1\r\nset-cookie: b=2, c\r\n" + TWO + HI,
        200,
        "OK",
        [("Set-Cookie", "a=1"), ("X", "1"), ("set-cookie", "b=2, c"), ("Content-Length", "2")],
    ),
    "folded by space": (OK + b"X: a\r\n b\r\n" + TWO + HI, 200, "OK", [("X", "a b"), ("Content-Length", "2")]),
    "folded by tab": (OK + b"X: a\r\n\tb\r\n" + TWO + HI, 200, "OK", [("X", "a b"), ("Content-Length", "2")]),
    "two lengths that agree": (OK + TWO + TWO + HI, 200, "OK", [("Content-Length", "2")] * 2),
    "trailers": (
        CHUNKED + b"\r\n2\r\nhi\r\n0\r\nX-T: 1\r\nSet-Cookie: late=1\r\n\r\n",
        200,
        "OK",
        [("Transfer-Encoding", "chunked")],
    ),
    "100 before": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + TWO + HI, 200, "OK", [("Content-Length", "2")]),
    "102 before": (b"HTTP/1.1 102 x\r\nA: 1\r\n\r\n" + OK + TWO + HI, 200, "OK", [("Content-Length", "2")]),
    "103 before": (EARLY * 3 + OK + TWO + HI, 200, "OK", [("Content-Length", "2")]),
    "64 KiB": (
        OK + b"X: " + b"x" * (65531 - len(TWO)) + b"\r\n" + TWO + HI,
        200,
        "OK",
        [("X", "x" * (65531 - len(TWO))), ("Content-Length", "2")],
    ),
    "100 headers": (OK + b"X: 1\r\n" * 99 + TWO + HI, 200, "OK", [("X", "1")] * 99 + [("Content-Length", "2")]),
}


@pytest.mark.transports
@pytest.mark.parametrize("options", [{}, {"stream": True}, {"deadline": 10}], ids=["whole", "stream", "deadline"])
@pytest.mark.parametrize("name", ALIKE)
def test_an_odd_header_is_the_same_over_each_transport(name: str, options: dict[str, Any], transport: str) -> None:
    """Status, reason, fields in order, cookies and body: as http.client has them, but for interim answers."""
    data, status, reason, fields = ALIKE[name]
    response = answer_to(data, transport, **options)
    assert (response.status_code, response.reason, response.content) == (status, reason, b"hi")
    assert list(response.raw.headers.iteritems()) == sorted_by_first(fields)
    joined: dict[str, list[str]] = {}
    for field, value in fields:
        joined.setdefault(field.lower(), []).append(value)
    assert dict(response.headers.lower_items()) == {field: ", ".join(values) for field, values in joined.items()}
    assert response.cookies.get_dict() == ({"a": "1", "b": "2, c"} if name == "repeated Set-Cookie" else {})


def sorted_by_first(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return fields as urllib3 iterates them: those of one name together, by the spelling that came first."""
    names: dict[str, str] = {}
    for name, _ in fields:
        names.setdefault(name.lower(), name)
    return [(shown, value) for lower, shown in names.items() for name, value in fields if name.lower() == lower]


BAD_LENGTHS = (b"", b"five", b"+2", b"-2", b"2x", b"0_2", b"0x2", b"2.", b"9" * 30)
#: What both refuse, and as what kind.
REFUSED = {
    "cut in a line": (OK + b"X: 1\r\nY", CutHeader, ErrorKind.PROTOCOL),
    "cut after a line": (OK + TWO, CutHeader, ErrorKind.PROTOCOL),
    "cut after the status": (OK, CutHeader, ErrorKind.PROTOCOL),
    "cut after an interim answer's end": (EARLY + OK, CutHeader, ErrorKind.PROTOCOL),
    "cut between an interim answer and the answer": (EARLY, requests.ConnectionError, ErrorKind.CONNECT),
    "101 headers": (OK + b"X: 1\r\n" * 100 + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "over 64 KiB": (
        OK + b"X: " + b"x" * (65532 - len(TWO)) + b"\r\n" + TWO + HI,
        requests.ConnectionError,
        ErrorKind.PROTOCOL,
    ),
    "HTTP/0.9": (b"<html>hi</html>\r\n\r\n", requests.ConnectionError, ErrorKind.PROTOCOL),
    "a blank line first": (b"\r\n" + OK + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "HTTP/2 unasked": (b"HTTP/2 200\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "HTTP/3.0": (b"HTTP/3.0 200 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "http in lower case": (b"http/1.1 200 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "ICY": (b"ICY 200 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "a status of four digits": (b"HTTP/1.1 1000 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "a status below 100": (b"HTTP/1.1 099 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    **{
        name: (OK + lines + HI, InvalidLength, ErrorKind.PROTOCOL)
        for name, lines in {
            "two lengths that differ": TWO + b"Content-Length: 3\r\n",
            **{f"a length of {value!r}": b"Content-Length: %s\r\n" % value for value in BAD_LENGTHS},
        }.items()
    },
    **{
        name: (data, ProtocolError, ErrorKind.PROTOCOL)
        for name, data in {
            "space before a colon": OK + b"Content-Length : 2\r\nX: 1\r\n" + HI,
            "a length and chunked": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
            "chunked and a length": CHUNKED + b"Content-Length: 3\r\n" + CHUNKS,
            "chunked twice, in two lines": CHUNKED + b"Transfer-Encoding: chunked\r\n" + CHUNKS,
            "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n" + CHUNKS,
            "bare CR": OK + b"X: a\rb\r\n" + TWO + HI,
            "NUL": OK + b"X: a\0b\r\n" + TWO + HI,
            "no colon": OK + b"nocolon\r\n" + TWO + HI,
            "folded first": OK + b" folded\r\n" + TWO + HI,
            "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS,
            "an unknown transfer coding": OK + b"Transfer-Encoding: xchunked\r\n" + CHUNKS,
            "17 interim answers": EARLY * 17 + OK + TWO + HI,
            "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhi",
        }.items()
    },
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n" + TWO + HI, requests.ConnectionError, ErrorKind.PROTOCOL),
}


@pytest.mark.transports
@pytest.mark.parametrize("options", [{}, {"stream": True}, {"deadline": 10}], ids=["whole", "stream", "deadline"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_header_is_refused_by_each_transport(name: str, options: dict[str, Any], transport: str) -> None:
    """A header that is cut, too large or none is an error of the same kind, streamed or not; never an empty answer."""
    data, expected, kind = REFUSED[name]
    with pytest.raises(expected) as caught:
        answer_to(data, transport, **options)
    assert kind_of(caught.value) is kind


@pytest.mark.transports
@pytest.mark.parametrize("options", [{}, {"stream": True}], ids=["whole", "stream"])
def test_interim_answers_without_end_are_an_error(options: dict[str, Any], transport: str) -> None:
    """A flood of 103 ends as what it is, though no deadline is set and each of them resets the read timeout."""

    def flood(connection: socket.socket, _: int) -> None:
        read_request(connection)
        while True:
            connection.sendall(EARLY * 100)

    with RawServer(flood) as server, SessionPool(transport=transport, retry=False, trust_env=False) as pool:
        with pytest.raises(requests.ConnectionError) as caught:
            pool.get(server.url(), timeout=10, **options)
        assert kind_of(caught.value) is ErrorKind.PROTOCOL


@pytest.mark.parametrize("options", [{}, {"stream": True}], ids=["whole", "stream"])
def test_the_deadline_holds_over_interim_answers(options: dict[str, Any]) -> None:
    """One 103 after another, each within the read timeout: the deadline passes all the same."""

    def drip(connection: socket.socket, _: int) -> None:
        read_request(connection)
        while not server.shutdown.wait(0.05):
            connection.sendall(EARLY)

    with RawServer(drip) as server, SessionPool(transport="curl", retry=False, trust_env=False) as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            pool.get(server.url(), timeout=10, deadline=0.4, **options)
        assert kind_of(caught.value) is ErrorKind.DEADLINE


# read_head by itself -------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f\x85"), max_size=24)
PLAIN = st.builds(
    lambda name, space, value, end: f"{name}:{space}{value}{end}".encode("latin-1"),
    st.one_of(
        st.sampled_from(["Content-Type", "Set-Cookie", "set-cookie", "Transfer-Encoding", "From", "X"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12),
    ),
    st.sampled_from(["", " ", "\t", " \t "]),
    TEXT,
    st.sampled_from(["\r\n", "\n"]),
)
ODD = st.builds(lambda text, end: (text + end).encode("latin-1"), TEXT.filter(bool), st.sampled_from(["\r\n", "\n"]))


FRAMING = ("content-length", "transfer-encoding")


@given(st.lists(st.one_of(PLAIN, PLAIN, PLAIN, ODD), max_size=8))
@example([b"A: 1\r\n", b" folded\r\n", b"B: 2\r\n"])
@example([b"A: 1\r\n", b"a: 3\r\n"])
def test_any_lines_are_read_as_the_other_transport_reads_them(lines: list[bytes]) -> None:
    """Fields, order and store equal http.client's, the first time and, from memory, the second; or it is refused."""
    lines = [line for line in lines if not line.lower().startswith(tuple(name.encode() for name in FRAMING))]
    expected = [
        (str(name), re.sub(r"\r?\n[ \t]+", " ", str(value)).lstrip(" \t"))
        for name, value in parse_header(lines).items()
    ]
    whole = [b"HTTP/1.1 103 x\r\n", b"Early: 1\r\n", b"\r\n", OK, *lines, b"\r\n", b"Trailer: 1\r\n", b"\r\n"]
    for _ in range(2):
        try:
            status, reason, version, fields, store = read_head(whole, None)
        except ProtocolError:
            assert not all(re.fullmatch(rb"[!-9;-~]+:[^\0\r\n]*\r?\n", line) for line in lines)
            continue
        assert (status, reason, version, fields) == (200, "OK", "1.1", expected)
        assert list(store) == list(dict.fromkeys(name.lower() for name, _ in expected))
        for lower, (shown, value) in store.items():
            same = [pair for pair in expected if pair[0].lower() == lower]
            assert (shown, value) == (same[0][0], ", ".join(one for _, one in same))


@given(st.lists(PLAIN, max_size=4), st.data())
def test_a_header_cut_anywhere_is_no_header(lines: list[bytes], data: st.DataObject) -> None:
    """Without the blank line, at whatever line it ends, it is cut: also behind interim answers."""
    whole = [b"HTTP/1.1 100 x\r\n", b"\r\n", OK, *lines]
    kept = data.draw(st.integers(0, len(whole)))
    with pytest.raises(CutHeader):
        read_head(whole[:kept], None)


def test_headers_changed_after_a_send_go_out_with_the_next() -> None:
    """A request that is sent again has the headers that it has then, over the same handle and connection."""
    with SiteServer({"/": b"x"}) as server, SessionPool(transport="curl", retry=False, trust_env=False) as pool:
        session = pool.session
        request = pool.get(server.url("/")).request
        for value in ("1", "2"):
            request.headers["X-Turn"] = value
            assert session.send(request).content == b"x"
        del request.headers["X-Turn"]
        session.send(request)
        pool.get(server.url("/"))
        assert [one.headers.get("X-Turn") for one in server.requests] == [None, "1", "2", None, None]
        assert server.connections == 1
