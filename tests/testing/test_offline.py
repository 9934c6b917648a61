"""Offline mode: any host, real bytes, nothing but what is scripted, and waits that take no time."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time

import pytest
import requests
from requests.adapters import HTTPAdapter

from crawlpool import ConfigError, ErrorKind, HostLimits, RetryPolicy, Session, SessionPool, Unscripted, cli
from crawlpool.errors import kind_of
from crawlpool.testing import FAULTS, Answer, FaultServer, Offline, SiteServer, in_turn
from crawlpool.transport.stage import current_stage

pytestmark = pytest.mark.transports()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever asks DNS, or connects to what isn't loopback by Python's own sockets."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def refuse(host: object, *args: object, **kwargs: object) -> object:
        assert host == "127.0.0.1", f"asked DNS for {host}"
        return look_up(host, *args, **kwargs)  # type: ignore[arg-type]

    def checked(self: socket.socket, address: object) -> None:
        assert not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1"), address
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", checked)


def test_any_host_answers_by_what_is_scripted() -> None:
    """By scheme, host and port, and by address; the answer's URL is the one that was asked for."""
    sites = {
        "https://shop.example": {"/": b"tls", "/q?x=1": "query"},
        "http://shop.example": {"/": b"plain"},
        "http://shop.example:8080": lambda request: request.target,
        "http://192.0.2.7": {"/": b"address"},
        "http://[2001:db8::1]:81": {"/": b"six"},
        "https://other.example/page": Answer(201, {"X-A": "b"}, b"route"),
    }
    with Offline(sites) as web, SessionPool() as pool:
        for url, text in (
            ("https://shop.example/", "tls"),
            ("https://shop.example/q?x=1", "query"),
            ("http://shop.example/", "plain"),
            ("http://shop.example:8080/any?where", "http://shop.example:8080/any?where"),
            ("http://192.0.2.7/", "address"),
            ("http://[2001:db8::1]:81/", "six"),
            ("https://other.example/page", "route"),
        ):
            response = pool.get(url)
            assert (response.text, response.url) == (text, url)
            web.assert_asked(url, times=1)
        assert web.requests[0].headers["host"] == "shop.example"
        assert web.requests[3].headers["host"] == "shop.example:8080"
        assert web.requests[4].headers["host"] == "192.0.2.7"
        assert web.urls[1] == "https://shop.example/q?x=1"
    assert current_stage() is None


def test_what_is_not_scripted_fails_at_once_and_is_told() -> None:
    """With the URL, without its secrets, unsent, not tried again; by map with its kind; and the test can find it."""
    with Offline({"https://shop.example": {"/": b"x"}}) as web, SessionPool(retry=RetryPolicy(attempts=3)) as pool:
        with pytest.raises(Unscripted, match=r"GET https://shop.example/nothing: .*no answer") as caught:
            pool.get("https://shop.example/nothing")
        assert isinstance(caught.value, requests.RequestException)
        assert kind_of(caught.value) is ErrorKind.BLOCKED_ADDRESS
        with pytest.raises(Unscripted) as caught:
            pool.post("http://user:secret@else.example/")
        assert "secret" not in str(caught.value)
        (result,) = pool.map(["https://else.example/a"])
        assert (result.outcome, result.record["error"]["kind"]) == ("failed", "blocked_address")
        assert result.attempts == 1
        assert web.requests == []
        wanted = ["GET https://shop.example/nothing", "POST http://else.example/", "GET https://else.example/a"]
        assert web.unscripted == wanted
        with pytest.raises(AssertionError, match=r"not scripted:\n  GET https://shop.example/nothing\n"):
            web.assert_all_scripted()
        web.forgive()
        web.assert_all_scripted()


