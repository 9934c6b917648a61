"""Tests of crawlpool.retry.policy: what is retried, when, and for what reason not."""

import dataclasses
import errno
import http.client
import math
import random
import socket
import ssl

import pytest
import requests
import requests.exceptions as rex
import urllib3.exceptions as u3
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import errors
from crawlpool.clock import Deadline
from crawlpool.retry import Attempt, GiveUp, Retry, RetryBudget, RetryPolicy, parse_statuses

PLAIN = RetryPolicy(jitter=False)


class HandClock:
    """A clock that stands where it was put."""

    def __init__(self, monotonic=1000.0, wall=784111777.0):
        self.now = monotonic
        self.wall_now = wall

    def monotonic(self):
        return self.now

    def wall(self):
        return self.wall_now


def answer(status, **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def decide(policy=PLAIN, *, number=1, method="GET", deadline_s=None, budget=None, clock=None, **what):
    clock = clock or HandClock()
    return policy.decide(Attempt(number, method, **what), Deadline(deadline_s, clock), budget, clock)


def wrapped(error):
    """Wrap an error as urllib3 and requests do when a connection can't be made."""
    return rex.ConnectionError(u3.MaxRetryError(None, "/", error))


def unresolved(code):
    error = u3.NameResolutionError("host.invalid", None, socket.gaierror(code, "no"))
    error.__cause__ = socket.gaierror(code, "no")
    return wrapped(error)


TRANSIENT = [
    wrapped(u3.NewConnectionError(None, "refused")),
    rex.ConnectionError(u3.ProtocolError("aborted", ConnectionResetError(errno.ECONNRESET, "reset"))),
    rex.ConnectionError(u3.ProtocolError("aborted", http.client.RemoteDisconnected("closed"))),
    unresolved(socket.EAI_AGAIN),
    rex.ConnectTimeout(),
    rex.ReadTimeout(),
    rex.ChunkedEncodingError(),
    rex.ContentDecodingError(),
    rex.ProxyError(),
    errors.TruncatedBody("cut"),
    errors.UndecodableBody("garbled"),
    rex.SSLError(u3.MaxRetryError(None, "/", u3.SSLError(ssl.SSLEOFError(8, "EOF in violation of protocol")))),
]
FINAL = [
    rex.SSLError(u3.MaxRetryError(None, "/", u3.SSLError(ssl.SSLCertVerificationError(1, "expired")))),
    rex.SSLError("no"),
    unresolved(socket.EAI_NONAME),
    rex.InvalidURL(),
    rex.InvalidSchema(),
    rex.MissingSchema(),
    rex.InvalidProxyURL(),
    rex.InvalidHeader(),
    rex.TooManyRedirects(),
    rex.UnrewindableBodyError(),
    rex.HTTPError("without an answer"),
    rex.RequestException(),
    errors.BodyTooLarge("big"),
    errors.UnwantedContentType("pdf"),
    errors.DeadlineExceeded("over"),
    errors.Cancelled("stop"),
    errors.PoolClosed("closed"),
    ConnectionResetError(),
    TimeoutError(),
    ValueError(),
    u3.ProtocolError("raw"),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda e: f"{type(e).__name__}-{e.args}"[:60])
def test_transient_errors_are_retried(error):
    """What the same request may get over is sent again."""
    assert decide(error=error) == Retry(0.5)


@pytest.mark.parametrize("error", FINAL, ids=lambda e: f"{type(e).__name__}-{e.args}"[:60])
def test_other_errors_stand(error):
    """What would come out the same, what the caller limits, and what isn't about requests is never sent again."""
    assert decide(error=error) == GiveUp("not_transient")


@pytest.mark.parametrize("status", sorted(range(100, 600)))
def test_just_the_failing_statuses_are_retried(status):
    """429, 500, 502, 503 and 504 are failures; is_failure and decide agree on each status."""
    assert PLAIN.is_failure(status) is (status in {429, 500, 502, 503, 504})
    expected = Retry(0.5) if PLAIN.is_failure(status) else GiveUp("not_transient")
    assert decide(response=answer(status)) == expected


def test_an_error_of_raise_for_status_counts_by_its_status():
    """A response hook that calls raise_for_status() changes nothing: 503 is retried as it says, 404 is not."""
    busy, gone = answer(503, Retry_After="9"), answer(404)
    assert decide(error=rex.HTTPError("503", response=busy)) == Retry(9)
    assert decide(error=rex.HTTPError("404", response=gone)) == GiveUp("not_transient")


@pytest.mark.parametrize("method", ["GET", "head", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_idempotent_methods_are_retried(method):
    """The idempotent methods of RFC 9110 9.2.2 may be sent twice, in whatever case they are written."""
    assert decide(method=method, response=answer(503)) == Retry(0.5)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "PURGE"])
def test_other_methods_are_retried_only_when_told(method):
    """A method that may do harm twice isn't retried, unless the caller names it or allows all."""
    assert decide(method=method, response=answer(503)) == GiveUp("method")
    assert decide(RetryPolicy(jitter=False, methods=None), method=method, response=answer(503)) == Retry(0.5)
    named = RetryPolicy(jitter=False, methods={method.lower()})
    assert decide(named, method=method, response=answer(503)) == Retry(0.5)
    assert decide(named, method="GET", response=answer(503)) == GiveUp("method")


def test_a_body_that_cant_be_sent_again_is_not():
    """A used-up generator as the request's body ends the attempts."""
    assert decide(method="PUT", response=answer(503), can_resend=False) == GiveUp("body")


def test_attempts_count_all_legs():
    """With four attempts the third failure is retried and the fourth stands."""
    decisions = [decide(number=n, response=answer(503)) for n in (1, 2, 3, 4)]
    assert decisions == [Retry(0.5), Retry(1.0), Retry(2.0), GiveUp("attempts")]


def test_backoff_doubles_to_its_cap():
    """The wait doubles from backoff_s and stays at max_backoff_s, however many legs there were."""
    policy = RetryPolicy(attempts=10**9, backoff_s=1, max_backoff_s=5, jitter=False)
    waits = [decide(policy, number=n, response=answer(503)).delay_s for n in (1, 2, 3, 4, 10**6)]
    assert waits == [1, 2, 4, 5, 5]


def test_jitter_is_full_and_spreads():
    """By default each wait lies anywhere between 0 and the back-off."""
    random.seed(7)
    waits = [decide(RetryPolicy(), number=3, response=answer(503)).delay_s for _ in range(300)]
    assert all(0 <= wait <= 2 for wait in waits)
    assert min(waits) < 0.2 and max(waits) > 1.8


def test_jitter_can_be_drawn_by_the_caller():
    """An injected draw gets the bounds and gives the wait."""
    drawn = []
    policy = RetryPolicy(jitter=lambda low, high: drawn.append((low, high)) or high / 4)
    assert decide(policy, number=2, response=answer(503)) == Retry(0.25)
    assert drawn == [(0.0, 1.0)]


def test_retry_after_replaces_a_shorter_backoff():
    """The server isn't asked earlier than it said, nor earlier than our own back-off."""
    assert decide(response=answer(429, Retry_After="7")) == Retry(7)
    assert decide(number=3, response=answer(429, Retry_After="1")) == Retry(2)
    assert decide(response=answer(503, Retry_After="Sun, 06 Nov 1994 08:49:47 GMT")) == Retry(10)
    assert decide(response=answer(503, Retry_After="1"), retry_after="8") == Retry(8)


@pytest.mark.parametrize("value", ["soon", "-1", "", "١٢"])
def test_junk_in_retry_after_leaves_the_backoff(value):
    """A Retry-After that says nothing changes nothing."""
    assert decide(response=answer(503, Retry_After=value)) == Retry(0.5)


def test_retry_after_is_capped():
    """A server can't park a request for longer than max_retry_after_s."""
    assert decide(response=answer(503, Retry_After="9" * 400)) == Retry(120)
    assert decide(RetryPolicy(jitter=False, max_retry_after_s=3), response=answer(503, Retry_After="60")) == Retry(3)


def test_retry_after_can_be_disregarded():
    """With respect_retry_after=False the back-off alone counts."""
    policy = RetryPolicy(jitter=False, respect_retry_after=False)
    assert decide(policy, response=answer(503, Retry_After="60")) == Retry(0.5)


def test_a_wait_that_reaches_the_deadline_isnt_begun():
    """If the deadline comes first, or at the same moment, the failure stands at once."""
    assert decide(response=answer(503, Retry_After="10"), deadline_s=10) == GiveUp("deadline")
    assert decide(response=answer(503, Retry_After="10"), deadline_s=10.001) == Retry(10)
    assert decide(response=answer(503), deadline_s=0.4) == GiveUp("deadline")
    late = Attempt(1, "GET", response=answer(503))
    assert PLAIN.decide(late, None, None, HandClock()) == Retry(0.5)


def test_a_token_is_taken_only_by_a_retry():
    """Every refusal leaves the budget untouched; a retry takes one token; an empty budget refuses."""
    budget = RetryBudget(0, reserve=1)
    busy = answer(503)
    decide(error=ValueError(), budget=budget)
    decide(method="POST", response=busy, budget=budget)
    decide(response=busy, can_resend=False, budget=budget)
    decide(number=4, response=busy, budget=budget)
    decide(response=busy, deadline_s=0.1, budget=budget)
    assert (budget.retries, budget.refused) == (0, 0)
    assert decide(response=busy, budget=budget) == Retry(0.5)
    assert decide(response=busy, budget=budget) == GiveUp("retry_budget")
    assert (budget.retries, budget.refused) == (1, 1)


def test_never_lets_each_failure_stand():
    """RetryPolicy.never() neither counts a status as a failure nor retries an error."""
    never = RetryPolicy.never()
    assert never.is_never and not never.is_failure(503) and not never.asks_every_response
    assert decide(never, error=rex.ConnectionError()) == GiveUp("attempts")
    assert not PLAIN.is_never


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("attempts", 2.0),
        ("attempts", True),
        ("backoff_s", -1),
        ("backoff_s", math.nan),
        ("max_backoff_s", math.inf),
        ("max_retry_after_s", "60"),
        ("jitter", None),
        ("jitter", 0.5),
        ("statuses", "429"),
        ("statuses", {"429"}),
        ("statuses", {42}),
        ("statuses", 503),
        ("methods", "POST"),
        ("methods", {""}),
        ("methods", {None}),
        ("methods", 3),
    ],
)
def test_settings_that_cant_be_are_refused(name, value):
    """A bad setting is a ConfigError that names it and its value."""
    with pytest.raises(errors.ConfigError) as caught:
        RetryPolicy(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: ")


def test_policies_are_values():
    """A policy is frozen, equal to one like it, hashable, and can be derived."""
    assert RetryPolicy(statuses=[503, 503], methods=["get"]) == RetryPolicy(statuses={503}, methods={"GET"})
    assert hash(RetryPolicy()) == hash(RetryPolicy())
    assert dataclasses.replace(PLAIN, attempts=2).attempts == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.attempts = 2


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("429", {429}),
        ("429, 503", {429, 503}),
        ("5xx", set(range(500, 600))),
        ("429,5XX", {429, *range(500, 600)}),
        ("50x", set(range(500, 510))),
    ],
)
def test_statuses_are_parsed(text, statuses):
    """A list of statuses may use x for any digit."""
    assert parse_statuses(text) == statuses
    assert RetryPolicy(statuses=parse_statuses(text)).statuses == statuses


@pytest.mark.parametrize("text", ["", "429,", "abc", "5x", "5x3", "xxx", "099", "42\uff19", "500-599", "4290"])
def test_what_is_no_status_is_refused(text):
    """The error names the text that was given."""
    with pytest.raises(errors.ConfigError, match="is no status"):
        parse_statuses(text)


@given(
    st.integers(1, 10**6),
    st.sampled_from([*TRANSIENT, *FINAL]),
    st.none() | st.text(max_size=20) | st.integers(0, 10**30).map(str),
    st.floats(0.001, 1e6),
)
def test_a_retry_always_fits(number, error, retry_after, deadline_s):
    """Whatever happens, a retry is within the attempts, its wait is not negative and ends before the deadline."""
    decision = decide(RetryPolicy(), number=number, error=error, retry_after=retry_after, deadline_s=deadline_s)
    if isinstance(decision, Retry):
        assert number < 4 and 0 <= decision.delay_s < deadline_s and decision.delay_s <= 120
