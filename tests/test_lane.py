"""The lanes: what goes by the pool's I/O thread, what goes the blocking way, and in which order it comes back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import requests

from crawlpool.clock import Deadline
from crawlpool.lane import BlockingLane, EngineLane
from crawlpool.transport.base import Exchange
from crawlpool.transport.inbox import Inbox
from crawlpool.transport.lifeline import Lifeline


class Posed:
    """A session, its adapter and its engine in one, as far as a lane looks at them; nothing is sent."""

    def __init__(self) -> None:
        self.lifeline = Lifeline()
        self.engine = self
        self.submitted: list[list[Any]] = []
        self.blocking: list[Exchange] = []
        self.disposed = 0
        self.goes_by_engine = True
        self.pumps = False
        self.raises: dict[str, BaseException] = {}

    # the session

    def send_leg(self, exchange: Exchange) -> requests.Response:
        self._raise("send_leg")
        self.blocking.append(exchange)
        return requests.Response()

    def engine_adapter(self, exchange: Exchange) -> Any:
        return self if self.goes_by_engine else None

    def finish(self, exchange: Exchange, response: requests.Response) -> requests.Response:
        self._raise("finish")
        return response

    def dispose(self) -> None:
        self.disposed += 1

    # the adapter

    def must_pump(self, exchange: Exchange) -> bool:
        return self.pumps

    def transfer_for(self, exchange: Exchange, inbox: Inbox) -> Transfer:
        self._raise("transfer_for")
        return Transfer(exchange, self, inbox)

    def answer(self, transfer: Transfer) -> requests.Response:
        self._raise("answer")
        return transfer.response

    # the engine

    def submit(self, transfers: list[Any]) -> None:
        self.submitted.append(transfers)

    def _raise(self, where: str) -> None:
        if where in self.raises:
            raise self.raises[where]


class Transfer:
    """What an adapter makes of an exchange; ``end`` delivers it as the I/O thread would."""

    def __init__(self, exchange: Exchange, adapter: Posed, inbox: Inbox) -> None:
        self.exchange, self.adapter, self._inbox = exchange, adapter, inbox
        self.is_quick = exchange.is_quick
        self.timings: tuple[float, ...] = (0.25, 0.0, 0.0, 0.5, 1.0)
        self.response = requests.Response()
        exchange.end = self.cancel

    def cancel(self) -> None:
        """Stand for what ends a transfer; it knows the exchange, and the exchange it."""

    def end(self) -> None:
        self._inbox.deliver([self])


numbers = itertools.count()


def exchange(*, is_quick: bool = True) -> Exchange:
    request = requests.PreparedRequest()
    request.prepare_url(f"http://h.example/{next(numbers)}", None)
    return Exchange(request, {}, Deadline(None), is_quick=is_quick)


@pytest.fixture
def session() -> Posed:
    return Posed()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(lambda: None)


@pytest.fixture
def lane(session: Posed, inbox: Inbox) -> EngineLane:
    return EngineLane(session, inbox)


def by_engine(lane: EngineLane, session: Posed, *ones: Exchange) -> list[Transfer]:
    """Start exchanges, send them off, and return their transfers."""
    for one in ones:
        lane.start(one)
    assert lane.completed() == []
    return session.submitted[-1]


def test_a_blocking_lane_has_room_for_one(session: Posed) -> None:
    """Starting is fetching; until what has ended is taken there is room for nothing, and there is never news."""
    lane, one = BlockingLane(session), exchange()
    assert (lane.room(), lane.has_news(), lane.completed()) == (1, False, [])
    lane.start(one)
    assert (lane.room(), lane.has_news()) == (0, False)
    (completion,) = lane.completed()
    lane.settled()
    assert (completion.exchange, completion.error, lane.room()) == (one, None, 1)
    assert completion.response is not None


def test_what_a_blocking_lane_sends_may_fail(session: Posed) -> None:
    """An error is the exchange's completion; what is no ``Exception`` gets out, and the caller settles it."""
    lane = BlockingLane(session)
    session.raises["send_leg"] = ValueError("v")
    lane.start(exchange())
    assert lane.completed()[0].error is session.raises["send_leg"]
    session.raises["send_leg"] = SystemExit("s")
    with pytest.raises(SystemExit):
        lane.start(exchange())
    assert lane.completed() == []


def test_a_session_that_was_shut_during_a_leg_is_disposed_of(session: Posed) -> None:
    """Its own thread does it, when the leg has ended."""
    lane = BlockingLane(session)
    send = session.send_leg

    def shut(one: Exchange) -> requests.Response:
        session.lifeline.shut()
        assert session.disposed == 0
        return send(one)

    session.send_leg = shut  # type: ignore[method-assign, assignment]
    lane.start(exchange())
    assert session.disposed == 1


def test_what_was_started_goes_off_in_one_go(lane: EngineLane, session: Posed) -> None:
    """``start`` gathers, ``completed`` hands it to the I/O thread, once; nothing is sent by the worker itself."""
    ones = [exchange() for _ in range(3)]
    assert lane.room() >= 3
    for one in ones:
        lane.start(one)
    assert session.submitted == []
    assert lane.completed() == lane.completed() == []
    assert [[transfer.exchange for transfer in batch] for batch in session.submitted] == [ones]
    assert session.blocking == []


