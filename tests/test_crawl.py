"""The crawl: handlers that find more, sinks, and books that balance whatever happens."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool import (
    ConfigError,
    Crawl,
    CrawlPoolError,
    ErrorKind,
    HandlerFailed,
    HostLimits,
    InputError,
    JsonlSink,
    Outcome,
    Report,
    Result,
    RetryPolicy,
    SessionPool,
    Target,
)
from crawlpool.source import BadLine
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import Gate, ListSink, Threads

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


pytestmark = pytest.mark.above_transports


def page(request: Request) -> str:
    return request.query or "page"


def test_a_crawl_without_handler() -> None:
    """Seeds are fetched, each has a record in each sink, and the books balance."""
    sinks = ListSink(), ListSink()
    with SiteServer({"/": b"x", "/r": Answer(302, {"Location": "/"})}) as server, SessionPool() as pool:
        report = pool.crawl([server.url("/"), Target(server.url("/r")), server.url("/missing")], sinks=sinks)
    assert report.check() is report
    assert (report.inputs, report.found, report.ok, report.http_error, report.legs) == (3, 0, 2, 1, 4)
    assert report.is_complete
    assert report.body_bytes >= 2
    assert [len(sink.results) for sink in sinks] == [3, 3]


def test_handlers_find_more() -> None:
    """What a handler adds is fetched too, with its depth and parent; each URL once, fragments apart."""
    seen: list[Result] = []
    taken: list[bool] = []

    def handler(result: Result, crawl: Crawl) -> None:
        seen.append(result)
        if result.target.depth < 2:
            for link in ("/a", "/b", "/a#part", "/"):
                taken.append(crawl.add(server.url(link), parent=result))
            taken.append(crawl.add(Target(server.url(f"/a?own={result.target.depth}"), depth=9)))

    with SiteServer({"/": page, "/a": page, "/b": page}) as server, SessionPool(threads=1) as pool:
        report = pool.crawl([server.url("/")], handler).check()
        ways = {r.target.url: (r.target.depth, r.target.parent) for r in seen}
        root = server.url("/")
        assert ways == {
            root: (0, None),
            server.url("/a"): (1, root),
            server.url("/b"): (1, root),
            server.url("/a?own=0"): (9, None),
            server.url("/a?own=1"): (9, None),
        }
    assert (report.inputs, report.found, report.ok) == (1, 4, 5)
    assert taken.count(True) == 4


def test_methods_are_told_apart() -> None:
    """The same URL with another method is another target."""

    def handler(result: Result, crawl: Crawl) -> None:
        crawl.add(Target(result.target.url, "HEAD"))

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        assert pool.crawl([server.url("/")], handler).found == 1
        assert sorted(request.method for request in server.requests) == ["GET", "HEAD"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(["/", "/404", "/503", "/loop", "/cut", "nothing", None, "bad line"]), max_size=20),
    st.lists(st.sampled_from(["/", "/x", "/404", "ftp://h/", "raise", "exit"]), max_size=5),
    st.booleans(),
)
def test_the_books_always_balance(seeds: list[Any], adds: list[str], has_share: bool) -> None:
    """Whatever the seeds, the answers and the handlers are: as many outcomes as targets, and a record for each."""
    cut = Answer(200, {"Content-Length": "100"}, b"short")
    routes = {"/": b"x", "/x": b"x", "/503": Answer(503), "/loop": Answer(302, {"Location": "/loop"}), "/cut": cut}
    policy = RetryPolicy(attempts=2, backoff_s=0, budget=None)

    def handler(result: Result, crawl: Crawl) -> None:
        for add in adds:
            if add == "raise":
                raise ValueError("a handler's")
            if add == "exit":
                raise SystemExit
            crawl.add(server.url(add) if add[0] == "/" else add, parent=result)

    sink = ListSink()
    with SiteServer(routes) as server, SessionPool(threads=3, retry=policy, max_redirects=2) as pool:
        given = [
            BadLine(n, "junk", f"f:{n}", InputError("junk", f"f:{n}")) if seed == "bad line"
            else server.url(seed) if seed is not None and seed[0] == "/" else seed
            for n, seed in enumerate(seeds, 1)
        ]  # fmt: skip
        report = pool.crawl(given, handler, sinks=[sink], max_per_host=3 if has_share else None)
    assert report.check().inputs == len(seeds)
    assert report.settled == len(sink.results) == report.inputs + report.found
    for result in sink.results:
        json.dumps(result.record)


def test_bad_lines_are_failed_inputs() -> None:
    """A line that is no URL, and a seed that is no target, are failed inputs; what they were is in their record."""
    sink = ListSink()
    seeds: list[Any] = [BadLine(3, "line\0", "urls.txt:3", InputError("has a NUL", "urls.txt:3")), 5]
    with SessionPool() as pool:
        report = pool.crawl(seeds, sinks=[sink])
    assert (report.inputs, report.failed) == (2, 2)
    first, second = sorted((result.record for result in sink.results), key=lambda record: record["n"] or 99)
    assert (first["n"], first["input"]) == (3, "line\0")
    assert first["error"] == {"kind": "invalid_url", "message": "urls.txt:3: has a NUL"}
    assert second["error"]["kind"] == "invalid_url"


def test_a_handler_that_raises_fails_its_target_alone() -> None:
    """A handler's exception makes its target ``failed`` of kind ``handler``, the cause kept; all others go on."""
    sink = ListSink()

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.meta == 1:
            raise KeyError("mine")
        if result.target.meta == 2:
            raise SystemExit

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2) as pool:
        report = pool.crawl([Target(server.url(f"/?{n}"), meta=n) for n in range(6)], handler, sinks=[sink])
    assert (report.ok, report.failed) == (4, 2)
    failed = {result.target.meta: result for result in sink.results if result.outcome is Outcome.FAILED}
    assert isinstance(failed[1].error, HandlerFailed)
    assert isinstance(failed[1].error.__cause__, KeyError)
    assert failed[1].error_kind is failed[2].error_kind is ErrorKind.HANDLER
    assert failed[1].response is not None


