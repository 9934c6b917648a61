"""The store as a jar: the mapping's operations, copies, pickles, the policy, and what it takes from responses."""

from __future__ import annotations

import copy
import http.cookies
import pickle
from http.cookiejar import CookiePolicy, DefaultCookiePolicy
from typing import Any

import pytest
import requests
from requests.cookies import CookieConflictError, MockRequest, create_cookie, merge_cookies

from crawlpool.cookies import CookieStore
from crawlpool.cookies.index import MAX_HOLLOW
from tests.cookies.helpers import NOW_S, PlainJar, contents, plain_header, posed_time, prepared, raw


def filled(jar: Any) -> Any:
    """Return ``jar`` with cookies of several domains, one name twice."""
    jar.set("sid", "1", domain="example.com", path="/")
    jar.set("sid", "2", domain=".example.com", path="/a")
    jar.set("only", "3", domain="other.org", expires=4_000_000_000, discard=False)
    jar["everywhere"] = "4"
    return jar


@pytest.mark.parametrize(
    "ask",
    [
        lambda jar: jar["only"],
        lambda jar: jar["sid"],
        lambda jar: jar["none"],
        lambda jar: jar.get("sid", domain="example.com"),
        lambda jar: jar.get("sid", domain=".example.com", path="/a"),
        lambda jar: jar.get("sid", path="/elsewhere"),
        lambda jar: jar.get("none", "default"),
        lambda jar: jar._find("sid"),
        lambda jar: "sid" in jar,
        lambda jar: "none" in jar,
        lambda jar: len(jar),
        lambda jar: bool(jar),
        lambda jar: jar.keys(),
        lambda jar: jar.values(),
        lambda jar: jar.items(),
        lambda jar: list(jar.iterkeys()),
        lambda jar: list(jar.itervalues()),
        lambda jar: list(jar.iteritems()),
        lambda jar: dict(jar),
        lambda jar: jar.get_dict(),
        lambda jar: jar.get_dict(domain="example.com"),
        lambda jar: jar.get_dict(domain="example.com", path="/none"),
        lambda jar: jar.list_domains(),
        lambda jar: jar.list_paths(),
        lambda jar: jar.multiple_domains(),
        lambda jar: jar == filled(PlainJar()),
        lambda jar: filled(PlainJar()) == jar,
        lambda jar: jar == {"sid": "1"},
        lambda jar: requests.utils.dict_from_cookiejar(jar),
        lambda jar: (jar.pop("only"), contents(jar)),
        lambda jar: jar.pop("sid"),
        lambda jar: jar.pop("none"),
        lambda jar: jar.pop("none", 5),
        lambda jar: (jar.setdefault("only", "9"), jar.setdefault("new", "9"), contents(jar)),
        lambda jar: jar.setdefault("sid", "9"),
        lambda jar: (jar.__delitem__("sid"), contents(jar)),
        lambda jar: (jar.set("sid", None, domain=".example.com"), contents(jar)),
        lambda jar: (jar.set("q", '"a\\"b"') is None, contents(jar)),
        lambda jar: (jar.update({"sid": "7", "only": None}), contents(jar)),
        lambda jar: (jar.update([("p", "7")]), contents(jar)),
        lambda jar: (jar.update(http.cookies.SimpleCookie("m=1; n=2")), contents(jar)),
        lambda jar: (jar.update(filled(PlainJar())), contents(jar)),
        lambda jar: contents(merge_cookies(jar, {"sid": "no", "new": "yes"})),
        lambda jar: jar.clear("nowhere"),
        lambda jar: jar.clear("example.com", "/nowhere"),
        lambda jar: jar.clear("example.com", "/", "nothing"),
        lambda jar: jar.clear(path="/"),
        lambda jar: jar.clear(name="sid"),
        lambda jar: (jar.clear("example.com", "/"), len(jar), contents(jar)),
        lambda jar: (jar.clear_session_cookies(), contents(jar)),
        lambda jar: contents(jar.copy()),
        lambda jar: contents(copy.copy(jar)),
        lambda jar: contents(copy.deepcopy(jar)),
        lambda jar: contents(pickle.loads(pickle.dumps(jar))),
        lambda jar: jar.set("x", "1", nonsense=True),
    ],
)
def test_answers_as_a_plain_jar(ask: Any) -> None:
    """Each operation gives what a plain jar gives, or raises what that raises."""

    def outcome(jar: Any) -> Any:
        try:
            return ask(jar)
        except (KeyError, ValueError, TypeError, CookieConflictError) as error:
            return type(error), str(error)

    assert outcome(filled(CookieStore())) == outcome(filled(PlainJar()))


def test_popitem_takes_each_cookie_once() -> None:
    """``popitem`` empties the store cookie by cookie, then raises ``KeyError``."""
    store = filled(CookieStore())
    assert [store.popitem() for _ in range(4)] == [("sid", "1"), ("sid", "2"), ("only", "3"), ("everywhere", "4")]
    with pytest.raises(KeyError):
        store.popitem()


def test_iteration_goes_over_a_snapshot() -> None:
    """A loop over the store sees the cookies of its start, whatever happens to the store meanwhile."""
    store = filled(CookieStore())
    seen = []
    for cookie in store:
        store.clear()
        store.set("new", "1", domain=f"{len(seen)}.example")
        seen.append(cookie.name)
    assert seen == ["sid", "sid", "only", "everywhere"]
    assert len(store) == 1


