"""Nobody connects to what the rules forbid: every notation, by every way that leads there, over each transport."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from crawlpool import (
    AddressRules,
    BlockedAddress,
    Crawl,
    CrawlPoolError,
    HostLimits,
    Result,
    RetryPolicy,
    SessionPool,
    Target,
)
from crawlpool.testing import Answer, Request, SiteServer
from tests.kit import Proxy
from tests.notations import CANARY, FRONT, NOTATIONS, canary, numbers_only

pytestmark = pytest.mark.transports()

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}
DENY, ALLOW = AddressRules("deny"), AddressRules("allow")
#: What may come of a URL by which nobody may be reached; a connection is none of it.
KINDS = {"blocked_address", "invalid_url", "dns"}


@pytest.fixture
def bird() -> Iterator[SiteServer]:
    with canary() as server:
        yield server


@pytest.fixture
def front(bird: SiteServer) -> Iterator[SiteServer]:
    """Make a site that redirects to the canary by the notation whose number stands in the path."""

    def serve(request: Request) -> Answer:
        if not request.path.startswith("/to/"):
            return Answer(200, {}, b"front")
        host = NOTATIONS[int(request.path.removeprefix("/to/"))]
        return Answer(302, {"Location": f"http://{host}:{bird.port}/".encode().decode("latin-1")})

    with SiteServer(serve, hosts=FRONT) as server:
        yield server


@pytest.fixture(autouse=True)
def _numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers_only(monkeypatch)


def pool_of(**settings: Any) -> SessionPool:
    return SessionPool(**{"threads": 4, "trust_env": False, "timeout": 5, "retry": False, **settings})


def urls_to(server: SiteServer) -> list[str]:
    # A path for each: in the eyes of a crawl many of them are the same URL, and would be asked for once.
    return [f"http://{host}:{server.port}/{number}" for number, host in enumerate(NOTATIONS)]


def kind_of_call(pool: SessionPool, url: str) -> str:
    """Return the kind of the error that a call raises."""
    from crawlpool.errors import kind_of

    with pytest.raises((requests.RequestException, CrawlPoolError)) as caught:
        pool.get(url)
    return str(kind_of(caught.value))


def results_of(pool: SessionPool, seeds: list[str], handler: Any = None, **options: Any) -> list[Result]:
    found: list[Result] = []
    pool.crawl(seeds, handler, on_result=found.append, **{**FREE, **options})
    return found


def test_the_canary_would_sing(bird: SiteServer) -> None:
    """Without rules most notations do lead to the canary: what follows isn't quiet for want of a listener."""
    with pool_of(addresses=ALLOW) as pool:
        reached = 0
        for url in urls_to(bird):
            with contextlib.suppress(requests.RequestException):
                reached += pool.get(url).text == "canary"
    assert reached == bird.request_count >= 60


def test_no_notation_reaches_the_canary_by_a_call(bird: SiteServer) -> None:
    """Under ``deny`` the URL of a call permits nothing."""
    with pool_of(addresses=DENY) as pool:
        kinds = [kind_of_call(pool, url) for url in urls_to(bird)]
    assert set(kinds) <= KINDS and kinds.count("blocked_address") >= 60
    assert bird.connections == 0


def test_no_hidden_notation_reaches_the_canary_as_an_input(bird: SiteServer) -> None:
    """An address that isn't written in the usual way is no input that permits: whoever hides it has a reason."""
    from crawlpool.address import input_key_of_url

    urls = [url for url in urls_to(bird) if input_key_of_url(url) is None]
    with pool_of() as pool:
        kinds = [kind_of_call(pool, url) for url in urls]
        results = results_of(pool, urls)
    assert len(urls) >= 60 and set(kinds) <= KINDS
    assert {str(result.error_kind) for result in results} <= KINDS
    assert bird.connections == 0


def test_no_notation_reaches_the_canary_by_a_redirect_of_a_call(front: SiteServer, bird: SiteServer) -> None:
    """The URL of the call permits its own host, and not the one that it is sent on to."""
    with pool_of() as pool:
        kinds = [kind_of_call(pool, front.url(f"/to/{number}")) for number in range(len(NOTATIONS))]
        assert pool.get(front.url("/")).text == "front"
    assert set(kinds) <= KINDS and kinds.count("blocked_address") >= 60
    assert (bird.connections, front.request_count) == (0, len(NOTATIONS) + 1)


