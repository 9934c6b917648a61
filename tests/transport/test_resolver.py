"""Names to addresses: what is shared, kept, bounded and answered, and that nobody waits for another's slow name."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import socket
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool.errors import ConfigError, ErrorKind, PoolClosed, kind_of
from crawlpool.transport.resolver import Resolver
from tests.gates import PATIENCE_S, Threads
from tests.kit import HandClock
from tests.test_fork import in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NO_NAME = socket.gaierror(socket.EAI_NONAME, "no such name")


class Book:
    """A lookup by a table, whose exceptions are raised; names that are held wait until they are let go."""

    def __init__(self, table: dict[str, Any] | None = None, *, held: Sequence[str] = ()) -> None:
        self.table = table or {}
        self.calls: list[str] = []
        self._held = {name: threading.Event() for name in held}
        self._arrivals = threading.Semaphore(0)

    def __call__(self, name: str, port: int) -> Sequence[str]:
        self.calls.append(name)
        self._arrivals.release()
        if name in self._held:
            assert self._held[name].wait(PATIENCE_S), "nobody let the name go"
        found = self.table.get(name, ["192.0.2.1"])
        if isinstance(found, BaseException):
            raise found
        return found  # type: ignore[no-any-return]

    def wait_for(self, count: int) -> None:
        assert all(self._arrivals.acquire(timeout=PATIENCE_S) for _ in range(count)), "no lookup began"

    def let_go(self, *names: str) -> None:
        for name in names or self._held:
            self._held[name].set()


class Answers(queue.SimpleQueue[Any]):
    """What was answered; its ``put`` is the callback."""

    def take(self, count: int = 1) -> list[Any]:
        return [self.get(timeout=PATIENCE_S) for _ in range(count)]


@contextlib.contextmanager
def resolving(book: Book | None = None, **settings: Any) -> Iterator[Resolver]:
    """Give a resolver, and close it after its lookups were let go."""
    resolver = Resolver(lookup=book, **settings)
    try:
        yield resolver
    finally:
        (book or Book()).let_go()
        resolver.close()


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.001)


def no_name(call: Callable[[], object]) -> socket.gaierror:
    """Return the failure of a call that must end by one."""
    with pytest.raises(socket.gaierror) as caught:
        call()
    assert kind_of(caught.value) is ErrorKind.DNS
    return caught.value


LITERALS = "127.0.0.1=127.0.0.1 127.0.0.1.=127.0.0.1 ::1=::1 [::1]=::1 [2001:DB8:0::01]=2001:db8::1 fe80::1%2=fe80::1%2"


@pytest.mark.parametrize(("host", "address"), [pair.split("=") for pair in LITERALS.split()])
def test_an_ip_address_is_its_own_answer(host: str, address: str) -> None:
    """It is known at once in each way to write it, parsed once, and never looked up nor given a thread."""
    answers = Answers()
    with resolving(Book(), ttl_s=0) as resolver:
        known = resolver.cached(host, 80)
        resolver.ask(host, 80, answers.put)
        assert known == (address,) and answers.take() == [known]
        assert resolver.cached(host, 443) is known and resolver.resolve(host, 80, 0) is known
        assert resolver._made == 0


NO_NAMES = ["", ".", "[]", "a..", "a..b", "x" * 64, "x." * 126 + "xx", "127.0.0.1\0.example", "\u00df" * 64, "\ud800"]


@pytest.mark.parametrize("host", NO_NAMES, ids=ascii)
def test_what_cant_be_a_name_is_a_failed_name(host: str) -> None:
    """Nothing is looked up for it. The codec's UnicodeError comes out as gaierror; a NUL never reaches the system."""
    book = Book()
    with resolving(book) as resolver:
        no_name(lambda: resolver.resolve(host, 80, PATIENCE_S))
        no_name(lambda: resolver.cached(host, 80))
        assert book.calls == []


def test_asks_for_one_name_share_one_lookup() -> None:
    """Whatever the spelling and the port, all are told of one lookup: each address once, in order, eight at most."""
    eight = tuple(f"192.0.2.{number}" for number in range(8))
    book, answers = Book({"a.test": [*eight[:4], *eight, "192.0.2.8"]}, held=["a.test"]), Answers()
    with resolving(book) as resolver:
        resolver.ask("a.test", 80, answers.put)
        book.wait_for(1)
        resolver.ask("A.Test.", 80, answers.put)
        resolver.ask("a.test", 443, answers.put)
        assert answers.empty() and resolver.cached("a.test", 80) is None
        book.let_go()
        assert answers.take(3) == [eight] * 3
        assert resolver.cached("A.TEST", 1) == resolver.resolve("a.test.", 2, 0) == eight
        assert book.calls == ["a.test"]


