"""The targets of a job on their way into the frontier: all of them come out of the ledger, handed out by the clerk."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.errors import JobError, SinkError
from crawlpool.jobs.entries import leg_of
from crawlpool.ledger.schema import NAME, open_to_read, trouble_told
from crawlpool.redact import one_line
from crawlpool.stock import Stock

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from crawlpool.jobs.job import OpenJob
    from crawlpool.leg import Leg, Run
    from crawlpool.worker import Workforce


class JobIntake(Stock):
    """What of a job isn't in the frontier yet.

    Args:
        run: the crawl.
        workforce: who does the work.
        job: whose targets they are.
        took: called with how many targets leave the ledger, before they do, and with how many didn't after all, as a
            negative number.

    ``refill`` and ``holds_only_held`` are the clerk's; the other methods may be called from any thread.
    """

    BATCH = 256
    WAKES = False

    def __init__(self, run: Run, workforce: Workforce, job: OpenJob, took: Any) -> None:
        super().__init__(run, workforce)
        self._backlog = job.waiting
        self._took = took
        self._path = os.path.join(job.job.path, NAME)
        self._dedupes = job.ledger.dedupes
        # Guards _fresh and _reader, and is held while that reads, which takes some microseconds.
        self._lock = threading.Lock()
        self._fresh: set[int] = set()  # digests of what was added and isn't committed
        self._reader: sqlite3.Connection | None = None

    def is_new_digest(self, digest: int | None) -> bool:
        """Remember what an added target asks for; return whether nothing asked for that before.

        Raises:
            SinkError: when the ledger can't be read.
        """
        if digest is None or not self._dedupes:
            return True
        with self._lock, trouble_told(self._path):
            if digest in self._fresh:
                return False
            if self._reader is None:
                self._reader = _opened(self._path)
            if self._reader.execute("SELECT 1 FROM seen WHERE digest = ?", (digest,)).fetchone() is not None:
                return False
            self._fresh.add(digest)
            return True

    def forget(self, rows: Iterable[Any]) -> None:
        """Take it that rows of added targets are committed, or won't be."""
        with self._lock:
            self._fresh.difference_update(row[5] for row in rows)

    def count_of(self, host: str, most: int) -> int:
        """Return how many targets of a host wait, in the frontier, too; so many are counted at most."""
        with trouble_told(self._path):
            reader = open_to_read(self._path)
            try:
                query = "SELECT 1 FROM target WHERE state = 0 AND host = (SELECT id FROM host WHERE name = ?) LIMIT ?"
                return int(reader.execute(f"SELECT count(*) FROM ({query})", (host, most)).fetchone()[0])
            finally:
                reader.close()

    def close(self) -> None:
        """Let go of the ledger."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _restock(self, host: str, most: int) -> list[Leg]:
        if host:
            return super()._restock(host, most)
        # What waits for no host: duplicates and bad lines, perhaps by the hundred thousand. They need no worker, unless
        # a handler is to see them.
        legs, is_last = self._legs_of(host, self.BATCH)
        if self._run.is_quick:
            ended = [(leg, leg.verdict) for leg in legs if leg.verdict is not None]
            if ended:
                self._run.settled(ended)
            legs = [leg for leg in legs if leg.verdict is None]
        is_taken = not legs or self._workforce.put_all(legs, wakes=False)
        if not is_last:
            self.has_strangers = True
        return [] if is_taken else legs

    def _legs_of(self, host: str, most: int) -> tuple[list[Leg], bool]:
        self._took(most)  # first: what is on its way counts, so that nobody takes the crawl for done
        try:
            taken, is_last = self._backlog.take(host, most)
        except BaseException:
            self._took(-most)
            raise
        self._took(len(taken) - most)
        return [leg_of(self._run, one, host) for one in taken], is_last


def _opened(path: str) -> sqlite3.Connection:
    """Open the ledger to be read, beside its writer; what keeps it from that is the system's doing, not a handler's."""
    try:
        return open_to_read(path)
    except JobError as error:
        reason = "no file can be opened any more, or its disk fails"
        raise SinkError(f"{one_line(path)}: the ledger can't be read: {reason}") from error
