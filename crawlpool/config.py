"""Frozen settings, checked when they are made; their names carry their units."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from urllib3.exceptions import LocationParseError
from urllib3.util import Timeout, parse_url

from crawlpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What requests takes as a timeout: one number for both phases, or (connect, read), in seconds; None waits for ever.
TimeoutValue: TypeAlias = "float | tuple[float | None, float | None] | None"

DEFAULT_TIMEOUT: tuple[float, float] = (5.0, 30.0)
DEFAULT_DEADLINE_S = 60.0
DEFAULT_THREADS = 16
TRANSPORTS = ("urllib3", "curl")
HTTP_VERSIONS = ("1.1", "2")
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
CRAWL_MAX_BODY_BYTES = 32 * 1024 * 1024


def check(condition: bool, name: str, value: object, rule: str) -> None:
    """Raise ``ConfigError`` naming the setting, its value and the rule unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{name}={value!r}: {rule}")


def is_count(value: object, least: int = 1) -> bool:
    """Tell whether ``value`` is a whole number of at least ``least`` (a bool is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_seconds(value: object, *, zero: bool = False) -> bool:
    """Tell whether ``value`` is a finite number of seconds, positive or, with ``zero``, not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return value >= 0 if zero else value > 0


def check_deadline(deadline_s: object) -> None:
    """Raise ``ConfigError`` unless ``deadline_s`` is a positive number of seconds or ``None``."""
    rule = "a positive number of seconds, or None for none"
    check(deadline_s is None or is_seconds(deadline_s), "deadline", deadline_s, rule)


def check_cap(max_body_bytes: object) -> None:
    """Raise ``ConfigError`` unless ``max_body_bytes`` is a number of bytes or ``None``."""
    rule = "a whole number of bytes of at least 1, or None for no cap"
    check(max_body_bytes is None or is_count(max_body_bytes), "max_body_bytes", max_body_bytes, rule)


def proxy_url(given: str) -> str | None:
    """Return the URL of a proxy, ``http`` where it has no scheme; ``None`` for what can't be one."""
    url = given if "://" in given else f"http://{given}"
    try:
        parts = parse_url(url)
    except LocationParseError:
        return None
    is_proxy = parts.scheme in PROXY_SCHEMES and parts.host and (parts.path or "/") == "/" and not parts.query
    return url if is_proxy else None


def split_timeout(timeout: Any) -> tuple[float | None, float | None]:
    """Return (connect, read) seconds for any form of timeout that requests takes.

    Raises:
        ConfigError: for anything else; it is a ``ValueError``, as requests' own is.
    """
    if timeout is None or isinstance(timeout, (int, float)):
        pair: tuple[Any, ...] = (timeout, timeout)
    elif isinstance(timeout, tuple) and len(timeout) == 2:
        pair = timeout
    elif isinstance(timeout, Timeout):
        # Its read_timeout can't be asked before it was started. Where it has a total, that bounds each phase here.
        phases = (timeout._connect, timeout._read)
        pair = tuple(_least(phase, timeout.total) for phase in phases)
    else:
        raise ConfigError(
            f"Invalid timeout {timeout!r}. Pass a (connect, read) timeout tuple, or a single float to set both "
            "timeouts to the same value; each must be an int, float or None."
        )
    for part in pair:
        check(part is None or is_seconds(part), "timeout", timeout, "each part is a positive number of seconds or None")
    return pair


def _least(*seconds: Any) -> float | None:
    return min((s for s in seconds if isinstance(s, (int, float))), default=None)


@dataclasses.dataclass(frozen=True)
class PoolSettings:
    """What is fixed for the life of a pool; everything that may change lives in the pool's defaults.

    Args:
        threads: workers of ``submit``, ``map`` and ``crawl``.
        deadline_s: wall-clock seconds that one call may take, all in all; ``None`` for no deadline.
        max_body_bytes: cap on a decoded body; ``None`` for none.
        idle_connections: open connections that a session keeps at most, least recently used out first.
        queue_size: targets that may wait before ``submit`` blocks; ``None`` for four for each thread.
        trust_env: whether proxies, netrc and CA settings are taken from the environment (once, when the pool is made).
        resolve: addresses to connect to instead of asking DNS, by (host, port).
        transport: ``"urllib3"`` or ``"curl"``.
        in_flight: transfers that may run at once over all workers, by the curl transport; ``None`` for one a worker.
        http: HTTP version of the curl transport: ``"1.1"`` or ``"2"``.
        memory_budget_bytes: bytes of bodies that all transfers of the curl transport may hold together; ``None`` for
            any number.
        rate: requests that the workers start in a second at most, all hosts together; ``None`` for any number.

    Raises:
        ConfigError: for a value that can't be.
    """

    threads: int = DEFAULT_THREADS
    deadline_s: float | None = DEFAULT_DEADLINE_S
    max_body_bytes: int | None = None
    idle_connections: int = 32
    queue_size: int | None = None
    trust_env: bool = True
    resolve: Mapping[tuple[str, int], str] = dataclasses.field(default_factory=dict)
    transport: str = "urllib3"
    in_flight: int | None = None
    http: str = "1.1"
    memory_budget_bytes: int | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        check(self.transport in TRANSPORTS, "transport", self.transport, "urllib3 or curl")
        check(self.http in HTTP_VERSIONS, "http", self.http, '"1.1" or "2"')
        check(self.http == "1.1" or self.is_curl, "http", self.http, "HTTP/2 needs transport='curl'")
        rule = "a whole number, 1 to 100000, or None for one a thread"
        check(
            self.in_flight is None or (is_count(self.in_flight) and self.in_flight <= 100_000),
            "in_flight",
            self.in_flight,
            rule,
        )
        budget = self.memory_budget_bytes
        check(
            budget is None or is_count(budget), "memory_budget_bytes", budget, "a whole number of at least 1, or None"
        )
        check(budget is None or self.is_curl, "memory_budget_bytes", budget, "a budget needs transport='curl'")
        check(is_count(self.threads) and self.threads <= 4096, "threads", self.threads, "a whole number, 1 to 4096")
        check(
            self.is_curl or self.in_flight is None or self.in_flight <= self.threads,
            "in_flight",
            self.in_flight,
            "more than one for each of the threads needs transport='curl'",
        )
        rule = "requests a second, a number above 0, or None for no limit"
        check(self.rate is None or is_seconds(self.rate), "rate", self.rate, rule)
        check_deadline(self.deadline_s)
        check_cap(self.max_body_bytes)
        check(is_count(self.idle_connections), "idle_connections", self.idle_connections, "a whole number, at least 1")
        check(
            self.queue_size is None or is_count(self.queue_size),
            "queue_size",
            self.queue_size,
            "a whole number of at least 1, or None",
        )

    @property
    def is_curl(self) -> bool:
        """Whether libcurl moves the bytes."""
        return self.transport == "curl"

    @property
    def running_at_most(self) -> int:
        """How many requests of ``submit``, ``map`` and ``crawl`` may run at once: what the transport allows."""
        return (self.in_flight or self.threads) if self.is_curl else self.threads

    @property
    def queue_room(self) -> int:
        """How many targets may wait for a worker."""
        return self.queue_size if self.queue_size is not None else max(4 * self.threads, min(self.running_at_most, 256))

    @property
    def connections(self) -> int:
        """How many connections the curl transport keeps open at most, over all threads."""
        return max(self.running_at_most, self.threads * self.idle_connections)
