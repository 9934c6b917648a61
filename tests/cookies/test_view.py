"""The view that a request carries: what requests' merged copy would hold and send, without the copy."""

from __future__ import annotations

import copy
import pickle
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, merge_cookies, remove_cookie_by_name

from crawlpool.cookies import CookieStore, RequestCookies
from tests.cookies.helpers import PlainJar, contents, extract, plain_header, posed_time, prepared
from tests.cookies.test_law import NAMES, cookies, histories, perform, set_cookie

URLS = ("http://www.example.com/a/b", "http://example.com/", "https://www.example.com/a", "http://localhost/")
lines = st.lists(set_cookie, max_size=3)
steps = st.one_of(
    st.tuples(st.just("redirect"), st.sampled_from(URLS), lines),
    st.tuples(st.just("digest"), lines),
    st.tuples(st.just("copy")),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("tick"), st.sampled_from([1, 6, 200])),
)
own_dicts = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["own1", "own2"]), max_size=3)


class Flow:
    """A request's way through requests: its jar beside the session's, as sessions.py and auth.py use the two."""

    def __init__(self, session: PlainJar, own: Any, is_view: bool) -> None:
        self.session = session
        if is_view:
            assert isinstance(session, CookieStore)
            self.jar: Any = RequestCookies(session, own)
        else:
            given_jar = own if isinstance(own, PlainJar) else cookiejar_from_dict(own, PlainJar())
            self.jar = merge_cookies(merge_cookies(PlainJar(), session), given_jar)
        self.url = URLS[0]

    def step(self, what: str, *arguments: Any) -> Any:
        """Do one step and return the Cookie header of the request that follows it."""
        if what == "redirect":  # Session.send, then Session.resolve_redirects
            url, got = arguments
            extract(self.session, got, prepared(self.url))
            self.jar = self.jar.copy()
            extract(self.jar, got, prepared(self.url))
            merge_cookies(self.jar, self.session)
            self.url = url
        elif what == "digest":  # HTTPDigestAuth.handle_401 first, and Session.send takes the cookies after it
            self.jar = self.jar.copy()
            extract(self.jar, arguments[0], prepared(self.url))
            header = plain_header(self.jar, prepared(self.url))
            extract(self.session, arguments[0], prepared(self.url))
            return header
        elif what == "copy":
            self.jar = self.jar.copy()
        elif what == "remove":
            remove_cookie_by_name(self.jar, arguments[0])
        return plain_header(self.jar, prepared(self.url))


@given(histories, st.one_of(own_dicts, st.lists(cookies, max_size=4)), st.lists(steps, min_size=1, max_size=6))
def test_view_is_the_merged_copy_of_requests(
    history: list[tuple[Any, ...]], own: Any, way: list[tuple[Any, ...]]
) -> None:
    """Through preparation, redirects and digest retries each header and all contents are those of the merged copy.

    The order is the same, too, for the first request, and later unless the caller's cookies have a domain that the
    session's cookies have as well, a cookie was removed by hand and came back, or a domain lost all cookies before.
    """
    with posed_time() as clock:
        plain_session, store = PlainJar(), CookieStore()
        for operation in history:
            for session in (plain_session, store):
                if operation[0] != "tick":
                    perform(session, operation)
        given_own = own
        if isinstance(own, list):
            given_own = PlainJar()
            for cookie in own:
                perform(given_own, ("set", cookie))
        plain, ours = Flow(plain_session, given_own, False), Flow(store, given_own, True)
        is_by_hand = any(step[0] == "remove" for step in way)
        is_apart = isinstance(own, dict) and "" not in store.list_domains() and not is_by_hand
        for n, (what, *arguments) in enumerate([("copy",), *way]):
            if what == "tick":
                clock.now_s += arguments[0]
                continue
            header, expected = ours.step(what, *arguments), plain.step(what, *arguments)
            assert (sorted(header.split("; ")) if header else None) == (
                sorted(expected.split("; ")) if expected else None
            )
            if n == 0 or is_apart:
                assert header == expected
            is_apart = is_apart and len(store.list_domains()) == len(store._index.domains)
            key = [(c["domain"], c["path"], c["name"]) for c in contents(ours.jar)]
            assert len(key) == len(set(key)) == len(ours.jar)
            assert by_key(contents(ours.jar)) == by_key(contents(plain.jar))
            plain_session.clear_expired_cookies()  # a header of the view drops them from the store at once
            store.clear_expired_cookies()
            assert contents(store) == contents(plain_session)


