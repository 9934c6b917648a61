"""Shards that run one after another come to what one crawl of the same input comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crawlpool import open_job
from crawlpool.jobs.records import notes_of
from crawlpool.leg import host_of
from tests.shards.web import OPTIONS, Fleet, Web, alike, new_pool, whole

if TYPE_CHECKING:
    import pathlib


def legs_by_owner(fleet: Fleet) -> int:
    """Return how many legs the ledgers have; each has to be in that of the shard whose host was asked."""
    count, sharding = 0, fleet.manifest.sharding(fleet.root)
    for shard in fleet.there():
        with open_job(fleet.folder(shard)) as job:
            for settled in job.ledger.settled(has_handed_over=True):
                for note in notes_of(settled.legs):
                    asked = job.target_of(settled).url if note.url is None else note.url
                    assert sharding.shard_of(host_of(asked)) == shard
                    count += 1
    return count


@pytest.mark.above_transports
def test_many_shards_come_to_what_one_crawl_does(tmp_path: pathlib.Path, transport: str) -> None:
    """Links, redirects, bodies, robots.txt, loops, duplicates: the records are the same, and all books balance."""
    with Web(6) as web:
        seeds = web.seeds(most=3) if transport == "curl" else web.seeds((302,), 3)
        expected, report, items = whole(web, tmp_path / "one", seeds, transport)
        fleet = Fleet(tmp_path / "many", 16)
        fleet.feed(seeds)
        with new_pool(web, transport=transport) as pool:
            books = fleet.run(pool, **OPTIONS)
        assert len(fleet.there()) > 3
        got = alike(fleet.records())
        assert got == expected
        assert (books.inputs, books.found, books.settled, books.legs) == (
            report.inputs,
            report.found,
            report.settled,
            report.legs,
        )
        assert books.is_balanced and books.is_complete and books.moved_in == books.moved_out > 20
        assert sorted(map(str, fleet.items())) == sorted(map(str, items))
        assert legs_by_owner(fleet) == books.legs
