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
from tests.cookies.test_law import NAMES, cookies, histories, perform

URLS = ("http://www.example.com/a/b", "http://example.com/", "https://www.example.com/a", "http://localhost/")
#: Where the caller's cookies without a domain go along, too.
HOME = (
    "http://www.example.com/a/b",
    "http://www.example.com/",
    "https://www.example.com/a",
    "http://www.example.com/ab",
)
attributes = st.lists(
    st.sampled_from(
        [
            *("Path=/", "Path=/a", "Domain=example.com", "Domain=.www.example.com", "Domain=other.org", "Domain=com"),
            *("Max-Age=0", "Max-Age=7", "Max-Age=junk", "Secure", "HttpOnly", "Version=1", "Port", "Domain"),
            *("expires=Thu, 01-Jan-1970 00:00:01 GMT", "expires=Wed, 01-Jan-2098 00:00:01 GMT"),
        ]
    ),
    max_size=3,
)
set_cookie = st.builds(
    lambda name, value, rest: "; ".join([f"{name}={value}", *rest]),
    st.sampled_from(NAMES),
    st.integers(0, 3),
    attributes,
)
lines = st.lists(set_cookie, max_size=3)
steps = st.one_of(
    st.tuples(st.just("redirect"), st.integers(0, 3), lines),
    st.tuples(st.just("digest"), lines),
    st.tuples(st.just("copy")),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("tick"), st.sampled_from([1, 6, 200])),
)
# A Secure one is left alone by what the view extracts, and not by what the store does, which the view then shows.
own_cookies = cookies.filter(lambda cookie: cookie["domain"] and not cookie["secure"])
own_dicts = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["own1", "own2"]), max_size=3)


class Flow:
    """A request's way through requests: its jar beside the session's, as sessions.py and auth.py use the two."""

    def __init__(self, session: CookieStore, own: Any, is_view: bool) -> None:
        self.session = session
        if is_view:
            self.jar: Any = RequestCookies(session, own)
        else:
            given_jar = own if isinstance(own, PlainJar) else cookiejar_from_dict(own, PlainJar())
            self.jar = merge_cookies(merge_cookies(CookieStore(), session), given_jar)
        self.urls = HOME if isinstance(own, dict) else URLS
        self.url = URLS[0]

    def step(self, what: str, *arguments: Any) -> Any:
        """Do one step and return the Cookie header of the request that follows it."""
        if what == "redirect":  # Session.send, then Session.resolve_redirects
            url, got = arguments
            extract(self.session, got, prepared(self.url))
            self.jar = self.jar.copy()
            extract(self.jar, got, prepared(self.url))
            merge_cookies(self.jar, self.session)
            self.url = self.urls[url]
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


@given(
    histories,
    st.one_of(own_dicts, st.lists(own_cookies, max_size=4)),
    st.lists(steps, min_size=1, max_size=6),
)
def test_view_is_the_merged_copy_of_requests(
    history: list[tuple[Any, ...]], own: Any, way: list[tuple[Any, ...]]
) -> None:
    """Through preparation, redirects and digest retries, headers and contents are those of a merged copy by the RFC."""
    with posed_time() as clock:
        theirs, store = CookieStore(), CookieStore()
        for operation in history:
            for session in (theirs, store):
                if operation[0] != "tick":
                    perform(session, operation)
        given_own = own
        if isinstance(own, list):
            given_own = PlainJar()
            for cookie in own:
                perform(given_own, ("set", cookie))
        merged, ours = Flow(theirs, given_own, False), Flow(store, given_own, True)
        for what, *arguments in [("copy",), *way]:
            if what == "tick":
                clock.now_s += arguments[0]
                continue
            header, expected = ours.step(what, *arguments), merged.step(what, *arguments)
            assert sorted((header or "").split("; ")) == sorted((expected or "").split("; "))
            keys = [keyed(cookie) for cookie in contents(ours.jar)]
            assert len(keys) == len(set(keys)) == len(ours.jar)
            assert by_key(contents(ours.jar)) == by_key(contents(merged.jar))
            theirs.clear_expired_cookies()  # a header of the view drops them from the store at once
            store.clear_expired_cookies()
            assert contents(store) == contents(theirs)


def keyed(cookie: dict[str, Any]) -> tuple[str, str, str]:
    """Return what names a cookie."""
    return cookie["domain"], cookie["path"], cookie["name"]


def by_key(cookies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return cookies in an order of their own."""
    return sorted(cookies, key=keyed)


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
    assert view.header_for(URL) == "sid=shared; own=1; put=3; item=4; got=2"
    assert store.header_for(URL) == "sid=shared; lang=en"
    assert RequestCookies(store).header_for(URL) == "sid=shared; lang=en"


def test_own_cookie_wins_until_the_session_updates_the_view(store: CookieStore) -> None:
    """An own cookie goes out in place of the store's of the same key; after a redirect's merge the store's does."""
    own = PlainJar()
    own.set("sid", "mine", domain="example.com")
    view = RequestCookies(store, own)
    assert view.header_for(URL) == "lang=en; sid=mine"
    assert view.get_dict() == {"sid": "mine", "lang": "en"}
    view.update(store)
    assert view.header_for(URL) == "sid=shared; lang=en"
    own.set("sid", "changed", domain="example.com")
    assert view.get("sid") == "shared"


def test_own_cookies_come_last_of_their_length_of_path() -> None:
    """The store's cookies come first, whenever they came; but a longer path comes before each shorter one."""
    store = CookieStore()
    store.set("old", "1", domain=".example.com")
    view = RequestCookies(store, {"own": "2"})
    view.set("deep", "4", path="/a")
    store.take(["new=3; Path=/"], URL)
    view.update(store)
    assert view.header_for(URL) == "deep=4; old=1; new=3; own=2"


@pytest.mark.parametrize(
    ("first", "then", "goes"),
    [
        ("http://www.example.com/", "http://www.example.com:81/x", True),
        ("http://www.example.com/", "https://www.example.com/", True),
        ("https://www.example.com/", "http://www.example.com/", False),
        ("http://www.example.com/", "http://example.com/", False),
        ("http://www.example.com/", "http://evil.example/", False),
    ],
)
def test_own_cookies_without_a_domain_stay_at_home(store: CookieStore, first: str, then: str, goes: bool) -> None:
    """What is given with a request goes to its host, and along no redirect to another one or down to http."""
    view = RequestCookies(store, {"own": "1"})
    assert "own=1" in str(view.header_for(first))
    again = view.copy()
    again.update(store)
    assert ("own=1" in str(again.header_for(then))) == goes
    assert "own=1" in str(again.copy().header_for(first))


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
    header, expected = view.header_for(URL), plain_header(plain, prepared(URL))
    assert sorted((header or "").split("; ")) == sorted((expected or "").split("; "))
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
