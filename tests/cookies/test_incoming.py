"""Who may set which cookie: domains, addresses, Secure, prefixes, paths, and the order of one response's lines."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crawlpool.cookies import CookieStore, RequestCookies
from crawlpool.cookies.incoming import MAX_OF_RESPONSE, default_path
from tests.cookies.helpers import posed_time


def taken(url: str, *lines: str) -> CookieStore:
    """Return a store with what an answer from ``url`` may set."""
    store = CookieStore()
    store.take(lines, url)
    return store


@pytest.mark.parametrize(
    ("host", "domain", "goes_to"),
    [
        ("www.example.com", None, {"www.example.com"}),
        ("www.example.com", "", {"www.example.com"}),
        ("www.example.com", ".", {"www.example.com"}),
        ("www.example.com", "www.example.com", {"www.example.com", "a.www.example.com"}),
        ("www.example.com", ".eXample.com", {"example.com", "www.example.com", "a.www.example.com", "b.example.com"}),
        ("www.example.com", "ample.com", set()),
        ("www.example.com", "a.www.example.com", set()),
        ("www.example.com", "example.org", set()),
        ("www.example.com", "com", set()),
        ("www.example.com", "www.example.com.", set()),
        ("www.example.com", "münchen.example", set()),
        ("example.com.", "example.com.", {"example.com."}),
        ("a.co.uk.", "co.uk.", set()),
        ("127.0.0.1", "127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.1", ".0.0.1", set()),
        ("10.0.0.1", "0.0.1", set()),
        ("[::1]", "[::1]", {"[::1]"}),
        ("localhost", "localhost", {"localhost"}),
        ("localhost", None, {"localhost"}),
        ("intranet", None, {"intranet"}),
        ("intranet.local", None, {"intranet.local"}),
        ("a.localhost", "localhost", set()),
    ],
)
def test_domains(host: str, domain: str | None, goes_to: set[str]) -> None:
    """A cookie goes to the host that set it, and to all of a domain only where the host may speak for it."""
    store = taken(f"http://{host}/", "a=1; Path=/" + ("" if domain is None else f"; Domain={domain}"))
    hosts = {
        *("example.com", "www.example.com", "a.www.example.com", "b.example.com", "example.org", "com", "example.com."),
        *("127.0.0.1", "0.0.1", "10.0.0.1", "[::1]", "localhost", "localhost.local", "intranet", "intranet.local"),
        *("a.localhost", "a.co.uk.", "b.co.uk.", "b.co.uk"),
    }
    assert {host for host in hosts if store.header_for(f"http://{host}/")} == goes_to


@pytest.mark.parametrize(
    ("url", "is_secure"),
    [
        ("https://www.example.com/", True),
        ("http://www.example.com/", False),
        ("http://localhost:8080/", True),
        ("http://127.0.0.9/", True),
        ("http://[::1]/", True),
        ("http://127.0.0.1.example.com/", False),
        ("http://a.localhost/", False),
        ("http://localhost@www.example.com/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_secure_needs_a_secure_way(url: str, is_secure: bool) -> None:
    """``Secure`` cookies are set and sent over https only, or without leaving this machine."""
    assert len(taken(url, "a=1; Secure")) == is_secure
    assert taken(url, "a=1; Secure").header_for(url) == ("a=1" if is_secure else None)
    if is_secure and url.startswith("https"):
        assert taken(url, "a=1; Secure").header_for(url.replace("https", "http", 1)) is None


@pytest.mark.parametrize("line", ["sid=evil", "sid=evil; Domain=example.com", "sid=; Max-Age=0", "sid=evil; Path=/a"])
@pytest.mark.parametrize("view", [False, True])
def test_insecure_answers_leave_secure_cookies_alone(line: str, view: bool) -> None:
    """An answer over http can't overwrite, shadow or expire a ``Secure`` cookie of its site; elsewhere it can."""
    store = taken("https://www.example.com/", "sid=good; Secure; Domain=www.example.com; Path=/a")
    jar: Any = RequestCookies(store) if view else store
    for url in ("http://www.example.com/a/b", "http://a.www.example.com/a/", "http://example.com/a/b"):
        jar.take([line], url)
    assert jar.header_for("https://a.www.example.com/a/b") == "sid=good"
    jar.take(["sid=other; Path=/b", "name=1; Path=/a"], "http://www.example.com/a/b")
    assert jar.header_for("https://www.example.com/b") == "sid=other"
    jar.take(["sid=new; Secure; Domain=www.example.com; Path=/a"], "https://www.example.com/")
    assert jar.header_for("https://a.www.example.com/a") == "sid=new"


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        ("__Secure-a=1", False),
        ("__sEcUrE-a=1", False),
        ("__Secure-a=1; Secure", True),
        ("__Secure-a=1; Secure; Domain=example.com", True),
        ("__Host-a=1; Secure", False),
        ("__Host-a=1; Path=/", False),
        ("__Host-a=1; Secure; Path=/", True),
        ("__HOST-a=1; Secure; Path=/x", False),
        ("__host-a=1; Secure; Path=/; Domain=example.com", False),
        ("__Host-a=1; Secure; Path=/; Domain=", True),
        ("=__Host-a=1; Secure; Path=/", False),
        ("__secure-a; Secure", False),
        ("_Host-a=1", True),
    ],
)
def test_prefixes(line: str, is_kept: bool) -> None:
    """``__Host-`` and ``__Secure-``, in letters of any case, are kept only with what they promise."""
    store = taken("https://www.example.com/x/y", line)
    assert len(store) == is_kept


