"""Turns at an address that hosts share: fair, of a cost that doesn't grow with its hosts, and in nobody's way."""

from __future__ import annotations

import pytest

from crawlpool.errors import ErrorKind
from crawlpool.leg import Leg
from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, BROKEN, UNSENT, Came, Order, Told, Whereabouts
from crawlpool.schedule import Schedule
from crawlpool.turns import Turns
from tests.gates import ListRun

DELAYED, TWO = HostLimits(delay_s=1.0, per_ip=True), HostLimits(concurrency=2, per_ip=True)


def posed(limits: HostLimits, *hosts: str, legs: int = 1, address: str = "10.0.0.1") -> Schedule:
    """Return a schedule with legs for hosts that were found to share an address."""
    schedule, run = Schedule(), ListRun(limits=limits)
    for number in range(legs):
        for host in hosts:
            schedule.put(run.leg(f"http://{host}/{number}"), 0.0)
    for host in hosts:
        schedule.locate(host, (address,), 0.0)
    schedule.hosts.sought.clear()
    return schedule


def end(schedule: Schedule, legs: list[Leg], now: float, came: Came = ANSWERED) -> None:
    """End legs."""
    for leg in legs:
        leg.came = came
    schedule.ended(legs, now)


def test_hosts_of_an_address_have_their_turns_one_after_the_other() -> None:
    """Each has had its first leg before any has its second, and the delay lies between any two."""
    schedule = posed(DELAYED, "a", "b", "c", legs=2)
    seen, now = [], 0.0
    for left in range(5, -1, -1):
        (leg,) = schedule.take(5, now)
        assert schedule.take(5, now) == []
        end(schedule, [leg], now + 0.5)
        assert schedule.promote(now + 0.5) == (now + 1.5 if left else None)
        assert schedule.promote(now + 1.5) is None
        seen.append(leg.host)
        now += 1.5
    assert seen == ["a", "b", "c", "a", "b", "c"]


def test_a_line_waits_for_its_address_and_no_other_does() -> None:
    """What isn't found yet is asked for nothing; what is goes on; a name that leads nowhere goes ahead."""
    schedule, run = Schedule(), ListRun(limits=TWO)
    for host in ("slow", "known", "nowhere"):
        schedule.put(run.leg(f"http://{host}/"), 0.0)
    assert [leg.host for leg in schedule.hosts.sought] == ["slow", "known", "nowhere"]
    assert schedule.take(5, 0.0) == []
    schedule.locate("known", ("10.0.0.1",), 0.0)
    schedule.locate("nowhere", (), 0.0)
    taken = schedule.take(5, 0.0)
    assert [(leg.host, leg.address is None) for leg in taken] == [("known", False), ("nowhere", True)]
    schedule.locate("slow", ("10.0.0.1",), 9.0)
    assert [leg.host for leg in schedule.take(5, 9.0)] == ["slow"]


def test_a_host_that_was_lost_is_sought_again_after_each_request() -> None:
    """Its address may be found later; from then on it counts."""
    schedule = posed(TWO, "a", legs=3)
    host = schedule.hosts.of("b", 0.0)
    assert host.whereabouts is Whereabouts.UNKNOWN
    run = ListRun(limits=TWO)
    for number in range(3):
        schedule.put(run.leg(f"http://b/{number}"), 0.0)
    schedule.locate("b", (), 0.0)
    schedule.hosts.sought.clear()
    lost = [leg for leg in schedule.take(9, 0.0) if leg.host == "b"]
    assert len(lost) == 2
    end(schedule, lost, 1.0, Came.unreachable(ErrorKind.DNS))
    assert [leg.host for leg in schedule.hosts.sought] == ["b"]
    assert schedule.take(9, 1.0) == []  # it waits for the answer, and the address of the other is full
    schedule.locate("b", ("10.0.0.1",), 2.0)
    assert schedule.take(9, 2.0) == []  # two of the other's run there
    assert host.address is not None and host.address.running == 2


def test_who_did_not_ask_for_it_is_not_held_but_counts() -> None:
    """An address doesn't care who asks it."""
    schedule, free = posed(TWO, "a", legs=3), ListRun(limits=HostLimits(concurrency=9))
    for number in range(4):
        schedule.put(free.leg(f"http://a/free{number}"), 0.0)
    taken = schedule.take(9, 0.0)
    assert sum(leg.run is free for leg in taken) == 4
    assert len(taken) <= 4 + 2
    end(schedule, taken, 1.0)
    assert schedule.take(9, 1.0)


def test_a_host_in_trouble_gives_its_turn_to_the_next() -> None:
    """A line that was let in and can't go, as its host refuses by then, holds nobody up; nor does an emptied one."""
    schedule = posed(HostLimits(concurrency=1, per_ip=True), "a", "b", "c")
    host = schedule.hosts.of("a", 0.0)
    host.cooled_until = 50.0
    assert [leg.host for leg in schedule.take(1, 0.0)] == ["b"]
    run = next(iter(schedule)).run
    assert len(schedule.take_back(run, 0.0)) == 2
    other = ListRun(limits=HostLimits(concurrency=1, per_ip=True))
    schedule.put(other.leg("http://c/again"), 0.0)
    assert schedule.take(1, 0.0) == []
    assert list(schedule._lines) != []


