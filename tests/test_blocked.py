"""Hosts that don't want us, and networks that are gone: what a crawl makes of it, against real servers."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import requests

from crawlpool import ConfigError, HostLimits, Outcome, SessionPool
from crawlpool.cli import main
from crawlpool.politeness import outage
from crawlpool.politeness.blocks import BLOCKS
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.gates import ListSink
from tests.outage import crawl_through

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.above_transports

ONE = HostLimits(concurrency=1)
WALL = Answer(403, {}, b"no")


def page_of(request: Request) -> Answer | bytes:
    """Answer as a host does that lets nobody in."""
    return Answer(404) if request.path == "/robots.txt" else WALL


def test_a_host_that_blocks_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """After eighteen blocks nothing more is sent to it; the rest is skipped; others go on; one log line names it."""
    bad, good = loopback_hosts(2)
    sink = ListSink()
    with caplog.at_level(logging.WARNING, "crawlpool"), SiteServer(page_of, hosts=[bad]) as wall:
        with SiteServer({"/": b"x"}, hosts=[good]) as server, SessionPool(threads=2) as pool:
            urls = [url for n in range(40) for url in (wall.url(f"/{n}", bad), server.url(f"/?{n}", good))]
            report = pool.crawl(urls, limits=ONE, sinks=[sink])
            assert wall.request_count == BLOCKS + 1  # and robots.txt
    assert (report.ok, report.http_error, report.skipped) == (40, BLOCKS, 40 - BLOCKS)
    held = [result for result in sink.results if result.outcome is Outcome.SKIPPED]
    assert {result.reason for result in held} == {"held"}
    assert [result.is_blocked for result in sink.results].count(True) == BLOCKS
    assert all(result.record["blocked"] is result.is_blocked for result in sink.results)
    told = [record for record in caplog.records if record.getMessage().startswith("host held")]
    assert [record.__dict__["host"] for record in told] == [bad]


def test_another_crawl_asks_again() -> None:
    """A hold lasts as long as its crawl: the host may have thought better of it."""
    answer: list[Answer | bytes] = [WALL]
    with SiteServer(lambda request: answer[0]) as server, SessionPool() as pool:
        urls = [server.url(f"/{n}") for n in range(30)]
        assert pool.crawl(urls, limits=ONE, robots=False, on_block="record").http_error == 30
        assert pool.crawl(urls, limits=ONE, robots=False).skipped == 30 - BLOCKS
        answer[0] = b"x"
        assert pool.crawl(urls, limits=ONE, robots=False).ok == 30


def test_recording_asks_on() -> None:
    """With ``on_block="record"`` a block is an answer like any other, that its record marks."""
    sink = ListSink()
    with SiteServer(page_of) as server, SessionPool() as pool:
        report = pool.crawl([server.url(f"/{n}") for n in range(30)], limits=ONE, sinks=[sink], on_block="record")
        with pytest.raises(ConfigError, match="on_block='maybe'"):
            pool.crawl([], on_block="maybe")
    assert report.http_error == 30
    assert all(result.is_blocked for result in sink.results)


def test_a_map_holds_nobody() -> None:
    """Who maps over URLs gets the answer of each, however many are refusals."""
    with SiteServer(page_of) as server, SessionPool() as pool:
        results = list(pool.map([server.url(f"/{n}") for n in range(30)], limits=ONE))
    assert {result.outcome for result in results} == {Outcome.HTTP_ERROR}


def test_a_users_judge_of_blocks() -> None:
    """``is_block`` sees answers that seem well; what it raises is logged, and no block."""

    def judge(response: requests.Response) -> bool:
        if response.url.endswith("/0"):
            raise ValueError("a user's")
        return b"captcha" in response.content

    limits = HostLimits(concurrency=1, is_block=judge)
    with SiteServer(lambda request: b"captcha, please") as server, SessionPool() as pool:
        report = pool.crawl([server.url(f"/{n}") for n in range(40)], limits=limits, robots=False)
    assert (report.ok, report.skipped) == (BLOCKS + 1, 40 - BLOCKS - 1)
    with pytest.raises(ConfigError, match="is_block=5"):
        HostLimits(is_block=5)  # type: ignore[arg-type]


def test_the_command_names_held_hosts(capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    """The summary says which, how many URLs that left, and what to do; work is left, so the exit code is 7."""
    records = tmp_path / "records.jsonl"
    with SiteServer(page_of) as server:
        urls = [server.url(f"/{n}") for n in range(25)]
        assert main(["run", *urls, "--per-host", "1", "-o", str(records)]) == 7
        said = capfd.readouterr().err
        assert f"401, 403, 429 or a challenge: 127.0.0.1 ×{25 - BLOCKS}\n" in said
        assert f"next: {25 - BLOCKS} URLs of held hosts were skipped" in said
        assert main(["run", *urls, "--per-host", "1", "-o", str(records), "--on-block", "record"]) == 8
    assert all(json.loads(line)["blocked"] for line in records.read_text().splitlines())


def test_the_command_skips_duplicates_unless_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A duplicate is well: the exit code is 0."""
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), server.url("/#again"), "-o", "-"]) == 0
        records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert [(r["n"], r["reason"], r["duplicate_of"]) for r in records if r["outcome"] == "skipped"] == [
            (2, "duplicate", 1)
        ]
        assert main(["run", server.url("/"), server.url("/"), "--duplicates", "fetch"]) == 0
        assert server.request_count == 3


def test_an_outage_fails_nothing(
    transport: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All hosts are gone in the middle of a crawl, and come back: each URL is ``ok``; ``tests.outage`` is longer."""
    monkeypatch.setattr(outage, "PROBE_S", 0.5)
    with caplog.at_level(logging.WARNING, "crawlpool"):
        report = crawl_through(20, 40, 3.0, transport)
    assert (report.inputs, report.ok) == (800, 800)
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    told = [line for line in told if line.startswith("outage")]
    # The hosts come back one by one: those that aren't there yet may look like another outage.
    assert told
    assert told == ["outage", "outage over"] * (len(told) // 2)
