"""The same file in the hands of the real curl, both ways, against a real server on the loopback interface."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from crawlpool.cookies import CookieStore

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

FUTURE = 4_000_000_000
COOKIES = (
    "session=s1; Path=/",
    "lasting=l2; Path=/; Expires=Fri, 02-Oct-2096 07:06:40 GMT",
    "hidden=h3; Path=/; HttpOnly",
    "deep=d4; Path=/deep",
    "here=p5",
    "empty=; Path=/",
    'quoted="q 7"; Path=/',
    "gone=g8; Path=/; Max-Age=0",
    "equals=a=b=c; Path=/; Max-Age=1000",
    "latin=\xe9\xfc; Path=/",
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ``/login`` with cookies, and every path with the Cookie header that came."""

    def do_GET(self) -> None:
        body = (self.headers.get("Cookie") or "").encode("latin-1")
        self.send_response(200)
        if self.path == "/login/":
            for cookie in COOKIES:
                self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Run the server on a free port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def curl(port: int, url: str, *options: str) -> str:
    """Run curl with each host of ``url`` at the loopback address, and return the body."""
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*", *options]
    done = subprocess.run(
        [*command, "--connect-to", f"::127.0.0.1:{port}", url], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("latin-1")


def parts(header: str | None) -> set[str]:
    """Return the cookies of a header without their order, in which curl has its own mind."""
    return set(header.split("; ")) if header else set()


@pytest.mark.parametrize("host", ["www.example.com", "localhost", "127.0.0.1", "intranet", "printer.local"])
@pytest.mark.parametrize("path", ["/", "/login/", "/deep/er"])
def test_curls_login_is_ours(port: int, tmp_path: pathlib.Path, host: str, path: str) -> None:
    """What ``curl -c`` saved after a login is sent here to the same host as curl itself sends it."""
    file = tmp_path / "curl.txt"
    curl(port, f"http://{host}/login/", "-c", str(file))
    sent = curl(port, f"http://{host}{path}", "-b", str(file))
    assert "session=s1" in sent and "gone" not in sent
    assert parts(CookieStore.load(file).header_for(f"http://{host}{path}")) == parts(sent)


@pytest.mark.parametrize("host", ["www.example.com", "localhost", "127.0.0.1", "intranet", "printer.local"])
@pytest.mark.parametrize("path", ["/", "/login/", "/deep/er"])
def test_our_login_is_curls(port: int, tmp_path: pathlib.Path, host: str, path: str) -> None:
    """What is saved here after the same responses is sent by ``curl -b`` to the same host as it is sent here."""
    store, file = CookieStore(), tmp_path / "ours.txt"
    store.take(COOKIES, f"http://{host}/login/")
    store.save(file)
    sent = curl(port, f"http://{host}{path}", "-b", str(file))
    assert "session=s1" in sent and "gone" not in sent
    assert parts(sent) == parts(store.header_for(f"http://{host}{path}"))


def test_flags_survive_a_round_through_curl(port: int, tmp_path: pathlib.Path) -> None:
    """A file that curl read and wrote again holds the same cookies: flags, paths, expiry and subdomains."""
    store, first, second = CookieStore(), tmp_path / "first.txt", tmp_path / "second.txt"
    url = "https://www.example.com/a/b"
    store.take(["sub=1; Domain=example.com; Secure; HttpOnly; Path=/a", "host=2; Path=/", "day=3; Max-Age=9999"], url)
    store.set("kept", "4", domain=".example.com", path="/x", expires=FUTURE, rest={})
    store.save(first)
    curl(port, "http://elsewhere.example/", "-b", str(first), "-c", str(second))
    again = CookieStore.load(second)

    def facts(jar: CookieStore) -> list[tuple[object, ...]]:
        return sorted(
            (c.domain, c.path, c.name, c.value, c.secure, c.expires or 0, c.has_nonstandard_attr("HttpOnly"))
            for c in jar
        )

    assert facts(again) == facts(store)
    for asked in (url, "http://www.example.com/a/b", "https://example.com/a", "https://example.com/x"):
        assert parts(again.header_for(asked)) == parts(store.header_for(asked))


def test_cookie_for_every_host_is_not_sent_by_curl(port: int, tmp_path: pathlib.Path) -> None:
    """A cookie without a domain has no place in curl's format: curl passes its line over, crawlpool reads it."""
    store, file = CookieStore(), tmp_path / "ours.txt"
    store.set("any", "1")
    store.set("some", "2", domain="www.example.com")
    store.save(file)
    assert curl(port, "http://www.example.com/", "-b", str(file)) == "some=2"
    assert CookieStore.load(file).header_for("http://www.example.com/") == "any=1; some=2"
