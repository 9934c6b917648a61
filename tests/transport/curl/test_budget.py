"""The memory budget: what all transfers hold together stays below it, and everything ends all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from crawlpool import Result, SessionPool
from crawlpool.clock import Deadline
from crawlpool.errors import BodyTooLarge, DeadlineExceeded, TruncatedBody
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl import library
from crawlpool.transport.curl.budget import MemoryBudget
from crawlpool.transport.curl.route import Route, Way
from crawlpool.transport.curl.transfer import Transfer
from tests.gates import PATIENCE_S, Threads, until
from tests.transport.curl.patience import no_patience

needs_pycurl = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

PAUSE = 0x10000001
BODY = b"x" * 300_000
BUDGET = 1_000_000


class Nobody:
    """Ends nothing: these transfers never run."""

    def end(self, transfer: Transfer, why: Any) -> None: ...

    def resume(self, transfer: Transfer) -> None: ...


def a_transfer() -> Transfer:
    """Return a transfer as it is before it begins."""
    exchange = Exchange(requests.Request("GET", "http://h.example/").prepare(), {}, Deadline(None))
    url = "http://h.example/"
    way = Way(is_tls=False, verify=True, cert=None, proxy=None, connect_s=1, read_s=1)
    return Transfer(exchange, url, Route("h.example", 80, "http://h.example", way), Nobody())


def begun(budget: MemoryBudget, count: int) -> list[tuple[Transfer, Callable[[bytes], int | None], list[bytes]]]:
    """Return transfers counted in by ``budget``, each with its write function and what that has taken."""
    made = []
    for _ in range(count):
        transfer, taken = a_transfer(), list[bytes]()
        budget.begin(transfer)
        made.append((transfer, budget.writer(transfer, taken.append), taken))
    return made


def test_above_the_bound_all_but_the_oldest_pause() -> None:
    """What would go beyond is left with libcurl, not counted and not taken; the oldest may always go on."""
    budget = MemoryBudget(100, PAUSE)
    (old, write_old, _), (young, write_young, taken) = begun(budget, 2)
    assert write_young(b"x" * 60) is None
    assert write_young(b"x" * 41) == PAUSE
    assert (young.is_paused, budget.held_bytes, taken) == (True, 60, [b"x" * 60])
    assert write_old(b"x" * 500) is None
    assert (old.is_paused, budget.held_bytes) == (False, 560)


def test_exactly_the_bound_is_within_it() -> None:
    """A budget of so many bytes has room for so many."""
    budget = MemoryBudget(100, PAUSE)
    _, (_, write, _) = begun(budget, 2)
    assert (write(b"x" * 100), write(b"x")) == (None, PAUSE)


def test_who_was_paused_goes_on_when_there_is_room() -> None:
    """Not at the first free byte: below three quarters, so that it doesn't come and go."""
    budget = MemoryBudget(100, PAUSE)
    _, (first, write_first, _), (second, write_second, _) = begun(budget, 3)
    write_first(b"x" * 100)
    assert write_second(b"x" * 10) == PAUSE
    assert budget.to_resume() == []
    budget.ended(first)
    assert budget.to_resume() == [], "it is whole, and somebody still has to take it"
    budget.release(first)
    assert budget.to_resume() == [second]
    assert not second.is_paused
    assert budget.to_resume() == []
    assert (write_second(b"x" * 10), budget.held_bytes) == (None, 10)


def test_whoever_has_become_the_oldest_goes_on() -> None:
    """Though there is no room: otherwise nobody would ever end."""
    budget = MemoryBudget(100, PAUSE)
    (old, _, _), (young, write_young, _), (_, write_third, _) = begun(budget, 3)
    write_third(b"x" * 100)
    assert (write_young(b"x"), budget.to_resume()) == (PAUSE, [])
    budget.ended(old)
    assert budget.to_resume() == [young]
    assert (write_young(b"x" * 300), budget.held_bytes) == (None, 400)


def test_what_is_whole_is_taken_before_the_oldest_goes_on() -> None:
    """It would be whole itself soon, and so would the next: all would be held together."""
    budget = MemoryBudget(100, PAUSE)
    (first, write_first, _), (second, write_second, _), (third, write_third, _) = begun(budget, 3)
    write_first(b"x" * 60)
    write_second(b"x" * 40)
    budget.ended(first)
    assert (write_second(b"x"), write_third(b"x"), budget.to_resume()) == (PAUSE, PAUSE, [])
    budget.release(first)
    assert budget.to_resume() == [second, third]


