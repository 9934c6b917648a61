"""What the inbox of a shard takes in: of each name one segment, and of each other part what one writer wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from crawlpool import AddressRules, SessionPool
from crawlpool.shards import layout, segments
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.refused import refused_in
from crawlpool.shards.segments import SegmentName
from crawlpool.testing import Answer, SiteServer, loopback_hosts
from tests.shards.web import Fleet

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

HOSTS = loopback_hosts(6)


@pytest.fixture
def site() -> Iterator[SiteServer]:
    """Hosts that have each page."""
    with SiteServer(lambda request: Answer(200, {}, request.path.encode()), hosts=HOSTS) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(threads=4, addresses=AddressRules("allow")) as made:  # what was handed over names no hosts
        yield made


def test_of_a_part_that_was_begun_anew_nothing_more_is_taken_in(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """Its segments and its targets have the numbers of others that came in before: none is taken for one of these."""
    keeper = LeaseKeeper(600.0, has_threads=False)
    fleet = Fleet(tmp_path / "job", 2, (1, 2), keeper)
    mine = 0
    host = next(host for host in HOSTS if fleet.manifest.sharding(fleet.root).shard_of(host) == mine)
    inbox = layout.make_inbox(fleet.root, mine)

    def came(number: int, path: str, writer: str) -> str:
        row = [None, host, 0.0, "-" + site.url(path, host), None, None, 1]
        name = SegmentName(1, 1, number)
        segments.write(inbox, name, [row], fleet.manifest.sharding_id, writer)
        return os.path.join(inbox, str(name))

    fleet.feed([])
    came(1, "/first", "before")
    assert fleet.run(pool).ok == 1
    for number in (1, 2):
        path = came(number, "/other", "anew")
        with pytest.raises(
            segments.BegunAnew, match=r"begun anew \(anew\) since something of its shard 1 was taken in"
        ):
            fleet.run_one(mine, pool)
        assert keeper.held()[0].release(pending=0)
        assert os.path.exists(path)
        assert [one.remedy for one in refused_in(fleet.root, fleet.manifest, [mine])] == [
            "move this file out of the job, and begin all parts anew, as none can take in what this one hands over now"
        ]
        os.unlink(path)
    path = came(1, "/third", "before")  # as by one that went on from an old copy
    with pytest.raises(segments.BegunAnew, match="another one of that name was taken in before"):
        fleet.run_one(mine, pool)
    assert keeper.held()[0].release(pending=0)
    assert len([*refused_in(fleet.root, fleet.manifest, [mine])]) == 1
    came(1, "/first", "before")
    came(2, "/second", "before")
    assert fleet.run(pool).ok == 2
    assert not os.path.exists(path)
