"""Whether what shards hand over to each other arrives: each target once, and each segment that was ever written.

A target goes from a shard's ledger to its outbox, from there in a segment to the inbox of another, and into the ledger
of that one. These are looked at in the order of its way, all of one kind before the first of the next. So what moves on
while this is done is found farther on.

The notes are as many as targets were handed over: they lie in a temporary file.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from crawlpool.errors import JobError
from crawlpool.jobs.chain import MARK, chain_of
from crawlpool.ledger.schema import HANDED_OVER
from crawlpool.ledger.shard_reading import MovedRow, ShardTables
from crawlpool.redact import one_line
from crawlpool.shards import segments
from crawlpool.shards.parts import Part
from crawlpool.shards.segments import SegmentName
from crawlpool.shards.transit import waiting_segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlpool.jobs.expected import Flaws
    from crawlpool.jobs.reading import JobReader
    from crawlpool.shards.parts import Root, Shelf

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE gone (source INTEGER, id INTEGER, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE seen (source INTEGER, id INTEGER, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE came (source INTEGER, id INTEGER, shard INTEGER, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE segment (source INTEGER, epoch INTEGER, batch INTEGER, PRIMARY KEY (source, epoch, batch)) WITHOUT ROWID;
"""
_PAGE = 4096


class HandedCheck:
    """Compares what the shards of one job have handed over with what has arrived.

    Args:
        roots: the folders of the job; several where its parts lie in several.
        shelf: has their ledgers.
        flaws: takes what is wrong.
        is_all: whether these are all shards of the job. Else what isn't found may have come to another.

    Raises:
        JobError: when the temporary file can't be written.

    Not thread-safe.
    """

    def __init__(self, roots: Sequence[Root], shelf: Shelf, flaws: Flaws, *, is_all: bool) -> None:
        self._parts = {part.shard or 0: part for root in roots for part in root.parts()}
        self._roots = roots
        self._shelf = shelf
        self._flaws = flaws
        self._is_all = is_all
        self._batches: dict[tuple[int, int], int] = {}
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, gone at the end
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        #: Targets that are on their way: handed over, and taken in by nobody yet.
        self.on_its_way = 0

    def check(self) -> None:
        """Look at all of it; what can't be looked at is a flaw."""
        try:
            for part in self._parts.values():
                self._tried(part.name, lambda part=part: self._take_gone(part))
            for part in self._parts.values():
                self._tried(part.name, lambda part=part: self._take_outbox(part))
            for root in self._roots:
                self._tried(root.path, lambda root=root: self._take_inboxes(root))
            for part in self._parts.values():
                self._tried(part.name, lambda part=part: self._take_moved(part))
            self._compare()
        except sqlite3.Error as error:
            raise JobError(f"a temporary file is needed, in the folder of TMPDIR: {error}") from error
        finally:
            self._database.close()

    def _tried(self, name: str, look: Any) -> None:
        try:
            look()
        except JobError as error:
            self._cant_look(name, error)

    def _cant_look(self, name: str, error: JobError) -> None:
        self._flaws.add_trouble(one_line(name), error)
        self._is_all = False  # what isn't found elsewhere may be there

    # The stations of the way -------------------------------------------------------------------------------------

    def _take_gone(self, part: Part) -> None:
        for gone in self._paged(part, 0, lambda reader, last: reader.ledger.settled(HANDED_OVER, after=last), _number):
            self._add("INSERT OR IGNORE INTO gone VALUES (?, ?)", part.shard, gone.id)
        batches = self._shelf.look(part, lambda reader: ShardTables(reader.ledger).batches().items(), ())
        for epoch, batch in batches:
            self._batches[part.shard or 0, epoch] = batch

    def _take_outbox(self, part: Part) -> None:
        for row in self._paged(part, 0, lambda reader, last: ShardTables(reader.ledger).outbox(last), _number):
            self._see(row.row, part.name)
        # Those that were numbered and aren't known to be published have no segment yet, perhaps.
        for one in self._shelf.look(part, lambda reader: ShardTables(reader.ledger).publishing(), ()):
            self._note_segment(SegmentName(part.shard, one.epoch, one.batch))

    def _take_inboxes(self, root: Root) -> None:
        assert root.manifest is not None
        for _, folder, name in waiting_segments(root, self._shelf):
            self._note_segment(name)
            path = os.path.join(folder, str(name))
            try:
                for row in segments.read(path, root.manifest.sharding_id):
                    self._see(row, path)
            except FileNotFoundError:
                pass  # it was taken in meanwhile
            except JobError as error:
                self._cant_look(folder, error)

    def _take_moved(self, part: Part) -> None:
        rows = self._paged(part, (-1, -1), lambda reader, last: ShardTables(reader.ledger).moved(last), _source)
        for row in rows:
            if not self._add("INSERT INTO came VALUES (?, ?, ?)", row.source, row.source_id, part.shard):
                (other,) = self._one("SELECT shard FROM came WHERE source = ? AND id = ?", row.source, row.source_id)
                what = f"target {row.source_id} of shard {row.source} was taken in here and by shard {other}"
                self._flaws.add(one_line(part.name), what)
        for text in self._paged(part, "", lambda reader, last: ShardTables(reader.ledger).imported(last), str):
            name = SegmentName.parse(text)
            if name is not None:
                self._note_segment(name)

    # What they come to -------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        self.on_its_way = int(
            self._one("SELECT count(*) FROM (SELECT * FROM gone EXCEPT SELECT source, id FROM came)")[0]
        )
        if self._is_all:
            lost = "SELECT source, id FROM gone EXCEPT SELECT source, id FROM came EXCEPT SELECT source, id FROM seen"
            for source, number in self._database.execute(lost):
                self._flaws.add(self._name(source), f"target {number} was handed over, and no shard has it")
            self._compare_segments()
        for source, number, shard in self._database.execute(
            "SELECT source, id, shard FROM came WHERE (source, id) NOT IN (SELECT source, id FROM gone)"
        ):
            part = self._parts.get(source)
            # It may have been handed over since its shard was looked at.
            if part is not None and not self._is_gone(part, number):
                what = f"has taken in target {number} of shard {source}, which that one hasn't handed over"
                self._flaws.add(self._name(shard), what)

    def _compare_segments(self) -> None:
        """Find the batches that no shard has taken in, and that lie in no inbox."""
        for (source, epoch), last in sorted(self._batches.items()):
            before = max((b for (s, e), b in self._batches.items() if s == source and e < epoch), default=0)
            query = "SELECT batch FROM segment WHERE source = ? AND epoch = ? AND batch <= ?"
            there = {batch for (batch,) in self._database.execute(query, (source, epoch, last))}
            for batch in range(before + 1, last + 1):
                if batch not in there:
                    name = SegmentName(source, epoch, batch)
                    self._flaws.add(self._name(source), f"the segment {name} was written, and no shard has taken it in")

    def _is_gone(self, part: Part, number: int) -> bool:
        def look(reader: JobReader) -> bool:
            row = reader.ledger.target(number)
            return row is not None and row.state == HANDED_OVER

        try:
            return self._shelf.look(part, look, False)
        except JobError:
            return True  # that it is damaged was told

    def _name(self, shard: int) -> str:
        part = self._parts.get(shard)
        return f"shard {shard}" if part is None else one_line(part.name)

    def _see(self, row: Sequence[Any], where: str) -> None:
        line = row[3]
        if isinstance(line, str) and line.startswith(MARK):
            try:
                chain = chain_of(line)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                self._flaws.add(one_line(where), "a target that was handed over can't be read")
                return
            self._add("INSERT OR IGNORE INTO seen VALUES (?, ?)", chain.source, chain.source_id)

    def _note_segment(self, name: SegmentName) -> None:
        if name.source is not None:
            self._add("INSERT OR IGNORE INTO segment VALUES (?, ?, ?)", *name)

    def _paged(self, part: Part, last: Any, rows: Any, place: Any) -> Iterator[Any]:
        """Yield rows of a part, some at a time, so that a shard that changes its owner meanwhile is looked at again."""

        def page(reader: JobReader) -> list[Any]:
            return list(itertools.islice(rows(reader, last), _PAGE))

        while found := self._shelf.look(part, page, ()):
            yield from found
            last = place(found[-1])

    def _add(self, statement: str, *row: object) -> bool:
        try:
            self._database.execute(statement, row)
        except sqlite3.IntegrityError:
            return False
        return True

    def _one(self, query: str, *given: object) -> Any:
        return self._database.execute(query, given).fetchone()


def _number(row: Any) -> int:
    number: int = row.id
    return number


def _source(row: MovedRow) -> tuple[int, int]:
    return row.source, row.source_id
