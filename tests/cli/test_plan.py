"""``crawlpool plan``: what it tells, of which input, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import tracemalloc
from typing import Any

import click
import pytest

from crawlpool.cli import main
from crawlpool.cli.app import make_command
from crawlpool.cli.help import PLAN, RUN, Lesson
from crawlpool.cli.watch import TOLD_LINES
from crawlpool.testing import SiteServer, loopback_hosts
from tests.cli.command import PATIENCE_S, environment, finish, start

Capture = pytest.CaptureFixture[str]

MIXED = (
    "http://big.example/1\nhttp://BIG.example:8080/2\nhttps://big.example/3\n\n# a comment\n"
    "http://small.example/\nhttp://localhost/\n"
)


def told(capfd: Capture, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Return what ``crawlpool plan`` writes to its two streams, after it ended with a code."""
    assert main(["plan", *arguments]) == code
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return out, err


def facts(capfd: Capture, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Return the plan as ``--json`` gives it."""
    out, _ = told(capfd, *arguments, "--json", code=code)
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def mixed(tmp_path: pathlib.Path) -> str:
    """Return the path of a list with three hosts."""
    path = tmp_path / "urls.txt"
    path.write_text(MIXED)
    return str(path)


def test_a_plan_is_a_table_and_a_few_sentences(mixed: str, capfd: Capture) -> None:
    """Hosts without port and scheme, their share and demand; the time, why, and whether more at once would help."""
    out, err = told(capfd, mixed)
    assert err == ""
    assert out == (
        "host            URLs    share   alone\n"
        "big.example        3   60.0 %   3.5 s\n"
        "small.example      1   20.0 %   1.5 s\n"
        "localhost          1   20.0 %   0.5 s\n"
        "\n"
        "5 URLs of 3 hosts, and 2 robots.txt.\n"
        "A run takes at least 3.5 s, if an answer takes 0.5 s, which is an assumption (--answer-time), and no "
        "robots.txt has a Crawl-delay, which nobody knows before.\n"
        "big.example and small.example decide that: one request at a time per host, the next 0.5 s after the last "
        "ended (loopback hosts: no limit); the delay alone takes 1.5 s for big.example, however fast it answers.\n"
        "Without them the other host would be done in 0.5 s.\n"
        "More in flight than 16 (--in-flight, --threads) would bring nothing; 1 is enough.\n"
    )


def test_an_empty_input_is_said_to_be_one(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """It is no error, as it is none for a run."""
    path = tmp_path / "urls.txt"
    path.write_text("# nothing\n")
    assert told(capfd, str(path)) == ("There is no URL in this input: nothing to fetch.\n", "")
    assert facts(capfd, str(path))["decides"] == "nothing"


def test_json_has_the_same_facts(mixed: str, capfd: Capture) -> None:
    """One object in one line, with seconds and shares as numbers, and the assumptions beside them."""
    assert facts(capfd, mixed, "--top", "1", "--delay", "2", "--answer-time", "0.25", "--in-flight", "8") == {
        "v": 1,
        "urls": 5,
        "bad_lines": 0,
        "duplicates": 0,
        "hosts": 3,
        "requests": 8,
        "assumed": {
            "answer_s": 0.25,
            "in_flight": 8,
            "delay_s": 2.0,
            "per_host": 1,
            "rate": None,
            "loopback_exempt": False,
            "ignore_robots": False,
        },
        "total_s": 7.0,
        "decides": "hosts",
        "bounds": {"hosts_s": 7.0, "rate_s": 0.0, "in_flight_s": 0.25},
        "deciding": {"hosts": 3, "urls": 5, "share": 1.0},
        "rest": {"hosts": 0, "urls": 0, "share": 0.0, "total_s": 0.0},
        "most": {"hosts": 3, "urls": 5, "share": 1.0},
        "in_flight_doubled": {"in_flight": 16, "total_s": 7.0},
        "in_flight_enough": {"in_flight": 1, "total_s": 7.0},
        "top": [
            {"host": "big.example", "urls": 3, "share": 0.6, "requests": 4, "demanded_s": 7.0, "waits_s": 6.0},
        ],
        "sharded": None,
    }


@pytest.mark.parametrize(
    ("arguments", "total_s", "requests"),
    [
        (["--ignore-robots"], 2.5, 5),
        (["--per-host", "2"], 1.5, 8),
        (["--per-host", "2", "--ignore-robots"], 1.0, 5),
        (["--delay", "0"], 2.0, 8),
        (["--threads", "1"], 3.5, 7),
        (["--threads", "9", "--in-flight", "1", "--answer-time", "2"], 14.0, 7),
        (["--rate", "1"], 6.5, 7),
    ],
)
def test_the_options_are_those_of_a_run(
    mixed: str, capfd: Capture, arguments: list[str], total_s: float, requests: int
) -> None:
    """Delay, requests at once per host, rate, robots.txt, threads and requests in flight mean what they mean there."""
    found = facts(capfd, mixed, *arguments)
    assert (found["total_s"], found["requests"]) == (total_s, requests)


def test_what_run_and_plan_share_is_the_same_option() -> None:
    """Same names, values, defaults and words; of its own a plan has what only a plan needs."""
    commands = make_command().commands
    run, plan = ({param.name: param for param in commands[name].params} for name in ("run", "plan"))
    assert plan.keys() - run.keys() == {"answer_time", "top", "json"}
    for name in plan.keys() & run.keys():
        assert plan[name].to_info_dict() == run[name].to_info_dict()


@pytest.mark.parametrize(("name", "lesson"), [("run", RUN), ("plan", PLAN)])
def test_the_help_teaches_what_works(name: str, lesson: Lesson, capfd: Capture) -> None:
    """Each example is in the help, and its options are the command's; each group that is shown has options."""
    assert main([name, "--help"]) == 0
    shown = capfd.readouterr().out
    command = make_command().commands[name]
    known = {word for param in command.params for word in param.opts}
    for what, how in lesson.examples:
        assert what in shown and how in shown
        ours = re.search(rf"crawlpool {name}\b[^|]*", how)
        assert ours is None or set(re.findall(r"(?<= )-[-\w]+", ours[0])) <= known | {"-"}
    assert not re.search(r"^[A-Z][\w ]+:\n(\n|$)", shown, re.MULTILINE)


def test_input_comes_from_files_streams_and_the_command_line(
    tmp_path: pathlib.Path, capfd: Capture, mixed: str
) -> None:
    """As a run reads it: gzip, CSV, JSON Lines, URLs, a scheme for those without one."""
    packed = tmp_path / "urls.gz"
    packed.write_bytes(gzip.compress(MIXED.encode(), mtime=0))
    inputs = str(packed), mixed, "http://big.example/9"
    found = facts(capfd, *inputs)  # the same lines, once in a file and once packed
    assert [(host["host"], host["urls"]) for host in found["top"]][:2] == [("big.example", 4), ("small.example", 1)]
    assert found["duplicates"] == 5
    found = facts(capfd, *inputs, "--duplicates", "fetch")
    assert [(host["host"], host["urls"]) for host in found["top"]][:2] == [("big.example", 7), ("small.example", 2)]
    table = tmp_path / "shop.csv"
    table.write_text("sku,link\n1,http://a.example/\n2,a.example\n")
    found = facts(capfd, str(table), "--input-format", "csv", "--url-field", "link", "--default-scheme", "https")
    assert [(host["host"], host["urls"]) for host in found["top"]] == [("a.example", 2)]


def test_standard_input_is_read_to_its_end() -> None:
    """``-`` as everywhere."""
    code, out, err = finish(start(["plan", "-", "--json"]), MIXED.encode())
    assert (code, err, json.loads(out)["urls"]) == (0, "", 5)


def test_nothing_is_fetched_or_resolved(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is asked for and no connection made, not even for robots.txt."""

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise AssertionError(f"a plan asked the network: {arguments}")

    with SiteServer({"/": b"x"}) as server, monkeypatch.context() as patch:
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            patch.setattr(socket, name, refuse)
        patch.setattr(socket.socket, "connect", refuse)
        assert facts(capfd, server.url("/"), "http://h.example/")["hosts"] == 2
        assert server.request_count == 0


def test_a_run_sends_what_was_planned_and_is_no_faster(capfd: Capture) -> None:
    """The server sees as many requests, robots.txt included, and the run takes as long as the delays alone at least."""
    hosts = loopback_hosts(3)
    options = ["--delay", "0.05", "--threads", "4"]
    with SiteServer(lambda request: b"x", hosts=hosts) as server:
        urls = [f"http://{host}:{server.port}/{n}" for n in range(6) for host in hosts[: 1 if n > 3 else 3]]
        planned = facts(capfd, *urls, *options, "--answer-time", "0.0001")
        begin = time.monotonic()
        assert main(["run", *urls, *options, "-q"]) == 0
        took_s = time.monotonic() - begin
        assert server.request_count == planned["requests"] == len(urls) + len(hosts)
    assert planned["top"][0]["waits_s"] == 0.3  # a delay after robots.txt, and after each page but the last
    assert took_s >= planned["total_s"]


def test_bad_lines_are_told_counted_and_end_with_4(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """File and line of the first ten, the number of all; the others are planned."""
    path = tmp_path / "urls.txt"
    path.write_text("http://a.example/\n" + "nonsense\n" * 25)
    out, err = told(capfd, str(path), code=4)
    lines = err.splitlines()
    assert len(lines) == TOLD_LINES
    assert lines[0] == f"crawlpool: {path}:2: no scheme (http:// or https://): 'nonsense'"
    assert lines[-1].endswith("further bad lines are only counted")
    assert out.endswith("\n25 lines can't be fetched, and would be recorded as failed.\n")
    found = facts(capfd, str(path), "-q", code=4)
    assert (found["urls"], found["bad_lines"]) == (1, 25)
    assert told(capfd, str(path), "-q", code=4)[1] == ""


def test_no_login_is_shown(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Neither that of a URL nor that of a line that is none."""
    path = tmp_path / "urls.txt"
    path.write_text("http://user:secret@a.example/\nhttp://user:secret@/\nuser:secret@b.example\n")
    for more in ([], ["--json"], ["--log-format", "json"]):
        out, err = told(capfd, str(path), *more, code=4)
        assert "a.example" in out
        assert "secret" not in out + err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no input"),
        (["-", "-"], "'-' is there twice"),
        (["u", "--answer-time", "0"], "'0' is no number of seconds"),
        (["u", "--answer-time", "1e300"], "'1e300' is more than 86400 seconds"),
        (["u", "--top", "-1"], "-1 is not in the range"),
        (["u", "--in-flight", "0"], "0 is not in the range"),
        (["u", "--delay", "1", "--per-host", "2"], "--delay 1 is between one request and the next"),
        (["u", "--rate", "fast"], "'fast' is no rate"),
        (["u", "--input-format", "xml"], "'xml' is not one of"),
        (["u", "--carry", "a"], "No such option"),
        (["u", "--output", "a.jsonl"], "No such option"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(capfd: Capture, arguments: list[str], says: str) -> None:
    """Nothing goes to stdout."""
    out, err = told(capfd, *arguments, code=2)
    assert says in err and out == ""


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "no such file"),
        ("wide.txt", "http://h/\n".encode("utf-16"), "UTF-16"),
        ("half.gz", gzip.compress(b"http://h/\n" * 9999, mtime=0)[:-40], "the gzip data ends too early"),
    ],
)
def test_an_input_that_cannot_be_read_ends_with_3(
    tmp_path: pathlib.Path, capfd: Capture, name: str, content: bytes | None, says: str
) -> None:
    """One line names it; of a part of an input there is no plan."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    out, err = told(capfd, str(path), "http://a.example/", code=3)
    assert (out, err.count("\n")) == ("", 1)
    assert f"{path}: " in err and says in err


def test_the_settings_of_a_run_serve_a_plan_too(
    mixed: str, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file and one environment for both: what a command doesn't need is read over, what nobody knows refused."""
    config = tmp_path / "c.toml"
    config.write_text('delay = 2\nretries = 1\nanswer-time = 0.25\noutput = ["o.jsonl"]\n[site."http://a.example"]\n')
    monkeypatch.setenv("CRAWLPOOL_RETRIES", "3")
    monkeypatch.setenv("CRAWLPOOL_THREADS", "5")
    assumed = facts(capfd, mixed, "--config", str(config))["assumed"]
    assert (assumed["delay_s"], assumed["answer_s"], assumed["in_flight"]) == (2.0, 0.25, 5)
    monkeypatch.setenv("CRAWLPOOL_TOP", "5")
    config.write_text("top = 3\njson = true\n")
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), "-q", "--config", str(config)]) == 0
    capfd.readouterr()
    for content, says in (
        ("retrise = 1", "'retrise' is no option; is 'retries' meant?"),
        ("retries = -1", "retries: -1 is not in the range"),
    ):
        config.write_text(content)
        assert says in told(capfd, mixed, "--config", str(config), code=2)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_7_and_no_plan(number: signal.Signals) -> None:
    """Also while standard input stays open; one line says how far it was."""
    process = start(["plan", "-"])
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"http://a.example/\nnonsense\n")
    process.stdin.flush()
    first = process.stderr.readline()  # the bad line was read
    assert first.startswith(b"crawlpool: stdin:2: no scheme")
    process.send_signal(number)
    process.wait(PATIENCE_S)  # standard input is open all the while
    code, out, err = finish(process)
    assert (code, out) == (7, "")
    assert err == "crawlpool: interrupted after 1 URL: there is no plan of a part of the input\n"