def test_handlers_see_failures_too() -> None:
    """A handler is called with every settled result, failed and skipped ones included, and in a worker."""
    seen: list[tuple[Outcome, str]] = []

    def handler(result: Result, crawl: Crawl) -> None:
        seen.append((result.outcome, threading.current_thread().name.rpartition("-")[0]))

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        seeds: list[Any] = [
            server.url("/"),
            server.url("/"),
            "nothing",
            BadLine(1, "x", "f:1", InputError("bad", "f:1")),
        ]
        pool.crawl(seeds, handler, max_per_host=1)
    assert {worker for _, worker in seen} == {"crawlpool-worker"}
    assert sorted(outcome for outcome, _ in seen) == ["failed", "failed", "ok", "skipped"]


def test_items_go_to_the_sinks(tmp_path: pathlib.Path) -> None:
    """What handlers emit is written and counted; what isn't JSON fails its handler."""
    path = tmp_path / "out.jsonl"

    def handler(result: Result, crawl: Crawl) -> None:
        crawl.emit({"title": result.unwrap().text})
        if result.target.meta:
            crawl.emit({"bad": object()})

    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        sink = JsonlSink(str(path))
        report = pool.crawl([server.url("/?a"), Target(server.url("/?b"), meta=1)], handler, sinks=[sink])
        sink.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["item"] for line in lines if "item" in line] == [{"title": "a"}, {"title": "b"}]
    assert [line["outcome"] for line in lines if "outcome" in line] == ["ok", "failed"]
    assert (report.items, report.ok, report.failed) == (2, 1, 1)


def test_added_targets_must_be_json() -> None:
    """A target with a meta that isn't JSON is refused to its handler, counted nowhere, however few wait."""
    caught: list[ConfigError] = []

    def handler(result: Result, crawl: Crawl) -> None:
        try:
            crawl.add(Target("http://127.0.0.1:1/", meta=object()))
        except ConfigError as error:
            caught.append(error)

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        report = pool.crawl([server.url("/")], handler).check()
    assert report.found == 0
    assert "meta" in str(caught[0])


def test_add_never_blocks() -> None:
    """20,000 targets added in one handler are taken at once, though one thread is all there is; few lie in memory."""
    total = 20_000

    def handler(result: Result, crawl: Crawl) -> None:
        if result.is_ok:
            assert sum(crawl.add(f"{result.target.url}?{n}") for n in range(total)) == total
            assert crawl.group.queued <= Crawl.WAITING
            assert len(crawl._intake) >= total - Crawl.WAITING
            crawl.drain()

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1) as pool:
        report = pool.crawl([server.url("/")], handler)
    assert (report.found, report.ok, report.skipped) == (total, 1, total)


def test_the_share_of_a_host() -> None:
    """Of one host no more than its share is fetched; the rest is skipped, thousands of them without recursion."""
    sink = ListSink()

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.depth < 3000:  # each result, skipped ones too, leads to one more of the same host
            crawl.add(server.url(f"/?{result.target.depth + 1}"), parent=result)

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2) as pool:
        report = pool.crawl([server.url("/")], handler, max_per_host=5, sinks=[sink])
        assert server.request_count == 5
    assert (report.ok, report.skipped, report.failed) == (5, 2996, 0)
    assert {result.reason for result in sink.results} == {None, "max_per_host"}


def test_seeds_count_towards_the_share() -> None:
    """Seeds have their share as found targets do, each host its own."""
    with SiteServer({"/": b"x"}, hosts=["127.0.0.1", "127.0.0.2"]) as server, SessionPool() as pool:
        report = pool.crawl([server.url(f"/?{n}", host) for host in server.hosts for n in range(4)], max_per_host=3)
        assert (report.ok, report.skipped, server.request_count) == (6, 2, 6)
        with pytest.raises(ConfigError, match="max_per_host"):
            pool.crawl([], max_per_host=0)


