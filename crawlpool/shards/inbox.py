"""The inbox of a shard: segments of targets that come from the input and from other shards, each taken in once.

A segment's rows and its name go into the ledger in one transaction; then its file is removed. Where the process ends in
between, the ledger has its name, and the file is removed the next time. What nobody knows any more isn't taken in at
all (``lineage``).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.clock import LOOK_S
from crawlpool.errors import SinkError
from crawlpool.jobs.chain import MARK
from crawlpool.ledger.schema import NAME, open_to_read
from crawlpool.ledger.transfer import WRITERS, OutboxReader
from crawlpool.redact import one_line
from crawlpool.shards import lineage, segments
from crawlpool.shards.inputs import input_state, is_visible
from crawlpool.shards.lineage import Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from crawlpool.jobs.clerk import Chore
    from crawlpool.ledger.store import Batch
    from crawlpool.shards.inputs import InputState
    from crawlpool.shards.opened import OpenShard
    from crawlpool.shards.segments import SegmentName

#: Rows that are taken in by one transaction, unless one segment has more.
MOST_ROWS = 20_000


class Arrived:
    """Segments that are to be committed, as the clerk takes them.

    Args:
        names: of the segments, each with its digest.
        rows: all of theirs.
        writers: who wrote those of each shard that has handed anything over, if that is new.
    """

    def __init__(
        self, names: Sequence[tuple[str, str]], rows: Sequence[Any], writers: Mapping[int, str] | None = None
    ) -> None:
        self._names = names
        self._rows = rows
        self._writers = writers
        self.error: BaseException | None = None
        self.is_over = threading.Event()

    def fill(self, batch: Batch) -> None:
        """Add the rows and the names to a batch."""
        assert batch.transfer is not None
        batch.transfer.imported += self._names
        if self._writers is not None:
            batch.values[WRITERS] = json.dumps(self._writers)
        for row in self._rows:
            if row[3][0] == MARK:
                source, source_id = json.loads(row[3][len(MARK) :])["from"]
                batch.transfer.moved.append((source, source_id, row))
            else:
                batch.incoming.append(row)

    def done(self, error: BaseException | None) -> None:
        """Take it that they are committed, or not."""
        self.error = error
        self.is_over.set()


class Inbox:
    """The inbox of a shard that is crawled.

    Args:
        job: whose it is.
        hand_in: has a chore committed; returns whether it was taken.
        state_told: called with how far the input is, before anything of it is taken in.

    Not thread-safe: it belongs to the thread that runs the crawl.
    """

    def __init__(
        self, job: OpenShard, hand_in: Callable[[Chore], bool], state_told: Callable[[InputState], None]
    ) -> None:
        self._job = job
        self._hand_in = hand_in
        self._state_told = state_told
        self._database: sqlite3.Connection | None = None
        self._writers = dict(job.writers)
        #: Whether all of the input has been shared out, and what of it is for this shard is taken in.
        self.is_input_done = False

    def look(self) -> bool:
        """Take in what has come; return whether anything had.

        Raises:
            JobError: when a segment is damaged or not to be taken in, or a file is damaged that tells of the input.
            SinkError: when something can't be read or removed.
        """
        job = self._job
        state = input_state(job.root)  # first: each segment of its rounds is there by now
        self._state_told(state)
        taken: list[tuple[str, str]] = []
        rows: list[Any] = []
        has_come = False
        for name in segments.names(job.inbox):
            writer = self._writer_if_wanted(name) if is_visible(name, state) else None
            if writer is None:
                continue
            path = os.path.join(job.inbox, str(name))
            with contextlib.suppress(FileNotFoundError):
                rows += segments.read(path, job.manifest.sharding_id)
                taken.append((str(name), segments.digest_of(path)))
                if writer and name.source is not None:
                    self._writers[name.source] = writer
            if len(rows) >= MOST_ROWS:
                if not self._take_in(taken, rows):
                    return has_come
                has_come, taken, rows = True, [], []
        if taken:
            if not self._take_in(taken, rows):
                return has_come
            has_come = True
        self.is_input_done = state.is_done
        return has_come

    def close(self) -> None:
        """Let go of the ledger. May be called again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _writer_if_wanted(self, name: SegmentName) -> str | None:
        """Return who wrote a segment that is to be taken in, as ``_writer_of`` does.

        ``None`` for any other: one that was taken in, and one that never counted, goes.
        """
        standing = lineage.standing(self._job.root, name)
        if standing is Standing.LATER:
            return None
        # Before it may be taken for what came in before.
        writer = self._writer_of(name) if standing is Standing.COUNTS else ""
        if standing is Standing.VOID or self._has_imported(name):
            self._remove([str(name)])
            return None
        return writer

    def _writer_of(self, name: SegmentName) -> str:
        """Return who wrote a segment, unless it is this folder's own; raise where another one is known."""
        if name.source is None or name.source in self._job.manifest.mine():
            return ""
        return segments.check_writer(os.path.join(self._job.inbox, str(name)), name.source, self._writers)

    def _has_imported(self, name: SegmentName) -> bool:
        path = os.path.join(self._job.job.path, NAME)
        if self._database is None:
            self._database = open_to_read(path)
        digest = OutboxReader(self._database, path).imported(str(name))
        if digest is not None:
            segments.check_content(os.path.join(self._job.inbox, str(name)), digest)
        return digest is not None

    def _take_in(self, names: Sequence[tuple[str, str]], rows: Sequence[Any]) -> bool:
        """Have segments committed, and remove them; return whether they were."""
        arrived = Arrived(names, rows, None if self._writers == self._job.writers else dict(self._writers))
        if not self._hand_in(arrived):
            return False
        while not arrived.is_over.wait(LOOK_S):
            pass  # the clerk says it of each chore that it takes, whatever happens
        if arrived.error is not None:
            return False
        self._job.writers = dict(self._writers)
        self._remove([name for name, _ in names])
        return True

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            path = os.path.join(self._job.inbox, name)
            try:
                with contextlib.suppress(FileNotFoundError):
                    disk.remove(path)
            except OSError as error:
                raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error
