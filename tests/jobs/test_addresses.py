"""Which hosts a job permits: those that its input names, in each of its runs, and never one that a page has named."""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import Crawl, HostLimits, Result, SessionPool
from crawlpool.testing import SiteServer
from tests.notations import CANARY, FRONT, canary

pytestmark = pytest.mark.transports()

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}


@pytest.fixture
def bird() -> Iterator[SiteServer]:
    with canary() as server:
        yield server


def run(job: pathlib.Path, seeds: list[str], link: str | None, **more: Any) -> list[Result]:
    """Do one run of a job; the first handler adds a link, and ends the run before it is fetched."""
    found: list[Result] = []

    def handler(result: Result, crawl: Crawl) -> None:
        if link is not None:
            crawl.add(link)
            crawl.drain()

    with SessionPool(threads=1, trust_env=False) as pool:
        pool.crawl(seeds, handler, job=str(job), on_result=found.append, **{**FREE, **more})
    return found


def test_a_resumed_job_permits_what_its_input_named(tmp_path: pathlib.Path, bird: SiteServer) -> None:
    """The input isn't read again, and what it named still counts."""
    job, seeds = tmp_path / "job", [bird.url("/")]
    assert [result.is_ok for result in run(job, seeds, bird.url("/link"))] == [True]
    later = run(job, seeds, None)
    assert [(result.target.url, result.is_ok) for result in later] == [(bird.url("/link"), True)]
    assert bird.request_count == 2


def test_a_resumed_job_permits_no_link(tmp_path: pathlib.Path, bird: SiteServer) -> None:
    """Not even one that was added with no parent, at depth 0: in the ledger it looks like an input."""
    job = tmp_path / "job"
    with SiteServer({"/": b"front"}, hosts=FRONT) as front:
        seeds = [front.url("/")]
        assert [result.is_ok for result in run(job, seeds, bird.url("/link"))] == [True]
        later = run(job, seeds, None)
        assert [str(result.error_kind) for result in later] == ["blocked_address"]
        kinds = [str(result.error_kind) for result in run(job, seeds, None)]
    assert (kinds, bird.connections) == ([], 0)


def test_a_job_keeps_what_its_input_named_with_the_lines(tmp_path: pathlib.Path) -> None:
    """One row for each host that isn't public, in the transaction of the line; none for others."""
    job = tmp_path / "job"
    seeds = ["http://[0::1]:1/", "http://localhost:1/", f"http://{CANARY[0]}:1/a", f"http://{CANARY[0]}:1/b", "no url"]
    run(job, seeds, None, max_per_host=1)
    database = sqlite3.connect(job / "ledger.sqlite3")
    try:
        rows = database.execute("SELECT key FROM job WHERE key LIKE 'input_host:%' ORDER BY key").fetchall()
    finally:
        database.close()
    assert [key for (key,) in rows] == ["input_host:127.0.0.2", "input_host:::1", "input_host:localhost"]
