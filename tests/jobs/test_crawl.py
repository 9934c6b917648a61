"""A crawl of a job: each target once, whatever ends the run, and nothing of what isn't committed."""

from __future__ import annotations

import json
import pathlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import (
    ConfigError,
    Crawl,
    HostLimits,
    Job,
    JobError,
    Report,
    Result,
    SessionPool,
    SinkError,
    Target,
)
from crawlpool.jobs import clerk as clerks
from crawlpool.ledger.store import Ledger
from crawlpool.source import Source
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import PATIENCE_S, Gate, ListSink, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.above_transports

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}


def lines(job: pathlib.Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job / name).read_text("utf-8").splitlines()]


def page(request: Request) -> Any:
    return Answer(404) if request.path.startswith("/no") else f"page {request.query}"


def test_a_job_is_done_once(tmp_path: pathlib.Path) -> None:
    """Each seed has one record; the same call again fetches nothing and tells the same."""
    job = tmp_path / "job"
    with SiteServer(page) as server, SessionPool(threads=3) as pool:
        seeds = [server.url(f"/?{n}") for n in range(30)] + [server.url("/no"), server.url("/?3"), "nonsense"]
        report = pool.crawl(seeds, job=str(job), **FREE)
        again = pool.crawl(iter([]), job=str(job), **FREE)
        assert server.request_count == 31
    counts = (report.inputs, report.ok, report.http_error, report.failed, report.skipped, report.pending)
    assert counts == (33, 30, 1, 1, 1, 0)
    assert (again.inputs, again.ok, again.legs, again.is_balanced) == (33, 30, 31, True)
    records = lines(job)
    assert sorted(record["input"] for record in records) == sorted(seeds)
    assert [record["duplicate_of"] for record in records if record["reason"] == "duplicate"] == [4]
    assert sorted(path.name for path in job.iterdir()) == ["flight", "ledger.sqlite3", "lock", "results.jsonl"]


def test_what_was_not_done_is_done_by_the_next_run(tmp_path: pathlib.Path) -> None:
    """A drain leaves what waits without a record; the next run fetches just that, and each line knows its run."""
    job = tmp_path / "job"
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=2) as pool:
        seeds = [server.url("/held?1"), server.url("/held?2"), *(server.url(f"/?{n}") for n in range(20))]
        crawl = pool.new_crawl(job=str(job), **FREE)
        reports: list[Report] = []
        with gate, Threads() as threads:
            threads.start(lambda: reports.append(crawl.run(seeds)))
            gate.wait_for(2)
            crawl.drain()
            gate.open()
            threads.join()
        (first,) = reports
        assert (first.ok, first.inputs, first.is_balanced, first.is_complete) == (2, 22, True, False)
        assert first.pending == 20
        assert [record["url"] for record in lines(job, "results.jsonl.open")] == seeds[:2] or first.ok == 2
        second = pool.crawl(seeds, job=str(job), **FREE)
        assert server.request_count == 22
    assert (second.ok, second.pending) == (22, 0)
    records = lines(job)
    assert sorted(record["input"] for record in records) == sorted(seeds)
    assert sorted({record["run"] for record in records}) == [1, 2]


def test_a_stop_takes_back_what_runs(tmp_path: pathlib.Path) -> None:
    """A transfer that is ended by a stop has no record; the next run fetches it."""
    job = tmp_path / "job"
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=1) as pool:
        crawl = pool.new_crawl(job=str(job), **FREE)
        reports: list[Report] = []
        with gate, Threads() as threads:
            threads.start(lambda: reports.append(crawl.run([server.url("/held")])))
            gate.wait_for()
            crawl.stop()
            threads.join()
        assert (reports[0].settled, reports[0].pending) == (0, 1)
        assert pool.crawl([server.url("/held")], job=str(job), **FREE).ok == 1


