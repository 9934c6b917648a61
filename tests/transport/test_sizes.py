"""Bodies without measure: bombs, redirects that go on and on, and coded bodies that are cut or damaged."""

from __future__ import annotations

import functools
import gzip
import itertools
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import RetryPolicy, SessionPool, Target, clearance
from crawlpool.clearance import fetched_of
from crawlpool.errors import BodyTooLarge, ErrorKind, TruncatedBody, UndecodableBody, kind_of
from crawlpool.robots.gate import How
from crawlpool.testing import Answer, SiteServer
from crawlpool.transport.reading import MOST_REDIRECT_BYTES
from tests.kit import RawServer, answering, read_head
from tests.mutants import encodings

pytestmark = pytest.mark.transports()

MIB = 1024 * 1024
CAP = 4 * MIB
OK = b"HTTP/1.1 200 OK\r\n"
#: What the rest of a fetch may take beside the body: pieces in buffers, and what Python makes by the way.
BESIDE = MIB


@functools.cache
def bombs() -> dict[str, bytes]:
    """Return 64 MiB of zeros in each encoding: 16 times the cap, and up to a hundred thousand to one."""
    zeros = bytes(64 * MIB)
    return {name: encode(zeros) for name, encode in encodings().items()}


def coded(name: str, body: bytes) -> bytes:
    return OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (name.encode(), len(body)) + body


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(threads=2, retry=False, trust_env=False, timeout=20, max_redirects=3) as pool:
        yield pool


def kind_by(ask: str, pool: SessionPool, url: str) -> ErrorKind | None:
    """Fetch a URL in one of the ways, under the cap; return the kind of the error."""
    found: list[Any] = []
    if ask == "get":
        try:
            pool.get(url, max_body_bytes=CAP)
        except Exception as error:
            return kind_of(error)
        return None
    if ask == "map":
        found += pool.map([url], max_body_bytes=CAP)
    else:
        pool.crawl([url], robots=False, max_body_bytes=CAP, on_result=found.append)
    [result] = found
    kind: ErrorKind | None = result.error_kind
    return kind


@pytest.mark.parametrize("ask", ["get", "map", "crawl"])
@pytest.mark.parametrize("name", [*encodings(), "no end", "chunks without end"])
def test_a_bomb_takes_at_most_twice_its_cap(name: str, ask: str, pool: SessionPool) -> None:
    """Memory grows by no more than that until the error ``too_large``: coded, nested, and plain without an end."""
    bomb = bombs().get(name)

    def script(connection: socket.socket, _: int) -> None:
        while read_head(connection):
            if bomb is not None:
                connection.sendall(coded(name, bomb))
                continue
            chunk = bytes(65536) if name == "no end" else b"10000\r\n" + bytes(65536) + b"\r\n"
            connection.sendall(OK + (b"\r\n" if name == "no end" else b"Transfer-Encoding: chunked\r\n\r\n"))
            for _ in itertools.repeat(None, 64 * 16):
                connection.sendall(chunk)

    with RawServer(script) as server:
        assert pool.get(server.url(), stream=True).close() is None  # imports, connections
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            assert kind_by(ask, pool, server.url()) is ErrorKind.TOO_LARGE
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peak <= 2 * CAP + BESIDE


def test_many_bombs_at_once_take_so_much_for_each_that_is_decoded(pool: SessionPool) -> None:
    """Two workers: the memory of two caps each, however many are in flight."""
    body = bombs()["gzip"]
    with SiteServer({"/": Answer(200, {"Content-Encoding": "gzip"}, body)}) as server:
        urls = [Target(server.url("/"), meta={"n": number}) for number in range(12)]
        list(pool.map(urls[:2], max_body_bytes=CAP))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kinds = {result.error_kind for result in pool.map(urls, max_body_bytes=CAP)}
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert kinds == {ErrorKind.TOO_LARGE}
    assert peak <= 2 * 2 * CAP + 2 * BESIDE + 12 * len(body)


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_status_has_the_same_cap(status: int, pool: SessionPool) -> None:
    """The body of a page that isn't there is capped as any."""
    with SiteServer({"/": Answer(status, {"Content-Encoding": "gzip"}, bombs()["gzip"])}) as server:
        with pytest.raises(BodyTooLarge):
            pool.get(server.url(), max_body_bytes=CAP)


def test_a_robots_txt_has_a_cap_of_its_own(pool: SessionPool) -> None:
    """One that unfolds beyond 4 MiB can't be had; of a long one the beginning counts."""
    long = b"User-agent: *\nDisallow: /no\n" + b"# \n" * (MIB // 3)
    site = {
        "/long": Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(long)),
        "/bomb": Answer(200, {"Content-Encoding": "gzip"}, bombs()["gzip"]),
    }
    with SiteServer(site) as server:
        for path, how in (("/long", How.RULES), ("/bomb", How.UNREACHABLE)):
            [result] = pool.map([server.url(path)], max_body_bytes=clearance._MOST_BYTES)
            fetched = fetched_of(result, "mybot")
            assert fetched.how is how
            if fetched.rules is not None:
                assert not fetched.rules.allows(server.url("/no"))
    assert clearance._MOST_BYTES == 4 * MIB


