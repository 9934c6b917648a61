"""Several proxies, over each transport: one exit for each host, and another one as long as that fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
import requests

from crawlpool import DeadlineExceeded, HostLimits, HostUnreachable, Result
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.politeness import exits
from crawlpool.testing import Answer, Request, SiteServer
from tests.farm import HOSTS, QUICK, SECRET, Farm, exits_of, gone, home_of, host_of_exit, new_pool
from tests.gates import PATIENCE_S

pytestmark = pytest.mark.transports()

FREE = HostLimits(delay_s=0.0, concurrency=4)
PATHS = ("/a", "/b", "/c")


@pytest.fixture
def farm() -> Iterator[Farm]:
    with Farm(3) as farm:
        yield farm


def test_each_host_goes_by_one_exit(farm: Farm) -> None:
    """Robots.txt, pages, a map and a verb: the same one, of those that the others go by as well; each record says."""
    with new_pool(farm.logins) as pool:
        seeds = [f"http://{host}{path}" for path in PATHS for host in HOSTS]
        results: list[Result] = []
        report = pool.crawl(seeds, limits=FREE, on_result=results.append)
        assert report.ok == len(seeds)
        list(pool.map(f"http://{host}/map" for host in HOSTS))
        for host in HOSTS[:10]:
            assert pool.get(f"http://{host}/verb").ok
        asked = farm.by_host()
        assert asked == {host: {home_of(pool, host).name} for host in HOSTS}
        assert {url for urls in asked.values() for url in urls} == set(farm.urls)
        assert all(r.record["proxy"].rstrip("/") == home_of(pool, r.target.url.split("/")[2]).name for r in results)
        assert pool.statistics().proxies_rested == {}


def test_when_one_stops_its_hosts_go_on_by_others_and_come_back(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    """Every URL ends ok, other hosts don't move, no host is blamed; and when it is there again, so are its hosts."""
    caplog.set_level(logging.DEBUG, "crawlpool")
    settled = threading.Semaphore(0)
    moved: list[dict[str, set[str]]] = []

    def wait_for_all() -> None:
        for _ in HOSTS:
            assert settled.acquire(timeout=PATIENCE_S)
        moved.append(farm.by_host())

    with new_pool(farm.logins) as pool:
        bad = home_of(pool, HOSTS[0])

        def seeds() -> Iterator[str]:
            yield from (f"http://{host}/before" for host in HOSTS)
            wait_for_all()
            farm.stop(bad.name)
            yield from (f"http://{host}/while" for host in HOSTS)
            wait_for_all()
            assert bad.is_resting
            farm.start(bad.name)
            bad.until = 0.0  # the minute is over
            yield f"http://{HOSTS[0]}/try"  # one tries it, the others go on as they did
            assert settled.acquire(timeout=PATIENCE_S)
            assert farm.by_host() == {HOSTS[0]: {bad.name}}
            yield from (f"http://{host}/after" for host in HOSTS)
            wait_for_all()

        report = pool.crawl(seeds(), limits=FREE, on_result=lambda _: settled.release())
        assert report.ok == report.inputs == 3 * len(HOSTS) + 1
        before, meanwhile, after = moved
        assert before == after == {host: {home_of(pool, host).name} for host in HOSTS}
        for host in HOSTS:
            assert bad.name not in meanwhile[host]
            assert (meanwhile[host] == before[host]) == (home_of(pool, host) is not bad)
        assert all(host.trouble is None for host in pool._workforce.frontier._schedule.hosts)
        assert pool.statistics().proxies_rested == {bad.name: 1}
    told = [r.getMessage() for r in caplog.records if "proxy rests" in r.getMessage() or "proxy back" in r.getMessage()]
    assert [one.split(":")[0] for one in told] == ["proxy rests", "proxy back"]
    assert [vars(r).get("proxy") for r in caplog.records if "proxy rests" in r.getMessage()] == [bad.name]
    assert SECRET not in caplog.text