def test_handler_adds_and_items_go_with_the_result(tmp_path: pathlib.Path) -> None:
    """What a handler adds and emits is there once, with depth and parent; a handler that raises leaves nothing."""
    job = tmp_path / "job"
    seen: list[str] = []

    def handler(result: Result, crawl: Crawl) -> None:
        url = result.target.url
        seen.append(url)
        crawl.emit({"of": url})
        if result.target.depth < 2:
            assert crawl.add(f"{url}a", parent=result)
            assert not crawl.add(f"{url}a#other", parent=result)
            crawl.add(f"{url}b", parent=result)
        if url.endswith("b"):
            raise ValueError("no")

    with SiteServer(page) as server, SessionPool(threads=2) as pool:
        root = server.url("/?")
        report = pool.crawl([root], handler, job=str(job), **FREE)
    assert (report.inputs, report.found, report.ok, report.failed, report.items) == (1, 4, 3, 2, 3)
    records = [record for record in lines(job) if "item" not in record]
    items = [record["item"]["of"] for record in lines(job) if "item" in record]
    assert sorted(items) == sorted([root, f"{root}a", f"{root}aa"])
    assert sorted((r["url"].removeprefix(root), r["depth"], r["outcome"]) for r in records) == [
        ("", 0, "ok"),
        ("a", 1, "ok"),
        ("aa", 2, "ok"),
        ("ab", 2, "failed"),
        ("b", 1, "failed"),
    ]


def test_what_is_added_from_outside_is_taken_while_the_crawl_goes_on(tmp_path: pathlib.Path) -> None:
    """Another thread may add and emit; when the crawl is over nothing is taken any more."""
    job = tmp_path / "job"
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=2) as pool:
        crawl = pool.new_crawl(job=str(job), **FREE)
        reports: list[Report] = []
        with gate, Threads() as threads:
            threads.start(lambda: reports.append(crawl.run([server.url("/held")])))
            gate.wait_for()
            assert crawl.add(server.url("/?more"))
            assert not crawl.add(server.url("/?more"))
            crawl.emit({"a": 1})
            with pytest.raises(ConfigError, match="must be a mapping that is JSON"):
                crawl.emit({"a": object()})
            until(lambda: crawl.progress().report.ok == 1)
            gate.open()
            threads.join()
        assert not crawl.add(server.url("/?late"))
    assert (reports[0].ok, reports[0].found, reports[0].items) == (2, 1, 1)


def test_other_sinks_are_told_after_the_commit(tmp_path: pathlib.Path) -> None:
    """A sink beside the job's outputs, and ``on_result``, hear of a result when the ledger has it."""
    job = tmp_path / "job"
    held: list[int] = []

    def on_result(result: Result) -> None:
        ledger = Ledger(str(job / "ledger.sqlite3"))
        held.append(ledger.database.execute("SELECT count(*) FROM settled").fetchone()[0])
        ledger.close()

    sink = ListSink()
    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        pool.crawl([server.url("/?1")], job=str(job), sinks=[sink], on_result=on_result, **FREE)
    assert held == [1]
    assert len(sink.results) == 1


