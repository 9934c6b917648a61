"""Values that may be secrets: given as they are, from a file, or from an environment variable; never shown.

No message of this module repeats a value: a password that was mistyped is nearly a password.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import idna
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from crawlpool.config import proxy_url
from crawlpool.errors import CrawlPoolError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_LONGEST_FILE = 65536
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BAD_IN_VALUE = re.compile(r"[\r\n\0]")


class BadSecret(ValueError):
    """A value isn't what it should be. The message doesn't repeat it."""


class SecretFileError(CrawlPoolError):
    """A file that should hold a secret can't be read; the message names the file."""


def resolve(value: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the value that ``@FILE`` or ``env:NAME`` stands for, or ``value`` itself.

    Args:
        value: as it was given. A file's content is taken without white space around it.
        environment: the variables; those of the process unless given.

    Raises:
        SecretFileError: when the file can't be read, or isn't one line of text.
        BadSecret: when the variable isn't set or is empty.
    """
    if value.startswith("@") and len(value) > 1:
        return _from_file(value[1:])
    variable = _VARIABLE.fullmatch(value)
    if variable is None:
        return value
    found = (os.environ if environment is None else environment).get(variable[1], "").strip()
    if not found:
        raise BadSecret(f"the environment variable {variable[1]} is not set or empty")
    return found


def is_elsewhere(value: str) -> bool:
    """Tell whether a value only says where the secret is: ``@FILE`` or ``env:NAME``."""
    return (value.startswith("@") and len(value) > 1) or _VARIABLE.fullmatch(value) is not None


def _from_file(path: str) -> str:
    text = _content_of(path)
    if _BAD_IN_VALUE.search(text):
        raise SecretFileError(f"{one_line(path)}: a secret's file holds one line of UTF-8 text, this one doesn't")
    return text


def _content_of(path: str) -> str:
    shown = one_line(path)
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise SecretFileError(f"{shown}: the secret can't be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > _LONGEST_FILE:
        raise SecretFileError(f"{shown}: a secret's file holds one line of UTF-8 text, this one doesn't")
    return text


def header_of(given: str) -> tuple[str, str]:
    """Return name and value of a header ``Name: value``; the value may be ``@FILE`` or ``env:NAME``.

    Raises:
        BadSecret: when it is no header.
        SecretFileError: as ``resolve`` does.
    """
    name, colon, value = given.partition(":")
    name = name.strip()
    if not colon or not _HEADER_NAME.fullmatch(name):
        raise BadSecret("a header is 'Name: value' (what was given isn't shown: it may hold a secret)")
    return name, header_value(name, value)


def header_value(name: str, value: str) -> str:
    """Return the value of the header ``name``, ``@FILE`` and ``env:NAME`` resolved.

    Raises:
        BadSecret: when there is no such header.
        SecretFileError: as ``resolve`` does.
    """
    if not _HEADER_NAME.fullmatch(name):
        raise BadSecret("a header's name is a word such as X-Api-Key")
    found = resolve(value.strip())
    if _BAD_IN_VALUE.search(found):
        raise BadSecret(f"the value of the header {name} holds a line break or a NUL")
    try:
        found.encode("latin-1")
    except UnicodeEncodeError:
        raise BadSecret(f"the value of the header {name} holds characters beyond Latin-1") from None
    return found


def auth_of(given: str) -> tuple[str, tuple[str, str]]:
    """Return host (with its port, if one was given) and (user, password) of ``USER:PASS@HOST``.

    The host begins after the last ``@``, the password after the first ``:``; the whole may be ``@FILE`` or
    ``env:NAME``.

    Raises:
        BadSecret: when it isn't of this form.
        SecretFileError: as ``resolve`` does.
    """
    login, at, host = resolve(given).rpartition("@")
    if not at or ":" not in login or not _is_host(host):
        raise BadSecret("a login is USER:PASS@HOST or USER:PASS@HOST:PORT (what was given isn't shown)")
    return host, login_of(login)


def login_of(given: str) -> tuple[str, str]:
    """Return user and password of ``USER:PASS``; the whole may be ``@FILE`` or ``env:NAME``.

    Raises:
        BadSecret: when there is no colon.
        SecretFileError: as ``resolve`` does.
    """
    user, colon, password = resolve(given).partition(":")
    if not colon or not user:
        raise BadSecret("a login is USER:PASS (what was given isn't shown)")
    return user, password


def proxies_of(given: str) -> list[str]:
    """Return the URLs of proxies; without a scheme one is ``http``.

    Args:
        given: one URL; ``env:NAME``, a variable that holds one; or ``@FILE``, a file with one in each line. Its blank
            lines, and those that begin with ``#``, are skipped.

    Raises:
        BadSecret: when one is no proxy's URL; it names the line of a file.
        SecretFileError: when the file can't be read, is empty, or isn't text in UTF-8.
    """
    if not given.startswith("@") or len(given) == 1:
        return [_proxy(resolve(given), "")]
    lines = [(number, line.strip()) for number, line in enumerate(_content_of(given[1:]).splitlines(), 1)]
    shown = one_line(given[1:])
    found = [_proxy(line, f"{shown}, line {number}: ") for number, line in lines if line and not line.startswith("#")]
    if not found:
        raise SecretFileError(f"{shown}: it holds no proxy's URL")
    return found


def _proxy(given: str, place: str) -> str:
    url = proxy_url(given)
    if url is None:
        raise BadSecret(
            f"{place}a proxy is http://HOST:PORT, with USER:PASS@ before the host where it wants a login; https and "
            "socks5h work, too (what was given isn't shown)"
        )
    return url


def _is_host(text: str) -> bool:
    if not text or re.search(r"[\s/?#@\\]", text):
        return False
    try:
        return bool(parse_url(f"http://{text}/").host)
    except (LocationParseError, idna.IDNAError):
        return False
