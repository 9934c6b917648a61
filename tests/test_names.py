"""Names looked up for the frontier: off its lock, and only where the address is ours to know."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from crawlpool.clock import Deadline
from crawlpool.errors import DeadlineExceeded, PoolClosed
from crawlpool.frontier import Frontier
from crawlpool.limits import HostLimits
from crawlpool.names import Found, Names, goes_by_proxy
from crawlpool.sessionpool import SessionPool
from crawlpool.transport.base import Exchange
from crawlpool.transport.resolver import Resolver
from tests.gates import PATIENCE_S, ListRun, Threads

LIMITS = HostLimits(concurrency=1, per_ip=True)


class Book:
    """Names and addresses; ``slow`` ones are told when they are let."""

    def __init__(self, **names: str) -> None:
        self.names = {name.replace("_", "."): address for name, address in names.items()}
        self.asked: list[tuple[str, int]] = []
        self.opened = threading.Event()

    def __call__(self, name: str, port: int) -> list[str]:
        self.asked.append((name, port))
        if name.startswith("slow"):
            assert self.opened.wait(PATIENCE_S)
        if name not in self.names:
            raise OSError("nobody knows")
        return [self.names[name]]


@pytest.fixture
def book() -> Book:
    return Book(a_example="10.0.0.1", b_example="10.0.0.1", slow_example="10.0.0.2")


@pytest.fixture
def names(book: Book) -> Iterator[Names]:
    resolver = Resolver(lookup=book)
    yield Names(resolver, lambda url, given: "proxied" in url)
    book.opened.set()
    resolver.close()


def exchange(url: str, after_s: float | None = None, **proxies: str) -> Exchange:
    """Return a request for a URL, by proxies, with a deadline."""
    return Exchange(requests.Request("GET", url).prepare(), {"proxies": proxies}, Deadline(after_s))


def test_a_leg_waits_for_its_address_and_no_other_does(book: Book, names: Names) -> None:
    """A name that takes its time holds up no worker and no other host; when it is found somebody is woken for it."""
    frontier, run = Frontier(names=names), ListRun(limits=LIMITS)
    assert frontier.put(run.leg("http://slow.example/"))
    assert frontier.put(run.leg("http://10.0.0.7/"))
    taken = frontier.take(5)
    assert taken is not None
    assert [leg.host for leg in taken] == ["10.0.0.7"]
    found: list[str] = []

    def work() -> None:
        while not found and (legs := frontier.take(5)) is not None:
            found.extend(leg.host for leg in legs)

    with Threads() as threads:
        threads.start(work)
        book.opened.set()
    assert found == ["slow.example"]


def test_a_retry_whose_host_was_forgotten_is_looked_up_by_who_takes(book: Book, names: Names) -> None:
    """Nobody else comes by when its time comes."""
    frontier, run = Frontier(names=names), ListRun(limits=LIMITS)
    leg = run.leg("http://a.example:8080/", not_before=0.0)
    leg.not_before = frontier._clock.monotonic() + 0.05
    assert frontier.put(leg)
    assert book.asked == []
    legs: list[Any] = []
    while not legs:
        legs = frontier.take(1) or []
    assert (legs, book.asked) == ([leg], [("a.example", 8080)])
    assert leg.address is not None and leg.address.name == "10.0.0.1"


def test_what_goes_through_a_proxy_is_not_looked_up(book: Book, names: Names) -> None:
    """Neither for a worker's leg nor for a caller: it is told that the address isn't ours to know."""
    told: list[tuple[str, Found]] = []
    names.seek(ListRun().leg("http://proxied.example/"), lambda *found: told.append(found))
    names.seek(ListRun().leg("ftp://a.example/"), lambda *found: told.append(found))
    assert told == [("proxied.example", None), ("a.example", None)]
    assert names.find(exchange("http://a.example/", http="http://127.0.0.1:1")) is None
    assert book.asked == []


def test_callers_wait_for_the_answer_until_their_deadline(book: Book, names: Names) -> None:
    """A name that can't be resolved has no address; what takes too long is a ``DeadlineExceeded``."""
    assert names.find(exchange("http://a.example/")) == ("10.0.0.1",)
    assert names.find(exchange("http://nobody.example:81/", 30.0)) == ()
    assert book.asked == [("a.example", 80), ("nobody.example", 81)]
    with pytest.raises(DeadlineExceeded, match="address"):
        names.find(exchange("http://slow.example/", 0.01))


def test_a_closed_pool_has_no_addresses(names: Names) -> None:
    """Who waits for one is told so."""
    names._resolver.close()
    with pytest.raises(PoolClosed):
        names.find(exchange("http://a.example/"))


@pytest.mark.parametrize("url", ["http://a.example:99999/", "http://nobody.example/", "http://x..example/"])
def test_what_cannot_be_looked_up_is_told_as_nowhere(names: Names, url: str) -> None:
    """The leg goes ahead, and fails as it would have."""
    told: list[Found] = []
    came = threading.Event()

    def tell(host: str, found: Found) -> None:
        told.append(found)
        came.set()

    names.seek(ListRun().leg(url), tell)
    assert came.wait(PATIENCE_S)
    assert told in ([()], [("10.0.0.1",)])


def test_without_names_every_host_is_by_itself() -> None:
    """A frontier that can't find addresses holds the limits of hosts."""
    frontier, run = Frontier(), ListRun(limits=LIMITS)
    for host in ("a.example", "b.example"):
        assert frontier.put(run.leg(f"http://{host}/"))
    assert len(frontier.take(5) or []) == 2


@pytest.mark.parametrize(
    ("proxies", "given", "goes"),
    [
        (None, {}, False),
        ({"http": "http://127.0.0.1:1"}, {}, True),
        ({"https": "http://127.0.0.1:1"}, {}, False),
        ({"http": "http://127.0.0.1:1"}, {"http": None}, False),
        (None, {"all": "http://127.0.0.1:1"}, True),
        (["http://127.0.0.1:1", "http://127.0.0.1:2"], {}, True),
        (["http://127.0.0.1:1", "http://127.0.0.1:2"], {"http": None}, False),
    ],
)
def test_what_goes_by_a_proxy(proxies: Any, given: dict[str, Any], goes: bool) -> None:
    """The pool's, one or several, and what a request brings over it; the environment's is told by its own tests."""
    with SessionPool(proxies=proxies, trust_env=False) as pool:
        assert goes_by_proxy(pool._shared, "http://a.example/", given) is goes
        settings = pool.session.merge_environment_settings("http://a.example/", given, False, None, None)
        assert bool(requests.utils.select_proxy("http://a.example/", settings["proxies"])) is goes


def test_what_is_no_url_goes_ahead(names: Names) -> None:
    """Sending it says what is wrong with it; nobody else is the worse for it."""

    def no_url(url: str, given: object) -> bool:
        raise ValueError("'foo' does not appear to be an IPv4 or IPv6 address")

    told: list[tuple[str, Found]] = []
    Names(names._resolver, no_url).seek(ListRun().leg("http://[foo]/"), lambda host, found: told.append((host, found)))
    assert told == [("[foo]", ())]
    with SessionPool() as pool:
        report = pool.crawl(["http://[foo]/", "http://a\u2100b.com/"], limits=LIMITS)
        assert report.failed == 2
