"""Taking over: the same folder after a release, another after anything else, and never a half one."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import JobError, SinkError
from crawlpool.shards import layout, stable, takeover
from crawlpool.shards import tenure as tenures
from crawlpool.shards.held import Held
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.takeover import Epoch
from tests.disks import Crash, Faults, instead
from tests.jobs.made import crawl_site
from tests.kit import HandClock
from tests.shards.taken import LEDGER, SITE, claim, crawled, names


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
    assert sorted(os.listdir(shard)) == ["e0001", "e0003", layout.tenure_name(3)]


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


@pytest.mark.parametrize("ends", ["taken over", "released and taken over"])
@pytest.mark.parametrize("begins", ["copies", "goes on"])
def test_what_is_removed_late_is_nobodys(
    keeper: LeaseKeeper, shard: pathlib.Path, monkeypatch: pytest.MonkeyPatch, begins: str, ends: str
) -> None:
    """A claimer that is stopped before it clears up, and wakes after others had the shard, harms none of their folders.

    Whether it was to copy the folder before, or to go on in it; and whatever the later ones did with theirs.
    """
    crawled(keeper, shard).abandon()
    former = claim(keeper, shard)
    takeover.enter(former)  # e0002; e0001 is to be removed by the next one
    assert begins == "copies" or former.release()
    former.abandon()
    stopped = claim(keeper, shard)
    real = takeover._clear
    later: list[Any] = []

    def clear(held: Held, in_use: int) -> None:
        monkeypatch.setattr(takeover, "_clear", real)
        stopped.abandon()
        later.append(takeover.enter(claim(keeper, shard)))
        for end in ends.split(" and "):
            now = keeper.held()[0]
            assert end == "taken over" or now.release()
            now.abandon()
            later.append(takeover.enter(claim(keeper, shard)))
        later.append(names(later[-1].path))
        real(held, in_use)

    monkeypatch.setattr(takeover, "_clear", clear)
    with pytest.raises(JobError, match="the lease has ended"):
        takeover.enter(stopped)
    *epochs, there = later
    newest = tenures.newest(str(shard))
    assert newest is not None
    assert newest.epoch == epochs[-1].number
    assert names(epochs[-1].path) == there
    assert LEDGER in there
    assert "e0001" not in os.listdir(shard)
    copied = epochs[-1].origin
    assert copied is None or os.path.exists(shard / layout.epoch_name(copied) / LEDGER)


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


def test_a_crash_at_any_step_of_a_takeover_loses_nothing(
    keeper: LeaseKeeper, shard: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Whoever claims the shard next has all that was committed, whatever was done by then."""
    crawled(keeper, shard).abandon()
    whole = (shard / "e0001" / "results.jsonl").read_bytes()
    shutil.copytree(shard, tmp_path / "counted")
    counted = Faults()
    held = claim(keeper, tmp_path / "counted")
    with counted.installed():
        takeover.enter(held)
    # Of links, which are many and alike, the first and the second.
    calls = list(enumerate(counted.calls, 1))
    places = [at for at, call in calls if call != "link" or counted.calls[max(at - 3, 0) : at] != ["link"] * 3]
    assert len(places) > 30
    for at in places:
        folder = tmp_path / f"crash{at}"
        shutil.copytree(shard, folder)
        held = claim(keeper, folder)
        with Faults(at).installed(), pytest.raises(Crash):
            takeover.enter(held)
        held.abandon()
        epoch = takeover.enter(claim(keeper, folder))
        assert pathlib.Path(epoch.path, "results.jsonl").read_bytes() == whole
        assert epoch.number == 3
        assert sorted(names(epoch.path)) == sorted({*names(shard / "e0001"), "origin.json"} - {"lock"})
        shutil.rmtree(folder)


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
