"""What is set for one origin goes to that origin only: never to another, never along a redirect away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import InvalidHeader

from crawlpool import RetryPolicy, SessionPool
from crawlpool.errors import ConfigError
from crawlpool.sites import Site, Sites, origin_of
from crawlpool.testing import Answer, Request, SiteServer

pytestmark = pytest.mark.above_transports


def site(request: Request) -> Answer:
    """Answer with the credentials that came, or redirect to the URL in the query."""
    if request.path == "/to":
        return Answer(302, {"Location": request.query})
    seen = {name: request.headers.get(name, "-") for name in ("x-api-key", "authorization")}
    return Answer(200, {"Content-Type": "text/plain"}, f"{seen['x-api-key']} {seen['authorization']}".encode())


@pytest.fixture
def server() -> Iterator[SiteServer]:
    """Serve what came."""
    with SiteServer(site) as server:
        yield server


@pytest.fixture
def pool(server: SiteServer) -> Iterator[SessionPool]:
    """Give a pool with settings for in.example; out.example leads to the same server."""
    leads = {(host, server.port): "127.0.0.1" for host in ("in.example", "out.example")}
    with SessionPool(retry=False, trust_env=False, resolve=leads) as pool:
        pool.site(server.url("", host="in.example"), headers={"X-Api-Key": "k"}, auth=("user", "pw"))
        yield pool


BASIC = "Basic dXNlcjpwdw=="


def test_only_that_origin_gets_them(server: SiteServer, pool: SessionPool, transport: str) -> None:
    """Another name on the same address doesn't, nor does the same name on another port."""
    assert pool.get(server.url(host="in.example")).text == f"k {BASIC}"
    assert pool.get(server.url(host="IN.example")).text == f"k {BASIC}"
    assert pool.get(server.url(host="out.example")).text == "- -"
    if transport == "curl":  # its resolver's overrides are fixed
        return
    with SiteServer(site) as other:
        pool.session.get_adapter("http://").resolve = {("in.example", other.port): "127.0.0.1"}  # type: ignore[attr-defined]
        assert pool.get(other.url(host="in.example")).text == "- -"


def test_a_redirect_away_leaves_them_behind(server: SiteServer, pool: SessionPool) -> None:
    """And one back to the origin has them again."""
    there, away = server.url(host="in.example"), server.url(host="out.example")
    to = f"{there}to?"
    assert pool.get(f"{to}{away}").text == "- -"
    assert pool.get(f"{to}/").text == f"k {BASIC}"
    assert pool.get(f"{away}to?{there}").text == f"k {BASIC}"
    assert pool.get(f"{away}to?{to}{away}").text == "- -"


def test_the_calls_own_header_and_auth_win(server: SiteServer, pool: SessionPool) -> None:
    """In the first request and in each redirect within the origin."""
    there = server.url(host="in.example")
    own = {"headers": {"X-Api-Key": "mine"}, "auth": ("a", "b")}
    assert pool.get(there, **own).text == "mine Basic YTpi"  # type: ignore[arg-type]
    assert pool.get(f"{there}to?/", **own).text == "mine Basic YTpi"  # type: ignore[arg-type]
    assert pool.get(there, headers={"x-api-key": None}).text == f"- {BASIC}"


def test_the_calls_own_header_goes_where_the_call_goes(server: SiteServer, pool: SessionPool) -> None:
    """A header that isn't the site's is carried along, as in requests."""
    there, away = server.url(host="in.example"), server.url(host="out.example")
    assert pool.get(f"{there}to?{away}", headers={"X-Api-Key": "mine"}).text == "mine -"


def test_they_stand_over_the_pools_and_the_sessions(server: SiteServer, pool: SessionPool) -> None:
    """The layers, lowest first: pool, session, site, call."""
    there = server.url(host="in.example")
    pool.headers["X-Api-Key"] = "pool's"
    assert pool.get(server.url(host="out.example")).text == "pool's -"
    assert pool.get(there).text.startswith("k ")
    pool.session.headers["X-Api-Key"] = "session's"
    assert pool.get(there).text.startswith("k ")
    assert pool.get(server.url(host="out.example")).text == "session's -"


def test_setting_an_origin_again_replaces_what_it_had(server: SiteServer, pool: SessionPool) -> None:
    """Nothing of the former settings is left."""
    pool.site(server.url("", host="in.example"), headers={"X-Api-Key": "new"})
    assert pool.get(server.url(host="in.example")).text == "new -"


def test_an_origin_has_its_own_retries() -> None:
    """``retry=False`` for one origin, a policy for another; others have the pool's."""
    with SiteServer({"/": Answer(503)}) as never, SiteServer({"/": Answer(503)}) as once:
        with SessionPool(retry=RetryPolicy(attempts=3, backoff_s=0), trust_env=False) as pool:
            pool.site(never.url(""), retry=False)
            pool.site(once.url(""), retry=RetryPolicy(attempts=2, backoff_s=0))
            assert pool.get(never.url()).status_code == 503
            assert pool.get(once.url()).status_code == 503
            pool.get(once.url(), retry=False)
        assert (never.request_count, once.request_count) == (1, 3)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H.example", "https://h.example:443"),
        ("http://h.example/path?q#f", "http://h.example:80"),
        ("HTTP://user:pw@h.example:81/", "http://h.example:81"),
        ("http://[::1]:81/", "http://[::1]:81"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    """In lower case, the port always there, nothing else in it."""
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["h.example", "ftp://h.example", "//h.example", "http://", "", "http://[bad"])
def test_what_is_no_origin_is_named(url: str) -> None:
    """A typo in a setting is told when it is set."""
    with pytest.raises(ConfigError, match="origin"):
        origin_of(url)
    sites = Sites()
    sites.put(Site("http://h.example:80"))
    assert sites.of(url) is None


def test_a_header_that_http_cannot_carry_is_refused_when_it_is_set() -> None:
    """Not at the first request."""
    with pytest.raises(InvalidHeader):
        Site("http://h.example:80", {"X": "a\r\nb"})


@given(st.text())
def test_a_site_never_shows_its_secrets(secret: str) -> None:
    """Its repr is its origin."""
    assert repr(Site("http://h.example:80", {}, auth=secret)) == "<Site http://h.example:80>"
