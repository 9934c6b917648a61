"""What pages say to robots of themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from crawlpool import SessionPool
from crawlpool.record import record_line
from crawlpool.robots_tag import HEAD_BYTES, may_have_tags, tags_of
from crawlpool.testing import Answer, SiteServer

HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("headers", "content", "expected"),
    [
        (HTML, b"<title>x</title>", []),
        (HTML, b'<head><meta name="robots" content="noindex, nofollow"></head>', ["noindex, nofollow"]),
        (HTML, b"<META CONTENT='none' NAME=ROBOTS>", ["none"]),
        (HTML, b'<meta name=" Robots " content="a"><meta name=robots content="b  c">', ["a", "b c"]),
        (HTML, b"<meta name=robots>", [""]),
        (HTML, b"<meta name=robotsx content=noindex>robots", []),
        (HTML, b"<!-- <meta name=robots content=noindex> -->", []),
        (HTML, b"<body><meta name=robots content=noindex>", []),
        (HTML, b"<p>" + b"x" * HEAD_BYTES + b"<meta name=robots content=noindex>", []),
        (HTML, b"<head></head><meta name=robots content=noindex>", []),
        (HTML, b"x" * 1024 + b"<meta name=robots content=noindex>", []),
        ({"Content-Type": "text/plain"}, b"<meta name=robots content=noindex>", []),
        ({"X-Robots-Tag": "noindex, otherbot: noarchive"}, b"", ["noindex, otherbot: noarchive"]),
        ({**HTML, "x-robots-tag": "all"}, b"<meta name=robots content=none>", ["all", "none"]),
        ({"X-Robots-Tag": "x" * 1000}, b"", ["x" * 200]),
        (HTML, b"<meta name=robots content=x>" * 100, ["x"] * 20),
    ],
)
def test_what_is_found(headers: dict[str, str], content: bytes, expected: list[str]) -> None:
    """The header's value and those of meta tags in the head of a page, as they stand there, but for their length."""
    assert tags_of(CaseInsensitiveDict(headers), content) == expected


@given(st.binary(max_size=200), st.sampled_from([b"<meta name=robots content=", b"robots", b"ROBOTS", b"<!--", b""]))
def test_whatever_a_page_is_nothing_is_raised(page: bytes, part: bytes) -> None:
    """And where something is found the quick look has said so."""
    for content in (page + part, part + page):
        if tags_of(CaseInsensitiveDict(HTML), content):  # the law of the quick look
            assert may_have_tags(CaseInsensitiveDict(HTML), content)


def test_it_stands_in_the_record() -> None:
    """``robots_tag`` holds it; it changes nothing of what is fetched."""
    page = Answer(200, HTML, b"<meta name=robots content=noindex>")
    with SiteServer({"/": page, "/plain": b"x"}) as server, SessionPool() as pool:
        told, plain = pool.map([server.url("/"), server.url("/plain")], ordered=True)
    assert told.record["robots_tag"] == ["noindex"]
    assert plain.record["robots_tag"] == []
    assert json.loads(record_line(told))["robots_tag"] == ["noindex"]
    assert told.is_ok
