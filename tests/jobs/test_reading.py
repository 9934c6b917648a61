"""A job read back in Python: what was written comes back, during a run, after any end of one, and from a copy."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import random
import sqlite3
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool import Job, JobError, Outcome, Report, SessionPool, Target, open_job
from crawlpool.jobs.bodies import Bodies
from crawlpool.jobs.verify import verify
from crawlpool.ledger import reading, schema
from crawlpool.record import record_of
from crawlpool.testing import SiteServer
from tests.jobs.made import (
    FREE,
    PAGES,
    Written,
    body_of,
    copied,
    crawl_site,
    page,
    records_of,
    result_of,
    url_in,
)

OUTCOMES = {"ok": PAGES + 3, "http_error": 1, "failed": 1, "disallowed": 1, "skipped": 1}


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Report]:
    """Return a job that is complete, and the report of its crawl."""
    folder = tmp_path_factory.mktemp("jobs") / "job"
    return folder, crawl_site(folder)


def test_the_records_are_those_of_the_file(crawled: tuple[pathlib.Path, Report]) -> None:
    """Each line comes back once, as a mapping with its keys, in the order in which the targets came in."""
    job, _ = crawled
    with open_job(job) as reader:
        found = list(reader.records())
        assert list(map(dict, reader)) == list(map(dict, found))
    by_url = {record["url"]: record for record in records_of(job)}
    assert len(found) == len(by_url) == sum(OUTCOMES.values())
    for record in found:
        assert dict(record) == by_url[record.url]
        assert (len(record), record.outcome) == (len(by_url[record.url]), by_url[record.url]["outcome"])
    assert [record.id for record in found] == sorted(record.id for record in found)
    assert repr(found[0]) == f"<JobRecord ok {found[0].url!r}>"


def test_records_by_outcome_and_host(crawled: tuple[pathlib.Path, Report]) -> None:
    """Only those are told that ended so, or are of that host: its duplicates, too, which waited for none."""
    job, _ = crawled
    with open_job(job) as reader:
        assert {name: len(list(reader.records(outcome=name))) for name in OUTCOMES} == OUTCOMES
        assert len(list(reader.records(outcome=Outcome.OK))) == OUTCOMES["ok"]
        with pytest.raises(ValueError, match="'fine' is not a valid Outcome"):
            reader.records(outcome="fine")
        of_host = list(reader.records(host="127.0.0.1"))
        assert len(of_host) == sum(OUTCOMES.values()) - 1  # all but the bad line
        assert [record["reason"] for record in reader.records(outcome="skipped", host="127.0.0.1")] == ["duplicate"]
        assert list(reader.records(host="other.example")) == []


def test_a_record_is_found_by_its_url(crawled: tuple[pathlib.Path, Report]) -> None:
    """In any spelling; where a redirect led, and what the job doesn't have, isn't."""
    job, _ = crawled
    url = url_in(job, "/3")
    with open_job(job) as reader:
        for spelling in (
            url,
            url.upper().replace("/3", "/./3"),
            f"{url}#part",
            Target(url),
            url.removeprefix("http://"),
        ):
            record = reader.get(spelling)
            assert record is not None
            assert record.url == url
        assert reader.get(url.replace("//", "//user:pw@")) is not None
        for other in (f"{url}0x", "http://other.example/", "", "no URL", Target(url, "POST")):
            assert reader.get(other) is None


def test_bodies_come_back_byte_for_byte(crawled: tuple[pathlib.Path, Report]) -> None:
    """Decoded, from a file of its own or out of WARC; with the header as it came, and the requests that it took."""
    job, _ = crawled
    with open_job(job) as reader:
        for path in ("/1", "/packed", "/found"):
            record = reader.get(url_in(job, path))
            assert record is not None
            assert record.content == body_of(path)
            with record.open() as file:
                assert file.read() == body_of(path)
            assert (record.headers["x-many"], record.has_body) == ("1", True)
            assert record.head is not None
            assert record.head.startswith(b"HTTP/1.1 200 ")
        moved = reader.get(url_in(job, "/moved"))
        assert moved is not None
        assert [(leg.kind, leg.status) for leg in moved.legs] == [("first", 302), ("redirect", 200)]
        bad = next(iter(reader.records(outcome="failed")))
        assert (bad.content, bad.head, dict(bad.headers), bad.legs) == (None, None, {}, ())
        with pytest.raises(JobError, match="there was no answer, and so there is no body"):
            bad.open()


@pytest.mark.parametrize("outputs", [("pages.warc.gz",), ("out/pages.warc.gz", "out/all.jsonl"), ("kept/bodies/",)])
def test_each_output_is_enough(tmp_path: pathlib.Path, outputs: tuple[str, ...]) -> None:
    """Bodies are found in whichever output there is, in a folder below, too."""
    crawl_site(tmp_path / "job", outputs)
    with open_job(tmp_path / "job") as reader:
        contents = [record.content for record in reader.records(outcome="ok")]
        assert contents[:2] == [body_of("/0"), body_of("/1")]
        assert len(contents) == OUTCOMES["ok"]
        for record in reader.records(outcome="ok"):
            with record.open() as file:
                assert file.read() == record.content


def test_a_job_that_keeps_no_bodies_says_so(tmp_path: pathlib.Path) -> None:
    """There is no content then; headers are those that the records have."""
    with SiteServer(page) as server, SessionPool() as pool:
        job = Job(str(tmp_path / "job"), record_headers=["x-many"])
        pool.crawl([server.url("/1")], job=job, **FREE)
    with open_job(tmp_path / "job") as reader:
        (record,) = reader
        assert (record.content, record.has_body, dict(record.headers)) == (None, False, {"x-many": "1"})
        with pytest.raises(JobError, match="its body wasn't kept; a job keeps bodies where"):
            record.open()


def test_books_runs_and_items(crawled: tuple[pathlib.Path, Report]) -> None:
    """The report is that of the crawl, but for the time; its runs are told, and what handlers emitted."""
    job, report = crawled
    with open_job(str(job)) as reader:
        found = reader.report
        assert found.is_balanced
        for name in (
            "inputs",
            "found",
            *OUTCOMES,
            "items",
            "legs",
            "robots_legs",
            "body_bytes",
            "pending",
            "is_complete",
        ):
            assert getattr(found, name) == getattr(report, name)
        assert [(run.n, run.ending) for run in reader.runs] == [(1, "complete")]
        items = collections.Counter(item["of"] for item in reader.items())
    assert items == collections.Counter(record["input"] for record in records_of(job))


def test_records_come_page_by_page(crawled: tuple[pathlib.Path, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows a statement returns or looks at, each record comes once."""
    with open_job(crawled[0]) as reader:
        whole = [record.id for record in reader]
        for rows, span in ((1, 1), (2, 5), (3, 3), (5, 2), (7, 100)):
            monkeypatch.setattr(reading, "PAGE_ROWS", rows)
            monkeypatch.setattr(reading, "SPAN", span)
            assert [record.id for record in reader] == whole
            assert len(list(reader.records(outcome="ok"))) == OUTCOMES["ok"]
            assert len(list(reader.records(host="127.0.0.1"))) == len(whole) - 1
            assert verify(reader).is_whole


