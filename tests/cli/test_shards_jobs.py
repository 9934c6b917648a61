"""The commands that read jobs, given one of many shards, or several: what they say, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import shutil
from typing import Any

import pytest

from crawlpool import Job, SessionPool, open_job
from crawlpool.cli import shards_status
from crawlpool.engines import notes
from crawlpool.engines.notes import RunnerNote, Word
from crawlpool.shards import layout
from crawlpool.shards.owner import Owner
from tests.cli.command import Run, runner
from tests.shards.told import Told, few_seeds
from tests.shards.web import OPTIONS, Web, alike, follow, new_pool

Capture = pytest.CaptureFixture[str]


class Made:
    """A job of many shards, the same input as a job without, and one of which much is left."""

    def __init__(self, folder: pathlib.Path) -> None:
        with Web(4) as web, new_pool(web) as pool:
            self.seeds = few_seeds(web)
            self.hop = web.url(1, "/hop/1/302?1")
            self.fleet = Told(folder / "many", 6)
            self.fleet.feed(self.seeds)
            self.fleet.run(pool, **OPTIONS)
            self.many = self.fleet.root
            self.one = str(folder / "one")
            pool.crawl(self.seeds, follow, job=Job(self.one, outputs=self.fleet.manifest.outputs), **OPTIONS)
            self.begun = Told(folder / "begun", 6)
            self.begun.feed(self.seeds)
            self.begun.step(web)
            self.begun.step(web)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return the three jobs."""
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(capfd: Capture) -> Run:
    """Return what runs a command: its exit code, and what it said on both streams."""
    return runner(capfd)


# export, cat, explain ------------------------------------------------------------------------------------------------


def test_export_writes_the_records_of_all_shards(run: Run, made: Made, tmp_path: pathlib.Path) -> None:
    """The same as of a job without shards, but that bodies are told by their paths in the whole job."""
    code, out, err = run("export", made.many)
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert alike(records) == alike(json.loads(line) for line in run("export", made.one)[1].splitlines())
    places = [place["file"] for record in records for place in record["body"]]
    assert len(set(places)) > 2
    assert all(os.path.exists(os.path.join(made.many, file)) for file in places)
    assert run("export", made.many, "-o", tmp_path / "x.csv")[0] == 0
    head, *rows = csv.reader(io.StringIO((tmp_path / "x.csv").read_text("utf-8")))
    assert len(rows) == len(records)
    assert {place["file"] for row in rows for place in json.loads(row[head.index("body")] or "[]")} == set(places)
    code, _, err = run("export", made.many, "-o", made.fleet.folder(made.fleet.there()[0]) + "/results.jsonl")
    assert (code, "files of a job aren't replaced" in err) == (2, True)


def test_several_jobs_are_exported_as_one(run: Run, made: Made) -> None:
    """One after the other, where they aren't parts of one; the same folder twice is refused."""
    lines = run("export", made.one, "--outcome", "ok")[1]
    assert run("export", made.one, made.many, "--outcome", "ok")[1].startswith(lines)
    code, out, err = run("export", made.many, made.one, made.many)
    assert (code, out, "the same job was given before" in err) == (3, "", True)
    code, out, err = run("export", made.one, "/no/such/job")
    assert (code, out, "there is no such folder" in err) == (3, "", True)


def test_cat_follows_a_target_from_shard_to_shard(run: Run, made: Made) -> None:
    """The body lies where its redirects have led; the first of several jobs that has it counts."""
    for jobs in ([made.many], [made.many, made.one], [made.begun.root, made.many]):
        code, out, err = run("cat", *jobs, made.hop)
        assert (code, err) == (0, "")
        assert out == run("cat", made.one, made.hop)[1]
    assert run("cat", made.many, made.hop, "--headers")[1].startswith("HTTP/1.1 200 ")
    code, _, err = run("cat", made.many, made.one, "http://no.example/")
    assert code == 3
    assert f"the jobs {made.many} and {made.one} have no such URL" in err


def test_explain_tells_the_requests_of_all_shards(run: Run, made: Made) -> None:
    """Those of the job without shards, in that order; with the shards that it came through."""
    several = 0
    for seed in made.seeds:
        if not isinstance(seed, str) or not seed.startswith("http://1"):
            continue
        mine = json.loads(run("explain", made.many, seed, "--json")[1])
        theirs = json.loads(run("explain", made.one, seed, "--json")[1])
        assert [(leg["url"], leg["status"]) for leg in mine["legs"]] == [
            (leg["url"], leg["status"]) for leg in theirs["legs"]
        ]
        for key in ("n", "ordinal", "url", "method", "host", "depth"):
            assert mine["target"][key] == theirs["target"][key]
        assert mine["state"] == theirs["state"] == "settled"
        mine, theirs = ({**one, "robots": one["robots"] or {}} for one in (mine, theirs))
        for key in ("origin", "verdict", "lines", "how"):
            assert mine["robots"].get(key) == theirs["robots"].get(key)
        assert os.path.exists(os.path.join(made.many, mine["place"]["file"]))
        several += len(mine["shards"]) > 1
    assert several > 1
    text = run("explain", made.many, made.hop)[1]
    assert "its redirects led it from shard to shard: " in text
    assert "its record stands in shards/" in text


