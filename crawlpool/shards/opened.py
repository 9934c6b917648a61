"""A shard's job while a crawl of it runs: which hosts are its own, and whether it may still be written."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.errors import LeaseLost
from crawlpool.jobs.job import OpenJob
from crawlpool.ledger.transfer import BATCHES, PUBLISHING, WRITERS, Outgoing
from crawlpool.shards.layout import epoch_of, inbox_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.jobs.job import Job
    from crawlpool.ledger.store import Batch
    from crawlpool.ledger.transfer import Transfer
    from crawlpool.shards.manifest import Manifest

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Lease(Protocol):
    """Who owns a shard, for how long (``shards.tenure.Held``). Thread-safe."""

    @property
    def ends_at(self) -> float:
        """Until when it is owned, by the monotonic clock; infinity for ever."""

    def is_held(self) -> bool:
        """Tell whether it is owned now."""


class OpenShard(OpenJob):
    """A shard while a crawl runs. Made by ``ShardJob.open``.

    Args:
        job: as ``OpenJob`` takes it.
        root: the folder of the whole job.
        shard: which it is.
        manifest: of the whole job.
        lease: tells whether the shard is still ours; ``None`` for always.
        idle_s: seconds without anything to do after which the run ends though the input isn't done.
        until_idle: whether it ends as soon as nothing is left to do.
        others: as ``OpenJob`` takes them.

    The clerk has of it what it has of an ``OpenJob``; the rest doesn't change, but for ``is_input_done``, ``is_all_in``
    and ``writers``, which are set by the thread that runs the crawl.
    """

    def __init__(
        self,
        job: Job,
        *others: Any,
        root: str,
        shard: int,
        manifest: Manifest,
        lease: Lease | None,
        idle_s: float | None,
        until_idle: bool,
    ) -> None:
        self.root = root
        self.shard = shard
        self.manifest = manifest
        self.lease = lease
        self.idle_s = idle_s
        self.until_idle = until_idle
        self.epoch = epoch_of(os.path.basename(os.path.abspath(job.path))) or 0
        self.inbox = inbox_folder(root, shard)
        self.sharding = manifest.sharding(root)
        super().__init__(job, *others)
        #: Whether the run ends when nothing is left, and whether all of the input has come in. The inbox says both.
        self.is_input_done = self.is_all_in = False
        try:
            self._restore()
        except BaseException:
            self.close()
            raise

    def _restore(self) -> None:
        ledger = self.ledger
        #: Batches that were numbered before and aren't known to be published, and the highest of each epoch.
        self.publishing = [Outgoing(*one) for one in json.loads(ledger.value(PUBLISHING) or "[]")]
        self.batches = {int(epoch): batch for epoch, batch in json.loads(ledger.value(BATCHES) or "{}").items()}
        #: Who wrote the segments that were taken in of each other shard, by ``Manifest.job_id``; the inbox keeps it.
        self.writers = {int(shard): str(who) for shard, who in json.loads(ledger.value(WRITERS) or "{}").items()}
        #: Whether anything is on its way out.
        self.has_outbox = ledger.has_outbox()

    def owns(self, host: str) -> bool:
        """Tell whether a host is this shard's; it is nobody else's where there is none. Thread-safe."""
        return not host or self.sharding.shard_of(host) == self.shard

    def is_mine(self, row: Sequence[Any]) -> bool:
        """Tell whether a row of the ledger is this shard's. Thread-safe."""
        return self.sharding.shard_of_row(row) == self.shard

    @property
    def is_held(self) -> bool:
        """Whether the shard is still ours. Never waits. Thread-safe."""
        return self.lease is None or self.lease.is_held()

    def check_held(self) -> None:
        """Raise unless the shard is still ours. Thread-safe.

        Raises:
            LeaseLost: when it isn't.
        """
        if not self.is_held:
            raise LeaseLost(f"shard {self.shard}: its lease has ended; what it hasn't committed is the next owner's")

    # The clerk's side --------------------------------------------------------------------------------------------

    def check_may_commit(self) -> None:
        """Raise ``LeaseLost`` unless the shard is still ours."""
        self.check_held()

    def share_out(self, rows: list[Any], transfer: Transfer) -> list[Any]:
        """Return which rows of added targets are this shard's; those of others go into the transfer."""
        mine: list[Any] = []
        for row in rows:
            shard = self.sharding.shard_of_row(row)
            if shard == self.shard:
                mine.append(row)
            else:
                transfer.sent.append((shard, _encode(row)))
        return mine

    def end(self, ending: str, last: Batch, *, is_complete: bool) -> None:
        """Note how the run ended, as ``OpenJob.end`` does.

        Raises:
            LeaseLost: when the shard isn't ours any more; nothing is written then.
            SinkError: when it can't be written.
        """
        self.check_held()
        last.values["position"] = _encode({"items": 0, "digest": None, "is_done": self.is_all_in})
        super().end(ending, last, is_complete=is_complete and self.is_all_in)