def test_a_copy_that_cannot_be_written_is_read(
    crawled: tuple[pathlib.Path, Report], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite can make no file beside it, the ledger is read as it lies; with a log there it says what to do."""
    job = copied(crawled[0], tmp_path / "copy")
    for beside in job.glob("ledger.sqlite3-*"):
        beside.unlink()
    connected = schema._connected

    def on_a_medium(path: str, how: str) -> sqlite3.Connection:
        if how == "mode=ro":
            raise sqlite3.OperationalError("unable to open database file")
        return connected(path, how)

    monkeypatch.setattr(schema, "_connected", on_a_medium)
    with open_job(job) as reader:
        assert len(list(reader.records())) == sum(OUTCOMES.values())
    assert not list(job.glob("ledger.sqlite3-*"))
    (job / "ledger.sqlite3-wal").write_bytes(b"x" * 100)
    with pytest.raises(
        JobError, match="still lies in its -wal file and nothing can be written beside it: copy the folder"
    ):
        open_job(job)


def test_what_is_no_job_is_refused(tmp_path: pathlib.Path) -> None:
    """One line says what is there in its place; nothing is made."""
    with pytest.raises(JobError, match="there is no such folder"):
        open_job(tmp_path / "none")
    with pytest.raises(JobError, match=r"is no job: it has no ledger\.sqlite3"):
        open_job(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database, but a text that is long enough to be looked at" * 20)
    with pytest.raises(JobError, match="no ledger: file is not a database"):
        open_job(tmp_path)
    (tmp_path / "ledger.sqlite3").unlink()
    schema.open_to_write(str(tmp_path / "ledger.sqlite3")).close()
    with pytest.raises(JobError, match="the job was never begun: its ledger is empty"):
        open_job(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JobError, match="a ledger of version 99"):
        open_job(tmp_path)


def test_a_changed_byte_of_the_ledger_is_no_traceback(
    crawled: tuple[pathlib.Path, Report], tmp_path: pathlib.Path
) -> None:
    """Wherever it is, each reading ends well or with a ``JobError`` of one line."""
    whole = (crawled[0] / "ledger.sqlite3").read_bytes()
    job = copied(crawled[0], tmp_path / "job")
    chance, refused = random.Random(5), 0
    for at in [*range(16), *(chance.randrange(len(whole)) for _ in range(150))]:
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        (job / "ledger.sqlite3").write_bytes(changed)
        try:
            with open_job(job) as reader:
                for record in reader.records():
                    assert record.legs is not None
                assert (reader.report, reader.runs, list(reader.items())) is not None
        except JobError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 10


def test_no_file_is_read_that_is_not_the_jobs(tmp_path: pathlib.Path) -> None:
    """Who has made the folder can't have the reader read other files: no path leads out of it."""
    (tmp_path / "secret").write_bytes(b"s3cr3t")
    bodies = Bodies(str(tmp_path / "job"), ["bodies/", "pages.warc.gz"])
    for file in ("../secret", str(tmp_path / "secret"), "bodies/../../secret", "a\0b", 7, None):
        for place in ({"file": file, "offset": 0, "length": 6}, {"file": file, "offset": 0}, "x"):
            with pytest.raises(JobError, match="the record tells of no place where a body may lie"):
                bodies.content({"body": [place]})
    with pytest.raises(JobError, match="bodies/gone: the job's file is gone"):
        bodies.content({"body": [{"file": "bodies/gone", "offset": 0, "length": 6}]})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
jsons = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x, max_size=3), max_leaves=5)
results = st.builds(
    lambda path, outcome, reason, meta: result_of(f"http://h.example/{path}", outcome, reason=reason, meta=meta),
    st.integers(0, 10**9),
    st.sampled_from(Outcome),
    st.none() | texts,
    jsons,
)


