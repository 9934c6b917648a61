"""``--overwrite``: nothing goes but what a job has made, after asking on a terminal."""

from __future__ import annotations

import os
import pathlib

import pytest

from crawlpool.cli import main
from crawlpool.cli.overwrite import clear
from crawlpool.errors import JobError
from crawlpool.ledger.lock import JobLock
from crawlpool.testing import SiteServer
from tests.cli.command import environment, finish, records_of, start
from tests.cli.test_terminal import seen_on, terminal

Capture = pytest.CaptureFixture[str]


def test_a_job_is_begun_anew(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """With another input and other outputs; everything that the first one wrote is gone, and nothing else."""
    job, outside = tmp_path / "job", tmp_path / "outside.jsonl"
    with SiteServer(lambda request: b"x") as server:
        assert main(["run", server.url("/a"), "--job", str(job), "-o", "deep/a.jsonl", "-o", str(outside)]) == 0
        (job / "notes.txt").write_text("mine")
        (job / "deep" / "a-notes.jsonl").write_text("mine")
        (job / "deep" / "a-00002.jsonl.open").write_text("a part")
        assert main(["run", server.url("/b"), "--job", str(job)]) == 3  # another input
        assert main(["run", server.url("/b"), "--job", str(job), "--overwrite"]) == 3  # and there are notes
        assert "has other files" in capfd.readouterr().err
        (job / "notes.txt").unlink()
        assert sorted(path.name for path in job.rglob("*")) == ["a-notes.jsonl", "deep", "lock"]
        (job / "deep" / "a-notes.jsonl").unlink()
        (job / "deep").rmdir()
        assert not outside.exists()
        assert main(["run", server.url("/b"), "--job", str(job), "--overwrite"]) == 0
    records = records_of(job / "results.jsonl")
    assert [(record["url"], record["run"]) for record in records] == [(server.url("/b"), 1)]


def test_what_is_no_job_is_refused(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A mistyped folder: nothing of it is removed. An empty one, or none, is as good as a new one."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(JobError, match="this is none; nothing was removed"):
        clear(str(tmp_path))
    assert os.listdir(tmp_path) == ["mine.txt"]
    with SiteServer(lambda request: b"x") as server:
        assert main(["run", server.url("/a"), "--job", str(tmp_path / "new"), "--overwrite"]) == 0
    capfd.readouterr()


def test_a_job_in_use_is_left_alone(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Whoever runs it would go on in files that are gone."""
    with SiteServer(lambda request: b"x") as server:
        run = ["run", server.url("/a"), "--job", str(tmp_path / "job")]
        assert main(run) == 0
        before = sorted(os.listdir(tmp_path / "job"))
        with JobLock(str(tmp_path / "job")):
            assert main([*run, "--overwrite"]) == 3
    assert sorted(os.listdir(tmp_path / "job")) == before
    assert "the job is in use" in capfd.readouterr().err


def test_a_mistake_costs_no_job(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """What is wrong with the command is found before anything is removed."""
    with SiteServer(lambda request: b"x") as server:
        run = ["run", server.url("/a"), "--job", str(tmp_path / "job")]
        assert main(run) == 0
        assert main(["run", "none.txt", "--job", str(tmp_path / "job"), "--overwrite"]) == 3
        assert main([*run, "--overwrite", "--handler", "nothing.there:f"]) == 2
        assert main(run) == 0
        assert server.request_count == 1
    capfd.readouterr()


def test_a_damaged_ledger_can_be_overwritten(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Then job.toml says what there is; a job needs no whole ledger to be removed."""
    job = tmp_path / "job"
    with SiteServer(lambda request: b"x") as server:
        run = ["run", server.url("/a"), "--job", str(job), "-o", "x.jsonl"]
        assert main(run) == 0
        (job / "ledger.sqlite3").write_bytes(b"no database" * 1000)
        assert main(run) == 3
        assert main([*run, "--overwrite"]) == 0
        assert server.request_count == 2
    capfd.readouterr()


def test_bodies_go_and_what_lies_among_them_stays(tmp_path: pathlib.Path) -> None:
    """The files are known by their names, which are numbers; a folder goes when it is empty."""
    from crawlpool.cli.overwrite import _remove_output

    bodies = tmp_path / "bodies"
    for inner in ("00/00", "00/01"):
        (bodies / inner).mkdir(parents=True)
        (bodies / inner / "00000001.html").write_text("x")
        (bodies / inner / "00000002.bin.part").write_text("x")
    (bodies / "00" / "01" / "mine.html").write_text("mine")
    _remove_output(f"{bodies}/")
    assert [path.name for path in bodies.rglob("*") if path.is_file()] == ["mine.html"]
    (bodies / "00" / "01" / "mine.html").unlink()
    _remove_output(f"{bodies}/")
    assert not bodies.exists()


@pytest.mark.parametrize(("answer", "code", "requests"), [("n", 7, 1), ("y", 0, 2)])
def test_on_a_terminal_it_asks(tmp_path: pathlib.Path, answer: str, code: int, requests: int) -> None:
    """No leaves everything as it was."""
    job = tmp_path / "job"
    with SiteServer(lambda request: b"x") as server, terminal() as (ours, theirs):
        run = ["run", server.url("/a"), "--job", str(job)]
        assert finish(start([*run, "-q"]))[0] == 0
        env = environment(TERM="dumb", COLUMNS="150")
        process = start([*run, "--overwrite"], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        shown = seen_on(ours, "[y/N]")
        os.write(ours, f"{answer}\n".encode())
        seen_on(ours)
        assert finish(process)[0] == code
        assert server.request_count == requests
    assert "a job with 1 URLs done; remove it, with its outputs, and begin anew?" in shown
    assert len(records_of(job / "results.jsonl")) == 1
