"""The short way of preparing gives what requests gives, header by header, and knows which URLs it may take."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.models import PreparedRequest
from requests.structures import CaseInsensitiveDict

from crawlpool import Session
from crawlpool.prepare import PLAIN_URL, PlainRequest, checked, merged

plain_urls = st.from_regex(PLAIN_URL, fullmatch=True)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
values = st.from_regex(r"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True)
headers = st.dictionaries(names, values, max_size=5)
changes = st.dictionaries(names, values | st.none(), max_size=4)


def requests_own(url: str) -> str:
    """Return the URL as requests' own preparing makes it."""
    prepared = PreparedRequest()
    prepared.prepare_url(url, None)
    assert prepared.url is not None
    return prepared.url


def parts(prepared: PreparedRequest) -> tuple[Any, ...]:
    """Return all that goes over the wire, headers in their order, and the hooks."""
    return prepared.method, prepared.url, list(prepared.headers.items()), prepared.body, prepared.hooks


@settings(max_examples=80)
@given(plain_urls)
def test_requests_leaves_every_plain_url_as_it_is(url: str) -> None:
    """That is what lets the short way skip requests' parsing and quoting."""
    assert requests_own(url) == url


def test_requests_leaves_ten_thousand_plain_urls_as_they_are() -> None:
    """The same with more and nastier strings than hypothesis makes in the time: each that matches is left alone."""
    draw = random.Random(20261122)
    hosts, tails = "az09-.", "/.?&=;:@~!$'()*+,_-aZ9"
    matched = 0
    while matched < 10_000:
        host = "".join(draw.choices(hosts, k=draw.randint(1, 8)))
        port = draw.choice(["", "", f":{draw.randint(0, 70000)}"])
        tail = "".join(draw.choices(tails, k=draw.randint(0, 12)))
        url = f"{draw.choice(['http', 'https'])}://{host}{port}/{tail}"
        if PLAIN_URL.fullmatch(url) is not None:
            matched += 1
            assert requests_own(url) == url


@settings(max_examples=200)
@given(st.text(alphabet="htps:/.?#@%[]aZ09-_~\\ é'", max_size=24).map(lambda rest: f"http://{rest}"))
def test_a_url_that_requests_would_change_is_not_plain(url: str) -> None:
    """Whatever matches is left alone by requests; what requests changes or refuses never matches."""
    if PLAIN_URL.fullmatch(url) is None:
        return
    assert requests_own(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "HTTP://h.example/",
        "http://H.example/",
        "http://h.example",
        "http://h.example:080/",
        "http://h.example:65536/",
        "http://user@h.example/",
        "http://h.example/../x",
        "http://h.example/./x",
        "http://h.example/a#b",
        "http://h.example/a b",
        "http://h.example/%7e",
        "http://h.example/?",
        "http://-h.example/",
        "http://h..example/",
        "http://[::1]/",
        "http://h.example/ä",
        "ftp://h.example/",
        "http://h.example/\n",
    ],
)
def test_what_needs_care_takes_the_long_way(url: str) -> None:
    """Case, dots, quoting, userinfo, fragments, ports out of range, other schemes: requests' own code does those."""
    assert PLAIN_URL.fullmatch(url) is None


@pytest.fixture
def short_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the requests that took the short way."""
    taken: list[None] = []
    plain = Session.prepare_plain

    def counted(*args: Any) -> PlainRequest | None:
        prepared = plain(*args)
        if prepared is not None:
            taken.append(None)
        return prepared

    monkeypatch.setattr(Session, "prepare_plain", counted)
    return lambda: len(taken)


def test_plain_gets_take_the_short_way_and_others_do_not(short_way: Callable[[], int]) -> None:
    """A body, params, auth or cookies of the call need requests' own preparing."""
    with Session() as session:
        session.trust_env = False
        nothing = dict.fromkeys(("params", "data", "json", "files", "cookies", "auth", "hooks", "headers"))
        session._prepare("GET", "http://h.example/", **nothing)
        session._prepare("HEAD", "http://h.example/", **{**nothing, "headers": {"X-A": "1"}})
        assert short_way() == 2
        for more in ({"params": {"a": 1}}, {"data": b"x"}, {"auth": ("u", "p")}, {"cookies": {"a": "b"}}):
            session._prepare("GET", "http://h.example/", **{**nothing, **more})
        session._prepare("POST", "http://h.example/", **nothing)
        session.auth = ("u", "p")
        session._prepare("GET", "http://h.example/", **nothing)
        assert short_way() == 2


