"""Credentials are cut out of URLs and texts, and nothing else is."""

from __future__ import annotations

import json
import re
import time

import pytest
import requests
from hypothesis import assume, example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from crawlpool import Outcome, Result, Session, Target
from crawlpool.record import record_of
from crawlpool.redact import has_login, hide, is_torn, one_line, redact_input, redact_text, redact_url
from crawlpool.source import BadLine, SourceSettings
from crawlpool.source.formats import target_of

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


@pytest.mark.parametrize(
    "text",
    [
        "a" * 2_000_000 + "@",
        "//" * 1_000_000 + "@",
        "a:" * 1_000_000 + "@",
        "://a:b/" * 300_000 + "@",
        "@" + "://a:b/" * 300_000,
        "//" + "a:@" * 700_000,
    ],
)
def test_a_hostile_line_costs_no_more_than_its_length(text: str) -> None:
    """Ten megabytes in one line take milliseconds, not hours."""
    started = time.process_time()
    redact_url(text)
    redact_text(text)
    redact_input(text, "")
    hide(text)
    assert time.process_time() - started < 2


def told_of(target: Target, error: BaseException | None) -> str:
    """Return all that is told of a target that failed."""
    record = record_of(Result(target, Outcome.FAILED, None, error or ValueError("no")))
    return f"{json.dumps(record)} {target!r}"


def is_url_by_itself(login: str) -> bool:
    """Tell whether a login is a URL's beginning up to its first delimiter, so that nobody can tell it from one."""
    head = re.split(r"[\\/?#]", login, maxsplit=1)[0]
    host = head.rpartition("@")[2]
    return head != login and (":" not in host or "[" in host or re.fullmatch(r"[^:]+:[0-9]+", host) is not None)


anything = st.text(max_size=8) | st.text(" :@/?#\\[]%.a1ä", max_size=8)


@given(anything, anything, anything, st.sampled_from(["h.example/x", "127.0.0.1:18611/a?b#c", "h.example/@x", "[::1]"]))
@example("user", "", " ", "127.0.0.1:18611/sp")
@example("user", "ä ", "", "127.0.0.1:18611/uni")
@example("user", "?", "", "h:1/qm")
@example("user", "pa/", "", "h/")
def test_no_password_comes_out(user: str, before: str, after: str, rest: str) -> None:
    """Whatever characters user and password have: no record, no error, no target shows it, and no job takes it."""
    login = f"{user}:{before}hunter2{after}"
    assume(not is_url_by_itself(login))
    line = f"http://{login}@{rest}"
    assert has_login(line)
    item = target_of(line, 1, "urls.txt:1", SourceSettings())
    if isinstance(item, BadLine):
        assert "hunter2" not in str(item.error) + told_of(Target("", n=1, input=item.input), item.error)
    else:
        assert "hunter2" not in told_of(item, None)
    try:
        prepared = Session().prepare_request(requests.Request("GET", line))
    except ValueError as error:
        assert "hunter2" not in str(error) + told_of(Target(line), error)
    else:
        assert "hunter2" not in str(prepared.url) + told_of(Target(line), None)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/@user",
        "https://host:8080/@user",
        "https://host?a@b",
        "https://u:p@host:65535/a@b",
        "http://[::1]/@user",
        "http://[::1]:80/@user",
        "http://[::1]:/",
        "mailto:a/b@c",
        "http://host/http://x:/@y",
    ],
)
def test_a_url_with_an_at_in_its_path_is_whole(url: str) -> None:
    """Only a colon that no port follows makes a login of what a delimiter has torn; other URLs stay as they are."""
    assert not is_torn(url)
    assert redact_url(url) == url.replace("u:p@", "")


def test_a_torn_login_is_cut_out_of_texts() -> None:
    """As far as its word goes; the words around it stay."""
    text = "sent 'http://u:?hunter2@h:1/x' and (http://[::1]:80/@y), to me@x.example: http://a:b@c/d@e"
    shown = "sent 'http://***@h:1/x' and (http://[::1]:80/@y), to me@x.example: http://***@c/d@e"
    assert redact_text(text) == shown
    assert redact_url("http://u:/hunter2@h:1/x") == "http://h:1/x"
    assert redact_input("http://u:/hunter2@h:1/x", "") == "http://***@h:1/x"


def test_what_is_hidden_begins_where_a_url_does() -> None:
    """Two slashes within a password are no beginning."""
    assert hide("user:pa//ss@host") == hide("user:pa://ss@host") == "***@host"
    assert hide('{"url": "https://user:pa//ss@host"}') == '{"url": "https://***@host"}'
