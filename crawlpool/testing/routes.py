"""What a test server serves: routes in a dict, a folder of files, or a function; all become one function."""

from __future__ import annotations

import email.utils
import mimetypes
import os
import pathlib
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from crawlpool.errors import ConfigError
from crawlpool.testing.http1 import Answer, Request
from crawlpool.testing.steps import Script

#: A function that answers a request; it runs in the thread of the request's connection.
Handler: TypeAlias = "Callable[[Request], Answer | Script | bytes | str]"
#: What one path of a dict leads to.
Route: TypeAlias = "Answer | Script | bytes | str | Handler"
#: What a whole server serves.
Site: TypeAlias = "Mapping[str, Route] | str | os.PathLike[str] | Handler"

_ROUTES = "bytes, text, an Answer, a Script, a Fault or a function is needed"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def answerer(site: Site) -> Callable[[Request], Answer | Script]:
    """Return the function that answers requests for ``site``.

    Args:
        site: a mapping of paths to routes (looked up with the query first, then without it; read at each request, so
            it may be changed meanwhile), the path of a folder, or a function.

    Raises:
        ConfigError: for what is no site, and for a route of it that is none; the message names the route.
        NotADirectoryError: when ``site`` is a path, but not of a folder.
    """
    check_site(site)
    return answering(site)


def answering(site: Site) -> Callable[[Request], Answer | Script]:
    """Return what ``answerer`` returns for a site that was looked at before."""
    if isinstance(site, Mapping):
        return lambda request: _by_route(site, request)
    if isinstance(site, (str, os.PathLike)):
        root = pathlib.Path(site).resolve()
        if not root.is_dir():
            raise NotADirectoryError(f"{os.fspath(site)!r} is no folder to serve")
        return lambda request: _from_folder(root, request)
    return lambda request: as_answer(site(request), request)


def check_site(site: object, origin: str = "") -> None:
    """Look at a site before it is served; what is put into a dict later is looked at when it is asked for.

    Args:
        site: as for ``answerer``.
        origin: whose site it is, for the message.

    Raises:
        ConfigError: for what is no site, a path without its slash, and what is no route.
    """
    if not isinstance(site, Mapping):
        if not (isinstance(site, (str, os.PathLike)) or callable(site)):
            about = f"{origin}: " if origin else ""
            raise ConfigError(f"{about}{_shown(site)} is no site: a dict of paths, a folder or a function is needed")
        _check_own(site, origin or "site")
        return
    for path, route in list(site.items()):
        if not isinstance(path, str) or not path.startswith("/"):
            about = f"{origin}: " if origin else ""
            raise ConfigError(f"{about}{_shown(path)} is no path: one begins with a slash, such as '/page'")
        check_route(f"{origin}{path}", route)


def check_route(where: str, route: object) -> None:
    """Raise ``ConfigError`` unless ``route`` can be one.

    Args:
        where: what it is the route of: a path, or a URL.
        route: bytes, text, an ``Answer``, a ``Script``, a ``Fault`` or a function.
    """
    if isinstance(route, (bytes, str, Answer, Script)):
        return
    if not callable(route):
        raise ConfigError(f"{where}: {_shown(route)} is no route: {_ROUTES}{_hint(route)}")
    _check_own(route, where)


def _check_own(route: object, where: str) -> None:
    own = getattr(route, "check_as_route", None)  # a fault's
    if own is not None:
        own(where)


def _hint(route: object) -> str:
    if isinstance(route, (Mapping, list)):
        return "; for JSON json.dumps(…)"
    return "; a status with a body is Answer(404, body=b'…')" if isinstance(route, (tuple, int)) else ""


def _shown(value: object) -> str:
    return reprlib.repr(value)


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
    """Return what to answer for what a function of the site returned, or a route that is no function.

    Raises:
        ConfigError: for what can't be answered with.
    """
    if isinstance(value, (Answer, Script)):
        return value
    if not isinstance(value, (bytes, str)):
        told = f"{_shown(value)} is no answer: bytes, text, an Answer or a Script is needed{_hint(value)}"
        raise ConfigError(f"{request.method} {request.path}: {told}")
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
