"""``status``, ``host`` and ``audit`` on a job: one that runs, one that doesn't, one whose process was killed."""

from __future__ import annotations

import json
import pathlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from crawlpool import HostLimits, Job, SessionPool
from crawlpool.audit import Judge, RecordedLeg
from crawlpool.cli import main, status
from crawlpool.cli.job_status import lines_of_job
from crawlpool.jobs.judging import JobLegs
from crawlpool.jobs.reading import JobReader
from crawlpool.ledger.lock import JobLock, holder_of
from crawlpool.testing import Answer, SiteServer, loopback_hosts
from tests.cli.command import Run, runner
from tests.gates import Gate, Threads, until
from tests.jobs.made import FREE, copied, page

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(capfd: Capture) -> Run:
    """Return what runs a command: its exit code, and what it said on both streams."""
    return runner(capfd)


def left_over(folder: pathlib.Path, hosts: tuple[str, ...] = ("127.0.0.1",), count: int = 3) -> list[str]:
    """Make a job of which some URLs of each host wait, and one is done; return its URLs."""
    with Gate() as gate, SiteServer({"/": page, "/held": gate}, hosts=hosts) as server, SessionPool(threads=1) as pool:
        seeds = [server.url("/held"), *(server.url(f"/?{n}", host) for host in hosts for n in range(count))]
        crawl = pool.new_crawl(job=str(folder), **FREE)
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run(seeds))
            gate.wait_for()
            until(lambda: crawl.progress().report.inputs == len(seeds))  # all are in the ledger
            crawl.drain()
            gate.open()
    return seeds


def test_status_of_a_job_that_is_complete(run: Run, tmp_path: pathlib.Path) -> None:
    """Its books, its failures, its run, and that nothing is to be done; it needs no run."""
    with SiteServer({"/": page, "/no": Answer(404)}) as server, SessionPool() as pool:
        pool.crawl([server.url("/"), server.url("/no")], job=str(tmp_path / "job"), **FREE)
    code, out, err = run("status", tmp_path / "job")
    assert (code, err) == (0, "")
    told = out.splitlines()
    assert told[0] == "complete: 2 of 2 URLs done: 1 ok, 1 http_error, 0 failed, 0 disallowed, 0 skipped"
    assert told[1] == "failures: 1 404"
    assert told[2].startswith("run 1 of 1: from 20")
    assert told[2].endswith("Z, complete")
    assert told[3].startswith("all runs together took ")
    assert len(told) == 4
    assert run("status", tmp_path / "job", "--watch")[1] == out  # nothing will change
    found = json.loads(run("status", tmp_path / "job", "--json")[1])
    assert (found["state"], found["pending"], found["statuses"], found["next"]) == ("complete", 0, {"404": 1}, None)


def test_status_says_what_to_do_next(run: Run, tmp_path: pathlib.Path) -> None:
    """Where a command has made the job, how to go on with it; else that the same crawl does."""
    left_over(tmp_path / "job")
    code, out, _ = run("status", tmp_path / "job")
    assert code == 0
    assert out.startswith("interrupted: 1 of 4 URLs done: 1 ok,")
    assert "3 wait for the next run\n" in out
    assert out.endswith("next: begin the same crawl with this job again: it goes on where it was\n")
    (tmp_path / "job" / "job.toml").write_text("")
    assert run("status", tmp_path / "job")[1].endswith(f"next: crawlpool resume {tmp_path / 'job'}\n")


def test_status_of_a_job_whose_process_was_killed(run: Run, tmp_path: pathlib.Path) -> None:
    """It isn't taken for one that runs, whoever has the number of its process now."""
    with Gate() as gate, SiteServer({"/held": gate}) as server, SessionPool(threads=1) as pool:
        crawl = pool.new_crawl(job=str(tmp_path / "job"), **FREE)
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run([server.url("/held")]))
            gate.wait_for()
            found = json.loads(run("status", tmp_path / "job", "--json")[1])
            killed = copied(tmp_path / "job", tmp_path / "killed")  # its lock names this very process, and isn't held
            gate.open()
    assert (found["state"], found["next"], found["runs"][0]["ending"]) == ("running", None, None)
    _, out, _ = run("status", killed)
    assert out.startswith("broken off: the process ended without a word; nothing of what is done is lost: 0 ")
    assert "run 1 of 1: from 20" in out
    assert "and no end of it is known" in out


