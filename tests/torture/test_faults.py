"""Each call of the disk and of SQLite failing in turn: a layer of faults under the ledger and the outputs."""

from __future__ import annotations

import errno
import itertools
import os
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crawlpool import Crawl, HostLimits, Job, JobError, Report, Result, SessionPool, SinkError
from crawlpool.ledger import schema
from crawlpool.source import Source
from tests.disks import Faults
from tests.torture.opened import wrong_when_opened
from tests.torture.site import CountingServer, World, links_of, wrong_with

OUTPUTS = ("results.jsonl", "pages.warc.gz", "bodies/")
PAGES = 4
#: Each sixth call, unless the variable says which.
STEP = int(os.environ.get("TORTURE_STEP", "6"))
SYSTEM_ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE)
#: Of SQLite's own errors: the disk is full; and reading or writing it fails.
ERRORS = ("database or disk is full", "disk I/O error")


class _Connection(sqlite3.Connection):
    """A connection that counts statements that write, and fails at one of them, or from there on."""

    count = 0
    at: int | None = None
    stays = False
    error = ERRORS[0]

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
        kind = _Connection
        if not sql.lstrip().upper().startswith(("SELECT", "ROLLBACK")):
            kind.count += 1
            if kind.at is not None and (kind.count == kind.at or (kind.stays and kind.count > kind.at)):
                raise sqlite3.OperationalError(kind.error)
        return super().execute(sql, *more)


@pytest.fixture(scope="module")
def server() -> Iterator[CountingServer]:
    with CountingServer() as started:
        yield started


@pytest.fixture(autouse=True)
def _failing_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ledger's connections be such that fail when they are told to."""
    connect = sqlite3.connect
    monkeypatch.setattr(schema.sqlite3, "connect", lambda *args, **named: connect(*args, factory=_Connection, **named))
    monkeypatch.setattr(_Connection, "at", None)
    monkeypatch.setattr(_Connection, "count", 0)


def handle(result: Result, crawl: Crawl) -> None:
    if result.response is not None and result.response.ok:
        crawl.emit({"url": result.target.url})
        for url in links_of(result.target.url):
            crawl.add(url, parent=result)


def crawled(pool: SessionPool, world: World, job: pathlib.Path) -> Report:
    wanted = Job(str(job), outputs=OUTPUTS, rotate_bytes=3000)
    source = Source([str(world.write(job.with_name("input.txt")))])
    return pool.crawl(source, handle, job=wanted, limits=HostLimits(concurrency=None), robots=False)


def _told(make: Callable[[], Report]) -> str:
    try:
        make()
    except (SinkError, JobError) as error:
        return str(error)
    return ""


def _wrong_with(job: pathlib.Path, world: World) -> list[str]:
    settings = {"outputs": list(OUTPUTS), "dedupe": True, "max_per_host": None}
    return [
        *wrong_with(world, (job / "results.jsonl").read_bytes(), handles=True),
        *wrong_when_opened(job, settings, b""),
    ]


@pytest.mark.timeout(170)
def test_a_call_of_the_disk_that_fails_ends_the_run_and_no_more(server: CountingServer, tmp_path: pathlib.Path) -> None:
    """Whichever it is, for want of room or else: an error of one line; without the fault the job is completed."""
    world = server.world(PAGES)
    with SessionPool(threads=2) as pool:
        for at in itertools.count(1, STEP):
            job, faults = tmp_path / f"{at}", Faults(at, SYSTEM_ERRORS[at % 3], half=True)
            with faults.installed():
                told = _told(lambda job=job: crawled(pool, world, job))  # type: ignore[misc]
            if len(faults.calls) < at:
                break
            assert told and "\n" not in told, f"call {at}, {faults.calls[at - 1]}"
            assert crawled(pool, world, job).pending == 0
            assert _wrong_with(job, world) == [], f"call {at}, {faults.calls[at - 1]}: {told}"
        assert at > 30


@pytest.mark.timeout(170)
@pytest.mark.parametrize("stays", [False, True], ids=["once", "for good"])
def test_a_statement_of_the_ledger_that_fails_ends_the_run_and_no_more(
    stays: bool, server: CountingServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is, once or from then on: one line, and the same crawl without the fault completes the job."""
    world, failed = server.world(PAGES), 0
    monkeypatch.setattr(_Connection, "stays", stays)
    with SessionPool(threads=2) as pool:
        for at in itertools.count(1, STEP):
            job = tmp_path / f"{at}"
            for name, value in {"at": at, "count": 0, "error": ERRORS[at % 2]}.items():
                monkeypatch.setattr(_Connection, name, value)
            told = _told(lambda job=job: crawled(pool, world, job))  # type: ignore[misc]
            if _Connection.count < at:
                break
            failed += bool(told)
            assert "\n" not in told
            monkeypatch.setattr(_Connection, "at", None)
            assert crawled(pool, world, job).pending == 0
            assert _wrong_with(job, world) == [], f"statement {at}: {told}"
        assert failed > 30 / STEP
