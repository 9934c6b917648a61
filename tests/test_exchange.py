"""The whole exchange is sent again when that makes sense, under one deadline, with sleeps that a closing pool ends."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from crawlpool import RetryPolicy, SessionPool
from crawlpool.clock import Shutdown
from crawlpool.errors import DeadlineExceeded, PoolClosed, TruncatedBody, UnwantedContentType
from crawlpool.exchange import can_resend
from crawlpool.testing import FAULTS, Answer, FaultServer, SiteServer, in_turn
from tests.kit import HandClock

pytestmark = pytest.mark.transports()

FAST = RetryPolicy(attempts=4, backoff_s=0)


class PosedShutdown(Shutdown):
    """Notes each wait instead of sleeping, and does then what the test says."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.during = during

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.during()
        return self.is_set


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that retries without sleeping; ``pool._shared.shutdown.waits`` has its waits."""
    with SessionPool(retry=FAST, trust_env=False, timeout=10) as pool:
        pool._shared.shutdown = PosedShutdown()
        yield pool


def waits(pool: SessionPool) -> list[float]:
    """Return the waits that were begun."""
    shutdown: Any = pool._shared.shutdown
    return list(shutdown.waits)


def test_a_503_is_followed_by_another_try(pool: SessionPool) -> None:
    """And the success is the answer; the retries are counted."""
    with SiteServer(in_turn(Answer(503), Answer(503), b"fine")) as server:
        assert pool.get(server.url()).text == "fine"
        assert server.request_count == 3
        assert server.connections == 1, "the failed answers were read, so one connection does"
    assert (pool.statistics().requests, pool.statistics().retries) == (1, 2)


def test_a_body_that_was_cut_is_fetched_again(pool: SessionPool) -> None:
    """Reading the body is part of what is tried; the second, whole one is the answer."""
    with FaultServer({"/": in_turn(FAULTS["short_length"], b"whole"), "/cut": FAULTS["short_length"]}) as server:
        assert pool.get(server.url()).text == "whole"
        with pytest.raises(TruncatedBody):
            pool.get(server.url("/cut"))
        assert server.hits("/cut") == 4


def test_a_connection_that_was_closed_is_tried_again(pool: SessionPool) -> None:
    """No answer at all, then one."""
    with FaultServer({"/": in_turn(FAULTS["hang_up"], FAULTS["hang_up"], b"whole")}) as server:
        assert pool.get(server.url()).text == "whole"


def test_a_post_is_sent_once(pool: SessionPool) -> None:
    """It may have done its work: only idempotent methods are sent again, unless the policy says so."""
    with SiteServer({"/": Answer(503)}) as server:
        assert pool.post(server.url(), data=b"x").status_code == 503
        assert server.request_count == 1
        pool.put(server.url(), data=b"x")
        assert server.request_count == 5
        pool.post(server.url(), data=b"x", retry=RetryPolicy(attempts=2, backoff_s=0, methods=None))
        assert server.request_count == 7


def test_the_last_answer_is_returned_when_retries_are_used_up(pool: SessionPool) -> None:
    """As requests does: a 503 is an answer, not an exception; an error is raised as it is."""
    with SiteServer({"/": Answer(503, {}, b"sorry")}) as server:
        response = pool.get(server.url())
        assert (response.status_code, response.text, server.request_count) == (503, "sorry", 4)
    with pytest.raises(requests.ConnectionError):
        pool.get(server.url())
    assert len(waits(pool)) == 6


def test_a_call_may_refuse_retries_or_bring_its_own(pool: SessionPool) -> None:
    """``retry=False``, or a policy for this call alone."""
    with SiteServer({"/": Answer(503)}) as server:
        pool.get(server.url(), retry=False)
        assert server.request_count == 1
        pool.get(server.url(), retry=RetryPolicy(attempts=2, backoff_s=0))
        assert server.request_count == 3


def test_retry_after_is_waited_for(pool: SessionPool) -> None:
    """What the server asks for, capped by the policy."""
    answers = Answer(503, {"Retry-After": "7"}), Answer(429, {"Retry-After": "9999"}), b"fine"
    with SiteServer(in_turn(*answers)) as server:
        assert pool.get(server.url(), deadline=None).text == "fine"
    assert waits(pool) == [7, 120]


def test_a_wait_beyond_the_deadline_is_not_begun(pool: SessionPool) -> None:
    """The answer is returned now; nothing sleeps."""
    with SiteServer({"/": Answer(503, {"Retry-After": "30"})}) as server:
        assert pool.get(server.url(), deadline=20).status_code == 503
        assert server.request_count == 1
    assert waits(pool) == []


def test_shutdown_ends_a_wait(pool: SessionPool) -> None:
    """A pool that closes during a back-off ends the call with PoolClosed; no further leg is sent."""
    shutdown: Any = pool._shared.shutdown
    shutdown.during = shutdown.set
    with SiteServer({"/": Answer(503, {"Retry-After": "7"})}) as server:
        with pytest.raises(PoolClosed):
            pool.get(server.url())
        assert server.request_count == 1


def test_a_deadline_that_is_over_sends_nothing(pool: SessionPool) -> None:
    """Between two hops, for one: the next leg isn't begun."""
    with SiteServer({"/": b"x"}) as server:
        session = pool.session
        clock = pool._shared.clock = HandClock()
        call = session.call(deadline=5)
        clock.tick(5)
        with pytest.raises(DeadlineExceeded):
            session.send(session.prepare_request(requests.Request("GET", server.url())), call=call)
        assert server.request_count == 0


