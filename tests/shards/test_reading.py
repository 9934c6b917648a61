"""Jobs of many shards read back: the same as one crawl of the same input, whatever owners come and go meanwhile."""

from __future__ import annotations

import pathlib
import random
import shutil
import sqlite3
from collections.abc import Iterator

import pytest

from crawlpool import Job, JobError, JobsReader, Outcome, Target, open_job
from crawlpool.jobs.reading import JobReader
from crawlpool.shards import layout, reading
from crawlpool.shards.parts import Part, Shelf
from tests.shards.told import Told, carry, crawled, few_seeds
from tests.shards.web import OPTIONS, Web, alike, follow, new_pool, whole

HOSTS = 5


class Both:
    """The same input crawled as a job of many shards and as one without, and the hosts that it was crawled from."""

    def __init__(self, folder: pathlib.Path) -> None:
        with Web(HOSTS) as web:
            self.seeds = few_seeds(web)
            self.hosts = web.hosts
            self.many = crawled(folder / "many", web, self.seeds)
            self.one = str(folder / "one")
            with new_pool(web) as pool:
                pool.crawl(self.seeds, follow, job=Job(self.one, outputs=self.many.manifest.outputs), **OPTIONS)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Return both."""
    return Both(tmp_path_factory.mktemp("both"))


@pytest.fixture
def opened(both: Both) -> Iterator[tuple[JobsReader, JobReader]]:
    """Return both, open to be read."""
    with open_job(both.many.root) as many, open_job(both.one) as one:
        assert isinstance(many, JobsReader) and isinstance(one, JobReader)
        yield many, one


Opened = tuple[JobsReader, JobReader]


def test_records_are_those_of_one_crawl(both: Both, opened: Opened) -> None:
    """All of them, and those of an outcome, of a host, and of both."""
    many, one = opened
    assert alike(map(dict, many)) == alike(map(dict, one.records()))
    for host in (None, *both.hosts, "other.example"):
        for outcome in (None, *Outcome):
            of = {"outcome": outcome, "host": host}
            assert alike(map(dict, many.records(**of))) == alike(map(dict, one.records(**of))), of
    with pytest.raises(ValueError, match="is not a valid Outcome"):
        many.records(outcome="fine")


def test_a_record_is_found_wherever_redirects_have_led(both: Both, opened: Opened) -> None:
    """By what was asked for, in any spelling; with its body, and the requests of all shards."""
    many, one = opened
    moved = 0
    for seed in both.seeds:
        mine, theirs = many.get(seed), one.get(seed)
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert alike([dict(mine)]) == alike([dict(theirs)])
            assert mine.content == theirs.content
            assert mine.folder.startswith(many.paths[0])
            found = many.find(seed)
            assert found is not None
            moved += bool(found.way)
            assert [(leg.status, leg.url) for leg in mine.legs] == [(leg.status, leg.url) for leg in theirs.legs]
    assert moved > 3
    url = str(both.seeds[0])
    assert many.get(f"{url}#part") is not None
    assert many.get(Target(url, "DELETE")) is None
    assert many.get("http://other.example/") is None
    assert many.get("") is None


def test_books_items_and_runs(both: Both, opened: Opened) -> None:
    """The books are those of one crawl, but for what went from shard to shard; items are the same; runs are told."""
    many, one = opened
    mine, theirs = many.report, one.report
    for name in ("inputs", "found", "settled", "pending", "items", "legs", "is_complete", "body_bytes"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.is_balanced
    assert mine.moved_in == mine.moved_out > 3
    assert (many.on_its_way, many.is_input_done) == (0, True)
    assert sorted(map(str, many.items())) == sorted(map(str, one.items()))
    assert {run.ending for run in many.runs} == {"complete"}
    assert sum(1 for _ in many.parts()) == sum(1 for _, report in many.reports() if report.settled)
    assert repr(many) == f"<JobsReader {many.paths[0]!r}>"


def test_records_come_in_the_order_of_the_input(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever shards they lie in, however few are read at once; of two parts, too, whichever is given first."""
    monkeypatch.setattr(reading, "_PAGE_ROWS", 3)
    monkeypatch.setattr(reading, "_FEWEST", 1)
    with Web(HOSTS) as web, new_pool(web) as pool:
        seeds = [web.url(n, f"/leaf/{n}") for n in range(40)]
        random.Random(7).shuffle(seeds)
        parts = [Told(tmp_path / str(n), 6, (n, 2)) for n in (1, 2)]
        all_of_it = Told(tmp_path / "whole", 6)
        for fleet in (*parts, all_of_it):
            fleet.feed(seeds)
            fleet.run(pool, **OPTIONS)
    first, second = (fleet.root for fleet in parts)
    for paths in ([first, second], [second, first], [all_of_it.root]):
        with open_job(*paths) as job:
            assert [record["input"] for record in job.records()] == seeds
            assert job.is_input_done
    with open_job(first) as job:
        mine = [record["input"] for record in job.records()]
    assert mine == [seed for seed in seeds if seed in mine]
    with open_job(first, all_of_it.root) as job:  # jobs that aren't parts of one follow one another
        assert [record["input"] for record in job.records()] == mine + seeds
    with pytest.raises(JobError, match="the same job was given before"):
        open_job(first, f"{first}/../1")