def test_no_notation_reaches_the_canary_by_a_redirect_of_a_crawl(front: SiteServer, bird: SiteServer) -> None:
    """A redirect hop is a leg, and held to the same rules; nothing is tried again."""
    with pool_of(retry=RetryPolicy(attempts=4, backoff_s=0.0, budget=None)) as pool:
        results = results_of(pool, [front.url(f"/to/{number}") for number in range(len(NOTATIONS))])
    assert {str(result.error_kind) for result in results} <= KINDS
    assert sum(str(result.error_kind) == "blocked_address" for result in results) >= 60
    assert {result.attempts for result in results if str(result.error_kind) == "blocked_address"} == {2}
    assert bird.connections == 0


def test_no_notation_reaches_the_canary_by_a_link(front: SiteServer, bird: SiteServer) -> None:
    """What a handler adds is no input, though it be a target of depth 0: a page may have planted it."""

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.url == front.url("/"):
            for number, url in enumerate(urls_to(bird)):
                crawl.add(url if number % 2 else Target(url), parent=result)

    with pool_of() as pool:
        results = results_of(pool, [front.url("/")], handler)
    failed = [result for result in results if result.target.url != front.url("/")]
    assert len(failed) >= 60 and {str(result.error_kind) for result in failed} <= KINDS
    assert bird.connections == 0


def test_no_notation_reaches_the_canary_by_map_and_submit(front: SiteServer, bird: SiteServer) -> None:
    """The redirects of each target are held to what its own URL permits."""
    urls = [front.url(f"/to/{number}") for number in range(len(NOTATIONS))]
    with pool_of() as pool:
        kinds = {str(result.error_kind) for result in pool.map([*urls, bird.url("/none").replace(CANARY[0], FRONT)])}
        futures = [pool.submit("GET", url) for url in urls[:10]]
        assert all(isinstance(future.exception(), (BlockedAddress, requests.RequestException)) for future in futures)
    assert kinds <= KINDS | {"connect"}
    assert bird.connections == 0


