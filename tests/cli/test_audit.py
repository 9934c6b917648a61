"""``crawlpool audit``: a real run's log is clean, what was planted in it is named, and bad logs are told of."""

from __future__ import annotations

import gzip
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crawlpool.cli import main
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts

Capture = pytest.CaptureFixture[str]
Log = Callable[..., pathlib.Path]


class Site:
    """A redirect, a refusal now and then, and pages."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    def __call__(self, request: Request) -> Any:
        number = self._asked[request.path] = self._asked.get(request.path, 0) + 1
        if request.path == "/from":
            return Answer(302, {"Location": "/to"})
        if request.path == "/busy" and number == 1:
            return Answer(429, {"Retry-After": "0"})
        return Answer(200, body=b"x", delay_s=0.002)


@pytest.fixture
def run_log(tmp_path: pathlib.Path, capfd: Capture) -> Log:
    """Return a function that runs the command with its legs logged, and returns the log."""

    def run(urls: Sequence[str], *options: str, name: str = "run.log") -> pathlib.Path:
        assert main(["run", *urls, *options, "-vv", "--log-format", "json"]) == 0
        log = tmp_path / name
        log.write_text(capfd.readouterr().err)
        return log

    return run


@pytest.fixture
def polite_log(run_log: Log) -> pathlib.Path:
    """Return the log of a short run of one host."""
    with SiteServer(Site()) as server:
        return run_log([server.url(f"/{n}") for n in range(5)], "--delay", "0.03", "--ignore-robots")


def legs_of(log: pathlib.Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the number and the fields of each line that is a leg's."""
    lines = enumerate(log.read_text("utf-8").splitlines(), 1)
    return [(number, json.loads(line)) for number, line in lines if '"leg ended"' in line]


def replace_line(log: pathlib.Path, number: int, text: str) -> None:
    """Put another text in place of a line."""
    lines = log.read_text("utf-8").splitlines()
    lines[number - 1] = text
    log.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.above_transports
@pytest.mark.parametrize("options", [("--delay", "0.05"), ("--per-host", "3"), ("--delay", "0")])
def test_a_real_run_is_clean(options: tuple[str, str], run_log: Log, capfd: Capture) -> None:
    """With robots.txt, a redirect and a refusal: whatever the limits are, they were kept."""
    hosts = loopback_hosts(3)
    paths = ["/from", "/busy", *(f"/{number}" for number in range(6))]
    with SiteServer(Site(), hosts=hosts) as server:
        log = run_log([server.url(path, host) for path in paths for host in hosts], *options, "--threads", "8")
        asked = server.request_count
    assert main(["audit", str(log)]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"no breach: {asked} requests, {len(hosts)} host{'s' * (len(hosts) > 1)}; none was asked")
    assert ("starts with a delay" in out) == (options == ("--delay", "0.05"))
    assert "starts after a refusal" in out


def test_a_planted_breach_is_named(polite_log: pathlib.Path, capfd: Capture) -> None:
    """Which request, by how much, and which one it should have waited for; and the exit code is 4."""
    (_, first), (number, second) = legs_of(polite_log)[1:3]
    early = {**second, "start_s": round(first["end_s"] + 0.03 - 0.0125, 6)}
    replace_line(polite_log, number, json.dumps(early))
    assert main(["audit", str(polite_log)]) == 4
    verdict, *_, breach = capfd.readouterr().out.splitlines()
    assert verdict == "1 breach: 5 requests, 1 host"
    assert breach == (
        f"{polite_log}:{number}: 127.0.0.1: too early by 0.012500 s: {second['url']} did not wait for the delay of "
        f"0.03 s after the end of {first['url']} ({polite_log}:{legs_of(polite_log)[1][0]})"
    )


def test_the_same_requests_by_other_limits(polite_log: pathlib.Path, capfd: Capture) -> None:
    """A longer delay would not have been kept: each request but the first is too early."""
    assert main(["audit", str(polite_log), "--per-host", "2"]) == 0
    assert "than allowed (judged by --per-host 2)" in capfd.readouterr().out
    assert main(["audit", str(polite_log), "--delay", "60"]) == 4
    out = capfd.readouterr().out
    assert out.startswith("4 breaches: 5 requests, 1 host (judged by --delay 60)\n")
    assert out.count("too early by 59.") == 4


def test_only_the_first_breaches_are_told(polite_log: pathlib.Path, capfd: Capture) -> None:
    """Twenty, and how many more there are; as JSON there is room for more of them."""
    (_, leg), *_ = legs_of(polite_log)
    polite_log.write_text(f"{json.dumps(leg)}\n" * 30)
    assert main(["audit", str(polite_log)]) == 4
    lines = capfd.readouterr().out.splitlines()
    assert (lines[0][:11], lines[-1], len(lines)) == ("29 breaches", "and 9 more", 22 + ("delay" in lines[1]))
    assert main(["audit", str(polite_log), "--json"]) == 4
    told = json.loads(capfd.readouterr().out)
    assert (told["breach_count"], len(told["breaches"]), told["requests"]) == (29, 29, 30)
    assert told["breaches"][0]["kind"] == "delay"