@settings(max_examples=25)
@given(
    groups=st.lists(
        st.tuples(st.lists(results, max_size=5), st.lists(st.dictionaries(texts, jsons, max_size=3), max_size=3)),
        max_size=4,
    )
)
def test_what_is_written_is_read(groups: list[tuple[list[Any], list[Any]]]) -> None:
    """Whatever the results and items, and however they are grouped, they come back in order, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "job"
        with Written(path) as job:
            with open_job(path) as reader:
                for count, (group, items) in enumerate(groups, 1):
                    job.commit(group, items)
                    written = [result for one, _ in groups[:count] for result in one]
                    assert [dict(record) for record in reader.records()] == [
                        json.loads(json.dumps(record_of(result))) for result in written
                    ]
            with open_job(os.fspath(path)) as reader:
                assert list(reader.items()) == [item for _, items in groups for item in items]
                assert reader.report.settled == sum(len(group) for group, _ in groups)


def test_a_reader_that_is_closed_says_so(crawled: tuple[pathlib.Path, Report]) -> None:
    """It may be closed again; what is asked then is an error of one line."""
    reader = open_job(crawled[0])
    assert repr(reader) == f"<JobReader {str(crawled[0])!r}>"
    reader.close()
    reader.close()
    with pytest.raises(JobError, match="closed"):
        reader.report  # noqa: B018
