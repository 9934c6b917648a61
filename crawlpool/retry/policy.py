"""When a failed leg is sent again, and after what wait: tenacity's strategies, asked only after a failure."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import math
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import requests.exceptions as rex
import tenacity

from crawlpool.clock import SYSTEM_CLOCK
from crawlpool.config import check, is_count, is_seconds
from crawlpool.errors import Cancelled, ConfigError, DeadlineExceeded, PoolClosed, causes
from crawlpool.retry.budget import RetryBudget
from crawlpool.retry.retry_after import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.clock import Clock, Deadline

#: Methods that may be sent twice without harm (RFC 9110 9.2.2).
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})

#: Why a leg isn't sent again. ``attempts`` is said for the user's own ``stop`` too.
Reason: TypeAlias = Literal["not_transient", "method", "body", "attempts", "deadline", "retry_budget"]

_TRANSIENT = (rex.ConnectionError, rex.Timeout, rex.ChunkedEncodingError, rex.ContentDecodingError)
# What closing, aborting or the end of a deadline has ended stays ended. Beside these, no strategy may retry what is
# no Exception: tenacity's retry_if_not_exception_type says yes to KeyboardInterrupt.
_ENDED = (Cancelled, PoolClosed)
_NO_SUCH_NAME = {code for name in ("EAI_NONAME", "EAI_NODATA") if (code := getattr(socket, name, None)) is not None}


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may well succeed after ``error``.

    So are connections refused, reset or cut, timeouts, names that can't be resolved at the moment, proxies that
    fail, bodies truncated or garbled. Not so: certificates and other faults of TLS (but a peer that hangs up in the
    middle of it), names that don't exist, URLs that can't be, too many redirects, limits of the caller's, a deadline
    that is over, and whatever is no ``requests.RequestException``.
    """
    if not isinstance(error, _TRANSIENT) or isinstance(error, DeadlineExceeded):
        return False
    if isinstance(error, rex.SSLError):
        return any(isinstance(one, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) for one in causes(error))
    return not any(isinstance(one, socket.gaierror) and one.errno in _NO_SUCH_NAME for one in causes(error))


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One leg that failed, or one answer that the user's ``retry`` strategy shall judge.

    Args:
        number: the ordinal of the leg among those of its request, from 1.
        method: the HTTP method.
        response: the answer, when there was one.
        error: the exception, when there was one; it counts over ``response``.
        elapsed_s: seconds since the first leg began, waits included.
        waited_s: how much of that was waiting.
        retry_after: the value of Retry-After; taken from the answer when it isn't given.
        can_resend: whether the request's body can be sent once more.
    """

    number: int
    method: str
    response: Any = None
    error: BaseException | None = None
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    retry_after: str | None = None
    can_resend: bool = True

    @property
    def answer(self) -> Any:
        """The response; for an exception such as ``requests.HTTPError``, the one that it carries; or ``None``."""
        return self.response if self.response is not None else getattr(self.error, "response", None)


@dataclasses.dataclass(frozen=True)
class Retry:
    """Send the leg again after ``delay_s`` seconds."""

    delay_s: float


@dataclasses.dataclass(frozen=True)
class GiveUp:
    """Let the failure stand."""

    reason: Reason


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """When a failed leg is sent again. The whole exchange counts as the leg, reading the body included.

    Args:
        attempts: how many legs there are at most, the first included.
        backoff_s: the first wait in seconds; it doubles each time.
        max_backoff_s: the longest wait in seconds that isn't asked for by the server.
        jitter: ``True`` draws each wait between 0 and the back-off, so that clients don't come back in step; ``False``
            waits the back-off itself; a callable ``(low, high) -> float`` draws instead of ``random.uniform``.
        statuses: the answers that count as failures; see ``parse_statuses``.
        methods: the methods that may be sent twice; ``None`` for any.
        respect_retry_after: whether the server's Retry-After lengthens the wait (RFC 9110 10.2.3).
        max_retry_after_s: the cap in seconds on what Retry-After may ask for.
        budget: retries of a pool as a part of its requests; ``None`` for no bound.
        budget_reserve: retries that a pool has beyond that part.
        stop, wait, retry: tenacity strategies in place of ours: ``stop`` replaces ``attempts``; ``wait`` the back-off
            and its jitter; ``retry`` the choice of exceptions and statuses. They see a ``RetryCallState`` without the
            function and its arguments. ``retry`` is asked about every answer, for it may judge results.

    Raises:
        ConfigError: for a value that can't be.

    Thread-safe as far as the caller's own strategies are: it is immutable.
    """

    attempts: int = 4
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    jitter: bool | Callable[[float, float], float] = True
    statuses: frozenset[int] = RETRY_STATUSES
    methods: frozenset[str] | None = IDEMPOTENT_METHODS
    respect_retry_after: bool = True
    max_retry_after_s: float = 120.0
    budget: float | None = 0.2
    budget_reserve: int = 10
    stop: Callable[[tenacity.RetryCallState], bool] | None = None
    wait: Callable[[tenacity.RetryCallState], float] | None = None
    retry: Callable[[tenacity.RetryCallState], bool] | None = None

    def __post_init__(self) -> None:
        check(is_count(self.attempts), "attempts", self.attempts, "a whole number of at least 1; 1 is no retry")
        for name in ("backoff_s", "max_backoff_s", "max_retry_after_s"):
            value = getattr(self, name)
            check(is_seconds(value, zero=True), name, value, "a number of seconds, 0 or more")
        check(
            isinstance(self.jitter, bool) or _is_strategy(self.jitter),
            "jitter",
            self.jitter,
            "True, False or a callable",
        )
        for name in ("stop", "wait", "retry"):
            value = getattr(self, name)
            check(
                value is None or _is_strategy(value), name, value, "a tenacity strategy (made, not its class) or None"
            )
        statuses = _as_set(self.statuses)
        check(
            statuses is not None and all(is_count(s, 100) and s <= 999 for s in statuses),
            "statuses",
            self.statuses,
            "a set of whole numbers, 100 to 999; parse_statuses() makes one of a text such as '429,5xx'",
        )
        object.__setattr__(self, "statuses", statuses)
        if self.methods is not None:
            methods = _as_set(self.methods)
            check(
                methods is not None and all(isinstance(m, str) and m for m in methods),
                "methods",
                self.methods,
                "a set of words such as {'GET', 'POST'}, or None for any method",
            )
            object.__setattr__(self, "methods", frozenset(str(m).upper() for m in methods or ()))
        check(
            self.budget is None or is_seconds(self.budget, zero=True),
            "budget",
            self.budget,
            "retries for each request, a number of 0 or more, or None for no bound",
        )
        check(is_count(self.budget_reserve, 0), "budget_reserve", self.budget_reserve, "a whole number, 0 or more")

    @classmethod
    def never(cls) -> RetryPolicy:
        """Return a policy under which every failure stands."""
        return cls(attempts=1, statuses=frozenset())

    @classmethod
    def given(cls, retry: RetryPolicy | bool | None) -> RetryPolicy | None:
        """Return the policy that a caller's ``retry=`` means; ``None`` for what holds anyway (``None``, ``True``).

        Raises:
            ConfigError: when it is neither a policy nor a bool.
        """
        if retry is None or retry is True:
            return None
        check(retry is False or isinstance(retry, RetryPolicy), "retry", retry, "a RetryPolicy, or False for none")
        return cls.never() if retry is False else retry

    @property
    def is_never(self) -> bool:
        """Whether no leg is ever sent again."""
        return self.attempts == 1 and self.stop is None

    @property
    def asks_every_response(self) -> bool:
        """Whether ``decide`` must be asked about successful answers too: the user's ``retry`` may judge results."""
        return self.retry is not None and not self.is_never

    def is_failure(self, status: int) -> bool:
        """Tell whether an answer with ``status`` counts as a failure; this is the check for each request's hot path."""
        return status in self.statuses

    def new_budget(self) -> RetryBudget:
        """Return a fresh budget as this policy sets it, for one pool."""
        return RetryBudget(self.budget, self.budget_reserve)

    def decide(
        self, attempt: Attempt, deadline: Deadline | None, budget: RetryBudget | None, clock: Clock = SYSTEM_CLOCK
    ) -> Retry | GiveUp:
        """Decide about a failed leg; nothing sleeps here.

        Call it after an exception, after a status that ``is_failure``, and after every answer under
        ``asks_every_response``. ``GiveUp("not_transient")`` about an answer means that it is the result.

        Args:
            attempt: what happened.
            deadline: the deadline of the whole call; a wait that would reach it isn't begun.
            budget: the pool's; a token is taken if, and only if, the answer is ``Retry``.
            clock: where time comes from.

        Raises:
            Exception: whatever the user's own strategies raise.

        Thread-safe; no lock is held while the user's strategies run.
        """
        error = attempt.error
        if error is not None and (not isinstance(error, Exception) or isinstance(error, _ENDED)):
            return GiveUp("not_transient")
        state, asked = self._state(attempt, clock)
        # tenacity promises that TryAgain, raised by a response hook for one, is retried whatever the strategy.
        if not (isinstance(error, tenacity.TryAgain) or asked.retry(state)):
            return GiveUp("not_transient")
        if self.methods is not None and attempt.method.upper() not in self.methods:
            return GiveUp("method")
        if not attempt.can_resend:
            return GiveUp("body")
        delay_s = self._delay_s(float(asked.wait(state)), attempt, clock)
        state.upcoming_sleep = delay_s  # stop_before_delay reads it
        if asked.stop(state):
            return GiveUp("attempts")
        if delay_s >= (math.inf if deadline is None else deadline.remaining_s()):
            return GiveUp("deadline")
        if budget is not None and not budget.withdraw():
            return GiveUp("retry_budget")
        return Retry(delay_s)

    def _delay_s(self, backoff_s: float, attempt: Attempt, clock: Clock) -> float:
        backoff_s = max(0.0, backoff_s)  # of a strategy's NaN this makes 0
        if not self.respect_retry_after:
            return backoff_s
        value = attempt.retry_after
        if value is None and attempt.answer is not None:
            value = attempt.answer.headers.get("Retry-After")
        asked_s = retry_after_s(value, clock.wall())
        return backoff_s if asked_s is None else max(backoff_s, min(asked_s, self.max_retry_after_s))

    def _state(self, attempt: Attempt, clock: Clock) -> tuple[tenacity.RetryCallState, tenacity.BaseRetrying]:
        """Return what tenacity's strategies look at, and the strategies."""
        asked = tenacity.Retrying(
            stop=self.stop or tenacity.stop_after_attempt(self.attempts),
            wait=self.wait or self._backoff(),
            retry=self.retry or self._fails,
        )
        state = tenacity.RetryCallState(asked, None, (), {})
        failed = attempt.error is not None
        state.attempt_number = attempt.number
        state.outcome = tenacity.Future.construct(attempt.number, attempt.error if failed else attempt.response, failed)
        # tenacity would take both times from time.monotonic() whatever the clock, and the start as of now.
        state.outcome_timestamp = clock.monotonic()
        state.start_time = state.outcome_timestamp - attempt.elapsed_s
        state.idle_for = attempt.waited_s
        return state, asked

    def _backoff(self) -> Callable[[tenacity.RetryCallState], float]:
        kind = tenacity.wait_random_exponential if self.jitter is True else tenacity.wait_exponential
        backoff = kind(multiplier=self.backoff_s, max=self.max_backoff_s)
        draw = self.jitter
        if isinstance(draw, bool):
            return backoff
        return lambda state: draw(0.0, backoff(state))

    def _fails(self, state: tenacity.RetryCallState) -> bool:
        """Tell, as a tenacity strategy, whether the outcome is one to retry."""
        outcome = state.outcome
        assert outcome is not None  # _state() set it
        error = outcome.exception()
        if error is None:
            return self.is_failure(outcome.result().status_code)
        # raise_for_status() in a response hook is common: the status counts, as it would without the hook.
        answer = error.response if isinstance(error, rex.HTTPError) else None
        return is_transient(error) if answer is None else self.is_failure(answer.status_code)


def parse_statuses(text: str) -> frozenset[int]:
    """Return the statuses of a list such as ``429,5xx``; an ``x`` stands for any digit.

    Raises:
        ConfigError: for a part that is no status; the message names it.
    """
    found: set[int] = set()
    for part in text.split(","):
        word = part.strip().lower()
        if not re.fullmatch("[1-9](?:xx|[0-9](?:x|[0-9]))", word):
            raise ConfigError(f"statuses={text!r}: {part.strip()!r} is no status such as 429, 50x or 5xx")
        low, high = int(word.replace("x", "0")), int(word.replace("x", "9"))
        found.update(range(low, high + 1))
    return frozenset(found)


def _as_set(values: object) -> frozenset[Any] | None:
    """Return ``values`` as a frozenset; ``None`` for a text, which is no set of words, and for what isn't iterable."""
    if isinstance(values, (str, bytes)) or not isinstance(values, collections.abc.Iterable):
        return None
    return frozenset(values)


def _is_strategy(value: object) -> bool:
    """Tell whether ``value`` can be called as a strategy: the class of one can't, nor can an asynchronous one."""
    if isinstance(value, type) or not callable(value):
        return False
    return not (inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__))