def test_what_has_ended_is_finished_by_whoever_takes_it(lane: EngineLane, session: Posed, inbox: Inbox) -> None:
    """A lane gives out what another one started; the time is from the look-up of the name to the last byte."""
    one = exchange()
    (transfer,) = by_engine(lane, session, one)
    other = EngineLane(session, inbox)
    assert not other.has_news()
    transfer.end()
    assert other.has_news()
    (completion,) = other.completed()
    assert (completion.exchange, completion.response, completion.error) == (one, transfer.response, None)
    assert completion.elapsed_s == 1.25
    assert lane.completed() == []


def test_a_transfer_that_was_never_begun_took_no_time(lane: EngineLane, session: Posed) -> None:
    """One that the engine refused has no moments at all."""
    (transfer,) = by_engine(lane, session, exchange())
    transfer.timings = ()
    transfer.end()
    assert lane.completed()[0].elapsed_s == 0.0


def test_exchange_and_transfer_do_not_keep_each_other(lane: EngineLane, session: Posed) -> None:
    """What ended can't be ended any more, and isn't left to the garbage collector."""
    one = exchange()
    (transfer,) = by_engine(lane, session, one)
    assert one.end == transfer.cancel
    transfer.end()
    lane.completed()
    assert one.end is None


@pytest.mark.parametrize("why", ["no adapter", "a body to be read"])
def test_what_the_io_thread_cannot_have_goes_the_blocking_way(lane: EngineLane, session: Posed, why: str) -> None:
    """For a mock, an adapter of the user's, or a body that a thread must read, starting is fetching."""
    session.goes_by_engine, session.pumps = why != "no adapter", why == "a body to be read"
    one = exchange()
    lane.start(one)
    assert session.blocking == [one]
    (completion,) = lane.completed()
    assert (completion.exchange, completion.error) == (one, None)
    assert session.submitted == []


def test_what_was_started_does_not_wait_for_what_blocks(lane: EngineLane, session: Posed) -> None:
    """It goes off before the worker is gone with the other one."""
    one = exchange()
    lane.start(one)
    session.goes_by_engine = False
    submitted: list[int] = []
    send = session.send_leg
    session.send_leg = lambda other: submitted.append(len(session.submitted)) or send(other)  # type: ignore
    lane.start(exchange())
    assert submitted == [1]
    assert [transfer.exchange for transfer in session.submitted[0]] == [one]


def test_its_own_done_goes_first(lane: EngineLane, session: Posed) -> None:
    """What went the blocking way is given out before the I/O thread's are taken: those are for who is free."""
    (transfer,) = by_engine(lane, session, exchange())
    transfer.end()
    session.goes_by_engine = False
    own = exchange()
    lane.start(own)
    assert [completion.exchange for completion in lane.completed()] == [own]
    assert lane.has_news()
    assert [completion.exchange for completion in lane.completed()] == [transfer.exchange]


def test_what_cannot_be_started_is_done(lane: EngineLane, session: Posed) -> None:
    """An exchange without a transfer, as for a proxy that is none, has its completion, and the others go off."""
    good = exchange()
    lane.start(good)
    session.raises["transfer_for"] = requests.exceptions.InvalidProxyURL("no proxy")
    lane.start(exchange())
    (completion,) = lane.completed()
    assert completion.error is session.raises["transfer_for"]
    assert [transfer.exchange for transfer in session.submitted[0]] == [good]


def test_sending_off_takes_nothing_of_the_io_threads(lane: EngineLane, session: Posed) -> None:
    """It gives out what has ended without the I/O thread, which calls this itself."""
    (transfer,) = by_engine(lane, session, exchange())
    transfer.end()
    session.raises["transfer_for"] = ValueError("v")
    lane.start(exchange())
    (completion,) = lane.send_off()
    assert completion.error is session.raises["transfer_for"]
    assert lane.send_off() == []
    assert lane.has_news()


@pytest.mark.parametrize("where", ["answer", "finish"])
@pytest.mark.parametrize(
    "error", [requests.ConnectionError("c"), ValueError("v"), SystemExit("s"), KeyboardInterrupt()]
)
def test_whatever_finishing_raises_is_the_completion(
    lane: EngineLane, session: Posed, where: str, error: BaseException
) -> None:
    """A failed transfer, a body that can't be decoded, a hook that raises anything: none of it reaches the worker."""
    transfers = by_engine(lane, session, exchange(), exchange())
    session.raises[where] = error
    for transfer in transfers:
        transfer.end()
    assert [(one.error, one.response) for one in lane.completed()] == [(error, None)] * 2


def test_who_took_quick_ones_attends_until_they_are_settled(lane: EngineLane, session: Posed, inbox: Inbox) -> None:
    """Between ``completed`` and ``settled`` no other worker is called for the quick ones."""
    inbox._most_attendants = 1
    first, second = by_engine(lane, session, exchange(), exchange())
    other = EngineLane(session, inbox)
    first.end()
    assert len(lane.completed()) == 1
    second.end()
    assert not other.has_news()
    other.settled()  # it attends to nothing
    assert not other.has_news()
    lane.settled()
    assert other.has_news()
    lane.settled()
    assert inbox._attendants == 0


def test_slow_ones_come_one_by_one(lane: EngineLane, session: Posed) -> None:
    """Whose finishing may run a user's code is given out alone; another worker may have the next meanwhile."""
    slow = by_engine(lane, session, exchange(is_quick=False), exchange(is_quick=False))
    for transfer in slow:
        transfer.end()
    assert [completion.exchange for completion in lane.completed()] == [slow[0].exchange]
    assert lane.has_news()
