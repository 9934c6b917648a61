"""The inbox between the I/O thread and the workers: who takes what, and who is called for it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from crawlpool.transport.inbox import Inbox
from tests.gates import PATIENCE_S, Threads


@dataclasses.dataclass(eq=False)
class Ended:
    """A transfer that has ended, as far as an inbox looks at it."""

    name: str
    is_quick: bool = True


class Called:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def news() -> Called:
    return Called()


@pytest.fixture
def inbox(news: Called) -> Inbox:
    """Give an inbox as it is where the interpreter has its lock: one worker at a time for the quick ones."""
    inbox = Inbox(news)
    inbox._most_attendants = 1
    return inbox


def quick(*names: str) -> list[Ended]:
    return [Ended(name) for name in names]


def slow(*names: str) -> list[Ended]:
    return [Ended(name, is_quick=False) for name in names]


def test_an_empty_inbox_has_nothing(inbox: Inbox, news: Called) -> None:
    """No news, nothing to take, and taking nothing makes nobody an attendant."""
    assert not inbox.has_news()
    assert inbox.take(64) == ([], False)
    inbox.deliver(quick("a"))
    assert inbox.take(64)[1]


def test_quick_ones_are_taken_many_at_a_time(inbox: Inbox) -> None:
    """In the order in which they ended, and at most as many as were asked for; who has taken them attends."""
    ended = quick("a", "b", "c")
    inbox.deliver(ended[:2])
    inbox.deliver(ended[2:])
    assert inbox.take(2) == (ended[:2], True)
    inbox.leave()
    assert inbox.take(2) == (ended[2:], True)


def test_one_worker_attends_at_a_time(inbox: Inbox, news: Called) -> None:
    """While one is at the quick ones no other is called for them, has news of them, or gets any."""
    inbox.deliver(quick("a"))
    assert news.times == 1
    assert inbox.take(64)[1]
    inbox.deliver(quick("b"))
    assert news.times == 1
    assert not inbox.has_news()
    assert inbox.take(64) == ([], False)


def test_who_leaves_finds_what_came_meanwhile(inbox: Inbox) -> None:
    """What came while one attended is news as soon as it leaves: it asks itself before it waits."""
    late = quick("b")
    inbox.deliver(quick("a"))
    inbox.take(64)
    inbox.deliver(late)
    inbox.leave()
    assert inbox.has_news()
    assert inbox.take(64) == (late, True)


def test_slow_ones_are_taken_one_by_one(inbox: Inbox, news: Called) -> None:
    """Each delivery calls somebody, each taker gets one, and none of them attends; others go on taking."""
    ended = slow("a", "b")
    for one in ended:
        inbox.deliver([one])
    assert news.times == 2
    assert inbox.has_news()
    assert inbox.take(64) == (ended[:1], False)
    assert inbox.take(64) == (ended[1:], False)
    assert not inbox.has_news()


def test_each_who_takes_calls_the_next(inbox: Inbox, news: Called) -> None:
    """Many slow ones that are delivered at once call one worker; it calls another before it is gone with its own."""
    ended = slow("a", "b", "c")
    inbox.deliver([*quick("quick"), *ended])
    assert news.times == 1
    for number, one in enumerate([*quick("quick"), *ended]):
        taken, _ = inbox.take(64)
        assert [other.name for other in taken] == [one.name]
        assert news.times == min(number + 2, 4)


def test_slow_ones_are_news_while_somebody_attends(inbox: Inbox, news: Called) -> None:
    """Who is at the quick ones keeps nobody from a slow one: another worker is called, and gets it."""
    handled = slow("handled")
    inbox.deliver(quick("a"))
    inbox.take(64)
    inbox.deliver([*quick("b"), *handled])
    assert news.times == 2
    assert inbox.has_news()
    assert inbox.take(64) == (handled, False)
    assert not inbox.has_news()


def test_quick_ones_go_first(inbox: Inbox) -> None:
    """A slow one may take long: what is done in no time doesn't wait behind it."""
    one, other = slow("slow"), quick("quick")
    inbox.deliver([*one, *other])
    assert inbox.take(64) == (other, True)
    assert inbox.take(64) == (one, False)


def test_without_the_interpreters_lock_several_attend(news: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """On free-threaded CPython a second worker costs the first one nothing, so it is called and gets its share."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    inbox, ended = Inbox(news), quick("a", "b", "c")
    inbox.deliver(ended)
    assert inbox.take(2) == (ended[:2], True)
    assert inbox.has_news()
    assert inbox.take(2) == (ended[2:], True)
    inbox.deliver(quick("d"))
    assert news.times == 2


def test_what_the_io_thread_finishes_comes_to_nobody(news: Called) -> None:
    """``attend`` is shown all, and what it keeps is no news; what it gives back is taken as always."""
    shown: list[list[Ended]] = []
    rest: list[Ended] = []

    def attend(ended: object) -> list[Ended]:
        shown.append(list(ended))  # type: ignore[call-overload]
        return rest

    inbox, (one, other) = Inbox(news, attend), quick("a", "b")
    inbox.deliver([one])
    assert (news.times, inbox.has_news()) == (0, False)
    rest.append(other)
    inbox.deliver([one, other])
    assert (news.times, inbox.take(64)[0]) == (1, [other])
    assert shown == [[one], [one, other]]


def test_who_gets_a_slow_one_says_that_it_goes(news: Called) -> None:
    """Before it has it, so that somebody stays; not for quick ones, not for nothing, and not under the lock."""
    gone: list[bool] = []
    box: Inbox

    def goes_away() -> None:
        gone.append(box._lock.locked())

    box = Inbox(news, goes_away=goes_away)
    box.take(64)
    box.deliver(quick("a"))
    box.take(64)
    assert gone == []
    box.deliver(slow("b"))
    box.take(64)
    assert gone == [False]


def test_nobody_is_called_under_the_lock() -> None:
    """The news may lead into the frontier and its lock: never two at once."""
    held: list[bool] = []
    box: Inbox

    def look() -> None:
        held.append(box._lock.locked())

    def attend(ended: Any) -> Any:
        look()
        return ended

    box = Inbox(look, attend)
    box.deliver(quick("a"))
    assert held == [False, False]


def test_each_is_taken_once_by_whoever_is_free() -> None:
    """Workers that wait for news, as they do in the frontier, get all that is delivered, each once, none forgotten."""
    woken = threading.Semaphore(0)
    inbox = Inbox(woken.release)
    seen: list[str] = []
    done, is_over = threading.Semaphore(0), threading.Event()
    count = 400

    def work() -> None:
        while not is_over.is_set():
            taken, attends = inbox.take(8)
            seen.extend(one.name for one in taken)
            if attends:
                inbox.leave()
            done.release(len(taken)) if taken else None
            if not inbox.has_news():
                woken.acquire()

    with Threads() as threads:
        threads.start(work, 4)
        for number in range(count):
            inbox.deliver([Ended(f"{number}", is_quick=number % 3 > 0)])
        for _ in range(count):
            assert done.acquire(timeout=PATIENCE_S)
        is_over.set()
        woken.release(4)
    assert sorted(seen, key=int) == [str(number) for number in range(count)]
