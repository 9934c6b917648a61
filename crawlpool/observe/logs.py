"""The library's log lines on stderr, for a command: structlog's rendering, on stdlib handlers."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from crawlpool.escape import printable
from crawlpool.events import redact_keys, with_carried
from crawlpool.redact import one_line
from crawlpool.redactor import SECRET_WORDS, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    from crawlpool.observe.telling import Telling

LONGEST_VALUE = 1000
_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_OWN = ("crawlpool", "py.warnings")
_CHATTY = ("urllib3",)
_JSON_TYPES = (str, int, float, list, tuple, dict)


class TellingHandler(logging.Handler):
    """Hands log lines to a ``Telling``. Thread-safe; a line that can't be rendered is told as such and never raises."""

    def __init__(self, telling: Telling, *, has_tracebacks: bool = True, keys: Iterable[str] = SECRET_WORDS) -> None:
        super().__init__()
        self._telling = telling
        self._redactor = Redactor(keys)
        self._has_tracebacks = has_tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; what renders is made for the first one, as most runs have none."""
        if self.formatter is None:
            self.setFormatter(_formatter(self._telling, self._redactor, has_tracebacks=self._has_tracebacks))
        return super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Render and tell one record."""
        try:
            line = self.format(record)
        except Exception as error:  # a value whose repr raises must not put a traceback on the terminal
            line = f"a log line of {record.name} can't be shown: {type(error).__name__}"
        self._telling.rendered(line)


@contextlib.contextmanager
def logs_to(telling: Telling, verbosity: int = 0, keys: Iterable[str] = SECRET_WORDS) -> Iterator[None]:
    """Have the log lines of crawlpool, and Python's warnings, told within this block; restore logging after it.

    Args:
        telling: where to; it says whether as text or JSON.
        verbosity: 0 for warnings and errors, 1 for what happens to single requests, 2 for all, with tracebacks, and
            urllib3's lines. A quiet ``telling`` gets errors only.
        keys: which query keys look secret; as ``Redactor`` takes them.

    Raises:
        ConfigError: for keys that are no words.
    """
    keys = frozenset(keys)
    level = logging.ERROR if telling.is_quiet else _LEVELS.get(verbosity, logging.DEBUG)
    handler = TellingHandler(telling, has_tracebacks=verbosity >= 2, keys=keys)
    names = _OWN + (_CHATTY if level == logging.DEBUG else ())
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.propagate) for logger in loggers]
    keys_before = redact_keys(keys)
    logging.captureWarnings(True)
    for logger in loggers:
        logger.setLevel(level)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        redact_keys(keys_before)
        for logger, (old_level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            logger.propagate = propagate


def _formatter(telling: Telling, redactor: Redactor, *, has_tracebacks: bool) -> logging.Formatter:
    """Return the formatter; tracebacks are plain ones, as richer ones would show the values of variables."""
    import structlog  # here: it takes a tenth of a second, and most runs have nothing to log

    if telling.is_json:
        renderer: Any = structlog.processors.JSONRenderer(default=printable)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=telling.is_terminal, exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            with_carried,
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_tracebacks if not has_tracebacks else structlog.processors.format_exc_info,
            _as_texts,
            redactor,
            _shortened,
            renderer,
        ],
    )


def _without_tracebacks(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what an exception says in place of its traceback."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else None
    if error is not None:
        event["error"] = f"{type(error).__name__}: {error}"
    event.pop("stack_info", None)
    return event


def _as_texts(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put its ``repr`` in place of each value that is neither text nor made of what JSON can say."""
    for key, value in event.items():
        if not (value is None or isinstance(value, _JSON_TYPES)):
            event[key] = printable(value)
    return event


def _shortened(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make each value one line of bounded length, but for a traceback; all is harmless by now."""
    for key, value in event.items():
        if isinstance(value, str) and key not in ("exception", "stack"):
            event[key] = one_line(value, LONGEST_VALUE)
    return event
