"""The frontier and those who take from it: how much runs at once, who is called away, and how it ends."""

from __future__ import annotations

import threading

import pytest

from crawlpool.frontier import Frontier
from crawlpool.leg import Leg
from crawlpool.rooms import Wait
from tests.gates import PATIENCE_S, ListRun, Threads, until
from tests.kit import HandClock
from tests.test_frontier import ONE_EACH, urls


def filled(frontier: Frontier, run: ListRun, count: int) -> None:
    """Put that many legs, each for a host of its own."""
    for number in range(count):
        assert frontier.put(run.leg(f"http://h{number}/"))


def test_no_more_is_taken_than_may_run() -> None:
    """What several takers have and haven't settled is bounded together, and settling makes room for as many."""
    frontier, run = Frontier(running_at_most=5), ListRun()
    filled(frontier, run, 10)
    first, second = frontier.take(3), frontier.take(64)
    assert (len(first or ()), len(second or ())) == (3, 2)
    assert frontier.take_now(64, lambda leg: True) == []
    assert first is not None
    frontier.settle([(leg, None) for leg in first[:2]])
    assert len(frontier.take(64) or ()) == 2
    assert len(frontier) == 3


def test_who_waits_for_room_to_run_is_woken_by_a_settle() -> None:
    """With legs queued and all running that may, takers sleep; each settled leg lets one more be taken."""
    frontier, run = Frontier(running_at_most=1), ListRun()
    filled(frontier, run, 3)
    (running,) = frontier.take(64) or []
    taken: list[list[Leg] | None] = []
    came = threading.Semaphore(0)

    def work() -> None:
        taken.append(frontier.take(64))
        came.release()

    with Threads() as threads:
        threads.start(work, 2)
        until(lambda: frontier.idle == 2)
        frontier.settle([(running, None)])
        assert came.acquire(timeout=PATIENCE_S)
        until(lambda: frontier.idle == 1)
        assert [urls(legs or []) for legs in taken] == [["http://h1/"]]
        frontier.settle([(leg, None) for leg in taken[0] or ()])
    assert [urls(legs or []) for legs in taken] == [["http://h1/"], ["http://h2/"]]


def test_put_wakes_nobody_who_could_not_run_it() -> None:
    """A leg that is put while as many run as may waits; who would be woken for it had to sleep again."""
    frontier, run = Frontier(running_at_most=1), ListRun()
    filled(frontier, run, 1)
    (running,) = frontier.take() or []
    with Threads() as threads:
        threads.start(frontier.take)
        until(lambda: frontier.idle == 1)
        woken: list[int] = []
        frontier._idlers._work.notify = lambda n=1: woken.append(n)  # type: ignore[method-assign]
        frontier.put(run.leg("http://other/"))
        assert woken == []
        del frontier._idlers._work.notify
        frontier.settle([(running, None)])


def test_who_settles_and_comes_back_wakes_nobody() -> None:
    """``wakes=False`` leaves what can be taken to the caller; the others sleep on."""
    frontier, run = Frontier(), ListRun(limits=ONE_EACH)
    frontier.put(run.leg("http://h/1"))
    frontier.put(run.leg("http://h/2"))
    (first,) = frontier.take() or []
    with Threads() as threads:
        threads.start(frontier.take)
        until(lambda: frontier.idle == 1)
        woken: list[int] = []
        frontier._idlers._work.notify = lambda n=1: woken.append(n)  # type: ignore[method-assign]
        frontier.settle([(first, None)], wakes=False)
        assert woken == []
        (second,) = frontier.take() or []
        assert second.target.url == "http://h/2"
        del frontier._idlers._work.notify
        frontier.settle([(second, run.leg("http://h/3"))])


def test_news_go_before_waiting() -> None:
    """A taker with something else to do gets what can be taken, or nothing, and doesn't wait."""
    frontier, run = Frontier(), ListRun(limits=ONE_EACH)
    assert frontier.take(5, lambda: True) == []
    frontier.put(run.leg("http://h/1"))
    frontier.put(run.leg("http://h/2"))
    assert urls(frontier.take(5, lambda: True) or []) == ["http://h/1"]
    assert frontier.take(5, lambda: True) == []


def test_news_go_before_room_too() -> None:
    """With all running that may, a taker with news isn't kept: its news are what makes room."""
    frontier, run = Frontier(running_at_most=1), ListRun()
    filled(frontier, run, 2)
    assert len(frontier.take(5) or ()) == 1
    assert frontier.take(5, lambda: True) == []


def test_a_call_wakes_one_who_waits() -> None:
    """Of three that wait, one comes to look for news, and finds them; without news it sleeps on."""
    frontier, news = Frontier(), threading.Event()
    looked: list[list[Leg] | None] = []
    asked = threading.Semaphore(0)

    def has_news() -> bool:
        asked.release()
        return news.is_set()

    with Threads() as threads:
        threads.start(lambda: looked.append(frontier.take(5, has_news)), 3)
        until(lambda: frontier.idle == 3)
        for _ in range(3):
            assert asked.acquire(timeout=PATIENCE_S)
        frontier.call()
        assert asked.acquire(timeout=PATIENCE_S), "nobody looked"
        until(lambda: frontier.idle == 3)
        assert looked == []
        news.set()
        frontier.call()
        until(lambda: frontier.idle == 2)
        until(lambda: looked == [[]])
        frontier.close()
        news.clear()
        frontier.call()
    assert looked.count(None) + looked.count([]) == 3