def test_parts_on_two_machines_are_followed_from_one_to_the_other(tmp_path: pathlib.Path) -> None:
    """Before what goes between them was carried it is on its way; afterwards it is found."""
    with Web(3) as web, new_pool(web) as pool:
        seeds = few_seeds(web)
        parts = [Told(tmp_path / str(n), 4, (n, 2)) for n in (1, 2)]
        for fleet in parts:
            fleet.feed(seeds)
            fleet.run(pool, **OPTIONS)
        with open_job(*(fleet.root for fleet in parts)) as job:
            assert isinstance(job, JobsReader)
            found = [job.find(seed) for seed in seeds]
            away = sum(1 for one in found if one is not None and one.is_on_its_way)
            assert away > 0
            assert job.on_its_way >= away
            assert not job.report.is_complete
        for _ in range(20):
            if not sum(carry(parts[n], parts[1 - n]) for n in (0, 1)):
                break
            for fleet in parts:
                fleet.run(pool, **OPTIONS)
        expected, _, _ = whole(web, tmp_path / "whole", seeds)
    with open_job(*(fleet.root for fleet in parts)) as job:
        assert isinstance(job, JobsReader)
        assert alike(map(dict, job)) == expected
        found = [job.find(seed) for seed in seeds]
        assert any(one is not None and {part.root for part, _ in one.way} - {one.part.root} for one in found)
        assert job.on_its_way == 0


# Owners that come and go ---------------------------------------------------------------------------------------------


@pytest.fixture
def copied(both: Both, tmp_path: pathlib.Path) -> Told:
    """Return a copy of the job of many shards, to be changed."""
    shutil.copytree(both.many.root, tmp_path / "many")
    return Told(tmp_path / "many")


