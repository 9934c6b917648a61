"""An operator's hand on single hosts: what they say is heeded at once, and nothing of it costs others anything."""

from __future__ import annotations

import threading

import pytest

from crawlpool.control import Control
from crawlpool.errors import ConfigError, ErrorKind
from crawlpool.frontier import Frontier, Offered
from crawlpool.leg import Group, Leg
from crawlpool.limits import HostLimits
from crawlpool.lines import PLACES
from crawlpool.politeness import ANSWERED, BLOCKED, Came, Order, Told, on_hold
from crawlpool.politeness.blocks import BLOCKS
from tests.gates import ListRun, Threads, until
from tests.kit import HandClock

ONE = HostLimits(concurrency=1)
FREE = HostLimits(delay_s=0.5, loopback_exempt=True)
#: A host that is exempt from these limits, and one that isn't.
EXEMPT, OTHER = "127.0.0.1", "h"


class Steered:
    """A frontier with one run, a clock ticked by hand, and an operator."""

    def __init__(self, limits: HostLimits | None = ONE, **options: float) -> None:
        self.clock = HandClock()
        self.frontier = Frontier(self.clock)
        self.run = ListRun(limits=limits, **options)
        self.run.group = Group(8, limits, most=32, holds_blocked=True)
        self.control: Control = self.frontier.control_of(self.run.group)

    def put(self, host: str, count: int, **how: float) -> list[Leg]:
        """Queue legs of a host."""
        legs = [self.run.leg(f"http://{host}/{number}", **how) for number in range(count)]  # type: ignore[arg-type]
        for leg in legs:
            assert self.frontier.put(leg, block=False)
        return legs

    def take(self, n: int = 100) -> list[Leg]:
        """Return what can be taken now, without waiting."""
        return self.frontier.take(n, lambda: True) or []

    def end(self, legs: list[Leg], came: Came = ANSWERED) -> None:
        """End legs."""
        for leg in legs:
            leg.came = came
        self.frontier.settle([(leg, None) for leg in legs])


def reasons(legs: list[Leg]) -> list[str | None]:
    """Return why legs end unsent; ``None`` for those that are to be sent."""
    return [None if leg.verdict is None else leg.verdict.reason for leg in legs]


@pytest.mark.parametrize("host", [EXEMPT, OTHER])
def test_a_hold_keeps_what_waits_and_what_comes_until_it_is_released(host: str) -> None:
    """Nothing of the host is handed out, of one without limits neither; others go on; then all comes, in order."""
    steered = Steered(FREE)
    steered.put(host, 2)
    assert steered.control.order(host, Order.HOLD) == Told(Order.HOLD)
    steered.put(host, 1)
    steered.put("other", 1)
    assert [leg.host for leg in steered.take()] == ["other"]
    assert (steered.control.waiting(host), steered.control.on_hold()) == (3, 3)
    steered.control.release(host)
    assert not steered.control.told()
    seen = []
    while legs := steered.take():
        seen += [leg.target.url[-1] for leg in legs]
        steered.end(legs)
        steered.clock.tick(1.0)
    assert seen == ["0", "1", "0"]


def test_what_is_held_takes_nobodys_place() -> None:
    """A group that may have eight legs waiting has room for others, however many of a held host wait; and is full
    again after the release.
    """
    steered = Steered(FREE)
    steered.put(EXEMPT, 8)
    group = steered.run.group
    assert group.is_full
    steered.control.order(EXEMPT, Order.HOLD)
    assert (group.queued, group.queued_bytes, len(steered.frontier)) == (0, 0, 0)
    steered.put(EXEMPT, 2)
    steered.put("other", 5)
    assert (group.queued, len(steered.frontier)) == (5, 5)
    steered.control.release(EXEMPT)
    assert (group.queued, len(steered.frontier)) == (15, 15)
    assert len(steered.take()) == 11
    assert (group.queued, len(steered.frontier)) == (4, 4)


