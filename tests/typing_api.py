"""The public API as a user types it. Never run: strict mypy checks it, unused ignores and wrong types included."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import requests
import tenacity
from requests.adapters import HTTPAdapter
from typing_extensions import assert_type

import crawlpool
from crawlpool import (
    AddressRules,
    BlockedAddress,
    BodiesSink,
    BodyTooLarge,
    Cancelled,
    ConfigError,
    CookieFileError,
    CookieStore,
    Crawl,
    CrawlPoolError,
    DeadlineExceeded,
    DownloadMismatch,
    ErrorKind,
    HandlerFailed,
    Hop,
    HostLimits,
    InputError,
    JobReader,
    JobRecord,
    JobRun,
    JobsReader,
    JsonlSink,
    MissingExtra,
    Outcome,
    PoolClosed,
    ProtocolError,
    QueueFull,
    Report,
    RequestError,
    ResponseFuture,
    Result,
    RetryBudget,
    RetryPolicy,
    Session,
    SessionPool,
    Sink,
    SinkError,
    Source,
    SourceSettings,
    Statistics,
    Target,
    TargetSkipped,
    TruncatedBody,
    UndecodableBody,
    UnwantedContentType,
    WarcSink,
    open_job,
)

if TYPE_CHECKING:
    import pathlib

assert_type(crawlpool.__version__, str)

ERRORS: tuple[type[CrawlPoolError], ...] = (
    BlockedAddress, BodyTooLarge, Cancelled, ConfigError, CookieFileError, DeadlineExceeded, DownloadMismatch,
    HandlerFailed, InputError, MissingExtra, PoolClosed, ProtocolError, QueueFull, RequestError, SinkError,
    TargetSkipped, TruncatedBody, UndecodableBody, UnwantedContentType,
)  # fmt: skip
ABOUT_REQUESTS: tuple[type[requests.RequestException], ...] = (BodyTooLarge, Cancelled, DeadlineExceeded, RequestError)


def settings(path: pathlib.Path) -> SessionPool:
    policy = RetryPolicy(
        attempts=4,
        backoff_s=0.5,
        jitter=lambda low, high: (low + high) / 2,
        statuses=frozenset({429, 503}),
        methods=None,
        budget=0.2,
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    pool = SessionPool(
        threads=16,
        headers={"User-Agent": "mybot/1.0"},
        params={"key": "value"},
        timeout=(5, 30),
        deadline=60,
        retry=policy,
        cookies=CookieStore(),
        auth=("user", "password"),
        proxies={"https": "http://127.0.0.1:3128"},
        verify=path,
        cert=("cert.pem", "key.pem"),
        hooks={"response": lambda response, **_: None},
        max_body_bytes=1 << 20,
        max_redirects=5,
        limits=HostLimits(concurrency=2),
        idle_connections=8,
        queue_size=100,
        trust_env=False,
        netrc=False,
        resolve={("example.org", 443): "127.0.0.1"},
        addresses=AddressRules(private="deny", allow_nets=("10.0.0.0/8",)),
    )
    SessionPool(retry=False, timeout=None, deadline=None, cookies={"a": "b"})
    SessionPool(proxies=["http://127.0.0.1:3128", "http://127.0.0.1:3129"])
    SessionPool(threads="many")  # type: ignore[arg-type]
    SessionPool(thread=16)  # type: ignore[call-arg]
    SessionPool(limits=2)  # type: ignore[arg-type]
    return pool


def verbs(pool: SessionPool) -> None:
    assert_type(pool.get("https://h/"), requests.Response)
    assert_type(pool.post("https://h/", {"a": "b"}, None, deadline=3), requests.Response)
    assert_type(pool.post("https://h/", json={"a": 1}), requests.Response)
    assert_type(pool.put("https://h/", b"x", json=None, retry=False), requests.Response)
    assert_type(pool.patch("https://h/", b"x"), requests.Response)
    assert_type(pool.delete("https://h/", data=b"x"), requests.Response)
    assert_type(pool.head("https://h/", allow_redirects=True), requests.Response)
    assert_type(pool.options("https://h/", stream=True, verify=False, cert=None), requests.Response)
    pool.get("https://h/", params=[("a", 1)], headers={"a": None}, cookies={"a": "b"}, timeout=3.5, max_body_bytes=9)
    pool.get("https://h/", dedline=3)  # type: ignore[call-arg]
    pool.get("https://h/", deadline="soon")  # type: ignore[arg-type]
    pool.get("https://h/", retry=3)  # type: ignore[arg-type]
    pool.get(5)  # type: ignore[arg-type]


def session(pool: SessionPool) -> requests.Session:
    assert_type(pool.session, Session)
    assert_type(pool.session.get("https://h/"), requests.Response)
    pool.session.request("GET", "https://h/", deadline=3, retry=RetryPolicy.never(), max_body_bytes=None)
    pool.session.mount("https://h/", HTTPAdapter())
    return pool.session


def defaults(pool: SessionPool) -> None:
    pool.headers["a"] = "b"
    pool.headers = {"a": "b"}
    pool.params = {"a": 1}
    pool.proxies = {"http": "http://127.0.0.1:1"}
    pool.auth = ("user", "password")
    pool.verify, pool.cert, pool.timeout, pool.max_redirects = False, None, (1, 2), 3
    assert_type(pool.cookies, CookieStore)
    pool.cookies.set("a", "b", domain="h")
    pool.site("https://h", headers={"a": "b"}, auth=None, retry=False, limits=HostLimits(concurrency=None))
    pool.mount("https://h/", lambda: HTTPAdapter())
    pool.mount("https://h/", HTTPAdapter())  # type: ignore[arg-type]
    pool.site("https://h", limits=3)  # type: ignore[arg-type]


def cookies(path: str) -> CookieStore:
    store = CookieStore.load(path)
    store.save(path)
    return store


def work(pool: SessionPool, path: pathlib.Path) -> int:
    future = pool.submit("GET", "https://h/", params={"a": "b"}, data=b"x", deadline=3, max_body_bytes=9)
    assert_type(future, ResponseFuture)
    assert_type(future.result(timeout=3), requests.Response)
    assert_type(future.abort(), bool)
    plain: concurrent.futures.Future[requests.Response] = future
    concurrent.futures.wait([plain])
    pool.submit("GET", "https://h/", stream=True)  # type: ignore[call-arg]

    results = pool.map(["https://h/", "https://h/2"], ordered=True, limits=HostLimits(), max_wait_s=3, retry=False)
    for result in results:
        assert_type(result, Result)
    results.close()
    targets = (
        Target(f"https://h/{n}", "POST", headers={"a": "b"}, data=b"x", meta={"n": n}, priority=n) for n in range(3)
    )
    list(pool.map(targets, auth=("user", "password"), timeout=(1, None)))
    pool.map([1, 2])  # type: ignore[list-item]
    pool.map([], window=3)  # type: ignore[call-arg]
    return pool.download("https://h/big.zip", path, sha256=None, deadline=100, headers={"a": "b"})


class MySink:
    def write(self, result: Result) -> None: ...

    def emit(self, item: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def crawling(pool: SessionPool) -> Report:
    def handler(result: Result, crawl: Crawl) -> None:
        assert_type(crawl.add("https://h/next", parent=result), bool)
        crawl.add(Target("https://h/other"))
        crawl.emit({"title": "x"})
        crawl.drain()

    sinks: list[Sink] = [JsonlSink("out.jsonl", headers=["etag"]), WarcSink("p.warc.gz"), BodiesSink("b/"), MySink()]
    crawl = pool.new_crawl(
        handler, sinks=sinks, content_types=["text/html"], max_per_host=9, on_result=lambda result: None
    )
    assert_type(crawl.run(["https://h/"]), Report)
    assert_type(crawl.is_draining, bool)
    assert_type(crawl.progress().report, Report)
    crawl.stop()
    pool.crawl(Source(["urls.txt"], SourceSettings()), max_wait_s=3, headers={"a": "b"})
    pool.crawl([], lambda result: None)  # type: ignore[misc, arg-type]
    pool.crawl([], max_per_hots=3)  # type: ignore[call-arg]
    return pool.crawl(
        ["https://h/"], handler, limits=HostLimits(concurrency=1), sinks=sinks, max_redirects=3, max_per_host=2
    )


def reading(result: Result, report: Report, statistics: Statistics) -> None:
    assert_type(result.target, Target)
    assert_type(result.outcome, Outcome)
    assert_type(result.error, BaseException | None)
    assert_type(result.error_kind, ErrorKind | None)
    assert_type(result.response, requests.Response | None)
    assert_type(result.redirects, tuple[Hop, ...])
    assert_type(result.record, dict[str, Any])
    assert_type(result.unwrap(), requests.Response)
    assert_type(result.is_ok, bool)
    assert_type(result.waited_s, float | None)
    assert_type(report.check(), Report)
    assert_type(report.ok + report.http_error + report.failed + report.disallowed + report.skipped, int)
    assert_type(statistics.connections_open, int)
    result.outcome = Outcome.OK  # type: ignore[misc]
    report.ok = 3  # type: ignore[misc]
    statistics.requests = 3  # type: ignore[misc]


def budget() -> float:
    kept = RetryBudget(0.2, reserve=10)
    kept.deposit()
    return kept.available if kept.withdraw() else 0.0


def job_read_back() -> None:
    with open_job("crawl") as job:
        assert_type(job, JobReader | JobsReader)
        for record in job.records(outcome="ok", host="h.example"):
            assert_type(record, JobRecord)
        record_or_none = job.get("http://h.example/")
        assert_type(record_or_none, JobRecord | None)
        assert_type(next(job.items()), dict[str, Any])
        assert_type(job.report, Report)
        assert_type(job.runs, tuple[JobRun, ...])
        assert_type(record.content, bytes | None)
        assert_type(record.outcome, Outcome)
        assert_type(record.url, str)
        assert_type(record["status"], Any)


def ending() -> None:
    with SessionPool() as pool:
        assert_type(pool, SessionPool)
        assert_type(pool.statistics(), Statistics)
        assert_type(pool.is_closed, bool)
    pool.close(cancel=True, timeout_s=3)
