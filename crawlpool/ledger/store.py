"""The ledger's one writer: what comes in, what is settled and what counts of each output, a group in one transaction.

A statement of SQLite's lets go of the interpreter's lock and takes it again, and under load that costs more than the
statement. So a group's rows go into one statement as one JSON text, whatever their number: measured with a thread that
keeps the interpreter busy, groups of 64 results came to 13,300 a second so, and to 1,900 by ``executemany``.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from crawlpool.ledger import transfer as transfers
from crawlpool.ledger.schema import SUSPECT_RANK, open_to_write, transaction, trouble_told
from crawlpool.ledger.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from crawlpool.sinks.marks import Mark

#: How the keys of values begin that say which hosts, not public, the input has named: a row for each.
INPUT_HOST = "input_host:"
_MOST_HOSTS = 20_000  # whose numbers are remembered

# Where nothing of a batch was asked for before, which is nearly always, its rows go straight to where they belong.
# What json_each cuts out is taken as it is, key and value: to look into a value once more costs as much as to store it.
_REMEMBER = "INSERT OR IGNORE INTO seen (digest, id) SELECT CAST(key AS INTEGER), value FROM json_each(?)"
# One text a row, "host line": to have it cut costs half of what it does to have JSON looked into again for each part.
_TAKE_PLAIN = """
INSERT INTO target (id, n, host, rank, line)
SELECT ? + key, ? + key, CAST(value AS INTEGER), 0.0, substr(value, instr(value, ' ') + 1) FROM json_each(?)
"""
_TAKE_ANY = """
INSERT INTO target (id, n, host, rank, line, verdict)
SELECT ? + key, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each(?)
"""
_NAME_HOSTS = "INSERT OR IGNORE INTO host (name) SELECT value FROM json_each(?)"
_FIND_HOSTS = "SELECT name, id FROM host WHERE name IN (SELECT value FROM json_each(?))"

# Else they are compared with each other, and with what is there.
_INCOMING = """
CREATE TEMP TABLE incoming (
    id INTEGER PRIMARY KEY, n INTEGER, host INTEGER, rank REAL, line TEXT, verdict TEXT, digest INTEGER,
    is_found INTEGER, first INTEGER
)
"""
_FILL = """
INSERT INTO incoming
SELECT ? + key, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'),
    NULL
FROM json_each(?)
"""
_COMPARE = """
UPDATE incoming SET first = seen.id FROM seen WHERE seen.digest = incoming.digest AND seen.id <> incoming.id
"""
_TELL_DUPLICATES = """
UPDATE incoming AS one SET verdict = json_object('duplicate_of',
    coalesce((SELECT n FROM target WHERE id = one.first), (SELECT n FROM incoming AS other WHERE other.id = one.first)))
WHERE first IS NOT NULL AND verdict IS NULL
"""
_SHARE_OUT = """
UPDATE incoming SET verdict = json_object('skipped', 'max_per_host') FROM (
    SELECT one.id AS id, host.targets + row_number() OVER (PARTITION BY one.host ORDER BY one.id) AS place
    FROM incoming AS one JOIN host ON host.id = one.host WHERE one.verdict IS NULL
) AS counted WHERE counted.id = incoming.id AND counted.place > ?
"""
_COUNT_HOSTS = """
UPDATE host SET targets = targets + counted.number FROM (
    SELECT host, count(*) AS number FROM incoming WHERE verdict IS NULL GROUP BY host
) AS counted WHERE counted.host = host.id
"""
_TAKE_IN = """
INSERT INTO target (id, n, host, rank, verdict, line)
SELECT id, n, CASE WHEN verdict IS NULL THEN host ELSE 0 END, rank, verdict, line FROM incoming ORDER BY id
"""
# Nearly all groups hold results, marks and values and nothing else. Each statement lets go of the interpreter's lock,
# and gets it back perhaps milliseconds later: so such a group is one statement, which is a transaction by itself. What
# is inserted into this view are JSON texts; a trigger puts each where it belongs.
_GROUPS = """
CREATE TEMP VIEW grouped AS SELECT NULL AS results, NULL AS ended, NULL AS marks, NULL AS texts;
CREATE TEMP TRIGGER group_kept INSTEAD OF INSERT ON grouped BEGIN
    INSERT OR REPLACE INTO settled (id, info)
        SELECT json_extract(value, '$[0]'), value FROM json_each(NEW.results);
    UPDATE target SET state = 1 WHERE id IN (SELECT value FROM json_each(NEW.ended, '$.1'));
    UPDATE target SET state = 2 WHERE id IN (SELECT value FROM json_each(NEW.ended, '$.2'));
    UPDATE target SET state = 3 WHERE id IN (SELECT value FROM json_each(NEW.ended, '$.3'));
    UPDATE target SET state = 4 WHERE id IN (SELECT value FROM json_each(NEW.ended, '$.4'));
    UPDATE target SET state = 5 WHERE id IN (SELECT value FROM json_each(NEW.ended, '$.5'));
    INSERT OR REPLACE INTO sink (name, mark) SELECT key, value FROM json_each(NEW.marks);
    INSERT OR REPLACE INTO job (key, value) SELECT key, value FROM json_each(NEW.texts);
