"""The law of the store to its caller: it holds what a plain RequestsCookieJar holds, and a policy can only refuse."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.cookies import create_cookie

from crawlpool.cookies import CookieStore
from tests.cookies.helpers import NOW_S, PlainJar, contents, plain_header, posed_time, prepared

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
maybe_domain, maybe_path = st.sampled_from([None, *DOMAINS]), st.sampled_from([None, *PATHS])
operations = st.one_of(
    st.tuples(st.just("set"), cookies),
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
        if name == "remove":
            return jar.set(arguments[0], None, domain=arguments[1], path=arguments[2])
        return getattr(jar, name)(*arguments)
    except (KeyError, ValueError) as error:
        return type(error)


@given(histories)
def test_store_is_a_plain_jar_to_its_caller(history: list[tuple[Any, ...]]) -> None:
    """Whatever the caller does with it, outcomes and contents, in their order, are those of a plain jar."""
    with posed_time() as clock:
        plain, store = PlainJar(), CookieStore()
        for operation in history:
            if operation[0] == "tick":
                clock.now_s += operation[1]
                continue
            assert perform(store, operation) == perform(plain, operation)
            assert contents(store) == contents(plain)
            assert len(store) == len(plain)


urls = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["example.com", "www.example.com", "a.www.example.com", "other.org"]),
    st.sampled_from(PATHS),
)


@given(histories, urls)
def test_what_the_caller_set_is_sent_as_by_a_plain_jar(history: list[tuple[Any, ...]], url: str) -> None:
    """What requests made of a name and a value goes where a plain jar sends it, in whatever order."""
    with posed_time() as clock:
        plain, store = PlainJar(), CookieStore()
        for operation in history:
            if operation[0] == "tick":
                clock.now_s += operation[1]
                continue
            for jar in (plain, store):
                perform(jar, operation)
        for cookie in list(plain):  # what only the old kinds of cookies have
            if cookie.version or cookie.port or cookie.domain.endswith("."):
                for jar in (plain, store):
                    jar.clear(cookie.domain, cookie.path, cookie.name)
        header, expected = store.header_for(url), plain_header(plain, prepared(url))
        assert sorted((header or "").split("; ")) == sorted((expected or "").split("; "))


class Strict(DefaultCookiePolicy):
    """A policy of a user's own."""

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return cookie.name != "no" and super().set_ok(cookie, request)

    def return_ok(self, cookie: Any, request: Any) -> bool:
        return cookie.name != "stay" and super().return_ok(cookie, request)


LINES = [
    "a=1; Path=/",
    "no=1",
    "stay=1",
    "s=1; Secure",
    "d=1; Domain=example.com",
    "tld=1; Domain=com",
    "l=1; Domain=x",
]


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        (Strict(), {"no", "stay"}),
        (DefaultCookiePolicy(blocked_domains=["other.org"]), {"a@other.org"}),
        (DefaultCookiePolicy(allowed_domains=["www.example.com", "intranet.local"]), {"a@other.org", "d"}),
        (DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrict), set()),
        (DefaultCookiePolicy(secure_protocols=("http",)), {"s"}),
        (DefaultCookiePolicy(netscape=False), {"a", "no", "stay", "s", "d"}),
        (DefaultCookiePolicy(rfc2965=True), set()),
    ],
)
def test_policy_refuses_more_and_allows_no_more(policy: DefaultCookiePolicy, refused: set[str]) -> None:
    """Of what goes in and out without a policy, one of the user's own takes some away, and adds nothing."""
    judged, free = CookieStore(policy), CookieStore()
    for url in ("http://www.example.com/", "https://www.example.com/", "http://other.org/", "http://intranet/"):
        host = url.split("/")[2]
        for store in (judged, free):
            store.take(LINES, url)
        mine, everything = (set((store.header_for(url) or "").split("; ")) - {""} for store in (judged, free))
        names = {pair.partition("=")[0] for pair in everything - mine}
        assert mine <= everything
        assert names <= refused | {"a", "no", "stay"} if f"a@{host}" in refused else names <= refused


def test_replaced_method_of_a_policy_object_is_asked() -> None:
    """A method that was put on the policy object itself decides, and no longer when it was taken away."""
    store = CookieStore()
    store.set("a", "1", domain="example.com")
    assert store.header_for("http://example.com/") == "a=1"
    store.get_policy().return_ok = lambda cookie, request: False  # type: ignore[method-assign]
    assert store.header_for("http://example.com/") is None
    del store.get_policy().return_ok
    assert store.header_for("http://example.com/") == "a=1"


@pytest.mark.parametrize("host", ["a." * 5000 + "example.com", "x" * 9000, "[" + ":" * 500 + "]"])
def test_endless_host_is_matched_without_its_suffixes(host: str) -> None:
    """No name of DNS is that long: such a host gets its own cookies and those for all hosts."""
    store = CookieStore()
    store.set("a", "1", domain=".example.com")
    store.set("b", "1")
    store.take(["c=1; Domain=example.com", "d=1"], f"http://{host}/")
    assert store.header_for(f"http://{host}/") == "b=1; d=1"
