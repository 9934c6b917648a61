"""The site that the examples talk to: a real server on loopback, begun anew for each page of the documentation."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import threading

from crawlpool.testing import Answer, Request, SiteServer

PAGES = 40
BIG = bytes(range(256)) * 4096
_ETAG = '"big-1"'
_LOGIN = b"user=ada&password=secret"

_running: list[tuple[SiteServer, str, str]] = []


class _Flaky:
    """Fails twice for each query, then answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            seen = self._seen[request.query] = self._seen.get(request.query, 0) + 1
        return (
            Answer(503, {"Retry-After": "0"}) if seen < 3 else Answer(200, {"Content-Type": "text/plain"}, b"at last")
        )


def _login(request: Request) -> Answer:
    if request.body != _LOGIN:
        return Answer(401)
    return Answer(204, {"Set-Cookie": "session=4711; Path=/; HttpOnly"})


def _members(request: Request) -> Answer:
    if "session=4711" not in request.headers.get("Cookie", ""):
        return Answer(403, {"Content-Type": "text/plain"}, b"log in first")
    return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>for members</h1>")


def _api(request: Request) -> Answer:
    if request.headers.get("X-Api-Key") != "k-1":
        return Answer(401)
    return Answer(200, {"Content-Type": "application/json"}, b'{"items": [1, 2, 3]}')


def _elsewhere(request: Request) -> Answer:
    # The same server under another name is another origin.
    return Answer(302, {"Location": f"http://localhost:{server().port}/echo"})


def _echo(request: Request) -> Answer:
    lines = "".join(f"{name}: {value}\n" for name, value in request.fields)
    return Answer(200, {"Content-Type": "text/plain"}, lines.encode())


def _big(request: Request) -> Answer:
    headers = {"ETag": _ETAG, "Accept-Ranges": "bytes", "Content-Type": "application/zip"}
    asked = request.headers.get("Range", "")
    if asked.startswith("bytes=") and request.headers.get("If-Range") == _ETAG:
        first = int(asked.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {first}-{len(BIG) - 1}/{len(BIG)}"
        return Answer(206, headers, BIG[first:])
    return Answer(200, headers, BIG)


def _routes() -> dict[str, object]:
    routes: dict[str, object] = {
        "/login": _login,
        "/api/items": _api,
        "/api/leaves": _elsewhere,
        "/echo": _echo,
        "/flaky": _Flaky(),
        "/big.zip": _big,
        "/slow": Answer(200, {"Content-Type": "text/plain"}, b"late", delay_s=30.0),
        "/moved": Answer(301, {"Location": "/pages/1.html"}),
        "/picture.png": Answer(200, {"Content-Type": "image/png"}, b"\x89PNG"),
    }
    for number in range(1, PAGES + 1):
        following = f'<a href="/pages/{number + 1}.html">next</a>' if number < PAGES else ""
        routes[f"/pages/{number}.html"] = f"<title>Page {number}</title>{following}"
        routes[f"/members/{number}.html"] = _members
    return routes


def begin() -> str:
    """Start the site, go into an empty folder, and return the site's address, such as ``http://127.0.0.1:40001``."""
    started = SiteServer(_routes()).start()  # type: ignore[arg-type]
    folder = tempfile.mkdtemp(prefix="crawlpool-docs-")
    _running.append((started, os.getcwd(), folder))
    os.chdir(folder)
    pathlib.Path("urls.txt").write_text(
        "".join(started.url(f"/pages/{n}.html\n") for n in range(1, PAGES + 1)), "utf-8"
    )
    return started.url("")


def server() -> SiteServer:
    """Return the site that runs."""
    return _running[-1][0]


def end() -> None:
    """Stop the site and remove the folder."""
    started, before, folder = _running.pop()
    os.chdir(before)
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)
