"""What a crawl takes in: one host's lines hold up no other, nothing is asked for twice, and nothing is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import AddressRules, Crawl, HostLimits, Outcome, Result, SessionPool, Target
from crawlpool.backlog import pack
from crawlpool.intake import Intake
from crawlpool.testing import Request, SiteServer, loopback_hosts
from tests.gates import PATIENCE_S, Gate, ListSink, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.above_transports

ONE = HostLimits(concurrency=1)


class Counter:
    """Results by host. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards paths
        self.paths: dict[str, list[str]] = {}

    def __call__(self, result: Result) -> None:
        _, _, rest = result.target.url.partition("//")
        host, _, path = rest.partition("/")
        with self._lock:
            self.paths.setdefault(host.partition(":")[0], []).append(path)


def test_one_host_holds_up_no_other() -> None:
    """With 2,000 lines before theirs of a host that doesn't answer, others are fetched; then come those, in order."""
    slow, *others = loopback_hosts(4)
    counter = Counter()
    with Gate() as gate, SiteServer({"/slow": gate, "/": b"x"}, hosts=[slow, *others]) as server:
        with SessionPool(threads=4) as pool, gate, Threads() as threads:
            crawl = pool.new_crawl(limits=ONE, on_result=counter, robots=False)
            seeds = [server.url(f"/slow?{number}", slow) for number in range(2000)]
            seeds += [server.url(f"/?{number}", host) for number in range(5) for host in others]
            reports: list[Any] = []
            threads.start(lambda: reports.append(crawl.run(seeds)))
            until(lambda: sum(len(counter.paths.get(host, ())) for host in others) == 5 * len(others))
            assert slow not in counter.paths
            assert crawl.group.queued <= 32
            assert crawl.progress().queued == 1999
            gate.open()
            threads.join()
    assert (reports[0].ok, reports[0].inputs) == (2015, 2015)
    assert counter.paths[slow] == [f"slow?{number}" for number in range(2000)]


def test_what_cannot_lie_on_disk_waits_in_memory() -> None:
    """A target with a tuple or an object in it comes back as the very thing that was given."""
    marks = [(number, object()) for number in range(60)]
    sink = ListSink()
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2) as pool:
        seeds = [Target(server.url(f"/?{mark[0]}"), meta=mark) for mark in marks]
        report = pool.crawl(seeds, limits=ONE, sinks=[sink], robots=False)
    assert report.ok == 60
    assert sorted((result.target.meta for result in sink.results), key=lambda mark: mark[0]) == marks


def test_what_comes_from_disk_is_equal() -> None:
    """Every field of a seed survives the backlog."""
    sink = ListSink()
    with SiteServer({"/": lambda request: request.body}) as server, SessionPool(threads=2) as pool:
        seeds = [
            Target(
                server.url(f"/?{number}"),
                "POST",
                headers={"X-Number": str(number)},
                data=bytes([number]),
                meta={"of": [number]},
                n=number + 1,
                input=f"line {number}",
            )
            for number in range(60)
        ]
        assert pool.crawl(seeds, limits=ONE, sinks=[sink], robots=False).ok == 60
    assert sorted((result.target for result in sink.results), key=lambda target: target.n or 0) == seeds
    assert all(result.response.content == result.target.data for result in sink.results)  # type: ignore[union-attr]


def test_a_duplicate_is_skipped_and_names_the_first() -> None:
    """In whatever spelling; its record says which line asked for the same; it costs no request."""
    sink = ListSink()
    with SiteServer({"/": b"x", "/a": b"y"}) as server, SessionPool() as pool:
        seeds = [server.url("/a"), server.url("/"), server.url("/./b/../a#part"), server.url("/")]
        report = pool.crawl(seeds, sinks=[sink], limits=ONE)
        assert [request.path for request in server.requests if request.path != "/robots.txt"] == ["/a", "/"]
    assert (report.inputs, report.ok, report.skipped) == (4, 2, 2)
    skipped = [result for result in sink.results if result.outcome is Outcome.SKIPPED]
    assert sorted((r.reason, r.record["duplicate_of"]) for r in skipped) == [("duplicate", 1), ("duplicate", 2)]
    assert all(result.record["attempts"] == 0 for result in skipped)


