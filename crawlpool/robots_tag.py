"""What a page says to robots of itself: ``X-Robots-Tag`` and ``<meta name="robots">``. It is recorded, not heeded."""

from __future__ import annotations

import html.parser
from collections.abc import Mapping

#: So much of a page is looked at: what is meant for robots stands in its head.
HEAD_BYTES = 65_536
_FIRST_TAG_BYTES = 1024  # within so many a page of HTML has a tag
_LONGEST = 200  # characters of one value, and values of one page
_MOST = 20


class _Finder(html.parser.HTMLParser):
    """Collects the contents of ``<meta name="robots">`` in the head of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag; after the body has begun at none."""
        if tag == "body":
            self.is_over = True
        elif tag == "meta" and not self.is_over:
            given = dict(attrs)
            if (given.get("name") or "").strip().lower() == "robots":
                self.found.append(given.get("content") or "")


def may_have_tags(headers: Mapping[str, str], content: bytes) -> bool:
    """Tell, quickly, whether ``tags_of`` may find anything: most pages have nothing to say.

    Args:
        headers, content: as ``tags_of`` takes them.
    """
    # What a CaseInsensitiveDict holds: to ask it for what it hasn't takes it a microsecond.
    store = getattr(headers, "_store", headers)
    return "x-robots-tag" in store or ("html" in headers.get("content-type", "").lower() and _may_have_meta(content))


def _may_have_meta(content: bytes) -> bool:
    if content.find(b"<", 0, _FIRST_TAG_BYTES) < 0:
        return False
    end = content.find(b"</head", 0, HEAD_BYTES)  # there soon, in most pages; the rest needn't be searched then
    end = HEAD_BYTES if end < 0 else end
    return content.find(b"obots", 0, end) >= 0 or content.find(b"OBOTS", 0, end) >= 0


def tags_of(headers: Mapping[str, str], content: bytes) -> list[str]:
    """Return what a page says to robots of itself, as it stands there: the header's value, then each meta tag's.

    Args:
        headers: the fields of the answer, found whatever their case; one that came repeatedly is joined by commas.
        content: the decoded body; its head is looked at, 64 KiB at most, if its type is HTML and it begins like that.

    Returns:
        Values such as ``noindex, nofollow`` or ``otherbot: noarchive``, cut after 200 characters, twenty at most.
    """
    found = []
    header = headers.get("x-robots-tag")
    if header is not None:
        found.append(header)
    if "html" in headers.get("content-type", "").lower() and _may_have_meta(content):
        finder = _Finder()
        finder.feed(content[:HEAD_BYTES].decode("latin-1"))  # what is looked for is ASCII, whatever the rest is
        found += finder.found
    return [" ".join(value.split())[:_LONGEST] for value in found[:_MOST]]
