"""What a test server serves: routes in a dict, a folder of files, or a function; all become one function."""

from __future__ import annotations

import email.utils
import mimetypes
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from crawlpool.testing.http1 import Answer, Request
from crawlpool.testing.steps import Script

#: A function that answers a request; it runs in the thread of the request's connection.
Handler: TypeAlias = "Callable[[Request], Answer | Script | bytes | str]"
#: What one path of a dict leads to.
Route: TypeAlias = "Answer | Script | bytes | str | Handler"
#: What a whole server serves.
Site: TypeAlias = "Mapping[str, Route] | str | os.PathLike[str] | Handler"

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def answerer(site: Site) -> Callable[[Request], Answer | Script]:
    """Return the function that answers requests for ``site``.

    Args:
        site: a mapping of paths to routes (looked up with the query first, then without it; read at each request, so
            it may be changed meanwhile), the path of a folder, or a function.

    Raises:
        NotADirectoryError: when ``site`` is a path, but not of a folder.
    """
    if isinstance(site, Mapping):
        return lambda request: _by_route(site, request)
    if isinstance(site, (str, os.PathLike)):
        root = pathlib.Path(site).resolve()
        if not root.is_dir():
            raise NotADirectoryError(f"{os.fspath(site)!r} is no folder to serve")
        return lambda request: _from_folder(root, request)
    return lambda request: as_answer(site(request), request)


def not_found(request: Request) -> Answer:
    """Return the answer for a path that isn't there."""
    return Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, f"no {request.path}\n".encode())


def _by_route(routes: Mapping[str, Route], request: Request) -> Answer | Script:
    path = request.path
    route = routes.get(f"{path}?{request.query}") if request.query else None
    if route is None:
        route = routes.get(path)
    if route is None:
        return not_found(request)
    return as_answer(route(request) if callable(route) else route, request)


def as_answer(value: Answer | Script | bytes | str, request: Request) -> Answer | Script:
    """Return what to answer for what a function of the site returned, or a route that is no function."""
    if isinstance(value, (Answer, Script)):
        return value
    body = value.encode() if isinstance(value, str) else value
    return Answer(200, {"Content-Type": _content_type(request.path)}, body)


def _content_type(path: str, default: str = "text/html; charset=utf-8") -> str:
    return mimetypes.guess_type(path)[0] or default


def _from_folder(root: pathlib.Path, request: Request) -> Answer:
    if request.method not in ("GET", "HEAD"):
        return Answer(405, {"Allow": "GET, HEAD"})
    try:
        file = (root / unquote(request.path).lstrip("/")).resolve()
        if file.is_dir():
            file /= "index.html"
        if not file.is_relative_to(root) or not file.is_file():
            return not_found(request)
        body = file.read_bytes()
        changed = file.stat().st_mtime
    except (OSError, ValueError):  # a NUL or a name too long
        return not_found(request)
    etag = f'"{changed:.6f}-{len(body)}"'
    headers = {
        "Content-Type": _content_type(file.name, "application/octet-stream"),
        "ETag": etag,
        "Last-Modified": email.utils.formatdate(changed, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    asked = request.headers
    if asked.get("if-none-match") == etag:
        return Answer(304, headers)
    span = _RANGE.fullmatch(asked.get("range", ""))
    # RFC 9110, 13.1.5: a range holds only while the file is the one that the client has a part of.
    if span is None or asked.get("if-range", etag) != etag:
        return Answer(200, headers, body)
    first = int(span[1])
    last = min(int(span[2]) if span[2] else len(body) - 1, len(body) - 1)
    if first > last:
        return Answer(416, {**headers, "Content-Range": f"bytes */{len(body)}"})
    return Answer(206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(body)}"}, body[first : last + 1])