def test_a_held_host_has_few_places_and_the_rest_lies_in_the_backlog() -> None:
    """A host without limits has room for a thousand legs; as soon as it is held, for no more than one that rests."""
    steered = Steered(FREE)
    steered.control.order(EXEMPT, Order.HOLD)
    offered = [
        steered.frontier.offer(steered.run.leg(f"http://{EXEMPT}/{number}"), block=False)
        for number in range(PLACES + 1)
    ]
    assert offered == [Offered.QUEUED] * PLACES + [Offered.HOST_FULL]
    steered.run.group.backed.clear()
    steered.control.release(EXEMPT)
    assert EXEMPT in steered.frontier.backed(steered.run.group)


def test_a_skipped_host_ends_unsent_those_that_back_off_too() -> None:
    """What waits, what comes and what would be tried again later ends at once; what runs isn't touched."""
    steered = Steered()
    steered.put("h", 3)
    running = steered.take()
    steered.put("h", 1, not_before=steered.clock.now_s + 60)
    steered.control.order("h", Order.SKIP)
    steered.put("h", 1)
    assert reasons(running) == [None]
    unsent = steered.take()
    assert reasons(unsent) == ["host_skipped"] * 4
    steered.end([*running, *unsent])
    steered.control.release("h")
    steered.put("h", 1)
    assert reasons(steered.take()) == [None]


def test_a_delay_of_its_own_holds_in_place_of_the_limits() -> None:
    """It is by the end of the last answer, holds at once in both directions, and its legs know what held for them."""
    steered = Steered(HostLimits(delay_s=10.0))
    steered.put("h", 4)
    first = steered.take()
    steered.clock.tick(1.0)
    steered.end(first)
    steered.control.delay("h", 2.0)
    steered.clock.tick(1.9)
    assert steered.take() == []
    steered.clock.tick(0.1)
    second = steered.take()
    assert [leg.seat.limits.delay_s for leg in (*first, *second)] == [10.0, 2.0]
    steered.end(second)
    steered.control.delay("h", 0.0)
    third = steered.take()
    assert len(third) == 1  # as many as the limits of the run allow
    steered.end(third)
    steered.control.delay("h", None)
    assert not steered.control.told()
    steered.clock.tick(9.9)
    assert steered.take() == []
    steered.clock.tick(0.1)
    assert len(steered.take()) == 1


@pytest.mark.parametrize("before", [(), ("release",), ("hold", "release"), ("skip", "release")])
def test_a_delay_waits_for_what_runs_without_limits(before: tuple[str, ...]) -> None:
    """Several of a host run as nothing limited it: with a delay the next waits for the end of all of them, and on."""
    steered = Steered(FREE)
    running = steered.put(EXEMPT, 3)
    steered.take(2)
    for order in before:
        if order == "release":
            steered.control.release(EXEMPT)
        else:
            steered.control.order(EXEMPT, Order(order))
    steered.control.delay(EXEMPT, 2.0)
    steered.clock.tick(5.0)
    assert steered.take() == []
    steered.end(running[:1])
    steered.clock.tick(5.0)
    assert steered.take() == []
    steered.end(running[1:2])
    steered.clock.tick(1.9)
    assert steered.take() == []
    steered.clock.tick(0.1)
    assert steered.take() == running[2:]
    steered.end(running[2:])
    assert not steered.frontier._schedule._lines
    steered.control.delay(EXEMPT, None)
    assert len(steered.frontier._schedule.hosts.find(EXEMPT).lines) == 0  # type: ignore[union-attr]


def test_a_delay_for_a_host_of_which_nothing_is_remembered_begins_now() -> None:
    """When its last answer ended nobody knows: it may have been in this very moment."""
    steered = Steered(FREE)
    steered.put(EXEMPT, 2)
    steered.end(steered.take(1))
    steered.control.delay(EXEMPT, 2.0)
    steered.clock.tick(1.9)
    assert steered.take() == []
    steered.clock.tick(0.1)
    assert len(steered.take()) == 1


