"""The commands that read a job: verify, cat, export, explain; what they say, their exit codes, and what they don't."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

from crawlpool import HostLimits, Job, RetryPolicy, SessionPool
from crawlpool.cli import jobs as cli_jobs
from crawlpool.cli.explain_text import lines_of
from crawlpool.cli.export import cell_of
from crawlpool.errors import SinkError
from crawlpool.record import EMPTY
from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import Run, finish, runner, start
from tests.jobs.made import EVERYTHING, FREE, PAGES, body_of, copied, crawl_site, records_of, result_of, url_in

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a job that is complete."""
    folder = tmp_path_factory.mktemp("jobs") / "job"
    crawl_site(folder)
    return folder


@pytest.fixture
def run(capfd: Capture) -> Run:
    """Return what runs a command: its exit code, and what it said on both streams."""
    return runner(capfd)


@pytest.mark.parametrize("command", ["verify", "cat", "export", "explain", "status"])
def test_where_there_is_no_job_the_exit_code_is_3(run: Run, tmp_path: pathlib.Path, command: str) -> None:
    """One line says so, and nothing is made."""
    more = ["http://h.example/"] if command in ("cat", "explain") else []
    for folder, said in (
        (tmp_path, "is no job: it has no ledger.sqlite3"),
        (tmp_path / "none", "there is no such folder"),
    ):
        code, out, err = run(command, folder, *more)
        if command == "status":
            said = "it has no control socket" if folder.exists() else "there is no such job"
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert said in err
    assert list(tmp_path.iterdir()) == []


# verify --------------------------------------------------------------------------------------------------------------


def test_verify_says_that_a_job_is_whole(run: Run, job: pathlib.Path) -> None:
    """One line, and 0; with --json the counts."""
    code, out, err = run("verify", job)
    assert (code, err) == (0, "")
    assert out == (
        f"whole: {PAGES + 7} targets, {PAGES + 7} records, {PAGES + 7} items, {PAGES + 5} responses in WARC files, "
        f"{2 * PAGES + 8} bodies compared\n"
    )
    code, out, _ = run("verify", job, "--json")
    found = json.loads(out)
    assert (code, found["is_whole"], found["flaws"], found["records"]) == (0, True, [], PAGES + 7)