# Redirects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["get", "stream", "map"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_the_body_of_a_redirect_is_not_read_on_and_on(framing: str, ask: str, pool: SessionPool) -> None:
    """It is followed after 64 KiB of it at most, though nothing is capped; what is left goes with its connection."""
    told = threading.Event()
    heads = {"chunked": b"Transfer-Encoding: chunked", "length": b"Content-Length: %d" % (1 << 40), "close": b"A: 1"}

    def script(connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            if b"GET /to " in head:
                connection.sendall(OK + b"Content-Length: 7\r\n\r\narrived")
                continue
            connection.sendall(b"HTTP/1.1 302 F\r\nLocation: /to\r\n" + heads[framing] + b"\r\n\r\n")
            try:
                while True:
                    connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
            except OSError:
                told.set()
                raise

    with RawServer(script) as server:
        if ask == "map":
            [result] = pool.map([server.url()])
            assert result.unwrap().text == "arrived"
        else:
            assert pool.get(server.url(), stream=ask == "stream").text == "arrived"
        assert told.wait(10)


def test_a_short_redirect_keeps_its_connection(pool: SessionPool) -> None:
    """Up to 64 KiB are read, so that the same connection takes the next request."""
    site = {"/": Answer(301, {"Location": "/to"}, bytes(MOST_REDIRECT_BYTES)), "/to": b"arrived"}
    with SiteServer(site) as server:
        assert pool.get(server.url("/")).text == "arrived"
        assert server.connections == 1


def test_a_redirect_that_is_not_followed_is_read_whole(pool: SessionPool) -> None:
    """Then its body is what was asked for."""
    with SiteServer({"/": Answer(301, {"Location": "/to"}, bytes(MIB))}) as server:
        assert len(pool.get(server.url("/"), allow_redirects=False).content) == MIB


def test_what_only_looks_like_a_redirect_is_read_whole(pool: SessionPool) -> None:
    """A 304 with a Location, a 302 without one, a 200 with one."""
    site = {
        "/302": Answer(302, {}, bytes(MIB)),
        "/200": Answer(200, {"Location": "/to"}, bytes(MIB)),
        "/404": Answer(404, {"Location": "/to"}, bytes(MIB)),
    }
    with SiteServer(site) as server:
        for path in site:
            assert len(pool.get(server.url(path)).content) == MIB


# Codings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["get", "map"])
@pytest.mark.parametrize("name", encodings())
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_body_is_never_ok_and_is_asked_for_again(name: str, damage: str, ask: str) -> None:
    """Cut or changed in the middle, its length right: ``truncated`` or ``decode``, and retried by the default policy.

    That a byte was changed is told by a checksum; brotli has none, and zstd one if its sender wants it so.
    """
    whole = encodings()[name](b"".join(b"%d page\n" % number for number in range(3000)))
    middle = len(whole) // 2
    damaged = whole[:-9] if damage == "cut" else whole[:middle] + b"\xff" * 40 + whole[middle + 40 :]
    policy = RetryPolicy(backoff_s=0)
    answers = iter((damaged, whole))

    def script(connection: socket.socket, _: int) -> None:
        while read_head(connection):
            connection.sendall(coded(name, next(answers)))

    with RawServer(script) as server:
        with SessionPool(threads=1, retry=policy, trust_env=False, timeout=20) as pool:
            if ask == "get":
                assert pool.get(server.url()).text.endswith("2999 page\n")
            else:
                [result] = pool.map([server.url()])
                assert (result.outcome.value, result.attempts) == ("ok", 2)
    with RawServer(answering(coded(name, damaged))) as server:
        with SessionPool(threads=1, retry=False, trust_env=False, timeout=20) as pool:
            with pytest.raises(TruncatedBody if damage == "cut" else (UndecodableBody, TruncatedBody)) as caught:
                pool.get(server.url())
    assert kind_of(caught.value) in (ErrorKind.TRUNCATED, ErrorKind.DECODE)


def test_more_codings_than_five_are_refused(pool: SessionPool) -> None:
    """Five over one another are undone, six aren't, whatever they unfold to."""
    body = b"page"
    for count in range(1, 7):
        body = gzip.compress(body)
        with RawServer(answering(coded(", ".join(["gzip"] * count), body))) as server:
            if count <= 5:
                assert pool.get(server.url()).content == b"page"
            else:
                with pytest.raises(UndecodableBody, match="6 encodings"):
                    pool.get(server.url())
