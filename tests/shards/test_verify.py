"""Jobs of many shards looked at as a whole: at any moment of a crawl nothing is wrong, and each loss is told."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sqlite3
from collections.abc import Callable

import pytest

from crawlpool import JobsReader, open_job
from crawlpool.shards import layout, segments
from crawlpool.shards.segments import SegmentName
from crawlpool.shards.verify import JobsVerified, verify_jobs
from tests.shards.told import Told, carry, crawled, few_seeds
from tests.shards.web import OPTIONS, Web, new_pool


def verified(*roots: str) -> JobsVerified:
    """Return what is found in jobs."""
    with open_job(*roots) as jobs:
        assert isinstance(jobs, JobsReader)
        return verify_jobs(jobs, most_flaws=100)


def flaws_of(*roots: str) -> list[str]:
    """Return what is wrong with jobs."""
    found = verified(*roots)
    assert len(found.flaws) == found.flaw_count
    assert found.is_whole is not bool(found.flaws)
    return [str(flaw) for flaw in found.flaws]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return a job that was crawled to its end."""
    with Web(5) as web:
        return crawled(tmp_path_factory.mktemp("made") / "job", web, few_seeds(web))


@pytest.fixture
def job(made: Told, tmp_path: pathlib.Path) -> Told:
    """Return a copy of it, to be changed."""
    shutil.copytree(made.root, tmp_path / "job")
    return Told(tmp_path / "job")


def test_at_each_moment_of_a_crawl_nothing_is_wrong(tmp_path: pathlib.Path) -> None:
    """After each shard's turn all that there is has its record, waits, or is on its way; at the end nothing is left."""
    with Web(4) as web:
        fleet = Told(tmp_path / "job", 6)
        fleet.feed(few_seeds(web))
        steps, were_on_their_way = 0, 0
        while True:
            found = verified(fleet.root)
            assert [str(flaw) for flaw in found.flaws] == []
            assert found.targets - found.handed_over == found.records + found.pending
            with open_job(fleet.root) as jobs:
                assert isinstance(jobs, JobsReader)
                report, moving = jobs.report, jobs.on_its_way
                assert report.is_balanced
                assert (moving == 0) is (found.on_its_way == 0) or moving > found.on_its_way  # links, too
            were_on_their_way += bool(found.on_its_way)
            if not fleet.step(web):
                break
            steps += 1
    assert steps > 4
    assert were_on_their_way > 2
    assert (found.on_its_way, found.pending, moving) == (0, 0, 0)
    assert found.shards == len(fleet.there())


def test_parts_are_held_against_each_other(tmp_path: pathlib.Path) -> None:
    """One alone isn't blamed for what the other has; both together have to have everything, and of the same input."""
    with Web(3) as web, new_pool(web) as pool:
        seeds = [web.url(n, f"/leaf/{n}") for n in range(12)] + [web.url(n, f"/hop/2/302?{n}") for n in range(3)]
        parts = [Told(tmp_path / str(n), 4, (n, 2), ("results.jsonl",)) for n in (1, 2)]
        roots = [fleet.root for fleet in parts]
        for fleet in parts:
            fleet.feed(seeds)
        for _ in range(20):
            for fleet in parts:
                fleet.run(pool, **OPTIONS)
                assert flaws_of(fleet.root) == []
            assert flaws_of(*roots) == []
            if not sum(carry(parts[n], parts[1 - n]) for n in (0, 1)):
                break
        whole = verified(*roots)
        assert (whole.records, whole.pending, whole.on_its_way) == (len(seeds), 0, 0)
        other = Told(tmp_path / "other", 4, (2, 2), ("results.jsonl",))
        other.feed([*seeds, web.url(0, "/leaf/more")])
        other.run(pool, **OPTIONS)
        assert any("the parts were made of different inputs" in flaw for flaw in flaws_of(roots[0], other.root))


# What is wrong -------------------------------------------------------------------------------------------------------


def shard_with(job: Told, query: str) -> int:
    """Return the first shard whose ledger has something."""
    for shard in job.there():
        with sqlite3.connect(f"file:{job.folder(shard)}/ledger.sqlite3?mode=ro", uri=True) as database:
            is_there = database.execute(query).fetchone() is not None
        database.close()
        if is_there:
            return shard
    raise AssertionError(query)


def write(job: Told, shard: int, *statements: str) -> None:
    """Change the ledger of a shard."""
    database = sqlite3.connect(f"{job.folder(shard)}/ledger.sqlite3")
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