def test_verify_names_what_is_wrong(run: Run, job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The exit code is 3; many flaws are shortened, with --json they aren't."""
    other = copied(job, tmp_path / "job")
    (other / "results.jsonl").write_bytes(b"\x1b" * (other / "results.jsonl").stat().st_size)
    code, out, err = run("verify", other)
    assert (code, err) == (3, "")
    found = json.loads(run("verify", other, "--json")[1])
    assert (found["is_whole"], len(found["flaws"])) == (False, found["flaw_count"])
    first, *flaws = out.splitlines()
    assert first.startswith(f"{found['flaw_count']} flaws: {PAGES + 7} targets, 0 records, ")
    assert flaws[0].startswith("  results.jsonl at 0: the line is no record; the record of target ")
    assert len(flaws) == found["flaw_count"] <= 20
    assert "\x1b" not in out


# cat -----------------------------------------------------------------------------------------------------------------


def test_cat_writes_the_bytes(run: Run, job: pathlib.Path) -> None:
    """Of the body as it was decoded, and nothing else; with --headers of the header as it came."""
    for path in ("/1", "/packed"):
        assert run("cat", job, url_in(job, path)) == (0, body_of(path).decode(), "")
    code, out, _ = run("cat", job, url_in(job, "/1"), "--headers")
    assert (code, out.startswith("HTTP/1.1 200 "), out.endswith("\r\n\r\n"), "X-Many: 1\r\n" in out) == (
        0,
        True,
        True,
        True,
    )


def test_cat_of_what_is_not_there(run: Run, job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """3 for a URL that the job doesn't have, or without a body; no login shows."""
    code, out, err = run("cat", job, "http://user:s3cr3t@h.example/\x1b[31m")
    assert (code, out) == (3, "")
    assert err.startswith("crawlpool: http://***@h.example/\\x1b[31m: the job ")
    assert "has no such URL" in err
    code, _, err = run("cat", job, url_in(job, "/secret/x"))
    assert (code, "there was no answer, and so there is no body" in err) == (3, True)
    assert run("cat", job, url_in(job, "/secret/x"), "--headers")[0] == 3
    plain = tmp_path / "plain"
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        pool.crawl([server.url("/")], job=Job(str(plain), record_headers=["content-length"]), **FREE)
        code, _, err = run("cat", plain, server.url("/"))
        assert (code, "its body wasn't kept" in err) == (3, True)
        assert run("cat", plain, server.url("/"), "--headers") == (0, "content-length: 1\r\n", "")


def test_cat_of_what_waits_is_work_left(run: Run, tmp_path: pathlib.Path) -> None:
    """The exit code is 7."""
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        crawl = pool.new_crawl(job=str(tmp_path / "job"), **FREE)
        crawl.hold("127.0.0.1")
        assert crawl.run([server.url("/")]).pending == 1
        code, out, err = run("cat", tmp_path / "job", server.url("/"))
    assert (code, out, err.endswith(": it isn't done yet; it waits in the job\n")) == (7, "", True)


def test_nothing_that_a_terminal_obeys_is_written_to_one(
    run: Run, job: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """A body with control characters is refused there, and written anywhere else."""
    hostile = tmp_path / "hostile"
    with SiteServer({"/": b"\x1b]0;owned\x07", "/plain": "grün\n".encode()}) as server, SessionPool() as pool:
        urls = [server.url("/"), server.url("/plain")]
        pool.crawl(urls, job=Job(str(hostile), outputs=EVERYTHING), **FREE)
    assert run("cat", hostile, urls[0])[1] == "\x1b]0;owned\x07"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, err = run("cat", hostile, urls[0])
    assert (code, out, "control characters, which a terminal would obey" in err) == (3, "", True)
    assert run("cat", hostile, urls[1])[:2] == (0, "grün\n")


def test_a_pipe_that_is_closed_is_no_traceback(job: pathlib.Path) -> None:
    """Nobody reads any more: one line, and 3."""
    process = start(["export", str(job)])
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    code, _, err = finish(process)
    assert (code, err) == (3, "crawlpool: stdout: Broken pipe\n")


# export --------------------------------------------------------------------------------------------------------------


def test_export_gives_the_lines_of_the_job(run: Run, job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Byte for byte, without items, in the order of the input, to standard output or a file of mode 0600."""
    lines = {line for line in (job / "results.jsonl").read_bytes().splitlines() if b'"item":' not in line[:32]}
    code, out, err = run("export", job)
    assert (code, err, set(out.encode().splitlines()), out.count("\n")) == (0, "", lines, len(lines))
    assert run("export", job, "-o", tmp_path / "x.jsonl") == (0, "", "")
    assert (tmp_path / "x.jsonl").read_text("utf-8") == out
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_export_of_some(run: Run, job: pathlib.Path) -> None:
    """By outcome and host."""
    assert run("export", job, "--outcome", "failed")[1].count("\n") == 1
    assert run("export", job, "--host", "127.0.0.1", "--outcome", "ok")[1].count("\n") == PAGES + 3
    assert run("export", job, "--host", "h.example") == (0, "", "")


def test_export_as_a_table(run: Run, job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A column for each key, two for an error; what was null is empty."""
    assert run("export", job, "-o", tmp_path / "x.csv")[0] == 0
    head, *rows = csv.reader(io.StringIO((tmp_path / "x.csv").read_text("utf-8")))
    assert len(rows) == PAGES + 7
    assert {name.partition(".")[0] for name in head} == set(EMPTY)
    assert all(len(row) == len(head) for row in rows)
    by_url = {record["url"]: record for record in records_of(job)}
    for row in rows:
        fields = dict(zip(head, row, strict=True))
        record = by_url[fields["url"]]
        assert fields["status"] == ("" if record["status"] is None else str(record["status"]))
        assert fields["error.kind"] == (record["error"]["kind"] if record["error"] else "")
        assert json.loads(fields["body"] or "[]") == record["body"]


WIDE = "\uff1d \uff0b \uff0d \uff20".split()  # as wide as a Chinese character


@pytest.mark.parametrize("start", [*"=+-@", "\t=", "\r", "\n", *WIDE, "  =", "=cmd|' /C calc'!A0"])
def test_no_cell_is_a_formula(start: str) -> None:
    """What a spreadsheet would run is text to it, whoever wrote it: a server's header, an input line."""
    assert cell_of(f"{start}1").startswith("'")
    line = next(csv.reader(io.StringIO(_csv_of(f"{start}1"))))
    assert line == [cell_of(f"{start}1")]


def _csv_of(text: str) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([cell_of(text)])
    return out.getvalue()


def test_cells_that_are_no_text_stay_what_they_are() -> None:
    """Numbers, the negative ones too, have no apostrophe; lists and objects are JSON."""
    cells = [cell_of(value) for value in (-3, 1.5, True, None, [], {"=a": "=b"}, ["=1"], "plain", "a\0b")]
    assert cells == ["-3", "1.5", "true", "", "", '{"=a": "=b"}', '["=1"]', "plain", "a\\0b"]


def test_export_replaces_nothing_by_halves(run: Run, job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A file that is there stays until the new one is whole; files of the job itself are never replaced."""
    damaged = copied(job, tmp_path / "job")
    data = bytearray((damaged / "results.jsonl").read_bytes())
    data[-300:-290] = b"x" * 10
    (damaged / "results.jsonl").write_bytes(data)
    (tmp_path / "x.jsonl").write_text("before")
    code, _, err = run("export", damaged, "-o", tmp_path / "x.jsonl")
    assert (code, "should stand there, and doesn't" in err or "item" in err) in ((3, True), (0, False))
    if code:
        assert (tmp_path / "x.jsonl").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "x.jsonl"]
    for path in (damaged / "results.jsonl", tmp_path / "job" / ".." / "job" / "results.jsonl"):
        code, _, err = run("export", damaged, "-o", path)
        assert (code, "files of a job aren't replaced" in err) == (2, True)
    code, _, err = run("export", job, "-o", tmp_path / "no" / "x.csv")
    assert (code, err.endswith("x.csv: its folder does not exist\n")) == (3, True)
    code, _, err = run("export", job, "-o", "x.txt")
    assert (code, "paths that end in .jsonl or .csv work" in err) == (2, True)


def test_a_new_file_that_fails_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """Whatever went wrong, the half file is gone, and the error names the file."""
    with pytest.raises(SinkError, match="x: No space left on device"), cli_jobs.new_file(str(tmp_path / "x")):
        raise OSError(28, os.strerror(28))
    with pytest.raises(KeyboardInterrupt), cli_jobs.new_file(str(tmp_path / "x")):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


# explain -------------------------------------------------------------------------------------------------------------


def test_explain_tells_each_request_wait_and_decision(run: Run, tmp_path: pathlib.Path) -> None:
    """A refusal, its pause, the retry, the redirect, robots.txt with its lines, and what came of it."""
    asked: list[str] = []

    def answer(request: Request) -> Answer:
        asked.append(request.path)
        if request.path == "/robots.txt":
            return Answer(
                200, {}, b"User-agent: other\nDisallow: /\n\nUser-agent: *\nDisallow: /no\nAllow: /a # ours\n"
            )
        if request.path == "/a" and asked.count("/a") == 1:
            return Answer(503, {"Retry-After": "0.2"}, b"")
        return Answer(302, {"Location": "/b"}, b"") if request.path == "/a" else Answer(200, {}, b"there")

    job = tmp_path / "job"
    retry = RetryPolicy(attempts=3, backoff_s=0.01, budget=None)
    with SiteServer(answer) as server, SessionPool(retry=retry) as pool:
        url, forbidden = server.url("/a"), server.url("/no/\x1b[2J")
        seeds = [url, forbidden]
        pool.crawl(seeds, job=Job(str(job), outputs=EVERYTHING), limits=HostLimits(delay_s=0.02))
        origin = server.url("").rstrip("/")
    code, out, err = run("explain", job, url)
    assert (code, err) == (0, "")
    told = out.splitlines()
    assert told[0] == f"{url}: ok, 200 after 3 requests (run 1)"
    assert told[1] == "  it is entry 1 of the input"
    assert told[2].startswith(
        f"  robots.txt of {origin}: allowed by line 6 (Allow: /a # ours), for line 4 (User-agent: *), asked for at "
    )
    steps = [line for line in told if "): " in line and " in " in line and "  20" in line]
    assert f"  asked for {url} (127.0.0.1): 503, which asks to be left alone" in steps[0]
    assert f"  tried again {url} (127.0.0.1): 302 in " in steps[1]
    assert f"  redirected to {origin}/b (127.0.0.1): 200 in " in steps[2]
    assert any("its host, which rested after a refusal" in line or "its back-off" in line for line in told)
    assert any(
        line.startswith("    waited 0.0") and "its host's turn, one at a time and 0.020 s after" in line
        for line in told
    )
    assert any(line.startswith("  body: 5 bytes") for line in told)
    assert any(line.startswith("  kept in pages.warc.gz at ") for line in told)
    assert told[-1].startswith("  its record stands in results.jsonl at ")
    found = json.loads(run("explain", job, url, "--json")[1])
    assert [leg["kind"] for leg in found["legs"]] == ["first", "retry", "redirect"]
    for leg in found["legs"]:
        assert sum(wait["for_s"] for wait in leg["waits"]) == pytest.approx(leg["waited_s"], abs=0.002)
    assert (found["state"], found["record"]["outcome"], found["waiting"]) == ("settled", "ok", None)
    _, out, _ = run("explain", job, forbidden)
    assert ": disallowed, nothing was sent (run 1)\n" in out
    assert "disallowed by line 5 (Disallow: /no), for line 4 (User-agent: *)" in out
    assert "  robots: its host's robots.txt forbids it\n" in out
    assert "\x1b" not in out


def test_explain_of_what_waits(run: Run, tmp_path: pathlib.Path) -> None:
    """It says for what, and that nobody runs the job."""
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        crawl = pool.new_crawl(job=str(tmp_path / "job"), **FREE)
        crawl.hold("127.0.0.1")
        urls = [server.url(f"/?{n}") for n in range(3)]
        crawl.run(urls)
        code, out, _ = run("explain", tmp_path / "job", urls[2])
        assert code == 0
        assert f"{urls[2]}: not done yet\n" in out
        assert "  an operator holds its host 127.0.0.1: crawlpool host JOB 127.0.0.1 --release lets it go on\n" in out
        assert "  2 of its host go before it\n  nobody runs the job: it waits for the next run\n" in out
        assert run("explain", tmp_path / "job", server.url("/other"))[0] == 3


RECORD: dict[str, Any] = {**result_of("http://h.example/").record, "run": 3}
TARGET = {
    "url": "http://h.example/",
    "method": "GET",
    "n": None,
    "ordinal": None,
    "parent": None,
    "depth": 0,
    "crashes": 0,
    "host": "h.example",
}
PLACE = {"file": "results.jsonl", "offset": 7, "length": 9}
LEG = {
    "kind": "first", "url": "http://h.example/", "started_at": "2026-01-01T00:00:00.000Z", "waited_s": 0, "waits": [],
    "took_s": 0.5, "how": "answered", "status": None, "error": None, "retry_after_s": None, "ip": None, "proxy": None,
    "delay_s": None, "per_host": None, "first_byte_s": None,
}  # fmt: skip
WAITING = {"before": 0, "is_running": True, "host_rests_s": 0.0, "is_host_blocked": False, "orders": None}
ROBOTS = {"origin": "http://h.example", "verdict": None, "how": None, "lines": []}


def _told(record: Mapping[str, Any] | None = None, **more: Any) -> str:
    found = {"target": TARGET, "legs": [], "robots": None, "waiting": None, "place": PLACE}
    return "\n".join(lines_of({**found, "record": record, **more}))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (_told({**RECORD, "duplicate_of": 4, "reason": "duplicate"}), "it asks for the same as entry 4 of the input"),
        (_told({**RECORD, "reason": "crashes"}), "the process ended again and again while it was in flight"),
        (_told({**RECORD, "reason": "news"}), "news: that is why it ended so"),
        (_told({**RECORD, "blocked": True}), "the answer says that the host doesn't want us"),
        (_told({**RECORD, "error": {"kind": "dns", "message": "n\x1bo"}}), "it failed by dns: n\\x1bo"),
        (
            _told(RECORD, target={**TARGET, "parent": "http://p/", "depth": 2}),
            "found in http://p/, 2 links from the input",
        ),
        (_told(RECORD, target={**TARGET, "method": "POST"}), "POST http://h.example/: ok"),
        (
            _told({**RECORD, "input": "H.example"}, target={**TARGET, "n": 3}),
            "entry 3 of the input, given as H.example",
        ),
        (_told(RECORD, robots={**ROBOTS, "verdict": "ignored"}), "wasn't asked, on purpose"),
        (
            _told(RECORD, robots={**ROBOTS, "how": "none", "run": 1, "at": "T"}),
            "there was none, so everything is allowed",
        ),
        (
            _told(RECORD, legs=[{**LEG, "kind": "again", "proxy": "http://p:1"}]),
            "as our own network or a proxy had failed",
        ),
        (_told(RECORD, legs=[LEG]), "http://h.example/: no answer in 0.500 s"),
        (_told(RECORD, legs=[{**LEG, "error": {"kind": "dns", "message": "no"}}]), ": dns: no in 0.500 s"),
        (
            _told(RECORD, legs=[{**LEG, "how": "refused", "status": 429, "retry_after_s": 30.0}]),
            "left alone for 30.0 s",
        ),
        (_told(RECORD, legs=[{**LEG, "per_host": 2, "waits": [{"why": "turn", "for_s": 1.0}]}]), "turn, 2 at once"),
        (_told(RECORD, legs=[{**LEG, "waits": [{"why": "turn", "for_s": 1.0}]}]), "waited 1.000 s for its turn"),
        (_told(waiting={**WAITING, "orders": {"order": "skip", "delay_s": 3.0}}), "has a delay of its own: 3 s"),
        (_told(waiting={**WAITING, "is_host_blocked": True}), "doesn't want us and is left alone"),
        (_told(waiting={**WAITING, "host_rests_s": 12.0}), "rests after a refusal, for 12.0 s from now"),
        (_told(waiting=WAITING, target={**TARGET, "crashes": 1, "host": "h"}), "in flight once when the process ended"),
    ],
)
def test_explain_has_words_for_everything(told: str, said: str) -> None:
    """Each reason, wait and state is said in words, and nothing in them moves a cursor."""
    assert said in told
    assert told.replace("\n", "").isprintable()