@settings(max_examples=40)
@given(
    method=st.sampled_from(["GET", "HEAD"]),
    url=plain_urls,
    own=headers,
    call=changes,
    cookie=st.booleans(),
    hooked=st.booleans(),
)
def test_the_short_way_gives_what_requests_gives(
    method: str, url: str, own: dict[str, str], call: dict[str, str | None], cookie: bool, hooked: bool
) -> None:
    """Method, URL, headers with their order and spelling, cookies, body and hooks are those of requests.Session."""
    with Session() as ours, requests.Session() as theirs:
        for session in (ours, theirs):
            session.trust_env = False
            session.headers.update(own)
            if cookie:
                session.cookies.set("a", "b")
            if hooked:
                session.hooks["response"].append(parts)
        lean = ours._prepare(
            method, url, headers=call, params={}, data={}, json=None, files=None, cookies=None, auth=None, hooks=None
        )
        full = theirs.prepare_request(requests.Request(method, url, headers=call))
        assert parts(lean) == parts(full)
        assert parts(ours.prepare_request(requests.Request(method, url, headers=call))) == parts(full)


@settings(max_examples=40)
@given(url=plain_urls, first=headers, second=changes)
def test_a_change_of_the_sessions_headers_is_seen_by_the_next_request(
    url: str, first: dict[str, str], second: dict[str, str | None]
) -> None:
    """What was checked and kept of the headers is made anew when they change, by whatever way."""
    with Session() as ours, requests.Session() as theirs:
        nothing = dict.fromkeys(("params", "data", "json", "files", "cookies", "auth", "hooks", "headers"))
        for session in (ours, theirs):
            session.trust_env = False
            session.headers.update(first)
        ours._prepare("GET", url, **nothing)
        for session in (ours, theirs):
            session.headers.update(second)  # type: ignore[arg-type]
        assert parts(ours._prepare("GET", url, **nothing)) == parts(
            theirs.prepare_request(requests.Request("GET", url))
        )


def test_headers_may_be_replaced_by_a_plain_dict() -> None:
    """As in requests: ``session.headers = {…}`` holds, and later changes of that dict too."""
    with Session() as session:
        session.trust_env = False
        own = {"X-A": "1"}
        session.headers = own
        nothing = dict.fromkeys(("params", "data", "json", "files", "cookies", "auth", "hooks", "headers"))
        assert dict(session._prepare("GET", "http://h.example/", **nothing).headers) == {"X-A": "1"}
        own["X-B"] = "2"
        assert dict(session._prepare("GET", "http://h.example/", **nothing).headers) == {"X-A": "1", "X-B": "2"}


@pytest.mark.parametrize(
    "bad", [{"X": "a\r\nB: c"}, {"X": " a"}, {"X\n": "a"}, {"X": 1}, {"X:": "a"}, {b"X": "a\n"}, {"": "a"}]
)
def test_a_header_that_http_cannot_carry_is_refused(bad: dict[Any, Any]) -> None:
    """On each way, as requests does: a line break would be another header."""
    with Session() as session:
        session.trust_env = False
        for url in ("http://h.example/", "http://H.example/a b"):
            with pytest.raises(requests.exceptions.InvalidHeader):
                session.get(url, headers=bad)
    with pytest.raises(requests.exceptions.InvalidHeader):
        checked(bad)
    with pytest.raises(requests.exceptions.InvalidHeader):
        merged(CaseInsensitiveDict(), bad)


def test_none_takes_a_header_out() -> None:
    """In any spelling; the header isn't sent at all, not as the text None."""
    base = checked({"User-Agent": "x", "X-Gone": None, b"X-Bytes": "1"})  # type: ignore[dict-item]
    assert dict(base) == {"User-Agent": "x", "X-Bytes": "1"}
    assert dict(merged(base, {"USER-AGENT": None}, None, {"x-bytes": "2"})) == {"x-bytes": "2"}
    assert dict(base) == {"User-Agent": "x", "X-Bytes": "1"}, "the base is not changed"
