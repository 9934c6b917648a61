"""What goes into a ledger: targets once, results with the run, all of a group or nothing of it."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import SinkError
from crawlpool.ledger.store import Batch, Ledger, signed
from crawlpool.ledger.transfer import rank_of
from crawlpool.sinks.marks import Mark

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


def row(n: int | None, host: str = "a.example", digest: int | None = None, **more: Any) -> tuple[Any, ...]:
    line = more.get("line", f"-http://{host}/{n if digest is None else digest}")
    return n, host, more.get("rank", 0.0), line, more.get("verdict"), digest, int(n is None)


def ended(target: int) -> tuple[int, int, str]:
    return target, 1, f"[{target},1,null,200,null,1,0,9,[]"


def targets(ledger: Ledger) -> list[Any]:
    query = "SELECT n, name, rank, verdict FROM target JOIN host ON host.id = target.host ORDER BY target.id"
    return ledger.database.execute(query).fetchall()


def taken_in(ledger: Ledger, rows: list[Any]) -> tuple[int, int]:
    counts: list[tuple[int, int]] = []

    def tally(inputs: int, found: int) -> dict[str, str]:
        counts.append((inputs, found))
        return {}

    ledger.commit(Batch(incoming=rows), tally)
    return counts[0]


def test_plain_input_comes_in_as_it_was_given(ledger: Ledger) -> None:
    """Targets keep the order and the ordinals of the input, each with its host."""
    assert taken_in(ledger, [row(n, f"h{n % 3}.example", digest=n) for n in range(1, 8)]) == (7, 0)
    assert targets(ledger) == [(n, f"h{n % 3}.example", 0.0, None) for n in range(1, 8)]
    assert ledger.next_id == 8


def test_what_was_asked_for_before_is_a_duplicate_of_the_first(ledger: Ledger) -> None:
    """Within a group and across groups; it waits for no host, and its verdict names the ordinal of the first."""
    taken_in(ledger, [row(1, digest=11), row(2, digest=22), row(3, digest=11)])
    taken_in(ledger, [row(4, digest=22), row(5, "b.example", digest=33)])
    found = [(n, host, verdict and json.loads(verdict)) for n, host, _, verdict in targets(ledger)]
    assert found == [
        (1, "a.example", None),
        (2, "a.example", None),
        (3, "", {"duplicate_of": 1}),
        (4, "", {"duplicate_of": 2}),
        (5, "b.example", None),
    ]


def test_an_added_target_that_is_there_is_left_out(ledger: Ledger) -> None:
    """What handlers add again is neither kept nor counted; input that a handler had added is a duplicate of nothing."""
    assert taken_in(ledger, [row(1, digest=1)]) == (1, 0)
    assert taken_in(ledger, [row(None, digest=1), row(None, digest=2), row(None, digest=2)]) == (0, 1)
    assert taken_in(ledger, [row(2, digest=2)]) == (1, 0)
    assert [(n, verdict) for n, _, _, verdict in targets(ledger)] == [
        (1, None),
        (None, None),
        (2, '{"duplicate_of":null}'),
    ]


def test_nothing_is_a_duplicate_where_that_is_not_wanted(path: str) -> None:
    """Without ``dedupes`` all are kept, and ``seen`` still finds the first."""
    ledger = Ledger(path, dedupes=False)
    ledger.begin_run(0.0, 0.0)
    assert taken_in(ledger, [row(1, digest=5), row(2, digest=5), row(None, digest=5)]) == (2, 1)
    assert [verdict for *_, verdict in targets(ledger)] == [None] * 3
    assert ledger.database.execute("SELECT id FROM seen").fetchall() == [(1,)]
    ledger.close()


def test_a_host_has_no_more_than_its_share(path: str) -> None:
    """``max_per_host`` counts over all groups; duplicates and bad lines take nobody's share."""
    ledger = Ledger(path, max_per_host=2)
    ledger.begin_run(0.0, 0.0)
    bad = row(3, "", verdict='{"bad": "no URL"}')
    taken_in(ledger, [row(1, digest=1), row(2, digest=1), bad, row(4, digest=4)])
    taken_in(ledger, [row(5, digest=5), row(6, "b.example", digest=6)])
    found = [verdict and json.loads(verdict) for *_, verdict in targets(ledger)]
    assert found == [None, {"duplicate_of": 1}, {"bad": "no URL"}, None, {"skipped": "max_per_host"}, None]
    ledger.close()


def test_results_end_their_targets_and_know_their_run(ledger: Ledger) -> None:
    """A result makes its target wait no more; it has the run that wrote it, and all that was given."""
    taken_in(ledger, [row(n, digest=n) for n in (1, 2)])
    legs = [["first", 1.5, None]]
    text = '[2,3,"why",503,"timeout",1,700,70,[["first",1.5,null]]'
    ledger.commit(Batch(results=[(2, 3, text)]))
    assert ledger.count_waiting() == 1
    query = "SELECT id, run, outcome, reason, status, kind, part, offset, length, legs FROM result"
    (found,) = ledger.database.execute(query).fetchall()
    assert found[:-1] == (2, 1, 3, "why", 503, "timeout", 1, 700, 70)
    assert json.loads(found[-1]) == legs
    assert ledger.database.execute("SELECT state FROM target ORDER BY id").fetchall() == [(0,), (3,)]


