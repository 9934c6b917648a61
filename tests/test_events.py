"""Event records go through structlog to stdlib loggers, and a library configures nothing globally."""

from __future__ import annotations

import logging

import pytest
import structlog

from crawlpool.events import RetriesLeftToAdapter, RetryRefused, RetryScheduled, emit, logger


def test_an_event_is_its_name_in_words_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """The application's handlers see the event and each field, unit included."""
    event = RetryScheduled("http://h.example/", "GET", 2, 1.5, "status 503")
    with caplog.at_level("INFO", "crawlpool"):
        emit(logger("retry"), "info", event)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("crawlpool.retry", "INFO", "retry scheduled")
    assert (record.attempt, record.delay_s, record.cause) == (2, 1.5, "status 503")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (RetryRefused("http://h.example/", "GET", 4, "attempts", "timeout"), "retry refused"),
        (RetriesLeftToAdapter("https://old.example", "LegacyAdapter"), "retries left to adapter"),
    ],
)
def test_each_event_has_its_words(event: object, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The class name tells the event."""
    with caplog.at_level("INFO", "crawlpool"):
        emit(logger("session"), "info", event)
    assert caplog.messages == [name]


def test_a_level_that_nobody_wants_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Below the logger's level no record is made."""
    with caplog.at_level("WARNING", "crawlpool"):
        emit(logger("retry"), "info", RetryRefused("http://h.example/", "GET", 1, "method", "timeout"))
    assert caplog.records == []


def test_structlog_is_not_configured_by_us() -> None:
    """Importing and logging leaves the application's structlog configuration alone."""
    before = structlog.get_config()
    emit(logger("retry"), "info", RetryRefused("http://h.example/", "GET", 1, "method", "timeout"))
    assert not structlog.is_configured()
    assert structlog.get_config() == before


def test_the_root_logger_of_ours_has_a_null_handler() -> None:
    """An application without logging sees no 'no handlers' output."""
    handlers = logging.getLogger("crawlpool").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