def test_the_deadline_shortens_the_timeouts(pool: SessionPool) -> None:
    """A silent server is given up at the deadline, not at the read timeout; and it isn't tried again."""
    with SiteServer({"/": Answer(delay_s=30)}) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            pool.get(server.url(), deadline=0.2, timeout=(5, 25))
        assert time.monotonic() - started < 20
        assert server.request_count == 1


def test_a_body_is_sent_again_whole(pool: SessionPool) -> None:
    """A file is rewound to where it stood; a generator can't be, so its request is sent once."""
    with SiteServer(in_turn(Answer(503), Answer(200))) as server:
        file = io.BytesIO(b"head body")
        file.seek(5)
        assert pool.put(server.url(), data=file).status_code == 200
        assert [one.body for one in server.requests] == [b"body", b"body"]
    with SiteServer(in_turn(Answer(503), Answer(200))) as server:
        assert pool.put(server.url(), data=iter([b"body"])).status_code == 503
        assert server.request_count == 1


@pytest.mark.parametrize(
    ("data", "can"), [(None, True), (b"x", True), ("x", True), (io.BytesIO(b"x"), True), (iter([b"x"]), False)]
)
def test_what_can_be_sent_again(data: Any, can: bool) -> None:
    """Bytes, text and files that seek; not a generator."""
    assert can_resend(requests.Request("PUT", "http://h.example/", data=data).prepare()) is can


def test_each_retry_is_logged_without_secrets(pool: SessionPool, caplog: pytest.LogCaptureFixture) -> None:
    """What failed, which try it was, how long the wait is; then that it was given up. No userinfo."""
    with SiteServer({"/": Answer(503)}) as server, caplog.at_level("INFO", "crawlpool"):
        pool.get(server.url().replace("//", "//user:secret@"), retry=RetryPolicy(attempts=2, backoff_s=0))
    assert caplog.messages == ["retry scheduled", "retry refused"]
    assert [record.cause for record in caplog.records] == ["status 503"] * 2  # type: ignore[attr-defined]
    assert all("secret" not in str(vars(record)) for record in caplog.records)
    assert caplog.records[1].reason == "attempts"  # type: ignore[attr-defined]


def test_a_whole_crawl_of_failures_is_not_asked_four_times() -> None:
    """The budget: at most a fifth of the requests, and a reserve of ten."""
    with SiteServer({"/": Answer(503)}) as server:
        with SessionPool(retry=RetryPolicy(attempts=4, backoff_s=0), trust_env=False) as pool:
            for _ in range(50):
                pool.get(server.url())
        assert server.request_count == 50 + 10 + 10


def test_an_exception_of_a_hook_is_the_users(pool: SessionPool) -> None:
    """It isn't retried and comes out as it is; the connection isn't used again."""

    def fail(response: requests.Response, **_: Any) -> None:
        raise KeyError("mine")

    with SiteServer({"/": b"x"}) as server:
        with pytest.raises(KeyError, match="mine"):
            pool.get(server.url(), hooks={"response": fail})
        assert server.request_count == 1
        assert pool.get(server.url()).text == "x"


def test_an_interrupt_is_never_retried(pool: SessionPool) -> None:
    """KeyboardInterrupt gets out at once, and the session goes on."""

    def interrupt(response: requests.Response, **_: Any) -> None:
        raise KeyboardInterrupt

    with SiteServer({"/": b"x"}) as server:
        with pytest.raises(KeyboardInterrupt):
            pool.get(server.url(), hooks={"response": interrupt})
        assert server.request_count == 1
        assert pool.get(server.url()).text == "x"


def test_an_answer_may_be_refused_before_its_body_is_read(pool: SessionPool) -> None:
    """``accept`` raises: the body isn't read, the connection not used again, and nothing is retried."""

    def accept(response: requests.Response) -> None:
        raise UnwantedContentType(f"{response.headers['content-type']} was not asked for")

    with SiteServer({"/": Answer(200, {"Content-Type": "video/mp4"}, b"x" * 1_000_000)}) as server:
        session = pool.session
        prepared = session.prepare_request(requests.Request("GET", server.url()))
        with pytest.raises(UnwantedContentType, match="video/mp4"):
            session.send(prepared, call=session.call(accept=accept))
        assert server.request_count == 1
        assert pool.statistics().connections_open == 0