def test_back_off_and_retry_after_take_no_time() -> None:
    """Two minutes of Retry-After and the policy's own waits pass in a moment; the clock tells of them."""
    answers = in_turn(Answer(503, {"Retry-After": "100"}), Answer(503), b"fine")
    began = time.monotonic()
    with Offline({"https://shop.example/": answers}) as web:
        with SessionPool(deadline=500, retry=RetryPolicy(attempts=3, backoff_s=20, jitter=False)) as pool:
            assert pool.get("https://shop.example/").text == "fine"
        first, second, third = (one.start_s for one in web.asked)
        assert second - first >= 100
        assert third - second >= 20
        assert web.skipped_s > 119.9
    assert time.monotonic() - began < 20


def test_a_crawl_keeps_its_delays_without_waiting() -> None:
    """Ten pages of two hosts, 30 seconds apart, robots.txt first: polite by the clock, and over in a moment."""
    pages = {f"/{number}": f"<p>{number}" for number in range(5)}
    began = time.monotonic()
    with Offline({"http://a.example": pages, "https://b.example": pages}) as web, SessionPool(threads=4) as pool:
        seeds = [f"{origin}/{number}" for number in range(5) for origin in ("http://a.example", "https://b.example")]
        report = pool.crawl(seeds, limits=HostLimits(delay_s=30))
        assert report.ok == 10
        web.assert_polite(30)
        with pytest.raises(AssertionError, match=r"sooner than 31"):
            web.assert_polite(31)
        with pytest.raises(AssertionError, match=r"a\.example"):
            web.assert_polite(31, host="a.example")
        web.assert_asked("http://a.example/robots.txt", times=1)
        assert len(web.requests) == 12
        assert 140 < web.skipped_s < 2 * 160  # the waits of the two hosts run side by side, or one after the other
    assert time.monotonic() - began < 20


def test_a_refusing_host_is_left_alone_without_waiting() -> None:
    """Retry-After of a crawl, and the cooldown of its host, are kept by the clock."""
    site = {"/a": in_turn(Answer(429, {"Retry-After": "90"}), b"a"), "/b": b"b"}
    with Offline({"https://shop.example": site}) as web, SessionPool(threads=2) as pool:
        report = pool.crawl(["https://shop.example/a", "https://shop.example/b"], limits=HostLimits(delay_s=1))
        assert report.ok == 2
        times = [one.start_s for one in web.asked if one.url.endswith("/a")]
        assert times[1] - times[0] >= 90
        web.assert_polite(1)


def test_the_verbs_wait_for_a_hosts_turn_without_waiting() -> None:
    """Limits of a pool hold for get, too, by the clock."""
    with Offline({"https://shop.example": {"/": b"x"}}) as web, SessionPool(limits=HostLimits(delay_s=20)) as pool:
        for _ in range(3):
            pool.get("https://shop.example/")
        web.assert_polite(20)
        assert web.skipped_s >= 39


def test_redirects_cookies_and_posts_work_between_hosts() -> None:
    """As on the network: the redirect's host is asked, its cookies are its own, a body arrives."""
    sites = {
        "https://a.example": {"/": Answer(302, {"Location": "https://b.example/x", "Set-Cookie": "k=v; Secure"})},
        "https://b.example": lambda request: f"{request.headers.get('cookie')} {request.path}",
        "https://c.example": lambda request: request.body,
    }
    with Offline(sites) as web, SessionPool() as pool:
        response = pool.get("https://a.example/")
        assert (response.text, response.url) == ("None /x", "https://b.example/x")
        assert len(response.history) == 1
        assert pool.post("https://c.example/", data={"a": "b"}).text == "a=b"
        pool.get("https://a.example/", allow_redirects=False)
        assert web.requests[-1].headers["cookie"] == "k=v"


def test_faults_are_routes_as_well() -> None:
    """A body that ends early is met over the wire, retried, and told by its kind; so is a stall by the deadline."""
    sites = {"https://shop.example/": FAULTS["short_length"], "https://slow.example/": FAULTS["header_stall"]}
    with Offline(sites) as web, SessionPool(retry=RetryPolicy(attempts=3)) as pool:
        (result,) = pool.map(["https://shop.example/"])
        assert (result.outcome, result.record["error"]["kind"]) == ("failed", "truncated")
        web.assert_asked("https://shop.example/", times=3)
        began = time.monotonic()
        with pytest.raises(requests.Timeout):
            pool.get("https://slow.example/", deadline=0.3, retry=False)
        assert time.monotonic() - began < 10


