"""What a ledger says of other shards, as anybody reads it at any time: what came from them, and what goes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.errors import JobError
from crawlpool.ledger.reading import MOVED, PAGE_ROWS
from crawlpool.ledger.transfer import BATCHES, PUBLISHING, WRITERS, Outgoing
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.ledger.reading import LedgerReader

#: So many targets ``ShardTables.ordinals`` returns at once.
ORDINALS = 8192


class MovedRow(NamedTuple):
    """A target that another shard handed over: that shard, its number there, and the one that it has here."""

    source: int
    source_id: int
    id: int


class OutboxRow(NamedTuple):
    """A row for another shard that isn't known to be published: its number, that shard, and a ``store.Row``."""

    id: int
    shard: int
    row: list[Any]


class ShardTables:
    """The tables of shards in a ledger; one of the first version has none, and then nothing is in them.

    Args:
        ledger: open to be read.

    Raises:
        JobError: from each method, when the ledger can't be read, or is damaged.

    Each statement takes a page of rows. Not thread-safe.
    """

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger

    def taken_in(self, source: int, source_id: int) -> int | None:
        """Return which number a target has here that another shard handed over; ``None`` where it isn't here."""
        rows = self._rows("SELECT id FROM moved WHERE source = ? AND source_id = ?", (source, source_id))
        return int(rows[0][0]) if rows else None

    def moved(self, after: tuple[int, int] = (-1, -1)) -> Iterator[MovedRow]:
        """Yield what other shards have handed over, by shard and number there, from the one after such a pair on."""
        last: tuple[int, ...] = after
        query = (
            "SELECT source, source_id, id FROM moved WHERE (source, source_id) > (?, ?) "
            "ORDER BY source, source_id LIMIT ?"
        )
        while rows := self._rows(query, (*last, PAGE_ROWS)):
            yield from map(MovedRow._make, rows)
            last = rows[-1][:2]

    def ordinals(self, after: int = 0) -> list[tuple[int, int]]:
        """Return number and ordinal of the next targets of the input after one; none at the end.

        What another shard has handed over isn't among them: there it came in.
        """
        query = (
            "SELECT id, n FROM target WHERE id > ? AND n IS NOT NULL AND substr(line, 1, 1) <> ? ORDER BY id LIMIT ?"
        )
        return [(int(number), int(n)) for number, n in self._rows(query, (after, MOVED, ORDINALS))]

    def outbox(self, after: int = 0) -> Iterator[OutboxRow]:
        """Yield what goes to other shards and isn't known to be published, from the row after one on."""
        last = after
        while rows := self._rows(
            "SELECT id, shard, row FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (last, PAGE_ROWS)
        ):
            for number, shard, text in rows:
                row = self._ledger.parsed(text, f"row {number} for another shard")
                if not isinstance(row, list) or len(row) < 4:
                    raise self._damage(f"row {number} for another shard can't be read")
                yield OutboxRow(number, shard, row)
            last = rows[-1][0]

    def count_outbox(self) -> int:
        """Return how many rows ``outbox`` has."""
        rows = self._rows("SELECT count(*) FROM outbox")
        return int(rows[0][0]) if rows else 0

    def count_of(self, batch: Outgoing) -> int:
        """Return how many rows of a batch are in the outbox."""
        query = "SELECT count(*) FROM outbox WHERE shard = ? AND id BETWEEN ? AND ?"
        rows = self._rows(query, (batch.shard, batch.first, batch.last))
        return int(rows[0][0]) if rows else 0

    def imported(self, after: str = "") -> Iterator[str]:
        """Yield the names of the segments that came in, in their order, from the one after a name on."""
        last = after
        query = "SELECT segment FROM imported WHERE segment > ? ORDER BY segment LIMIT ?"
        while rows := self._rows(query, (last, PAGE_ROWS)):
            yield from (str(row[0]) for row in rows)
            last = rows[-1][0]

    def has_imported(self, name: str) -> bool:
        """Tell whether a segment came in."""
        return self.digest_of(name) is not None

    def digest_of(self, name: str) -> str | None:
        """Return the digest of a segment that came in; ``None`` where none of that name did."""
        rows = self._rows("SELECT digest FROM imported WHERE segment = ?", (name,))
        return str(rows[0][0]) if rows else None

    def writers(self) -> dict[int, str]:
        """Return who wrote the segments that came from each shard of other folders, by ``Manifest.job_id``."""
        try:
            return {int(source): str(who) for source, who in (self._ledger.value(WRITERS) or {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise self._damage("who wrote what came in can't be read") from None

    def publishing(self) -> list[Outgoing]:
        """Return the batches that were numbered and aren't known to be published: their rows are in the outbox yet."""
        try:
            return [Outgoing(*one) for one in self._ledger.value(PUBLISHING) or ()]
        except TypeError:
            raise self._damage("what is being published can't be read") from None

    def batches(self) -> dict[int, int]:
        """Return the highest batch of each epoch that numbered any."""
        try:
            return {int(epoch): int(batch) for epoch, batch in (self._ledger.value(BATCHES) or {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise self._damage("which batches were published can't be read") from None

    def _rows(self, query: str, given: tuple[Any, ...] = ()) -> list[Any]:
        return self._ledger.rows(query, given) if self._ledger.has_shards else []

    def _damage(self, what: str) -> JobError:
        return JobError(f"{one_line(self._ledger.path)}: the ledger is damaged: {what}")