def lose_shard(job: Told) -> str:
    """Lose a shard with its folder."""
    shard = shard_with(job, "SELECT 1 FROM target WHERE n IS NOT NULL")
    shutil.rmtree(layout.shard_folder(job.root, shard))
    return f"shards/{shard:04d}: the folder of the shard is gone, and"


def lose_ledger(job: Told) -> str:
    """Lose the ledger of a shard."""
    shard = job.there()[0]
    for path in pathlib.Path(job.folder(shard)).glob("ledger.sqlite3*"):
        path.unlink()
    return f"e0001: the ledger of shard {shard} is gone"


def change_record(job: Told) -> str:
    """Change a byte of a record."""
    shard = job.there()[-1]
    path = pathlib.Path(job.folder(shard)) / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"status":200', b'"status":201', 1))
    return f"shards/{shard:04d}: results.jsonl at "


def lose_moved(job: Told) -> str:
    """Lose a target that came from another shard, as if it had never been taken in."""
    shard = shard_with(job, "SELECT 1 FROM moved")
    write(job, shard, "DELETE FROM moved WHERE (source, source_id) IN (SELECT source, source_id FROM moved LIMIT 1)")
    return " was handed over, and no shard has it"


def take_twice(job: Told) -> str:
    """Take a target in twice, in two shards."""
    shard = shard_with(job, "SELECT 1 FROM moved")
    other = next(one for one in job.there() if one != shard)
    database = sqlite3.connect(f"{job.folder(shard)}/ledger.sqlite3")
    source, number, at = database.execute("SELECT source, source_id, id FROM moved").fetchone()
    database.close()
    write(job, other, f"INSERT INTO moved VALUES ({source}, {number}, {at})")
    return f"target {number} of shard {source} was taken in here and by shard {min(shard, other)}"


def invent_moved(job: Told) -> str:
    """Take in what no shard has handed over."""
    first, second = job.there()[:2]
    write(job, second, f"INSERT INTO moved VALUES ({first}, 99999, 1)")
    return f"{second:04d}: has taken in target 99999 of shard {first}, which that one hasn't handed over"


def lose_segment(job: Told) -> str:
    """Lose a segment between two shards, with what it held."""
    shard = shard_with(job, "SELECT 1 FROM imported WHERE segment LIKE 'from-%'")
    database = sqlite3.connect(f"{job.folder(shard)}/ledger.sqlite3")
    (name,) = database.execute("SELECT segment FROM imported WHERE segment LIKE 'from-%'").fetchone()
    with database:
        database.execute("DELETE FROM imported WHERE segment = ?", (name,))
    database.close()
    return f"the segment {name} was written, and no shard has taken it in"


def lose_input(job: Told) -> str:
    """Forget a segment of the input."""
    shard = shard_with(job, "SELECT 1 FROM imported WHERE segment LIKE 'input-%'")
    write(job, shard, "DELETE FROM imported WHERE segment LIKE 'input-%'")
    return f"shards/{shard:04d}: 1 segments of the input were given to it, and 0 are there"


def lose_row(job: Told) -> str:
    """Lose a target of the input, and have the books agree."""
    shard = shard_with(job, "SELECT 1 FROM target WHERE n IS NOT NULL")
    database = sqlite3.connect(f"{job.folder(shard)}/ledger.sqlite3")
    books = json.loads(database.execute("SELECT value FROM job WHERE key = 'books'").fetchone()[0])
    books["inputs"] -= 1
    with database:
        database.execute("UPDATE job SET value = ? WHERE key = 'books'", (json.dumps(books),))
    database.close()
    return "targets of the input were given to it, and "


def double_entry(job: Told) -> str:
    """Have an entry of the input in two shards."""
    query = "SELECT 1 FROM target WHERE n IS NOT NULL"
    first = shard_with(job, query)
    second = next(one for one in reversed(job.there()) if one != first)
    database = sqlite3.connect(f"{job.folder(first)}/ledger.sqlite3")
    (n,) = database.execute("SELECT n FROM target WHERE n IS NOT NULL AND line NOT LIKE '>%'").fetchone()
    database.close()
    write(job, second, f"UPDATE target SET n = {n} WHERE id = (SELECT min(id) FROM target WHERE line NOT LIKE '>%')")
    return f"{second:04d}: entry {n:,} of the input is there in two shards"


def absurd_entry(job: Told) -> str:
    """Have an entry that the input doesn't have."""
    shard = job.there()[0]
    write(job, shard, "UPDATE target SET n = 1000000000000 WHERE id = 1")
    return "a target has the ordinal 1,000,000,000,000, and the input "


def damage_input_state(job: Told) -> str:
    """Damage the file that tells how far the input was read."""
    (pathlib.Path(job.root) / "input.json").write_text("{}")
    return "input.json: is damaged"


