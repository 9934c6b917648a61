"""The keeper of leases: who gets a shard, how long he has it, and when the fence closes."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool import CrawlPoolError, JobError, SinkError
from crawlpool.shards import tenure as tenures
from crawlpool.shards.held import Busy, Held
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.layout import tenure_name
from crawlpool.shards.owner import Owner
from tests.disks import instead
from tests.gates import Threads, until
from tests.kit import HandClock

LEASE_S = 8.0  # a holder's end comes after 6, another's beginning after 8 that it has watched


class Machine:
    """A keeper of another machine, by a clock of its own, and driven by hand."""

    def __init__(self, name: str, now_s: float = 1000.0) -> None:
        self.clock = HandClock(now_s)
        owner = Owner(name, f"boot of {name}", 1, 42, 77, name)
        self.keeper = LeaseKeeper(LEASE_S, self.clock, has_threads=False, owner=owner)
        self.ended = 0
        self.fence = self.keeper.fence()
        self.fence.at_end(self.end)

    def end(self) -> None:
        self.ended += 1

    def claim(self, shard: str) -> Held:
        got = self.keeper.claim(shard)
        assert isinstance(got, Held), got
        return got

    def is_busy(self, shard: str) -> Busy:
        got = self.keeper.claim(shard)
        assert isinstance(got, Busy), got
        return got


class Machines(dict[str, Machine]):
    """Machines by name, made when they are first asked for."""

    def __missing__(self, name: str) -> Machine:
        self[name] = Machine(name, 1000.0 * (len(self) + 1))
        return self[name]

    def tick(self, seconds: float) -> None:
        """Let time go by for all of them."""
        for machine in self.values():
            machine.clock.tick(seconds)


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Give machines, and close their keepers."""
    machines = Machines()
    yield machines
    for machine in machines.values():
        machine.keeper.close()


@pytest.fixture
def shard(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "0007")


def test_a_shard_that_nobody_had_is_claimed_at_once(machines: Machines, shard: str) -> None:
    """Its folder is made where there is none; the tenure is the first, and names no epoch yet."""
    held = machines["a"].claim(shard)
    assert (held.number, held.epoch, held.former) == (1, 0, None)
    assert (held.is_former_released, held.is_former_damaged) == (False, False)
    assert held.ends_at == 1000.0 + 6.0
    assert repr(held) == "<Held tenure 1 epoch 0, 6.0 s left>"
    assert machines["a"].keeper.held() == [held]


def test_a_held_shard_is_nobody_elses(machines: Machines, shard: str) -> None:
    """Others are told who has it, and when it would be free; the holder itself can't claim it twice."""
    machines["a"].claim(shard)
    assert machines["b"].is_busy(shard) == Busy(1, "process 42 on a", 8.0)
    assert machines["a"].is_busy(shard).number == 1
    machines.tick(3)
    assert machines["b"].is_busy(shard).free_in_s == 5.0


def test_a_refreshed_lease_goes_on(machines: Machines, shard: str) -> None:
    """Its end is counted from before the refresh; an observer begins to watch anew with each."""
    held = machines["a"].claim(shard)
    for _ in range(10):
        machines.tick(4)
        machines["a"].keeper.refresh_all()
        assert held.ends_at == machines["a"].clock.now_s + 6.0
        assert machines["b"].is_busy(shard).free_in_s == 8.0
    assert held.is_held()
    assert machines["a"].ended == 0


def test_a_silent_owner_loses_the_shard_and_knows_before_others_begin(machines: Machines, shard: str) -> None:
    """The fence closes a margin before anybody else can claim it, and what is under way is told of, once."""
    a, b = machines["a"], machines["b"]
    held = a.claim(shard)
    b.is_busy(shard)
    machines.tick(5.99)
    a.keeper.look()
    assert (held.is_held(), a.fence.may_send(), a.ended) == (True, True, 0)
    machines.tick(0.01)
    a.keeper.look()
    a.keeper.look()
    assert (held.is_held(), a.fence.may_send(), a.ended) == (False, False, 1)
    machines.tick(1.99)
    b.is_busy(shard)
    machines.tick(0.01)
    assert b.claim(shard).number == 2


def test_a_lease_that_has_ended_does_not_come_back(machines: Machines, shard: str) -> None:
    """Who wakes up late can't refresh it any more, release it, or say what is in use; its file isn't touched."""
    a = machines["a"]
    held = a.claim(shard)
    machines.tick(6)
    before = tenures.content_of(shard, 1)
    a.keeper.refresh_all()
    with pytest.raises(JobError, match="the lease has ended"):
        held.use(3)
    with pytest.raises(JobError, match="the lease has ended"):
        held.check()
    assert not held.release(pending=0)
    assert tenures.content_of(shard, 1) == before
    assert a.fence.may_send()  # it was given up: nothing is held any more
    assert a.keeper.held() == []