def test_reading_goes_on_where_the_new_owner_does(both: Both, copied: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record and item comes once, though every shard is taken over while they are read."""
    monkeypatch.setattr(reading, "_PAGE_ROWS", 2)
    monkeypatch.setattr(reading, "_FEWEST", 1)
    with open_job(copied.root) as job, open_job(both.many.root) as same:
        records, items = job.records(), job.items()
        got, emitted = [dict(next(records))], [next(items)]
        for shard in copied.there():
            copied.take_over(shard)
        got += map(dict, records)
        emitted += items
        assert alike(got) == alike(map(dict, same))
        assert sorted(map(str, emitted)) == sorted(map(str, same.items()))


def test_what_was_read_while_the_shard_changed_its_owner_does_not_count(copied: Told) -> None:
    """It is read once more where the new one has it: what a former owner writes after that is never told."""
    shard = copied.there()[0]
    part, shelf, seen = Part(copied.root, shard), Shelf(), []

    def look(reader: JobReader) -> str:
        seen.append(reader.path)
        if len(seen) == 1:
            new = copied.epoch(shard, 2)
            shutil.copytree(reader.path, new)
            copied.tell(shard, epoch=2)
        return reader.path

    assert shelf.look(part, look, None) == copied.epoch(shard, 2)
    assert seen == [copied.epoch(shard, 1), copied.epoch(shard, 2)]
    shelf.close()


def test_few_ledgers_are_open_at_once(both: Both) -> None:
    """The one that was asked for longest ago goes first; one that is asked for again is opened again."""
    shelf = Shelf(most=2)
    parts = [Part(both.many.root, shard) for shard in both.many.there()]
    readers = [shelf.reader(part) for part in parts]
    assert len(readers) > 3
    assert len(shelf._open) == 2
    assert shelf.reader(parts[-1]) is readers[-1]
    again = shelf.reader(parts[0])
    assert again is not None
    assert again is not readers[0]
    assert again.report.settled
    shelf.close()
    assert not shelf._open


def test_a_shard_that_nobody_has_begun_has_nothing(copied: Told) -> None:
    """Without a tenure, without a folder in use, or with one that its owner hadn't begun when it went."""
    shard = next(n for n in copied.manifest.mine() if n not in layout.shards_there(copied.root))
    inbox = layout.make_inbox(copied.root, shard)
    part = Part(copied.root, shard)
    assert part.folder() is None
    copied.tell(shard, epoch=0, is_released=False)
    assert part.folder() is None
    epoch = pathlib.Path(inbox).parent / "e0002"
    epoch.mkdir()
    (epoch / "origin.json").write_text('{"v":1,"from":null}')
    copied.tell(shard, epoch=2, is_released=False)
    assert part.folder() is None
    with open_job(copied.root) as job:
        assert job.report.is_balanced
        assert len(list(job.records()))
    with sqlite3.connect(epoch / "ledger.sqlite3") as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    with open_job(copied.root) as job, pytest.raises(JobError, match=f"shards/{shard:04d}/e0002"):
        list(job.records())


@pytest.mark.parametrize("change", ["ledger", "epoch", "tenure", "records", "table"])
def test_trouble_names_the_shard(copied: Told, change: str) -> None:
    """Whatever of it is gone or damaged, and whatever is asked."""
    shard = copied.there()[1]
    folder = pathlib.Path(copied.folder(shard))
    if change == "ledger":
        for path in folder.glob("ledger.sqlite3*"):
            path.unlink()
    elif change == "epoch":
        shutil.rmtree(folder)
    elif change == "tenure":
        newest = max(folder.parent.glob("tenure-*"))
        newest.write_bytes(newest.read_bytes()[::-1])
    elif change == "records":
        (folder / "results.jsonl").unlink()
    else:
        with sqlite3.connect(folder / "ledger.sqlite3") as database:
            database.execute("UPDATE settled SET info = '[1'")
        database.close()
    with open_job(copied.root) as job, pytest.raises(JobError, match=f"shards/{shard:04d}"):
        list(job.records())


def test_what_is_no_job_is_refused(both: Both, tmp_path: pathlib.Path) -> None:
    """One line says which of several it is; and a manifest of a later version isn't guessed at."""
    with pytest.raises(JobError, match="none: there is no such folder"):
        open_job(both.many.root, tmp_path / "none")
    with pytest.raises(JobError, match="is no job: it has no ledger"):
        open_job(both.one, tmp_path)
    (tmp_path / "manifest.json").write_text('{"v": 99}')
    with pytest.raises(JobError, match="made by a later crawlpool"):
        open_job(tmp_path)
