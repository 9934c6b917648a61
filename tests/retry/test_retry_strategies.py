"""Tests of crawlpool.retry.policy with the user's own tenacity strategies."""

import threading

import pytest
import requests
import requests.exceptions as rex
import tenacity

from crawlpool.clock import Deadline
from crawlpool.errors import Cancelled, ConfigError, DeadlineExceeded, PoolClosed
from crawlpool.retry import Attempt, GiveUp, Retry, RetryPolicy


class HandClock:
    """A clock far from the machine's own, so that a time of the machine's can't pass for one of it."""

    def monotonic(self):
        return 5e8

    def wall(self):
        return 784111777.0


def answer(status, retry_after=None):
    response = requests.Response()
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = retry_after
    return response


def decide(*, number=1, elapsed_s=0.0, waited_s=0.0, response=None, error=None, deadline_s=None, **settings):
    clock = HandClock()
    policy = RetryPolicy(**{"jitter": False, **settings})
    if response is None and error is None:
        error = rex.ConnectionError("reset")
    attempt = Attempt(number, "GET", response, error, elapsed_s, waited_s)
    return policy.decide(attempt, Deadline(deadline_s, clock), None, clock)


STOPPED = GiveUp("attempts")
FINAL = GiveUp("not_transient")


def test_stop_after_attempt_replaces_attempts():
    """The user's stop counts, not our attempts."""
    stop = tenacity.stop_after_attempt(6)
    assert isinstance(decide(number=5, stop=stop), Retry)
    assert decide(number=6, stop=stop) == STOPPED
    assert isinstance(decide(number=99, stop=tenacity.stop_never), Retry)


def test_stop_after_delay_goes_by_the_time_since_the_first_leg():
    """The time that the strategy sees is the injected clock's, from the first leg on."""
    stop = tenacity.stop_after_delay(10)
    assert isinstance(decide(elapsed_s=9.9, stop=stop), Retry)
    assert decide(elapsed_s=10, stop=stop) == STOPPED


def test_stop_before_delay_counts_the_wait_to_come():
    """The strategy sees the wait that would follow, Retry-After included."""
    stop = tenacity.stop_before_delay(10)
    wait = tenacity.wait_fixed(2)
    assert decide(elapsed_s=7.9, stop=stop, wait=wait) == Retry(2)
    assert decide(elapsed_s=8, stop=stop, wait=wait) == STOPPED
    assert decide(elapsed_s=3, stop=stop, wait=wait, response=answer(503, "7")) == STOPPED


def test_stops_combine():
    """Any and all of several stops work, and so does an event."""
    either = tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(5)
    both = tenacity.stop_after_attempt(3) & tenacity.stop_after_delay(5)
    assert decide(number=3, stop=either) == STOPPED
    assert isinstance(decide(number=3, stop=both), Retry)
    assert decide(number=3, elapsed_s=5, stop=both) == STOPPED
    event = threading.Event()
    assert isinstance(decide(stop=tenacity.stop_when_event_set(event)), Retry)
    event.set()
    assert decide(stop=tenacity.stop_when_event_set(event)) == STOPPED


@pytest.mark.parametrize(
    ("wait", "waits"),
    [
        (tenacity.wait_none(), [0, 0, 0]),
        (tenacity.wait_fixed(3), [3, 3, 3]),
        (tenacity.wait_exponential(multiplier=2, max=5), [2, 4, 5]),
        (tenacity.wait_incrementing(start=1, increment=10), [1, 11, 21]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(7)), [1, 7, 7]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (lambda state: state.attempt_number * 2, [2, 4, 6]),
        (lambda state: -1, [0, 0, 0]),
        (lambda state: float("nan"), [0, 0, 0]),
    ],
)
def test_waits_replace_the_backoff(wait, waits):
    """Each wait of tenacity, and any callable, decides the delay; a senseless number is no wait."""
    assert [decide(number=n, wait=wait).delay_s for n in (1, 2, 3)] == waits


@pytest.mark.skipif(not hasattr(tenacity, "wait_exception"), reason="this tenacity has no wait_exception")
def test_wait_exception_sees_the_error():
    """The wait may be computed from the very exception."""
    assert decide(wait=tenacity.wait_exception(lambda error: len(str(error)))) == Retry(5)


@pytest.mark.parametrize(
    ("wait", "low", "high"),
    [
        (tenacity.wait_random(2, 4), 2, 4),
        (tenacity.wait_random_exponential(multiplier=1, max=8), 0, 2),
        (tenacity.wait_exponential_jitter(jitter=3), 2, 5),
    ],
)
def test_random_waits_stay_in_their_bounds(wait, low, high):
    """The random waits of tenacity see the right attempt."""
    waits = [decide(number=2, wait=wait).delay_s for _ in range(50)]
    assert all(low <= delay <= high for delay in waits) and len(set(waits)) > 1


def test_retry_after_lengthens_the_users_wait_too():
    """A server's Retry-After counts over a shorter wait of the user's, unless it is switched off."""
    wait = tenacity.wait_fixed(1)
    assert decide(wait=wait, response=answer(503, "6")) == Retry(6)
    assert decide(wait=wait, response=answer(503, "6"), respect_retry_after=False) == Retry(1)


def test_a_wait_without_end_is_refused():
    """An infinite wait never begins, with a deadline or without."""
    assert decide(wait=lambda state: float("inf")) == GiveUp("deadline")
    assert decide(wait=lambda state: float("inf"), deadline_s=5) == GiveUp("deadline")


