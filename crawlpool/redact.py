"""What must not be told: credentials in URLs, cut out of every text that leaves the process."""

from __future__ import annotations

import re

# A URL's userinfo: from the scheme to the last "@" before the path. Browsers and curl both take the last one.
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*:)?//[^/?#\s\"'<>]*@")


def redact_url(url: str) -> str:
    """Return ``url`` without userinfo: ``https://user:pw@host/`` becomes ``https://host/``."""
    return _USERINFO.sub(lambda m: f"{m.group(1) or ''}//", url) if "@" in url else url


def redact_text(text: str) -> str:
    """Return ``text`` with ``***@`` in place of the userinfo of each URL in it, for messages and given input."""
    return _USERINFO.sub(lambda m: f"{m.group(1) or ''}//***@", text) if "@" in text else text


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters.

    Control characters are written as escapes, so that a server can't move a terminal's cursor or forge a log line.
    """
    shown = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
