"""What the copy of a folder has: all that counts, and no file that the former owner could write to."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import HostLimits, Job, JobError, SessionPool, open_job
from crawlpool.shards import layout, stable, takeover
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.takeover import Epoch
from crawlpool.testing import SiteServer
from tests.disks import instead
from tests.jobs.made import EVERYTHING, crawl_site, page
from tests.kit import HandClock
from tests.shards.taken import LEDGER, SITE, claim, crawled, flaws, names


@pytest.fixture(autouse=True)
def _ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy at once what was written just now: in these tests nobody writes meanwhile."""
    monkeypatch.setattr(stable, "_TICK_NS", -1)
    monkeypatch.setattr(stable, "_COARSE_TICK_NS", -1)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def keeper(clock: HandClock) -> Iterator[LeaseKeeper]:
    with LeaseKeeper(8.0, clock, has_threads=False) as keeper:
        yield keeper


@pytest.fixture
def shard(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "0007"


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Crawl a site once; what lies there is put into the folders of shards."""
    folder = tmp_path_factory.mktemp("site") / "job"
    crawl_site(folder)
    SITE[:] = [folder]
    return folder


def test_after_anything_else_what_counts_is_copied(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """The copy is a whole job: it verifies, has the same records, and knows where it came from."""
    crawled(keeper, shard).abandon()
    held = claim(keeper, shard)
    epoch = takeover.enter(held)
    assert epoch == Epoch(str(shard / "e0002"), 2, 1)
    assert flaws(epoch.path) == []
    with open_job(str(shard / "e0001")) as old, open_job(epoch.path) as new:
        assert [record.url for record in new.records()] == [record.url for record in old.records()]
        assert [record.content for record in new.records()] == [record.content for record in old.records()]
    assert json.loads((shard / "e0002" / "origin.json").read_text())["from"] == 1
    assert held.epoch == 2
    assert "lock" not in names(epoch.path)


def test_no_file_of_the_copy_is_one_that_the_former_owner_may_write_to(
    keeper: LeaseKeeper, shard: pathlib.Path
) -> None:
    """Only what is never written again is shared: bodies, and parts that others follow."""
    held = claim(keeper, shard)
    epoch = takeover.enter(held)
    with SiteServer(page) as server, SessionPool(threads=2) as pool:
        job = Job(epoch.path, outputs=EVERYTHING, rotate_bytes=2000)
        pool.crawl([server.url(f"/{n}") for n in range(12)], job=job, limits=HostLimits(delay_s=0.0001))
    held.abandon()
    copy = takeover.enter(claim(keeper, shard)).path
    of_old = {os.stat(shard / "e0001" / name).st_ino for name in names(shard / "e0001")}
    shared = [name for name in names(copy) if os.stat(os.path.join(copy, name)).st_ino in of_old]
    *others, first = (name for name in names(copy) if name.startswith("pages"))
    parts = [first, *others]
    assert first == "pages.warc.gz"
    assert len(parts) > 2
    assert [name for name in shared if not name.startswith("bodies/")] == sorted(parts[:-1])
    assert {LEDGER, "results.jsonl", "flight"} & set(shared) == set()
    assert len(shared) == len(parts) - 1 + 12


def test_a_crawl_goes_on_in_the_copy(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Broken off in the middle, taken over, and finished there: each target has one record."""
    held = claim(keeper, shard)
    first = takeover.enter(held).path
    with SiteServer(page) as server:
        seeds = [server.url(f"/{n}") for n in range(40)]
        options: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}
        with SessionPool(threads=2) as pool:
            crawl = pool.new_crawl(lambda result, crawl: crawl.drain(), job=Job(first, outputs=EVERYTHING), **options)
            crawl.run(seeds)
        held.abandon()
        second = takeover.enter(claim(keeper, shard)).path
        with SessionPool(threads=2) as pool:
            report = pool.crawl(seeds, job=Job(second, outputs=EVERYTHING), **options)
    assert (report.ok, report.pending) == (40, 0)
    with open_job(second) as job:
        assert sorted(record.url for record in job.records()) == sorted(seeds)
    assert flaws(second) == []