@pytest.mark.parametrize(
    ("path", "default"),
    [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/", "/a/b"), ("//", "/"), ("", "/"), ("*", "/")],
)
def test_default_path(path: str, default: str) -> None:
    """A cookie without ``Path`` has its request's, up to the last slash."""
    assert default_path(path) == default


@pytest.mark.parametrize(
    ("path", "asked", "goes"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", True),
        ("/a", "/a?b", True),
        ("/a", "/ab", False),
        ("/a/", "/a", False),
        ("/a/", "/a/b", True),
        ("/", "", True),
        ("/A", "/a", False),
    ],
)
def test_path_matching(path: str, asked: str, goes: bool) -> None:
    """A path stands for itself and for what lies under it, at a slash."""
    store = taken("http://example.com/", f"a=1; Path={path}")
    assert (store.header_for(f"http://example.com{asked}") is not None) == goes


def test_lines_of_one_response_are_taken_in_order() -> None:
    """A later line overwrites or expires what an earlier one set, and the age of the first is kept."""
    store = taken("http://example.com/", "a=1", "b=1", "a=2", "b=; Max-Age=0", "c=3", "b=4")
    assert store.header_for("http://example.com/") == "a=2; c=3; b=4"


def test_only_so_many_cookies_of_a_response() -> None:
    """Of one response the first 50 cookies are taken; lines that are none don't count."""
    lines = ["", *(f"c{n}=1" for n in range(MAX_OF_RESPONSE + 20))]
    store = taken("http://example.com/", *lines)
    assert sorted(store.keys()) == sorted(f"c{n}" for n in range(50))


def test_order_in_the_header() -> None:
    """Longer paths come first, then older cookies, over all domains; one that is set anew keeps its place."""
    store = taken(
        "http://www.example.com/a/b", "a=1; Path=/", "b=1; Domain=example.com; Path=/", "c=1; Path=/a/b", "d=1"
    )
    store.take(["e=1; Path=/; Domain=example.com", "a=2; Path=/"], "http://www.example.com/")
    assert store.header_for("http://www.example.com/a/b") == "c=1; d=1; a=2; b=1; e=1"


def test_attributes_are_kept() -> None:
    """``HttpOnly`` and ``SameSite`` can be asked for under the standard library's names; nobody enforces them here."""
    (cookie,) = taken("https://example.com/", "a=1; httponly; samesite=STRICT; Secure; junk=1")
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"
    assert not cookie.has_nonstandard_attr("junk")
    assert cookie.discard and cookie.secure and not cookie.domain_specified


def test_quotes_and_octets_stay_as_they_came() -> None:
    """A value goes back as it came: quotes, backslashes, blanks within, octets beyond ASCII."""
    value = '"a\\"b  c\xe9,=' + '"'
    store = taken("http://example.com/", f"q={value}")
    assert store.header_for("http://example.com/") == f"q={value}"
    assert store["q"] == '"ab  c\xe9,="', "requests shows it without escaped quotes"
    (cookie,) = store
    changed = copy.copy(cookie)
    changed.value = "other"
    store.set_cookie(changed)
    assert store.header_for("http://example.com/") == "q=other"


def test_long_lives_end_after_400_days() -> None:
    """A cookie that asks for a hundred years is gone after 400 days."""
    with posed_time() as clock:
        store = taken("http://example.com/", "a=1; Max-Age=3153600000", "b=1; Expires=Fri, 31 Dec 2123 23:59:59 GMT")
        clock.now_s += 400 * 86_400 - 2
        assert store.header_for("http://example.com/") == "a=1; b=1"
        clock.now_s += 2
        assert store.header_for("http://example.com/") is None