def test_a_deadline_is_real_after_time_was_skipped() -> None:
    """Hours that took no time don't lengthen what a request may take."""
    sites = {
        "https://a.example/": in_turn(Answer(503, {"Retry-After": "100"}), b"a"),
        "https://b.example/": FAULTS["body_stall"],
    }
    with Offline(sites) as web, SessionPool() as pool:
        assert pool.get("https://a.example/", deadline=400).text == "a"
        assert web.skipped_s > 99.9
        began = time.monotonic()
        (result,) = pool.map(["https://b.example/"], deadline=0.3, retry=False)
        assert result.record["error"]["kind"] == "deadline"
        assert time.monotonic() - began < 10


def test_proxies_and_mounted_adapters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would connect by itself connects nowhere: of the environment, of the call, and of the user's own."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    with Offline({"https://shop.example/": b"x"}) as web, SessionPool(proxies={"all": "http://p.example:1"}) as pool:
        pool.mount("https://shop.example", HTTPAdapter)
        assert pool.get("https://shop.example/", proxies={"https": "http://q.example:1"}).text == "x"
        (result,) = pool.map(["https://shop.example/"])
        assert result.outcome == "ok"
        assert len(web.requests) == 2


def test_a_session_that_stands_alone_is_offline_too() -> None:
    """Made while the mode is on."""
    with Offline({"https://shop.example/": b"x"}), Session() as session:
        assert session.get("https://shop.example/", headers={"Host": "alias.example"}).text == "x"
        with pytest.raises(Unscripted):
            session.get("https://else.example/")


def test_streams_and_hooks_work() -> None:
    """A streamed body comes in pieces, and a response hook is called."""
    seen: list[int] = []
    with Offline({"https://shop.example/": Answer(200, {}, [b"a" * 10] * 3)}), SessionPool() as pool:
        hooks = {"response": lambda response, **_: seen.append(response.status_code)}
        with pool.get("https://shop.example/", stream=True, hooks=hooks) as response:
            assert b"".join(response.iter_content(7)) == b"a" * 30
    assert seen == [200]