def by_key(cookies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return cookies in an order of their own."""
    return sorted(cookies, key=lambda c: (c["domain"], c["path"], c["name"]))


URL = "http://example.com/a"


@pytest.fixture
def store() -> CookieStore:
    """Return a store with two cookies for ``URL``."""
    store = CookieStore()
    store.set("sid", "shared", domain="example.com")
    store.set("lang", "en", domain="example.com")
    return store


def test_own_cookies_never_reach_the_store(store: CookieStore) -> None:
    """What is given with a request, or extracted into its view, stays with that request."""
    view = RequestCookies(store, {"own": "1"})
    view.take(["got=2; Path=/", "lang=; Max-Age=0; Path=/"], URL)
    view.set("put", "3")
    view["item"] = "4"
    assert view.header_for(URL) == "sid=shared; got=2; own=1; put=3; item=4"
    assert store.header_for(URL) == "sid=shared; lang=en"
    assert RequestCookies(store).header_for(URL) == "sid=shared; lang=en"


def test_own_cookie_wins_until_the_session_updates_the_view(store: CookieStore) -> None:
    """An own cookie goes out in place of the store's of the same key; after a redirect's merge the store's does."""
    own = PlainJar()
    own.set("sid", "mine", domain="example.com")
    view = RequestCookies(store, own)
    assert view.header_for(URL) == "sid=mine; lang=en"
    assert view.get_dict() == {"sid": "mine", "lang": "en"}
    view.update(store)
    assert view.header_for(URL) == "sid=shared; lang=en"
    own.set("sid", "changed", domain="example.com")
    assert view.get("sid") == "shared"


def test_cookies_of_a_new_domain_come_after_the_own_ones() -> None:
    """The order is that of a merged copy: what the session had, the own cookies, then what came on the way."""
    store = CookieStore()
    store.set("old", "1", domain=".example.com")
    view = RequestCookies(store, {"own": "2"})
    store.take(["new=3; Path=/"], URL)
    view.update(store)
    assert view.header_for(URL) == "old=1; own=2; new=3"


def test_view_is_live(store: CookieStore) -> None:
    """A login or logout of another thread after preparation is in the next header of the request."""
    view = RequestCookies(store, {"own": "1"})
    store.set("login", "new", domain="example.com")
    store.clear("example.com", "/", "sid")
    assert view.header_for(URL) == "lang=en; login=new; own=1"


def test_policy_of_the_session_is_kept_and_given_cookies_go_out() -> None:
    """The store's policy judges what servers set and the store sends, not what the caller gives with a request."""
    store = CookieStore(DefaultCookiePolicy(allowed_domains=[]))
    store.set("stored", "1", domain="example.com")
    view = RequestCookies(store, {"own": "1"})
    view.take(["sid=2"], URL)
    assert view.header_for(URL) == "own=1"
    assert view.get_policy() is store.get_policy()
    view.set_policy(DefaultCookiePolicy())
    assert view.header_for(URL) == "stored=1; own=1"
    assert store.header_for(URL) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda jar: jar.clear(),
        lambda jar: jar.clear("example.com"),
        lambda jar: jar.clear("example.com", "/"),
        lambda jar: jar.clear("example.com", "/", "sid"),
        lambda jar: jar.clear("example.com", "/", "none"),
        lambda jar: jar.clear(domain=None, path="/"),
        lambda jar: jar.clear_session_cookies(),
        lambda jar: jar.clear_expired_cookies(),
        lambda jar: jar.pop("lang"),
        lambda jar: jar.__delitem__("sid"),
        lambda jar: jar.set("sid", None),
        lambda jar: jar.set("lang", "de", domain="example.com") is None,
        lambda jar: jar.update({"x": "1"}),
        lambda jar: jar.setdefault("y", "1"),
    ],
)
def test_changes_are_those_of_a_copy(store: CookieStore, change: Any) -> None:
    """Whatever is done to a view acts as on a merged copy, and the store stays as it is."""

    def outcome(jar: Any) -> Any:
        try:
            return change(jar)
        except (KeyError, ValueError) as error:
            return type(error)

    before = contents(store)
    view, plain = RequestCookies(store, {"own": "1"}), PlainJar()
    plain.update(store)
    plain.update({"own": "1"})
    assert outcome(view) == outcome(plain)
    assert contents(view) == contents(plain)
    assert len(view) == len(plain)
    assert view.is_empty == (not plain)
    assert view.header_for(URL) == plain_header(plain, prepared(URL))
    assert contents(store) == before
    merge_cookies(view, store)
    merge_cookies(plain, store)
    assert by_key(contents(view)) == by_key(contents(plain))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))])
def test_pickled_request_gets_a_plain_jar(store: CookieStore, copied: Any) -> None:
    """A view that leaves the process is the merged copy that requests would have made, without store and lock."""
    view = RequestCookies(store, {"own": "1"})
    jar = copied(view)
    assert type(jar) is RequestsCookieJar
    assert by_key(contents(jar)) == by_key(contents(view))
    jar.set("more", "1")
    assert "more" not in view


def test_copied_request_compares_equal(store: CookieStore) -> None:
    """``PreparedRequest.copy`` gives an equal jar whose changes don't reach the first."""
    request = prepared(URL)
    request._cookies = RequestCookies(store, {"own": "1"})
    other = request.copy()
    assert other._cookies == request._cookies
    assert isinstance(other._cookies, RequestCookies)
    other._cookies.set("own", "2")
    other._cookies.clear("example.com", "/", "sid")
    assert request._cookies.get_dict() == {"sid": "shared", "lang": "en", "own": "1"}


def test_repr_of_a_view_shows_no_cookie(store: CookieStore) -> None:
    """A view's ``repr`` counts its cookies and names none."""
    assert repr(RequestCookies(store, {"own": "s3cret"})) == "<RequestCookies: 3 cookies of 2 domains>"
