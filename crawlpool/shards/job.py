"""One shard of a job, as ``SessionPool.new_crawl`` takes it: a job by itself, and a part of a larger one."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.config import check, is_seconds
from crawlpool.errors import JobError
from crawlpool.jobs.job import Job
from crawlpool.redact import one_line
from crawlpool.shards.crawl import ShardCrawl
from crawlpool.shards.layout import epoch_of
from crawlpool.shards.opened import OpenShard

if TYPE_CHECKING:
    from crawlpool.shards.manifest import Manifest
    from crawlpool.shards.opened import Lease


@dataclasses.dataclass(frozen=True)
class ShardJob(Job):
    """One shard of a job; ``new_crawl(handler, job=ShardJob(…))`` gives a ``ShardCrawl``, and ``run(())`` crawls it.

    Args:
        path: the epoch folder, ``…/shards/0007/e0002``; the other arguments of ``Job`` hold for it.
        root: the folder of the whole job.
        shard: the number of the shard.
        manifest: of the whole job.
        lease: tells whether the shard is still ours: asked before each request and each commit.
        idle_s: seconds without anything to do after which the run ends though the input isn't done; ``None`` for
            never: then it goes on to the end of the input, or until ``drain``.
        until_idle: whether the run ends as soon as nothing is left to do, whatever the input: what comes later is for
            a later run.
        runner: which runner has it, for log lines; empty where none does.

    Raises:
        ConfigError: for a value that can't be.
        JobError: when ``path`` isn't the folder of an epoch.
    """

    root: str = dataclasses.field(default="", kw_only=True)
    shard: int = dataclasses.field(default=0, kw_only=True)
    manifest: Manifest = dataclasses.field(default=None, kw_only=True)  # type: ignore[assignment]
    lease: Lease | None = dataclasses.field(default=None, kw_only=True)
    idle_s: float | None = dataclasses.field(default=None, kw_only=True)
    until_idle: bool = dataclasses.field(default=False, kw_only=True)
    runner: str = dataclasses.field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(isinstance(self.root, str) and self.root != "", "root", self.root, "a folder's path")
        check(self.shard in self.manifest.mine(), "shard", self.shard, "the number of a shard that is in the folder")
        check(self.idle_s is None or is_seconds(self.idle_s), "idle_s", self.idle_s, "a positive number, or None")
        if epoch_of(os.path.basename(os.path.abspath(self.path))) is None:
            raise JobError(f"{one_line(self.path)}: isn't the folder of an epoch")

    @property
    def is_shared(self) -> bool:
        """Whether it lies on a file system of several machines."""
        return self.manifest.is_shared

    @property
    def log_fields(self) -> dict[str, Any]:
        """What log lines about it carry."""
        return {"shard": self.shard, **({"runner": self.runner} if self.runner else {})}

    def open(
        self, *, dedupes: bool = True, max_per_host: int | None = None, in_flight: int = 1, clock: Clock = SYSTEM_CLOCK
    ) -> OpenShard:
        """Open the shard to go on with it, as ``Job.open`` does."""
        opened = OpenShard(
            self,
            dedupes,
            max_per_host,
            in_flight,
            clock,
            root=self.root,
            shard=self.shard,
            manifest=self.manifest,
            lease=self.lease,
            idle_s=self.idle_s,
            until_idle=self.until_idle,
        )
        opened.crawl_class = ShardCrawl
        opened.log_fields = self.log_fields
        return opened