def test_a_site_for_everywhere_and_robots(tmp_path: pathlib.Path) -> None:
    """``*`` answers for hosts of no site of their own; a scripted robots.txt counts, one that isn't is a 404."""
    (tmp_path / "index.html").write_bytes(b"<p>folder")
    rules = Answer(200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /no")
    sites = {
        "*": lambda request: f"any {request.path}",
        "http://strict.example": {"/robots.txt": rules, "/yes": b"y", "/no": b"n"},
        "http://folder.example": tmp_path,
    }
    with Offline(sites) as web, SessionPool() as pool:
        seeds = [
            "http://strict.example/yes",
            "http://strict.example/no",
            "http://x.example/1",
            "http://folder.example/",
        ]
        report = pool.crawl(seeds, limits=HostLimits(delay_s=0.1))
        assert (report.ok, report.disallowed) == (3, 1)
        web.assert_asked("http://strict.example/robots.txt", times=1)
        with pytest.raises(AssertionError, match="asked for 0 times, not once at least"):
            web.assert_asked("http://strict.example/no")


def test_loopback_servers_are_asked_when_told_so() -> None:
    """Only then: a FaultServer beside scripted sites."""
    with FaultServer() as faults:
        with Offline(), SessionPool() as pool, pytest.raises(Unscripted):
            pool.get(faults.url("/sliced"))
        with Offline(loopback=True) as web, SessionPool() as pool:
            assert pool.get(faults.url("/sliced")).ok
            (result,) = pool.map([faults.url("/sliced")])
            assert result.outcome == "ok"
            assert web.requests == []


def test_one_within_another_hides_it_and_a_pool_of_the_end_stays_offline() -> None:
    """The inner one's sites hold; a pool that outlives its mode connects to nothing."""
    with Offline({"http://a.example/": b"outer"}):
        with Offline({"http://a.example/": b"inner"}), SessionPool() as pool:
            assert pool.get("http://a.example/").text == "inner"
        with SessionPool() as outer:
            assert outer.get("http://a.example/").text == "outer"
    left = Offline({"http://a.example/": b"x"})
    with left:
        survivor = SessionPool()
        survivor.get("http://a.example/")
    with survivor, pytest.raises(Unscripted, match="over"):
        survivor.get("http://a.example/")
    with pytest.raises(RuntimeError, match="once"), left:
        pass


@pytest.mark.parametrize(
    ("key", "site"),
    [
        ("shop.example", {}),
        ("ftp://shop.example/", b""),
        ("https://", {}),
        ("https://u:secret@shop.example/", b""),
        ("https://shop.example", b"no page"),
    ],
)
def test_a_key_that_cannot_be_is_refused(key: str, site: object) -> None:
    """When it is scripted; the message names it, without a password."""
    with pytest.raises(ConfigError) as caught:
        Offline({key: site})  # type: ignore[dict-item]
    assert "secret" not in str(caught.value)
    assert "example" in str(caught.value) or "https:" in str(caught.value)


def test_a_route_beside_a_site_that_is_no_dict_is_refused() -> None:
    """There would be two answers for it."""
    web = Offline({"https://shop.example": lambda request: "x"})
    with pytest.raises(ConfigError, match="no dict"):
        web.add("https://shop.example/a", b"a")


def test_what_a_function_raises_is_kept() -> None:
    """The client sees a 500, the test the error."""

    def broken(request: object) -> bytes:
        raise LookupError("mine")

    with Offline({"https://shop.example/": broken}) as web, SessionPool(retry=False) as pool:
        assert pool.get("https://shop.example/").status_code == 500
        assert [str(error) for error in web.errors] == ["mine"]
        assert len(web.requests) == 1


def test_many_threads_see_one_network() -> None:
    """First requests of several origins at once: one server for each port, every answer its own."""
    with Offline({"*": lambda request: request.target}) as web, SessionPool(threads=8) as pool:
        urls = [f"http{'s' * (n % 2)}://h{n % 7}.example:{8000 + n % 3}/{n}" for n in range(60)]
        found = {result.target.url: result.unwrap().text for result in pool.map(urls)}
        assert found == {url: url for url in urls}
        assert len(web.requests) == 60
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crawlpool-site")]


def test_the_command_runs_offline(tmp_path: pathlib.Path) -> None:
    """In this process: its records are as on the network, its delays take no time."""
    records = tmp_path / "r.jsonl"
    site = {f"/{number}": f"<p>{number}" for number in range(4)}
    began = time.monotonic()
    with Offline({"https://shop.example": site}) as web:
        urls = [f"https://shop.example/{number}" for number in range(4)]
        code = cli.main(["run", *urls, "-o", str(records), "--delay", "60", "--progress", "none", "-q"])
        web.assert_polite(60)
    assert code == 0
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert sorted(line["url"] for line in lines) == urls
    assert time.monotonic() - began < 30


def test_a_job_runs_offline(tmp_path: pathlib.Path) -> None:
    """Its ledger holds the records, and the same crawl again asks for nothing."""
    urls = [f"https://shop.example/{number}" for number in range(5)]
    with Offline({"*": lambda request: request.path}) as web, SessionPool() as pool:
        for _ in range(2):
            report = pool.crawl(urls, job=str(tmp_path / "job"), limits=HostLimits(delay_s=5))
            assert report.ok == 5
        web.assert_polite(5)
        assert len(web.requests) == 6


def test_other_servers_of_a_test_are_not_touched() -> None:
    """Pools from before the mode go on as they were."""
    with SiteServer({"/": b"real"}) as server, SessionPool() as before, Offline():
        assert isinstance(before, SessionPool)
        assert before._shared.stage is None
        assert server.request_count == 0