def test_the_evidence_of_one_host(polite_log: pathlib.Path, capfd: Capture) -> None:
    """Each request with start, end and the gap before it, from the first one on."""
    assert main(["audit", str(polite_log), "--host", "127.0.0.1.", "--evidence"]) == 0
    table = capfd.readouterr().out.partition("run 1: ")[2].splitlines()
    rows = [re.split(r"\s+", row.strip(), maxsplit=4) for row in table[2:]]
    legs = [leg for _, leg in legs_of(polite_log)]
    assert [row[4].partition(" ")[0] for row in rows] == [leg["url"] for leg in legs]
    assert (rows[0][0], rows[0][2]) == ("0.000000", "-")
    assert all(float(row[2]) >= 0.03 for row in rows[1:])
    assert main(["audit", str(polite_log), "--host", "127.0.0.1", "--evidence", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [one["start_s"] for one in told["evidence"]] == [leg["start_s"] for leg in legs]


def test_a_host_that_was_never_asked(polite_log: pathlib.Path, capfd: Capture) -> None:
    """It isn't proved polite by being absent: exit code 3, and what there is."""
    assert main(["audit", str(polite_log), "--host", "elsewhere.example"]) == 3
    assert "no request to 'elsewhere.example' is recorded, of 5 to other hosts" in capfd.readouterr().err


def test_runs_of_one_log_are_judged_apart(polite_log: pathlib.Path, capfd: Capture) -> None:
    """The start of a run begins a new clock: the same log twice is no breach, and neither are two files."""
    polite_log.write_text(polite_log.read_text() * 2)
    assert main(["audit", str(polite_log)]) == 0
    assert capfd.readouterr().out.startswith("no breach: 10 requests, 1 host, 2 runs;")
    assert main(["audit", str(polite_log), str(polite_log), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["runs"] == 4


def test_a_packed_log(polite_log: pathlib.Path, capfd: Capture) -> None:
    """Gzip is seen by the first bytes."""
    polite_log.write_bytes(gzip.compress(polite_log.read_bytes()))
    assert main(["audit", str(polite_log)]) == 0
    assert capfd.readouterr().out.startswith("no breach: 5 requests")


def test_broken_lines_are_counted_and_told(polite_log: pathlib.Path, capfd: Capture) -> None:
    """A torn last line, a leg that is none, bytes that are no text: the rest is judged, and the exit code is 3."""
    (_, leg), *_ = legs_of(polite_log)
    torn = json.dumps(leg)[:-20].encode()
    odd = [b"[1]", b'"leg ended"', b"a line of another program", b'{"event": "other"}', b"", b'{"event": "x started"}']
    bad = [b'{"event": "leg ended"}', b'{"event": "leg ended", "url": "\xff"}', b'{"event": "le', torn]
    with polite_log.open("ab") as file:
        file.write(b"\n".join([*odd, *bad]))
    assert main(["audit", str(polite_log)]) == 3
    out = capfd.readouterr().out
    assert out.startswith("no breach: 5 requests")
    assert "  4 broken lines: what stood there was not judged\n" in out


def test_hosts_without_limits_prove_nothing(run_log: Log, capfd: Capture) -> None:
    """Loopback hosts have none by default, and the verdict says so."""
    with SiteServer(Site()) as server:
        log = run_log([server.url(f"/{n}") for n in range(3)])
    assert main(["audit", str(log)]) == 0
    out = capfd.readouterr().out
    assert out.startswith("nothing to judge: 3 requests, 1 host, none of them with limits")
    assert "  3 requests to hosts without limits: not judged\n" in out


def test_a_log_without_a_leg_says_how_to_record_them(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Exit code 3; the same for a file that isn't there."""
    log = tmp_path / "run.log"
    log.write_text('{"event": "started"}\ncrawlpool: started\n')
    assert main(["audit", str(log)]) == 3
    told = f"{log}: no request is recorded in its lines; this records them: crawlpool run URLS -vv --log-format json"
    assert told in capfd.readouterr().err
    assert main(["audit", str(tmp_path / "none.log")]) == 3
    assert "none.log: no such file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "LOG|JOB..."),
        (["x.log", "--evidence"], "say which with --host"),
        (["x.log", "--delay", "1", "--per-host", "2"], "or leave one of them out"),
        (["x.log", "--delay", "-1"], "no number of seconds"),
        (["x.log", "--delay", "1e9"], "more than 86400 seconds"),
        (["x.log", "--per-host", "0"], "--per-host"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(options: list[str], says: str, capfd: Capture) -> None:
    """Exit code 2, and the message says what to do."""
    assert main(["audit", *options]) == 2
    assert says in capfd.readouterr().err


def test_the_help_teaches(capfd: Capture) -> None:
    """How a log is recorded, what the exit codes mean."""
    assert main(["audit", "--help"]) == 0
    out = capfd.readouterr().out
    lines = [line.strip() for line in out.splitlines()]
    at = lines.index("crawlpool run URLS -vv --log-format json 2> run.log")
    assert lines[at + 1] == "crawlpool audit run.log"
    assert "4  a host was asked faster, or more at once, than allowed" in lines