def test_the_oldest_goes_on_when_nobody_takes_what_is_whole() -> None:
    """Who should take it may wait for this very transfer; it goes on after a moment without a release."""
    budget = MemoryBudget(100, PAUSE)
    (first, write_first, _), (second, write_second, _), (third, write_third, _) = begun(budget, 3)
    write_first(b"x" * 100)
    budget.ended(first)
    assert (write_second(b"x"), write_third(b"x")) == (PAUSE, PAUSE)
    for now in (5.0, 5.1):
        budget.look(now)
        assert budget.to_resume() == []
    budget.look(5.3)
    assert budget.to_resume() == [second]
    assert (write_second(b"x" * 100), write_third(b"x")) == (None, PAUSE)
    budget.ended(second)
    budget.release(second)
    assert budget.to_resume() == [], "somebody takes: the third waits for the first to be taken"
    budget.look(5.5)
    budget.release(first)
    assert budget.to_resume() == [third]


def test_release_is_counted_once() -> None:
    """An end that is told twice frees nothing that somebody else holds."""
    budget = MemoryBudget(100, PAUSE)
    (one, write_one, _), (_, write_two, _) = begun(budget, 2)
    write_one(b"x" * 30)
    write_two(b"x" * 20)
    for _ in range(3):
        budget.ended(one)
        budget.release(one)
    assert (budget.held_bytes, one.held_bytes) == (20, 0)


def test_a_paused_transfer_that_ends_is_forgotten() -> None:
    """It was aborted while it was paused: nobody tries to have it go on."""
    budget = MemoryBudget(100, PAUSE)
    (old, write_old, _), (young, write_young, _) = begun(budget, 2)
    write_old(b"x" * 100)
    assert write_young(b"x") == PAUSE
    for transfer in (young, old):
        budget.ended(transfer)
        budget.release(transfer)
    assert (budget.to_resume(), budget.held_bytes) == ([], 0)


def test_not_all_go_on_at_once() -> None:
    """Of very many that are paused some go on: all would fill what is free in one go, and be paused again."""
    budget = MemoryBudget(100, PAUSE)
    (old, write_old, _), *others = begun(budget, 51)
    write_old(b"x" * 100)
    assert {write(b"x") for _, write, _ in others} == {PAUSE}
    budget.release(old)
    first = budget.to_resume()
    assert 1 < len(first) < 50
    assert first == [transfer for transfer, _, _ in others[: len(first)]], "those that wait longest"


# With libcurl ----------------------------------------------------------------------------------------------------


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that is told after each piece of a body how much is held."""
    seen: list[int] = []
    plain = MemoryBudget.writer

    def watched(self: MemoryBudget, transfer: Transfer, take: Callable[[bytes], object]) -> Any:
        write = plain(self, transfer, take)

        def writing(chunk: bytes) -> int | None:
            answer = write(chunk)
            seen.append(self.held_bytes)
            return answer

        return writing

    monkeypatch.setattr(MemoryBudget, "writer", watched)
    monkeypatch.setattr(MemoryBudget, "look", lambda *_: None)  # a busy machine isn't a worker that waits
    return seen


def small_budget(**more: Any) -> SessionPool:
    options: dict[str, Any] = {"threads": 4, "in_flight": 32, "timeout": 20, "memory_budget_bytes": BUDGET, **more}
    return SessionPool(transport="curl", retry=False, trust_env=False, **options)


def budget_of(pool: SessionPool) -> Any:
    return pool._shared.engine._loop._budget  # type: ignore[union-attr]


def held(pool: SessionPool) -> int:
    return int(budget_of(pool).held_bytes)


@needs_pycurl
@pytest.mark.parametrize("chunked", [False, True])
def test_many_bodies_are_never_held_together(peaks: list[int], chunked: bool) -> None:
    """Of 60 bodies, 32 at once, no more than the budget and one body is held; all come whole."""
    with SiteServer({"/": Answer(200, {}, [BODY] if chunked else BODY, chunked=chunked)}) as server:
        with small_budget() as pool:
            lengths = [len(one.response.content) for one in pool.map([server.url()] * 60) if one.response is not None]
            assert lengths == [len(BODY)] * 60
            until(lambda: held(pool) == 0)
    assert BUDGET / 2 < max(peaks) <= BUDGET + len(BODY)


@needs_pycurl
def test_threads_of_the_user_share_the_budget(peaks: list[int]) -> None:
    """``pool.get`` from many threads: each takes its body, which counts no more then."""
    with SiteServer({"/": BODY}) as server, small_budget() as pool:
        with Threads() as threads:
            threads.start(lambda: [pool.get(server.url()).content for _ in range(4)], 12)
        until(lambda: held(pool) == 0)
    assert max(peaks) <= BUDGET + len(BODY)


@needs_pycurl
def test_a_body_larger_than_the_budget_comes_all_the_same(peaks: list[int]) -> None:
    """The oldest goes on: a budget slows down, it refuses nothing."""
    large = b"y" * (3 * BUDGET)
    with SiteServer({"/": large}) as server, small_budget() as pool:
        assert {one.response.content for one in pool.map([server.url()] * 4) if one.response} == {large}
        until(lambda: held(pool) == 0)
    assert max(peaks) <= BUDGET + len(large)


@needs_pycurl
@pytest.mark.parametrize("budget", [1, 100_000])
def test_a_budget_smaller_than_a_piece_is_one_body_at_a_time(budget: int) -> None:
    """It is slow, and it comes to its end; the I/O thread doesn't turn in circles meanwhile."""
    with SiteServer({"/": BODY}) as server, small_budget(memory_budget_bytes=budget) as pool:
        begun_s = time.process_time()
        lengths = [len(one.response.content) for one in pool.map([server.url()] * 20) if one.response is not None]
        assert lengths == [len(BODY)] * 20
        assert time.process_time() - begun_s < 5
        until(lambda: held(pool) == 0)


