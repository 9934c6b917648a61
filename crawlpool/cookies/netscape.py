"""Netscape ``cookies.txt``: read and written as curl does, so that the two can hand a login to each other.

A line is ``domain, flag, path, secure, expires, name, value``, split by tabs. The flag says whether subdomains count
(RFC 6265, section 5.3: the opposite of host-only); ``expires`` is in seconds since 1970, 0 for a session cookie; the
prefix ``#HttpOnly_`` marks cookies that scripts can't see; other lines that begin with ``#`` are comments. Text is
Latin-1, which keeps each byte of a header as it was.

One thing of requests has no place in the format: a cookie with the domain "" goes to every host. It is written as a
comment, ``#AnyHost_``, that only crawlpool reads. What a plain jar keeps for ``localhost.local`` is written for
``localhost``, its true name. ``SameSite`` is not kept: the format has no field for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from http.cookiejar import Cookie
from typing import TYPE_CHECKING

from crawlpool.cookies.match import is_host_only, octets_of
from crawlpool.errors import CookieFileError
from crawlpool.events import logger
from crawlpool.redact import one_line
from crawlpool.suffixes import is_address, is_public_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = "# Netscape HTTP Cookie File\n# Written by crawlpool. It holds logins: keep it to yourself.\n\n"
_HTTP_ONLY = "#HttpOnly_"
_ANY_HOST = "#AnyHost_"
_FIELDS = ("domain", "subdomains flag", "path", "secure flag", "expiry", "name", "value")
_FLAGS = {"TRUE": True, "FALSE": False}
_EXPIRY = re.compile(r"(\d{1,18})(?:\.\d*)?", re.ASCII)
_UNWRITABLE = re.compile(r"[\t\n\r\0]")

_logger = logger("cookies")


def read(path: str | os.PathLike[str]) -> list[Cookie]:
    """Return the cookies of a ``cookies.txt`` that have not expired, in the order of the file.

    Taken as well: CRLF, a byte order mark, a missing last field (an empty value), an empty expiry, and one with
    decimals, as browser extensions write them. Cookies for all hosts under a public suffix are left out; one warning
    names how many, and the first line.

    Args:
        path: the file.

    Raises:
        CookieFileError: when the file can't be read or a line is no cookie. The message names file and line and
            never quotes the line, as a value that slipped into another column is still a credential.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CookieFileError(f"{where}: can't be read: {error.strerror or error}") from error
    now_s = time.time()
    cookies, refused = [], []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            cookie = _parse(raw.decode("latin-1").removesuffix("\r"))
        except ValueError as error:
            raise CookieFileError(f"{where}, line {number}: {error}") from None
        if cookie is None or cookie.is_expired(now_s):  # type: ignore[arg-type]  # typed as int
            continue
        if cookie.domain.startswith(".") and is_public_suffix(cookie.domain[1:]):
            refused.append(number)
        else:
            cookies.append(cookie)
    if refused:
        _logger.warning(
            "cookies of public suffixes left out", file=one_line(where), cookies=len(refused), line=refused[0]
        )
    return cookies


def _parse(line: str) -> Cookie | None:
    """Return the cookie of ``line``, or ``None`` for a comment or an empty line; ``ValueError`` says what is wrong."""
    is_any_host = line.startswith(_ANY_HOST)
    line = line.removeprefix(_ANY_HOST)
    is_http_only = line.startswith(_HTTP_ONLY)
    line = line.removeprefix(_HTTP_ONLY)
    if not line.strip() or (line.startswith("#") and not is_any_host):
        return None
    fields = line.split("\t")
    if len(fields) == len(_FIELDS) - 1:
        fields.append("")
    if len(fields) != len(_FIELDS):
        raise ValueError(f"a cookie has {len(_FIELDS)} fields split by tabs, this line has {len(fields)}")
    domain, subdomains, path, secure, expiry, name, value = fields
    has_subdomains = _flag(subdomains, 1)
    is_secure = _flag(secure, 3)
    if not is_any_host:
        domain = _domain_from(domain, has_subdomains)
    expires = _EXPIRY.fullmatch(expiry or "0")
    if expires is None:
        raise ValueError("field 5, the expiry, is not a number of seconds since 1970")
    if not name and not value:
        raise ValueError("fields 6 and 7, name and value, are both empty")
    return _cookie(domain, path or "/", is_secure, int(expires[1]), name, value, is_http_only)


