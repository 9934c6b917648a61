"""The time of day is for records, HTTP dates and later processes; no wait of a run goes by it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.command import PATIENCE_S, environment
from tests.house import modules

#: Who reads the time of day, and what for.
READERS = {
    "crawlpool.attend": "a Retry-After that is a date",
    "crawlpool.cli.job_file": "when a job was made, in its file",
    "crawlpool.cli.job_status": "how long ago something was recorded, perhaps by another process",
    "crawlpool.cli.sharded": "when a job of shards was made",
    "crawlpool.clock": "the one clock that the others are given",
    "crawlpool.cookies.asking": "when cookies expire, for a policy of the user's",
    "crawlpool.cookies.index": "when cookies expire, which servers say as dates",
    "crawlpool.cookies.jar": "when cookies expire",
    "crawlpool.cookies.netscape": "when cookies expire",
    "crawlpool.cookies.store": "when cookies expire",
    "crawlpool.cookies.view": "when cookies expire",
    "crawlpool.evidence": "a Retry-After that is a date",
    "crawlpool.jobs.crawl": "when a robots.txt was read, for a later process",
    "crawlpool.engines.library": "when a job of shards was made",
    "crawlpool.jobs.explaining": "how long a host of another process rests yet",
    "crawlpool.jobs.hosts": "until when a host rests, for a later process",
    "crawlpool.jobs.job": "when a run began and ended, in the ledger",
    "crawlpool.observe.telling": "the timestamp of a log line",
    "crawlpool.retry.policy": "a Retry-After that is a date",
    "crawlpool.settle": "when a leg began, in its record; a Retry-After that is a date",
    "crawlpool.sinks.warc": "the date of a warcinfo record",
    "crawlpool.testing.badtls": "certificates that have expired",
    "crawlpool.testing.http1": "the Date of a test server's answer",
    "crawlpool.testing.routes": "the Last-Modified of a test server's file",
    "crawlpool.turnstile": "when a request began, in the log; a Retry-After that is a date",
}
_OF_TIME = {"time", "gmtime", "localtime", "ctime", "time_ns", "strftime"}
_OF_DATETIME = {"now", "utcnow", "today"}


def readings(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of a module that read the time of day: from ``time``, ``datetime`` or a ``Clock``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            yield from (node.lineno for alias in node.names if alias.name in _OF_TIME | {"datetime", "date"})
        if not isinstance(node, ast.Attribute):
            continue
        of = node.value
        name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
        if (
            (name == "time" and node.attr in _OF_TIME)
            or (name in ("datetime", "date") and node.attr in _OF_DATETIME)
            or node.attr == "wall"
            or node.attr == "formatdate"
        ):
            yield node.lineno


def test_who_reads_the_time_of_day_is_known() -> None:
    """Each module that does stands in the list with what it does it for, and no other does."""
    found = {name for name, tree in modules().items() if any(readings(tree))}
    assert found == set(READERS)


@pytest.mark.parametrize(
    "line",
    [
        "time.time()",
        "clock.wall()",
        "x = time.time",
        "datetime.datetime.now()",
        "datetime.date.today()",
        "time.gmtime()",
    ],
)
def test_each_way_to_read_it_is_seen(line: str) -> None:
    """By call or by name; the monotonic clock is another."""
    assert list(readings(ast.parse(f"time.monotonic()\nclock.monotonic()\n{line}\ntime.sleep(1)\n"))) == [3]


_JUMPS = """
import itertools, json, threading, time
real, offset = time.time, [0.0]
time.time = lambda: real() + offset[0]
from crawlpool import HostLimits, SessionPool
from crawlpool.testing import Answer, SiteServer

over = threading.Event()
def jump():
    for hours in itertools.cycle((5, -7, 0, 48, -1000)):
        offset[0] = hours * 3600.0
        if over.wait(0.02):
            return

asked, failed = [], set()
def page(request):
    asked.append(time.monotonic())
    if request.query == "again" and request.query not in failed:
        failed.add(request.query)
        return Answer(503, {"Retry-After": "1"})
    return Answer(200, {"Set-Cookie": "a=b; Max-Age=3600"}, b"x")

jumper = threading.Thread(target=jump)
jumper.start()
with SiteServer(page) as server, SessionPool(transport=None, trust_env=False, deadline=30, timeout=20) as pool:
    started = time.monotonic()
    report = pool.crawl([server.url(f"/{n}") for n in range(20)] + [server.url("/?again")], robots=False,
                        limits=HostLimits(delay_s=0.05), max_wait_s=60)
    took = time.monotonic() - started
    gaps = [later - before for before, later in zip(asked, asked[1:])]
over.set()
jumper.join()
print(json.dumps({"ok": report.ok, "failed": report.failed, "took": took, "gap": min(gaps), "asked": len(asked)}))
"""


@pytest.mark.transports()
def test_a_clock_that_jumps_by_hours_changes_no_wait() -> None:
    """Delays, a refusal's pause, deadlines and patience are those of the monotonic clock; all is fetched."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _JUMPS],
        capture_output=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    found = json.loads(ended.stdout)
    assert (found["ok"], found["failed"], found["asked"]) == (21, 0, 22)
    assert found["gap"] >= 0.05
    assert 1.0 + 20 * 0.05 <= found["took"] < 30.0