def test_a_closed_frontier_waits_for_what_runs() -> None:
    """Closing hands out nothing more; takers stay until the last leg that was taken has settled, for its news."""
    frontier, run = Frontier(), ListRun()
    filled(frontier, run, 2)
    legs = frontier.take(2) or []
    taken: list[list[Leg] | None] = []
    with Threads() as threads:
        threads.start(lambda: taken.append(frontier.take()), 2)
        until(lambda: frontier.idle == 2)
        frontier.close()
        frontier.settle([(legs[0], None)])
        assert frontier.take(1, lambda: True) == []
        until(lambda: frontier.idle == 2)
        assert taken == []
        frontier.settle([(legs[1], None)], wakes=False)
    assert taken == [None, None]
    assert frontier.take(1) is None


def test_take_now_waits_for_nothing() -> None:
    """With nothing to start, with all running that may, or closed: it comes back at once, empty-handed."""
    frontier, run = Frontier(running_at_most=1), ListRun()
    assert frontier.take_now(5, lambda leg: True) == []
    filled(frontier, run, 2)
    assert urls(frontier.take_now(5, lambda leg: True)) == ["http://h0/"]
    assert frontier.take_now(5, lambda leg: True) == []
    frontier.close()
    assert frontier.take_now(5, lambda leg: True) == []


def test_take_now_leaves_what_is_not_wanted() -> None:
    """A host whose next leg isn't wanted keeps its order: what stands behind that leg isn't taken in its place."""
    frontier, run = Frontier(), ListRun()
    for url in ("http://a/mine", "http://b/theirs", "http://b/mine", "http://c/mine"):
        frontier.put(run.leg(url))
    mine = frontier.take_now(5, lambda leg: leg.target.url.endswith("mine"))
    assert urls(mine) == ["http://a/mine", "http://c/mine"]
    assert urls(frontier.take(5) or []) == ["http://b/theirs", "http://b/mine"]


def test_take_now_wakes_a_worker_for_what_is_not_wanted() -> None:
    """Who takes what it wants sees that somebody takes the rest, though the leg was put while all were busy."""
    frontier, run = Frontier(), ListRun()
    taken: list[list[Leg] | None] = []
    with Threads() as threads:
        threads.start(lambda: taken.append(frontier.take(5)))
        until(lambda: frontier.idle == 1)
        with frontier._lock:
            frontier._put(run.leg("http://h/theirs"), 0.0)  # as ``settle`` does for one who comes back for it
        assert frontier.take_now(5, lambda leg: False) == []
    assert [urls(legs or []) for legs in taken] == [["http://h/theirs"]]


def test_take_now_makes_ready_what_is_due() -> None:
    """A retry whose time has come is among what can be taken now."""
    clock = HandClock()
    frontier, run = Frontier(clock), ListRun()
    frontier.put(run.leg("http://h/later", not_before=clock.now_s + 1))
    assert frontier.take_now(5, lambda leg: True) == []
    clock.tick(1)
    assert urls(frontier.take_now(5, lambda leg: True)) == ["http://h/later"]


def test_the_bound_holds_whoever_takes() -> None:
    """Eight takers and a settler: at no time do more run than may, and all legs come through."""
    most, count = 3, 200
    frontier, run = Frontier(running_at_most=most), ListRun()
    lock, running, peak, seen = threading.Lock(), [0], [0], [0]
    left = threading.Semaphore(0)

    def work() -> None:
        while (legs := frontier.take(2)) is not None:
            with lock:
                running[0] += len(legs)
                peak[0] = max(peak[0], running[0])
                seen[0] += len(legs)
            with lock:
                running[0] -= len(legs)
            frontier.settle([(leg, None) for leg in legs])
            left.release(len(legs))

    with Threads() as threads:
        threads.start(work, 8)
        filled(frontier, run, count)
        for _ in range(count):
            assert left.acquire(timeout=PATIENCE_S)
        frontier.close()
    assert seen == [count]
    assert peak[0] <= most


def test_a_feeder_sleeps_until_there_is_much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """While there are hosts to be asked, a feeder isn't woken for each single place, also when as many run as may."""
    frontier, run = Frontier(running_at_most=1), ListRun(capacity=100)
    filled(frontier, run, 100)
    woken: list[int] = []
    notify = Wait.notify

    def noted(room: Wait, n: int = 1) -> None:
        woken.append(run.group.queued)
        notify(room, n)

    with Threads() as threads:
        threads.start(lambda: frontier.put(run.leg("http://more/")))
        until(lambda: run.group in frontier._rooms._rooms)
        monkeypatch.setattr(Wait, "notify", noted)
        for _ in range(30):
            (leg,) = frontier.take() or []
            frontier.settle([(leg, None)])
        assert not woken or max(woken) <= 75
        frontier.close()