def invent_segment(job: Told) -> str:
    """Have a damaged segment in an inbox."""
    name = SegmentName(0, 1, 999)
    inbox = layout.make_inbox(job.root, job.there()[0])
    segments.write(inbox, name, [])
    path = os.path.join(inbox, str(name))
    with open(path, "r+b") as file:
        file.seek(5)
        file.write(b"X")
    return f"{name}: is damaged"


CHANGES: list[Callable[[Told], str]] = [
    *(lose_shard, lose_ledger, change_record, lose_moved, take_twice, invent_moved, lose_segment, lose_input, lose_row),
    *(double_entry, absurd_entry, damage_input_state, invent_segment),
]


def damage_ledger(job: Told) -> str:
    """Have a ledger be none."""
    path = pathlib.Path(job.folder(job.there()[0])) / "ledger.sqlite3"
    for rest in path.parent.glob("ledger.sqlite3-*"):
        rest.unlink()
    path.write_bytes(b"no database at all " * 100)
    return f"{path}: no ledger"


def damage_pages(job: Told) -> str:
    """Damage all pages of a ledger but the first two."""
    path = pathlib.Path(job.folder(job.there()[0])) / "ledger.sqlite3"
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xee" * (len(data) - 8192))
    return f"{path}: the ledger is damaged"


def damage_tenure(job: Told) -> str:
    """Damage the file that says which folder of a shard counts."""
    (path,) = pathlib.Path(layout.shard_folder(job.root, job.there()[0])).glob("tenure-*")
    path.write_bytes(b"torn")
    return f"{path}: is damaged"


def damage_input(job: Told) -> str:
    """Have a damaged segment of the input, that was given to its shard and isn't taken in."""
    shard = job.there()[0]
    name = SegmentName.of_input(1)
    write(job, shard, f"DELETE FROM imported WHERE segment = '{name}'")
    path = pathlib.Path(layout.make_inbox(job.root, shard)) / str(name)
    path.write_bytes(b"cut off")
    return f"{path}: is damaged"


@pytest.mark.parametrize(
    "change",
    [lose_ledger, damage_ledger, damage_pages, damage_tenure, damage_input, damage_input_state, invent_segment],
    ids=lambda change: change.__name__,
)
def test_what_cannot_be_looked_at_is_told_once(job: Told, change: Callable[[Told], str]) -> None:
    """However often one comes upon it, and with its place; what is missed because of it isn't blamed on others."""
    flaw = change(job)
    (told,) = flaws_of(job.root)
    assert flaw in told
    assert told.count(job.root) == 1


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_flaw_is_told(job: Told, change: Callable[[Told], str]) -> None:
    """What is wrong and in which shard, whatever it is; and it is never an exception."""
    assert flaws_of(job.root) == []
    flaw = change(job)
    flaws = flaws_of(job.root)
    assert any(flaw in one for one in flaws), (flaw, flaws)


def test_a_lost_segment_of_the_input_is_told_before_it_is_taken_in(tmp_path: pathlib.Path) -> None:
    """What waits in an inbox counts, as long as it is there and whole."""
    with Web(3) as web:
        fleet = Told(tmp_path / "job", 4)
        fleet.feed([web.url(n, f"/leaf/{n}") for n in range(9)])
    found = verified(fleet.root)
    assert (found.flaws, found.on_its_way, found.targets) == ((), 9, 0)
    shard = layout.shards_there(fleet.root)[0]
    (path,) = pathlib.Path(layout.inbox_folder(fleet.root, shard)).glob("*.seg")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert any(f"{path.name}: is damaged" in flaw for flaw in flaws_of(fleet.root))
    path.unlink()
    assert any("targets of the input were given to it, and 0 are there" in flaw for flaw in flaws_of(fleet.root))


def test_a_shard_that_changes_its_owner_meanwhile_is_not_blamed(job: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the files of a former owner doesn't count; that it should be looked at again is said."""
    shard = job.there()[0]
    real = JobsVerified  # what is found first is of the folder that goes
    assert real is not None
    change_record(job)
    from crawlpool.shards import verify as module

    looked = module.verify

    def look(reader: object, *, most_flaws: int) -> object:
        found = looked(reader, most_flaws=most_flaws)  # type: ignore[arg-type]
        if found.flaw_count:
            job.take_over(job.there()[-1])
        return found

    monkeypatch.setattr(module, "verify", look)
    assert any("changed its owner while it was looked at: verify it once more" in flaw for flaw in flaws_of(job.root))
    assert shard in layout.shards_there(job.root)