def test_explain_names_files_that_are_there(run: Run, made: Made) -> None:
    """A body's file is told as its record's is: below the job's folder, and not only below its shard's."""
    with open_job(made.many) as jobs:
        record = next(record for record in jobs.records() if record["body"])
    told = run("explain", made.many, record["url"])[1]
    files = [line.split(" in ")[1].split(" at ")[0] for line in told.splitlines() if line.startswith("  kept in ")]
    assert len(files) == len(record["body"])
    assert all(os.path.isfile(os.path.join(made.many, file)) for file in files)


def test_explain_of_what_is_on_its_way(run: Run, made: Made) -> None:
    """It is neither done nor does it wait; what was sent for it is told. What waits in a shard does so."""
    with open_job(made.begun.root) as job:
        away = [seed for seed in made.seeds if (found := job.find(seed)) is not None and found.is_on_its_way]
    assert away
    code, out, _ = run("explain", made.begun.root, str(away[0]))
    assert (code, "on its way to another shard" in out, ": 302 in " in out) == (0, True, True)
    told = json.loads(run("explain", made.begun.root, str(away[0]), "--json")[1])
    assert (told["state"], told["record"], told["waiting"], bool(told["legs"])) == ("on_its_way", None, None, True)
    code, _, err = run("cat", made.begun.root, str(away[0]))
    assert (code, "it isn't done yet" in err) == (7, True)


# verify, audit, host -------------------------------------------------------------------------------------------------


def test_verify_of_shards_and_of_several_jobs(run: Run, made: Made, tmp_path: pathlib.Path) -> None:
    """One line, and 0; what is wrong names the shard, and ends with 3."""
    code, out, err = run("verify", made.many)
    shards = len(made.fleet.there())
    assert (code, err, out.startswith(f"whole: {shards} shards, ")) == (0, "", True)
    assert " handed over, " in out
    found = json.loads(run("verify", made.many, made.one, "--json")[1])
    assert (found["is_whole"], found["shards"], found["on_its_way"]) == (True, shards + 1, 0)
    assert " on their way, " in run("verify", made.begun.root)[1]
    shutil.copytree(made.many, tmp_path / "job")
    other = Told(tmp_path / "job")
    shard = other.there()[0]
    shutil.rmtree(other.folder(shard))
    code, out, _ = run("verify", tmp_path / "job")
    assert (code, f"shards/{shard:04d}" in out) == (3, True)


def test_audit_judges_shard_by_shard(run: Run, made: Made) -> None:
    """All requests of all shards are there; of one host only its shard is read; places name the shard."""
    mine, theirs = (json.loads(run("audit", job, "--json")[1]) for job in (made.many, made.one))
    for key in ("requests", "judged", "hosts", "breach_count", "broken_lines"):
        assert mine[key] == theirs[key], key
    host = made.hop.split("/")[2].split(":")[0]
    code, out, _ = run("audit", made.many, "--host", host, "--evidence")
    assert code == 0
    assert out.count("/shards/") >= run("audit", made.one, "--host", host, "--evidence")[1].count("http://")
    assert run("audit", made.many, "--delay", "60")[0] == 4
    code, _, err = run("audit", made.many, "--host", "no.example")
    assert (code, "no request to 'no.example' is recorded" in err) == (3, True)


def test_host_is_refused_and_what_works_is_said(run: Run, made: Made) -> None:
    """No worker would hear it; exit code 2, and nothing is written."""
    for action in ("--hold", "--release", "--skip", "--delay=2"):
        code, out, err = run("host", made.many, "h.example", action)
        assert (code, out) == (2, "")
        assert "is a job of many shards, whose workers take no word about single hosts" in err
        assert f"'crawlpool resume {made.many}' with --delay or --per-host" in err


# status --------------------------------------------------------------------------------------------------------------


