"""``crawlpool run --job`` and ``crawlpool resume``: killed, stopped, gone on with, complete; what is told of it."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal
from collections import Counter
from typing import Any

import pytest

from crawlpool.cli import main
from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import NO_LAST_RESORT, finish, records_of, start, wait_until
from tests.gates import Gate

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.transports("curl")  # what differs between the two is held by tests of crawls
COUNT = 120


def slowly(request: Request) -> Answer:
    """Answer after a moment, so that a run can be stopped in its midst."""
    return Answer(404 if request.path == "/7" else 200, {}, request.target.encode(), delay_s=0.01)


def urls_of(server: SiteServer, path: pathlib.Path, count: int = COUNT) -> pathlib.Path:
    """Write so many URLs to a file; return it."""
    path.write_text("".join(f"{server.url(f'/{n}')}\n" for n in range(count)))
    return path


def kill_in_the_midst(arguments: list[str], server: SiteServer, requests: int, **how: Any) -> str:
    """Run a command until the server has seen so many more requests, and kill it; return what it said."""
    until = server.request_count + requests
    process = start(arguments, **how)
    wait_until(lambda: server.request_count >= until, "requests came", process)
    process.send_signal(signal.SIGKILL)
    return finish(process)[2]


def each_once(job: pathlib.Path, count: int = COUNT) -> list[dict[str, Any]]:
    """Return the records of a complete job, after looking that there is one for each line of input."""
    records = records_of(job / "results.jsonl")
    assert [record["n"] for record in records] == list(range(1, count + 1))
    return records


def test_the_same_command_goes_on_after_a_kill(tmp_path: pathlib.Path) -> None:
    """Killed twice: each URL has its record once, the books and the exit code are of all runs together."""
    job = tmp_path / "job"
    with SiteServer(slowly) as server:
        urls = urls_of(server, tmp_path / "urls.txt")
        command = ["run", str(urls), "--job", str(job), "--threads", "4"]
        kill_in_the_midst(command, server, 30)
        kill_in_the_midst(command, server, 40)
        code, out, err = finish(start(command))
        assert server.request_count <= COUNT + 2 * 2 * 4
    records = each_once(job)
    assert (code, out) == (8, "")  # /7 was asked for by the first run
    assert {record["run"] for record in records} == {1, 2, 3}
    assert f"{COUNT} inputs + 0 found = {COUNT - 1} ok + 1 http_error" in err
    before = sum(record["run"] < 3 for record in records)
    assert f"({before} URLs are done)" in err and f"{before} of these URLs were done before this run" in err


def test_a_complete_job_fetches_nothing_and_needs_no_input(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Its input isn't even opened: it may be gone. The exit code is that of its books, whoever asks, and how often."""
    job = tmp_path / "job"
    with SiteServer(slowly) as server:
        urls = urls_of(server, tmp_path / "urls.txt", 10)
        command = ["run", str(urls), "--job", str(job)]
        assert main(command) == 8
        capfd.readouterr()
        urls.unlink()
        for again in (command, command, ["resume", str(job)]):
            assert main(again) == 8
            assert "nothing was left to be fetched" in capfd.readouterr().err
        assert server.request_count == 10
    each_once(job, 10)
    assert sorted(path.name for path in job.iterdir()) == [
        "flight", "job.toml", "ledger.sqlite3", "lock", "results.jsonl",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in job.iterdir()} == {0o600}
    assert job.stat().st_mode & 0o777 == 0o700


