"""robots.txt in a crawl: each row of RFC 9309's rules against real servers, over both transports."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from typing import Any

import pytest

from crawlpool import AddressRules, Crawl, HostLimits, Outcome, Result, RetryPolicy, SessionPool, Target, clearance
from crawlpool.clearance import Clearance, fetched_of
from crawlpool.errors import ErrorKind
from crawlpool.models import Hop
from crawlpool.robots import Fetched
from crawlpool.robots import gate as gates
from crawlpool.robots.gate import How
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from crawlpool.trail import LegNote

pytestmark = pytest.mark.above_transports

LIMITS = HostLimits(concurrency=4)  # given, so that they hold for loopback hosts, too, and robots.txt with them
FORBIDS = b"User-agent: *\nDisallow: /private\n"


class Site:
    """A server with a robots.txt, which writes down what it was asked, in order."""

    def __init__(self, robots: Any, **pages: Any) -> None:
        self._robots = robots
        self._lock = threading.Lock()  # guards asked
        self.asked: list[tuple[str, float]] = []

    def __call__(self, request: Request) -> Any:
        with self._lock:
            self.asked.append((request.path, time.monotonic()))
        if request.path == "/robots.txt":
            return self._robots(request) if callable(self._robots) else self._robots
        return b"page"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def crawled(site: Site, *paths: str, pool: SessionPool | None = None, **options: Any) -> dict[str, Result]:
    """Crawl a site; return the results by path."""
    results: dict[str, Result] = {}
    options.setdefault("limits", LIMITS)
    with SiteServer(site) as server:
        own = pool or SessionPool(threads=4, retry=RetryPolicy(attempts=2, backoff_s=0.001, budget=None))
        with own:
            urls = [server.url(path) for path in paths]
            own.crawl(urls, on_result=lambda result: results.update({result.target.url: result}), **options).check()
        return {path: results[server.url(path)] for path in paths}


def test_what_it_forbids_is_not_asked_for() -> None:
    """It is asked for first, once, whatever the threads; the verdict is in each record."""
    site = Site(FORBIDS)
    results = crawled(site, *(f"/{n}" for n in range(12)), "/private/1", "/private/2")
    assert site.paths[0] == "/robots.txt"
    assert site.paths.count("/robots.txt") == 1
    assert not any(path.startswith("/private") for path in site.paths)
    assert (results["/1"].outcome, results["/1"].record["robots"]) == (Outcome.OK, "allowed")
    forbidden = results["/private/1"]
    assert (forbidden.outcome, forbidden.reason, forbidden.attempts) == (Outcome.DISALLOWED, "robots", 0)
    assert forbidden.record["robots"] == "disallowed"


def test_the_pools_user_agent_is_who_asks() -> None:
    """The rules for its product token count, and those for everybody only where there are none."""
    robots = b"User-agent: *\nDisallow: /\n\nUser-agent: mybot\nDisallow: /mine\n"
    pool = SessionPool(headers={"User-Agent": "MyBot/2.0 (+https://x.example)"})
    results = crawled(Site(robots), "/any", "/mine", pool=pool)
    assert [results[path].outcome for path in ("/any", "/mine")] == [Outcome.OK, Outcome.DISALLOWED]
    assert crawled(Site(robots), "/any", headers={"User-Agent": "other"})["/any"].outcome is Outcome.DISALLOWED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_without_a_file_everything_is_allowed(status: int) -> None:
    """Any 4xx but 429 says that there is none (RFC 9309 2.3.1.3)."""
    site = Site(Answer(status, body=b"User-agent: *\nDisallow: /"))
    assert crawled(site, "/a")["/a"].is_ok


@pytest.mark.parametrize("status", [500, 503, 599, 429])
def test_a_servers_trouble_forbids_and_is_asked_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 5xx says that nothing may be fetched now; the legs wait, and go when it has passed."""
    monkeypatch.setattr(gates, "AGAIN_S", (0.05,))
    troubles = iter([True] * 5)
    site = Site(lambda request: Answer(status, {"Retry-After": "0"}) if next(troubles, False) else FORBIDS)
    results = crawled(site, "/a", "/private")
    assert (results["/a"].outcome, results["/private"].outcome) == (Outcome.OK, Outcome.DISALLOWED)
    assert site.paths.index("/a") > 5


