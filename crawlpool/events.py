"""The event records that crawlpool logs, and the loggers that they go to."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any

from crawlpool.redactor import SECRET_WORDS, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

_STDLIB = logging.getLogger("crawlpool")
_STDLIB.addHandler(logging.NullHandler())

# What the loggers take secrets out with. Replaced as a whole: whoever logs reads it without a lock.
_redactor = Redactor()
# What each line of a thread carries beside its own fields: where many shards are open at once, which one it is about.
_carried: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("crawlpool_carried", default=None)


def carry(fields: Mapping[str, Any] | None) -> None:
    """Have what the calling thread logs from now on carry fields; a line that has one of that name keeps its own.

    Args:
        fields: by their names; ``None`` for none any more.

    Thread-safe: each thread, and each context of ``contextvars``, has its own.
    """
    _carried.set(fields)


def with_carried(log: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put in what the calling thread's lines carry; a structlog processor."""
    fields = _carried.get()
    return event if fields is None else {**fields, **event}


def redact_keys(words: Iterable[str] = SECRET_WORDS) -> frozenset[str]:
    """Set which query keys look secret in the library's log lines; return the words that did before.

    It holds for the whole process, as logging does.

    Args:
        words: as ``Redactor`` takes them. Without any, all queries are logged as they are.

    Raises:
        ConfigError: for what is no words; nothing is changed then.

    Thread-safe.
    """
    global _redactor
    before, _redactor = _redactor, Redactor(words)
    return before.keys


def _redacted(log: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return _redactor(log, method, event)


def logger(name: str) -> Any:
    """Return a structlog logger over the stdlib logger ``crawlpool.<name>``.

    It renders ``event key=value …`` by itself and touches no global structlog configuration: an application sees
    crawlpool's lines through its own stdlib handlers. Thread-safe.
    """
    return _Logger(name)


class _Logger:
    """A structlog logger that is made when it has something to say: to import structlog takes a tenth of a second."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        try:
            return getattr(_wrapped(self._name), method)
        except (ImportError, OSError):  # no descriptor is left to import it with: just what is to be told now
            return getattr(_Bare(logging.getLogger(f"crawlpool.{self._name}")), method)


class _Bare:
    """Says without structlog what structlog would hand to the stdlib logger."""

    def __init__(self, stdlib: logging.Logger) -> None:
        self._stdlib = stdlib

    def __getattr__(self, method: str) -> Any:
        def say(event: str, **fields: Any) -> None:
            given = {name: fields.pop(name) for name in ("exc_info", "stack_info") if name in fields}
            getattr(self._stdlib, method)(event, extra=with_carried(None, method, fields), **given)

        return say


@functools.cache
def _wrapped(name: str) -> Any:
    import structlog  # where no file can be opened, this raises, and isn't kept

    return structlog.wrap_logger(
        logging.getLogger(f"crawlpool.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            with_carried,
            _redacted,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@dataclasses.dataclass(frozen=True)
class RetryScheduled:
    """A leg failed and will be sent again.

    ``cause`` is an error's kind or ``status 503``; ``delay_s`` is how long the leg waits first.
    """

    url: str
    method: str
    attempt: int
    delay_s: float
    cause: str


@dataclasses.dataclass(frozen=True)
class RetryRefused:
    """A leg failed in a way that is worth a retry, yet isn't sent again; ``reason`` says why."""

    url: str
    method: str
    attempt: int
    reason: str
    cause: str


@dataclasses.dataclass(frozen=True)
class RetriesLeftToAdapter:
    """An adapter that retries by itself was mounted; the pool doesn't retry under its ``prefix``."""

    prefix: str
    adapter: str


@dataclasses.dataclass(frozen=True)
class RobotsRedirectBlocked:
    """A robots.txt redirects to an address that must not be reached: it counts as none, and the origin is asked.

    ``host`` is where it leads, ``address`` what that is (``None`` for a loopback name).
    """

    origin: str
    host: str
    address: str | None


@dataclasses.dataclass(frozen=True)
class TargetSettled:
    """A target has its outcome; ``error`` is the kind of error that ended it, ``status`` that of its last answer."""

    url: str
    outcome: str
    reason: str | None
    status: int | None
    error: str | None
    attempts: int


@dataclasses.dataclass(frozen=True)
class LegEnded:
    """A request of a run has ended: what ``crawlpool audit`` judges. Made by ``crawlpool.evidence`` alone.

    ``start_s`` and ``end_s`` are seconds of the process's monotonic clock, ``started_at`` is the time of the start.
    ``how`` is a ``crawlpool.politeness.How``; ``known_s`` is when a refusal had been told to everybody. ``delay_s``
    (with a ``Crawl-delay`` taken in), ``per_host`` (``None``: any number) and ``max_cooldown_s`` are the limits that
    held for this request, all three ``None`` where none did; ``address`` is the one for which they held as well, with
    ``address_delay_s`` and ``address_per_host``, all ``None`` where they held for the host alone. ``lifted_s`` is when
    an operator last released the host: no refusal from before counts; ``None`` where nobody did.
    """

    url: str
    host: str
    start_s: float
    end_s: float
    started_at: str
    how: str
    status: int | None
    retry_after_s: float | None
    known_s: float | None
    delay_s: float | None
    per_host: int | None
    max_cooldown_s: float | None
    address: str | None = None
    address_delay_s: float | None = None
    address_per_host: int | None = None
    lifted_s: float | None = None


@dataclasses.dataclass(frozen=True)
class HostOrdered:
    """An operator has said something of a host.

    ``action`` is ``hold``, ``release``, ``skip`` or ``delay``; ``delay_s`` is the delay that they gave to the host now,
    ``waiting`` how many of its targets wait.
    """

    host: str
    action: str
    delay_s: float | None
    waiting: int


#: What is said, by what ``Frontier.news`` calls it.
_NEWS = {
    "held": "host held: nearly all of its last answers say that it doesn't want us",
    "given up": "host given up: it could not be reached for long",
    "outage": "outage: no host can be reached any more; all wait, and one is tried every 10 seconds",
    "outage over": "outage over: hosts are reached again",
    "shortage": "no file descriptor is left: what needs a connection waits, and is tried again (see ulimit -n)",
    "proxy rests": "proxy rests: it fails; for a minute its hosts go by the others, then one request tries it",
    "proxy back": "proxy back: a request came through; its hosts go by it again",
}


def tell(log: Any, event: str, whose: str, more: Mapping[str, Any] | None = None) -> None:
    """Log a piece of the frontier's news, of a host or a proxy or of neither, as a warning; ``more`` are fields."""
    fields = {"proxy" if event.startswith("proxy") else "host": whose} if whose else {}
    log.warning(_NEWS[event], **fields, **(more or {}))


def emit(log: Any, level: str, event: object, more: Mapping[str, Any] | None = None) -> None:
    """Log an event record: its class name in words as the event, its fields, and ``more``, as key and value."""
    name = "".join(f" {c.lower()}" if c.isupper() else c for c in type(event).__name__).strip()
    getattr(log, level)(name, **dataclasses.asdict(event), **(more or {}))  # type: ignore[call-overload]
