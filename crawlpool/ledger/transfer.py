"""What a shard's ledger says of other shards: targets handed over, rows on their way out, segments that came in.

Everything here is done within a transaction of ``store.Ledger``: what is handed over is so in the same moment in which
it stops waiting here, and what came in is so in the same moment in which its segment counts as taken. Therefore nothing
is lost or doubled, whenever the process ends.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.ledger.schema import HANDED_OVER, trouble_told

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

#: Under which key the ledger has the batches that were numbered and aren't known to be published.
PUBLISHING = "publishing"
#: Under which key it has, for each epoch that ever numbered any, the highest batch: ``{"2": 17}``.
BATCHES = "batches"
#: Under which key it has who wrote the segments that came from each shard of other folders: ``{"3": "0f…"}``.
WRITERS = "writers"
_MOST_RANK = 1e300

_SEND = """
INSERT INTO outbox (shard, row) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
"""
_HAND_OVER = f"UPDATE target SET state = {HANDED_OVER} WHERE id IN (SELECT value FROM json_each(?))"
_TELL = "INSERT OR REPLACE INTO settled (id, info) SELECT json_extract(value, '$[0]'), value FROM json_each(?)"
_DROP = "DELETE FROM outbox WHERE shard = ? AND id BETWEEN ? AND ?"
# As everywhere here all rows go into one statement (``ledger.store`` says why). What is known already isn't taken in.
_KNOW = """
INSERT OR IGNORE INTO moved (source, source_id, id)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ? + key FROM json_each(?)
"""
_TAKE = """
INSERT INTO target (id, n, host, rank, line)
SELECT moved.id, json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
    json_extract(value, '$[5]')
FROM json_each(?) JOIN moved ON source = json_extract(value, '$[0]') AND source_id = json_extract(value, '$[1]')
WHERE moved.id = ? + key
"""
#: Each destination that something is for, from the first to the last id. A shard's rows lie together in the index.
_RANGES = """
SELECT shard, min(id), max(id) FROM (
    SELECT shard, id, row_number() OVER (PARTITION BY shard ORDER BY id) AS place FROM outbox WHERE id <= ?
) WHERE place <= ? GROUP BY shard ORDER BY shard
"""


class Outgoing(NamedTuple):
    """Rows of the outbox that make one segment: those for a shard, from one id to another, as a batch with a number.

    ``epoch`` is the one in which it was numbered: it keeps its name, by whoever it is published.
    """

    batch: int
    epoch: int
    shard: int
    first: int
    last: int


@dataclasses.dataclass
class Transfer:
    """What a transaction says of other shards.

    Args:
        sent: rows for others, each with its shard: JSON of a ``store.Row``.
        handed_over: targets that are in ``sent`` as what is to be gone on with: the target, and what ``settled`` has of
            it, a JSON list open at its end, as of a result.
        imported: the segments that it takes in, each with the digest of what stands in it.
        moved: targets that another shard handed over: that shard, its number of the target, and a ``store.Row``.
        published: batches whose rows needn't be kept any more.
    """

    sent: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    handed_over: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    imported: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    moved: list[tuple[int, int, Any]] = dataclasses.field(default_factory=list)
    published: list[Outgoing] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.sent or self.handed_over or self.imported or self.moved or self.published)


def write(database: sqlite3.Connection, run: int, transfer: Transfer) -> None:
    """Write what a transfer says of what goes out, and which segments came in; within a transaction.

    Args:
        database: the ledger's.
        run: the run's ordinal.
        transfer: what is to be written; ``take_moved`` writes the rest of it.
    """
    if transfer.handed_over:
        database.execute(_HAND_OVER, (_json([number for number, _ in transfer.handed_over]),))
        rows = f"[{','.join([f'{head},{run}]' for _, head in transfer.handed_over])}]"
        database.execute(_TELL, (rows,))
    if transfer.sent:
        database.execute(_SEND, (_json(transfer.sent),))
    for one in transfer.imported:
        database.execute("INSERT INTO imported (segment, digest) VALUES (?, ?)", one)
    for batch in transfer.published:
        database.execute(_DROP, (batch.shard, batch.first, batch.last))


def take_moved(
    database: sqlite3.Connection, moved: Sequence[tuple[int, int, Any]], numbers: Mapping[str, int], first: int
) -> int:
    """Take in targets that others handed over; return how many weren't here before. Within a transaction.

    Args:
        database: the ledger's.
        moved: as ``Transfer`` has it.
        numbers: of their hosts.
        first: the number of the first; each has one, taken in or not.
    """
    rows = _json([(source, number, row[0], numbers[row[1]], row[2], row[3]) for source, number, row in moved])
    database.execute(_KNOW, (first, rows))
    return database.execute(_TAKE, (rows, first)).rowcount


class OutboxReader:
    """Reads the outbox of a ledger beside its writer.

    Args:
        database: open to be read (``schema.open_to_read``); closed by who opened it.
        path: of its file, as messages call it.

    Raises:
        SinkError: from each method, when the ledger can't be read.

    Not thread-safe.
    """

    def __init__(self, database: sqlite3.Connection, path: str) -> None:
        self._database = database
        self._path = path

    def ranges(self, last: int, most: int) -> list[tuple[int, int, int]]:
        """Return for each shard that something is for: it, the first id, and the last of so many rows at most.

        Args:
            last: ids beyond it aren't looked at.
            most: rows of each shard at most.
        """
        return self._read(_RANGES, (last, most))

    def last(self) -> int:
        """Return the last id; 0 where nothing is there."""
        return int(self._read("SELECT coalesce(max(id), 0) FROM outbox")[0][0])

    def rows(self, one: Outgoing) -> list[Any]:
        """Return the rows of a batch, as ``store.Row`` has them."""
        query = "SELECT row FROM outbox WHERE shard = ? AND id BETWEEN ? AND ? ORDER BY id"
        return [json.loads(text) for (text,) in self._read(query, (one.shard, one.first, one.last))]

    def publishing(self) -> list[Outgoing]:
        """Return the batches that were numbered and aren't known to be published."""
        rows = self._read("SELECT value FROM job WHERE key = ?", (PUBLISHING,))
        return [Outgoing(*one) for one in json.loads(rows[0][0])] if rows else []

    def batches(self) -> dict[int, int]:
        """Return the highest batch of each epoch that numbered any."""
        rows = self._read("SELECT value FROM job WHERE key = ?", (BATCHES,))
        return {int(epoch): batch for epoch, batch in json.loads(rows[0][0]).items()} if rows else {}

    def imported(self, name: str) -> str | None:
        """Return the digest of a segment that came in; ``None`` where none of that name did."""
        rows = self._read("SELECT digest FROM imported WHERE segment = ?", (name,))
        return str(rows[0][0]) if rows else None

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with trouble_told(self._path):
            return self._database.execute(query, values).fetchall()


def rank_of(priority: float) -> float:
    """Return where a target of a priority stands among those of its host: the lowest rank goes first."""
    try:
        return max(-_MOST_RANK, min(-float(priority), _MOST_RANK))
    except OverflowError:  # of a whole number, which has no end
        return -_MOST_RANK if priority > 0 else _MOST_RANK


def rank_of_line(line: str) -> float:
    """Return the rank of a target, of its line as ``jobs.entries`` and ``jobs.chain`` write it."""
    if line[0] not in "{>":
        return 0.0
    fields = json.loads(line.removeprefix(">"))
    return rank_of((fields if line[0] == "{" else fields["target"]).get("priority", 0))


_json = json.JSONEncoder(separators=(",", ":")).encode
