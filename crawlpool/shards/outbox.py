"""The outbox of a shard: what is for other shards, written into their inboxes by a thread of its own.

Rows lie in the ledger from the transaction on that made them. They get out in three steps, each of which may be the
last one of a process: a commit gives those for one shard a number, and with it a name; the segment of that name is
written; a commit forgets them. Who goes on after the first or the second writes the same segment again, byte for byte,
and where it was taken in already its name says so. A number is never given twice in an epoch, and a batch keeps the
epoch of its number, whoever writes it in the end.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

from crawlpool.clock import LOOK_S
from crawlpool.events import carry
from crawlpool.ledger.schema import NAME, open_to_read
from crawlpool.ledger.transfer import BATCHES, PUBLISHING, OutboxReader, Outgoing
from crawlpool.shards import segments
from crawlpool.shards.layout import make_inbox
from crawlpool.shards.segments import SegmentName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crawlpool.jobs.clerk import Chore
    from crawlpool.ledger.store import Batch
    from crawlpool.shards.opened import OpenShard

#: Rows of one segment at most.
MOST_ROWS = 20_000
#: How long rows are gathered before they get out: each segment costs two commits here and one there.
EVERY_S = 1.0


class _Told:
    """What the ledger is told of batches, as the clerk takes it.

    Args:
        publishing: those that are numbered and not known to be published, from then on.
        batches: the highest of each epoch.
        published: those whose rows go.
    """

    def __init__(self, publishing: Sequence[Outgoing], batches: dict[int, int], published: Sequence[Outgoing]) -> None:
        self._values = {PUBLISHING: json.dumps(publishing), BATCHES: json.dumps(batches)}
        self._published = published
        self.error: BaseException | None = None
        self.is_over = threading.Event()

    def fill(self, batch: Batch) -> None:
        """Add it to a batch."""
        assert batch.transfer is not None
        batch.values.update(self._values)
        batch.transfer.published += self._published

    def done(self, error: BaseException | None) -> None:
        """Take it that it is committed, or not."""
        self.error = error
        self.is_over.set()


class Publisher:
    """Gets the rows out that a shard has for others.

    Args:
        job: the shard.
        hand_in: has a chore committed; returns whether it was taken.
        published: called when what there was is out.
        failed: called, once, with what went wrong; nothing is published after that.

    Thread-safe.
    """

    def __init__(
        self,
        job: OpenShard,
        hand_in: Callable[[Chore], bool],
        published: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._job = job
        self._hand_in = hand_in
        self._published = published
        self._failed = failed
        self._publishing = job.publishing  # this and the next are the thread's
        self._batches = job.batches
        # Guards all that follows. _news is waited on by the thread. `is_empty` reads without: who asks has told of
        # all rows before, and the thread sets _is_busy before it takes _has_rows back.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._has_rows = job.has_outbox or bool(job.publishing)
        self._is_busy = False
        self._is_hurried = False
        self._is_ending = False
        self._is_failed = False
        self._thread = threading.Thread(target=self._work, name="crawlpool-publisher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def come(self) -> None:
        """Take it that there are rows in the outbox, committed."""
        with self._lock:
            if not self._has_rows:
                self._has_rows = True
                self._news.notify()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be published, or nothing can be any more."""
        return not (self._has_rows or self._is_busy) or self._is_failed

    def hurry(self) -> None:
        """Have what there is published at once: nothing more will come soon."""
        if self._has_rows and not self._is_hurried:
            with self._lock:
                self._is_hurried = True
                self._news.notify()

    def finish(self) -> None:
        """Publish what there is, and end; by one thread. It doesn't raise."""
        with self._lock:
            self._is_ending = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join()

    # The thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        carry(self._job.log_fields)
        while self._has_work():
            try:
                is_out = self._publish()
            except BaseException as error:  # of whatever kind: the crawl is to end with it, and not to hang
                with self._lock:
                    self._is_failed = True
                self._failed(error)
                return
            with self._lock:
                self._is_busy = False
                self._is_failed = not is_out
            self._published()

    def _has_work(self) -> bool:
        """Wait for rows, and then a while for more; return whether there are any, and not the end."""
        with self._lock:
            while not (self._has_rows or self._is_ending):
                self._news.wait()
            if not (self._is_ending or self._is_hurried):
                self._news.wait(EVERY_S)  # `come` wakes nobody now: it does only where there were none
            if self._is_failed or not self._has_rows:
                return False
            self._is_busy, self._has_rows, self._is_hurried = True, False, False
            return True

    def _publish(self) -> bool:
        """Get out what is there; return whether that could be committed."""
        job, path = self._job, os.path.join(self._job.job.path, NAME)
        database = open_to_read(path)
        try:
            outbox = OutboxReader(database, path)
            last = outbox.last()
            while True:
                if not self._publishing:
                    found = outbox.ranges(last, MOST_ROWS)
                    if not found:
                        return True
                    self._publishing = [self._numbered(*one) for one in found]
                    if not self._commit(()):
                        return False
                for one in self._publishing:
                    rows = outbox.rows(one)
                    job.check_held()  # right before: by a lost lease nobody's inbox is written
                    name = SegmentName(job.shard, one.epoch, one.batch)
                    inbox, manifest = make_inbox(job.root, one.shard), job.manifest
                    segments.write(inbox, name, rows, manifest.sharding_id, manifest.job_id)
                published, self._publishing = self._publishing, []
                if not self._commit(published):
                    return False
        finally:
            database.close()

    def _numbered(self, shard: int, first: int, last: int) -> Outgoing:
        epoch = self._job.epoch
        batch = self._batches[epoch] = self._batches.get(epoch, 0) + 1
        return Outgoing(batch, epoch, shard, first, last)

    def _commit(self, published: Sequence[Outgoing]) -> bool:
        told = _Told(self._publishing, self._batches, published)
        if not self._hand_in(told):
            return False
        while not told.is_over.wait(LOOK_S):
            pass  # the clerk says it of each chore that it takes, whatever happens
        return told.error is None
