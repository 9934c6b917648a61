"""Credentials are cut out of URLs and texts, and nothing else is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from crawlpool.redact import one_line, redact_input, redact_text, redact_url

safe = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
awkward = st.text(st.characters(codec="utf-8", exclude_characters="/?#", min_codepoint=32), max_size=12)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host/", "https://host/"),
        ("https://user@host/", "https://host/"),
        ("https://a:b@c@host/x", "https://host/x"),
        ("https://u:it's@host/", "https://host/"),
        ('https://u:"x"@host/', "https://host/"),
        ("https://host/@user", "https://host/@user"),
        ("https://host/?q=a@b", "https://host/?q=a@b"),
        ("https://host//a@b", "https://host//a@b"),
        ("https://host/?next=http://u:pw@other/", "https://host/?next=http://other/"),
        ("//user:pw@host/", "//host/"),
        ("mailto:a@b", "mailto:a@b"),
    ],
)
def test_userinfo_and_nothing_else_is_cut(url: str, shown: str) -> None:
    """What stands before the last @ of the authority goes; an @ of path or query stays."""
    assert redact_url(url) == shown


@given(safe, awkward, awkward, safe)
def test_no_userinfo_survives(scheme: str, user: str, password: str, path: str) -> None:
    """Whatever the userinfo holds, the URL comes out as it would be without it."""
    scheme = f"h{scheme}"
    assert redact_url(f"{scheme}://{user}:{password}@h.example/{path}") == f"{scheme}://h.example/{path}"


@given(st.text())
def test_urls_without_at_are_untouched(text: str) -> None:
    """No @, nothing to hide."""
    text = text.replace("@", "")
    assert redact_url(text) == redact_text(text) == text


@given(safe, safe, safe)
def test_the_url_still_leads_to_the_same_host_and_path(user: str, host: str, path: str) -> None:
    """What is left is the same URL without userinfo, as a parser sees it."""
    before = parse_url(f"http://{user}:pw@{host}/{path}?q=1")
    after = parse_url(redact_url(f"http://{user}:pw@{host}/{path}?q=1"))
    assert (after.auth, after.host, after.path, after.query) == (None, before.host, before.path, before.query)


def test_texts_show_that_something_was_cut() -> None:
    """A message keeps its words and shows *** where a credential was, in each of its URLs."""
    text = "no route to 'http://u:p@a.example/' via (https://x:y@b.example:80) for me@c.example"
    assert redact_text(text) == "no route to 'http://***@a.example/' via (https://***@b.example:80) for me@c.example"


def test_a_line_is_redacted_by_the_url_made_of_it() -> None:
    """Where a default scheme was put before the line, the line alone doesn't look like a URL."""
    assert redact_input("user:pw@host/x", "https://user:pw@host/x") == "***@host/x"
    assert redact_input("http://user:pw@host/x", "http://user:pw@host/x") == "http://***@host/x"
    assert redact_input("host/@x", "https://host/@x") == "host/@x"


@given(st.text(max_size=400), st.integers(2, 300))
def test_one_line_is_one_printable_line_of_bounded_length(text: str, limit: int) -> None:
    """No control character gets through, and nothing is longer than asked for."""
    shown = one_line(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    if text.isprintable() and len(text) <= limit:
        assert shown == text


@pytest.mark.parametrize("text", ["a" * 2_000_000 + "@", "//" * 1_000_000 + "@", "a:" * 1_000_000 + "@"])
def test_a_hostile_line_costs_no_more_than_its_length(text: str) -> None:
    """Ten megabytes in one line take milliseconds, not hours."""
    started = time.process_time()
    redact_url(text)
    redact_text(text)
    assert time.process_time() - started < 2
