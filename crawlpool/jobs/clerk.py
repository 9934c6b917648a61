"""The clerk: the one thread that writes a job. It takes all that has come, and commits it in one go.

The order is the promise: bytes of bodies and records, synced; then the ledger's commit, which says how many of them
count; then everybody who waits is told. What isn't committed is fetched again, and its bytes are cut off at the next
start. What came while a group was committed is the next one: a slow disk makes large groups, and needs fewer of them.

It also hands out what is to be fetched next, as nobody else reads the ledger while it is written.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.clock import LOOK_S
from crawlpool.events import carry
from crawlpool.jobs.entries import Entry
from crawlpool.ledger.store import Batch
from crawlpool.ledger.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crawlpool.books import Books
    from crawlpool.jobs.job import OpenJob

#: Rows of input that may wait to be committed, and that are committed in one go. The larger the fewer pages are
#: written twice; to hold them takes some 300 bytes each.
MOST_ROWS = 40_000
_ROWS_BESIDE = 4_000  # at most where results are committed with them
_SOON_S = 0.005
#: How long a result waits for others to be committed with it, unless enough have come. A commit costs as much for one
#: as for twenty; a moment more or less costs nobody anything.
_GATHER_S = 0.005


class Chore(Protocol):
    """Something else that is to be committed, by the next group."""

    def fill(self, batch: Batch) -> None:
        """Add to a batch that is about to be committed; its ``transfer`` is there. Called by the clerk, once."""

    def done(self, error: BaseException | None) -> None:
        """Take it that it is committed, or that it won't be, for that error; called by the clerk, once."""


