"""The law of the store: for any history it sends and holds what a plain RequestsCookieJar sends and holds."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.cookies import create_cookie

from crawlpool.cookies import CookieStore
from tests.cookies.helpers import NOW_S, PlainJar, contents, extract, plain_header, posed_time, prepared

HOSTS = (
    "example.com",
    "www.example.com",
    "a.www.example.com",
    "EXAMPLE.com:8080",
    "example.com:8443",
    "other.org",
    "localhost",
    "intranet:81",
    "127.0.0.1",
    "[::1]:8080",
    "user:pw@example.com",
    "example.com.",
)
DOMAINS = (
    "",
    ".",
    "com",
    "example.com",
    ".example.com",
    "www.example.com",
    ".www.example.com",
    ".a.www.example.com",
    "ample.com",
    "other.org",
    "localhost",
    "localhost.local",
    ".local",
    "intranet.local",
    "127.0.0.1",
    ".0.0.1",
    "[::1].local",
    "example.com.",
)
PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "")
NAMES = ("sid", "a", "b")

POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"strict_ns_domain": DefaultCookiePolicy.DomainStrict},
    {"strict_ns_domain": DefaultCookiePolicy.DomainRFC2965Match},
    {"blocked_domains": ["other.org", ".example.com"]},
    {"allowed_domains": ["www.example.com", ""]},
    {"allowed_domains": []},
    {"rfc2965": True},
    {"rfc2965": True, "hide_cookie2": True, "netscape": False},
    {"strict_ns_unverifiable": True, "rfc2965": True, "strict_rfc2965_unverifiable": False},
    {"secure_protocols": ("http",)},
)

# Every kind of request: what the store sends to each is compared after each history.
EVERYWHERE = tuple(
    f"{scheme}://{host}{path}" for scheme in ("http", "https") for host in HOSTS for path in ("/", "/a/b", "/ab")
)

urls = st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), st.sampled_from(HOSTS), st.sampled_from(PATHS))
requested = st.tuples(urls, st.sampled_from([{}, {}, {}, {"Host": "www.example.com"}, {"Cookie": "mine=1"}]))
expiries = st.sampled_from([*[None] * 6, int(NOW_S) - 5, int(NOW_S), int(NOW_S) + 5, int(NOW_S) + 100])
cookies = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "value": st.sampled_from(["1", "2", "", '"quo\\"ted"', "x y", None]),
        "domain": st.sampled_from([*DOMAINS, *DOMAINS[3:7] * 4]),
        "path": st.sampled_from([*PATHS, *PATHS[:1] * 6]),
        "secure": st.sampled_from([False, False, False, True]),
        "expires": expiries,
        "version": st.sampled_from([*[0] * 7, 1]),
        "port": st.sampled_from([*[None] * 6, "80", "8080,81"]),
    }
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
maybe_domain, maybe_path = st.sampled_from([None, *DOMAINS]), st.sampled_from([None, *PATHS])
operations = st.one_of(
    st.tuples(st.just("set"), cookies),
    st.tuples(st.just("header"), requested),
    st.tuples(st.just("extract"), requested, st.lists(set_cookie, max_size=3)),
    st.tuples(st.just("clear"), maybe_domain, maybe_path, st.sampled_from([None, *NAMES])),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), maybe_domain, maybe_path),
    st.tuples(st.just("clear_session_cookies")),
    st.tuples(st.just("clear_expired_cookies")),
    st.tuples(st.just("update"), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["u", None]))),
    st.tuples(st.just("tick"), st.sampled_from([1, 6, 200])),
)
# A jar with something in it first: most of what can follow takes cookies away.
histories = st.builds(
    lambda first, rest: [*first, *rest],
    st.lists(st.tuples(st.just("set"), cookies), min_size=5, max_size=8),
    st.lists(operations, max_size=20),
)


def perform(jar: PlainJar, operation: tuple[Any, ...]) -> Any:
    """Do one operation on a jar; return what it gave, or the type of what it raised."""
    name, *arguments = operation
    try:
        if name == "set":
            given = dict(arguments[0])
            value = given.pop("value") or ""
            cookie = create_cookie(given.pop("name"), value, **given)
            cookie.value = arguments[0]["value"]
            return jar.set_cookie(cookie)
        if name == "header":
            return plain_header(jar, prepared(*arguments[0]))
        if name == "extract":
            return extract(jar, arguments[1], prepared(*arguments[0]))
        if name == "remove":
            return jar.set(arguments[0], None, domain=arguments[1], path=arguments[2])
        return getattr(jar, name)(*arguments)
    except (KeyError, ValueError) as error:
        return type(error)


@given(st.sampled_from([{}, *POLICIES]), histories)
def test_store_is_a_plain_jar_to_its_caller(settings: dict[str, Any], history: list[tuple[Any, ...]]) -> None:
    """After any history the headers, the outcomes and the contents in their order are those of a plain jar."""
    with posed_time() as clock:
        plain = PlainJar(DefaultCookiePolicy(**settings))
        store = CookieStore(DefaultCookiePolicy(**settings))
        for operation in history:
            if operation[0] == "tick":
                clock.now_s += operation[1]
                continue
            assert perform(store, operation) == perform(plain, operation)
            assert contents(store) == contents(plain)
            assert len(store) == len(plain)
        for request in map(prepared, EVERYWHERE):
            assert store.header_for(request) == plain_header(plain, request)
        assert contents(store) == contents(plain)


class Asking(DefaultCookiePolicy):
    """A policy that isn't known to the store: it matches domains as it likes."""

    def domain_return_ok(self, domain: str, request: Any) -> bool:
        return domain == "com" or super().domain_return_ok(domain, request)

    def return_ok(self, cookie: Any, request: Any) -> bool:
        return cookie.name != "b"


@given(histories, requested)
def test_unknown_policy_is_asked_about_each_domain(
    history: list[tuple[Any, ...]], asked: tuple[str, dict[str, str]]
) -> None:
    """The law holds for a policy whose domain matching is its own, which no index can know."""
    with posed_time() as clock:
        plain, store = PlainJar(Asking()), CookieStore(Asking())
        for operation in [*history, ("header", asked)]:
            if operation[0] == "tick":
                clock.now_s += operation[1]
                continue
            assert perform(store, operation) == perform(plain, operation)
            assert contents(store) == contents(plain)


def test_replaced_method_of_a_policy_object_is_asked() -> None:
    """A method that was put on the policy object itself decides, as it would in a plain jar."""
    store = CookieStore()
    store.set("a", "1", domain="example.com")
    assert store.header_for("http://example.com/") == "a=1"
    store.get_policy().return_ok = lambda cookie, request: False  # type: ignore[method-assign]
    assert store.header_for("http://example.com/") is None
    del store.get_policy().return_ok
    store.get_policy().domain_return_ok = lambda domain, request: True  # type: ignore[method-assign]
    store.set("b", "2", domain="")
    assert store.header_for("http://example.com/") == "a=1; b=2"


@pytest.mark.parametrize("url", ["http://" + "a." * 5000 + "example.com/", "http://" + "x" * 9000 + "/"])
def test_endless_host_is_matched_without_its_suffixes(url: str) -> None:
    """A host of thousands of labels gets the same cookies, without thousands of suffixes being made of it."""
    store, plain = CookieStore(), PlainJar()
    for jar in (store, plain):
        jar.set("a", "1", domain=".example.com")
        jar.set("b", "1")
    request = prepared("http://example.com/")
    request.url = url
    assert store.header_for(request) == plain_header(plain, request)
