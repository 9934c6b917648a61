"""What is on its way between shards is counted once, wherever it lies, and however often a crash has it lie there."""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3

import pytest

from crawlpool import JobError
from crawlpool.shards import layout, segments
from crawlpool.shards.parts import Root, Shelf
from crawlpool.shards.segments import SegmentName
from crawlpool.shards.transit import OnItsWay, on_its_way, rows_in, waiting_segments
from tests.shards.told import Told, few_seeds
from tests.shards.web import Web

ROW = [None, "h.example", 0.0, "-http://h.example/", None, None, 1]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return a job of which one shard had its turn; nothing of it is changed but its outbox, which is empty again."""
    with Web(4) as web:
        fleet = Told(tmp_path_factory.mktemp("transit") / "job", 6)
        fleet.feed(few_seeds(web))
        fleet.step(web)
    return fleet


def moving(fleet: Told) -> OnItsWay:
    """Return what is on its way."""
    shelf = Shelf()
    try:
        return on_its_way(Root(fleet.root), shelf)
    finally:
        shelf.close()


def test_what_was_shared_out_and_not_taken_in_counts(fleet: Told) -> None:
    """As what was given to the shards, without what these have in their books."""
    shelf = Shelf()
    waiting = [(shard, name) for shard, _, name in waiting_segments(Root(fleet.root), shelf) if name.source is None]
    shelf.close()
    given = sum(
        rows_in(os.path.join(layout.inbox_folder(fleet.root, shard), str(name))) or 0 for shard, name in waiting
    )
    assert moving(fleet).inputs == given > 0
    assert len(waiting) < len(layout.shards_there(fleet.root))
    assert moving(fleet).all == moving(fleet).inputs + moving(fleet).between
    assert moving(fleet).between > 0


def test_an_outbox_counts_until_its_segment_does(fleet: Told) -> None:
    """Rows that wait count; those of a batch whose segment lies in an inbox, or was taken in, don't count twice."""
    shard = fleet.there()[0]
    to = next(other for other in layout.shards_there(fleet.root) if other != shard)
    before = moving(fleet).between
    database = sqlite3.connect(os.path.join(fleet.folder(shard), "ledger.sqlite3"))
    try:
        with database:
            database.executemany("INSERT INTO outbox VALUES (?, ?, ?)", [(n, to, json.dumps(ROW)) for n in (901, 902)])
        assert moving(fleet).between == before + 2
        with database:
            database.execute(
                "INSERT OR REPLACE INTO job VALUES ('publishing', ?)", (json.dumps([[77, 1, to, 901, 902]]),)
            )
        assert moving(fleet).between == before + 2
        inbox, name = layout.inbox_folder(fleet.root, to), SegmentName(shard, 1, 77)
        segments.write(inbox, name, [ROW, ROW])
        assert moving(fleet).between == before + 2
        os.unlink(os.path.join(inbox, str(name)))
    finally:
        with database:
            database.execute("DELETE FROM outbox WHERE id > 900")
            database.execute("DELETE FROM job WHERE key = 'publishing'")
        database.close()
    assert moving(fleet).between == before


def test_what_no_round_names_does_not_count(fleet: Told) -> None:
    """A segment of the input that a crash has left is looked at by nobody."""
    before = moving(fleet)
    shard = layout.shards_there(fleet.root)[-1]
    path = pathlib.Path(layout.inbox_folder(fleet.root, shard)) / str(SegmentName.of_input(999))
    path.write_bytes(b"half")
    try:
        assert moving(fleet) == before
    finally:
        path.unlink()


def test_the_number_of_targets_is_told_by_the_trailer(tmp_path: pathlib.Path) -> None:
    """Without reading the rest; one that is gone has none, and one without a trailer is damaged."""
    name = SegmentName(3, 1, 2)
    segments.write(str(tmp_path), name, [ROW] * 5000)
    path = tmp_path / str(name)
    assert rows_in(str(path)) == 5000
    assert rows_in(str(tmp_path / "none.seg")) is None
    for damaged in (b"", path.read_bytes()[:-9], b"[1]\n", b'{"rows":null}\n'):
        path.write_bytes(damaged)
        with pytest.raises(JobError, match="is damaged: it isn't what was written"):
            rows_in(str(path))
    with pytest.raises(JobError, match="Is a directory"):
        rows_in(str(tmp_path))


def test_a_job_without_shards_has_nothing_on_its_way(tmp_path: pathlib.Path) -> None:
    """All of it is in its ledger."""
    assert on_its_way(Root(str(tmp_path)), Shelf()) == OnItsWay(0, 0)