END;
"""
_KEEP = "INSERT INTO grouped (results, ended, marks, texts) VALUES (?, ?, ?, ?)"
_KEEP_ROBOTS = "INSERT OR REPLACE INTO robots (origin, run, at, how, status, text, legs) VALUES (?, ?, ?, ?, ?, ?, ?)"
_COOL = """
INSERT INTO host_state (name, cooled_until) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET cooled_until = excluded.cooled_until
"""
_ORDER = """
INSERT INTO host_state (name, orders) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET orders = excluded.orders
"""
_BLOCK = """
INSERT INTO host_state (name, is_blocked) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET is_blocked = excluded.is_blocked
"""

#: Of a target that comes in: ordinal of the input or ``None``, host, rank, the target as JSON, why it isn't to be sent
#: as JSON or ``None``, digest of what it asks for or ``None``, and whether a handler added it (1) or it is input (0).
Row = "tuple[int | None, str, float, str, str | None, int | None, int]"


@dataclasses.dataclass
class Batch:
    """What goes into the ledger in one transaction.

    Args:
        incoming: targets, each as ``store.Row`` says.
        results: of each the target, its outcome (``target.state``), and a JSON list, open at its end, of both again,
            reason, status, kind of error, part, offset and length of the record, and the legs; the run is added.
        values: texts by key, for the table ``job``.
        marks: what counts of each output, by name.
        robots: rows of the table ``robots``, without the run.
        cooled: hosts whose cooldown has changed, and until when by the wall clock (0: no more).
        orders: hosts of which an operator said something, as JSON; ``None`` for nothing any more.
        blocked: hosts, and whether (1 or 0) they are held as they don't want us.
        transfer: what it says of other shards.
    """

    incoming: list[Any] = dataclasses.field(default_factory=list)
    results: list[tuple[int, int, str]] = dataclasses.field(default_factory=list)
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    marks: dict[str, Mark] = dataclasses.field(default_factory=dict)
    robots: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    cooled: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    orders: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    blocked: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    transfer: Transfer | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it holds results, marks and values alone."""
        return not (self.incoming or self.transfer or self.robots or self.cooled or self.orders or self.blocked)