def test_a_refresh_that_takes_too_long_is_none(machines: Machines, shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in time and acknowledged too late, it doesn't move the end: another may have begun by then."""
    a, real = machines["a"], tenures.rewrite
    held = a.claim(shard)
    ends_at = held.ends_at

    def slowly(fd: int, tenure: tenures.Tenure) -> None:
        real(fd, tenure)
        machines.tick(7)

    monkeypatch.setattr(tenures, "rewrite", slowly)
    a.keeper.refresh_all()
    assert (held.ends_at, held.is_held()) == (ends_at, False)


def test_the_end_counts_from_before_the_refresh(
    machines: Machines, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to be acknowledged, others may have seen it at once."""
    a, real = machines["a"], tenures.rewrite
    held = a.claim(shard)

    def slowly(fd: int, tenure: tenures.Tenure) -> None:
        real(fd, tenure)
        machines.tick(2)

    monkeypatch.setattr(tenures, "rewrite", slowly)
    machines.tick(3)
    a.keeper.refresh_all()
    assert held.ends_at == 1003.0 + 6.0


def test_a_refresh_that_fails_is_tried_again(machines: Machines, shard: str) -> None:
    """A full disk ends no lease before its time; the next refresh that can be written moves it on."""
    a = machines["a"]
    held = a.claim(shard)

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    machines.tick(4)
    with instead({"write": full}):
        a.keeper.refresh_all()
        with pytest.raises(SinkError, match="0007: No space left"):
            held.use(5)
    assert (held.ends_at, held.epoch) == (1006.0, 0)
    a.keeper.refresh_all()
    assert held.ends_at == 1010.0


def test_a_later_tenure_ends_the_lease_at_once(machines: Machines, shard: str) -> None:
    """Should another ever have taken it for dead wrongly, its holder stops with its next refresh."""
    a = machines["a"]
    held = a.claim(shard)
    tenures.make(shard, tenures.Tenure(2, machines["b"].keeper.owner))
    a.keeper.refresh_all()
    assert not held.is_held()
    assert not a.fence.may_send()
    a.keeper.look()
    assert a.ended == 1


def test_a_released_shard_is_free_at_once(machines: Machines, shard: str) -> None:
    """The next owner learns what the former one left; the former tenure's file goes."""
    held = machines["a"].claim(shard)
    held.use(1)
    assert held.release(pending=3, is_input_done=True, report={"ok": 9}, reason="drained")
    left = tenures.newest(shard)
    assert left is not None
    assert (left.pending, left.is_input_done, left.report, left.reason) == (3, True, {"ok": 9}, "drained")
    assert machines["a"].fence.may_send()
    taken = machines["b"].claim(shard)
    assert (taken.number, taken.epoch, taken.is_former_released, taken.former) == (2, 1, True, left)
    assert os.listdir(shard) == [tenure_name(2)]


def test_a_shard_that_was_abandoned_here_is_free_here(machines: Machines, shard: str) -> None:
    """The same keeper needn't wait for itself; others do. Its folder isn't gone on with all the same."""
    held = machines["a"].claim(shard)
    held.use(1)
    held.abandon()
    held.abandon()
    assert not held.is_held()
    machines["b"].is_busy(shard)
    again = machines["a"].claim(shard)
    assert (again.number, again.epoch, again.is_former_released) == (2, 1, False)


def test_a_dead_process_leaves_its_shard_at_once(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that can be known, nobody waits for its lease."""
    clock = HandClock()
    here = Owner.here()
    dead = LeaseKeeper(LEASE_S, clock, has_threads=False, owner=dataclasses.replace(here, started=here.started - 1))
    with dead, LeaseKeeper(LEASE_S, clock, has_threads=False) as keeper:
        assert isinstance(dead.claim(shard), Held)
        got = keeper.claim(shard)
        assert isinstance(got, Held) == here.is_of_this_place


def test_a_damaged_tenure_ends_when_it_stays_so(machines: Machines, shard: str) -> None:
    """Whose it was nobody knows; it is waited for like any other."""
    os.mkdir(shard)
    pathlib.Path(shard, tenure_name(4)).write_bytes(b"")
    assert machines["a"].is_busy(shard).owner == "an owner whose file is damaged"
    machines.tick(8)
    held = machines["a"].claim(shard)
    assert (held.number, held.former, held.is_former_damaged) == (5, None, True)


def test_one_lost_lease_closes_the_fence_for_all(machines: Machines, shard: str, tmp_path: pathlib.Path) -> None:
    """A pool's requests aren't told apart by shards; the fence opens again when the lost one is abandoned."""
    a = machines["a"]
    lost = a.claim(shard)
    machines.tick(3)
    kept = a.claim(str(tmp_path / "0008"))
    assert a.fence.ends_at == lost.ends_at < kept.ends_at
    machines.tick(3)
    assert (lost.is_held(), kept.is_held(), a.fence.may_send()) == (False, True, False)
    lost.abandon()
    assert a.fence.ends_at == kept.ends_at
    kept.release()
    assert a.fence.ends_at == float("inf")


def test_of_many_claimers_one_gets_the_shard(shard: str) -> None:
    """Also those who come at once: the others are told that it is busy."""
    barrier = threading.Barrier(6)
    many = [LeaseKeeper(LEASE_S, HandClock(), has_threads=False) for _ in range(6)]
    waiting, got = list(many), []

    def claim() -> None:
        keeper = waiting.pop()
        barrier.wait()
        got.append(keeper.claim(shard))

    with Threads() as threads:
        threads.start(claim, 6)
    assert sorted(isinstance(one, Held) for one in got) == [False] * 5 + [True]
    for keeper in many:
        keeper.close()


def test_a_claimer_that_was_stopped_takes_no_name_that_is_free_again(
    machines: Machines, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it slept two others had the shard, and removed the very name that it makes: it owns nothing."""
    machines["a"].claim(shard).release()
    real = tenures.make

    def stopped(folder: str, tenure: tenures.Tenure) -> bool:
        monkeypatch.setattr(tenures, "make", real)
        machines["b"].claim(folder).release()
        machines["c"].claim(folder)
        assert os.listdir(folder) == [tenure_name(3)]
        return real(folder, tenure)

    monkeypatch.setattr(tenures, "make", stopped)
    machines["d"].is_busy(shard)
    newest = tenures.newest(shard)
    assert newest is not None
    assert (newest.number, newest.owner.token) == (3, "c")


def test_a_claim_that_took_too_long_is_none(machines: Machines, shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder finds it ended, and the fence closed, from the first moment on."""
    real = tenures.make

    def slowly(folder: str, tenure: tenures.Tenure) -> bool:
        machines.tick(6)
        return real(folder, tenure)

    monkeypatch.setattr(tenures, "make", slowly)
    held = machines["a"].claim(shard)
    assert (held.is_held(), machines["a"].fence.may_send()) == (False, False)


def test_a_tenure_that_goes_while_it_is_looked_at_is_busy(
    machines: Machines, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has just come; who asks again finds him."""
    machines["a"].claim(shard)
    monkeypatch.setattr(tenures, "content_of", lambda folder, number: None)
    assert machines["b"].is_busy(shard).free_in_s == 0.0


def test_a_forked_child_has_no_part_in_its_parents_leases(machines: Machines, shard: str) -> None:
    """It neither refreshes nor releases nor claims by its parent's name; the lease itself goes by time."""
    held = machines["a"].claim(shard)
    before = tenures.content_of(shard, 1)
    machines["a"].keeper._pid = -1
    with pytest.raises(CrawlPoolError, match="forked child"):
        machines["a"].keeper.claim(shard)
    with pytest.raises(CrawlPoolError, match="forked child"):
        held.release()
    assert tenures.content_of(shard, 1) == before


# With threads ----------------------------------------------------------------------------------------------------


def test_a_keeper_refreshes_by_itself(shard: str) -> None:
    """From the first claim on, by a thread that ends with it; the file's counter goes up."""
    with LeaseKeeper(0.3) as keeper:
        held = keeper.claim(shard)
        assert isinstance(held, Held)
        until(lambda: (tenures.newest(shard) or tenures.Tenure(1, keeper.owner)).counter >= 3)
        assert held.is_held()
        names = {thread.name for thread in threading.enumerate()}
        assert {"crawlpool-leases", "crawlpool-lease-ends"} <= names
    assert not held.is_held()


def test_a_file_system_that_hangs_does_not_delay_the_end(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that tells of ends does no I/O: it is in time while the one that refreshes waits for ever."""
    hangs, told = threading.Event(), threading.Event()

    class Pool:
        def end(self) -> None:
            told.set()

    pool = Pool()

    def hang(fd: int, tenure: tenures.Tenure) -> None:
        assert hangs.wait(40)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(tenures, "rewrite", hang)
    keeper = LeaseKeeper(0.4)
    keeper.fence().at_end(pool.end)
    held = keeper.claim(shard)
    assert isinstance(held, Held)
    assert told.wait(40)
    assert not keeper.fence().may_send()
    held.abandon()  # doesn't wait for it either
    assert keeper.fence().may_send()
    hangs.set()
    keeper.close()


def test_a_keeper_that_is_closed_may_be_closed_again(shard: str) -> None:
    """It lets go of what it holds, without a word: another waits for the lease."""
    keeper = LeaseKeeper(0.3)
    assert isinstance(keeper.claim(shard), Held)
    keeper.close()
    keeper.close()
    newest = tenures.newest(shard)
    assert newest is not None
    assert not newest.is_released