def _cookie(domain: str, path: str, secure: bool, expires: int, name: str, value: str, http_only: bool) -> Cookie:
    return Cookie(
        version=0,
        name=name,
        value=value,
        port=None,
        port_specified=False,
        domain=domain,
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=path,
        path_specified=True,
        secure=secure,
        expires=expires or None,
        discard=not expires,
        comment=None,
        comment_url=None,
        rest={"HttpOnly": None} if http_only else {},  # type: ignore[dict-item]  # as http.cookiejar has it
    )


def _flag(text: str, at: int) -> bool:
    if text.upper() not in _FLAGS:
        raise ValueError(f"field {at + 1}, the {_FIELDS[at]}, is neither TRUE nor FALSE")
    return _FLAGS[text.upper()]


def _domain_from(domain: str, has_subdomains: bool) -> str:
    """Return the domain as ``http.cookiejar`` keeps it: with a dot when it can have subdomains and they count."""
    bare = domain.removeprefix(".")
    if not bare:
        raise ValueError("field 1, the domain, is empty")
    return f".{bare}" if has_subdomains and "." in bare and not is_address(bare) else bare


def write(path: str | os.PathLike[str], cookies: Iterable[Cookie]) -> None:
    """Write the cookies that have not expired to ``path`` as a ``cookies.txt``, whole or not at all.

    The file has mode 0600 from its first moment; where ``path`` is a symbolic link its target is replaced.

    Args:
        path: the file; its folder must exist.
        cookies: what to write. Ports, comments and versions of RFC 2965 are left out.

    Raises:
        CookieFileError: when the file can't be written, or for a cookie that the format can't hold: one without name
            and value, or with a tab, line break, NUL or a character outside Latin-1 in it. The old file then stays.
    """
    now_s = time.time()
    where = os.fspath(path)
    lines = [_HEADER]
    for cookie in cookies:
        if not cookie.is_expired(now_s):  # type: ignore[arg-type]  # typed as int
            try:
                lines.append(_line(cookie))
            except ValueError as error:
                shown = one_line(f"cookie {cookie.name!r} of {cookie.domain!r}")
                raise CookieFileError(f"{where}: {shown} can't be written: {error}") from None
    try:
        _replace(os.path.realpath(path), "".join(lines).encode("latin-1"))
    except OSError as error:
        raise CookieFileError(f"{where}: can't be written: {error.strerror or error}") from error


def _line(cookie: Cookie) -> str:
    """Return the line for ``cookie``; ``ValueError`` says why there can be none, without its value."""
    if not (cookie.name or cookie.value):
        raise ValueError("it has neither name nor value")
    if cookie.domain.startswith("#"):
        raise ValueError("its domain begins with #")
    value = octets_of(cookie)
    name, value = (cookie.name, value) if value is not None else ("", cookie.name)
    rest = getattr(cookie, "_rest", {})
    prefix = _HTTP_ONLY if any(key.lower() == "httponly" for key in rest) else ""
    secure = "TRUE" if cookie.secure else "FALSE"
    if not cookie.domain:
        prefix = _ANY_HOST + prefix
    bare = "localhost" if cookie.domain == "localhost.local" else cookie.domain.removeprefix(".")
    if cookie.domain and not bare:
        raise ValueError("its domain is empty")
    has_subdomains = not is_host_only(cookie) and "." in bare and not is_address(bare)
    domain, flag = (f".{bare}", "TRUE") if has_subdomains else (bare, "FALSE")
    # An expiry of 0 would be read as a session cookie's, but one that long ago has expired and isn't written.
    fields = (domain, flag, cookie.path or "/", secure, str(cookie.expires or 0), name, value)
    for title, field in zip(_FIELDS, fields, strict=True):
        if _UNWRITABLE.search(field):
            raise ValueError(f"its {title} has a tab, a line break or a NUL in it")
        if not field.isascii() and max(field) > "\xff":
            raise ValueError(f"its {title} has a character outside Latin-1 in it")
    return prefix + "\t".join(fields) + "\n"


def _replace(path: str, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader, or a crash, finds the old file or the new one."""
    folder = os.path.dirname(path)
    # mkstemp opens with mode 0600 and O_EXCL: at no time can another user read it.
    handle, temporary = tempfile.mkstemp(prefix=".cookies-", suffix=".tmp", dir=folder)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # elsewhere a folder can't be opened; the rename itself is what counts there
        folder_handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(folder_handle)
        finally:
            os.close(folder_handle)