def status(run: Run, *jobs: str) -> dict[str, Any]:
    """Return what status says of jobs."""
    code, out, err = run("status", *jobs, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_status_sums_up_all_shards(run: Run, made: Made) -> None:
    """The numbers are those of a job without shards; each shard that has targets is told."""
    mine, theirs = status(run, made.many), status(run, made.one)
    for key in ("state", "inputs", "found", "ok", "failed", "disallowed", "skipped", "pending", "kinds", "statuses"):
        assert mine[key] == theirs[key], key
    assert (mine["total"], mine["on_its_way"], mine["is_input_done"]) == (theirs["total"], 0, True)
    there = made.fleet.there()
    assert [one["shard"] for one in mine["shards"]["each"]] == there
    assert (mine["shards"]["count"], mine["shards"]["done"]) == (6, len(there))
    assert sum(one["moved_in"] for one in mine["shards"]["each"]) > 0
    assert mine["next"] is None
    code, out, _ = run("status", made.many)
    assert (code, out.startswith("complete: ")) == (0, True)
    assert f"shards: {len(there)} done, {len(there)} of 6 have targets\n" in out


def test_status_of_a_job_of_which_much_is_left(run: Run, made: Made, tmp_path: pathlib.Path) -> None:
    """What waits and what is on its way come to the whole with what is done; what to do next is said."""
    shutil.copytree(made.begun.root, tmp_path / "job")
    (tmp_path / "job" / "job.toml").write_text("")
    found = status(run, str(tmp_path / "job"))
    done = sum(found[name] for name in ("ok", "http_error", "failed", "disallowed", "skipped"))
    assert found["on_its_way"] > 0
    assert done < found["total"] <= done + found["pending"] + found["on_its_way"]
    assert (found["state"], found["next"]) == ("interrupted", f"crawlpool resume {tmp_path / 'job'}")
    assert found["shards"]["waiting"] > 0
    fleet = Told(tmp_path / "job")
    gone = Owner.here().__class__(**{**vars(Owner.here()), "pid": 2**22 - 1, "started": 1})
    fleet.tell(fleet.there()[0], is_released=False, owner=gone)
    fleet.tell(fleet.there()[1], reason="No space left on device")
    found = status(run, str(tmp_path / "job"))
    assert (found["state"], found["shards"]["broken_off"]) == ("broken_off", 1)
    code, out, _ = run("status", tmp_path / "job")
    assert code == 0
    assert f"shard {fleet.there()[1]} was given up: No space left on device" in out
    assert "1 broken off" in out
    assert " on their way to a shard\n" in out


def test_status_of_a_job_that_was_only_made(run: Run, tmp_path: pathlib.Path) -> None:
    """Nothing was begun."""
    fleet = Told(tmp_path / "job")
    found = status(run, fleet.root)
    assert (found["state"], found["total"], found["shards"]["each"]) == ("new", None, [])


def test_status_tells_of_a_worker_that_says_nothing_more(
    run: Run, made: Made, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a job that isn't complete: what it had may be what is left."""
    monkeypatch.setattr(shards_status, "PATIENCE_S", 0.2)
    shutil.copytree(made.begun.root, tmp_path / "job")
    job = str(tmp_path / "job")
    notes.make_folder(job)
    notes.write_word(job, Word("run-2", 7))
    notes.write_note(job, RunnerNote("w1", "run-2", 5, host="m1", pid=11, shards={3: {}}))
    out = run("status", job)[1]
    assert "worker w1 (process 11 on m1): tells nothing of itself any more, shard 3\n" in out


def test_status_tells_of_the_workers(
    run: Run, made: Made, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the run that is told of last; of one that says nothing more that it doesn't; slow hosts of all."""
    monkeypatch.setattr(shards_status, "PATIENCE_S", 0.2)
    shutil.copytree(made.many, tmp_path / "job")
    job = str(tmp_path / "job")
    notes.make_folder(job)
    notes.write_word(job, Word("run-2", 7))
    slow = {"slowest": [["slow.example", 3, 2.5]]}
    notes.write_note(job, RunnerNote("w1", "run-2", 5, host="m1", pid=11, shards={3: slow}, pace=12.34, rss_bytes=9))
    notes.write_note(job, RunnerNote("w2", "run-2", 9, "ended", "m2", 12, failed={4: "disk\x1b full"}, trouble="gone"))
    notes.write_note(job, RunnerNote("w3", "run-1", 9, host="m3", pid=13))
    found = status(run, job)
    assert [(one["name"], one["state"]) for one in found["runners"]] == [("w1", "silent"), ("w2", "ended")]
    assert found["slowest"] == [{"host": "slow.example", "mean_s": 2.5, "answers": 3}]
    assert found["state"] == "complete"
    out = run("status", job)[1]
    assert "worker w1" not in out  # nothing is left of what it had
    assert "worker w2 (process 12 on m2): ended\n  it ended early: gone\n" in out
    assert "  shard 4 could not go on: disk\\x1b full\n" in out
    assert "hosts slowest: slow.example 2.50 s\n" in out

    real, looks = notes.read_note, []

    def read_note(folder: str, name: str) -> RunnerNote | None:
        looks.append(name)
        note = real(folder, name)
        return None if note is None else RunnerNote(**{**vars(note), "counter": len(looks)})

    monkeypatch.setattr(notes, "read_note", read_note)  # each goes on to tell of itself
    found = status(run, job)
    assert [(one["name"], one["state"]) for one in found["runners"]] == [("w1", "running"), ("w2", "ended")]
    assert found["state"] == "running"
    out = run("status", job)[1]
    assert out.startswith("running: ")
    assert "worker w1 (process 11 on m1): running, shard 3, 12.3 URLs/s\n" in out


def test_status_of_several_jobs(run: Run, made: Made) -> None:
    """Their sums, and each by itself; the state is that of the one that asks for most."""
    found = status(run, made.many, made.one, made.begun.root)
    each = [status(run, job) for job in (made.many, made.one, made.begun.root)]
    assert found["ok"] == sum(one["ok"] for one in each)
    assert [one["job"] for one in found["jobs"]] == [made.many, made.one, made.begun.root]
    assert [one["state"] for one in found["jobs"]] == ["complete", "complete", "interrupted"]
    assert found["state"] == "interrupted"
    out = run("status", made.many, made.one)[1]
    assert f"{made.many}: complete, " in out
    assert f"{made.one}: complete, " in out
    code, out, err = run("status", made.many, "/no/such")
    assert (code, out, "there is no such folder" in err) == (3, "", True)


def test_status_watches_until_nobody_runs_it(run: Run, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that rests is told once."""
    code, out, _ = run("status", made.many, "--watch", "--json")
    assert (code, out.count("\n")) == (0, 1)
    states = iter(["running", "running", "complete"])
    monkeypatch.setattr("crawlpool.cli.status.EVERY_S", 0.0)
    monkeypatch.setattr(shards_status, "_state_of", lambda *_, **__: next(states))
    code, out, _ = run("status", made.many, "--watch", "--json")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["running", "running", "complete"]


def test_a_damaged_shard_is_named_by_every_command(run: Run, made: Made, tmp_path: pathlib.Path) -> None:
    """One line, and 3; no traceback."""
    shutil.copytree(made.many, tmp_path / "job")
    fleet = Told(tmp_path / "job")
    shard = fleet.there()[0]
    (pathlib.Path(fleet.folder(shard)) / "ledger.sqlite3").write_bytes(b"no database at all " * 100)
    for path in pathlib.Path(fleet.folder(shard)).glob("ledger.sqlite3-*"):
        path.unlink()
    for command in (["status"], ["export"], ["verify"], ["audit"]):
        code, out, err = run(*command, fleet.root)
        assert code == 3, command
        assert f"shards/{shard:04d}" in out + err
        assert "Traceback" not in err


def test_a_job_without_a_host_of_shards_is_unharmed(run: Run, tmp_path: pathlib.Path) -> None:
    """A folder that is no job is none for any of them, and shards that nobody made aren't read."""
    with SessionPool() as pool:
        pool.crawl([], job=str(tmp_path / "job"))
    layout.make_inbox(str(tmp_path / "job"), 3)
    assert run("status", tmp_path / "job")[0] == 0
    assert run("verify", tmp_path / "job")[0] == 0


# What isn't there yet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["cat", "explain"])
def test_a_url_that_waits_in_an_inbox_is_told_so(command: str, run: Run, tmp_path: pathlib.Path) -> None:
    """In the inbox of which shard, with 7, in whatever spelling; one that is nowhere is none, with 3."""
    fleet = Told(tmp_path / "job", 4)
    fleet.feed([f"http://h{number}.example/a?q=1" for number in range(20)])
    sharding = fleet.manifest.sharding(fleet.root)
    for number in (3, 4):
        code, out, err = run(command, fleet.root, f"HTTP://H{number}.Example:80/a?q=1")
        shard = sharding.shard_of(f"h{number}.example")
        assert (code, out) == (7, "")
        assert f"it isn't done yet; it waits in the inbox of shard {shard} of {fleet.root}\n" in err
    for nowhere in ("http://h3.example/b", "http://other.example/"):
        code, _, err = run(command, fleet.root, nowhere)
        assert (code, f"the job {fleet.root} has no such URL" in err) == (3, True)


@pytest.mark.parametrize("command", ["cat", "explain"])
def test_what_may_still_be_read_is_not_denied(command: str, run: Run, tmp_path: pathlib.Path) -> None:
    """Of a job, with shards or without, whose input isn't read to its end nobody knows what is not in it; 7."""
    fleet = Told(tmp_path / "many", 4)
    one = str(tmp_path / "one")
    with SessionPool() as pool:
        crawl = pool.new_crawl(job=one)
        crawl.drain()
        crawl.run(iter(["http://127.0.0.1:1/"]))
    for job in (fleet.root, one):
        code, out, err = run(command, job, "http://h.example/")
        assert (code, out) == (7, "")
        assert f"not read yet, or not in the input: that of {job} isn't read to its end" in err
