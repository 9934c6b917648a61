"""``crawlpool host`` on a run that goes on, in processes of their own, by what the server saw and when."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool.cli import main
from crawlpool.cli.control import ask
from crawlpool.cli.host import text_of
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.cli.command import finish, records_of, start, wait_until

Capture = pytest.CaptureFixture[str]

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
#: Of each host.
PAGES = 250


class Site:
    """A server that notes when which host was asked, by its own clock."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self.server = SiteServer(self._page, hosts=loopback_hosts(2))

    def _page(self, request: Request) -> Answer:
        self.arrivals.append((time.monotonic(), request.headers["host"].partition(":")[0]))
        return Answer(200, {}, b"x", delay_s=0.003)  # or all would be asked for before an order comes

    def times_of(self, host: str, since: float = 0.0) -> list[float]:
        """Return when a host was asked, from a moment on."""
        return [at for at, asked in list(self.arrivals) if asked == host and at >= since]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with site.server:
        yield site


@pytest.fixture
def running(site: Site, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A run over both hosts whose input stays open, with a control socket in a folder that tests work in."""
    monkeypatch.chdir(tmp_path)
    options = ["--per-host", "1", "--ignore-robots", "-o", "out.jsonl", "--control", "control", "--progress", "none"]
    with open("run.log", "wb") as log:
        started = start(["run", "-", *options, "-vv", "--log-format", "json"], stderr=log)
    with started as process:
        assert process.stdin is not None
        for number in range(PAGES):
            for host in (FIRST, SECOND):
                process.stdin.write(f"{site.server.url(f'/{number}', host)}\n".encode())
        process.stdin.flush()
        try:
            wait_until(lambda: bool(site.times_of(FIRST)) and os.path.exists("control"), "it runs", process)
            yield process
        finally:
            process.kill()


def told(capfd: Capture, *arguments: str) -> tuple[int, str]:
    """Run ``crawlpool host control …``; return its exit code and the line it says."""
    capfd.readouterr()
    code = main(["host", "control", *arguments])
    out, err = capfd.readouterr()
    assert (bool(out), bool(err)) == (code == 0, code != 0)
    return code, (out or err).strip()


def end_of(running: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Close the input, and wait for the end; return the exit code and the summary."""
    code, _, _ = finish(running)
    lines = [json.loads(line) for line in pathlib.Path("run.log").read_text().splitlines()]
    return code, next(line["message"] for line in lines if line["event"] == "finished")


def test_a_hold_keeps_the_host_from_being_asked(site: Site, running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """From the command's answer on nothing arrives but what was under way; another host goes on; a release lets all
    come; no URL is lost.
    """
    code, said = told(capfd, FIRST, "--hold")
    held_at = time.monotonic()
    assert (code, said.partition(";")[0]) == (0, f"{FIRST}: held")
    before = len(site.times_of(SECOND))
    wait_until(lambda: len(site.times_of(SECOND)) >= before + 100, "the other goes on", running)
    assert len(site.times_of(FIRST, held_at)) <= 1
    status = ask("control", {"do": "status"})["status"]
    assert [(one["host"], one["by"]) for one in status["held"]] == [(FIRST, "operator")]
    assert status["held"][0]["waiting"] + len(site.times_of(FIRST)) >= PAGES - 1
    code, said = told(capfd, FIRST, "--release")
    assert (code, said.partition(";")[0]) == (0, f"{FIRST}: released")
    code, summary = end_of(running)
    assert (code, f"{2 * PAGES:,} ok" in summary, "operator" in summary) == (0, True, False)
    assert len(site.times_of(FIRST)) == len(site.times_of(SECOND)) == PAGES
    assert not os.path.exists("control")


def test_a_host_that_is_held_to_the_end_is_work_left(
    site: Site, running: subprocess.Popen[bytes], capfd: Capture
) -> None:
    """Its records say ``held``; the summary names it, and who held it, and what to do; the exit code is 7."""
    told(capfd, FIRST, "--hold")
    code, summary = end_of(running)
    held = [record for record in records_of(pathlib.Path("out.jsonl")) if record["reason"] == "held"]
    assert code == 7
    assert f"hosts held by the operator: {FIRST} ×{len(held):,}" in summary
    assert f"next: {len(held):,} URLs of hosts that the operator held were skipped" in summary
    assert "401, 403" not in summary
    assert len(held) + len(site.times_of(FIRST)) == PAGES


def test_a_host_that_is_skipped(site: Site, running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """What waits ends at once, and is well, as somebody wanted it; what is under way isn't touched."""
    code, said = told(capfd, FIRST, "--skip")
    skipped_at = time.monotonic()
    assert code == 0
    assert said.startswith(f"{FIRST}: skipped; ")
    code, summary = end_of(running)
    skipped = [record for record in records_of(pathlib.Path("out.jsonl")) if record["reason"] == "host_skipped"]
    assert code == 0
    assert f"hosts skipped by the operator: {FIRST} ×{len(skipped):,}" in summary
    assert len(site.times_of(FIRST, skipped_at)) <= 1
    assert len(skipped) + len(site.times_of(FIRST)) == PAGES


def test_a_delay_of_its_own(site: Site, running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """The server sees the gaps from then on, and back again; the log proves what held when."""
    code, said = told(capfd, FIRST, "--delay", "0.2")
    slow_at = time.monotonic()
    assert (code, said.partition(";")[0]) == (
        0, f"{FIRST}: one request at a time, the next 0.2 s after the last ended",
    )  # fmt: skip
    wait_until(lambda: len(site.times_of(FIRST, slow_at)) >= 5, "it was asked five times", running)
    times = site.times_of(FIRST, slow_at)[1:5]
    assert min(after - before for before, after in itertools.pairwise(times)) >= 0.2
    assert told(capfd, FIRST, "--delay", "run")[1].startswith(f"{FIRST}: asked by the run's own limits; ")
    assert end_of(running)[0] == 0
    assert main(["audit", "run.log"]) == 0
    lines = [json.loads(line) for line in pathlib.Path("run.log").read_text().splitlines()]
    delays = {line["delay_s"] for line in lines if line["event"] == "leg ended" and line["host"] == FIRST}
    assert delays == {0.0, 0.2}
    ordered = [line for line in lines if line["event"] == "host ordered"]
    assert [(line["host"], line["action"], line["delay_s"]) for line in ordered] == [
        (FIRST, "delay", 0.2), (FIRST, "delay", None),
    ]  # fmt: skip


def test_a_host_that_the_run_has_not_met(running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """It is accepted, and the line says so: the name may be mistyped."""
    unknown = "later.example: held; 0 URLs wait for it (the run knows no URL of it so far)"
    assert told(capfd, "Later.example.", "--hold") == (0, unknown)


def test_a_run_that_was_killed_leaves_a_place_for_the_next(running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """Nobody listens on what it leaves behind, which is said; the next run replaces it, and removes it."""
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert os.path.exists("control")
    code, said = told(capfd, FIRST, "--hold")
    assert (code, said) == (
        3, "crawlpool: control: nobody listens there: the run has ended, or it is no control socket",
    )  # fmt: skip
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url(), "--control", "control", "-q"]) == 0
    assert not os.path.exists("control")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["h"], "one of --hold, --release, --skip and --delay is needed, and nothing is given"),
        (["h", "--hold", "--delay", "3"], "is needed, and --hold and --delay are given"),
        (["h", "--delay", "soon"], "Invalid value for '--delay': 'soon' is no number of seconds."),
        (["h", "--delay", "86401"], "'86401' is more than 86400 seconds"),
        ([], "Missing argument 'HOST'"),
    ],
)
def test_a_command_line_that_is_wrong(arguments: list[str], says: str, capfd: Capture) -> None:
    """One action and no other; exit code 2, and nothing is asked."""
    code, said = told(capfd, *arguments)
    assert code == 2
    assert says in said


def test_a_host_that_is_none_is_the_command_lines_fault(running: subprocess.Popen[bytes], capfd: Capture) -> None:
    """The run says what is wrong with it; no login is repeated."""
    code, said = told(capfd, "http://me:s3cr3t@h/", "--hold")
    assert code == 2
    assert "host='http://***@h/': a host's name or address, without scheme and port" in said
    assert "s3cr3t" not in said


def test_the_run_ends_with_3_before_it_fetches_when_its_socket_can_not_be_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """Nothing is asked, and no output is overwritten; the option counts from a config file, too."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file").write_text("precious")
    pathlib.Path("out.jsonl").write_text("old")
    pathlib.Path("c.toml").write_text('control = "file"\n')
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url(), "--config", "c.toml", "-o", "out.jsonl"]) == 3
        assert server.request_count == 0
    assert "file: there is something else, which is no socket" in capfd.readouterr().err
    assert (pathlib.Path("file").read_text(), pathlib.Path("out.jsonl").read_text()) == ("precious", "old")


@pytest.mark.parametrize(
    ("action", "more", "says"),
    [
        ("hold", {"is_held": True}, "h: held; 2 URLs wait for it"),
        ("hold", {"is_held": True, "waiting": 1}, "h: held; 1 URL waits for it"),
        (
            "hold",
            {"is_held": True, "delay_s": 5.0},
            "h: held, one request at a time, the next 5 s after the last ended;",
        ),
        ("release", {"waiting": 100_000, "has_more": True}, "h: released; 100,000 URLs or more wait for it"),
        ("skip", {"is_skipped": True}, "h: skipped; 2 URLs that waited for it, and all that come, end as skipped"),
        ("delay", {"delay_s": 0.0}, "h: no delay; 2 URLs wait for it"),
        ("delay", {"delay_s": None}, "h: asked by the run's own limits; 2 URLs wait for it"),
        ("delay", {"delay_s": 1.0, "is_skipped": True}, "h: skipped, one request at a time, the next 1 s"),
        (
            "hold",
            {"is_held": True, "is_known": False},
            "h: held; 2 URLs wait for it (the run knows no URL of it so far)",
        ),
    ],
)
def test_the_line_says_what_is_so_now(action: str, more: dict[str, Any], says: str) -> None:
    """The state of the host after the command, and how many of its URLs that concerns."""
    standing = {
        "host": "h", "is_held": False, "is_skipped": False, "delay_s": None, "waiting": 2, "is_known": True,
        "has_more": False, **more,
    }  # fmt: skip
    assert text_of(action, standing).startswith(says)
