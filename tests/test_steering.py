"""Single hosts of a crawl under an operator's hand while it runs, against real servers: nothing is lost or sent."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from crawlpool import AddressRules, ConfigError, Crawl, HostLimits, Report, SessionPool
from crawlpool.audit import RecordedLeg, judge
from crawlpool.intake import Intake
from crawlpool.politeness.blocks import BLOCKS
from crawlpool.steering import HostStanding, host_named
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.gates import PATIENCE_S, Gate, ListSink, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.above_transports

LIMITS = HostLimits(concurrency=2)
MANY = 1_000


def hosts_asked(server: SiteServer) -> dict[str, int]:
    """Return how many pages of each host were asked for."""
    counts: dict[str, int] = {}
    for request in server.requests:
        host = request.headers["host"].partition(":")[0]
        counts[host] = counts.get(host, 0) + 1
    return counts


def reasons_of(sink: ListSink) -> dict[str | None, int]:
    """Return how many results have which reason."""
    counts: dict[str | None, int] = {}
    for result in sink.results:
        counts[result.reason] = counts.get(result.reason, 0) + 1
    return counts


@pytest.mark.parametrize("limits", [None, LIMITS], ids=["without limits", "with limits"])
def test_a_held_host_waits_and_a_release_loses_nothing(limits: HostLimits | None) -> None:
    """A thousand URLs of a held host wait, most in the backlog, while others go on; then each is fetched."""
    held, other = loopback_hosts(2)
    all_read = threading.Event()

    def seeds() -> Iterator[str]:
        for number in range(MANY):
            yield server.url(f"/{number}", held)
            if number < 500:
                yield server.url(f"/{number}", other)
        all_read.set()
        assert released.wait(PATIENCE_S)  # as of an input that isn't at its end

    released = threading.Event()
    with SiteServer(lambda request: b"x", hosts=[held, other]) as server, SessionPool(threads=4) as pool:
        crawl = pool.new_crawl(limits=limits, robots=False)
        assert crawl.hold(held) == HostStanding(held, True, False, None, 0, False)
        with Threads() as threads:
            threads.start(lambda: crawl.run(seeds()))
            assert all_read.wait(PATIENCE_S)
            until(lambda: crawl.progress().report.ok == 500 and not crawl.progress().running)
            assert hosts_asked(server) == {other: 500}
            assert crawl.hosts_told() == (HostStanding(held, True, False, None, MANY, True),)
            progress = crawl.progress()
            assert (progress.queued, progress.running, progress.told[held].is_held) == (MANY, 0, True)
            assert crawl.release(held).waiting == MANY
            released.set()
        report = crawl.progress().report
        assert (report.inputs, report.ok, report.is_balanced) == (MANY + 500, MANY + 500, True)
        assert hosts_asked(server) == {held: MANY, other: 500}
        assert crawl.hosts_told() == ()


@pytest.mark.parametrize("limits", [None, LIMITS], ids=["without limits", "with limits"])
def test_when_nothing_else_is_left_what_is_held_ends(limits: HostLimits | None) -> None:
    """The crawl doesn't wait for an operator for ever: ``skipped``, reason ``held``, and the books balance."""
    held, other = loopback_hosts(2)
    sink = ListSink()
    with SiteServer(lambda request: b"x", hosts=[held, other]) as server, SessionPool(threads=4) as pool:
        crawl = pool.new_crawl(limits=limits, robots=False, sinks=[sink])
        crawl.hold(held)
        report = crawl.run(server.url(f"/{n}", host) for n in range(1200) for host in (held, other))
        assert hosts_asked(server) == {other: 1200}
    assert (report.ok, report.skipped) == (1200, 1200)
    assert reasons_of(sink) == {None: 1200, "held": 1200}
    assert crawl.progress().left_alone == {"held": {held: 1200}}
    assert crawl.progress().told[held].is_held