def test_what_was_not_committed_is_not_copied(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Bytes behind the mark, bodies that no ledger tells of, and half-written files stay where they are."""
    held = crawled(keeper, shard)
    old = shard / "e0001"
    count = len(list((old / "bodies").rglob("*.*")))
    whole = (old / "results.jsonl").read_bytes()
    (old / "results.jsonl").write_bytes(whole + b'{"torn": ')
    (old / "bodies" / "00" / "00" / f"{count + 1:08}.html").write_bytes(b"uncommitted")
    (old / "bodies" / "00" / "00" / f"{1:08}.html.part").write_bytes(b"half")
    (old / "stranger").write_bytes(b"x")
    held.abandon()
    copy = pathlib.Path(takeover.enter(claim(keeper, shard)).path)
    assert (copy / "results.jsonl").read_bytes() == whole
    assert len(list((copy / "bodies").rglob("*.*"))) == count
    assert not (copy / "stranger").exists()


def test_what_a_ledger_has_beside_it_is_copied_with_it(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Commits that lie in the write-ahead log alone, as after a kill, are in the copy."""
    held = crawled(keeper, shard)
    database = sqlite3.connect(shard / "e0001" / LEDGER, isolation_level=None)
    database.execute("PRAGMA wal_autocheckpoint = 0")
    database.execute("INSERT INTO job (key, value) VALUES ('batches', '{\"1\": 17}')")
    assert os.path.getsize(shard / "e0001" / f"{LEDGER}-wal")
    held.abandon()
    copy = pathlib.Path(takeover.enter(claim(keeper, shard)).path)  # its writer lives, and has it open
    database.close()
    told = json.loads((copy / "origin.json").read_text())
    assert (told["batch"], told["batches"]) == (17, {"1": 17})
    assert not (copy / f"{LEDGER}-wal").exists() or not os.path.getsize(copy / f"{LEDGER}-wal")


@pytest.mark.parametrize(("is_shared", "mode"), [(False, "wal"), (True, "delete")])
def test_a_copy_on_a_shared_file_system_has_no_write_ahead_log(
    keeper: LeaseKeeper, shard: pathlib.Path, is_shared: bool, mode: str
) -> None:
    """Its memory would be shared between machines, and can't be. A plain journal is what a ledger has by itself."""
    crawled(keeper, shard).abandon()
    copy = takeover.enter(claim(keeper, shard), is_shared=is_shared).path
    database = sqlite3.connect(os.path.join(copy, LEDGER))
    assert database.execute("PRAGMA journal_mode").fetchone() == (mode,)
    database.close()


def test_a_damaged_ledger_is_told_and_nothing_takes_its_place(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """The shard stays as it is, and held: who claimed it releases it with the reason."""
    crawled(keeper, shard).abandon()
    ledger = shard / "e0001" / LEDGER
    data = bytearray(ledger.read_bytes())
    data[4096 : 4096 * 4] = b"\xff" * 4096 * 3
    ledger.write_bytes(data)
    held = claim(keeper, shard)
    with pytest.raises(JobError, match=r"ledger|damaged"):
        takeover.enter(held)
    assert (held.is_held(), held.epoch) == (True, 1)
    assert sorted(os.listdir(shard)) == ["e0001", layout.tenure_name(2)]


@pytest.mark.parametrize("name", ["results.jsonl", "pages.warc.gz", "bodies/00/00/00000001.html"])
def test_what_a_ledger_tells_of_and_is_not_there_is_told(keeper: LeaseKeeper, shard: pathlib.Path, name: str) -> None:
    """A file that is gone or too short: nobody goes on without what was counted."""
    crawled(keeper, shard).abandon()
    path = shard / "e0001" / name
    if name == "results.jsonl":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    with pytest.raises(JobError, match=r"e0001.*(missing|ends 5 bytes|are there)"):
        takeover.enter(claim(keeper, shard))


def test_records_that_were_written_anew_are_the_ones_that_are_copied(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """A ledger that says that a file has yet to take its name tells of the new one."""
    held = crawled(keeper, shard)
    old = shard / "e0001"
    shutil.copy(old / "results.jsonl", old / "results.jsonl.new")
    whole = (old / "results.jsonl").read_bytes()
    (old / "results.jsonl").write_bytes(b"of before")
    database = sqlite3.connect(old / LEDGER)
    with database:
        database.execute("INSERT INTO job (key, value) VALUES ('moves', '[\"results.jsonl\"]')")
    database.close()
    held.abandon()
    copy = pathlib.Path(takeover.enter(claim(keeper, shard)).path)
    assert (copy / "results.jsonl").read_bytes() == whole


def test_without_links_files_are_copied(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """On a file system that has none, or between two."""
    crawled(keeper, shard).abandon()
    real = os.link

    def link(old: str, new: str) -> None:
        if layout.tenure_of(os.path.basename(new)) is None:
            raise OSError(errno.EXDEV, "another file system")
        real(old, new)

    with instead({"link": link}):
        copy = takeover.enter(claim(keeper, shard)).path
    assert flaws(copy) == []
