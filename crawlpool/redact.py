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

# The authority of what somebody wrote as a URL, which ends at a backslash, too; with a scheme, and with or without one.
_AUTHORITY = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//([^\\/?#]*)")
_GIVEN = re.compile(r"(\s*(?:(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)?)[^\\/?#]*@")
_HOST_PORT = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]+)(?::0*([1-9][0-9]{0,4}))?")
# In a text: a URL up to the delimiter that ends its authority, where a colon without a port stands in that.
_TORN_IN_TEXT = re.compile(
    r"(?:^|(?<=[\s:'\"(<=,]))//(?=(?:[^/?#]*@)?(?:\[[^\]/?#]*\]|[^/?#@:\[\]]*):(?![0-9]{1,5}[/?#])[^/?#@]*[/?#])"
)
_WORD = re.compile(r"\S+")
# What may stand before the "//" of a URL that is all there is, or the one of a text.
_BEFORE = re.compile(r"(?:^|[\s'\"(<=,\[{])(?:[A-Za-z][A-Za-z0-9+.\-]*:)?\Z")
_LAST_PORT = 65535
#: What is wrong with a URL that ``is_torn``.
TORN = "the login of a URL is written with %-escapes for / ? #"

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

    It is for text that is no valid URL, so it takes no chances: all from the first ``//`` (from the start, where no URL
    begins by it) to the last ``@`` goes. A password may hold a slash, a space or a question mark.
    """
    last = text.rfind("@")
    if last < 0:
        return text
    slashes = text.find("//", 0, last)
    start = 0 if slashes < 0 or "@" in text[:slashes] or not _BEFORE.search(text[:slashes]) else slashes + 2
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


def is_torn(url: str) -> bool:
    """Tell whether a URL has a login that a delimiter tears: ``http://user:pa/ss@host/`` names the host ``user``.

    So it is where the authority ends in a colon that no port follows, and there is an ``@`` behind it. Thread-safe.
    """
    found = _AUTHORITY.match(url) if "@" in url else None
    if found is None or url.find("@", found.end()) < 0:
        return False
    host_port = found[1].rpartition("@")[2]
    parts = _HOST_PORT.fullmatch(host_port)
    return ":" in host_port if parts is None else parts[1] is not None and int(parts[1]) > _LAST_PORT


def has_login(given: str) -> bool:
    """Tell whether what somebody wrote as a URL has a login, or may have one; as parsers see it, and as people do."""
    return "@" in given and (_AUTHORITY.match(given) is None or redact_input(given, "") != given)


def redact_url(url: str) -> str:
    """Return ``url`` without userinfo: ``https://user:pw@host/`` becomes ``https://host/``."""
    if "@" not in url:
        return url
    if is_torn(url):
        url = url[: url.find("//") + 2] + url[url.rfind("@") + 1 :]
    return _USERINFO.sub("//", url)


def redact_text(text: str) -> str:
    """Return ``text`` with ``***@`` in place of the userinfo of each URL in it, for messages and given input."""
    return _USERINFO_IN_TEXT.sub("//***@", _WORD.sub(_mended, text)) if "@" in text else text


def _mended(word: re.Match[str]) -> str:
    """Return a word of a text without the login that a delimiter tears."""
    text = word[0]
    last = text.rfind("@")
    found = _TORN_IN_TEXT.search(text, 0, last) if last >= 0 else None
    return text if found is None else f"{text[: found.end()]}***@{text[last + 1 :]}"


def redact_input(line: str, url: str) -> str:
    """Return an input line without the userinfo of ``url``, which was made of it: ``user:pw@host`` has no scheme.

    What made a URL of the line may have escaped or stripped what it holds: its authority is looked for anew.
    """
    if "@" not in line:
        return line
    if is_torn(line):
        return redact_text(hide(line))
    found, own = _GIVEN.match(line), _AUTHORITY.match(url)
    is_of_url = own is not None and "@" in own[1]
    if found is not None and (is_of_url or "//" in found[1]):
        line = f"{found[1]}***@{line[found.end() :]}"
    elif is_of_url:
        return hide(line)
    login = _USERINFO.search(url)  # of a URL in its query, too
    return redact_text(line if login is None else line.replace(login[1], "***@"))


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters.

    Control characters are written as escapes, so that a server can't move a terminal's cursor or forge a log line.
    """
    shown = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
