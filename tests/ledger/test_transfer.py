"""What a ledger says of other shards: in one transaction with what it is about, and once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool.errors import SinkError
from crawlpool.ledger.reading import LedgerReader
from crawlpool.ledger.schema import HANDED_OVER, open_to_read, open_to_write
from crawlpool.ledger.store import Batch, Ledger
from crawlpool.ledger.transfer import OutboxReader, Outgoing, Transfer

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "ledger.sqlite3")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    made = Ledger(path)
    made.begin_run(100.0, 1.0)
    yield made
    made.close()


def row(n: int, host: str = "a.example") -> tuple[Any, ...]:
    return n, host, 0.0, f"-http://{host}/{n}", None, n, 0


def moved(source: int, number: int, host: str = "b.example") -> tuple[int, int, Any]:
    line = f'>{{"target":{{"url":"http://a.example/","priority":3}},"from":[{source},{number}]}}'
    return source, number, (number, host, -3.0, line, None, None, 0)


def test_a_target_that_is_handed_over_waits_no_more_and_has_its_legs(ledger: Ledger, path: str) -> None:
    """It has its own state, a row in the outbox and what was asked for it, and no reader takes it for a result."""
    ledger.commit(Batch(incoming=[row(1), row(2)]))
    told = f'[2,{HANDED_OVER},null,302,null,7,0,0,[["first",1.0,1.0,1.0,2.0,"answered",302]]'
    ledger.commit(Batch(transfer=Transfer(sent=[(7, "[2]")], handed_over=[(2, told)])))
    assert ledger.count_waiting() == 1
    with contextlib.closing(LedgerReader(path)) as reader:
        assert [state for _, state, _ in reader.states()] == [0, HANDED_OVER]
        assert list(reader.settled()) == [] and reader.settled_of(2) is None
        gone = reader.settled_of(2, is_handed_over=True)
        assert gone is not None and (gone.status, gone.part, len(gone.legs), gone.run) == (302, 7, 1, 1)
        assert list(reader.settled(has_handed_over=True)) == list(reader.settled(HANDED_OVER)) == [gone]


def test_a_target_arrives_once(ledger: Ledger) -> None:
    """What the same shard has handed over by the same number is one target, however often it comes."""
    counts: list[Any] = []

    def tally(*given: int) -> dict[str, str]:
        counts.append(given)
        return {}

    ledger.commit(
        Batch(incoming=[row(1)], transfer=Transfer(imported=[("a", "d")], moved=[moved(1, 5), moved(2, 5)])), tally
    )
    ledger.commit(Batch(transfer=Transfer(imported=[("b", "d")], moved=[moved(1, 5), moved(1, 6)])), tally)
    assert counts == [(1, 0, 2), (0, 0, 1)]
    targets = ledger.database.execute("SELECT target.id, rank, name FROM target JOIN host ON host.id = host").fetchall()
    assert targets == [(1, 0.0, "a.example"), *((n, -3.0, "b.example") for n in (2, 3, 5))]
    assert ledger.next_id == 6


def test_a_segment_comes_in_once_with_its_rows_or_not_at_all(ledger: Ledger) -> None:
    """A name that is there already lets nothing of the transaction in."""
    ledger.commit(Batch(incoming=[row(1)], transfer=Transfer(imported=[("input-00000001.seg", "d")])))
    with pytest.raises(SinkError):
        ledger.commit(Batch(incoming=[row(2)], transfer=Transfer(imported=[("input-00000001.seg", "d")])))
    assert ledger.count_waiting() == 1
    assert OutboxReader(ledger.database, ledger.path).imported("input-00000001.seg") == "d"


def test_the_outbox_gives_batches_by_shard_and_forgets_them_alone(ledger: Ledger, path: str) -> None:
    """Ranges are bounded in rows, hold one shard's, leave later ones alone; what is forgotten takes nothing along."""
    ledger.commit(Batch(transfer=Transfer(sent=[(n % 2, json.dumps([n])) for n in range(7)])))
    with contextlib.closing(open_to_read(path)) as database:
        outbox = OutboxReader(database, path)
        last = outbox.last()
        ledger.commit(Batch(transfer=Transfer(sent=[(0, "[7]")])))
        assert outbox.ranges(last, 3) == [(0, 1, 5), (1, 2, 6)]
        one = Outgoing(1, 1, 0, 1, 5)
        assert outbox.rows(one) == [[0], [2], [4]]
        ledger.commit(Batch(transfer=Transfer(published=[one])))
        assert outbox.rows(one) == []
        assert outbox.ranges(last, 100) == [(0, 7, 7), (1, 2, 6)]
        assert ledger.has_outbox()
        ledger.commit(Batch(transfer=Transfer(published=[Outgoing(2, 1, 0, 1, 99), Outgoing(3, 1, 1, 1, 99)])))
        assert (outbox.ranges(99, 9), ledger.has_outbox()) == ([], False)
        ledger.commit(Batch(transfer=Transfer(sent=[(0, "[8]")])))
        assert outbox.last() == 9  # no number is given twice


def test_a_suspect_that_was_handed_over_gets_its_rank_back(ledger: Ledger) -> None:
    """After crashes without it a target stands where its priority says, which is in its chain."""
    ledger.commit(Batch(transfer=Transfer(imported=[("a", "d")], moved=[moved(1, 5)])))
    for _ in range(2):
        ledger.crashed([1], 2, 5)
    ledger.crashed([], 2, 5)
    assert ledger.database.execute("SELECT rank, crashes FROM target").fetchall() == [(-3.0, 0)]


def test_a_ledger_of_version_1_is_read_and_brought_up_to_date(path: str) -> None:
    """One without the tables of shards is read as it is; who writes it adds them, and keeps a copy."""
    database = open_to_write(path)
    for table in ("outbox", "imported", "moved"):
        database.execute(f"DROP TABLE {table}")
    database.execute("PRAGMA user_version = 1")
    database.close()
    with contextlib.closing(LedgerReader(path)) as reader:
        assert list(reader.settled()) == []
    ledger = Ledger(path)
    ledger.commit(Batch(transfer=Transfer(sent=[(1, "[]")], imported=[("a", "d")])))
    ledger.close()
    copy = sqlite3.connect(f"{path}.v1")
    assert copy.execute("PRAGMA user_version").fetchone() == (1,)
    copy.close()


@pytest.mark.parametrize(("is_shared", "mode"), [(True, "truncate"), (False, "wal")])
def test_no_log_is_written_ahead_on_a_shared_file_system(path: str, *, is_shared: bool, mode: str) -> None:
    """A write-ahead log needs memory that is shared; a ledger that has one goes on without it, and the other way."""
    for _ in range(2):
        Ledger(path, is_shared=not is_shared).close()
        ledger = Ledger(path, is_shared=is_shared)
        assert ledger.database.execute("PRAGMA journal_mode").fetchone() == (mode,)
        ledger.commit(Batch(incoming=[row(1)]))
        ledger.close()
