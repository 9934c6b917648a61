"""The example site that the demo crawls: the handbook of a program that doesn't exist, and some special pages."""

from __future__ import annotations

import gzip
import html
import importlib.resources
import random
import string
from typing import TYPE_CHECKING

from crawlpool.testing.http1 import Answer

if TYPE_CHECKING:
    from crawlpool.testing.routes import Route

HTML = "text/html; charset=utf-8"
SLOW_S = 0.5
#: Where the special pages are. Nothing is at MISSING.
MOVED, SLOW, PACKED, MISSING = "/latest", "/slow.html", "/packed.html", "/missing.html"

_WORDS = (
    "tide gauge harbour station reading level datum chart forecast current buoy basin estuary quay surge slack "
    "clock sensor record series offset average hour metre archive report"
).split()
_VERBS = "keeps shows follows corrects stores compares needs reports delays replaces confirms joins".split()


def example_site() -> dict[str, Route]:
    """Return the routes of the example site, the same at each call, as ``SiteServer`` takes them.

    They are the 60 pages of a handbook with their index, style and robots.txt, and a page that moved (``/latest``), one
    that takes half a second (``/slow.html``), and one that is sent compressed (``/packed.html``).
    """
    pages = _handbook()
    paths = list(pages)
    template = string.Template(_bundled("page.html"))
    routes: dict[str, Route] = {}
    for number, (path, (part, title)) in enumerate(pages.items()):
        routes[path] = template.substitute(
            title=html.escape(title),
            part=html.escape(part),
            body=_prose(title),
            previous=paths[number - 1],
            next=paths[(number + 1) % len(paths)],
        ).encode()
    links = "\n".join(f'<li><a href="{path}">{html.escape(title)}</a></li>' for path, (_, title) in pages.items())
    routes["/"] = template.substitute(
        title="Contents", part="all parts", body=f"<ul>\n{links}\n</ul>", previous=paths[-1], next=paths[0]
    ).encode()
    routes["/style.css"] = _bundled("style.css").encode()
    routes["/robots.txt"] = Answer(200, {"Content-Type": "text/plain"}, _bundled("robots.txt").encode())
    first = routes[paths[0]]
    assert isinstance(first, bytes)
    routes[MOVED] = Answer(301, {"Location": paths[-1]})
    routes[SLOW] = Answer(200, {"Content-Type": HTML}, first, delay_s=SLOW_S)
    packed = gzip.compress(first, mtime=0)
    routes[PACKED] = Answer(200, {"Content-Type": HTML, "Content-Encoding": "gzip"}, packed)
    return routes


def _handbook() -> dict[str, tuple[str, str]]:
    """Return part and title of each page, by path, in the handbook's order."""
    pages: dict[str, tuple[str, str]] = {}
    part = ""
    for line in _bundled("topics.txt").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            part = line.strip()
            continue
        title = line.strip()
        pages[f"/{part.lower()}/{title.lower().replace(' ', '-')}.html"] = (part, title)
    return pages


def _prose(title: str) -> str:
    """Return some paragraphs, the same ones for the same title."""
    pick = random.Random(title)
    paragraphs = []
    for _ in range(pick.randint(4, 24)):
        sentences = []
        for _ in range(pick.randint(3, 7)):
            one, two, three = pick.sample(_WORDS, 3)
            sentences.append(f"The {one} {pick.choice(_VERBS)} the {two} of each {three}.")
        paragraphs.append(f"<p>{' '.join(sentences)}</p>")
    return "\n".join(paragraphs)


def _bundled(name: str) -> str:
    return (importlib.resources.files("crawlpool.testing") / "pages" / name).read_text("utf-8")