def test_threads_that_meet_at_a_cold_name_look_it_up_once() -> None:
    """Eight threads ask for each of 50 names at the same moment: 50 lookups, and every thread has its answer."""
    book, together = Book(), threading.Barrier(8)
    with resolving(book, threads=3) as resolver, Threads() as threads:

        def work() -> None:
            for number in range(50):
                together.wait(PATIENCE_S)
                assert resolver.resolve(f"n{number}.test", 80, PATIENCE_S) == ("192.0.2.1",)

        threads.start(work, 8)
        threads.join()
    assert Counter(book.calls) == {f"n{number}.test": 1 for number in range(50)}


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_came_while_an_ask_waited_for_the_lock(is_closed: bool) -> None:
    """An ask that found nothing, and then the answer there or the resolver closed, takes that and queues nothing."""
    book, clock, answers = Book(), HandClock(), Answers()
    with resolving(book, clock=clock) as resolver:

        def meanwhile() -> float:  # the ask takes the time just before the lock
            resolver._now = clock.monotonic
            resolver.resolve("a.test", 80, PATIENCE_S)
            if is_closed:
                resolver.close()
            return clock.monotonic()

        resolver._now = meanwhile
        resolver.ask("a.test", 80, answers.put)
        assert book.calls == ["a.test"] and not resolver._asked
        assert type(answers.get_nowait()) is (PoolClosed if is_closed else tuple)


def test_addresses_are_kept_for_their_time() -> None:
    """For ttl_s from the answer, not from the ask, the cache has them; then the name is looked up again."""
    clock, book, answers = HandClock(), Book(held=["a.test"]), Answers()
    with resolving(book, ttl_s=60, clock=clock) as resolver:
        resolver.ask("a.test", 80, answers.put)
        book.wait_for(1)
        clock.tick(100)
        book.let_go()
        assert answers.take() == [("192.0.2.1",)]
        book.table["a.test"] = ["192.0.2.9"]
        clock.tick(59.5)
        assert resolver.cached("a.test", 80) == resolver.resolve("a.test", 80, 0) == ("192.0.2.1",)
        clock.tick(0.5)
        assert resolver.cached("a.test", 80) is None
        assert resolver.resolve("a.test", 80, PATIENCE_S) == resolver.cached("a.test", 80) == ("192.0.2.9",)


def test_a_failure_is_kept_for_a_shorter_time() -> None:
    """For failure_ttl_s it is raised from the cache, each time as an exception of its own; then it is asked again."""
    clock, book, answers = HandClock(), Book({"a.test": NO_NAME}), Answers()
    with resolving(book, ttl_s=60, failure_ttl_s=1, clock=clock) as resolver:
        errors = [NO_NAME, no_name(lambda: resolver.resolve("a.test", 80, PATIENCE_S))]
        resolver.ask("a.test", 80, answers.put)
        errors += [*answers.take(), *(no_name(lambda: resolver.cached("a.test", 80)) for _ in range(2))]
        assert len({id(error) for error in errors}) == 5
        assert {error.args for error in errors} == {NO_NAME.args}
        book.table["a.test"] = ["192.0.2.9"]
        clock.tick(1)
        assert resolver.cached("a.test", 80) is None
        assert resolver.resolve("a.test", 80, PATIENCE_S) == ("192.0.2.9",) and len(book.calls) == 2


@pytest.mark.parametrize("found", [[], OSError(5, "out of order"), UnicodeError("what a codec says")], ids=repr)
def test_each_way_to_find_nothing_is_a_failed_name(found: Any) -> None:
    """No address, an error of the system and one of the codec are kept and raised as gaierror."""
    with resolving(Book({"a.test": found})) as resolver:
        no_name(lambda: resolver.resolve("a.test", 80, PATIENCE_S))
        no_name(lambda: resolver.cached("a.test", 80))


def test_a_broken_lookup_is_told_and_not_kept() -> None:
    """What is no failure of a name reaches who asked as it is; the next ask looks the name up again."""
    book = Book({"a.test": ZeroDivisionError("a mistake")})
    with resolving(book) as resolver:
        for count in (1, 2):
            with pytest.raises(ZeroDivisionError):
                resolver.resolve("a.test", 80, PATIENCE_S)
            assert resolver.cached("a.test", 80) is None and len(book.calls) == count


