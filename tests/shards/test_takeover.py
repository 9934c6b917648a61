"""Taking over: the same folder after a release, a copy of what counts after anything else, and never a half one."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pathlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import HostLimits, Job, JobError, SessionPool, SinkError, open_job
from crawlpool.jobs.verify import verify
from crawlpool.shards import layout, stable, takeover
from crawlpool.shards import tenure as tenures
from crawlpool.shards.held import Held
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.takeover import Epoch
from crawlpool.testing import SiteServer
from tests.disks import Crash, Faults, instead
from tests.jobs.made import EVERYTHING, crawl_site, page
from tests.kit import HandClock

LEDGER = "ledger.sqlite3"


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
    _SITE[:] = [folder]
    return folder


_SITE: list[pathlib.Path] = []


def claim(keeper: LeaseKeeper, shard: pathlib.Path) -> Held:
    held = keeper.claim(str(shard))
    assert isinstance(held, Held)
    return held


def names(folder: str | pathlib.Path) -> list[str]:
    """Return the files in a folder, those of its folders included."""
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, files in os.walk(folder) for name in files)


def flaws(path: str | pathlib.Path) -> list[str]:
    """Return what is wrong with a job."""
    with open_job(str(path)) as job:
        return [str(one) for one in verify(job).flaws]


def crawled(keeper: LeaseKeeper, shard: pathlib.Path) -> Held:
    """Claim a shard, have a site crawled in its first epoch, and keep it held."""
    held = claim(keeper, shard)
    epoch = takeover.enter(held)
    shutil.copytree(_SITE[0], epoch.path, dirs_exist_ok=True)
    return held


def test_the_first_owner_gets_an_empty_folder(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """The first epoch, which came from nowhere; the tenure names it."""
    held = claim(keeper, shard)
    assert takeover.enter(held) == Epoch(str(shard / "e0001"), 1, None)
    assert names(shard / "e0001") == ["origin.json"]
    assert json.loads((shard / "e0001" / "origin.json").read_text()) == {
        "v": 1,
        "from": None,
        "batch": 0,
        "batches": {},
    }
    newest = tenures.newest(str(shard))
    assert newest is not None
    assert (newest.epoch, held.epoch) == (1, 1)


def test_after_a_release_the_same_folder_goes_on(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Nothing is copied; however often."""
    crawled(keeper, shard).release()
    before = os.stat(shard / "e0001" / LEDGER)
    claim(keeper, shard).release()  # not even entered
    for _ in range(3):
        held = claim(keeper, shard)
        assert takeover.enter(held) == Epoch(str(shard / "e0001"), 1, None)
        held.release()
    assert os.stat(shard / "e0001" / LEDGER) == before


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


@pytest.mark.parametrize("is_released", [True, False])
def test_a_folder_that_is_missing_is_told(keeper: LeaseKeeper, shard: pathlib.Path, is_released: bool) -> None:
    """Nobody begins anew where there was something: it would be lost, and nobody would know."""
    held = crawled(keeper, shard)
    assert not is_released or held.release()
    held.abandon()
    shutil.rmtree(shard / "e0001")
    with pytest.raises(JobError, match="e0001: is missing"):
        takeover.enter(claim(keeper, shard))