def test_a_line_that_was_let_in_takes_no_more_than_there_is_room_for() -> None:
    """Though its host could have more; and nothing, where a caller's own thread was faster."""
    schedule = posed(TWO, "a", "b", legs=3)
    (first,) = schedule.take(1, 0.0)
    taken = schedule.take(9, 0.0)
    assert [leg.host for leg in (first, *taken)] == ["a", "b"]
    end(schedule, [first, *taken], 1.0)
    address = schedule.hosts.of("a", 1.0).address
    assert address is not None
    address.start()
    address.start()
    assert schedule.take(9, 1.0) == []
    address.end(ANSWERED, 2.0)
    schedule.look_at(schedule.hosts.of("a", 2.0), 2.0)
    assert len(schedule.take(9, 2.0)) == 1


def test_what_ends_unsent_waits_for_no_turn() -> None:
    """A host that was given up ends what waits for it at once, however busy its address is."""
    limits = HostLimits(concurrency=1, connect_failures=1, per_ip=True)
    schedule = posed(limits, "a", "gone", legs=3)
    (busy,) = schedule.take(1, 0.0)
    assert busy.host == "a"
    gone = schedule.hosts.of("gone", 0.0)
    gone.start()
    for _ in range(5):
        gone.running = 1
        gone._is_probing = True
        gone.end(Came.unreachable(ErrorKind.CONNECT), limits, 0.0)
    assert gone.is_given_up(0.0)
    schedule.look_at(gone, 0.0)
    ended = schedule.take(9, 0.0)
    assert [(leg.host, leg.verdict is not None) for leg in ended] == [("gone", True)] * 3
    assert busy.address is not None and busy.address.running == 1


@pytest.mark.parametrize("limits", [TWO, HostLimits(delay_s=0.5, per_ip=True)])
def test_a_leg_costs_the_same_however_many_hosts_share_its_address(
    limits: HostLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many looks at lines for each leg, at three hosts and at three thousand."""
    looks = [0]
    look_at = Turns.look_at

    def counted(self: Turns, line: object, now: float) -> None:
        looks[0] += 1
        look_at(self, line, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Turns, "look_at", counted)
    costs = []
    for count in (3, 3000):
        schedule = posed(limits, *(f"h{number}" for number in range(count)))
        looks[0], now, taken = 0, 0.0, 0
        while legs := schedule.take(64, now):
            now += 1.0
            end(schedule, legs, now, BROKEN)
            now += 1.0
            schedule.promote(now)
            taken += len(legs)
        assert taken == count
        costs.append(looks[0] / count)
    assert max(costs) < 4


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_line_that_is_forgotten_takes_no_other_with_it(is_shared: bool) -> None:
    """What is left of its rest, or of its place at an address, is not taken for that of the line after it."""
    limits = DELAYED if is_shared else HostLimits(delay_s=1.0)
    schedule, run = Schedule(), ListRun(limits=limits)
    first, gone, later = (run.leg(f"http://a/{number}") for number in range(3))
    other = ListRun(limits=limits)
    other.group = run.group
    later.run = other
    schedule.put(first, 0.0)
    if is_shared:
        schedule.locate("a", ("10.0.0.1",), 0.0)
    assert schedule.take(5, 0.0) == [first]
    schedule.put(gone, 0.0)
    end(schedule, [first], 0.0)
    assert schedule.take_back(run, 0.0) == [gone]
    schedule.put(later, 0.0)
    schedule.promote(1.0)
    assert list(schedule) == [later]
    assert schedule.take(5, 1.0) == [later]
    end(schedule, [later], 1.0)
    assert not schedule._lines


def test_an_address_looks_at_whoever_may_go_first() -> None:
    """Where its hosts have several delays the shortest decides when it looks again."""
    schedule = posed(DELAYED, "x", "y")
    slow = ListRun(limits=HostLimits(delay_s=3600.0, per_ip=True))
    schedule.put(slow.leg("http://z/"), 0.0)
    schedule.locate("z", ("10.0.0.1",), 0.0)
    legs = schedule.take(5, 0.0)
    assert [leg.host for leg in legs] == ["x"]
    end(schedule, legs, 0.0)
    assert schedule.promote(0.0) == 1.0
    schedule.promote(1.0)
    assert [leg.host for leg in schedule.take(5, 1.0)] == ["y"]


def test_a_leg_that_was_given_back_and_ends_unsent_frees_no_address() -> None:
    """It counts for the address only as often as it was sent."""
    schedule = posed(DELAYED, "a", "b")
    (leg,) = schedule.take(1, 0.0)
    address = leg.address
    assert address is not None
    end(schedule, [leg], 0.0, UNSENT)
    schedule.put(leg, 0.0)
    leg.run.group.told = {"a": Told(Order.SKIP)}
    schedule.renew(leg.run.group, "a", 0.0)
    (again,) = [one for one in schedule.take(5, 0.0) if one is leg]
    assert again.verdict is not None
    end(schedule, [leg], 0.0, UNSENT)
    assert address.running == len([one for one in schedule.hosts if one.running]) <= 1