class Rebinding:
    """A name server: each name is where the front is, and from the second time on where the canary is."""

    def __init__(self, then: tuple[str, ...]) -> None:
        self.then = then
        self.asked: dict[str, int] = {}

    def addresses(self, name: str) -> tuple[str, ...]:
        self.asked[name] = self.asked.get(name, 0) + 1
        return (FRONT,) if self.asked[name] == 1 else self.then

    def install(self, pool: SessionPool, patch: pytest.MonkeyPatch) -> None:
        def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            return [
                (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
                for one in self.addresses(host)
            ]

        patch.setattr(socket, "getaddrinfo", look_up)
        resolver = pool._shared.resolver
        assert resolver is not None
        resolver._ttl_s = 0.0


@pytest.mark.parametrize("then", [CANARY[:1], CANARY[1:], CANARY, ("::ffff:127.0.0.2",), ("0.0.0.0",)])
def test_no_name_reaches_the_canary_by_rebinding(
    bird: SiteServer, then: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name resolves to is judged each time, and that is what is connected to: twelve names for each answer."""
    names = Rebinding(then)

    def serve(request: Request) -> Answer:
        return Answer(200, {"Connection": "close"}, b"front")

    with SiteServer(serve, hosts=FRONT, port=bird.port) as front:
        with pool_of(addresses=AddressRules(allow_nets=(FRONT,))) as pool:
            names.install(pool, monkeypatch)
            for number in range(12):
                url = f"http://n{number}.example:{front.port}/"
                assert pool.get(url).text == "front"
                with pytest.raises(
                    BlockedAddress, match=f"n{number}.example leads to .*, and not permitted: give --allow-net"
                ):
                    pool.get(url)
    assert bird.connections == 0 and set(names.asked.values()) == {2}


def test_only_the_addresses_that_may_be_reached_are_tried(bird: SiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with forbidden addresses and others is asked at the others, wherever they stand."""
    names = Rebinding((*CANARY, FRONT, "127.0.0.9"))
    with SiteServer({"/": b"front"}, hosts=FRONT, port=bird.port) as front:
        with pool_of(addresses=AddressRules(allow_nets=(FRONT,))) as pool:
            names.install(pool, monkeypatch)
            names.asked["mixed.example"] = 1
            assert pool.get(f"http://mixed.example:{front.port}/").text == "front"
    assert bird.connections == 0


def test_a_connection_that_one_input_permitted_serves_no_other(front: SiteServer, bird: SiteServer) -> None:
    """An idle connection to a permitted host isn't used by a redirect that nothing permits."""
    number = NOTATIONS.index("127.0.0.2") if "127.0.0.2" in NOTATIONS else NOTATIONS.index("[::1]")
    with pool_of() as pool:
        assert pool.get(f"http://{NOTATIONS[number]}:{bird.port}/").text == "canary"
        asked = bird.request_count
        for _ in range(2):
            with pytest.raises(BlockedAddress):
                pool.get(front.url(f"/to/{number}"))
        assert (bird.request_count, bird.connections) == (asked, 1)
        assert pool.get(f"http://{NOTATIONS[number]}:{bird.port}/").text == "canary"


def test_an_adapter_of_the_users_is_held_to_the_rules(front: SiteServer, bird: SiteServer) -> None:
    """Its connections are urllib3's: judged as connected to, and again where one is used again; not tried again."""
    number = NOTATIONS.index("[::1]")
    with pool_of(retry=RetryPolicy(attempts=3, backoff_s=0.0, budget=None)) as pool:
        pool.mount("http://", HTTPAdapter)
        with pytest.raises(BlockedAddress):
            pool.get(front.url(f"/to/{number}"))
        assert bird.connections == 0
        assert pool.get(bird.url("/", "::1")).text == "canary"
        with pytest.raises(BlockedAddress):
            pool.get(front.url(f"/to/{number}"))
        assert (bird.request_count, front.request_count) == (1, 2)


def test_an_input_permits_its_host_to_the_whole_crawl(front: SiteServer, bird: SiteServer) -> None:
    """Links and redirects lead to a host that a seed names, and that host alone."""
    there, elsewhere = bird.url("/there", "127.0.0.2"), bird.url("/there", "::1")

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.url == bird.url("/", "127.0.0.2"):
            crawl.add(there)
            crawl.add(elsewhere)
            crawl.add(front.url(f"/to/{NOTATIONS.index('user@127.0.0.2')}"))

    with pool_of() as pool:
        results = {
            result.target.url: result
            for result in results_of(pool, [bird.url("/", "127.0.0.2"), front.url("/")], handler)
        }
    assert results.pop(elsewhere).error_kind == "blocked_address"
    assert {result.is_ok for result in results.values()} == {True} and len(results) == 4


@pytest.mark.parametrize("name", ["localhost", "app.localhost"])
def test_localhost_permits_loopback_alone(bird: SiteServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By RFC 6761 it is the loopback interface: where DNS says something else, that is refused."""
    with pool_of() as pool:
        assert pool.get(f"http://{name}:{bird.port}/").text == "canary"
    with pool_of() as pool:
        Rebinding(("10.0.0.7",)).install(pool, monkeypatch)
        monkeypatch.setattr(Rebinding, "addresses", lambda self, name: ("10.0.0.7",))
        with pytest.raises(BlockedAddress, match=r"leads to 10\.0\.0\.7, a private address"):
            pool.get(f"http://{name}:{bird.port}/")


def test_a_user_may_name_an_address_for_a_host(bird: SiteServer) -> None:
    """``resolve`` is the user's own word for that host and port, under all rules but ``deny``."""
    url, named = f"http://www.example:{bird.port}/", {("www.example", bird.port): CANARY[0]}
    with pool_of(resolve=named) as pool:
        assert pool.get(url).text == "canary"
    with pool_of(resolve=named, addresses=DENY) as pool, pytest.raises(BlockedAddress):
        pool.get(url)
    with pool_of(resolve={("www.example", 1): CANARY[0]}) as pool, pytest.raises(requests.ConnectionError):
        pool.get(url)
    assert bird.connections == 1


def test_nets_that_are_allowed_are_reached_by_any_notation(front: SiteServer, bird: SiteServer) -> None:
    """``allow_nets`` permits addresses whatever leads there, under ``deny``, too; and no others."""
    with pool_of(addresses=AddressRules("deny", ("127.0.0.2/31",))) as pool:
        for host in ("127.0.0.2", "0x7f.2", "2130706434"):
            assert pool.get(f"http://{host}:{bird.port}/").text == "canary"
            assert pool.get(front.url(f"/to/{NOTATIONS.index('0x7f.0x2')}")).text == "canary"
        with pytest.raises(BlockedAddress):
            pool.get(bird.url("/", "::1"))


def test_through_a_proxy_the_url_is_judged(bird: SiteServer) -> None:
    """The proxy's own address is the user's; a host that is written as an address needs its permit there as well."""
    with Proxy() as proxy, SiteServer({"/in": Answer(302, {"Location": bird.url("/")}), "/": b"x"}) as site:
        way = {"http": proxy.url("")}
        with pool_of(proxies=way) as pool:
            assert pool.get(f"http://www.example:{site.port}/").text == "x"
            with pytest.raises(BlockedAddress):
                pool.get(f"http://www.example:{site.port}/in")
            for host in ("2130706433", "0x7f.1", "127.1"):
                with pytest.raises(BlockedAddress):
                    pool.get(f"http://{host}:{site.port}/")
            assert [request.path for request in site.requests] == ["/", "/in"]
            assert pool.get(f"http://127.0.0.1:{site.port}/").text == "x"
        with pool_of(proxies=way, addresses=DENY) as pool:
            assert pool.get(f"http://www.example:{site.port}/").text == "x"
            with pytest.raises(BlockedAddress):
                pool.get(f"http://127.0.0.1:{site.port}/")


def test_robots_and_limits_of_a_blocked_host(bird: SiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """robots.txt isn't fetched there either; each record tells why; the host isn't given up as unreachable."""
    names = Rebinding(CANARY)
    limits = HostLimits(concurrency=1, connect_failures=1)
    with pool_of() as pool:
        names.install(pool, monkeypatch)
        names.asked["www.example"] = 1
        seeds = [f"http://www.example:{bird.port}/{number}" for number in range(6)]
        results = results_of(pool, seeds, limits=limits, robots=True)
    assert [(str(result.error_kind), result.reason, result.attempts) for result in results] == [
        ("blocked_address", None, 1)
    ] * 6
    assert all("www.example leads to 127.0.0.2, a loopback address" in str(result.error) for result in results)
    assert bird.connections == 0


def test_a_robots_txt_that_leads_inward_is_none(bird: SiteServer, caplog: pytest.LogCaptureFixture) -> None:
    """A redirect of a robots.txt is a leg like any other; one that must not be followed is no file (RFC 9309).

    The log says so once, with the origin and the address.
    """
    site = {"/robots.txt": Answer(302, {"Location": bird.url("/")}), "/a": b"page"}
    with SiteServer(site, hosts=FRONT) as server, pool_of() as pool:
        results = results_of(pool, [server.url("/a")], limits=HostLimits(concurrency=1), robots=True)
        assert [request.path for request in server.requests] == ["/robots.txt", "/a"]
        (told,) = [record for record in caplog.records if record.getMessage() == "robots redirect blocked"]
        assert f"{told.origin}/" == server.url("/")  # type: ignore[attr-defined]
        assert told.address == "127.0.0.2"  # type: ignore[attr-defined]
    assert results[0].is_ok and bird.connections == 0


def test_a_hidden_address_is_told_how_to_be_written(bird: SiteServer) -> None:
    """However a call's URL hides it, also where preparing the URL has taken that apart."""
    with pool_of() as pool:
        for host in ("%31%32%37.0.0.2", "2130706434"):
            with pytest.raises(BlockedAddress, match=r"it as 127\.0\.0\.2 in an input line or in the URL of the call"):
                pool.get(f"http://{host}:{bird.port}/")
    assert bird.connections == 0


def test_downloads_and_streams_are_judged(front: SiteServer, bird: SiteServer, tmp_path: Any) -> None:
    """They are calls like any other, and so are sessions that stand alone."""
    from crawlpool import Session

    leads = front.url(f"/to/{NOTATIONS.index('[::1]')}")
    with pool_of() as pool:
        with pytest.raises(BlockedAddress):
            pool.download(leads, tmp_path / "file")
        with pytest.raises(BlockedAddress):
            pool.get(leads, stream=True)
    with Session() as session, pytest.raises(BlockedAddress) as caught:
        session.get(leads)
    error = caught.value
    assert error.request is not None and error.request.url == f"http://[::1]:{bird.port}/"
    assert (error.address, error.address_class) == ("::1", "loopback")
    assert not list(tmp_path.iterdir()) and bird.connections == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.2/", "gopher://127.0.0.2/", "data:text/html,x"])
def test_only_http_and_https_are_ever_requested(url: str) -> None:
    """As an input, as a redirect of a call and of a crawl: another scheme is ``invalid_url``."""
    with SiteServer({"/": Answer(302, {"Location": url})}) as server, pool_of(addresses=ALLOW) as pool:
        assert kind_of_call(pool, url) == kind_of_call(pool, server.url("/")) == "invalid_url"
        results = results_of(pool, [url, server.url("/")])
    assert [str(result.error_kind) for result in results] == ["invalid_url"] * 2