def test_an_owner_who_came_to_nothing_leaves_nothing(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Killed before there was a folder, before there was a ledger in it, or before that had tables."""
    for number, leaves in enumerate(("nothing", "folder", "empty ledger"), 1):
        held = claim(keeper, shard)
        epoch = takeover.enter(held) if leaves != "nothing" else None
        if leaves == "empty ledger" and epoch is not None:
            pathlib.Path(epoch.path, LEDGER).write_bytes(b"")
        held.abandon()
        assert held.number == number
    epoch = takeover.enter(claim(keeper, shard))
    assert (epoch.number, epoch.origin) == (4, 3)
    crawl_site(pathlib.Path(epoch.path))


def test_who_lost_the_lease_while_copying_changes_nothing(
    keeper: LeaseKeeper, shard: pathlib.Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder nor a tenure says anything of it."""
    crawled(keeper, shard).abandon()
    held = claim(keeper, shard)
    monkeypatch.setattr(takeover.Copier, "sync", lambda self: clock.tick(6))
    with pytest.raises(JobError, match="the lease has ended"):
        takeover.enter(held)
    assert sorted(os.listdir(shard)) == ["e0001", layout.tenure_name(2)]


def test_a_claimer_who_wakes_up_takes_nothing_from_a_later_one(
    keeper: LeaseKeeper, shard: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped right before its copy gets its name: the later one has another, and all of it stays."""
    crawled(keeper, shard).abandon()
    stopped = claim(keeper, shard)
    real, taken = takeover.disk.rename, []

    def rename(old: str, new: str) -> None:
        if not taken and "e0002" in new:
            taken.append(True)
            stopped.abandon()
            taken[0] = takeover.enter(claim(keeper, shard))
        real(old, new)

    with instead({"rename": rename}), pytest.raises(SinkError, match="No such file"):
        takeover.enter(stopped)
    assert taken == [Epoch(str(shard / "e0003"), 3, 1)]
    newest = tenures.newest(str(shard))
    assert newest is not None
    assert newest.epoch == 3
    takeover.clear(stopped)
    assert sorted(os.listdir(shard)) == ["e0001", "e0003", layout.tenure_name(3)]
    held = keeper.held()[0]
    takeover.clear(held)
    assert sorted(os.listdir(shard)) == ["e0003", layout.tenure_name(3)]


def test_a_claimer_who_wakes_up_removes_nothing_that_is_in_use(
    keeper: LeaseKeeper, shard: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped right before it clears up: the folder that a later one has made is newer than all that it knows of."""
    crawled(keeper, shard).abandon()
    stopped = claim(keeper, shard)
    real, made = takeover.epochs_there, []

    def there(folder: str) -> list[int]:
        found = real(folder)
        monkeypatch.setattr(takeover, "epochs_there", real)
        stopped.abandon()
        epoch = takeover.enter(claim(keeper, shard))
        made.append((epoch, names(epoch.path)))
        return found

    monkeypatch.setattr(takeover, "epochs_there", there)
    with pytest.raises(JobError, match="the lease has ended"):
        takeover.enter(stopped)
    assert [(Epoch(str(shard / "e0003"), 3, 1), names(shard / "e0003"))] == made


def test_former_folders_go_one_takeover_later(keeper: LeaseKeeper, shard: pathlib.Path) -> None:
    """Who reads a job may be in the one that was copied; the one before that is gone, and so is what was half made."""
    crawled(keeper, shard).abandon()
    for _ in range(3):
        held = claim(keeper, shard)
        (shard / f".e-{held.number - 1}-left").mkdir()
        takeover.enter(held)
        held.abandon()
    assert sorted(os.listdir(shard)) == ["e0003", "e0004", layout.tenure_name(4)]
    held = claim(keeper, shard)
    takeover.enter(held)
    held.release()
    held = claim(keeper, shard)
    takeover.enter(held)
    assert sorted(os.listdir(shard)) == ["e0005", layout.tenure_name(6)]


def test_a_damaged_tenure_is_taken_over_from_the_highest_folder(
    keeper: LeaseKeeper, shard: pathlib.Path, clock: HandClock
) -> None:
    """Who made that one had copied it whole, whether a tenure named it or not."""
    crawled(keeper, shard).abandon()
    takeover.enter(claim(keeper, shard))
    keeper.held()[0].abandon()
    (shard / layout.tenure_name(2)).write_bytes(b"torn")
    keeper.claim(str(shard))
    clock.tick(8)
    assert takeover.enter(claim(keeper, shard)) == Epoch(str(shard / "e0003"), 3, 2)


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


def test_a_crash_at_any_step_of_a_takeover_loses_nothing(
    keeper: LeaseKeeper, shard: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Whoever claims the shard next has all that was committed, whatever was done by then."""
    crawled(keeper, shard).abandon()
    whole = (shard / "e0001" / "results.jsonl").read_bytes()
    for at in itertools.count(1):
        folder = tmp_path / f"crash{at}"
        shutil.copytree(shard, folder)
        held = claim(keeper, folder)
        faults = Faults(at)
        try:
            with faults.installed():
                takeover.enter(held)
        except Crash:
            held.abandon()
        else:
            break
        epoch = takeover.enter(claim(keeper, folder))
        assert pathlib.Path(epoch.path, "results.jsonl").read_bytes() == whole
        assert epoch.number == 3
        assert sorted(names(epoch.path)) == sorted({*names(shard / "e0001"), "origin.json"} - {"lock"})
        shutil.rmtree(folder)
    assert at > 30


@pytest.mark.parametrize("call", ["make_folder", "write", "sync_file", "sync_folder", "rename"])
def test_a_full_disk_is_told_and_the_shard_can_be_released(keeper: LeaseKeeper, shard: pathlib.Path, call: str) -> None:
    """As a SinkError; what was half made goes at once."""
    crawled(keeper, shard).abandon()
    held = claim(keeper, shard)

    def fails(*args: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with instead({call: fails}), pytest.raises(SinkError, match="No space left"):
        takeover.enter(held)
    assert held.release(reason="the disk is full")
    assert sorted(os.listdir(shard)) == ["e0001", layout.tenure_name(2)]
    again = claim(keeper, shard)
    assert again.release()  # and nothing was done
    # The former owner may still write to its folder, whoever has released it since.
    assert takeover.enter(claim(keeper, shard)) == Epoch(str(shard / "e0004"), 4, 1)