def test_a_group_is_written_whole_or_not_at_all(ledger: Ledger) -> None:
    """What goes wrong in the middle of a group takes all of it back, and comes out as one error of the disk."""
    taken_in(ledger, [row(1, digest=1)])
    ledger.database.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON sink BEGIN SELECT raise(ABORT, 'disk full'); END"
    )
    batch = Batch(results=[ended(1)], incoming=[row(2, digest=2)], marks={"x": Mark()})
    with pytest.raises(SinkError, match=r"ledger\.sqlite3: the ledger can't be written: disk full"):
        ledger.commit(batch)
    assert ledger.count_waiting() == 1
    assert ledger.database.execute("SELECT count(*) FROM settled").fetchone() == (0,)


def test_marks_and_values_are_there_again(path: str) -> None:
    """What was committed of outputs, and what was remembered, is there when the ledger is opened again."""
    ledger = Ledger(path)
    mark = Mark(part=2, length=77, tail="ab", is_complete=True)
    ledger.commit(Batch(marks={"results.jsonl": mark}, values={"books": "{}"}))
    ledger.close()
    again = Ledger(path)
    assert again.marks() == {"results.jsonl": mark}
    assert (again.value("books"), again.value("nothing")) == ("{}", None)
    again.close()


def test_a_run_knows_whether_the_one_before_came_to_an_end(path: str) -> None:
    """Runs are numbered; one that was broken off is told from one that was ended."""
    told = []
    for ends in (True, False, True):
        ledger = Ledger(path)
        told.append((ledger.begin_run(5.0, 6.0), ledger.run))
        if ends:
            ledger.end_run(7.0, "done")
        ledger.close()
    assert told == [(True, 1), (True, 2), (False, 3)]


def test_who_was_in_flight_at_crashes_goes_last_and_then_not_at_all(ledger: Ledger) -> None:
    """Crashes count while they come in a row; the second puts a target last, the fifth ends it."""
    taken_in(ledger, [row(n, digest=n) for n in (1, 2, 3)])
    ledger.commit(Batch(results=[ended(3)]))

    def state() -> list[Any]:
        query = "SELECT id, crashes, rank > 0, verdict IS NOT NULL FROM target ORDER BY id"
        return [tuple(found) for found in ledger.database.execute(query)]

    ledger.crashed({1, 3}, 2, 5)
    assert state() == [(1, 1, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0)]
    ledger.crashed({1, 2}, 2, 5)
    assert state()[:2] == [(1, 2, 1, 0), (2, 1, 0, 0)]
    ledger.crashed({2}, 2, 5)
    assert state()[:2] == [(1, 0, 0, 0), (2, 2, 1, 0)]
    for _ in range(3):
        ledger.crashed({2}, 2, 5)
    assert state()[:2] == [(1, 0, 0, 0), (2, 5, 0, 1)]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30))
def test_the_first_of_each_digest_is_the_one_that_is_fetched(digests: list[int]) -> None:
    """However groups are cut: the first that asks for something waits, each later one names it."""
    memory = Ledger.__new__(Ledger)
    memory.__dict__.update(path="memory", dedupes=True, max_per_host=None, run=1, hosts={}, next_id=1)
    memory.database = sqlite3.connect(":memory:", isolation_level=None)
    from crawlpool.ledger import schema, store

    schema._see_to_tables(memory.database, "memory")
    memory.database.execute(store._INCOMING)
    memory.database.executescript(store._GROUPS)
    firsts: dict[int, int] = {}
    expected = []
    for n, digest in enumerate(digests, 1):
        expected.append(firsts.get(digest))
        firsts.setdefault(digest, n)
    cut = len(digests) // 3
    for start, part in ((1, digests[:cut]), (cut + 1, digests[cut:])):
        if part:
            memory.commit(Batch(incoming=[row(n, digest=signed(d)) for n, d in enumerate(part, start)]))
    found = [verdict and json.loads(verdict)["duplicate_of"] for *_, verdict in targets(memory)]
    assert found == expected
    memory.close()


def test_any_priority_has_a_rank_that_json_can_say() -> None:
    """Higher priorities have lower ranks, and none is beyond what SQLite and JSON can hold."""
    ranks = [rank_of(priority) for priority in (10**400, 5, 0, -5.5, -(10**400), float("inf"), float("-inf"))]
    assert ranks[:5] == sorted(ranks[:5])
    assert all(abs(rank) <= 1e300 for rank in ranks)