def test_as_long_as_a_handler_runs_a_release_is_in_time() -> None:
    """What a handler takes its time over may still add, and its operator still thinks."""
    held, other = loopback_hosts(2)
    with SiteServer(lambda request: b"x", hosts=[held, other]) as server, SessionPool(threads=2) as pool:
        gate = threading.Event()
        entered = threading.Event()

        def handler(result: object, crawl: Crawl) -> None:
            entered.set()
            assert gate.wait(30)

        crawl = pool.new_crawl(handler, limits=LIMITS, robots=False)
        crawl.hold(held)
        with Threads() as threads:
            threads.start(lambda: crawl.run([server.url("/", held), server.url("/", other)]))
            assert entered.wait(30)
            until(lambda: crawl.progress().queued == 1)
            crawl._end_holds()  # as the crawl itself asks twice a second
            crawl.release(held)
            gate.set()
        assert crawl.progress().report.ok == 2


def test_a_hold_finishes_what_is_under_way_and_sends_no_more() -> None:
    """The one that was being sent has its answer; a redirect to a held host waits there."""
    first, second = loopback_hosts(2)
    with Gate() as gate:
        routes = {"/slow": gate, "/to": lambda request: Answer(302, {"Location": server.url("/end", second)})}
        with SiteServer({**routes, "/end": b"x"}, hosts=[first, second]) as server, SessionPool(threads=4) as pool:
            crawl = pool.new_crawl(limits=HostLimits(concurrency=1), robots=False)
            with Threads() as threads:
                urls = [server.url("/slow", first), server.url("/end?2", first), server.url("/to", "localhost")]
                crawl.hold(second)
                threads.start(lambda: crawl.run(urls))
                gate.wait_for(1)
                crawl.hold(first)
                until(lambda: len(server.requests) == 2 and crawl.progress().running == 1)
                gate.open()
            assert sorted(request.path for request in server.requests) == ["/slow", "/to"]
        report = crawl.progress().report
        assert (report.ok, report.skipped) == (1, 2)


def test_a_skipped_host_is_left_out_at_once() -> None:
    """What waits in memory and on disk, and what is read later, ends as ``host_skipped``; others are fetched."""
    skipped, other = loopback_hosts(2)
    sink = ListSink()
    with Gate() as gate, SiteServer({"/": gate}, hosts=[skipped, other]) as server, SessionPool(threads=2) as pool:
        crawl = pool.new_crawl(limits=HostLimits(concurrency=1), robots=False, sinks=[sink])
        urls = [server.url(f"/?{n}", host) for host in (skipped, other) for n in range(500)]
        with Threads() as threads:
            threads.start(lambda: crawl.run(urls))
            gate.wait_for(2)
            assert crawl.skip(skipped).is_skipped
            gate.open()
        assert hosts_asked(server) == {skipped: 1, other: 500}
    assert reasons_of(sink) == {None: 501, "host_skipped": 499}
    assert crawl.progress().left_alone == {"host_skipped": {skipped: 499}}


def test_a_delay_is_kept_and_the_log_proves_it(caplog: pytest.LogCaptureFixture) -> None:
    """Each leg tells of the delay that held when it went; an audit by that finds no breach, a release included."""
    (host,) = loopback_hosts(1)
    refusals = iter([Answer(429, {"Retry-After": "60"})])

    def page(request: Request) -> Answer | bytes:
        return next(refusals) if request.path == "/refuse" else b"x"

    with SiteServer(page) as server, caplog.at_level(logging.DEBUG, "crawlpool.leg"), SessionPool(retry=None) as pool:
        crawl = pool.new_crawl(limits=HostLimits(concurrency=3), robots=False, retry=False)
        crawl.set_delay(host, 0.05)
        with Threads() as threads:
            threads.start(
                lambda: crawl.run(
                    [server.url(f"/{n}") for n in range(4)] + [server.url("/refuse"), server.url("/last")]
                )
            )
            until(lambda: crawl.progress().report.http_error == 1)
            until(lambda: crawl.hosts_now().resting)
            assert crawl.set_delay(host, 0).delay_s == 0
            assert crawl.hosts_now().resting[0][1] > 30
            crawl.release(host)
        assert crawl.progress().report.ok == 5
    legs = [vars(record) for record in caplog.records if record.name == "crawlpool.leg"]
    assert [leg["delay_s"] for leg in legs] == [0.05] * 5 + [0.0]
    assert [leg["per_host"] for leg in legs] == [1] * 5 + [3]
    assert [leg["lifted_s"] is None for leg in legs] == [True] * 5 + [False]
    gaps = [after["start_s"] - before["end_s"] for before, after in itertools.pairwise(legs[:5])]
    assert min(gaps) >= 0.05
    assert judge(RecordedLeg.of(leg) for leg in legs).breach_count == 0
    hidden = [{**leg, "lifted_s": None} for leg in legs]
    assert judge(RecordedLeg.of(leg) for leg in hidden).breach_count == 1


