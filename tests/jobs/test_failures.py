"""A job whose disk fails: what wasn't written is done by the next run, and nothing is half there."""

from __future__ import annotations

import errno
import os
import pathlib
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import Crawl, HostLimits, Job, Result, SessionPool, SinkError
from crawlpool import crawl as crawls
from crawlpool import disk as disks
from crawlpool.jobs.clerk import Clerk
from crawlpool.jobs.intake import JobIntake
from crawlpool.jobs.job import check_folder
from crawlpool.ledger.store import Ledger
from crawlpool.testing import SiteServer
from tests.disks import instead
from tests.gates import PATIENCE_S

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}


def test_input_whose_commit_failed_is_read_by_the_next_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written after a failure: that the input is at its end would be, and the input not."""
    begun, ended, commit, end_input = threading.Event(), threading.Event(), Ledger.commit, Clerk.end_input

    def failing(self: Ledger, batch: Any, *more: Any) -> None:
        if batch.incoming and not begun.is_set():
            begun.set()
            assert ended.wait(PATIENCE_S)
            raise SinkError("the disk is full")
        commit(self, batch, *more)

    def noted(self: Clerk) -> None:
        end_input(self)
        ended.set()

    def seeds(server: SiteServer) -> Iterator[str]:
        yield server.url("/?0")
        assert begun.wait(PATIENCE_S)
        yield from (server.url(f"/?{n}") for n in range(1, 5))

    monkeypatch.setattr(Ledger, "commit", failing)
    monkeypatch.setattr(Clerk, "end_input", noted)
    with SiteServer({"/": "x"}) as server, SessionPool(threads=2) as pool:
        with pytest.raises(SinkError, match="the disk is full"):
            pool.crawl(seeds(server), job=str(tmp_path / "job"), **FREE)
        report = pool.crawl(seeds(server), job=str(tmp_path / "job"), **FREE)
    assert (report.inputs, report.ok, report.pending) == (5, 5, 0)


@pytest.mark.parametrize("swallows", [True, False])
def test_a_result_whose_handler_could_not_add_is_given_back(
    swallows: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't kept without what was to be added, whatever the handler makes of the error: the next run has both."""
    is_new = JobIntake.is_new_digest

    def failing(self: JobIntake, digest: int | None) -> bool:
        raise SinkError("the ledger can't be read")

    def handler(result: Result, crawl: Crawl) -> None:
        if not result.target.url.endswith("found"):
            try:
                crawl.add(f"{result.target.url}found")
            except SinkError:
                if not swallows:
                    raise

    with SiteServer({"/": "x", "/found": "x"}) as server, SessionPool(threads=2) as pool:
        monkeypatch.setattr(JobIntake, "is_new_digest", failing)
        with pytest.raises(SinkError, match="can't be read"):
            pool.crawl([server.url("/")], handler, job=str(tmp_path / "job"), **FREE)
        monkeypatch.setattr(JobIntake, "is_new_digest", is_new)
        report = pool.crawl([server.url("/")], handler, job=str(tmp_path / "job"), **FREE)
    assert (report.inputs, report.found, report.ok) == (1, 1, 2)


def test_what_a_handler_fails_by_is_told_or_its_target_given_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even the failure can be told, no thread ends of it, and the crawl comes to its end."""

    def untold(*args: Any, **named: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def handler(result: Result, crawl: Crawl) -> None:
        raise ValueError

    with SiteServer({"/": "x"}) as server, SessionPool(threads=2) as pool:
        monkeypatch.setattr(crawls, "_log", types.SimpleNamespace(error=untold))
        with pytest.raises(OSError, match="Too many open files"):
            pool.crawl([server.url("/")], handler, job=str(tmp_path / "job"), **FREE)
        monkeypatch.undo()
        assert pool.crawl([server.url("/")], job=str(tmp_path / "job"), **FREE).ok == 1


def test_names_of_a_jobs_folders_are_synced_as_long_as_nothing_is_committed(tmp_path: pathlib.Path) -> None:
    """Those of its own and of its outputs, and when they are there, too: who made them may have been killed before."""
    job, synced, sync = tmp_path / "job", list[str](), disks.sync_folder

    def noted(path: str) -> None:
        synced.append(path)
        sync(path)

    expected = {str(job), str(job / "deep"), str(job / "deep" / "er")}
    with instead({"sync_folder": noted}):
        Job(str(job), outputs=["deep/er/copy.jsonl"]).open().close()
        assert expected | {str(tmp_path)} <= set(synced)
        synced.clear()
        Job(str(job), outputs=["deep/er/copy.jsonl"]).open().close()
    assert expected <= set(synced)


def test_a_folder_that_cannot_be_read_is_told_in_a_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor left, for one: it is trouble with files, and no fault of crawlpool."""

    def failing(path: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", failing)
    with pytest.raises(SinkError, match="Too many open files"):
        check_folder(str(tmp_path))
