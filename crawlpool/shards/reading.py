"""Jobs read back together: one of many shards, several, or both; while they run or afterwards, and nothing is locked.

Each shard has a ledger of its own, in the folder of the epoch that counts. Its results are read a page at a time, and a
page counts when the same epoch still does after it was read: what a former owner wrote after its shard was taken over
is so never told.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.errors import JobError
from crawlpool.jobs.chain import MARK
from crawlpool.jobs.entries import STATES
from crawlpool.jobs.reading import JobReader, plain_name
from crawlpool.models import Outcome, Report
from crawlpool.shards.inputs import input_state
from crawlpool.shards.manifest import is_sharded
from crawlpool.shards.parts import Part, Root, Shelf, check_apart, grouped, named
from crawlpool.shards.transit import on_its_way
from crawlpool.shards.ways import Found, Ways

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from crawlpool.jobs.reading import JobRun
    from crawlpool.jobs.records import JobRecord
    from crawlpool.ledger.reading import Settled
    from crawlpool.models import Target

#: Records of all shards together that wait in memory to be put into the order of the input, and the fewest of each.
_MOST_ROWS, _FEWEST = 20_000, 8
_PAGE_ROWS = 512


class _Page(NamedTuple):
    """Records of a part, each with the ordinal of its target; the number of the last that was looked at."""

    records: Sequence[tuple[int | None, JobRecord]] = ()
    last: int = 0
    is_last: bool = True


def open_job(path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> JobReader | JobsReader:
    """Open a job to read it, or several as one; nothing of them is locked or changed, and they may run meanwhile.

    Args:
        path: of its folder; the job may be one of many shards.
        more: of further jobs, such as the other parts of a job (``--shard 2/4``).

    Returns:
        The reader, a context manager: a ``JobReader`` of one job with one ledger, else a ``JobsReader``.

    Raises:
        JobError: when there is no job, it can't be read, or a later version has written it.
    """
    if not more and not is_sharded(os.fspath(path)):
        return JobReader(path)
    return JobsReader([path, *more])


class JobsReader:
    """Jobs of many shards, or several jobs, open to be read as one. Made by ``open_job``.

    Args:
        paths: of their folders; one without shards may be among them.

    Raises:
        JobError: as ``open_job`` does; and so does every method when something is damaged or gone: it names the shard.

    Not thread-safe: let each thread open its own.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = tuple(os.fspath(path) for path in paths)
        check_apart(self.paths)
        self.roots = tuple(Root(path) for path in self.paths)
        self.groups = grouped(self.roots)
        self.shelf = Shelf()
        self._ways = Ways(self.groups, self.shelf)
        try:
            for root in self.roots:
                if root.manifest is None:
                    self.shelf.reader(Part(root.path))  # there is such a job
        except BaseException:
            self.close()
            raise

    def parts(self) -> Iterator[Part]:
        """Yield what has a ledger, or may have one soon: job by job, and the shards of each in order."""
        for root in self.roots:
            yield from root.parts()

    # Records -----------------------------------------------------------------------------------------------------

    def records(self, *, outcome: str | Outcome | None = None, host: str | None = None) -> Iterator[JobRecord]:
        """Yield the records of what is settled.

        Those of a job of many shards come in the order of the input, as do those of several parts of one; what was
        found, or handed over by another shard, comes where its shard had taken it in. Other jobs follow one another.

        Args:
            outcome: only those that ended so.
            host: only those of this host.

        Raises:
            ValueError: for an outcome that there isn't.
        """
        return self._records(
            None if outcome is None else STATES[Outcome(outcome)], None if host is None else plain_name(host)
        )

    def _records(self, state: int | None, host: str | None) -> Iterator[JobRecord]:
        for group in self.groups:
            parts = [part for root in group for part in root.parts()]
            at_home = set() if host is None else {root.part_of(host) for root in group}
            most = max(_FEWEST, min(_PAGE_ROWS, _MOST_ROWS // max(len(parts), 1)))
            streams = [
                self._in_order(group, part, state, host, most, is_home=host is None or part in at_home)
                for part in parts
            ]
            for _, record in heapq.merge(*streams, key=operator.itemgetter(0)):
                yield record

    def _in_order(
        self, group: Sequence[Root], part: Part, state: int | None, host: str | None, most: int, *, is_home: bool
    ) -> Iterator[tuple[int, JobRecord]]:
        """Yield the records of a part as it took in their targets, each with the last ordinal of the input so far."""
        after = place = 0
        page = functools.partial(self._page, group, host, most, state=state, is_home=is_home)
        while True:
            found = self.shelf.look(part, functools.partial(page, after=after), _Page())
            for n, record in found.records:
                place = max(place, n or 0)
                yield place, record
            after = found.last
            if found.is_last:
                return

    def _page(
        self,
        group: Sequence[Root],
        host: str | None,
        most: int,
        reader: JobReader,
        *,
        state: int | None,
        after: int,
        is_home: bool,
    ) -> _Page:
        """Return the next records of a part; of a host that lies elsewhere only those that came from there."""
        settled = reader.ledger.settled(state, host if is_home else None, after=after, only_moved=not is_home)
        rows = list(itertools.islice(settled, most))
        kept = [row for row in rows if host is None or reader.is_of(row, host)]
        found = [(row.n, record) for row in kept if (record := self._record_of(group, row, reader)) is not None]
        return _Page(found, rows[-1].id if rows else after, len(rows) < most)

    def _record_of(self, group: Sequence[Root], row: Settled, reader: JobReader) -> JobRecord | None:
        is_moved = row.line.startswith(MARK)
        return reader.record_of(row, functools.partial(self._ways.legs_before, group, row.line) if is_moved else None)

    def __iter__(self) -> Iterator[JobRecord]:
        return self.records()

    def get(self, url: str | Target) -> JobRecord | None:
        """Return the record of a URL, in whatever spelling, wherever its redirects have led it.

        Args:
            url: as it was asked for, not where a redirect led; or a target, for one with a method, headers or data.

        Returns:
            ``None`` where the jobs don't have it, or not yet.
        """
        found = self.find(url)
        return None if found is None else self.record_at(found)

    def find(self, url: str | Target) -> Found | None:
        """Return where the target is that asks for a URL, settled or not; ``None`` where the jobs have none."""
        return self._ways.find(url)

    def inbox_of(self, url: str | Target) -> Part | None:
        """Return the shard in whose inbox a target waits that asks for a URL, where none has taken it in yet.

        Of the inboxes that of its host's shard alone is read.

        Args:
            url: as ``find`` takes it.
        """
        return self._ways.inbox_of(url)

    def record_at(self, found: Found) -> JobRecord | None:
        """Return the record of a target that was found; ``None`` where it has none yet."""

        group = next(group for group in self.groups if any(root.path == found.part.root for root in group))

        def record(reader: JobReader) -> JobRecord | None:
            settled = reader.ledger.settled_of(found.number)
            return None if settled is None else self._record_of(group, settled, reader)

        return self.shelf.look(found.part, record, None)

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield what handlers have emitted, shard by shard, of each in the order in which it was written."""
        for part in self.parts():
            yield from self._items(part)

    def _items(self, part: Part) -> Iterator[dict[str, Any]]:
        at = (1, 0)
        while True:
            folder = part.folder()
            if folder is None:
                return
            try:
                with named(part), JobReader(folder) as reader:
                    for item, after in reader.items_from(*at):
                        yield item
                        at = after
                return
            except JobError:
                if part.folder() == folder:
                    raise

    # What is known of the jobs -----------------------------------------------------------------------------------

    def reports(self) -> Iterator[tuple[Part, Report]]:
        """Yield each part with its books."""
        for part in self.parts():
            yield part, self.shelf.look(part, operator.attrgetter("report"), Report())

    @property
    def report(self) -> Report:
        """The books of all shards and jobs together; they balance with what is ``pending``, or on its way."""
        return Report.merged([report for _, report in self.reports()])

    @property
    def on_its_way(self) -> int:
        """Targets that were shared out, found or handed over, and that the shard they are for hasn't taken in yet."""
        return sum(
            on_its_way(root, self.shelf, [other for other in group if other is not root]).all
            for group in self.groups
            for root in group
        )

    @property
    def is_input_done(self) -> bool:
        """Whether all of the input was shared out among the shards, or is in the ledger."""
        return all(
            input_state(root.path).is_done
            if root.manifest is not None
            else self.shelf.look(Part(root.path), operator.attrgetter("is_input_done"), False)
            for root in self.roots
        )

    @property
    def runs(self) -> tuple[JobRun, ...]:
        """The runs of all shards, by shard, each in order; each owner of a shard has its own."""
        none: tuple[JobRun, ...] = ()
        found = (self.shelf.look(part, operator.attrgetter("runs"), none) for part in self.parts())
        return tuple(run for runs in found for run in runs)

    # The end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of all files. May be called again."""
        self.shelf.close()

    def __enter__(self) -> JobsReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JobsReader {', '.join(map(repr, self.paths))}>"