class Ledger:
    """The ledger of one job, open to be written.

    Args:
        path: of its file, made where there is none.
        dedupes: whether what was asked for before is a duplicate.
        max_per_host: targets of one host at most; the rest is skipped.
        is_shared: whether it lies on a file system of several machines.

    Raises:
        JobError: as ``schema.open_to_write`` does, and so does every ``SinkError``.

    Not thread-safe: it belongs to one thread at a time.
    """

    def __init__(
        self, path: str, *, dedupes: bool = True, max_per_host: int | None = None, is_shared: bool = False
    ) -> None:
        self.path = path
        self.dedupes = dedupes
        self.max_per_host = max_per_host
        self.database = open_to_write(path, is_shared)
        self.run = 0
        #: Numbers of hosts, as far as they came in lately.
        self.hosts: dict[str, int] = {}
        try:
            with trouble_told(path):
                self.database.execute(_INCOMING)
                self.database.executescript(_GROUPS)
                self.next_id = 1 + (self.database.execute("SELECT max(id) FROM target").fetchone()[0] or 0)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Put what lies beside the file into it, and close it. May be called again."""
        with trouble_told(self.path):
            self.database.close()

    # What is remembered ------------------------------------------------------------------------------------------

    def value(self, key: str) -> str | None:
        """Return a text of the table ``job``; ``None`` where there is none."""
        rows = self._read("SELECT value FROM job WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def marks(self) -> dict[str, Mark]:
        """Return what counts of each output, by name."""
        from crawlpool.sinks.marks import Mark

        rows = self._read("SELECT name, mark FROM sink")
        return {name: Mark(**json.loads(mark)) for name, mark in rows}

    def host_states(self) -> list[tuple[str, float | None, str | None]]:
        """Return of hosts until when they rest, by the wall clock, and what an operator said of them, as JSON."""
        return self._read("SELECT name, cooled_until, orders FROM host_state")

    def input_hosts(self) -> list[str]:
        """Return the hosts that aren't public and that the input has named, by their ``address.input_key``."""
        rows = self._read("SELECT key FROM job WHERE key > ? AND key < ?", (INPUT_HOST, f"{INPUT_HOST}\U0010ffff"))
        return [key.removeprefix(INPUT_HOST) for (key,) in rows]

    def count_waiting(self) -> int:
        """Return how many targets wait; it counts them."""
        return int(self._read("SELECT count(*) FROM target WHERE state = 0")[0][0])

    def has_outbox(self) -> bool:
        """Tell whether anything is on its way to other shards."""
        return bool(self._read("SELECT EXISTS (SELECT 1 FROM outbox)")[0][0])

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with trouble_told(self.path):
            return self.database.execute(query, values).fetchall()

    def begin_run(self, wall_s: float, monotonic_s: float) -> bool:
        """Begin a run; return whether the one before was ended, and not broken off."""
        with trouble_told(self.path), transaction(self.database):
            before = self.database.execute("SELECT n, ended_at FROM run ORDER BY n DESC LIMIT 1").fetchone()
            self.run = 1 if before is None else before[0] + 1
            self.database.execute(
                "INSERT INTO run (n, began_at, monotonic_s) VALUES (?, ?, ?)", (self.run, wall_s, monotonic_s)
            )
            self.database.execute("UPDATE host_state SET is_blocked = 0 WHERE is_blocked")  # they are asked again
        return before is None or before[1] is not None

    def end_run(self, wall_s: float, ending: str) -> None:
        """Note that the run has come to an end of its own."""
        with trouble_told(self.path), transaction(self.database):
            self.database.execute("UPDATE run SET ended_at = ?, ending = ? WHERE n = ?", (wall_s, ending, self.run))

    # Groups ------------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch, tally: Callable[..., Mapping[str, str]] = lambda *counts: {}) -> None:
        """Write a batch, whole or not at all; it is on the disk when this returns.

        Args:
            batch: what is to be written.
            tally: called within, with how many of its targets are input, and how many handlers added that weren't there
                before; where it says anything of other shards, also with how many these have handed over. Returns
                further values.

        Raises:
            SinkError: when it can't be written; nothing of it counts then.
        """
        with trouble_told(self.path):
            if batch.is_plain:
                batch.values.update(tally(0, 0))
                self._keep(batch)
            else:
                with transaction(self.database):
                    self._commit(batch, tally)

    def _commit(self, batch: Batch, tally: Callable[..., Mapping[str, str]]) -> None:
        execute = self.database.execute
        counts: tuple[int, ...] = self._take_in(batch.incoming) if batch.incoming else (0, 0)
        if batch.transfer:
            counts = (*counts, self._move_in(batch.transfer.moved))
            transfers.write(self.database, self.run, batch.transfer)
        batch.values.update(tally(*counts))
        self._keep(batch)
        for origin, at, how, status, text, legs in batch.robots:
            execute(_KEEP_ROBOTS, (origin, self.run, at, how, status, text, legs))
        for row in batch.cooled:
            execute(_COOL, row)
        for order in batch.orders:
            execute(_ORDER, order)
        for block in batch.blocked:
            execute(_BLOCK, block)

    def put(self, values: Mapping[str, str]) -> None:
        """Remember texts by key; within a transaction."""
        for item in values.items():
            self.database.execute("INSERT OR REPLACE INTO job (key, value) VALUES (?, ?)", item)

    def put_marks(self, marks: Mapping[str, Mark]) -> None:
        """Remember what counts of outputs, by name; within a transaction."""
        for name, mark in marks.items():
            text = _json(dataclasses.asdict(mark))
            self.database.execute("INSERT OR REPLACE INTO sink (name, mark) VALUES (?, ?)", (name, text))

    def _keep(self, batch: Batch) -> None:
        """Write results, marks and values."""
        ended: dict[int, list[int]] = {}
        for number, outcome, _ in batch.results:
            ended.setdefault(outcome, []).append(number)
        end = f",{self.run}]"
        results = f"[{','.join([text + end for _, _, text in batch.results])}]"
        marks = {name: dataclasses.asdict(mark) for name, mark in batch.marks.items()}
        self.database.execute(_KEEP, (results, _json(ended), _json(marks), _json(batch.values)))

    def _take_in(self, rows: Sequence[Any]) -> tuple[int, int]:
        """Take targets in; return how many are input, and how many handlers added that weren't there before."""
        execute, first, count = self.database.execute, self.next_id, len(rows)
        self.next_id = first + count
        numbers = self._numbers_of({row[1] for row in rows})
        digests = [row[5] for row in rows]
        known = range(count) if None not in digests else [at for at in range(count) if digests[at] is not None]
        # In their order, so that each page of the index is touched once.
        order = sorted(known, key=digests.__getitem__)
        text = ",".join([f'"{digests[at]}":{first + at}' for at in order])
        fresh = execute(_REMEMBER, (f"{{{text}}}",)).rowcount
        found = sum(row[6] for row in rows)
        if (fresh < len(order) and self.dedupes) or self.max_per_host is not None:
            return self._compare(rows, numbers, first)
        ordinal = rows[0][0]
        if not found and all(row[4] is None and not row[2] for row in rows) and rows[-1][0] - ordinal == count - 1:
            execute(_TAKE_PLAIN, (first, ordinal, _json([f"{numbers[row[1]]} {row[3]}" for row in rows])))
        else:
            text = _json([(row[0], numbers[row[1]], row[2], row[3], row[4]) for row in rows])
            execute(_TAKE_ANY, (first, text))
        return count - found, found

    def _compare(self, rows: Sequence[Any], numbers: Mapping[str, int], first: int) -> tuple[int, int]:
        """Take targets in of which some may be duplicates, or more than their hosts may have."""
        execute = self.database.execute
        execute(_FILL, (first, _json([(row[0], numbers[row[1]], *row[2:]) for row in rows])))
        if self.dedupes:
            execute(_COMPARE)
            execute("DELETE FROM incoming WHERE first IS NOT NULL AND is_found")
            execute(_TELL_DUPLICATES)
        if self.max_per_host is not None:
            execute(_SHARE_OUT, (self.max_per_host,))
            execute(_COUNT_HOSTS)
        execute(_TAKE_IN)
        counted = execute("SELECT count(*), coalesce(sum(is_found), 0) FROM incoming").fetchone()
        execute("DELETE FROM incoming")
        return counted[0] - counted[1], counted[1]

    def _move_in(self, moved: Sequence[tuple[int, int, Any]]) -> int:
        """Take in what other shards have handed over; return how many of it weren't here before."""
        if not moved:
            return 0
        first, self.next_id = self.next_id, self.next_id + len(moved)
        return transfers.take_moved(self.database, moved, self._numbers_of({row[1] for _, _, row in moved}), first)

    def _numbers_of(self, names: set[str]) -> dict[str, int]:
        """Return the numbers of hosts, giving them to those that have none."""
        unknown = names - self.hosts.keys()
        if unknown:
            if len(self.hosts) > _MOST_HOSTS:
                self.hosts = {name: number for name, number in self.hosts.items() if name in names}
            text = _json(sorted(unknown))
            self.database.execute(_NAME_HOSTS, (text,))
            self.hosts.update(self.database.execute(_FIND_HOSTS, (text,)).fetchall())
        return self.hosts

    # Crashes -----------------------------------------------------------------------------------------------------

    def crashed(self, in_flight: Iterable[int], last_from: int, most: int) -> None:
        """Take it that a run was broken off; count for each target how often in a row it was in flight then.

        Args:
            in_flight: the targets that were.
            last_from: with so many crashes a target goes after all others, and alone, so that it takes none with it.
            most: with so many it is never sent again.
        """
        text = json.dumps(sorted(in_flight))
        with trouble_told(self.path), transaction(self.database):
            execute = self.database.execute
            mine = "SELECT value FROM json_each(?)"
            rows = execute(f"SELECT id, line FROM target WHERE crashes > 0 AND id NOT IN ({mine})", (text,)).fetchall()
            for number, line in rows:
                execute("UPDATE target SET crashes = 0, rank = ? WHERE id = ?", (transfers.rank_of_line(line), number))
            execute(f"UPDATE target SET crashes = crashes + 1 WHERE state = 0 AND id IN ({mine})", (text,))
            execute("UPDATE target SET rank = ? WHERE crashes >= ?", (SUSPECT_RANK, last_from))
            verdict = json.dumps({"crashes": most})
            execute(
                "UPDATE target SET verdict = ?, host = 0, rank = 0 WHERE crashes >= ? AND state = 0", (verdict, most)
            )


def signed(digest: int) -> int:
    """Return a digest of 64 bits as SQLite takes it."""
    return digest - (1 << 64) if digest >> 63 else digest


_json = json.JSONEncoder(separators=(",", ":")).encode