def test_when_none_is_there_all_ends_soon(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After the ordinary attempts, and so many waits for one of them; nothing tells a login."""
    caplog.set_level(logging.DEBUG, "crawlpool")
    monkeypatch.setattr(exits, "REST_S", 0.0)
    urls = [f"http://{host}/" for host in HOSTS]
    with new_pool([gone(), gone(), gone()]) as pool:
        results = list(pool.map(urls))
        assert {result.error_kind for result in results} == {ErrorKind.PROXY}
        assert len(results) == len(urls)
        assert all(result.attempts <= QUICK.attempts + 3 * (exits.TRIES + 1) for result in results)
        with pytest.raises((requests.exceptions.ProxyError, HostUnreachable)) as caught:
            pool.get(urls[0])
        assert kind_of(caught.value) is ErrorKind.PROXY
        assert SECRET not in caplog.text + str(caught.value) + "".join(str(result.record) for result in results)
        assert len(pool.statistics().proxies_rested) == 3


def test_given_up_proxies_are_not_waited_for(farm: Farm) -> None:
    """What comes then ends at once, unsent, and says why; one that may be tried is tried, and serves again."""
    url = f"http://{HOSTS[0]}/"
    with Farm(1) as own, new_pool(farm.urls) as pool:
        for exit_ in exits_of(pool).all:
            exit_.is_resting, exit_.tries, exit_.until = True, exits.TRIES, float("inf")
        results = list(pool.map([url, url]))
        assert [(r.reason, r.error_kind, r.attempts) for r in results] == [
            ("proxies_unreachable", ErrorKind.PROXY, 0)
        ] * 2
        with pytest.raises(HostUnreachable, match="no proxy"):
            pool.get(url, retry=False)
        assert [r.is_ok for r in pool.map([url], proxies={"http": own.urls[0]})] == [True], "it has its own"
        home_of(pool, HOSTS[0]).until = 0.0
        assert [result.is_ok for result in pool.map([url])] == [True]
        assert [result.is_ok for result in pool.map([url] * 3)] == [True] * 3


def test_while_all_rest_a_verb_waits_no_longer_than_it_may(farm: Farm) -> None:
    """It raises as soon as it is known that no proxy may be tried before its deadline; and goes when one may."""
    with new_pool(farm.urls) as pool:
        for exit_ in exits_of(pool).all:
            exit_.is_resting, exit_.until = True, float(2**40)
        with pytest.raises(DeadlineExceeded, match="proxies, which rest"):
            pool.get(f"http://{HOSTS[0]}/", retry=False)
        home_of(pool, HOSTS[0]).until = 0.0
        assert pool.get(f"http://{HOSTS[0]}/").ok
        assert not home_of(pool, HOSTS[0]).is_resting


def test_a_verb_goes_by_another_at_once(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    """Not counted as a retry, a POST as well: nothing of it was sent."""
    with new_pool(farm.urls, retry=False) as pool:
        bad = home_of(pool, HOSTS[0])
        farm.stop(bad.name)
        assert pool.post(f"http://{HOSTS[0]}/", data=b"body").ok
        assert pool.submit("GET", f"http://{HOSTS[0]}/").result(PATIENCE_S).ok
        assert bad.failures == 2
        assert pool.get(f"http://{HOSTS[0]}/").ok
        assert [vars(r).get("proxy") for r in caplog.records if "proxy rests" in r.getMessage()] == [bad.name]
        assert pool.statistics().retries == 0
        answered = farm.by_host()[HOSTS[0]]
        assert answered and bad.name not in answered


def test_a_redirect_goes_by_the_exit_of_its_own_host() -> None:
    """From a worker and from a verb; the login of the one proxy isn't shown to the other."""
    with Farm(2) as farm, new_pool(farm.logins) as pool:
        first, second = (host_of_exit(pool, url) for url in farm.urls)
        farm._answer = Answer(302, {"Location": f"http://{second}/there"})

        def answer(request: Request) -> Answer:
            seen.append((request.target, request.headers["proxy-authorization"]))
            return Answer(200)

        seen: list[tuple[str, str]] = []
        there = farm.servers[1]
        there._answerer = answer
        assert pool.get(f"http://{first}/").ok
        (result,) = pool.map([f"http://{first}/"])
        assert result.is_ok and len(result.redirects) == 1
        login = requests.auth._basic_auth_str("u1", SECRET)
        assert seen == [(f"http://{second}/there", login)] * 2


def test_a_redirect_begins_anew(farm: Farm) -> None:
    """An exit that failed the request before it serves the next host; a header for a proxy isn't taken along."""
    with new_pool(farm.urls) as pool:
        home = home_of(pool, HOSTS[0])
        twin = next(host for host in HOSTS[1:] if home_of(pool, host) is home)

        def answer(request: Request) -> Answer:
            if request.target.endswith("/there"):
                headers.append(request.headers.get("proxy-authorization"))
                return Answer(200)
            return Answer(302, {"Location": f"http://{twin}/there"})

        headers: list[str | None] = []
        for url, server in zip(farm.urls, farm.servers, strict=True):
            server._answerer = (
                answer if url != home.name else lambda r: answer(r) if "/there" in r.target else Answer(407)
            )
        (result,) = pool.map([f"http://{HOSTS[0]}/"], headers={"Proxy-Authorization": "mine"})
        assert (result.is_ok, result.attempts) == (True, 3)
        assert result.record["proxy"].rstrip("/") == home.name
        assert pool.get(f"http://{HOSTS[0]}/", headers={"Proxy-Authorization": "mine"}).ok
        assert headers == [None, None]


def test_what_a_user_names_counts_over_the_exits(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call's proxies, a run's, a session's, the pool's; for the schemes that they name. The environment's don't."""
    with SiteServer({"/": b"direct"}) as server, Farm(1) as own:
        monkeypatch.setenv("http_proxy", own.urls[0])
        url, (mine,) = f"http://{HOSTS[0]}/", own.urls
        with new_pool(farm.urls, trust_env=True) as pool:
            home = home_of(pool, HOSTS[0]).name
            assert pool.get(url).ok
            assert farm.by_host() == {HOSTS[0]: {home}}
            assert pool.get(url, proxies={"http": mine}).ok
            assert [r.is_ok for r in pool.map([url], proxies={"http": mine})] == [True]
            assert pool.get(server.url(), proxies={"http": None}).text == "direct"
            assert (own.by_host(), farm.by_host()) == ({HOSTS[0]: {mine}}, {})
            assert pool.get(url, proxies={"https": mine}).ok
            assert (own.by_host(), farm.by_host()) == ({}, {HOSTS[0]: {home}})
            pool.session.proxies["all"] = mine
            assert pool.get(url).ok
            del pool.session.proxies["all"]
            pool.proxies = {"http": mine}
            assert pool.get(url).ok
            assert [r.is_ok for r in pool.map([url])] == [True]
            assert (own.by_host(), farm.by_host()) == ({HOSTS[0]: {mine}}, {})
            assert all(one.failures == 0 and not one.is_tried for one in exits_of(pool).all)


def test_what_is_sent_on_a_workers_behalf_goes_by_the_exit_too(farm: Farm) -> None:
    """An auth that asks for a token, say: it waits for no turn, and must not go without a proxy."""
    with new_pool(farm.urls) as pool:
        pool.session.is_working = True
        assert pool.session.get(f"http://{HOSTS[0]}/").ok
        assert farm.by_host() == {HOSTS[0]: {home_of(pool, HOSTS[0]).name}}
        there = next(host for host in HOSTS if home_of(pool, host) is not home_of(pool, HOSTS[0]))
        place = farm.urls.index(home_of(pool, HOSTS[0]).name)
        farm.servers[place]._answerer = lambda _: Answer(302, {"Location": f"http://{there}/"})
        assert pool.session.get(f"http://{HOSTS[0]}/").ok
        assert farm.by_host() == {there: {home_of(pool, there).name}}


def test_one_of_a_list_is_the_proxy_of_all(farm: Farm) -> None:
    """As with a mapping of both schemes; nothing is shared out."""
    with new_pool(farm.urls[:1]) as pool:
        assert pool._shared.exits is None
        assert dict(pool.proxies) == {"http": farm.urls[0], "https": farm.urls[0]}
        assert pool.get(f"http://{HOSTS[0]}/").ok