def test_duplicates_are_fetched_where_they_shall_be() -> None:
    """Without dedupe each seed is fetched, and each target that a handler adds."""

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.depth < 1:
            assert crawl.add(server.url("/"), parent=result)

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        report = pool.crawl([server.url("/")] * 3, handler, dedupe=False)
        assert server.request_count == 6
    assert (report.ok, report.skipped) == (6, 0)


def test_what_a_handler_added_has_no_line() -> None:
    """A seed that a handler was faster to find is a duplicate of nothing that has a number."""
    sink = ListSink()
    found = threading.Event()

    def handler(result: Result, crawl: Crawl) -> None:
        crawl.add(server.url("/b"), parent=result)
        found.set()

    def seeds() -> Iterator[str]:
        yield server.url("/a")
        assert found.wait(PATIENCE_S)
        yield server.url("/b")

    with SiteServer({"/a": b"x", "/b": b"y"}) as server, SessionPool() as pool:
        report = pool.crawl(seeds(), handler, sinks=[sink])
    assert (report.inputs, report.found, report.ok, report.skipped) == (2, 1, 2, 1)
    assert [r.duplicate_of for r in sink.results if r.reason == "duplicate"] == [None]


def test_no_more_is_read_than_may_lie_in_the_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ahead has an end, from which on the feeder waits for room; then it goes on."""
    monkeypatch.setattr(Intake, "AHEAD", 100)
    read = 0

    def seeds() -> Iterator[str]:
        nonlocal read
        for read in range(1, 401):
            yield server.url(f"/?{read}")

    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=2) as pool, gate:
        with Threads() as threads:
            crawl = pool.new_crawl(limits=ONE, robots=False)
            reports: list[Any] = []
            threads.start(lambda: reports.append(crawl.run(seeds())))
            gate.wait_for(1)
            until(lambda: len(crawl._intake) == 100)
            assert read <= 100 + 17 + 1
            gate.open()
            threads.join()
    assert reports[0].ok == 400


def test_added_targets_of_many_hosts_all_come_out_of_the_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hosts that the frontier has never heard of, too."""
    monkeypatch.setattr(Crawl, "WAITING", 4)
    monkeypatch.setattr(Crawl, "RESTING", 8)
    hosts = loopback_hosts(10)

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.depth == 0:
            for number in range(30):
                for host in hosts:
                    crawl.add(server.url(f"/?{number}", host), parent=result)
            assert len(crawl._intake) > 200

    rules = AddressRules(allow_nets=("127.0.0.0/8",))  # no seed names them
    with SiteServer({"/": b"x", "/seed": b"x"}, hosts=hosts) as server, SessionPool(threads=4, addresses=rules) as pool:
        report = pool.crawl([server.url("/seed")], handler, limits=HostLimits(concurrency=2), robots=False)
    assert (report.found, report.ok) == (300, 301)


def test_what_nobody_sees_to_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets that lie in the backlog, of hosts that nobody names any more, are fetched all the same."""
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        crawl = pool.new_crawl(limits=ONE, robots=False)

        def lost(leg: Any) -> bool:
            crawl._intake._backlog.put(leg.host, pack(leg.target))
            crawl.group.backed.add(leg.host)
            return True

        monkeypatch.setattr(crawl._intake, "begin", lost)
        assert crawl.run([server.url(f"/?{number}") for number in range(5)]).ok == 5


def test_a_higher_priority_leaves_the_backlog_first() -> None:
    """Among the targets of one host, on disk as in memory."""
    order: list[str] = []

    def page(request: Request) -> bytes:
        order.append(request.query)
        return b"x"

    with Gate() as gate, SiteServer({"/": page, "/gate": gate}) as server, SessionPool(threads=2) as pool, gate:
        with Threads() as threads:
            crawl = pool.new_crawl(limits=ONE, robots=False)
            seeds = [server.url("/gate")] + [Target(server.url(f"/?{n}"), priority=int(n >= 90)) for n in range(100)]
            threads.start(lambda: crawl.run(seeds))
            gate.wait_for(1)
            until(lambda: len(crawl._intake) >= 84)
            gate.open()
            threads.join()
    first = order.index("90")
    assert order[first : first + 10] == [str(number) for number in range(90, 100)]
    assert first <= 16
