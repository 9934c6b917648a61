"""A job after a loss of power, in short: ``tox -e torture`` is the long one."""

from __future__ import annotations

import itertools
import pathlib
import random

import pytest

from tests.torture.nursery import Nursery
from tests.torture.powercuts import recordings, replay
from tests.torture.powerloss import SECTOR, Disk, Event, events_of
from tests.torture.site import CountingServer
from tests.torture.syscalls import Yard
from tests.torture.tracer import why_not

RECORDINGS, REPLAYS = 2, 30


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.timeout(180)
def test_a_loss_of_power_takes_nothing_that_was_acknowledged(tmp_path: pathlib.Path) -> None:
    """Whatever of the unsynced writes is lost or torn, after any call: what was acknowledged is there, exactly once."""
    chance = random.Random(3)
    with CountingServer() as server, Nursery() as nursery:
        made = itertools.islice(recordings(Yard(nursery, server), tmp_path, 20, chance), RECORDINGS)
        wrong = [one for recording in made for one in replay(recording, chance, REPLAYS, tmp_path)]
    assert not wrong, "\n".join(wrong)


def test_a_trace_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    """Calls that others came between are put together; those that failed or are about other files are left out."""
    path = str(tmp_path / "a").encode().hex("_").replace("_", "\\x")
    trace = (
        f'7 openat(AT_FDCWD, "\\x{path}", O_RDWR|O_CREAT, 0600) = 3</x>\n'
        f'7 write(3<\\x{path}>, "\\x61\\x62", 2 <unfinished ...>\n'
        f"8 fdatasync(4</elsewhere>) = 0\n"
        f"7 <... write resumed>) = 1\n"
        f'7 pwrite64(3<\\x{path}>, "\\x63", 1, 7) = -1 ENOSPC (No space left on device)\n'
    )
    name = str(tmp_path / "a")
    assert list(events_of(trace, tmp_path)) == [Event("make", name), Event("write", name, b"a")]


def test_what_is_synced_stays_and_the_rest_may_go(tmp_path: pathlib.Path) -> None:
    """Of unsynced sectors any may be lost; a name is only there for sure when its folder was synced."""
    root, name = tmp_path / "root", str(tmp_path / "root" / "a")
    root.mkdir()
    disk = Disk(root)
    unsynced = Event("write", name, b"b" * 2 * SECTOR)
    for event in (Event("make", name), Event("write", name, b"a" * SECTOR), Event("sync", name), unsynced):
        disk.see(event)
    left = [_left(disk, tmp_path / f"first-{seed}", seed) for seed in range(60)]
    assert None in left, "its name was never synced"
    disk.see(Event("sync", str(root)))
    left = [_left(disk, tmp_path / f"then-{seed}", seed) for seed in range(60)]
    assert all(one is not None and one.startswith(b"a" * SECTOR) for one in left)
    hole, whole = bytes(SECTOR), b"b" * SECTOR
    assert {one[SECTOR:] for one in left if one} == {b"", whole, whole * 2, hole + whole}


def _left(disk: Disk, into: pathlib.Path, seed: int) -> bytes | None:
    disk.lose(into, random.Random(seed))
    return (into / "a").read_bytes() if (into / "a").exists() else None