def test_an_output_that_nobody_takes_ends_with_3(mixed: str) -> None:
    """A closed standard output, or a pipe whose reader is gone: one line, no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start(["plan", mixed], stdout=writing)
    os.close(writing)
    code, _, err = finish(process)
    assert (code, err) == (3, "crawlpool: stdout: Broken pipe\n")
    closed = subprocess.run(
        ["sh", "-c", f'"{__import__("sys").executable}" -m crawlpool plan "$0" >&-', mixed],
        env=environment(), capture_output=True, encoding="utf-8", check=False, timeout=30,
    )  # fmt: skip
    assert (closed.returncode, closed.stdout) == (3, "")
    assert closed.stderr == "crawlpool: stdout: it was closed when the program started\n"


def test_memory_grows_with_the_hosts_and_not_with_the_urls(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """25,000 lines of which three hosts hold 97 %: some hundred bytes a host, and no object for a line."""
    path = tmp_path / "urls.txt"
    with open(path, "w", encoding="ascii") as file:
        for number in range(25_000):
            host = f"h{number}" if number % 100 < 3 else f"shop{number % 3}"
            file.write(f"https://{host}.example/{number}\n")
    main(["plan", "http://a.example/"])  # what is imported and kept anyway
    capfd.readouterr()
    tracemalloc.start()
    try:
        found = facts(capfd, str(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found["hosts"], found["deciding"]["hosts"], found["deciding"]["share"]) == (753, 3, 0.97)
    assert peak < 1.5 * 2**20  # tracing makes it slow: the fewest lines of which the smallest object would be seen


def test_a_command_that_does_not_exist_is_told(capfd: Capture) -> None:
    """The group knows its commands."""
    assert main(["plann", "u"]) == 2
    assert "No such command 'plann'" in capfd.readouterr().err
    group = make_command()
    assert isinstance(group, click.Group)
    known = "audit cat explain export host plan resume run status verify"
    assert sorted(group.commands) == known.split()
