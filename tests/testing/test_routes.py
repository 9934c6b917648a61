"""Folders and paths as a test server serves them."""

from __future__ import annotations

import pathlib

import pytest

from crawlpool.testing.http1 import Answer, Request
from crawlpool.testing.routes import answerer


def asked(target: str, method: str = "GET", **headers: str) -> Request:
    """Make a request without a server."""
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Request(method, target, fields, b"", ("127.0.0.1", 1), "127.0.0.1", 1)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(b"<p>top")
    (root / "sub" / "index.html").write_bytes(b"<p>sub")
    (root / "with space.txt").write_bytes(b"0123456789")
    (tmp_path / "outside.txt").write_bytes(b"no")
    return root


def test_files_come_with_their_type(folder: pathlib.Path) -> None:
    """A file is served by its path, a folder by its index.html, percent-escapes are undone."""
    answer = answerer(folder)
    found = answer(asked("/with%20space.txt?x"))
    assert (found.status, found.body) == (200, b"0123456789")
    assert dict(found.pairs)["Content-Type"] == "text/plain"
    assert answer(asked("/")).body == b"<p>top"
    assert answer(asked("/sub/")).body == b"<p>sub"
    assert answer(asked("/sub", "POST")).status == 405


@pytest.mark.parametrize("target", ["/../outside.txt", "/%2e%2e/outside.txt", "/none", "/%00", "/" + "n" * 5000])
def test_nothing_outside_the_folder_is_served(folder: pathlib.Path, target: str) -> None:
    """A path that leads out of the folder, or nowhere, is 404."""
    assert answerer(folder)(asked(target)).status == 404


@pytest.mark.parametrize(
    ("span", "status", "body", "content_range"),
    [
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
    ],
)
def test_a_range_is_served(
    folder: pathlib.Path, span: str, status: int, body: bytes, content_range: str | None
) -> None:
    """One byte range is answered with 206, one beyond the end with 416, several with the whole (RFC 9110, 14.2)."""
    answer = answerer(folder)(asked("/with%20space.txt", Range=span))
    assert (answer.status, answer.body, dict(answer.pairs).get("Content-Range")) == (status, body, content_range)


def test_a_changed_file_ends_a_range_and_a_cached_copy(folder: pathlib.Path) -> None:
    """If-Range and If-None-Match hold only while the ETag is the file's."""
    answer = answerer(folder)
    etag = dict(answer(asked("/with%20space.txt")).pairs)["ETag"]
    assert answer(asked("/with%20space.txt", If_None_Match=etag)).status == 304
    assert answer(asked("/with%20space.txt", Range="bytes=5-", If_Range=etag)).status == 206
    (folder / "with space.txt").write_bytes(b"another, longer text")
    assert answer(asked("/with%20space.txt", If_None_Match=etag)).status == 200
    assert answer(asked("/with%20space.txt", Range="bytes=5-", If_Range=etag)).body == b"another, longer text"


def test_a_path_that_is_no_folder_is_refused(tmp_path: pathlib.Path) -> None:
    """A server of a folder that isn't there fails when it is made, and names it."""
    with pytest.raises(NotADirectoryError, match="nowhere"):
        answerer(tmp_path / "nowhere")


def test_routes_may_change_while_they_are_served() -> None:
    """A dict of routes is read at each request."""
    routes: dict[str, bytes] = {}
    answer = answerer(routes)
    assert answer(asked("/late")).status == 404
    routes["/late"] = b"now"
    assert answer(asked("/late")).body == b"now"


def test_the_path_of_a_proxied_request_is_found() -> None:
    """A request line with a whole URL, as a proxy gets it, leads to the same route; a path may begin with ``//``."""
    answer = answerer({"/x": b"x", "//y": Answer(201)})
    assert answer(asked("http://elsewhere.example/x?q")).body == b"x"
    assert answer(asked("//y")).status == 201
