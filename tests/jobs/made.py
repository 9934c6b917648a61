"""Jobs made for tests: by a real crawl of a small site, or step by step as the clerk does, without any thread."""

from __future__ import annotations

import gzip
import json
import pathlib
import shutil
import sqlite3
import types
from collections.abc import Iterable, Sequence
from typing import Any

from crawlpool import Crawl, HostLimits, Job, Outcome, Report, Result, SessionPool, Target
from crawlpool.books import Books
from crawlpool.clock import SYSTEM_CLOCK
from crawlpool.jobs.entries import row_of_added, told_of
from crawlpool.ledger.store import Batch
from crawlpool.testing import Answer, Request, SiteServer

FREE: dict[str, Any] = {"robots": False, "limits": HostLimits(concurrency=None)}
EVERYTHING = ("pages.warc.gz", "bodies/", "results.jsonl")
PAGES = 12


def page(request: Request) -> Answer:
    """Answer like a small site: pages of different bodies, a packed one, a redirect, a missing one, robots.txt."""
    if request.path == "/robots.txt":
        return Answer(200, {}, b"User-agent: *\nDisallow: /secret\n")
    if request.path == "/moved":
        return Answer(302, {"Location": "/0"}, b"")
    if request.path == "/missing":
        return Answer(404, {"Content-Type": "text/plain"}, b"no")
    body = f"page {request.target} ".encode() * 40
    headers = {"Content-Type": "text/html", "X-Many": "1"}
    if request.path == "/packed":
        return Answer(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(body, mtime=0))
    return Answer(200, headers, body)


def body_of(path: str) -> bytes:
    """Return the decoded body of a page of the site."""
    return f"page {path} ".encode() * 40


def handler(result: Result, crawl: Crawl) -> None:
    """Emit an item for each result; the first page has a link."""
    crawl.emit({"of": result.target.url})
    if result.target.url.endswith("/0"):
        crawl.add(result.target.url.replace("/0", "/found"), parent=result)


def crawl_site(folder: pathlib.Path, outputs: Sequence[str] = EVERYTHING, **options: Any) -> Report:
    """Crawl the site into a job: pages, errors, a redirect, a duplicate, a bad line, one that robots.txt forbids."""
    limits = options.pop("limits", HostLimits(delay_s=0.0001))
    with SiteServer(page) as server, SessionPool(threads=2, **options) as pool:
        paths = [*(f"/{n}" for n in range(PAGES)), "/packed", "/moved", "/missing", "/0#again", "/secret/x"]
        seeds = [*(server.url(path) for path in paths), "no URL at all"]
        return pool.crawl(seeds, handler, job=Job(str(folder), outputs=outputs), limits=limits)


def copied(job: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """Return a copy of a job's folder."""
    shutil.copytree(job, to)
    return to


def lines_of(job: pathlib.Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    """Return what the lines of a file of records say."""
    return [json.loads(line) for line in (job / name).read_bytes().splitlines()]


def records_of(job: pathlib.Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    """Return the records of a file, without items."""
    return [line for line in lines_of(job, name) if "item" not in line]


def url_in(job: pathlib.Path, path: str) -> str:
    """Return the URL of a job that ends so."""
    return next(record["url"] for record in records_of(job) if record["url"].endswith(path))


class Written:
    """A job that is written group by group, as the clerk does it; a context manager.

    Args:
        folder: the job's.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._job = Job(str(folder)).open(dedupes=False)
        self._books = Books(SYSTEM_CLOCK)

    @property
    def database(self) -> sqlite3.Connection:
        """The connection that writes the ledger."""
        return self._job.ledger.database

    def commit(self, results: Sequence[Result], items: Iterable[Any] = ()) -> None:
        """Take in the targets of some results, and commit these."""
        job, items = self._job, list(items)
        first = job.ledger.next_id
        self._books.found(len(results))
        rows: list[Any] = [row_of_added(result.target) for result in results]
        job.ledger.commit(Batch(incoming=rows))
        places = job.outputs.write(results, items, [job.outputs.line_of(result) for result in results])
        batch = Batch(marks=job.outputs.sync())
        for number, (result, place) in enumerate(zip(results, places, strict=True), first):
            leg: Any = types.SimpleNamespace(ordinal=number, trail=())
            batch.results.append(told_of(leg, result).row(place))
            self._books._ended[result.outcome] += 1
        self._books.emitted(len(items))
        batch.values["books"] = json.dumps(self._books.saved())
        job.ledger.commit(batch)
        job.outputs.committed(batch.marks)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *exc: object) -> None:
        self._job.close()


def result_of(url: str, outcome: Outcome = Outcome.OK, **more: Any) -> Result:
    """Return a result without an answer."""
    return Result(Target(url, meta=more.pop("meta", None)), outcome, **more)