def test_the_oldest_names_are_forgotten() -> None:
    """No more than max_names are kept; a name that was looked up again is young; IP addresses count, too."""
    clock = HandClock()
    with resolving(Book(), max_names=3, ttl_s=60, clock=clock) as resolver:
        resolver.resolve("a.test", 80, PATIENCE_S)
        clock.tick(60)
        for host in ("b.test", "a.test", "127.0.0.1", "c.test"):
            resolver.resolve(host, 80, PATIENCE_S)
        assert list(resolver._names) == ["a.test", "127.0.0.1", "c.test"]


def test_slow_names_stall_others_only_while_all_threads_are_busy() -> None:
    """Two threads at most: beside one slow name others are answered, beside two they wait, in the order of the asks."""
    book, answers = Book(held=["slow1.test", "slow2.test"]), Answers()
    with resolving(book, threads=2) as resolver:
        resolver.ask("slow1.test", 80, answers.put)
        assert all(resolver.resolve(f"n{number}.test", 80, PATIENCE_S) for number in range(5))
        resolver.ask("slow2.test", 80, answers.put)
        book.wait_for(7)
        for name in ("c.test", "a.test", "b.test"):
            resolver.ask(name, 80, answers.put)
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("crawlpool-resolver")}
        assert names == {"crawlpool-resolver-1", "crawlpool-resolver-2"}
        assert len(book.calls) == 7 and answers.empty()
        book.let_go("slow1.test")
        answers.take(4)
        assert book.calls[7:] == ["c.test", "a.test", "b.test"] and len(resolver._threads) == 2


def test_threads_come_as_they_are_needed_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has nothing to do takes the next name; after IDLE_S it is gone, and the next name starts one."""
    with resolving(Book()) as resolver:
        for number in range(20):
            resolver.resolve(f"n{number}.test", 80, PATIENCE_S)
            until(lambda: not resolver._busy)
        assert resolver._made == 1
    monkeypatch.setattr("crawlpool.transport.resolver.IDLE_S", 0.01)
    with resolving(Book()) as resolver:
        for count in (1, 2):
            resolver.resolve(f"n{count}.test", 80, PATIENCE_S)
            until(lambda: not resolver._threads)
            assert resolver._made == count


def test_overrides_win() -> None:
    """By (host, port) in any spelling: over the cache and IP addresses, for that port only; one leads to no other."""
    overrides = {("A.test.", 80): "127.0.0.2", ("127.0.0.1", 80): "[::1]", ("b.test", 80): "A.Test"}
    book = Book()
    with resolving(book, overrides=overrides) as resolver:
        assert resolver.cached("b.test", 80) is None
        assert resolver.resolve("b.test", 80, PATIENCE_S) == resolver.cached("b.test", 80) == ("192.0.2.1",)
        assert resolver.cached("a.test", 443) == ("192.0.2.1",) and resolver.cached("b.test", 443) is None
        assert resolver.cached("a.TEST", 80) == resolver.resolve("a.test.", 80, 0) == ("127.0.0.2",)
        assert resolver.cached("127.0.0.1", 80) == ("::1",) and resolver.cached("127.0.0.1", 81) == ("127.0.0.1",)
        assert book.calls == ["a.test"]


def test_who_waits_too_long_is_told_and_the_lookup_goes_on() -> None:
    """TimeoutError at the caller's time; what is found later is kept. A name that all gave up is not looked up."""
    book, answers = Book(held=["slow.test"]), Answers()
    with resolving(book, threads=1) as resolver:
        resolver.ask("slow.test", 80, answers.put)
        book.wait_for(1)
        for host, timeout_s in [("slow.test", 0.01), ("a.test", 0), ("a.test", -1)]:
            with pytest.raises(TimeoutError, match=host) as caught:
                resolver.resolve(host, 80, timeout_s)
            assert kind_of(caught.value) is ErrorKind.TIMEOUT
        assert [len(waiting) for waiting in resolver._asked.values()] == [1, 0]
        resolver.ask("b.test", 80, answers.put)
        book.let_go()
        assert answers.take(2) and book.calls == ["slow.test", "b.test"]
        assert resolver.cached("slow.test", 80) == ("192.0.2.1",)
        assert resolver.resolve("a.test", 80, None) == resolver.resolve("c.test", 80, float("inf")) == ("192.0.2.1",)