def test_trouble_without_end_ends_its_legs(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the stated time they end as disallowed, with the reason, and nothing but robots.txt was asked for."""
    monkeypatch.setattr(gates, "AGAIN_S", (0.02,))
    monkeypatch.setattr(gates.Gate.__init__, "__defaults__", (0.1,))
    site = Site(Answer(500))
    result = crawled(site, "/a")["/a"]
    assert (result.outcome, result.reason) == (Outcome.DISALLOWED, "robots_unreachable")
    assert result.record["robots"] == "unreachable"
    assert set(site.paths) == {"/robots.txt"}


def test_a_host_that_comes_up_again_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is started after robots.txt was asked for in vain, twice, gives all pages; no retry was spent."""
    monkeypatch.setattr(gates, "LOST_AGAIN_S", (0.05, 0.05, 0.05))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = SiteServer(Site(FORBIDS), port=port)
    means, tries = clearance.fetched_of, []

    def fetched_of(result: Result, token: str) -> Fetched:
        tries.append(result)
        if len(tries) == 2:
            server.start()
        return means(result, token)

    monkeypatch.setattr(clearance, "fetched_of", fetched_of)
    results: list[Result] = []
    try:
        with SessionPool(threads=4) as pool:
            urls = [f"http://127.0.0.1:{port}/{n}" for n in range(20)]
            report = pool.crawl(urls, limits=LIMITS, on_result=results.append)
            assert pool.statistics().retries == 0
    finally:
        server.stop()
    assert (report.ok, len(tries)) == (20, 3)
    assert {result.attempts for result in results} == {1}


def test_a_host_that_is_not_there_fails_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even robots.txt can be connected for, the target has failed to connect: no exit code may hide that."""
    monkeypatch.setattr(gates, "LOST_AGAIN_S", (0.01, 0.01))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{taken.getsockname()[1]}/{n}" for n in range(20)]
        results: list[Result] = []
        with SessionPool(threads=4, retry=False) as pool:
            pool.crawl(urls, limits=LIMITS, on_result=results.append)
    assert {(result.outcome, result.error_kind) for result in results} == {(Outcome.FAILED, ErrorKind.CONNECT)}
    assert {result.reason for result in results} == {"robots_unreachable"}


def test_redirects_are_followed_to_other_hosts_too() -> None:
    """Seven hops, the last ones on another host: the rules that come count for the origin that was asked."""
    here, there = loopback_hosts(2)

    def robots(request: Request) -> Any:
        step = int(request.path.removeprefix("/step") or 0) if request.path.startswith("/step") else 0
        if step == 7:
            return FORBIDS
        host = here if step < 3 else there
        return Answer(301 + step % 2, {"Location": f"http://{host}:{server.port}/step{step + 1}"})

    def answers(request: Request) -> Any:
        return robots(request) if request.path.startswith(("/robots.txt", "/step")) else b"page"

    results: dict[str, Result] = {}
    rules = AddressRules(allow_nets=(there,))  # no seed names it
    with SiteServer(answers, hosts=(here, there)) as server, SessionPool(threads=2, addresses=rules) as pool:
        urls = [f"http://{here}:{server.port}/{path}" for path in ("private", "open")]
        pool.crawl(urls, limits=LIMITS, on_result=lambda result: results.update({result.target.url: result}))
    assert [results[url].outcome for url in urls] == [Outcome.DISALLOWED, Outcome.OK]


def test_redirects_without_end_are_no_file() -> None:
    """RFC 9309 2.3.1.2: one may assume then that there is none."""
    assert crawled(Site(Answer(302, {"Location": "/robots.txt"})), "/a")["/a"].is_ok


@pytest.mark.parametrize("body", [b"<!doctype html><title>Welcome</title>", b"\x89PNG\r\n\x1a\n" * 100, b""])
def test_what_is_no_robots_txt_forbids_nothing(body: bytes) -> None:
    """A page or a picture in its place has no rules."""
    assert crawled(Site(Answer(200, {"Content-Type": "text/html"}, body)), "/a")["/a"].is_ok


def test_a_crawl_delay_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fraction of a second, from the end of robots.txt on, though the limits allow four at once."""
    site = Site(b"User-agent: *\nCrawl-delay: 0.12\n")
    crawled(site, *(f"/{n}" for n in range(5)))
    times = [at for _, at in site.asked]
    assert len(times) == 6
    assert min(after - before for before, after in itertools.pairwise(times)) >= 0.12


def test_each_origin_has_its_own() -> None:
    """Two ports of one host are two origins, each asked for its own file."""
    first, second = Site(b"User-agent: *\nDisallow: /a"), Site(b"User-agent: *\nDisallow: /b")
    outcomes: dict[str, Outcome] = {}
    with SiteServer(first) as one, SiteServer(second) as two, SessionPool(threads=3) as pool:
        urls = [server.url(path) for server in (one, two) for path in ("/a", "/b")]
        pool.crawl(urls, limits=LIMITS, on_result=lambda result: outcomes.update({result.target.url: result.outcome}))
    assert [str(outcomes[url]) for url in urls] == ["disallowed", "ok", "ok", "disallowed"]
    assert first.paths.count("/robots.txt") == second.paths.count("/robots.txt") == 1


def test_a_redirect_leads_to_rules_of_its_own() -> None:
    """A hop to another origin waits for that origin's robots.txt, and ends where it is forbidden."""
    there = Site(FORBIDS)
    with SiteServer(there) as other:

        def answers(request: Request) -> Any:
            return Answer(404) if request.path == "/robots.txt" else Answer(302, {"Location": other.url("/private")})

        results: list[Result] = []
        with SiteServer(answers) as server, SessionPool(threads=2) as pool:
            pool.crawl([server.url("/go")], limits=LIMITS, on_result=results.append)
    assert there.paths == ["/robots.txt"]
    assert (results[0].outcome, results[0].reason, len(results[0].redirects)) == (Outcome.DISALLOWED, "robots", 1)


def test_ignoring_it_says_so() -> None:
    """Nothing asks for it then, and the records say that it was ignored."""
    site = Site(FORBIDS)
    results = crawled(site, "/private", robots=False)
    assert site.paths == ["/private"]
    assert (results["/private"].outcome, results["/private"].record["robots"]) == (Outcome.OK, "ignored")


def test_hosts_without_limits_are_not_asked() -> None:
    """On the loopback interface nothing holds unless it is given, and the record says nothing of it."""
    site = Site(FORBIDS)
    results = crawled(site, "/private", limits=None)
    assert site.paths == ["/private"]
    assert results["/private"].record["robots"] is None


def test_a_drained_crawl_waits_for_no_robots_txt() -> None:
    """A crawl that is stopped while robots.txt is under way ends at once, and nothing of it is left."""
    arrived, go_on = threading.Event(), threading.Event()

    def robots(request: Request) -> bytes:
        arrived.set()
        go_on.wait(20)
        return FORBIDS

    site = Site(robots)
    with SiteServer(site) as server, SessionPool(threads=2) as pool:
        crawl: Crawl = pool.new_crawl(limits=LIMITS)
        reports: list[Any] = []
        thread = threading.Thread(target=lambda: reports.append(crawl.run([server.url(f"/{n}") for n in range(9)])))
        thread.start()
        assert arrived.wait(20)
        crawl.stop()
        thread.join(20)
        go_on.set()
        assert reports[0].skipped == reports[0].inputs >= 1
        assert pool.crawl([server.url("/again")], limits=LIMITS).ok == 1
    assert site.paths.count("/robots.txt") == 2


def test_what_a_result_means() -> None:
    """A robots.txt that was given up tells nothing; one that broke off is a server's trouble."""
    target = Target("http://h/robots.txt")
    assert fetched_of(Result(target, Outcome.SKIPPED, "interrupted"), "x").how is How.UNASKED
    assert fetched_of(Result(target, Outcome.SKIPPED, "held"), "x").how is How.UNASKED
    led_away = Result(target, Outcome.SKIPPED, "held", redirects=(Hop(target.url, 302),))
    assert fetched_of(led_away, "x").how is How.UNREACHABLE  # else it would be asked for again and again
    assert fetched_of(Result(target, Outcome.FAILED, None, TimeoutError()), "x").how is How.UNREACHABLE


@pytest.mark.parametrize("raises", [False, True])
def test_who_keeps_the_files_has_each_before_its_legs_go(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The answer and the legs for it, redirects too; what they raise is logged, and holds nobody up."""
    seen: list[tuple[str, How, int | None, int, list[str]]] = []
    site = Site(lambda request: Answer(302, {"Location": "/robots-2.txt"}))
    with SiteServer(site) as server, SessionPool(threads=2, retry=False) as pool:
        crawl = pool.new_crawl(limits=LIMITS)
        assert crawl.group.clearance is not None

        def kept(origin: str, fetched: Fetched, response: Any, trail: tuple[LegNote, ...]) -> None:
            status = None if response is None else response.status_code
            asked = [one for one in site.paths if not one.startswith("/robots")]
            seen.append((origin, fetched.how, status, len(asked), [note.kind for note in trail]))
            if raises:
                raise SystemExit("a user's")

        learn = crawl._workforce.frontier.learn
        crawl.group.clearance = Clearance(crawl, "bot", learn, crawl._books.asked_robots, kept)
        report = crawl.run([server.url("/a"), server.url("/b")])
        origin = server.url("")
    assert report.ok == 2
    assert seen == [(origin, How.RULES, 200, 0, ["robots", "robots"])]
    assert ("a robots.txt could not be kept" in caplog.text) is raises