@pytest.mark.parametrize(
    ("given", "is_ok"), [("text/html; charset=x", True), ("image/png", True), ("text/plain", False), ("", False)]
)
def test_unwanted_content_types(given: str, is_ok: bool) -> None:
    """Bodies of other media types than those asked for aren't read; their targets fail and say why."""
    sink = ListSink()
    with SiteServer({"/": Answer(200, {"Content-Type": given} if given else {}, b"x" * 100)}) as server:
        with SessionPool() as pool:
            report = pool.crawl([server.url("/")], content_types=["Text/HTML", "image/*"], sinks=[sink])
    assert (report.ok, report.failed) == ((1, 0) if is_ok else (0, 1))
    assert is_ok or (sink.results[0].error_kind is ErrorKind.CONTENT_TYPE and report.body_bytes == 0)


def test_hosts_are_asked_one_by_one() -> None:
    """A crawl is polite unless told: one request at a time for a host that isn't on the loopback interface."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        resolve = {("polite.example", server.port): "127.0.0.1"}
        with SessionPool(threads=4, resolve=resolve) as pool, Threads() as threads:
            urls = [server.url(f"/?{n}", "polite.example") for n in range(4)]
            reports: list[Report] = []
            threads.start(lambda: reports.append(pool.crawl(urls)))
            gate.wait_for(1)
            gate.open()
            threads.join()
            assert (reports[0].ok, gate.peak) == (4, 1)
        with SessionPool(threads=4) as pool:
            assert pool.crawl([server.url(f"/?{n}") for n in range(4)], limits=HostLimits(concurrency=None)).ok == 4


def test_caps_of_a_crawl() -> None:
    """A crawl has a cap on bodies of its own, and the options of a request hold for all its targets."""
    with SiteServer(lambda r: r.headers.get("X", "") * 10) as server, SessionPool() as pool:
        assert pool.crawl([server.url("/")], headers={"X": "y"}, max_body_bytes=9).failed == 1
        assert pool.crawl([server.url("/")], headers={"X": "y"}, max_body_bytes=10).body_bytes == 10


def test_a_crawl_runs_once() -> None:
    """A crawl that ran isn't run again, and takes nothing more."""
    with SessionPool() as pool:
        crawl = pool.new_crawl()
        crawl.run([]).check()
        assert not crawl.add("http://127.0.0.1:1/")
        with pytest.raises(CrawlPoolError, match="once"):
            crawl.run([])


def test_added_before_and_from_outside() -> None:
    """Targets may be added from any thread while the crawl runs, and the crawl waits for them."""
    with Gate() as gate, SiteServer({"/gate": gate, "/": b"x"}) as server, SessionPool() as pool, gate:
        crawl = pool.new_crawl()
        reports: list[Report] = []
        with Threads() as threads:
            threads.start(lambda: reports.append(crawl.run([server.url("/gate")])))
            gate.wait_for(1)
            assert crawl.add(server.url("/?added"))
            assert not crawl.add(server.url("/?added"))
            gate.open()
        assert (reports[0].inputs, reports[0].found, reports[0].ok) == (1, 1, 2)


def test_seeds_that_raise() -> None:
    """When reading the seeds raises, what was begun is settled and the exception comes out."""

    def seeds() -> Iterator[str]:
        yield server.url("/")
        raise requests.ConnectionError("the database went away")

    sink = ListSink()
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        with pytest.raises(requests.ConnectionError, match="database"):
            pool.crawl(seeds(), sinks=[sink])
        assert len(sink.results) == 1
        with pytest.raises(TypeError, match="iterable"):
            pool.crawl(5)  # type: ignore[arg-type]


def test_what_unwrap_raises_in_a_handler_is_no_fault_of_the_handler() -> None:
    """A handler that calls ``result.unwrap()`` and lets it raise leaves the first cause in the record."""
    sink = ListSink()
    with SiteServer({"/": b"x"}) as server, SessionPool(retry=False) as pool:
        seeds = [server.url("/"), server.url("/missing"), "http://127.0.0.1:1/"]
        report = pool.crawl(seeds, lambda result, crawl: result.unwrap() and None, sinks=[sink])
    assert (report.ok, report.http_error, report.failed) == (1, 1, 1)
    assert {result.error_kind for result in sink.results} == {None, ErrorKind.CONNECT}


@pytest.mark.parametrize("verb", ["map", "crawl"])
def test_a_handler_does_not_wait_for_workers(verb: str) -> None:
    """They may all be in handlers: what would wait for them raises at once, and another pool may be used."""
    caught: list[BaseException] = []
    with SiteServer({"/": page}) as server, SessionPool(threads=2) as pool, SessionPool(threads=1) as other:

        def handler(result: Result, crawl: Crawl) -> None:
            assert all(one.is_ok for one in other.map([server.url("/")]))
            try:
                getattr(pool, verb)([server.url("/")])
            except CrawlPoolError as error:
                caught.append(error)

        report = pool.crawl([server.url(f"/?{number}") for number in range(4)], handler)
    assert report.ok == len(caught) == 4
    assert all("handler" in str(error) for error in caught)
