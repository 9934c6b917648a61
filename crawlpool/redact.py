"""What must not be told: credentials in URLs, cut out of every text that leaves the process."""

from __future__ import annotations

import re

# A URL's userinfo: up to the last "@" before the path. Browsers and curl both take the last one. In a text it ends at a
# blank, too, as the text goes on there; a quote may be part of a password, so rather too much is cut than too little.
# "//" within a path begins nothing.
_USERINFO = re.compile(r"(?:^|(?<=:))//([^/?#]*@)")
_USERINFO_IN_TEXT = re.compile(r"(?:^|(?<=[\s:'\"(<=,]))//[^/?# \t\r\n]*@")


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