def test_a_release_lifts_what_the_host_itself_brought_about() -> None:
    """A cooldown, a breaker that gave up, and blocks: after a release all count as if they hadn't been."""
    steered = Steered(HostLimits(concurrency=1, connect_failures=1))
    steered.put("refuses", 2)
    steered.end(steered.take(), Came.refused(100.0))
    assert steered.take() == []
    steered.control.release("refuses")
    legs = steered.take()
    assert reasons(legs) == [None]
    assert legs[0].seat.lifted_at == steered.clock.now_s
    steered.end(legs)

    steered.put("lost", 2)
    host = steered.frontier._schedule.hosts.of("lost", 0.0)
    for _ in range(4):
        steered.clock.tick(100.0)
        host.start()
        host.end(Came.unreachable(ErrorKind.CONNECT), steered.run.group.limits or ONE, steered.clock.now_s)
    assert steered.control.hosts_now(["lost", "refuses"]).given_up == ("lost",)
    steered.control.release("lost")
    assert reasons(steered.take()) == [None]

    for _ in range(BLOCKS):
        steered.run.group.blocks.note("blocks", is_block=True)
    assert steered.control.hosts_now([]).blocked == ("blocks",)
    steered.put("blocks", 2)
    unsent = steered.take()
    assert reasons(unsent) == ["held"] * 2
    steered.end(unsent)
    steered.control.release("blocks")
    steered.put("blocks", 1)
    assert reasons(steered.take()) == [None]


def test_an_operators_hold_is_over_that_of_blocks() -> None:
    """What a blocked host has ends at once; the operator may want it to wait."""
    steered = Steered()
    for _ in range(BLOCKS):
        steered.run.group.blocks.note("h", is_block=True)
    steered.control.order("h", Order.HOLD)
    steered.put("h", 1)
    assert steered.take() == []


def blocked(steered: Steered, host: str) -> list[Leg]:
    """Have a host block, where what that leaves is given back; return what of it waits then."""
    steered.run.group.gives_back = True
    for _ in range(BLOCKS - 1):
        steered.run.group.blocks.note(host, is_block=True)
    legs = steered.put(host, 6)
    later = steered.put(host, 2, not_before=steered.clock.now_s + 60.0)
    steered.end(steered.take(1), BLOCKED)
    assert steered.control.hosts_now([]).blocked == (host,)
    return [*legs[1:], *later]


def test_what_is_given_back_waits_as_an_operators_hold_does() -> None:
    """It takes nobody's place, the crawl's news say so once, and a release has it asked again."""
    steered = Steered()
    waiting = blocked(steered, "h")
    assert steered.frontier.news() == [("held", "h")]
    assert steered.take() == []
    assert (steered.control.on_hold(), steered.run.group.queued, len(steered.frontier)) == (len(waiting), 0, 0)
    assert (steered.control.told(), on_hold(steered.run.group.told)) == ({}, {"h"})
    steered.put("h", 1)
    steered.put("other", 1)
    others = steered.take()
    assert [leg.host for leg in others] == ["other"]
    steered.end(others)
    steered.control.release("h")
    assert steered.run.group.queued == len(waiting) + 1
    steered.clock.tick(60.0)
    for _ in range(len(waiting) + 1):
        legs = steered.take()
        assert reasons(legs) == [None]
        steered.end(legs)
    assert (steered.frontier.news(), steered.run.group.told) == ([], {})


def test_what_is_given_back_ends_with_the_holds() -> None:
    """When nothing else is left, what waits ends as held: what backs off, and what comes, too."""
    steered = Steered()
    waiting = blocked(steered, "h")
    assert steered.control.end_holds() == ["h"]
    more = steered.put("h", 1)
    unsent = steered.take()
    assert reasons(unsent) == ["held"] * len(unsent)
    assert {*map(id, unsent)} == {*map(id, waiting + more)}