def test_an_interrupted_job_says_how_to_go_on_and_resume_does(tmp_path: pathlib.Path) -> None:
    """After Ctrl-C what waits has no record; ``resume`` goes on, from another folder, too."""
    job, gate = tmp_path / "the job", Gate()
    with SiteServer(lambda request: slowly(request) if int(request.path[1:]) < 20 else gate(request)) as server, gate:
        urls_of(server, tmp_path / "urls.txt")
        process = start(["run", "urls.txt", "--job", "the job", "--threads", "4", "-o", "-"], cwd=tmp_path)
        wait_until(lambda: server.request_count >= 22, "requests came", process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"press Ctrl-C again" not in process.stderr.readline():
            pass
        gate.open()
        code, out, err = finish(process)
        done = records_of(out)
        assert code == 7
        assert done == records_of(job / "results.jsonl.open")  # the copy, after the commit
        assert {record["outcome"] for record in done} <= {"ok", "http_error"}
        assert f"{COUNT - len(done)} pending" in err
        assert f"{COUNT - len(done)} URLs wait: 'crawlpool resume 'the job'' goes on" in err
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        code, out, _ = finish(start(["resume", str(job), "--threads", "2"], cwd=elsewhere))
        assert server.request_count == COUNT
    assert code in (0, 8)
    each_once(job)
    assert len(records_of(out)) == COUNT - len(done)  # '-o -' was the job's


def test_the_second_signal_leaves_a_job_that_goes_on(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """It stops what runs; those targets wait for the next run and have no record before."""
    job, is_slow = tmp_path / "job", [60.0]
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=is_slow[0])) as server:
        urls = [server.url(f"/{n}") for n in range(20)]
        process = start(["run", *urls, "--job", str(job), "--threads", "4"], before=NO_LAST_RESORT)
        wait_until(lambda: server.request_count >= 4, "requests are under way", process)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while b"press Ctrl-C again" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
        assert (code, "20 pending" in err, "Traceback" in err) == (7, True, False)
        is_slow[0] = 0
        assert main(["resume", str(job)]) == 0
    assert {record["outcome"] for record in each_once(job, 20)} == {"ok"}
    assert "there were" not in capfd.readouterr().err


@pytest.mark.parametrize("has_job", [True, False])
def test_grace_bounds_what_a_drain_may_take(has_job: bool, tmp_path: pathlib.Path) -> None:
    """After one signal what is under way is ended when its time is over, with a job and without."""
    job = ["--job", str(tmp_path / "job")] if has_job else []
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=60)) as server:
        process = start(["run", server.url("/a"), server.url("/b"), *job, "--grace", "0.1"])
        wait_until(lambda: server.request_count >= 2, "requests are under way", process)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    assert code == 7
    assert ("2 pending" if has_job else "2 skipped") in err