def test_watching_a_job_goes_on_until_its_run_ends(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again and again, from its ledger where nobody answers, and at last how it ended."""
    looks, told = threading.Semaphore(0), list[str]()

    def take(lines: Iterable[str]) -> None:
        told.extend(lines)
        looks.release()

    monkeypatch.setattr(status, "EVERY_S", 0.001)
    monkeypatch.setattr(status, "write_answer", take)
    with Gate() as gate, SiteServer({"/held": gate}) as server, SessionPool(threads=1) as pool:
        crawl = pool.new_crawl(job=str(tmp_path / "job"), **FREE)
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run([server.url("/held")]))
            gate.wait_for()
            threads.start(lambda: main(["status", str(tmp_path / "job"), "--watch", "--json"]))
            assert looks.acquire(timeout=30)
            assert looks.acquire(timeout=30)
            gate.open()
    states = [json.loads(line)["state"] for line in told if line]
    assert states[:2] == ["running", "running"]
    assert set(states[:-1]) == {"running"}
    assert states[-1] == "complete"


def test_who_has_a_job(tmp_path: pathlib.Path) -> None:
    """As its lock says; nobody where there is none, or the process is gone."""
    assert holder_of(str(tmp_path)) is None
    with JobLock(str(tmp_path)):
        who = holder_of(str(tmp_path))
        assert who is not None
        assert " on " in who
    assert holder_of(str(tmp_path)) is None
    (tmp_path / "lock").write_text(f"{2**22 + 1} on {who.partition(' on ')[2]}\n")
    assert holder_of(str(tmp_path)) is None


# host ----------------------------------------------------------------------------------------------------------------


def test_what_is_said_of_a_host_holds_for_the_next_run(run: Run, tmp_path: pathlib.Path) -> None:
    """A hold, a skip, a delay: the job doesn't run, and the run that follows heeds it."""
    first, second, third = hosts = loopback_hosts(3)
    job = tmp_path / "job"
    seeds = left_over(job, hosts)
    code, out, err = run("host", job, second, "--hold")
    assert (code, err) == (0, "")
    assert out == f"{second}: held; 3 URLs wait for it. The job doesn't run; the next run heeds it\n"
    assert run("host", job, third.upper(), "--skip")[0] == 0
    assert run("host", job, first, "--delay", "0.001")[1].startswith(
        f"{first}: one request at a time, the next 0.001 s after"
    )
    found = json.loads(run("status", job, "--json")[1])
    assert found["held"] == [{"host": second, "by": "operator", "waiting": 3}]
    assert (found["skipped_hosts"], found["delays"]) == ([third], [{"host": first, "delay_s": 0.001}])
    port = seeds[0].split(":")[2].split("/")[0]
    with SiteServer(page, hosts=hosts, port=int(port)), SessionPool() as pool:
        report = pool.crawl(seeds, job=str(job), **FREE)
        assert (report.ok, report.skipped, report.pending) == (4, 3, 3)
        assert run("host", job, second, "--release")[1].startswith(f"{second}: released; 3 URLs wait for it. ")
        assert pool.crawl(seeds, job=str(job), **FREE).ok == 7


def test_release_ends_pauses_and_blocks(run: Run, tmp_path: pathlib.Path) -> None:
    """Of a host that rests after a refusal, or doesn't want us: what a run has left, not an operator."""
    left_over(tmp_path / "job")
    with sqlite3.connect(tmp_path / "job" / "ledger.sqlite3") as database:
        row = ("127.0.0.1", time.time() + 1000, 1)
        database.execute("INSERT OR REPLACE INTO host_state (name, cooled_until, is_blocked) VALUES (?, ?, ?)", row)
    database.close()
    _, out, _ = run("status", tmp_path / "job")
    assert "hosts held, as they don't want us: 127.0.0.1\n" in out
    assert "hosts resting longest: 127.0.0.1 16 min" in out
    assert run("host", tmp_path / "job", "127.0.0.1", "--release")[0] == 0
    assert "hosts" not in run("status", tmp_path / "job")[1]


def test_what_cannot_be_said_of_a_host(run: Run, tmp_path: pathlib.Path) -> None:
    """No host's name is a usage error; a job that a run has, without a socket, is in use; and a broken word is told."""
    left_over(tmp_path / "job")
    assert run("host", tmp_path / "job", "http://h/", "--hold")[0] == 2
    with JobLock(str(tmp_path / "job")):
        code, _, err = run("host", tmp_path / "job", "h.example", "--hold")
    assert (code, "the job is in use by process " in err) == (3, True)
    assert run("host", tmp_path / "job", "h.example", "--hold")[1].startswith(
        "h.example: held; 0 URLs wait for it (the run"
    )
    with sqlite3.connect(tmp_path / "job" / "ledger.sqlite3") as database:
        database.execute("UPDATE host_state SET orders = '{}'")
    database.close()
    code, _, err = run("host", tmp_path / "job", "h.example", "--release")
    assert (code, "what was said of h.example can't be read" in err) == (3, True)
    code, _, err = run("status", tmp_path / "job")
    assert (code, "what was said of a host can't be read" in err) == (3, True)


def test_a_ledger_whose_tables_cannot_be_read_is_no_traceback(run: Run, tmp_path: pathlib.Path) -> None:
    """Neither to who reads it nor to who writes it: one line, and 3."""
    left_over(tmp_path / "job")
    ledger = tmp_path / "job" / "ledger.sqlite3"
    ledger.write_bytes(ledger.read_bytes().replace(b"CREATE TABLE job", b"CREATE TABLE \xee\xee\xee", 1))
    for command in (["status"], ["host", "127.0.0.1", "--hold"], ["verify"], ["audit"], ["export"]):
        code, _, err = run(command[0], tmp_path / "job", *command[1:])
        assert (code, err.count("\n"), "ledger.sqlite3: " in err) == (3, 1, True)


# audit ---------------------------------------------------------------------------------------------------------------


def limited(job: pathlib.Path, server: SiteServer, paths: list[str], delay_s: float = 0.02) -> None:
    """Crawl some pages into a job, with a delay."""
    with SessionPool(retry=False) as pool:
        pool.crawl([server.url(path) for path in paths], job=Job(str(job)), limits=HostLimits(delay_s=delay_s))


def test_audit_proves_that_a_job_was_polite(run: Run, tmp_path: pathlib.Path) -> None:
    """From the requests that its ledger has, robots.txt among them; one host's are listed."""
    with SiteServer({"/": b"x", "/robots.txt": Answer(404)}) as server:
        limited(tmp_path / "job", server, [f"/?{n}" for n in range(5)])
    code, out, err = run("audit", tmp_path / "job")
    assert (code, err) == (0, "")
    assert out.startswith("no breach: 6 requests, 1 host; none was asked faster, or more at once, than allowed\n")
    assert "delay     5 starts with a delay; the tightest by 0.0" in out
    code, out, _ = run("audit", tmp_path / "job", "--host", "127.0.0.1", "--evidence")
    assert (code, out.count("/?"), out.count("/robots.txt")) == (0, 5, 1)
    code, out, _ = run("audit", tmp_path / "job", "--delay", "5")
    assert (code, out.startswith("5 breaches: 6 requests")) == (4, True)
    code, _, err = run("audit", tmp_path / "job", "--host", "other.example")
    assert (code, "no request to 'other.example' is recorded, of 6 to other hosts" in err) == (3, True)


def change_runs(job: pathlib.Path, *statements: str) -> None:
    """Change what a ledger says of its runs."""
    with sqlite3.connect(job / "ledger.sqlite3") as database:
        for statement in statements:
            assert database.execute(statement).rowcount == 1
    database.close()


class Taken(Judge):
    """Takes legs, and judges none."""

    def __init__(self) -> None:
        super().__init__()
        self.legs: list[RecordedLeg] = []

    def add(self, leg: RecordedLeg) -> None:
        """Take one."""
        self.legs.append(leg)


def legs_of(job: pathlib.Path) -> list[RecordedLeg]:
    """Return the requests of a job, by the wall clock."""
    taken = Taken()
    with JobReader(job) as reader:
        JobLegs(taken).read(reader, "")
    return sorted(taken.legs, key=lambda leg: leg.start_s)


def test_audit_judges_the_runs_of_a_job_as_one(run: Run, tmp_path: pathlib.Path) -> None:
    """A host waits a full delay after a restart, too; where it did not, that is a breach."""
    first = tmp_path / "job"
    answers: dict[str, Any] = {"/": b"x", "/fails": Answer(500), "/robots.txt": Answer(404)}
    with SiteServer(answers) as server:
        limited(first, server, ["/fails", "/"], delay_s=0.1)
        with SessionPool(retry=False) as pool:
            seeds = [server.url("/fails"), server.url("/")]
            pool.crawl(seeds, job=Job(str(first), retry=["500"]), limits=HostLimits(delay_s=0.1))
    assert run("audit", first)[1].startswith("no breach: 3 requests, 1 host; ")
    # The other process's monotonic clock began elsewhere; nothing else has changed.
    second = copied(first, tmp_path / "second")
    change_runs(second, "UPDATE run SET began_at = began_at + 0.0001 WHERE n = 2")
    assert run("audit", second)[0] == 0
    # Half a delay from the last request of the first run to the first of the second, however long either run took.
    legs = legs_of(first)
    hasty = copied(first, tmp_path / "hasty")
    change_runs(
        hasty,
        f"UPDATE run SET ended_at = {legs[0].end_s!r} WHERE n = 1",
        f"UPDATE run SET monotonic_s = monotonic_s + ({legs[1].start_s!r} - began_at) - 0.05, "
        f"began_at = {legs[0].end_s!r} WHERE n = 2",
    )
    code, out, _ = run("audit", hasty)
    assert (code, out.startswith("1 breach: 3 requests, 1 host\n")) == (4, True)
    assert "did not wait for the delay of 0.1 s after the end of" in out
    # The wall clock was set back between them: then only what lies within a run can be judged.
    back = copied(hasty, tmp_path / "back")
    change_runs(back, "UPDATE run SET began_at = began_at - 1000 WHERE n = 2")
    assert run("audit", back)[1].startswith("no breach: 3 requests, 1 host, 2 runs; ")
    broken = copied(first, tmp_path / "broken")
    change_runs(broken, "UPDATE run SET ended_at = NULL WHERE n = 1")
    assert run("audit", broken)[0] == 0


def test_audit_of_a_job_without_requests(run: Run, tmp_path: pathlib.Path) -> None:
    """It says so; legs that make no sense are counted as broken."""
    with SessionPool() as pool:
        pool.crawl(["no URL"], job=str(tmp_path / "job"), **FREE)
    code, _, err = run("audit", tmp_path / "job")
    assert (code, "no request is recorded in it so far" in err) == (3, True)
    legs = json.dumps([["first", 1.0, None, 5.0, 2.0, "answered"]])
    change_runs(tmp_path / "job", f"UPDATE settled SET info = json_set(info, '$[8]', json('{legs}'))")
    code, _, err = run("audit", tmp_path / "job")
    assert (code, "no request is recorded in it so far (1 broken)" in err) == (3, True)
    shutil.rmtree(tmp_path / "job")


def test_status_text_of_each_state() -> None:
    """A job that was never begun, or waits for input, says so; a cause that a server named moves no cursor."""
    found: dict[str, Any] = {
        "state": "new", "elapsed_s": 0.0, "ok": 0, "http_error": 0, "failed": 1, "disallowed": 0, "skipped": 0,
        "pending": 3, "is_input_done": False, "total": None, "items": 2, "kinds": {"x\x1b": 1}, "statuses": {},
        "held": [], "skipped_hosts": [], "delays": [], "resting": [], "runs": [], "next": None,
    }  # fmt: skip
    told = "\n".join(lines_of_job(found))
    assert "nothing was begun: 1 URLs done: " in told
    assert "3 wait for the next run; the input isn't read to its end\n2 items\nfailures: 1 x\\x1b\n" in told
    run = {"n": 1, "began_at": "T", "ended_at": None, "ending": None}
    assert "run 1 of 1: from T and goes on\n" in "\n".join(lines_of_job({**found, "state": "running", "runs": [run]}))