@needs_pycurl
def test_a_paused_transfer_is_not_late() -> None:
    """The read timeout doesn't run for one that waits for room: the oldest takes its time, and both are whole."""
    let, reached = threading.Event(), threading.Event()

    def slow(_: Request) -> Answer:
        def body() -> Iterator[bytes]:
            yield b"o" * BUDGET
            reached.set()
            assert let.wait(PATIENCE_S)
            yield b"o"

        return Answer(200, {}, body(), chunked=True)

    with SiteServer({"/old": slow, "/": BODY * 3}) as server, small_budget() as pool:
        old = pool.submit("GET", server.url("/old"))
        assert reached.wait(PATIENCE_S)
        young = pool.submit("GET", server.url())
        until(lambda: len(budget_of(pool)._paused) == 1)
        [paused] = budget_of(pool)._paused
        with no_patience(paused):
            assert not young.done()
        let.set()
        assert len(old.result(PATIENCE_S).content) == BUDGET + 1
        assert len(young.result(PATIENCE_S).content) == 3 * len(BODY)


@needs_pycurl
def test_what_failed_holds_nothing() -> None:
    """Cut, too large, late, refused, given up: the bytes of each are free again."""
    cut = Answer(200, {"Content-Length": "900000"}, BODY, close=True)

    def dripping(request: Request) -> Answer:
        return Answer(200, {"Content-Length": "900000"}, stalling(request))

    def stalling(_: Request) -> Iterator[bytes]:
        yield BODY
        assert let.wait(PATIENCE_S)

    let = threading.Event()
    with SiteServer({"/cut": cut, "/stalls": dripping, "/": BODY * 3}) as server, small_budget() as pool:
        for _ in range(3):
            with pytest.raises(TruncatedBody):
                pool.get(server.url("/cut"))
            with pytest.raises(BodyTooLarge):
                pool.get(server.url(), max_body_bytes=500_000)
            with pytest.raises(DeadlineExceeded):
                pool.get(server.url("/stalls"), deadline=0.1)
        futures = [pool.submit("GET", server.url("/stalls")) for _ in range(3)]
        until(lambda: held(pool) >= 3 * len(BODY))
        for future in futures:
            future.abort()
        with pytest.raises(TruncatedBody):
            pool.submit("GET", server.url("/cut")).result(PATIENCE_S)
        until(lambda: held(pool) == 0)
        let.set()
        assert len(pool.get(server.url()).content) == 3 * len(BODY)


@needs_pycurl
def test_a_handler_that_waits_for_another_answer_gets_it() -> None:
    """Whole bodies wait for the only worker, which waits in a handler for one more: that one comes."""
    began, lengths, asked = threading.Event(), list[int](), threading.Semaphore(0)

    def site(request: Request) -> bytes:
        if request.path == "/first":  # answered when all others run: later nobody is left to start them
            assert all(asked.acquire(timeout=PATIENCE_S) for _ in range(15))
        elif request.path != "/inner":
            asked.release()
            assert began.wait(PATIENCE_S)
        return BODY

    def ask(result: Result, _: Any) -> None:
        if result.target.url.endswith("/first"):
            began.set()
            until(lambda: budget_of(pool)._paused)
            lengths.append(len(pool.get(server.url("/inner")).content))

    with SiteServer(site) as server, small_budget(threads=1, in_flight=16) as pool:
        seeds = [server.url("/first"), *(server.url(f"/{number}") for number in range(15))]
        report = pool.crawl(seeds, ask, max_body_bytes=None)
    assert (report.settled, lengths) == (16, [len(BODY)])


@needs_pycurl
def test_a_stream_is_outside_the_budget() -> None:
    """Its pipe is bounded by itself; a reader that takes its time stops nobody."""
    with SiteServer({"/": BODY * 10}) as server, small_budget() as pool:
        with pool.get(server.url(), stream=True) as response:
            assert len(pool.get(server.url()).content) == len(BODY) * 10
            assert len(response.content) == len(BODY) * 10


@needs_pycurl
def test_closing_ends_what_is_paused() -> None:
    """Transfers that wait for room end like all others, and nothing is left."""
    with SiteServer({"/": BODY * 8}) as server:
        pool = small_budget(in_flight=8)
        results = pool.map([server.url()] * 40)
        next(results)
        pool.close(cancel=True)
        assert pool.statistics().connections_open == 0
        results.close()