def test_a_host_that_thinks_better_of_it_is_let_go() -> None:
    """What was under way when it was held may be well: then it isn't held any more. An operator's word stands."""
    for order in (None, Order.HOLD, Order.SKIP):
        steered = Steered(HostLimits(concurrency=4))
        steered.run.group.gives_back = True
        for _ in range(BLOCKS - 1):
            steered.run.group.blocks.note("h", is_block=True)
        steered.put("h", 8)
        legs = steered.take()
        assert len(legs) == 4
        steered.end(legs[:1], BLOCKED)
        if order is not None:
            steered.control.order("h", order)
        steered.end(legs[1:], ANSWERED)
        assert not steered.control.hosts_now([]).blocked
        is_unsent = {None: None, Order.SKIP: "host_skipped"}
        assert reasons(steered.take()) == ([] if order is Order.HOLD else [is_unsent[order]] * 4)


def test_holds_end_when_they_are_told_to() -> None:
    """All that waits for held hosts ends, and what comes; a release counts all the same, and so does another hold."""
    steered = Steered()
    steered.control.order("h", Order.HOLD)
    steered.put("h", 1)
    assert steered.control.end_holds() == ["h"]
    assert steered.control.end_holds() == []
    steered.put("h", 1)
    unsent = steered.take()
    assert reasons(unsent) == ["held"] * 2
    steered.end(unsent)
    assert steered.control.told()["h"].is_held
    steered.control.order("h", Order.HOLD)
    steered.put("h", 1)
    assert steered.take() == []
    steered.control.release("h")
    assert reasons(steered.take()) == [None]


def test_no_leg_of_a_held_host_waits_longer_than_it_may() -> None:
    """Its patience ends as if the host were slow."""
    steered = Steered(max_wait_s=2.0)
    steered.control.order("h", Order.HOLD)
    steered.put("h", 1)
    steered.clock.tick(2.0)
    (leg,) = steered.take()
    assert leg.verdict is not None
    assert leg.verdict.error_kind is ErrorKind.DEADLINE
    assert steered.run.group.queued == 0


def test_a_worker_that_sleeps_is_woken_by_a_release() -> None:
    """Nobody waits for the clock, or for the next leg that comes, to see what an operator has let go."""
    steered = Steered()
    steered.control.order("h", Order.HOLD)
    steered.put("h", 1)
    taken: list[Leg] = []
    with Threads() as threads:
        threads.start(lambda: taken.extend(steered.frontier.take(1) or []))
        until(lambda: steered.frontier.idle == 1)
        steered.control.release("h")
    assert len(taken) == 1


def test_a_feeder_that_waits_for_room_is_woken_by_a_hold() -> None:
    """The places of what is held are there for others."""
    steered = Steered()
    steered.run.group.most = None
    steered.put("h", 8)
    with Threads() as threads:
        queued = threading.Event()
        leg = steered.run.leg("http://other/")
        threads.start(lambda: (steered.frontier.put(leg), queued.set()))
        until(lambda: steered.frontier._rooms._rooms)
        steered.control.order("h", Order.HOLD)
    assert queued.is_set()


def test_drain_and_close_find_what_is_held() -> None:
    """Legs of held hosts are given back like any other, and no count goes below nothing."""
    steered = Steered()
    steered.control.order("h", Order.HOLD)
    steered.put("h", 3)
    assert len(steered.frontier.take_back(steered.run)) == 3  # type: ignore[arg-type]
    steered.put("h", 2)
    assert len(steered.frontier.close()) == 2
    assert (steered.run.group.queued, len(steered.frontier)) == (0, 0)


def test_who_rests_longest_is_told() -> None:
    """Hosts with work that may not be asked yet, longest first; one that is held isn't among them."""
    steered = Steered(HostLimits(delay_s=10.0))
    for host in ("a", "b", "held"):
        steered.put(host, 2)
    steered.end(steered.take())
    steered.control.delay("b", 60.0)
    steered.control.order("held", Order.HOLD)
    assert steered.control.hosts_now([]).resting == (("b", 60.0), ("a", 10.0))


@pytest.mark.parametrize("delay_s", [-1, float("nan"), float("inf"), "5", True, 86_401])
def test_a_delay_that_can_not_be_is_refused(delay_s: float) -> None:
    """The message names the value; nothing is changed."""
    steered = Steered()
    with pytest.raises(ConfigError, match="delay_s="):
        steered.control.delay("h", delay_s)
    assert not steered.control.told()