def test_an_input_that_reads_ahead_of_a_held_host_goes_on_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the backlog is full of what is held and nothing else is left, it ends, and the rest of the input is read."""
    monkeypatch.setattr(Intake, "AHEAD", 50)
    held, other = loopback_hosts(2)
    with SiteServer(lambda request: b"x", hosts=[held, other]) as server, SessionPool(threads=2) as pool:
        crawl = pool.new_crawl(limits=LIMITS, robots=False)
        crawl.hold(held)
        report = crawl.run([*(server.url(f"/{n}", held) for n in range(300)), server.url("/", other)])
    assert (report.ok, report.skipped) == (1, 300)


def test_what_handlers_have_added_of_a_held_host_waits_too() -> None:
    """It lies in the backlog, where others are found beside it, and comes out with the release."""
    held, other = loopback_hosts(2)
    site = SiteServer(lambda request: b"x", hosts=[held, other])
    with site as server, SessionPool(threads=2, addresses=AddressRules(allow_nets=(held,))) as pool:

        def handler(result: object, crawl: Crawl) -> None:
            if result.target.url.endswith("/start"):  # type: ignore[attr-defined]
                for number in range(1500):
                    crawl.add(server.url(f"/{number}", held))
                    crawl.add(server.url(f"/{number}", other))
            elif crawl.progress().report.ok >= 1400 and crawl.hosts_told():
                crawl.release(held)

        crawl = pool.new_crawl(handler, limits=None, robots=False)
        crawl.hold(held)
        report = crawl.run([server.url("/start", other)])
    assert (report.found, report.ok) == (3000, 3001)


def test_each_word_is_logged_with_its_host(caplog: pytest.LogCaptureFixture) -> None:
    """Who reads the log sees why a host was left alone, and since when."""
    with SessionPool() as pool, caplog.at_level(logging.WARNING, "crawlpool"):
        crawl = pool.new_crawl()
        crawl.hold("A.example.")
        crawl.set_delay("a.example", 3)
        crawl.release("a.example")
        crawl.skip("[::1]")
    told = [vars(record) for record in caplog.records]
    assert {one["message"] for one in told} == {"host ordered"}
    assert [(one["host"], one["action"], one["delay_s"], one["waiting"]) for one in told] == [
        ("a.example", "hold", None, 0),
        ("a.example", "delay", 3, 0),
        ("a.example", "release", 3, 0),
        ("[::1]", "skip", None, 0),
    ]


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("Example.ORG", "example.org"),
        (" example.org. ", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
    ],
)
def test_a_host_is_named_as_in_urls(given: str, host: str) -> None:
    """Whatever its case, and however international it is: as the frontier tells hosts apart."""
    assert host_named(given) == host


@pytest.mark.parametrize(
    "given",
    ["", " ", "http://h/", "h:80", "user:s3cr3t@h", "a b", "h/x", "[::1]:80", "x" * 300, "a..b", None, 3, "h\0"],
)
def test_what_is_no_hosts_name_is_refused(given: str) -> None:
    """The message names the value, and no password."""
    with pytest.raises(ConfigError, match="a host's name or address, without scheme and port") as caught:
        host_named(given)
    assert "s3cr3t" not in str(caught.value)


def test_a_robots_txt_does_not_wait_with_its_host() -> None:
    """One whose retry comes while its host is held ends unasked, so the crawl ends with what waits, too."""
    asked = threading.Event()

    def site(request: Request) -> Answer:
        asked.set()
        return Answer(503, {"Retry-After": "1"})

    with SiteServer(site) as server, SessionPool(threads=2) as pool, Threads() as threads:
        crawl = pool.new_crawl(limits=HostLimits())
        reports: list[Report] = []
        threads.start(lambda: reports.append(crawl.run([server.url("/page")])))
        assert asked.wait(PATIENCE_S)
        crawl.hold("127.0.0.1")
        threads.join()
        assert [request.path for request in server.requests] == ["/robots.txt"]
    assert (reports[0].skipped, crawl.progress().queued) == (1, 0)


def test_what_was_said_holds_in_the_next_process() -> None:
    """Orders are JSON; restored before a crawl runs they count as if they were given; what is none changes nothing."""
    held, slow, other = loopback_hosts(3)
    with SiteServer(lambda request: b"x", hosts=[held, slow, other]) as server, SessionPool(threads=2) as pool:
        before = pool.new_crawl(limits=LIMITS, robots=False)
        assert before.orders() == {}
        before.hold(held)
        before.set_delay(slow, 0.05)
        before.skip("[::1]")
        before.hold(other)
        before.release(other)
        orders = json.loads(json.dumps(before.orders()))
        assert orders == {
            held: {"order": "hold", "delay_s": None},
            slow: {"order": "go", "delay_s": 0.05},
            "[::1]": {"order": "skip", "delay_s": None},
        }
        crawl = pool.new_crawl(limits=LIMITS, robots=False)
        for wrong in ({other: {"order": "stop"}}, {"http://x/": {"order": "hold"}}):
            with pytest.raises(ConfigError):
                crawl.restore_orders({other: {"order": "hold"}, **wrong})
        assert crawl.orders() == {}
        crawl.restore_orders(orders)
        assert crawl.orders() == orders
        report = crawl.run(server.url(f"/{n}", host) for n in range(4) for host in (held, slow, other))
    assert (report.ok, report.skipped) == (8, 4)
    assert report.elapsed_s >= 4 * 0.05  # nobody knows when the slow one was last asked: it waits before the first, too


@pytest.mark.parametrize("is_released", [False, True])
def test_what_a_host_that_blocks_leaves_is_given_back(is_released: bool) -> None:
    """Nothing of it has a result as long as others go on: then it ends as held, unless somebody has released it."""
    bad, good = loopback_hosts(2)
    sink, has_blocked = ListSink(), threading.Event()
    answer: list[Answer | bytes] = [Answer(403)]

    def page(request: Request) -> Answer | bytes:
        return answer[0] if request.headers["host"].startswith(bad) else b"x"

    def seeds() -> Iterator[str]:
        yield from (server.url(f"/{n}", bad) for n in range(MANY // 10))
        assert has_blocked.wait(PATIENCE_S)
        yield from (server.url(f"/{n}", good) for n in range(200))
        until(lambda: crawl.progress().report.ok == 200 and not crawl.progress().running)
        progress = crawl.progress()
        assert (progress.report.http_error, progress.report.skipped) == (BLOCKS, 0)
        assert progress.queued == MANY // 10 - BLOCKS
        assert crawl.hosts_now().blocked == (bad,)
        assert (crawl.hosts_told(), crawl.orders()) == ((), {})
        if is_released:
            answer[0] = b"x"
            assert crawl.release(bad).waiting == MANY // 10 - BLOCKS

    with SiteServer(page, hosts=[bad, good]) as server, SessionPool(threads=4) as pool:
        crawl = pool.new_crawl(limits=HostLimits(concurrency=1), robots=False, sinks=[sink])
        crawl.group.gives_back = True
        with Threads() as threads:
            threads.start(lambda: crawl.run(seeds()))
            until(lambda: crawl.hosts_now().blocked)
            has_blocked.set()
        report = crawl.progress().report
        assert hosts_asked(server)[bad] == (MANY // 10 if is_released else BLOCKS)
    left = MANY // 10 - BLOCKS
    assert (report.ok, report.skipped) == ((200 + left, 0) if is_released else (200, left))
    assert reasons_of(sink).get("held", 0) == report.skipped
