"""Cookies over the wire: both transports, blocking, in a map and in a crawl, over redirects between hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crawlpool import HostLimits, SessionPool, Target
from crawlpool.testing import Answer, SiteServer

pytestmark = pytest.mark.transports()

EVIL, VICTIM, SHOP, WWW = "evil.co.uk", "victim.co.uk", "shop.example", "www.shop.example"


def site(request: Any) -> Answer:
    """Answer for each of the hosts: one that sets what it must not, and a shop that logs in and redirects."""
    host, _, port = request.headers["host"].partition(":")
    if request.target == "/robots.txt":
        return Answer(404)
    lines: list[str] = []
    to: str | None = None
    if host == EVIL:
        lines = ["super=1; Domain=co.uk", "wide=1; Domain=.uk", f"theirs=1; Domain={VICTIM}", "mine=1", "s=1; Secure"]
        to = f"http://{VICTIM}:{port}/"
    elif request.target == "/login":
        lines = [f"sid=4711; Domain={SHOP}; Path=/; HttpOnly", "step=1", "deep=1; Path=/members", "\x80=\xff; Path=/"]
        to = f"http://{WWW}:{port}/members/1"
    return Answer(302 if to else 200, [*(("Set-Cookie", line) for line in lines), *([("Location", to)] if to else [])])


def by_get(pool: SessionPool, urls: list[str]) -> None:
    """Fetch one after the other, in this thread."""
    for url in urls:
        pool.get(url)


def by_map(pool: SessionPool, urls: list[str]) -> None:
    """Fetch one after the other, in worker threads."""
    for url in urls:
        for result in pool.map([url]):
            result.unwrap()


def by_crawl(pool: SessionPool, urls: list[str]) -> None:
    """Fetch one after the other in crawls, whose redirects are legs."""
    for url in urls:
        assert pool.crawl([Target(url)], limits=HostLimits(concurrency=None)).ok == 1


@pytest.mark.parametrize("fetch", [by_get, by_map, by_crawl])
def test_cookies_over_redirects(fetch: Callable[[SessionPool, list[str]], None]) -> None:
    """No supercookie and no foreign cookie gets anywhere; a login does, to the hosts and paths that it is for."""
    with SiteServer(site) as server:
        hosts = (EVIL, VICTIM, SHOP, WWW)
        with SessionPool(threads=2, resolve={(host, server.port): "127.0.0.1" for host in hosts}) as pool:
            pool.cookies.set("mine", "victim's own", domain=VICTIM)
            urls = [server.url("/a", EVIL), server.url("/b", EVIL), server.url("/login", SHOP), server.url("/", SHOP)]
            fetch(pool, [*urls, server.url("/", WWW)])
            assert {(c.domain, c.name) for c in pool.cookies} == {
                *(
                    (EVIL, "mine"),
                    (VICTIM, "mine"),
                    (f".{SHOP}", "sid"),
                    (SHOP, "step"),
                    (SHOP, "deep"),
                    (SHOP, "\x80"),
                ),
            }
    seen = [
        (request.headers["host"].partition(":")[0], request.target, request.headers.get("cookie"))
        for request in server.requests
        if request.target != "/robots.txt"
    ]
    assert seen == [
        (EVIL, "/a", None),
        (VICTIM, "/", "mine=victim's own"),
        (EVIL, "/b", "mine=1"),
        (VICTIM, "/", "mine=victim's own"),
        (SHOP, "/login", None),
        (WWW, "/members/1", "sid=4711"),
        (SHOP, "/", "sid=4711; step=1; \x80=\xff"),
        (WWW, "/", "sid=4711"),
    ]


@pytest.mark.parametrize("fetch", [by_get, by_crawl])
def test_cookies_of_a_call_stay_with_its_host(fetch: Callable[..., None]) -> None:
    """``cookies=`` of a call go to the host that it asks, and along no redirect to another."""
    with SiteServer(site) as server:
        with SessionPool(resolve={(host, server.port): "127.0.0.1" for host in (SHOP, WWW)}) as pool:
            if fetch is by_get:
                pool.get(server.url("/login", SHOP), cookies={"own": "1"})
            else:
                limits = HostLimits(concurrency=None)
                assert pool.crawl([server.url("/login", SHOP)], limits=limits, cookies={"own": "1"}).ok == 1
            assert "own" not in pool.cookies
    seen = {r.target: r.headers.get("cookie") for r in server.requests if r.target != "/robots.txt"}
    assert seen == {"/login": "own=1", "/members/1": "sid=4711"}


def test_only_so_many_cookies_of_a_cookie_bomb() -> None:
    """A host that sets cookies with each answer gets no more than 180 of them back."""

    def bomb(request: Any) -> Answer:
        return Answer(200, [("Set-Cookie", f"c{request.target[1:]}-{n}={'x' * 20}; Path=/") for n in range(60)])

    with SiteServer(bomb) as server, SessionPool() as pool:
        for n in range(6):
            pool.get(server.url(f"/{n}"))
        assert len(pool.cookies) == 180
        pool.get(server.url("/last"))
        assert str(server.requests[-1].headers["cookie"]).count("=") == 180