def test_retry_if_exception_type_replaces_our_choice():
    """The user's exceptions are retried, and ours no longer."""
    retry = tenacity.retry_if_exception_type(ValueError)
    assert isinstance(decide(retry=retry, error=ValueError()), Retry)
    assert decide(retry=retry, error=rex.ConnectionError()) == FINAL
    assert decide(retry=retry, response=answer(503)) == FINAL


def test_retry_if_result_judges_answers():
    """A strategy over results is asked about each answer, the successful ones included."""
    retry = tenacity.retry_if_result(lambda response: response.status_code == 202)
    assert RetryPolicy(retry=retry).asks_every_response
    assert isinstance(decide(retry=retry, response=answer(202)), Retry)
    assert decide(retry=retry, response=answer(503)) == FINAL
    assert decide(retry=retry) == FINAL
    assert not RetryPolicy().asks_every_response
    assert not RetryPolicy(retry=retry, attempts=1).asks_every_response


def test_retries_combine():
    """Any, all, not, message and cause strategies work on our state."""
    either = tenacity.retry_if_exception_type(OSError) | tenacity.retry_if_result(lambda r: r.status_code == 404)
    assert isinstance(decide(retry=either, error=OSError()), Retry)
    assert isinstance(decide(retry=either, response=answer(404)), Retry)
    assert decide(retry=either, response=answer(200)) == FINAL
    both = tenacity.retry_all(
        tenacity.retry_if_exception_type(OSError), tenacity.retry_if_exception_message(match="lost")
    )
    assert isinstance(decide(retry=both, error=OSError("lost it")), Retry)
    assert decide(retry=both, error=OSError("kept it")) == FINAL
    assert decide(retry=tenacity.retry_if_not_result(lambda r: r.ok), response=answer(200)) == FINAL
    caused = ValueError()
    caused.__cause__ = KeyError()
    assert isinstance(decide(retry=tenacity.retry_if_exception_cause_type(KeyError), error=caused), Retry)
    assert decide(retry=tenacity.retry_never) == FINAL


def test_try_again_is_always_retried():
    """tenacity.TryAgain, raised by a response hook, keeps its promise under any strategy, within the attempts."""
    assert decide(error=tenacity.TryAgain()) == Retry(0.5)
    assert decide(error=tenacity.TryAgain(), retry=tenacity.retry_never) == Retry(0.5)
    assert decide(error=tenacity.TryAgain(), number=4) == STOPPED


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), Cancelled("stop"), PoolClosed("closed")]
)
@pytest.mark.parametrize(
    "retry", [tenacity.retry_always, tenacity.retry_if_not_exception_type(ValueError)], ids=["always", "if_not"]
)
def test_some_errors_no_strategy_can_retry(error, retry):
    """Exceptions that end the program, and what was cancelled or closed, stand though the user's strategy says yes."""
    assert decide(error=error, retry=retry) == FINAL


def test_the_deadline_of_the_call_holds_against_the_user():
    """A user's strategy may retry DeadlineExceeded of a leg, but not past the deadline that decide is given."""
    assert isinstance(decide(error=DeadlineExceeded("leg"), retry=tenacity.retry_always), Retry)
    assert decide(error=DeadlineExceeded("call"), retry=tenacity.retry_always, deadline_s=0) == GiveUp("deadline")


def test_the_state_is_tenacitys_own():
    """A callable sees attempt, outcome, times and waits as tenacity documents them, and no function or arguments."""
    seen = []
    error = rex.ReadTimeout("slow")
    decide(number=2, elapsed_s=7, waited_s=3, error=error, stop=lambda state: seen.append(state) or False)
    (state,) = seen
    assert isinstance(state, tenacity.RetryCallState)
    assert (state.fn, state.args, state.kwargs) == (None, (), {})
    assert (state.attempt_number, state.outcome.attempt_number) == (2, 2)
    assert state.outcome.failed and state.outcome.exception() is error
    assert (state.outcome_timestamp, state.start_time, state.seconds_since_start) == (5e8, 5e8 - 7, 7)
    assert (state.idle_for, state.upcoming_sleep) == (3, 1.0)
    assert "slow" in repr(state)


def test_what_a_strategy_raises_comes_out():
    """An exception of the user's own strategy isn't hidden."""

    def broken(state):
        raise ZeroDivisionError

    for name in ("stop", "wait", "retry"):
        with pytest.raises(ZeroDivisionError):
            decide(**{name: broken})


async def _asynchronous(state):
    """Stand for a strategy of tenacity.asyncio."""


@pytest.mark.parametrize("name", ["stop", "wait", "retry"])
@pytest.mark.parametrize("value", [tenacity.stop_after_attempt, 3, "always", _asynchronous, True])
def test_what_is_no_strategy_is_refused(name, value):
    """The class instead of a strategy, a number, or a coroutine function is a ConfigError that names the setting."""
    with pytest.raises(ConfigError, match=f"^{name}="):
        RetryPolicy(**{name: value})


def test_asynchronous_strategies_are_refused():
    """A strategy of tenacity.asyncio would return a coroutine, which is true."""
    from tenacity.asyncio.retry import retry_if_result

    with pytest.raises(ConfigError, match=r"^retry="):
        RetryPolicy(retry=retry_if_result(_asynchronous))