def test_a_run_that_was_broken_off_costs_no_record_and_doubles_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails ends the crawl with one error; what was committed stands, all else is fetched again."""
    job = tmp_path / "job"
    commit, fails = Ledger.commit, [False]

    def failing(self: Ledger, batch: Any, *tally: Any) -> None:
        if batch.results and fails[0]:
            raise SinkError("ledger.sqlite3: the ledger can't be written: database or disk is full")
        commit(self, batch, *tally)
        fails[0] = fails[0] or bool(batch.results)

    with SiteServer(page) as server, SessionPool(threads=2) as pool:
        seeds = [server.url(f"/?{n}") for n in range(60)]
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "commit", failing)
            with pytest.raises(SinkError, match="disk is full"):
                pool.crawl(seeds, job=str(job), **FREE)
        report = pool.crawl(seeds, job=str(job), **FREE)
    assert (report.ok, report.inputs, report.pending) == (60, 60, 0)
    assert sorted(record["input"] for record in lines(job)) == sorted(seeds)


def test_no_more_is_begun_than_may_be_lost(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit hangs, no more than twice what may be in flight is asked for: so much is lost by a crash."""
    job = tmp_path / "job"
    commit, hangs, goes_on = Ledger.commit, threading.Event(), threading.Event()

    def hanging(self: Ledger, batch: Any, *tally: Any) -> None:
        if batch.results:
            hangs.set()
            assert goes_on.wait(PATIENCE_S)
        commit(self, batch, *tally)

    with SiteServer(page) as server, SessionPool(threads=2, **in_flight(4)) as pool:
        most = 2 * pool._shared.settings.running_at_most
        monkeypatch.setattr(Ledger, "commit", hanging)
        seeds = [server.url(f"/?{n}") for n in range(200)]
        reports: list[Report] = []
        with Threads() as threads:
            threads.start(lambda: reports.append(pool.crawl(seeds, job=str(job), **FREE)))
            assert hangs.wait(PATIENCE_S)
            until(lambda: server.request_count == most)
            until(lambda: pool._workforce.frontier.idle == pool.statistics().threads)
            assert server.request_count == most
            goes_on.set()
            threads.join()
    assert (reports[0].ok, server.request_count) == (200, 200)


def in_flight(count: int) -> dict[str, Any]:
    """Return the setting that the urllib3 transport doesn't have."""
    import os

    return {"in_flight": count} if os.environ.get("CRAWLPOOL_TRANSPORT") == "curl" else {}


def test_input_that_is_not_the_same_is_refused(tmp_path: pathlib.Path) -> None:
    """Other seeds, or fewer, than were read before: an error that says so, and the job is as it was."""
    job = tmp_path / "job"

    def broken(seeds: list[str]) -> Iterator[str]:
        yield from seeds
        raise RuntimeError("the input broke off")

    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        seeds = [server.url(f"/?{n}") for n in range(10)]
        with pytest.raises(RuntimeError, match="broke off"):
            pool.crawl(broken(seeds), job=str(job), **FREE)
        with pytest.raises(JobError, match="the first 10 entries aren't those that were read before"):
            pool.crawl([*seeds[:9], server.url("/?other"), server.url("/?more")], job=str(job), **FREE)
        with pytest.raises(JobError, match="it has 4 entries, and 10 of it were read before"):
            pool.crawl(seeds[:4], job=str(job), **FREE)
        report = pool.crawl([*seeds, server.url("/?more")], job=str(job), **FREE)
    assert (report.inputs, report.ok) == (11, 11)


def test_files_are_input_like_any_other(tmp_path: pathlib.Path) -> None:
    """Lines of a file keep their ordinals, bad ones their messages and places, over several runs."""
    job, listed = tmp_path / "job", tmp_path / "urls.txt"
    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        listed.write_text(f"# pages\n{server.url('/?1')}\nnonsense\n\n{server.url('/?1')}\n")
        report = pool.crawl(Source([str(listed)]), job=str(job), **FREE)
    assert (report.ok, report.failed, report.skipped) == (1, 1, 1)
    found = {record["n"]: record for record in lines(job)}
    assert found[1]["outcome"] == "ok"
    assert found[2]["error"]["message"] == f"{listed}:3: no scheme (http:// or https://): 'nonsense'"
    assert (found[3]["reason"], found[3]["duplicate_of"]) == ("duplicate", 1)


def test_a_target_comes_back_as_it_was_given(tmp_path: pathlib.Path) -> None:
    """Method, headers, body, params, meta and priority survive the ledger."""
    got: list[Any] = []

    def site(request: Request) -> bytes:
        got.append((request.method, request.path, request.query, request.body, request.headers.get("x-a")))
        return b"x"

    given = {"headers": {"X-A": "b"}, "params": {"q": "1"}, "meta": {"k": ["ü", None]}, "priority": 3}
    with SiteServer(site) as server, SessionPool(threads=1) as pool:
        target = Target(server.url("/post"), "POST", data=b"\x00\xff", **given)  # type: ignore[arg-type]
        pool.crawl([target], job=str(tmp_path / "job"), **FREE)
    assert got == [("POST", "/post", "q=1", b"\x00\xff", "b")]
    assert lines(tmp_path / "job")[0]["meta"] == given["meta"]


