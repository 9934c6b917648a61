"""The bound on a pool's retries: a token bucket that its requests fill."""

from __future__ import annotations

import fractions
import math
import threading

from crawlpool.config import check, is_count, is_seconds


class RetryBudget:
    """A token bucket that bounds the retries of a pool, so that a failing server isn't asked four times as often.

    Each request puts ``ratio`` tokens in, each retry takes one out, and ``reserve`` of them are there from the start:
    at any time, retries <= ratio * requests + reserve. Tokens of more than the last 10,000 requests aren't saved up, so
    that a long healthy crawl isn't followed by a storm of retries.

    Args:
        ratio: tokens for each request, 0 or more; ``None`` for as many retries as asked for.
        reserve: tokens at the start, a whole number.

    Raises:
        ConfigError: for a value that can't be.

    Thread-safe.
    """

    SAVED_REQUESTS = 10_000
    _UNIT = 1_000_000  # tokens are whole millionths: sums of floats would drift over 10**9 requests

    def __init__(self, ratio: float | None, reserve: int = 10) -> None:
        check(ratio is None or is_seconds(ratio, zero=True), "ratio", ratio, "a number of 0 or more, or None")
        check(is_count(reserve, 0), "reserve", reserve, "a whole number, 0 or more")
        self.ratio = ratio
        self.reserve = reserve
        # Rounded down, from the decimal that the caller wrote: 1.001 * 10**6 as floats is less than 1,001,000.
        self._per_request = 0 if ratio is None else int(fractions.Fraction(str(ratio)) * self._UNIT)
        self._most = reserve * self._UNIT + self._per_request * self.SAVED_REQUESTS
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # guards _tokens, _requests, _retries, _refused
        self._tokens = self.reserve * self._UNIT
        self._requests = 0
        self._retries = 0
        self._refused = 0

    def _reset_after_fork(self) -> None:
        """Begin afresh in a forked child: another thread may have held the lock, half-way through, when it was made."""
        self._begin()

    def deposit(self, n: int = 1) -> None:
        """Count ``n`` requests that begin; their retries and redirects are not counted."""
        with self._lock:
            self._requests += n
            self._tokens = min(self._tokens + n * self._per_request, self._most)

    def withdraw(self) -> bool:
        """Take the token of one retry; return whether there was one."""
        with self._lock:
            granted = self.ratio is None or self._tokens >= self._UNIT
            if not granted:
                self._refused += 1
                return False
            self._retries += 1
            if self.ratio is not None:
                self._tokens -= self._UNIT
            return True

    @property
    def requests(self) -> int:
        """Requests counted so far."""
        with self._lock:
            return self._requests

    @property
    def retries(self) -> int:
        """Retries granted so far."""
        with self._lock:
            return self._retries

    @property
    def refused(self) -> int:
        """Retries refused so far."""
        with self._lock:
            return self._refused

    @property
    def available(self) -> float:
        """Retries that would be granted now; infinity without a ratio."""
        with self._lock:
            return math.inf if self.ratio is None else self._tokens // self._UNIT

    def __repr__(self) -> str:
        return f"<RetryBudget {self.available} available, {self.retries} retries of {self.requests} requests>"
