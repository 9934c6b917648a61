"""Log lines of a runner that has several shards open: which shard each is about, and by which runner."""

from __future__ import annotations

import logging
import pathlib
import threading
from typing import Any

import pytest

from crawlpool import HostLimits, RetryPolicy, SessionPool
from crawlpool.engines import notes
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.looking import Looker
from crawlpool.engines.runner import Runner
from crawlpool.events import carry, logger
from crawlpool.leg import host_of
from crawlpool.observe import Telling, logs_to
from crawlpool.shards import manifest
from crawlpool.shards.partition import Partitioner
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts

HOSTS = 8
#: What is said of single requests and targets.
SAID = {"retry scheduled", "leg ended", "the handler failed", "is_block failed"}


def answer(request: Request) -> Answer:
    """Answer; one page of each host fails."""
    return Answer(500 if request.target == "/1" else 200, {}, b"x")


def fail(result: Any, crawl: Any) -> None:
    """Fail for some targets."""
    if result.target.url.endswith("/2"):
        raise ValueError("a fault of the handler")


def judge(response: Any) -> bool:
    """Be no judge."""
    raise ValueError("a fault of the judge")


@pytest.mark.transports
def test_each_line_about_a_request_or_a_target_says_its_shard(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of shards that are open on one pool at once; afterwards, what the same threads do for others says none."""
    hosts, folder = loopback_hosts(HOSTS), str(tmp_path)
    begun = threading.Barrier(2)  # the first answers of two shards: both are open
    policy = RetryPolicy(attempts=2, backoff_s=0.001)
    with SiteServer(answer, hosts=hosts) as server, SessionPool(threads=4, retry=policy) as pool:
        urls = [server.url(f"/{number}", host=host) for host in hosts for number in range(4)]
        job = manifest.new(folder, shards=2, created_at=1.0, outputs=("results.jsonl",), lease_s=2.0)
        manifest.write(folder, job)
        Partitioner(folder, job).run(urls)
        notes.make_folder(folder)
        sharding = job.sharding(folder)
        assert {sharding.shard_of(host) for host in hosts} == {0, 1}
        seen: set[int] = set()

        def handler(result: Any, crawl: Any) -> None:
            shard = sharding.shard_of(host_of(result.target.url))
            if shard not in seen:
                seen.add(shard)
                begun.wait(20)
            fail(result, crawl)

        limits = HostLimits(delay_s=0.0, is_block=judge)
        spec = EngineSpec(
            folder, "run", lambda: pool, lambda: handler, crawl={"limits": limits}, at_once=2, shuts_pool=False
        )
        caplog.set_level(logging.DEBUG, "crawlpool")
        notes.write_word(folder, notes.Word("run"))
        runner = Runner(spec)
        thread = threading.Thread(target=runner.run)
        thread.start()
        looker = Looker(folder, "run")
        for _ in range(400):
            looks = looker.look()
            if len(looks) == 2 and all(look.is_released and not look.segments for look in looks):
                break
            thread.join(0.05)
        runner.drain()
        thread.join(20)
        about: dict[str, list[Any]] = {}
        for record in caplog.records:
            if record.message in SAID:
                about.setdefault(record.message, []).append(record)
        assert about.keys() == SAID
        for records in about.values():
            for record in records:
                assert record.shard == sharding.shard_of(host_of(record.url)), record.message
                assert record.runner == runner.name
        assert {record.shard for record in about["leg ended"]} == {0, 1}
        assert any(record.url.endswith("/robots.txt") for record in about["leg ended"])
        caplog.clear()
        assert len(list(pool.map(urls[:1] + urls[4:5]))) == 2
        after = [record for record in caplog.records if record.message == "leg ended"]
        assert len(after) == 2 and not [record for record in after if hasattr(record, "shard")]


def test_a_line_carries_what_its_thread_does_and_keeps_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """In the library's lines and in urllib3's, as the command shows them; no other thread's do."""
    log = logger("test")
    with logs_to(Telling("json"), 2):
        carry({"shard": 7, "runner": "r-1"})
        try:
            log.warning("mine")
            log.warning("own", shard=8)
            logging.getLogger("urllib3.connectionpool").warning("theirs")
            other = threading.Thread(target=lambda: log.warning("other"))
            other.start()
            other.join()
        finally:
            carry(None)
        log.warning("after")
    lines = capsys.readouterr().err.splitlines()
    assert ['"shard": 7' in line for line in lines] == [True, False, True, False, False]
    assert '"shard": 8' in lines[1] and '"runner": "r-1"' in lines[1]
