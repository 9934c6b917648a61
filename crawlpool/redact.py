"""What must not be told: credentials in URLs, cut out of every text that leaves the process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

# A URL's userinfo: up to the last "@" before the path. Browsers and curl both take the last one. In a text it ends at a
# blank, too, as the text goes on there; a quote may be part of a password, so rather too much is cut than too little.
# "//" within a path begins nothing.
_USERINFO = re.compile(r"(?:^|(?<=:))//([^/?#]*@)")
_USERINFO_IN_TEXT = re.compile(r"(?:^|(?<=[\s:'\"(<=,]))//[^/?# \t\r\n]*@")

# What parsers take for the userinfo of a URL that is requested: it ends at a backslash, too, as the authority does.
_LOGIN = re.compile(r"(\s*https?://)([^\\/?#]*)@", re.IGNORECASE)

_LONG_WORD = re.compile(r"\w{3,}")


def split_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return an http or https URL without its userinfo, and user and password where it has some.

    Args:
        url: as it was given. Any other comes back as it is, with ``None``.

    The two are percent-decoded (RFC 3986, section 3.2.1). Without a colon the password is empty. Thread-safe.
    """
    found = _LOGIN.match(url) if "@" in url else None
    if found is None:
        return url, None
    user, _, password = found[2].partition(":")
    login = (unquote(user), unquote(password)) if found[2] not in ("", ":") else None
    return found[1] + url[found.end() :], login


def hide(text: str) -> str:
    """Return ``text`` without anything that may be a URL's userinfo, as ``***@``.

    It is for text that is no valid URL, so it takes no chances: all from the first ``//`` (from the start, where there
    is none before the first ``@``) to the last ``@`` goes. A password may hold a slash, a space or a question mark.
    """
    last = text.rfind("@")
    if last < 0:
        return text
    slashes = text.find("//")
    start = 0 if slashes < 0 or "@" in text[:slashes] or slashes > last else slashes + 2
    return f"{text[:start]}***@{text[last + 1 :]}"


def conceal(errors: Iterable[BaseException], url: str) -> None:
    """Take what may be the userinfo of a URL out of the texts of exceptions, which come out in logs and tracebacks.

    Args:
        errors: an exception and what it was made of, as ``crawlpool.errors.causes`` gives them.
        url: what could not be requested.
    """
    # A parser may have taken a part of it for a host, and say so.
    words = _LONG_WORD.findall(url[: max(url.rfind("@"), 0)].partition("//")[2])

    def shown(text: str) -> str:
        text = hide(text)
        return "the URL can't be taken apart" if any(word in text for word in words) else text

    for error in errors:
        error.args = tuple(shown(arg) if isinstance(arg, str) else arg for arg in error.args)
        location = getattr(error, "location", None)  # where urllib3's LocationParseError keeps it besides
        if isinstance(location, str):
            error.location = shown(location)  # type: ignore[attr-defined]


def redact_url(url: str) -> str:
    """Return ``url`` without userinfo: ``https://user:pw@host/`` becomes ``https://host/``."""
    return _USERINFO.sub("//", url) if "@" in url else url


def redact_text(text: str) -> str:
    """Return ``text`` with ``***@`` in place of the userinfo of each URL in it, for messages and given input."""
    return _USERINFO_IN_TEXT.sub("//***@", text) if "@" in text else text


def redact_input(line: str, url: str) -> str:
    """Return an input line without the userinfo of ``url``, which was made of it: ``user:pw@host`` has no scheme."""
    if "@" not in url and "@" not in line:
        return line
    found = _USERINFO.search(url)
    return redact_text(line if found is None else line.replace(found[1], "***@"))


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters.

    Control characters are written as escapes, so that a server can't move a terminal's cursor or forge a log line.
    """
    shown = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
