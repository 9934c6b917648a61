"""One shard of a job, as ``SessionPool.new_crawl`` takes it: a job of its own, and what makes it a part of a larger one."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Protocol

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.config import check, is_seconds
from crawlpool.errors import JobError
from crawlpool.jobs.job import Job
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from crawlpool.shards.manifest import Manifest


class Lease(Protocol):
    """Who owns a shard, for how long (``shards.tenure.Held``). Thread-safe."""

    @property
    def ends_at(self) -> float:
        """Until when it is owned, by the monotonic clock; infinity for ever."""

    def is_held(self) -> bool:
        """Tell whether it is owned now."""


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