@pytest.mark.parametrize("copied", [CookieStore.copy, copy.copy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copy_is_independent(copied: Any) -> None:
    """A copy is a store with the same cookies and policy settings whose changes don't reach the other."""
    store = filled(CookieStore(DefaultCookiePolicy(blocked_domains=["blocked.example"])))
    other = copied(store)
    assert type(other) is CookieStore
    assert contents(other) == contents(store)
    other.set("more", "1", domain="x.example", expires=4_000_000_000)
    store.clear()
    assert (len(store), len(other)) == (0, 5)
    assert other.header_for("http://x.example/") == "everywhere=4; more=1"
    assert other.get_policy().blocked_domains() == ("blocked.example",)


def test_copy_shares_the_policy_object() -> None:
    """``copy`` gives the same policy object, as requests does for sessions' jars."""
    policy = DefaultCookiePolicy()
    assert CookieStore(policy).copy().get_policy() is policy


class Refusing(CookiePolicy):
    """Accepts and sends only cookies named ``good``."""

    netscape, rfc2965, hide_cookie2 = True, False, False

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return cookie.name == "good"

    return_ok = set_ok


def test_callers_policy_decides_what_comes_in_and_goes_out() -> None:
    """The policy given, or set later, is kept and asked both ways."""
    store = CookieStore(Refusing())
    request = prepared("http://example.com/")
    store.take(["good=1", "bad=1"], request)
    assert store.get_dict() == {"good": "1"}
    store.set("bad", "1", domain="example.com")
    assert store.header_for(request) == "good=1"
    policy = DefaultCookiePolicy(allowed_domains=[])
    store.set_policy(policy)
    assert store.get_policy() is policy
    assert store.header_for(request) is None
    sought: Any = MockRequest(request)
    store.set_cookie_if_ok(create_cookie("c", "1", domain="example.com"), sought)
    assert "c" not in store
    store.set_policy(DefaultCookiePolicy())
    store.set_cookie_if_ok(create_cookie("c", "1", domain="example.com"), sought)
    assert store.header_for(request) == "good=1; bad=1; c=1"


@pytest.mark.parametrize("form", [prepared("http://example.com/a/b"), "http://example.com/a/b"])
def test_responses_cookies_are_taken_in_each_form(form: Any) -> None:
    """urllib3's raw response and bare ``Set-Cookie`` values give the same cookies, as the RFC has them."""
    lines = ["sid=1; Path=/; HttpOnly", "foreign=1; Domain=other.org", "b=2; Max-Age=60", "old=1; Max-Age=0", "bare"]
    with posed_time():
        by_requests, by_raw, by_lines = CookieStore(), CookieStore(), CookieStore()
        requests.cookies.extract_cookies_to_jar(by_requests, prepared("http://example.com/a/b"), raw(lines))
        by_raw.take_from(raw(lines), form)
        by_lines.take(lines, form)
        assert contents(by_raw) == contents(by_lines) == contents(by_requests)
        assert [(c.domain, c.path, c.name, c.value) for c in by_raw] == [
            ("example.com", "/", "sid", "1"),
            ("example.com", "/a", "b", "2"),
            ("example.com", "/a", "", "bare"),
        ]
        assert by_raw.get("b", path="/a") == "2"
        assert by_raw.header_for(form) == plain_header(by_raw, prepared("http://example.com/a/b"))
        assert by_raw.header_for(form) == "b=2; bare; sid=1"


def test_response_without_cookies_leaves_the_store_alone() -> None:
    """A response without ``Set-Cookie``, or without http.client's message, changes nothing."""
    store = CookieStore()
    store._cookies_lock = None  # type: ignore[assignment]  # no lock is taken either
    store.take_from(raw([]), "http://example.com/")
    store.take_from(object(), "http://example.com/")
    store.take([], "http://example.com/")
    assert store.is_empty


def test_header_is_none_for_a_request_that_has_one() -> None:
    """The caller's own ``Cookie`` header stays, as in requests."""
    store = filled(CookieStore())
    assert store.header_for(prepared("http://example.com/", {"cookie": "mine=1"})) is None


def test_cookies_shown_in_no_repr() -> None:
    """No ``repr`` or ``str`` of a store or a view shows a cookie's name or value: both end up in logs."""
    store = CookieStore()
    store.set("login", "s3cret", domain="example.com")
    assert repr(store) == str(store) == "<CookieStore: 1 cookies of 1 domains>"


def test_changed_expiry_of_a_stored_cookie_is_heeded() -> None:
    """A cookie whose expiry its owner moved on, in the stored object, isn't dropped at the old time."""
    with posed_time() as clock:
        store = CookieStore()
        cookie = store.set("a", "1", domain="example.com", expires=int(NOW_S) + 5)
        other = store.set("b", "1", domain="example.com", expires=int(NOW_S) + 5)
        assert cookie is not None and other is not None
        cookie.expires, other.expires = int(NOW_S) + 50, None
        clock.now_s += 10
        assert store.header_for("http://example.com/") == "a=1; b=1"
        assert len(store) == 2
        clock.now_s += 50
        assert store.header_for("http://example.com/") == "b=1"
        assert len(store) == 1


def test_emptied_domains_do_not_pile_up() -> None:
    """Domains whose cookies all expired leave no trace behind once they are many."""
    with posed_time() as clock:
        store = CookieStore()
        for n in range(3 * MAX_HOLLOW):
            clock.now_s += 1
            store.set("a", "1", domain=f"host{n}.example", expires=int(clock.now_s) + 2)
            store.header_for("http://elsewhere.example/")
        assert len(store) <= 3
        assert len(store._index.domains) <= MAX_HOLLOW + 3
        assert len(store._index._marks) == len(store._index._of_domain) == len(store)
        assert len(store._index._heap) <= 64


def test_replaced_cookies_do_not_pile_up() -> None:
    """A cookie that is refreshed by each response is remembered once, not once for each refresh."""
    store = CookieStore()
    for n in range(10_000):
        store.set("a", str(n), domain="example.com", expires=4_000_000_000 + n)
    assert len(store) == 1
    assert len(store._index._heap) <= 64
