"""What a robots.txt allows (RFC 9309): read by Protego, with the misses mended that matter to the RFC. Pure.

Protego takes a group's name for a part of the crawler's, splits lines where Unicode has further line ends, lets unknown
lines end the names of a group, and has no bound on a line. So the text is put into a form first in which it reads as
the RFC means it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How much of a file is read: RFC 9309 2.5 asks for 500 KiB at least.
READ_BYTES = 512 * 1024
#: Where a line is cut, as Google does: more than any URL has that a browser would open.
LINE_CHARS = 8 * 2083
#: Of rules longer than this the I/O thread doesn't ask: a worker may take its time.
HEAVY_CHARS = 32 * 1024

_OURS, _OTHERS = "thisone", "another"
_AGENT_LINE = re.compile(r"\s*user[- ]?agent\s*:?\s*(.*)", re.IGNORECASE)
# Other lines say nothing to us, and Protego would have each of them end the group's list of names.
_RULE_LINE = re.compile(
    r"\s*(?:allow|di[as]{1,3}l{1,2}[ao]w|site-?maps?|crawl[- ]delay)\b.*", re.IGNORECASE | re.DOTALL
)
_TOKEN = re.compile(r"[a-zA-Z_-]+")
_COMPATIBLE = re.compile(r"mozilla/[\d.]+ \(compatible; *([a-zA-Z_-]+)", re.IGNORECASE)
# What str.splitlines takes for the end of a line and RFC 9309 2.2 doesn't, as it stands in a URL.
_NO_LINE_ENDS = {
    character: "".join(f"%{byte:02X}" for byte in chr(character).encode())
    for character in (0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)
}


def product_token(user_agent: str) -> str:
    """Return the name by which a robots.txt calls a crawler: ``mybot`` of ``mybot/1.0 (+https://example.org)``.

    Of ``Mozilla/5.0 (compatible; mybot/1.0)`` it is ``mybot``, too. ``""`` where there is none: only the rules for
    everybody hold then.
    """
    found = _COMPATIBLE.match(user_agent.strip()) or _TOKEN.match(user_agent.strip())
    if found is None:
        return ""
    return (found[1] if found.re is _COMPATIBLE else found[0]).lower()


class Robots:
    """The rules of one robots.txt for one crawler.

    Args:
        body: the file as it came, decoded from its Content-Encoding; of any content type.
        token: the crawler's ``product_token``.

    Thread-safe: it doesn't change. Asking it takes time in proportion to the rules and the URL, whatever the patterns.
    """

    def __init__(self, body: bytes, token: str) -> None:
        from protego import Protego  # its import costs more than most crawls' start

        text = "\n".join(_lines(body, token))
        self._rules: Any = Protego.parse(text)
        self.is_heavy = len(text) > HEAVY_CHARS
        #: Seconds that the crawler shall wait between requests; fractions count. 0 where nothing is said.
        self.crawl_delay_s: float = self._rules.crawl_delay(_OURS) or 0.0
        #: The URLs of its ``Sitemap`` lines, which are for every crawler.
        self.sitemaps: tuple[str, ...] = tuple(self._rules.sitemaps)

    def allows(self, url: str) -> bool:
        """Tell whether the crawler may fetch a URL of this origin; of its robots.txt it always may."""
        try:
            return bool(self._rules.can_fetch(url, _OURS))
        except ValueError:  # urlsplit doesn't take it; nothing will be sent to such a URL
            return True


def _lines(body: bytes, token: str) -> Iterator[str]:
    """Yield the lines in a form that Protego reads as RFC 9309 means them."""
    for mark in (b"\xef", b"\xbb", b"\xbf"):  # a byte order mark, or the beginning of one
        body = body.removeprefix(mark)
    is_cut = len(body) > READ_BYTES
    text = body[:READ_BYTES].decode("utf-8", "replace")
    lines = re.split(r"\r\n|\n|\r", text)
    for line in lines[:-1] if is_cut else lines:  # half a rule could say the opposite
        agent = _AGENT_LINE.fullmatch(line.partition("#")[0])
        if agent is None:
            if _RULE_LINE.fullmatch(line):
                yield line[:LINE_CHARS].translate(_NO_LINE_ENDS)
            continue
        name = agent[1].strip()
        if name.startswith("*"):
            yield "User-agent: *"
            continue
        found = _TOKEN.match(name)
        is_ours = found is not None and bool(token) and found[0].lower() == token
        yield f"User-agent: {_OURS if is_ours else _OTHERS}"
