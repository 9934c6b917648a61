"""``--delay``, ``--per-host``, ``--rate``: what they mean together, what is said of them, and that they hold."""

from __future__ import annotations

import threading
import time
from typing import Any

import click
import pytest

from crawlpool.cli import main
from crawlpool.cli.pace import Pace, pace_of
from crawlpool.cli.values import PerSecond
from crawlpool.limits import POLITE, HostLimits
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.cli.command import records_of

Capture = pytest.CaptureFixture[str]


def pace(**given: Any) -> Pace:
    """Return what options mean of which only some are given."""
    every = {"delay": None, "per_host": None, "rate": None, "max_retry_after": 120.0, "ignore_robots": False}
    every |= {"on_block": "hold", "adaptive": False, **given}
    return pace_of(click.Context(click.Command("run")), every)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, POLITE),
        ({"delay": 2.0}, HostLimits(delay_s=2.0)),
        ({"delay": 2.0, "per_host": 1}, HostLimits(delay_s=2.0)),
        ({"delay": 0.0}, HostLimits(concurrency=1)),
        ({"per_host": 4}, HostLimits(concurrency=4)),
        ({"delay": 0.0, "per_host": 4}, HostLimits(concurrency=4)),
        ({"per_host": 4, "adaptive": True}, HostLimits(concurrency=4, adaptive=True)),
        ({"per_host": 4, "per_ip": True}, HostLimits(concurrency=4, per_ip=True)),
        ({"per_ip": True}, HostLimits(delay_s=0.5, per_ip=True, loopback_exempt=True)),
        ({"max_retry_after": 7.0, "per_host": 1}, HostLimits(max_cooldown_s=7.0)),
    ],
)
def test_what_the_options_mean_together(given: dict[str, Any], limits: HostLimits) -> None:
    """--per-host alone is without a delay, --delay alone is one at a time; given, they hold for loopback, too."""
    assert pace(**given).limits == limits


def test_a_delay_and_several_at_once_contradict_each_other(capfd: Capture) -> None:
    """The message says what to do."""
    assert main(["run", "http://127.0.0.1:1/", "--delay", "1", "--per-host", "2"]) == 2
    assert "--delay 1 is between one request and the next, and --per-host 2" in capfd.readouterr().err


@pytest.mark.parametrize("options", [["--adaptive"], ["--adaptive", "--per-host", "1"], ["--adaptive", "--delay", "1"]])
def test_adaptive_needs_a_number_to_go_up_to(options: list[str], capfd: Capture) -> None:
    """From one to one there is nothing to be found out."""
    assert main(["run", "http://127.0.0.1:1/", *options]) == 2
    assert "--adaptive needs --per-host N" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "per_s"), [("5", 5.0), ("5/s", 5.0), ("300/m", 5.0), ("1800/H", 0.5), (" 2.5/s ", 2.5)]
)
def test_rates(text: str, per_s: float) -> None:
    """A number is of a second unless it says minutes or hours."""
    assert PerSecond().convert(text, None, None) == per_s


@pytest.mark.parametrize("text", ["", "0", "0/s", "-1", "5/d", "s", "1e3", "nan"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    """The message names the value and shows what a rate looks like."""
    with pytest.raises(click.BadParameter, match="is no rate such as 5/s"):
        PerSecond().convert(text, None, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "one request at a time per host, the next 0.5 s after the last ended (loopback hosts: no limit)"),
        ({"delay": 2.0, "rate": 5.0}, "the next 2 s after the last ended; at most 5 requests/s in all"),
        ({"per_host": 4}, "at most 4 at once per host"),
        ({"per_host": 4, "adaptive": True}, "at most 4 at once per host, as many as it bears"),
        ({"per_host": 4, "per_ip": True}, "at most 4 at once per host, and per address"),
        ({"delay": 2.0, "per_ip": True}, "at a time per host, and per address, the next 2 s after the last ended"),
    ],
)
def test_the_start_says_which_limits_hold(given: dict[str, Any], says: str) -> None:
    """In words, with the exemption where there is one."""
    assert str(pace(**given)).endswith(says)


@pytest.mark.above_transports
def test_a_delay_holds_by_the_servers_clock(capfd: Capture) -> None:
    """The server sees no request before the delay after its last answer has passed, and never two at once."""
    delay_s, ends, early, inside = 0.06, {}, [], []
    lock = threading.Lock()  # guards the lists

    def answers(request: Request) -> bytes:
        host = request.headers["host"]
        with lock:
            now = time.monotonic()
            if now < ends.get(host, -1.0) + delay_s or host in inside:
                early.append(request.path)
            inside.append(host)
        server.shutdown.wait(0.01)
        with lock:
            inside.remove(host)
            ends[host] = time.monotonic()
        return b"x"

    hosts = loopback_hosts(3)
    with SiteServer(answers, hosts=hosts) as server:
        urls = [f"http://{host}:{server.port}/{number}" for number in range(8) for host in hosts]
        assert main(["run", *urls, "--delay", str(delay_s), "--threads", "8"]) == 0
    assert (len(server.requests), early) == (24 + len(hosts), [])  # each host's robots.txt comes first
    told = capfd.readouterr().err
    assert "the next 0.06 s after the last ended;" in told
    assert "24 requests, 0 of them retries; 3 more for robots.txt\n" in told


@pytest.mark.above_transports
def test_a_refusal_keeps_everybody_from_the_host(capfd: Capture) -> None:
    """After a 429 with Retry-After nothing is sent to that host until its time has come, and all comes well."""
    refused_at: list[float] = []
    early: list[str] = []

    def answers(request: Request) -> Any:
        if not refused_at:
            refused_at.append(time.monotonic())
            return Answer(429, {"Retry-After": "1"})
        if time.monotonic() < refused_at[0] + 1.0:
            early.append(request.path)
        return b"x"

    with SiteServer(answers) as server:
        assert main(["run", *(server.url(f"/{n}") for n in range(5)), "--delay", "0"]) == 0
    assert early == []
    assert [record["outcome"] for record in records_of(capfd.readouterr().out)] == ["ok"] * 5


def test_the_rate_holds_over_all_hosts(capfd: Capture) -> None:
    """However many hosts and threads: not more in a second than asked for."""
    arrivals: list[float] = []

    def answers(request: Request) -> bytes:
        arrivals.append(time.monotonic())
        return b"x"

    hosts = loopback_hosts(3)
    with SiteServer(answers, hosts=hosts) as server:
        urls = [f"http://{host}:{server.port}/{number}" for number in range(8) for host in hosts]
        begin = time.monotonic()
        assert main(["run", *urls, "--rate", "40/s"]) == 0
    assert len(arrivals) == 24
    assert max(arrivals) - begin >= (24 - 1) / 40 - 0.05  # but for what may be made up for
