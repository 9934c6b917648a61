"""Each named fault that lies in an answer, as a plain socket sees it: the bytes, and how the connection ends."""

from __future__ import annotations

import socket
import ssl
import time
import zlib
from collections.abc import Iterator

import pytest

from crawlpool.testing import FAULTS, FaultServer, script
from crawlpool.testing.bombs import CODINGS, bomb, can_code, coded, corrupt, nested_bomb, truncated
from crawlpool.testing.catalog import BODY
from crawlpool.testing.steps import Send, head

PATIENCE_S = 0.05

#: What comes, and how it ends: by FIN, by RST, or not (open), which also is so where more comes than one would read.
SEEN = {
    "late_header": (BODY, "fin"),
    "sliced": (BODY, "fin"),
    "narrow": (BODY, "fin"),
    "header_stall": (b"", "open"),
    "header_drip": (b"X-Slow: x", "open"),
    "header_cut_stall": (b"X-Slow: x\r\n", "open"),
    "interim_drip": (b"102 Processing\r\n\r\nHTTP/1.1 102", "open"),
    "interim_flood": (b"102 Processing\r\n\r\nHTTP/1.1 102", "open"),
    "body_stall": (b"\r\n\r\n" + BODY, "open"),
    "body_drip": (b"Content-Length: 1000000\r\n\r\nx", "open"),
    "chunk_drip": (b"1\r\nx\r\n", "open"),
    "chunk_size_drip": (b"chunked\r\n\r\n0", "open"),
    "trailer_drip": (b"0\r\nX: y\r\nX: y\r\n", "open"),
    "short_length": (b"Content-Length: %d\r\n\r\n%b" % (len(BODY) + 9, BODY), "fin"),
    "reset_in_body": (BODY, "rst"),
    "reset": (b"", "rst"),
    "hang_up": (b"", "fin"),
    "header_cut": (b"Content-Len", "fin"),
    "header_reset": (b"Content-Len", "rst"),
    "chunked_cut": (b"5\r\nfirst\r\n", "fin"),
    "chunk_cut": (b"50\r\nfirst", "fin"),
    "last_chunk_cut": (b"first\r\n0\r\n", "fin"),
    "chunk_size_bad": (b"\r\nzz\r\n", "fin"),
    "chunk_size_negative": (b"\r\n-5\r\n", "fin"),
    "chunk_size_huge": (b"\r\n" + b"f" * 18 + b"\r\n", "fin"),
    "chunk_end_bad": (b"3\r\nfirst\r\n", "fin"),
    "until_close": (b"Connection: close\r\n\r\n" + BODY, "fin"),
    "early_hints": (b"HTTP/1.1 103 Early Hints\r\n", "fin"),
    "surplus": (BODY + b"HTTP/1.1 200 OK", "open"),
    "planted": (BODY + b"HTTP/1.1 200 OK", "open"),
    "two_lengths": (b"Content-Length: 7\r\n", "fin"),
    "length_negative": (b"Content-Length: -5\r\n", "fin"),
    "length_garbage": (b"Content-Length: some\r\n", "fin"),
    "length_and_chunks": (b"Content-Length: 44\r\nTransfer-Encoding: chunked\r\n", "fin"),
    "chunked_twice": (b"chunked, chunked\r\n", "fin"),
    "bare_cr": (b"one\rX-B", "fin"),
    "nul": (b"o\0ne", "fin"),
    "space_before_colon": (b"X-A :", "fin"),
    "no_colon": (b"X-A one\r\n", "fin"),
    "many_headers": (b"X-149: x\r\n", "fin"),
    "large_headers": (b"X-71: xxx", "fin"),
    "header_flood": (b"X-1000: x\r\n", "open"),
    "http09": (BODY, "fin"),
    "status_1000": (b"HTTP/1.1 1000 OK\r\n", "fin"),
    "status_text": (b"HTTP/1.1 2x0 OK\r\n", "fin"),
    "version_3": (b"HTTP/3.7 200 OK\r\n", "fin"),
    "binary": (b"\x80\x81\x82", "fin"),
    "endless_body": (b"close\r\n\r\n" + bytes(1000), "open"),
    "huge_length": (b"Content-Length: 1000000000000000\r\n\r\n" + bytes(1000), "open"),
    "redirect_body": (b"Location: /redirect_body?end\r\n", "open"),
    "cookie_bomb": (b"Set-Cookie: bomb59=xxx", "open"),
    "redirect_self": (b"Location: /redirect_self\r\n", "open"),
    "redirect_circle": (b"Location: /redirect_circle?at=1\r\n", "open"),
    "redirect_chain": (b"Location: /redirect_chain?hop=1\r\n", "open"),
    "redirect_maze": (b"Location: /redirect_maze?step=1&mark=", "open"),
    "redirect_hosts": (b"Location: http://127.0.0.1:", "open"),
    "redirect_scheme": (b"Location: file:///", "open"),
    "redirect_nowhere": (b"Location: http://[::1\r\n", "open"),
    "redirect_latin": (b"Location: /redirect_latin?caf\xe9\r\n", "fin"),
    "nested_bomb": (b"Content-Encoding: gzip, gzip, gzip\r\n", "fin"),
    "many_codings": (b"gzip, gzip, gzip, gzip, gzip, gzip\r\n", "fin"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as served:
        yield served


def see(port: int, path: str, needle: bytes, end: str) -> tuple[bytes, str]:
    """Ask a plain question and return what comes, and how it ends; for what stays open, a while after the needle."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        seen, until = b"", time.monotonic() + 10
        try:
            while True:
                if end == "open" and needle in seen:
                    until = min(until, time.monotonic() + PATIENCE_S)
                client.settimeout(max(until - time.monotonic(), 0.001))
                piece = client.recv(65536)
                if not piece:
                    return seen, "fin"
                seen += piece
                if time.monotonic() > until:
                    return seen, "open"
        except TimeoutError:
            return seen, "open"
        except ConnectionResetError:
            return seen, "rst"


@pytest.mark.parametrize("name", sorted(SEEN))
def test_a_fault_is_what_it_says(server: FaultServer, name: str) -> None:
    """The bytes that make it are on the wire, and the connection ends as it should."""
    needle, end = SEEN[name]
    seen, ended = see(server.port, FAULTS[name].path, needle, end)
    assert needle in seen
    assert ended == end
    assert server.hits(FAULTS[name].path) == 1


def test_no_fault_of_an_answer_is_left_out() -> None:
    """Each one is looked at: here, or with its coding below."""
    codings = {f"{coding}_{what}" for coding in CODINGS for what in ("cut", "corrupt", "bomb")}
    assert set(SEEN) | codings == {fault.name for fault in FAULTS.values() if fault.place == "answer"}


@pytest.mark.parametrize("coding", CODINGS)
def test_broken_codings_are_broken(coding: str) -> None:
    """What is cut lacks its end, what is corrupt differs from what is whole."""
    if not can_code(coding):
        pytest.skip("the extra compress isn't installed")
    text = b" ".join(b"%d" % number for number in range(3000))
    whole = coded(text, coding)
    assert len(whole) < len(text)
    assert whole.startswith(truncated(text, coding))
    assert corrupt(text, coding) != whole
    assert len(corrupt(text, coding)) == len(whole)


def test_damaged_zlib_is_told_by_its_checksum() -> None:
    """And what is cut has no end."""
    for coding, wbits in (("gzip", 31), ("deflate", 15)):
        with pytest.raises(zlib.error, match="incorrect data check"):
            zlib.decompressobj(wbits).decompress(corrupt(b"text" * 99, coding))
        reader = zlib.decompressobj(wbits)
        reader.decompress(truncated(b"text" * 99, coding))
        assert not reader.eof


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_small_on_the_wire(coding: str) -> None:
    """A thousandth of what it unfolds to, and it unfolds to that."""
    if not can_code(coding):
        pytest.skip("the extra compress isn't installed")
    size = 4 * 1024 * 1024 + 17
    packed = b"".join(bomb(coding, size))
    assert len(packed) < size / 500
    if coding in ("gzip", "deflate"):
        reader = zlib.decompressobj(47)
        assert reader.decompress(packed) == bytes(size)
        assert reader.eof


def test_a_nested_bomb_unfolds_in_its_layers() -> None:
    """Each layer is whole, and the last one is all zeros."""
    packed = b"".join(nested_bomb(3, 1_000_000))
    for _ in range(3):
        reader = zlib.decompressobj(31)
        packed = reader.decompress(packed)
        assert reader.eof
    assert packed == bytes(1_000_000)


def test_a_bomb_is_made_as_it_is_read() -> None:
    """A tebibyte of zeros costs nothing while nobody reads them, and its end is the client's going."""
    bodies = script(head(200, ("Content-Encoding", "gzip")), Send(lambda: bomb("gzip", 1 << 40)))
    with FaultServer({"/": bodies}) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"Content-Encoding: gzip" in client.recv(4096)
    assert served.open_connections == 0
    assert served.bytes_sent < 64 * 1024 * 1024


def test_tls_faults_need_no_more_than_a_socket() -> None:
    """A TLS client of the standard library meets plain HTTP, and says so."""
    context = ssl.create_default_context()
    fault = FAULTS["tls_plain"]
    with FaultServer({}, opening=fault.opening) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost")
