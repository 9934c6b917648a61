"""What only a process of its own shows: streams that stay open or break, signals, and its end."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess

import pytest

from crawlpool.testing import Answer, SiteServer
from tests.cli.command import NO_LAST_RESORT, PATIENCE_S, environment, finish, records_of, start, wait_until

pytestmark = pytest.mark.above_transports


def test_a_line_on_an_open_stdin_is_fetched_and_its_record_out_at_once() -> None:
    """Each line is answered before the next one is written, while standard input stays open."""
    with SiteServer(lambda request: request.target.encode()) as server:
        process = start(["run", "-", "-o", "-", "-q"])
        assert process.stdin is not None and process.stdout is not None
        for n in range(5):
            process.stdin.write(f"{server.url(f'/{n}')}\n".encode())
            process.stdin.flush()
            record = json.loads(process.stdout.readline())
            assert (record["n"], record["outcome"]) == (n + 1, "ok")
        assert finish(process) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(number: signal.Signals, tmp_path: pathlib.Path) -> None:
    """What is under way is finished, what waits is skipped, cookies are saved, the books balance; exit code 7."""
    with SiteServer(lambda request: Answer(200, {"Set-Cookie": "a=b"}, b"x", delay_s=0.3)) as server:
        urls = "".join(f"{server.url(f'/{n}')}\n" for n in range(500)).encode()
        cookies = tmp_path / "cookies.txt"
        process = start(["run", "-", "--threads", "4", "--save-cookies", str(cookies)])
        assert process.stdin is not None
        process.stdin.write(urls)
        process.stdin.flush()  # and it stays open: the wait for more input has to be ended, too
        wait_until(lambda: server.request_count >= 4, "requests are under way", process)
        process.send_signal(number)
        code, out, err = finish(process)
    records = records_of(out)
    ended = {record["outcome"]: record["reason"] for record in records}
    assert (code, ended) == (7, {"ok": None, "skipped": "interrupted"})
    assert sum(record["outcome"] == "ok" for record in records) == server.request_count
    assert "interrupted: finishing" in err and "press Ctrl-C again" in err
    assert f"{len(records)} inputs + 0 found = " in err
    assert "\ta\tb" in cookies.read_text()
    assert "Traceback" not in err


def test_the_second_signal_stops_at_once() -> None:
    """Running transfers are ended; each URL has its record, and the books balance; exit code 7."""
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=60)) as server:
        urls = [server.url(f"/{n}") for n in range(20)]
        process = start(["run", *urls, "--threads", "4"], before=NO_LAST_RESORT)
        wait_until(lambda: server.request_count >= 4, "requests are under way", process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"press Ctrl-C again" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        code, out, err = finish(process)
    assert code == 7
    assert [record["reason"] for record in records_of(out)] == ["interrupted"] * 20
    assert "20 skipped" in err and "Traceback" not in err


def test_the_second_signal_ends_a_process_whose_threads_hang() -> None:
    """Where stopping can't help (here: nobody reads the pipe that records go to), the process ends all the same."""
    # A pipe that is full before the first record: no thread that writes to it ever comes back.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    with SiteServer({"/": b"x"}) as server:
        process = start(["run", server.url("/")], stdout=writing)
        wait_until(lambda: server.request_count >= 1, "a request is under way", process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"press Ctrl-C again" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    os.close(reading)
    os.close(writing)
    assert (code, "Traceback" in err) == (7, False)


def test_run_for_drains_when_its_time_is_over() -> None:
    """A run that waits for input ends by itself, with exit code 7 as work is left; one that is done before with 0."""
    with SiteServer(lambda request: b"x") as server:
        process = start(["run", "-", "--run-for", "0.2"])
        code, out, err = process.wait(PATIENCE_S), *(s.read().decode() for s in (process.stdout, process.stderr) if s)
        assert process.stdin is not None
        process.stdin.close()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert (code, out) == (7, "")
        assert "stopped by --run-for" in err
        assert finish(start(["run", server.url("/"), "--run-for", "60", "-q"]))[0] == 0


def test_a_closed_pipe_ends_with_3_and_one_line() -> None:
    """When the reader of the records goes away: one line says so, and nothing follows at the interpreter's end."""
    with SiteServer(lambda request: b"x" * 100) as server:
        urls = "".join(f"{server.url(f'/{n}')}\n" for n in range(3000)).encode()
        process = start(["run", "-", "--threads", "2"], stdin=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(urls[: len(urls) // 3].rpartition(b"\n")[0] + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b'{"v":1')
        process.stdout.close()
        process.stdout = None
        code, _, err = finish(process)
    lines = err.splitlines()
    assert code == 3
    assert len(lines) == 2, err  # that of the start, and that of the end
    assert lines[1].startswith("crawlpool: stdout: Broken pipe; stopped after ")


@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [
        (">&-", 3, "stdout: it was closed"),
        ("</dev/null >/dev/full", 3, "stdout: No space left"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("--input-format lines - <&-", 3, "stdin: it was closed"),
        ("- </dev/null", 0, "2 inputs + 0 found = 2 ok"),
    ],
)
def test_streams_that_are_closed_or_full(redirection: str, code: int, says: str) -> None:
    """Standard streams that are closed or full are trouble with files at most: no traceback, no stray record."""
    with SiteServer(lambda request: b"x") as server:
        command = f'exec "$0" -m crawlpool run {server.url("/a")} {server.url("/b")} {redirection}'
        process = subprocess.run(
            ["bash", "-c", command, __import__("sys").executable],
            env=environment(), capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    err = process.stderr.decode()
    assert (process.returncode, "Traceback" in err, "Exception ignored" in err) == (code, False, False)
    assert says in err
    if code == 0:
        assert len(records_of(process.stdout.decode())) == 2


def test_help_into_a_closed_pipe_is_no_traceback() -> None:
    """``crawlpool run --help | head -1`` shows its line and nothing else."""
    script = f'"{__import__("sys").executable}" -m crawlpool run --help | head -1'
    shown = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, timeout=PATIENCE_S, check=True
    )
    assert shown.stdout.startswith(b"Usage: crawlpool run") and shown.stderr == b""


def test_a_fault_of_crawlpool_is_one_line_and_exit_code_1() -> None:
    """An exception that nobody foresaw is told in a line that asks for a report; -vv shows where, without secrets."""
    fault = "import crawlpool.crawl as c\ndef bad(*a): raise KeyError('http://u:s3cr3t@h/')\nc.Crawl._begin = bad"
    with SiteServer({"/": b"x"}) as server:
        code, out, err = finish(start(["run", server.url("/")], before=fault))
        assert (code, out, "Traceback" in err) == (1, "", False)
        assert "a fault of crawlpool, please report it (-vv shows where): KeyError" in err
        code, _, err = finish(start(["run", server.url("/"), "-vv"], before=fault))
        assert (code, "Traceback" in err, "s3cr3t" in err) == (1, True, False)


def test_books_that_do_not_balance_are_a_fault() -> None:
    """A run whose books don't balance ends with 1 and shows them."""
    fault = "import crawlpool.books as b\nb.Books.settle = lambda *a: None"
    with SiteServer({"/": b"x"}) as server:
        code, _, err = finish(start(["run", server.url("/")], before=fault))
    assert code == 1
    assert "1 inputs + 0 found ≠ 0 ok" in err and "the books don't balance" in err
