"""What comes in a job's way: disks that fail or are full, hosts that don't want us, a killed run's socket."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
import time

import pytest

from crawlpool.cli import main
from crawlpool.cli.job import remedy_for
from crawlpool.errors import SinkError
from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import NO_LAST_RESORT, environment, finish, records_of, start, wait_until
from tests.cli.test_terminal import seen_on, terminal
from tests.gates import Gate

Capture = pytest.CaptureFixture[str]

#: Has a call of the disk fail from the n-th time on.
_FAILS = """
import crawlpool.disk as disk
calls = []
def fail(*given, real=disk.{name}, **more):
    calls.append(0)
    if len(calls) >= {first}:
        raise OSError({number}, "so it says")
    return real(*given, **more)
disk.{name} = fail
"""


@pytest.mark.parametrize(
    ("name", "first", "number", "remedy"),
    [
        ("write", 2, errno.ENOSPC, "make room, then "),
        ("sync_file", 2, errno.EIO, "look after the disk, which fails, then "),
        ("write", 2, errno.EROFS, "make the file system writable, then "),
        ("write", 3, errno.EINVAL, ""),
    ],
)
def test_a_disk_that_fails_ends_the_run_with_one_line(
    tmp_path: pathlib.Path, name: str, first: int, number: int, remedy: str
) -> None:
    """Exit code 3; the line says what to do, if that is known; nothing recorded is lost, and the job goes on."""
    job = tmp_path / "job"
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=0.01)) as server:
        command = ["run", *(server.url(f"/{n}") for n in range(40)), "--job", str(job), "-q"]
        code, _, err = finish(start(command, before=_FAILS.format(name=name, first=first, number=number)))
        assert (code, len(err.splitlines())) == (3, 1), err
        assert "so it says; stopped after " in err and f"URLs; {remedy}'crawlpool resume {job}' goes on" in err
        assert finish(start(command)) == (0, "", "")
    assert [record["n"] for record in records_of(job / "results.jsonl")] == list(range(1, 41))


def test_a_file_system_that_is_full_for_real(tmp_path: pathlib.Path) -> None:
    """A job on a tiny one: it ends with 3, again and again, and goes on when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", small], capture_output=True).returncode:
        pytest.skip("mounting a file system isn't allowed here")
    try:
        with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=0.001)) as server:
            command = ["run", "-", "--job", str(small / "job"), "--min-free", "0"]
            text = "".join(f"{server.url(f'/{n}')}\n" for n in range(1500)).encode()
            for _ in range(2):
                code, _, err = finish(start(command), text)
                assert (code, "Traceback" in err) == (3, False)
                assert "make room" in err.splitlines()[-1]
            subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
            assert finish(start(command), text)[0] == 0
        assert [record["n"] for record in records_of(small / "job" / "results.jsonl")] == list(range(1, 1501))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_remedy_is_found_along_the_causes() -> None:
    """By the number of the first cause that has one, or by what SQLite says."""
    failed = SinkError("x")
    failed.__cause__ = OSError(errno.ENOSPC, "no")
    assert remedy_for(failed) == "make room"
    assert remedy_for(SinkError("the ledger can't be written: attempt to write a readonly database")) is not None
    assert remedy_for(SinkError("who knows")) is None


def test_urls_of_held_hosts_wait_for_the_next_run(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A host that doesn't want us leaves no records of what wasn't asked: exit code 7, and the hosts are named."""

    def answer(request: Request) -> Answer:
        return Answer(403 if request.headers["host"].startswith("bad") else 200, {}, b"x")

    job = str(tmp_path / "job")
    with SiteServer(answer) as server:
        names = [f"http://{name}.example:{server.port}/{n}" for name in ("bad", "good") for n in range(40)]
        resolve = [o for name in ("bad", "good") for o in ("--resolve", f"{name}.example:{server.port}:127.0.0.1")]
        limits = ["--per-host", "1", "--ignore-robots", "--threads", "2"]
        assert main(["run", *names, "--job", job, *resolve, *limits]) == 7
        err = capfd.readouterr().err
        assert "40 ok + 18 http_error" in err and "+ 22 pending" in err
        assert "held, as they don't want us: bad.example: ask their owners" in err
        assert len(records_of(tmp_path / "job" / "results.jsonl.open")) == 58
        assert main(["resume", job, "--on-block", "record"]) == 8
        assert "40 ok + 40 http_error" in capfd.readouterr().err


def test_the_second_signal_ends_the_process_within_a_second(tmp_path: pathlib.Path) -> None:
    """Also where a handler hangs, which nobody can stop; the job goes on with what had no record."""
    (tmp_path / "hanging_.py").write_text("import time\ndef handle(result, crawl):\n    time.sleep(600)\n")
    with SiteServer({"/": b"x"}) as server:
        command = ["run", server.url("/"), "--job", "job"]
        process = start([*command, "--handler", "hanging_:handle"], cwd=tmp_path)
        wait_until(lambda: server.request_count >= 1, "the request came", process)
        process.terminate()
        assert process.stderr is not None
        while b"press Ctrl-C again" not in process.stderr.readline():
            pass
        process.terminate()
        at_s = time.monotonic()
        code, _, err = finish(process)
        assert (code, "Traceback" in err) == (7, False)
        assert time.monotonic() - at_s < 5  # 0.8 s on a machine that has nothing else to do
        assert finish(start(command, cwd=tmp_path))[0] == 0
        assert server.request_count == 2


def test_the_socket_of_a_killed_run_is_in_nobodys_way(tmp_path: pathlib.Path) -> None:
    """The next run replaces it; where none can be made (a path that is too long) it is told, and the run goes on."""
    with Gate() as gate, SiteServer({"/": gate, "/a": b"x"}) as server, gate:
        process = start(["run", server.url("/"), "--job", "j"], cwd=tmp_path, before=NO_LAST_RESORT)
        wait_until(lambda: server.request_count >= 1 and (tmp_path / "j" / "control").exists(), "it runs", process)
        process.kill()
        finish(process)
        assert (tmp_path / "j" / "control").is_socket()
        gate.open()
        assert finish(start(["resume", "j"], cwd=tmp_path))[0] == 0
        assert not (tmp_path / "j" / "control").exists()
        long = tmp_path / ("x" * 110)
        code, _, err = finish(start(["run", server.url("/a"), "--job", str(long)]))
    assert code == 0
    assert "no control socket ('crawlpool host' can't reach this run)" in err
    assert os.path.exists(long / "results.jsonl")


def test_on_a_terminal_a_job_shows_short_lines(tmp_path: pathlib.Path) -> None:
    """Beside what it keeps, and only where no output is named."""
    with SiteServer({"/a": b"x" * 1500}) as server:
        for job, more, is_shown in (("one", [], True), ("two", ["-o", "x.jsonl"], False)):
            with terminal() as (ours, theirs):
                command = ["run", server.url("/a"), "--job", str(tmp_path / job), *more, "--progress", "none"]
                process = start(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="dumb"))
                os.close(theirs)
                shown = seen_on(ours)
                assert finish(process)[0] == 0
            assert ("1.5 kB" in shown.partition("done after")[0]) is is_shown
            assert '{"v"' not in shown
    assert len(records_of(tmp_path / "one" / "results.jsonl")) == 1
