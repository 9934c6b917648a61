"""Tests of what answers keep of the wire: the very bytes that a server received and sent, over both transports."""

from __future__ import annotations

import gzip
import re
import socket
from typing import Any

import pytest
import requests
import requests.auth

from crawlpool import SessionPool, Target
from crawlpool.models import Result
from crawlpool.testing.nginx import find_nginx, nginx
from crawlpool.transport.keeping import Kept, final_head, keeping, keeps_here
from tests.kit import RawServer, read_head

pytestmark = pytest.mark.transports

PAGE = b"<p>a page</p>" * 50
PACKED = gzip.compress(PAGE)
OK = b"HTTP/1.1 200 OK\r\nX-Odd:  two  blanks \r\nx-odd: again\r\n"


class Keeper:
    """A sink that wants the wire and keeps the results."""

    needs_wire = True

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        self.results.append(result)

    def emit(self, item: Any) -> None:
        """Take nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Server(RawServer):
    """Gives each path its answer, and keeps the header of each request that came, and its body."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        super().__init__(self._serve)
        self.answers = answers
        self.received: list[tuple[bytes, bytes]] = []

    def _serve(self, connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            body = b""
            length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
            while length is not None and len(body) < int(length[1]):
                body += connection.recv(65536)
            self.received.append((head, body))
            answer = self.answers[head.split(b" ")[1].decode()]
            connection.sendall(answer)
            if b"\r\n\r\n" in answer and b"Length" not in answer and b"chunked" not in answer:
                return  # its end is the connection's


def crawled(*targets: Target | str, **options: Any) -> list[Result]:
    """Crawl, keeping the wire, one target after the other; return the results."""
    keeper = Keeper()
    with SessionPool(threads=1, in_flight=1, **options.pop("pool", {})) as pool:
        pool.crawl(targets, sinks=[keeper], dedupe=False, robots=False, **options)
    return keeper.results


def kept(response: Any) -> Kept:
    """Return what a response keeps."""
    found = response.kept
    assert isinstance(found, Kept)
    return found


ANSWERS = {
    "/": OK + b"Content-Length: 650\r\n\r\n" + PAGE,
    "/chunked": OK
    + b"Transfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\nT: trailer\r\n\r\n",
    "/packed": OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "/early": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "/error": b"HTTP/1.1 404 Not here\r\nContent-Length: 4\r\n\r\nnope",
    "/closes": OK + b"Connection: close\r\n\r\nuntil the end",
    "/empty": OK + b"Content-Length: 0\r\n\r\n",
    "/cookie": OK + b"Set-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\nhi",
    "/hop": b"HTTP/1.1 302 Found\r\nLocation: /cookie\r\nContent-Length: 5\r\n\r\nmoved",
    "/lines": b"HTTP/1.1 200\nX: caf\xe9\nContent-Length: 2\n\nhi",
}
BODIES = {"/chunked": b"hello, w", "/packed": PACKED, "/hop": b"moved"}


def parts_of(path: str) -> tuple[bytes, bytes]:
    """Return the header of the final answer of a path, and its body without chunks."""
    answer = ANSWERS[path]
    if path == "/lines":
        return answer[:-2], b"hi"
    if path == "/early":
        answer = answer[answer.index(OK) :]
    head, blank, body = answer.partition(b"\r\n\r\n")
    return head + blank, BODIES.get(path, body)


@pytest.mark.parametrize("times", [1, 3])
def test_both_headers_and_the_body_are_as_they_were_on_the_wire(times: int) -> None:
    """Of each kind of answer, first and asked for again: not a byte differs from what the server received and sent."""
    paths = [path for path in ANSWERS if path != "/hop" for _ in range(times)]
    with Server(ANSWERS) as server:
        results = crawled(*map(server.url, paths))
    assert len(results) == len(server.received) == len(paths)
    for path, result, (asked, _) in zip(paths, results, server.received, strict=True):
        of = kept(result.response)
        assert (of.head, of.body) == parts_of(path)
        assert of.request_head == asked
        assert of.protocol is None
        assert of.started_s == result.started_at_s


@pytest.mark.parametrize("cap", [None, 10_000])
def test_a_cap_on_the_body_changes_nothing(cap: int | None) -> None:
    """Read whole or piece by piece, the body is kept as it came."""
    paths = ["/", "/chunked", "/packed"]
    with Server(ANSWERS) as server:
        results = crawled(*map(server.url, paths), max_body_bytes=cap)
    assert [kept(result.response).body for result in results] == [parts_of(path)[1] for path in paths]
    assert results[2].response is not None
    assert results[2].response.content == PAGE


def test_requests_of_every_kind(transport: str) -> None:
    """Methods, bodies, cookies, logins and headers of one's own: the header is what came, in its order."""
    with Server({**ANSWERS, "/?q=%20x": ANSWERS["/"]}) as server:
        targets: list[Target | str] = [
            Target(server.url("/"), method="HEAD"),
            server.url("/cookie"),
            server.url("/"),
            server.url("/"),
            Target(server.url("/"), method="POST", data={"a": "b"}),
            Target(server.url("/"), method="PUT", data="text of é"),
            Target(server.url("/"), method="POST"),
            Target(server.url("/"), method="DELETE", headers={"Host": "other.example", "X-Empty": ""}),
            Target(server.url("/"), headers={"Host": "other.example"}),
            Target(server.url("/"), headers={"Host": "another.example", "Connection": "close", "TE": "trailers"}),
            Target(server.url("/"), headers={"Range": "bytes=0-", "Referer": "http://r.example/", "Accept": "a/b"}),
            server.url("/").replace("//", "//user:pw@") + "#fragment",
            server.url("?q=%20x"),
            server.url("/"),
        ]
        answers = {**ANSWERS}
        answers["/"] = answers["/"].replace(PAGE, b"").replace(b"650", b"0")
        server.answers.update({"/": answers["/"], "/?q=%20x": answers["/"]})
        results = crawled(*targets)
    assert [kept(result.response).request_head for result in results] == [head for head, _ in server.received]
    assert b"Cookie: a=b\r\n" in server.received[2][0]
    assert b"Authorization: Basic" in server.received[11][0]


def test_redirect_hops_keep_theirs() -> None:
    """Each response in ``history`` has its own bytes, and the time of its own leg."""
    with Server(ANSWERS) as server:
        (result,) = crawled(server.url("/hop"))
    assert result.response is not None
    (hop,) = result.response.history
    for response, path, (asked, _) in zip((hop, result.response), ("/hop", "/cookie"), server.received, strict=True):
        of = kept(response)
        assert (of.head, of.body, of.request_head) == (*parts_of(path), asked)
    assert kept(hop).started_s is not None


def test_an_answer_to_a_login_keeps_its_own() -> None:
    """With digest auth, where a hook sends again, the answer that counts keeps the second exchange."""
    challenge = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\nContent-Length: 0\r\n\r\n'
    with Server({"/": challenge}) as server:
        keeper = Keeper()
        with SessionPool(threads=1) as pool:
            pool.crawl([server.url("/")], sinks=[keeper], auth=requests.auth.HTTPDigestAuth("u", "p"), robots=False)
    (result,) = keeper.results
    assert kept(result.response).request_head == server.received[1][0]
    assert b"Authorization: Digest" in server.received[1][0]


def test_through_a_proxy(transport: str) -> None:
    """What the proxy received is what is kept: the absolute URL, its login, and the answer as it came."""
    names = ("h.example/", "h.example/?x", "h.example:80/")
    with Server({f"http://{name}": ANSWERS["/"] for name in names}) as proxy:
        url = f"http://user:pw@127.0.0.1:{proxy.port}"
        targets = ["http://h.example/", "http://h.example?x", "http://h.example:80/", "http://h.example/"]
        results = crawled(*targets, proxies={"http": url})
    assert [kept(result.response).request_head for result in results] == [head for head, _ in proxy.received]
    assert b"Proxy-Authorization: Basic dXNlcjpwdw==\r\n" in proxy.received[0][0]
    assert all((kept(result.response).head, kept(result.response).body) == parts_of("/") for result in results)


def test_without_being_asked_nothing_is_kept() -> None:
    """A crawl without such a sink, and a call of one's own, have answers without a trace of it."""
    seen: list[Result] = []
    with Server(ANSWERS) as server, SessionPool(threads=1) as pool:
        pool.crawl([server.url("/")], on_result=seen.append, robots=False)
        pool.crawl([server.url("/")], sinks=[Keeper()], robots=False)
        responses = [seen[0].response, pool.get(server.url("/")), pool.get(server.url("/packed"), stream=True)]
        assert [getattr(response, "kept", None) for response in responses] == [None] * 3
        responses[2].close()


def test_a_redirect_whose_body_is_cut_has_none() -> None:
    """What isn't whole isn't kept as if it were."""
    cut = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 50\r\nConnection: close\r\n\r\nmoved"

    def script(connection: socket.socket, number: int) -> None:
        read_head(connection)
        connection.sendall(cut if number == 1 else ANSWERS["/"])

    with RawServer(script) as server:
        (result,) = crawled(server.url("/hop"))
    assert result.response is not None
    assert [kept(one).body for one in (*result.response.history, result.response)] == [None, PAGE]


@pytest.mark.transports("curl")
def test_the_io_thread_keeps_it_too() -> None:
    """Many plain pages at once, finished by the I/O thread itself: each has its own bytes."""

    class Quick(Keeper):
        is_quick = True

    keeper = Quick()
    with Server({f"/{n}": OK + b"Content-Length: 3\r\n\r\n%03d" % n for n in range(200)}) as server:
        with SessionPool(threads=2, in_flight=8) as pool:
            pool.crawl([server.url(f"/{n}") for n in range(200)], sinks=[keeper], robots=False)
    assert len(keeper.results) == 200
    for result in keeper.results:
        of, number = kept(result.response), int(result.target.url.rpartition("/")[2])
        assert of.body == b"%03d" % number
        assert of.request_head.startswith(b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (number, server.port))
        assert of.request_head in {head for head, _ in server.received}


@pytest.mark.transports("curl")
@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_http2_is_told_as_text(tmp_path: Any, certificates: Any) -> None:
    """By HTTP/2 both headers have the first line of HTTP/1.1, and the protocol is said."""
    (tmp_path / "a.html").write_bytes(PAGE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with nginx(tmp_path, tls=certificates, extra=f"listen 127.0.0.1:{port} ssl http2;"):
        url = f"https://127.0.0.1:{port}/a.html"
        results = crawled(*[url] * 3, pool={"http": "2"}, verify=str(certificates.authority))
    for result in results:
        of = kept(result.response)
        assert of.protocol == "h2"
        assert of.head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert of.head.endswith(b"\r\n\r\n")
        assert of.request_head.startswith(b"GET /a.html HTTP/1.1\r\nHost: ")
        assert of.body == PAGE


def test_the_final_header_is_found_among_lines() -> None:
    """Interim answers before it and trailers after it are no part of it; one that is cut is as it came."""
    final = [b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", b"\r\n"]
    early = [b"HTTP/1.1 103 Early\r\n", b"\r\n"]
    assert final_head([*early, *final, b"T: r\r\n", b"\r\n"]) == b"".join(final)
    assert final_head(final[:2]) == b"".join(final[:2])
    switch = [b"HTTP/1.1 101 Switching\n", b"\n"]
    assert final_head([*switch, *final]) == b"".join(switch)


def test_keeping_is_the_threads_own_and_ends() -> None:
    """Within the block and nowhere else, nested or not."""
    assert not keeps_here()
    with keeping():
        with keeping():
            assert keeps_here()
        assert keeps_here()
    assert not keeps_here()