def test_close_answers_what_waits_and_waits_for_no_lookup() -> None:
    """Asks under way and queued get PoolClosed, blocking callers, too; the thread in its lookup isn't waited for."""
    book, answers = Book(held=["slow.test"]), Answers()
    with resolving(book, threads=1) as resolver, Threads() as threads:
        resolver.ask("slow.test", 80, answers.put)
        book.wait_for(1)
        resolver.ask("queued.test", 80, answers.put)

        def wait() -> None:
            with pytest.raises(PoolClosed):
                resolver.resolve("slow.test", 80, PATIENCE_S)

        threads.start(wait)
        until(lambda: len(resolver._asked["slow.test"]) == 2)
        (looking_up,) = resolver._threads
        resolver.close()
        assert looking_up.is_alive() and looking_up.daemon
        threads.join()
        resolver.ask("127.0.0.1", 80, answers.put)
        assert [type(answer) for answer in answers.take(3)] == [PoolClosed] * 3
        with pytest.raises(PoolClosed):
            resolver.resolve("other.test", 80, PATIENCE_S)
        book.let_go()
        looking_up.join(PATIENCE_S)
        assert book.calls == ["slow.test"] and answers.empty() and not resolver._names


def test_an_idle_thread_keeps_no_callback_and_ends_at_close() -> None:
    """A callback, and with it a leg, is gone when it was called; close returns when the thread has ended."""
    answers = Answers()
    gone = weakref.ref(answers)
    with resolving(Book()) as resolver:
        resolver.ask("a.test", 80, answers.put)
        answers.take()
        until(lambda: not resolver._busy)
        del answers
        gc.collect()
        (thread,) = resolver._threads
        assert gone() is None and thread.is_alive()
        resolver.close()
        assert not thread.is_alive() and not resolver._threads


def test_a_callback_may_do_what_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    """It may ask, close, and fail: it runs under no lock, and neither its thread nor who else asked suffers."""
    book, answers = Book(held=["a.test"]), Answers()
    with resolving(book, threads=1) as resolver:

        def fails(_: object) -> None:
            raise SystemExit("a mistake")

        resolver.ask("a.test", 80, fails)
        resolver.ask("a.test", 80, lambda _: resolver.ask("b.test", 80, answers.put))
        resolver.ask("a.test", 80, answers.put)
        book.let_go()
        assert answers.take(2) == [("192.0.2.1",)] * 2
        resolver.ask("a.test", 80, fails)
        assert [record.message for record in caplog.records] == ["a callback failed to take an answer"] * 2
        resolver.ask("c.test", 80, lambda answer: answers.put([answer, resolver.close()]))  # type: ignore[func-returns-value]
        assert answers.take() == [[("192.0.2.1",), None]]


def test_without_a_thread_who_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread the ask fails instead of hanging; the next finds the name once there is one."""
    answers = Answers()
    with resolving(Book()) as resolver:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread")))
            resolver.ask("a.test", 80, answers.put)
        assert [str(answer) for answer in answers.take()] == ["no thread"]
        assert resolver.resolve("a.test", 80, PATIENCE_S) == ("192.0.2.1",)


def test_the_system_finds_localhost() -> None:
    """Without another the lookup is the system's; what is no IP address as usually written goes through it, too."""
    with resolving() as resolver:
        found = resolver.resolve("LocalHost.", 80, PATIENCE_S)
        assert found and set(found) <= {"127.0.0.1", "::1"} and resolver.cached("localhost", 443) == found
        assert resolver.resolve("127.1", 80, PATIENCE_S) == ("127.0.0.1",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_begins_afresh() -> None:
    """The child has no name, ask or thread of the parent's, doesn't mind a lock held at the fork, and can resolve."""
    book, answers = Book(held=["slow.test"]), Answers()
    with resolving(book, threads=1) as resolver:
        resolver.resolve("a.test", 80, PATIENCE_S)
        resolver.ask("slow.test", 80, answers.put)
        book.wait_for(2)

        def work() -> None:
            resolver._reset_after_fork()
            assert resolver.cached("a.test", 80) is None
            assert resolver.resolve("b.test", 80, PATIENCE_S) == ("192.0.2.1",)
            resolver.close()
            assert answers.empty()

        with resolver._lock:
            assert in_child(work) == 0
        book.let_go()
        assert answers.take() == [("192.0.2.1",)]


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"ttl_s": -1}, {"failure_ttl_s": float("inf")}, {"max_names": True}])
def test_a_number_that_cant_be_is_refused(wrong: dict[str, Any]) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Resolver(**wrong)