def test_run_for_leaves_the_rest_to_the_next_run(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Exit code 7; ``resume`` isn't bound by the time that the first run had."""
    job = tmp_path / "job"
    with SiteServer(slowly) as server:
        urls = urls_of(server, tmp_path / "urls.txt")
        assert main(["run", str(urls), "--job", str(job), "--threads", "1", "--run-for", "0.1"]) == 7
        assert "stopped by --run-for" in capfd.readouterr().err
        assert main(["resume", str(job)]) == 8
    each_once(job)


def test_a_copied_job_goes_on_with_its_input_elsewhere(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """The folder is all there is to it; an input that lies elsewhere is given again, and has to be the same."""
    with SiteServer(slowly) as server:
        urls = urls_of(server, tmp_path / "urls.txt")
        kill_in_the_midst(["run", str(urls), "--job", str(tmp_path / "job"), "--threads", "4"], server, 30)
        (tmp_path / "job" / "control").unlink(missing_ok=True)  # a socket, which shutil doesn't copy
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "job", copy)
        shutil.rmtree(tmp_path / "job")
        moved = copy.parent / "moved" / "urls.txt"
        moved.parent.mkdir()
        urls.rename(moved)
        assert main(["resume", str(copy), str(moved)]) == 8
    each_once(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--duplicates", "fetch"], "dedupe was true, now false"),
        (["--max-per-host", "3"], "max_per_host was nothing, now 3"),
        (["-o", "x.jsonl"], 'outputs was ["results.jsonl"], now ["x.jsonl"]'),
        (["--method", "HEAD"], 'method was "GET", now "HEAD"'),
        (["other.txt"], 'inputs was ["urls.txt"], now ["other.txt"]'),
        (["--input-format", "csv", "--url-field", "link"], 'url_field was "url", now "link"'),
    ],
)
def test_what_a_job_is_made_of_can_not_change(
    change: list[str], says: str, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Input, scope, dedupe and outputs: the command ends with 3 and says what differs; nothing is fetched."""
    monkeypatch.chdir(tmp_path)
    with SiteServer(slowly) as server:
        urls_of(server, tmp_path / "urls.txt", 3)
        urls_of(server, tmp_path / "other.txt", 3)
        assert main(["run", "urls.txt", "--job", "job"]) == 0
        capfd.readouterr()
        assert main(["resume", "job", *change]) == 3
        assert server.request_count == 3
    err = capfd.readouterr().err
    assert err.startswith("crawlpool: job: the job was begun with other settings: ") and says in err
    assert len(err.splitlines()) == 1


def test_standard_input_is_skipped_up_to_what_was_read(tmp_path: pathlib.Path) -> None:
    """Piped again, a job goes on behind what it has; another text is refused with 3, and changes nothing."""
    job = tmp_path / "job"
    with SiteServer(slowly) as server:
        text = urls_of(server, tmp_path / "urls.txt").read_bytes()
        lines = text.splitlines(keepends=True)
        process = start(["run", "-", "--job", str(job), "--threads", "4"])
        assert process.stdin is not None
        process.stdin.write(b"".join(lines[:50]))
        process.stdin.flush()  # and it stays open: the rest never comes
        wait_until(lambda: server.request_count >= 50, "requests came", process)
        process.kill()
        finish(process)
        code, _, err = finish(start(["resume", str(job)]), b"".join([lines[1], *lines[1:]]))
        assert code == 3
        assert "this isn't the input that the job was begun with: the first 50 entries aren't those" in err
        code, _, err = finish(start(["resume", str(job)]), b"".join(lines[:20]))
        assert code == 3 and "it has 20 entries, and 50 of it were read before" in err
        code, _, err = finish(start(["run", "-", "--job", str(job)]), text)
        assert code == 8
        assert server.request_count <= COUNT + 8
        assert finish(start(["resume", str(job)]), b"")[0] == 8  # complete: nobody reads it any more
    each_once(job)


def test_failures_of_earlier_runs_count(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """--max-failures is of the whole job, and so are the lines of the summary."""
    job = str(tmp_path / "job")
    with SiteServer({"/a": b"x"}) as server:
        urls = [server.url(path) for path in ("/a", "/b", "/c")]
        assert main(["run", *urls, "--job", job]) == 8
        assert main(["run", *urls, "--job", job, "--max-failures", "1"]) == 4
        assert main(["run", *urls, "--job", job, "--max-failures", "2"]) == 0
    assert capfd.readouterr().err.count("HTTP errors: 404 ×2") == 3


def test_failed_ones_are_taken_again(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """--retry-failed takes what had an error, with kinds and statuses those; at rest there is one line for each URL."""
    job, is_well = tmp_path / "job", [False]
    cut = Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    def answer(request: Request) -> Answer:
        if is_well[0] or request.path == "/well":
            return Answer(200, {}, b"x")
        return cut if request.path == "/cut" else Answer(503, {}, b"")

    with SiteServer(answer) as server:
        urls = [server.url(path) for path in ("/well", "/cut", "/busy")]
        assert main(["run", *urls, "--job", str(job), "--retries", "0"]) == 4
        is_well[0] = True
        assert main(["resume", str(job), "--retry-failed=timeout"]) == 4
        assert server.request_count == 3
        assert main(["resume", "--retry-failed", str(job)]) == 8
        assert "1 that failed are taken again" in capfd.readouterr().err
        assert main(["resume", str(job), "--retry-failed=5xx"]) == 0
        assert server.request_count == 5
        assert main(["resume", str(job), "--retry-failed=nonsense"]) == 2
    assert [record["run"] for record in each_once(job, 3)] == [1, 3, 4]


def test_options_that_need_a_job_say_so(capfd: Capture) -> None:
    """--overwrite and --retry-failed without --job are refused, and so are both together."""
    for given, says in (
        (["--overwrite"], "--overwrite needs --job"),
        (["--retry-failed"], "--retry-failed needs --job"),
        (["--retry-failed", "--overwrite", "--job", "x"], "contradict each other"),
    ):
        assert main(["run", "http://127.0.0.1:9/", *given]) == 2
        assert says in capfd.readouterr().err


def test_a_second_process_is_told_who_has_the_job(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """One process has a job; the other ends with 3 at once, and the first one's control socket stays."""
    job = tmp_path / "j"
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        process = start(["run", server.url("/"), "--job", "j"], cwd=tmp_path)
        wait_until(lambda: server.request_count >= 1, "the request is under way", process)
        assert main(["run", server.url("/"), "--job", str(job)]) == 3
        assert f"{job}: the job is in use by process {process.pid}" in capfd.readouterr().err
        code, told, _ = finish(start(["status", "j", "--json"], cwd=tmp_path))
        gate.open()
        assert finish(process)[0] == 0
    assert (code, json.loads(told)["running"]) == (0, 1)
    assert not (job / "control").exists()


def test_outputs_lie_in_the_job_unless_they_are_absolute(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Records are in the job in any case; what would lie beside it, or upon its own files, is refused."""
    outside = tmp_path / "outside.jsonl"
    with SiteServer({"/": b"x"}) as server:
        run = ["run", server.url("/"), "--job", str(tmp_path / "job")]
        for wrong in ("../x.jsonl", "control/x.jsonl", "a/../../x.jsonl"):
            assert main([*run, "-o", wrong]) == 2
            assert "can't lie in the job" in capfd.readouterr().err
        assert main([*run, "-o", "deep/a.jsonl", "-o", str(outside)]) == 0
    assert records_of(outside) == records_of(tmp_path / "job" / "deep" / "a.jsonl")


def test_a_folder_with_other_files_is_left_alone(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A job isn't mixed up with anybody's files, and nothing is made where its folder can't be."""
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["run", "http://127.0.0.1:9/", "--job", str(tmp_path)]) == 3
    assert "has other files (mine.txt) and is no job" in capfd.readouterr().err
    assert main(["run", "http://127.0.0.1:9/", "--job", str(tmp_path / "no" / "job")]) == 3
    assert "its parent folder does not exist" in capfd.readouterr().err
    assert main(["resume", str(tmp_path / "none")]) == 3
    assert "there is no such job" in capfd.readouterr().err
    assert Counter(path.name for path in tmp_path.iterdir())["mine.txt"] == 1


def test_a_mistyped_input_makes_no_job(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Else the right name would be refused as another input."""
    assert main(["run", str(tmp_path / "none.txt"), "--job", str(tmp_path / "job")]) == 3
    assert not (tmp_path / "job").exists()
    capfd.readouterr()


def test_a_full_output_is_one_line_that_says_what_to_do(tmp_path: pathlib.Path) -> None:
    """A copy to a full device or a closed pipe ends with 3; nothing acknowledged is lost, and the job goes on."""
    with SiteServer(slowly) as server:
        urls = urls_of(server, tmp_path / "urls.txt", 20)
        command = ["run", str(urls), "--job", str(tmp_path / "job"), "-o", "-", "-q"]
        with open("/dev/full", "wb") as full:
            code, _, err = finish(start(command, stdout=full))
        assert code == 3
        assert len(err.splitlines()) == 1
        assert "stdout: No space left" in err and "make room, then 'crawlpool resume " in err
        assert finish(start(command))[0] == 8
    each_once(tmp_path / "job", 20)
