"""Two transports, one crawl: the same pages of a real tree are found, and their records say the same."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import Any
from urllib.parse import urldefrag, urljoin

import pytest

from crawlpool import Crawl, Result, SessionPool
from crawlpool.testing.nginx import find_nginx, nginx
from crawlpool.transport.curl import library

TREES = sorted(pathlib.Path("/usr/share/doc").glob("python3.*/html"))
TIMED = ("timings", "started_at", "elapsed_s", "waited_s")
_LINK = re.compile(rb'href="([^"]+)"')

pytestmark = [
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed"),
    pytest.mark.skipif(not library.is_installed(), reason="needs pycurl"),
    pytest.mark.skipif(not TREES, reason="Debian's python3-doc is not installed"),
    pytest.mark.timeout(170),
]


@functools.cache
def links_of(path: str, content: bytes) -> tuple[str, ...]:
    """Return the paths that a page links to, of its own site; each page is fetched four times and read once."""
    joined = (
        urldefrag(urljoin(f"http://h{path}", link.decode("utf-8", "replace")))[0] for link in _LINK.findall(content)
    )
    return tuple(dict.fromkeys(found.removeprefix("http://h") for found in joined if found.startswith("http://h/")))


def crawled(transport: str, start: str, threads: int) -> dict[str, dict[str, Any]]:
    """Follow every link of the site at ``start``; return the records by URL, without what is timed."""
    records: dict[str, dict[str, Any]] = {}

    def follow(result: Result, crawl: Crawl) -> None:
        response = result.response
        if response is not None and result.is_ok and "html" in response.headers.get("content-type", ""):
            for path in links_of(response.url.removeprefix(start), response.content):
                crawl.add(start + path, parent=result)

    def keep(result: Result) -> None:
        record = result.record
        assert record["url"] not in records, "a URL has two records"
        records[record["url"]] = {key: value for key, value in record.items() if key not in TIMED}

    with SessionPool(threads=threads, transport=transport) as pool:
        report = pool.crawl([f"{start}/"], follow, on_result=keep)
    assert report.is_balanced
    assert report.settled == len(records)
    return records


def test_both_transports_find_and_record_the_same() -> None:
    """All of python3-doc, link by link, one at a time: the records are identical but for what is timed."""
    with nginx(TREES[0]) as server:
        start = server.url("")
        ours, theirs = crawled("curl", start, 1), crawled("urllib3", start, 1)
    assert len(ours) > 400
    assert ours.keys() == theirs.keys()
    for url, record in ours.items():
        assert record == theirs[url]


def test_many_at_once_find_the_same_pages() -> None:
    """With eight threads the way to a page may differ, and the pages don't."""
    with nginx(TREES[0]) as server:
        start = server.url("")
        ours, theirs = crawled("curl", start, 8), crawled("urllib3", start, 8)
    assert {url: record["sha256"] for url, record in ours.items()} == {
        url: record["sha256"] for url, record in theirs.items()
    }
