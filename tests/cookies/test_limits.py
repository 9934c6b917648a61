"""How many cookies there can be: of a domain, in all, in characters; and which of them have to go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import ConfigError
from crawlpool.cookies import CookieStore, index
from crawlpool.cookies.index import MAX_OF_DOMAIN
from tests.cookies.helpers import NOW_S, posed_time

URL = "https://www.example.com/"


def filled(store: CookieStore, count: int, url: str = URL, rest: str = "") -> CookieStore:
    """Give a store so many cookies from one host, over as many answers as that takes."""
    for begin in range(0, count, 50):
        store.take([f"c{n}=1{rest}" for n in range(begin, min(count, begin + 50))], url)
    return store


def test_a_domain_has_180_cookies() -> None:
    """The 181st cookie of a domain takes the place of the one that was set or sent least recently."""
    store = filled(CookieStore(), MAX_OF_DOMAIN)
    store.take(["old=1; Path=/old"], URL)  # c0 goes
    assert len(store) == MAX_OF_DOMAIN and "c0" not in store
    store.header_for(URL)  # all but the one of /old are used
    store.take(["more=1"], URL)
    assert len(store) == MAX_OF_DOMAIN and "old" not in store and "c1" in store
    store.take(["c1=2", "again=1"], URL)
    assert store.get("c1") == "2" and "c2" not in store and "c3" in store


def test_host_only_cookies_and_those_of_the_domain_count_together() -> None:
    """A domain's limit is one for its host-only cookies and those that its subdomains share; others aren't touched."""
    store = filled(CookieStore(), 100)
    filled(store, 100, URL, "; Domain=www.example.com")
    filled(store, 100, "https://example.com/")
    assert len(store.get_dict(domain="www.example.com")) + len(store.get_dict(domain=".www.example.com")) == 180
    assert len(store.get_dict(domain="example.com")) == 100


def test_secure_cookies_go_last() -> None:
    """An insecure site can't crowd out the ``Secure`` cookies of its domain."""
    store = filled(CookieStore(), 100, URL, "; Secure")
    filled(store, 1000, "http://www.example.com/", "; Path=/x")
    assert len(store) == MAX_OF_DOMAIN
    assert sum(cookie.secure for cookie in store) == 100


def test_expired_cookies_go_first() -> None:
    """What has expired makes room before anything that hasn't."""
    with posed_time() as clock:
        store = filled(CookieStore(), 100)
        filled(store, 80, "https://www.example.com/x/", "; Max-Age=5; Path=/x")
        clock.now_s += 10
        store.take(["new=1"], URL)
        assert len(store) == 101


def test_least_recently_used_of_all_goes() -> None:
    """Where there are too many in all, the one that was set or sent least recently goes, whatever its domain."""
    store = CookieStore(max_cookies=3)
    for n in range(3):
        store.take(["a=1"], f"https://h{n}.example/")
    store.header_for("https://h0.example/")
    store.take(["a=1"], "https://h3.example/")
    assert store.list_domains() == ["h0.example", "h2.example", "h3.example"] or set(
        cookie.domain for cookie in store
    ) == {"h0.example", "h2.example", "h3.example"}
    store.set("a", "1", domain="h4.example")
    assert {cookie.domain for cookie in store} == {"h0.example", "h3.example", "h4.example"}


def test_characters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large cookies make as little memory as many small ones: their characters are counted, and given back."""
    monkeypatch.setattr(index, "MAX_CHARACTERS", 50_000)
    store = CookieStore()
    for n in range(100):
        store.take([f"a={'x' * 4000}"], f"https://h{n}.example/")
    assert len(store) == 12
    for _ in range(100):
        store.take([f"a={'y' * 4000}"], "https://h99.example/")
    assert len(store) == 12
    store.clear("h99.example")
    store.clear()
    assert store._index._characters == 0
    store.take([f"a={'x' * 4000}"], URL)
    assert len(store) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "9", True, None])
def test_max_cookies_is_a_positive_whole_number(wrong: Any) -> None:
    """Anything else is an error that names it."""
    with pytest.raises(ConfigError, match="max_cookies"):
        CookieStore(max_cookies=wrong)


def test_copies_keep_the_limit() -> None:
    """A copied or pickled store has the limit of the first."""
    store = CookieStore(max_cookies=2)
    for other in (store.copy(), store.__reduce_ex__(2) and store.copy()):
        for n in range(5):
            other.set(f"c{n}", "1", domain=f"h{n}.example")
        assert len(other) == 2


hosts = st.sampled_from(["example.com", "www.example.com", "a.b.example.com", "example.org", "localhost", "127.0.0.1"])
steps = st.lists(
    st.tuples(
        st.sampled_from(["https", "http"]),
        hosts,
        st.integers(0, 12),
        st.sampled_from(["", "; Domain=example.com", "; Secure", "; Max-Age=3", "; Path=/x", "; Max-Age=0"]),
        st.sampled_from(["take", "take", "take", "set", "send", "clear", "tick", "remove"]),
    ),
    max_size=60,
)


@given(steps)
def test_limits_and_books_hold_for_any_sequence(given_steps: list[tuple[str, str, int, str, str]]) -> None:
    """After any sequence no limit is passed, and the index's books say what is in it."""
    with posed_time() as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "MAX_OF_DOMAIN", 5)
        patch.setattr(index, "MAX_CHARACTERS", 300)
        store = CookieStore(max_cookies=12)
        for scheme, host, n, rest, what in given_steps:
            url = f"{scheme}://{host}/"
            if what == "take":
                store.take([f"c{m}={n}{rest}" for m in range(n)], url)
            elif what == "set":
                store.set(f"c{n}", "1", domain=host, secure=scheme == "https", expires=int(NOW_S) + n)
            elif what == "send":
                store.header_for(url)
            elif what == "clear" and host in store.list_domains():
                store.clear(host)
            elif what == "tick":
                clock.now_s += n
            elif what == "remove":
                store.set(f"c{n}", None)
            books, cookies = store._index, list(store)
            of_domain: dict[str, int] = {}
            for cookie in cookies:
                bare = cookie.domain.removeprefix(".")
                of_domain[bare] = of_domain.get(bare, 0) + 1
            assert len(cookies) == len(store) == len(books._marks) <= 12
            assert of_domain == dict(books._of_domain) and max(of_domain.values(), default=0) <= 5
            characters = sum(len(c.name + (c.value or "") + c.domain + c.path) for c in cookies)
            assert characters == books._characters <= 300
            secure = {(c.domain, c.path, c.name) for c in cookies if c.secure}
            assert {key for kept in books._secure.values() for key in kept} == secure
