"""Jobs of many shards for tests of who reads them: crawled shard by shard, with tenures as their owners leave them."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

from crawlpool import Target
from crawlpool.shards import layout, manifest, tenure
from crawlpool.shards.job import ShardJob
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.owner import Owner
from crawlpool.shards.tenure import Tenure
from tests.shards.web import OPTIONS, Fleet, Web, new_pool

OUTPUTS = ("pages.warc.gz", "results.jsonl")
LEASE_S = 600.0  # nobody refreshes, and no test takes so long


class Told(Fleet):
    """A fleet whose shards are claimed and released as a real run does it.

    Args:
        root: its folder.
        shards: how many.
        part: as ``Manifest`` has it.
        outputs: of each shard.
    """

    def __init__(
        self,
        root: pathlib.Path,
        shards: int = 8,
        part: tuple[int, int] | None = None,
        outputs: tuple[str, ...] = OUTPUTS,
    ) -> None:
        if not root.exists():
            root.mkdir()
            made = manifest.new(str(root), shards=shards, created_at=0.0, outputs=outputs, part=part)
            manifest.write(str(root), made)
        super().__init__(root, shards, part, LeaseKeeper(LEASE_S, has_threads=False))

    def job(self, shard: int, **more: Any) -> ShardJob:
        """Return a shard as ``new_crawl`` takes it."""
        return super().job(shard, outputs=self.manifest.outputs, **more)

    def tell(self, shard: int, **facts: Any) -> None:
        """Begin a tenure of a shard: released, in the first epoch, unless the facts say otherwise."""
        folder = layout.shard_folder(self.root, shard)
        number = max(layout.tenures_there(folder), default=0) + 1
        assert tenure.make(folder, Tenure(number, **{"owner": Owner.here(), "epoch": 1, "is_released": True, **facts}))

    def step(self, web: Web, **options: Any) -> bool:
        """Run the first shard that has something to do, until it is idle; return whether there was one."""
        waiting = self.waiting()
        if waiting:
            with new_pool(web) as pool:
                self.run_one(waiting[0], pool, **{**OPTIONS, **options})
        return bool(waiting)

    def epoch(self, shard: int, number: int) -> str:
        """Return the path of an epoch's folder."""
        return layout.epoch_folder(self.root, shard, number)

    def take_over(self, shard: int) -> str:
        """Go on with a shard in a new epoch, made of a copy, and have the old one gone; return the new folder."""
        newest = tenure.newest(layout.shard_folder(self.root, shard))
        assert newest is not None
        old, new = (self.epoch(shard, newest.epoch + n) for n in (0, 1))
        shutil.copytree(old, new)
        self.tell(shard, epoch=newest.epoch + 1)
        shutil.rmtree(old)
        return new


def few_seeds(web: Web) -> list[str | Target]:
    """Return a small input that meets links, hand-overs, robots.txt, duplicates and bad lines."""
    found: list[str | Target] = [web.url(host, "/page/1") for host in range(len(web.hosts))]
    found += [web.url(n, f"/hop/{n}/302?{n}") for n in (1, 2, 3)]
    found += [Target(web.url(2, "/hop/2/303?p"), "POST", data=b"x", meta={"id": 7}), web.url(0, "/loop/1")]
    found += [web.url(1, "/hop/1/302/secret"), web.url(0, "/page/1"), "http://", "gopher://x/", web.url(0, "/secret/1")]
    return found


def crawled(root: pathlib.Path, web: Web, seeds: list[Any], shards: int = 8) -> Told:
    """Return a job that was crawled to its end."""
    fleet = Told(root, shards)
    fleet.feed(seeds)
    with new_pool(web) as pool:
        fleet.run(pool, **OPTIONS)
    return fleet


def carry(of: Fleet, to: Fleet) -> int:
    """Carry segments for the shards of another folder there, as a user does without a shared disk; return how many."""
    count = 0
    for shard in to.manifest.mine():
        inbox = pathlib.Path(layout.inbox_folder(of.root, shard))
        for path in sorted(inbox.glob("from-*.seg")):
            shutil.move(path, layout.make_inbox(to.root, shard))
            count += 1
    return count