def test_credentials_never_reach_the_disk(tmp_path: pathlib.Path) -> None:
    """URLs with a login and targets with an Authorization fail with the reason, and no file has the secret."""
    job = tmp_path / "job"

    def handler(result: Result, crawl: Crawl) -> None:
        for target in (
            f"http://user:canary@{result.target.url[7:]}x",
            Target(result.target.url, headers={"Cookie": "canary"}),
        ):
            with pytest.raises(ConfigError, match="isn't taken into a job"):
                crawl.add(target)

    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        seeds = [
            server.url("/?1"),
            server.url("/?2").replace("//", "//user:canary@"),
            Target(server.url("/?3"), headers={"authorization": "Bearer canary"}),
        ]
        report = pool.crawl(seeds, handler, job=str(job), **FREE)
        assert server.request_count == 1
    assert (report.ok, report.failed) == (1, 2)
    messages = [record["error"]["message"] for record in lines(job) if record["error"]]
    assert all("isn't taken into a job" in message for message in messages)
    assert not [path.name for path in job.iterdir() if b"canary" in path.read_bytes()]


def test_settings_that_may_not_change_are_compared(tmp_path: pathlib.Path) -> None:
    """Outputs, dedupe, the most per host, and what the caller names: another value is refused, told with both."""
    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        path = str(tmp_path / "job")
        pool.crawl([server.url("/")], job=Job(path, fixed={"scope": 1}), **FREE)
        for job, more, told in (
            (Job(path, ("other.jsonl",), fixed={"scope": 1}), {}, 'outputs was ["results.jsonl"], now ["other.jsonl"]'),
            (Job(path, fixed={"scope": 1}), {"dedupe": False}, "dedupe was true, now false"),
            (Job(path, fixed={"scope": 1}), {"max_per_host": 3}, "max_per_host was nothing, now 3"),
            (Job(path, fixed={"scope": 2}), {}, "scope was 1, now 2"),
        ):
            with pytest.raises(JobError) as caught:
                pool.crawl([server.url("/")], job=job, **{**FREE, **more})
            assert str(caught.value).endswith(told)


def test_what_is_no_job_is_refused(tmp_path: pathlib.Path) -> None:
    """A folder with other files, a file, a parent that is missing, one in use: nothing is touched."""
    mine, file = tmp_path / "mine", tmp_path / "file"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    file.write_text("x")
    with SessionPool(threads=1) as pool:
        with pytest.raises(JobError, match=r"mine: has other files \(thesis\.txt\) and is no job"):
            pool.new_crawl(job=str(mine))
        with pytest.raises(JobError, match="file: is a file; a job is a folder"):
            pool.new_crawl(job=str(file))
        with pytest.raises(SinkError, match="its parent folder does not exist"):
            pool.new_crawl(job=str(tmp_path / "a" / "b"))
        crawl = pool.new_crawl(job=str(tmp_path / "job"))
        with pytest.raises(JobError, match="in use by process"):
            pool.new_crawl(job=str(tmp_path / "job"))
        crawl.run([])
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_many_duplicates_and_bad_lines_need_no_worker(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of them beside one page: each has its record, and the input comes in by groups."""
    monkeypatch.setattr(clerks, "MOST_ROWS", 100)
    with SiteServer(page) as server, SessionPool(threads=1) as pool:
        seeds = [server.url("/?1")] + [seed for n in range(300) for seed in (server.url("/?1"), f"bad {n}")]
        report = pool.crawl(seeds, job=str(tmp_path / "job"), **FREE)
    assert (report.ok, report.skipped, report.failed, report.inputs) == (1, 300, 300, 601)
    assert len(lines(tmp_path / "job")) == 601
