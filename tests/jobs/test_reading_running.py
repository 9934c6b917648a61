"""A job read back while it runs, after its process was killed, and while its failed targets are taken again."""

from __future__ import annotations

import collections
import os
import pathlib

import pytest

from crawlpool import Job, SessionPool, SinkError, disk, open_job
from crawlpool.jobs.verify import verify
from crawlpool.testing import Answer, SiteServer
from tests.gates import Gate, Threads, until
from tests.jobs.made import (
    EVERYTHING,
    FREE,
    Written,
    copied,
    page,
    result_of,
)


def test_a_job_is_read_while_it_runs(tmp_path: pathlib.Path) -> None:
    """What is committed is there at once, and what comes later to the same reader, when files get their names, too."""
    job = tmp_path / "job"
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=2) as pool:
        told = collections.deque[str]()
        seeds = [*(server.url(f"/?{n}") for n in range(20)), server.url("/held")]
        crawl = pool.new_crawl(
            job=Job(str(job), outputs=EVERYTHING), on_result=lambda r: told.append(r.target.url), **FREE
        )
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run(seeds))
            gate.wait_for()
            until(lambda: len(told) == 20)  # after the commit
            with open_job(job) as reader:
                assert sorted(record.url for record in reader.records()) == sorted(seeds[:-1])
                assert all(record.content for record in reader.records())
                assert (reader.get(seeds[-1]), reader.report.pending, reader.runs[0].ending) == (None, 1, None)
                assert reader.find(seeds[-1]) is not None
                gate.open()
                threads.join()
                assert (job / "results.jsonl").exists()
                held = reader.get(seeds[-1])
                assert held is not None
                assert held.content is not None
                assert len(list(reader.records())) == 21
                assert (reader.report.pending, reader.runs[0].ending) == (0, "complete")


def test_a_job_that_was_killed_is_read(tmp_path: pathlib.Path) -> None:
    """A copy of the folder in the middle of a run has the records that were committed, and says what is left."""
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=2) as pool:
        told = collections.deque[str]()
        seeds = [server.url("/held"), *(server.url(f"/?{n}") for n in range(5))]
        crawl = pool.new_crawl(job=str(tmp_path / "job"), on_result=lambda r: told.append(r.target.url), **FREE)
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run(seeds))
            gate.wait_for()
            until(lambda: len(told) == 5)
            killed = copied(tmp_path / "job", tmp_path / "killed")
            gate.open()
    with (killed / "results.jsonl.open").open("ab") as file:
        file.write(b'{"v": 1, "torn')
    with open_job(killed) as reader:
        assert sorted(record.url for record in reader.records()) == sorted(seeds[1:])
        assert (reader.report.pending, reader.runs[-1].ended_at_s, list(reader.items())) == (1, None, [])


def test_failed_targets_that_are_taken_again_confuse_no_reader(tmp_path: pathlib.Path) -> None:
    """Records stand elsewhere then, in a new file; a reader that was open finds them, and misses what waits again."""
    answers = {"/fails": Answer(500), "/": page}
    with SiteServer(answers) as server, SessionPool(retry=False) as pool:
        seeds = [server.url("/fails"), *(server.url(f"/?{n}") for n in range(5))]
        pool.crawl(seeds, job=str(tmp_path / "job"), **FREE)
        with open_job(tmp_path / "job") as reader:
            before = {record.url: dict(record) for record in reader.records()}
            assert len(before) == 6
            records = reader.records()
            opened = Job(str(tmp_path / "job"), retry=["500"]).open()
            opened.close()
            del before[seeds[0]]
            assert {record.url: dict(record) for record in records} == before
            assert {record.url: dict(record) for record in reader.records()} == before
            assert (reader.get(seeds[0]), reader.report.pending) == (None, 1)


def test_a_crash_between_two_names_of_a_file_is_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ledger has committed files that don't have their names yet, these are what is read."""
    with SiteServer({"/fails": Answer(500), "/": page}) as server, SessionPool(retry=False) as pool:
        seeds = [server.url("/fails"), *(server.url(f"/?{n}") for n in range(5))]
        pool.crawl(seeds, job=str(tmp_path / "job"), **FREE)
    with open_job(tmp_path / "job") as reader:
        before = {record.url: dict(record) for record in reader if record.url != seeds[0]}
        again = Job(str(tmp_path / "job"), retry=["500"])

        def fail(old: str, new: str) -> None:
            raise OSError(5, os.strerror(5))

        with monkeypatch.context() as failing, pytest.raises(SinkError):
            failing.setattr(disk, "rename", fail)
            again.open()
        assert (tmp_path / "job" / "results.jsonl.new").exists()
        assert {record.url: dict(record) for record in reader} == before
        assert verify(reader).flaws == ()
    with open_job(tmp_path / "job") as reader:
        assert {record.url: dict(record) for record in reader} == before


def test_a_reader_does_not_hold_back_the_log(tmp_path: pathlib.Path) -> None:
    """Who is in the middle of the records has no transaction open: SQLite can put its log back into the ledger."""
    with Written(tmp_path / "job") as job:
        job.commit([result_of(f"http://h.example/{n}") for n in range(2000)])
        with open_job(tmp_path / "job") as reader:
            records = reader.records()
            assert next(records).url == "http://h.example/0"
            job.commit([result_of("http://h.example/more")])
            busy, *_ = job.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0
            assert sum(1 for _ in records) == 2000  # the one that came meanwhile, too