class Clerk:
    """The clerk of one crawl.

    Args:
        job: whose ledger and outputs it writes.
        books: counted in just before the commit that saves them.
        committed: called after each commit with the entries that it holds, and whether targets came in; must not raise.
        lost: called with what went wrong, the first time, and the entries that aren't committed for it; nothing is
            written after that.
        refill: called after each commit, and when ``wake`` was: hands out what is to be fetched.
        noted: called for each batch that is about to be committed; adds to it what the crawl has to say of hosts.
        enough: results that are committed without waiting for more.
        look: called a moment after ``look_soon`` was, unless something has come meanwhile.

    Thread-safe, but for what is said of single methods.
    """

    def __init__(
        self,
        job: OpenJob,
        books: Books,
        committed: Callable[[Sequence[Entry], bool], None],
        lost: Callable[[BaseException | None, Sequence[Entry]], None],
        refill: Callable[[], None],
        noted: Callable[[Batch], None],
        look: Callable[[], None],
        enough: int = 1,
    ) -> None:
        self._job = job
        self._books = books
        self._committed = committed
        self._lost = lost
        self._refill = refill
        self._noted = noted
        self._look = look
        self._enough = enough
        self.hasher = hashlib.blake2b(digest_size=16)  # of the input; the feeder's, until it hands in the first row
        self.items = 0
        # Guards all that follows. _news is waited on by the clerk, _room by the feeder.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._entries: list[Entry] = []
        self._rows: list[Any] = []
        self._robots: list[tuple[Any, ...]] = []
        self._chores: list[Chore] = []
        self._is_input_done = False
        self._is_called = False
        self._looks_soon = False
        self._is_ending = False
        self._is_failed = False
        self._thread = threading.Thread(target=self._work, name="crawlpool-clerk", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # Handing in --------------------------------------------------------------------------------------------------

    def keep(self, entries: Sequence[Entry]) -> bool:
        """Take entries; never waits. Return whether they were taken: not after a failure."""
        with self._lock:
            if self._is_failed:
                return False
            before = len(self._entries)
            self._entries.extend(entries)
            if not before or before < self._enough <= len(self._entries):
                self._news.notify()
        return True

    def keep_robots(self, row: tuple[Any, ...]) -> None:
        """Take what a robots.txt said, as ``Batch.robots`` has it; it goes with the next group."""
        with self._lock:
            self._robots.append(row)

    def hand_in(self, chore: Chore) -> bool:
        """Take something else to be committed; never waits. Return whether it was taken: not after a failure."""
        with self._lock:
            if self._is_failed:
                return False
            self._chores.append(chore)
            self._news.notify()
        return True

    def take_in(self, row: Any) -> bool:
        """Take a row of input, waiting while there are many; by the feeder. Return whether it was taken."""
        with self._lock:
            while len(self._rows) >= MOST_ROWS and not self._is_failed and not self._is_ending:
                self._room.wait(LOOK_S)
            if self._is_failed or self._is_ending:
                return False
            if not self._rows:
                self._news.notify()
            self._rows.append(row)
        return True

    def end_input(self) -> None:
        """Say that there is no further input."""
        with self._lock:
            self._is_input_done = True
            self._news.notify()

    def wake(self) -> None:
        """Have the clerk see what is to be fetched next."""
        with self._lock:
            self._is_called = True
            self._news.notify()

    def look_soon(self) -> None:
        """Have ``look`` called in a moment, unless something comes before."""
        with self._lock:
            self._looks_soon = True

    def finish(self) -> None:
        """Commit what was handed in, and end; by one thread, that isn't the clerk's."""
        with self._lock:
            self._is_ending = True
            self._news.notify()
            self._room.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_failed(self) -> bool:
        """Whether nothing is written any more."""
        return self._is_failed

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be committed, but for what is being committed now."""
        with self._lock:
            return not self._entries and not self._rows and not self._chores

    # The clerk's thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        carry(self._job.log_fields)
        while True:
            with self._lock:
                self._wait_for_news()
                entries, self._entries = self._entries, []
                rows, self._rows = self._rows, []
                chores, self._chores = self._chores, []
                if entries and len(rows) > _ROWS_BESIDE:  # results shouldn't wait for so much input
                    self._rows, rows = rows[_ROWS_BESIDE:], rows[:_ROWS_BESIDE]
                is_over = self._is_input_done and not self._rows
                if is_over:
                    self._is_input_done = False
                # What comes after something that wasn't written must not be: that the input is at its end, for one.
                is_failed = self._is_failed
                is_ending = self._is_ending and not (entries or rows or chores or is_over)
                self._is_called = False
                self._room.notify()
                looks, self._looks_soon = self._looks_soon, False
            if is_ending:
                return
            if looks and not (entries or rows or chores):
                self._look()
            try:
                if (entries or rows or chores or is_over) and not is_failed:
                    self._write(entries, rows, is_over, chores)
            except BaseException as error:  # of whatever kind: the thread lives on, to be joined
                self._fail(error, entries, chores)
            try:
                self._refill()
            except BaseException as error:
                self._fail(error, [])

    def _wait_for_news(self) -> None:
        """Wait until there is something to do: for a first result, and then a moment for those that come with it."""
        while not (self._has_news() or self._is_called or self._is_input_done or self._is_ending):
            if not self._news.wait(_SOON_S if self._looks_soon else None):
                return
        ends_at = time.monotonic() + _GATHER_S
        while 0 < len(self._entries) < self._enough and not (self._rows or self._is_input_done or self._is_ending):
            left_s = ends_at - time.monotonic()
            if left_s <= 0 or not self._news.wait(left_s):
                return

    def _has_news(self) -> bool:
        return bool(self._entries or self._rows or self._chores)

    def _fail(self, error: BaseException, entries: list[Entry], chores: Sequence[Chore] = ()) -> None:
        with self._lock:
            is_first, self._is_failed = not self._is_failed, True
            lost, self._entries = self._entries, []
            self._rows.clear()
            chores, self._chores = [*chores, *self._chores], []
            self._room.notify_all()
        for chore in chores:
            chore.done(error)
        self._lost(error if is_first else None, [*entries, *lost])

    def _write(self, entries: list[Entry], rows: list[Any], is_over: bool, chores: Sequence[Chore]) -> None:
        job, books = self._job, self._books
        kept = [entry for entry in entries if entry.leg is not None and entry.handed_over is None]
        moved = [entry for entry in entries if entry.handed_over is not None]
        results: list[Any] = [entry.result for entry in kept]
        items = [item for entry in entries for item in entry.items]
        marks = {}
        if moved:
            job.outputs.keep_exchanges([entry.result for entry in moved if entry.result is not None])
        if results or items or moved:
            places = job.outputs.write(results, items, [entry.line for entry in kept])
            marks = job.outputs.sync()
        batch = Batch(marks=marks)
        if results:
            batch.results = [
                entry.told.row(place) for entry, place in zip(kept, places, strict=True) if entry.told is not None
            ]
            for entry in kept:
                books.settle(entry.result, entry.leg)  # type: ignore[arg-type]
        if items:
            books.emitted(len(items))
        batch.transfer = transfer = Transfer()
        batch.incoming = rows + job.share_out([row for entry in entries for row in entry.adds], transfer)
        for entry in moved:
            assert entry.handed_over is not None and entry.leg is not None
            transfer.sent.append((entry.handed_over.shard, entry.handed_over.row))
            transfer.handed_over.append((entry.leg.ordinal, entry.handed_over.told))
        books.moved_out(len(moved))
        for chore in chores:
            chore.fill(batch)
        if rows or is_over:
            self._note_position(rows, is_over, batch)
        self.note(batch)
        job.check_may_commit()
        job.ledger.commit(batch, self._tally)
        if marks:
            job.outputs.committed(marks)
        has_come = bool(batch.incoming or transfer.moved)
        job.committed([*kept, *moved], [*batch.incoming, *(row for _, _, row in transfer.moved)])
        if is_over:
            job.is_input_done = True  # last: who sees it takes what waits for all there is
        for chore in chores:
            chore.done(None)
        self._committed(entries, has_come)

    def note(self, batch: Batch) -> None:
        """Add to a batch what there is to be said of hosts and their robots.txt files."""
        with self._lock:
            batch.robots, self._robots = self._robots, []
        self._noted(batch)

    def _note_position(self, rows: list[Any], is_over: bool, batch: Batch) -> None:
        if rows:
            self.hasher.update("".join(row[3] for row in rows).encode("ascii"))
            self.items += len(rows)
        position = {"items": self.items, "digest": self.hasher.hexdigest(), "is_done": is_over}
        batch.values["position"] = json.dumps(position)

    def _tally(self, inputs: int, found: int, moved_in: int = 0) -> dict[str, str]:
        """Count what comes in, and return what the same commit saves of the books."""
        self._books.took(inputs)
        self._books.found(found)
        self._books.moved_in(moved_in)
        self._job.came(inputs + found + moved_in)
        return {"books": json.dumps(self._books.saved(), separators=(",", ":"))}
