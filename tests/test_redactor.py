"""What a log doesn't tell: the values of query keys that look secret, and logins in URLs; all else it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError
from crawlpool.events import RetryScheduled, emit, logger
from crawlpool.observe import SECRET_WORDS, Redactor, redact_keys

SECRET = "s3cr3t"
values = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="%/:.-_~+!*()?="), min_size=1)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Give what the library logs."""
    with caplog.at_level(logging.DEBUG, "crawlpool"):
        yield caplog


@pytest.mark.parametrize(
    "name",
    [
        *("token", "key", "sig", "TOKEN", "access_token", "accessToken", "X-Amz-Signature", "X-Goog-Credential"),
        *("api_key", "apikey", "APIKey", "PHPSESSID", "jsessionid", "client_secret", "user[password]", "%74oken"),
    ],
)
def test_keys_that_look_secret_are_known(name: str) -> None:
    """Whole, as one of several words, in any spelling, percent-encoded, and in a path's parameters or a fragment."""
    shown = Redactor().text
    for before in ("http://h.example/?", "http://h.example/x?a=1&", "/x;", "http://h.example/#", "//h.example/?a=b;"):
        assert shown(f"{before}{name}={SECRET}&b=2") == f"{before}{name}=***&b=2"
    assert SECRET not in shown(f"http://h/?next=http://g/?{name}={SECRET}")
    assert SECRET not in shown(f"see 'http://h/?{name}={SECRET}' now")
    if name.isalpha():
        assert SECRET not in shown(f"http://h/?next=http%3A%2F%2Fg%2F%3Fa%3Db%26{name}%3D{SECRET}")


@pytest.mark.parametrize("name", ["keyword", "monkey", "page", "q", "authuser", "sigma", "tokens2", "design"])
def test_other_keys_are_left_as_they_are(name: str) -> None:
    """A word that only contains a secret one says nothing."""
    text = f"GET http://h.example/?{name}=v&x=1#y"
    assert Redactor().text(text) == text


@given(values, values)
def test_no_value_of_a_secret_key_survives(value: str, other: str) -> None:
    """Whatever it holds; what follows is kept."""
    shown = Redactor().text(f"got http://h.example/p?page=1&token=<{value}".replace("<", SECRET) + "&lang=en (404)")
    assert shown == "got http://h.example/p?page=1&token=***&lang=en (404)"


def test_a_quote_ends_a_value_where_the_text_goes_on() -> None:
    """So that a message keeps its form; a quote within a value doesn't end it."""
    assert Redactor().text(f"'http://h/?token=a'{SECRET}', tried") == "'http://h/?token=***', tried"


@given(st.text())
def test_text_without_keys_is_left_as_it_is(text: str) -> None:
    """Nothing but what looks secret is changed."""
    text = text.replace("=", "").replace("%", "").replace("@", "")
    assert Redactor().text(text) == text


def test_the_words_can_be_chosen() -> None:
    """Others, more, or none; a login in a URL is cut out in any case."""
    url = f"http://u:{SECRET}@h/?sid=1&room=2"
    assert Redactor(["room"]).text(url) == "http://***@h/?sid=1&room=***"
    assert Redactor(SECRET_WORDS | {"room"}).text(url) == "http://***@h/?sid=***&room=***"
    assert Redactor(()).text(url) == "http://***@h/?sid=1&room=2"
    for wrong in ("token", ["a b"], [1], [""]):
        with pytest.raises(ConfigError, match="keys="):
            Redactor(wrong)  # type: ignore[arg-type]


def test_it_is_a_processor_of_structlog() -> None:
    """Texts in lists and mappings are looked at; numbers, exceptions and keys stay; controls are escaped."""
    error = ValueError("x")
    event: dict[str, Any] = {
        "event": "e\x1b",
        "url": "/?key=a",
        "n": 3,
        "exc_info": error,
        "deep": [{"u": ("/?key=a",)}],
    }
    done = Redactor()(None, "info", {**event, "exception": "one\ntwo\x07"})
    assert done == {
        "event": "e\\u001b", "url": "/?key=***", "n": 3, "exc_info": error, "deep": [{"u": ("/?key=***",)}],
        "exception": "one\ntwo\\u0007",
    }  # fmt: skip


def test_the_library_s_own_lines_go_through_it(logged: pytest.LogCaptureFixture) -> None:
    """Whatever handlers an application has; the words hold for the process, and can be set back."""
    happened = RetryScheduled(f"http://u:{SECRET}@h/?token={SECRET}&room=1", "GET", 1, 0.5, "status 503")
    emit(logger("retry"), "info", happened)
    before = redact_keys({"room"})
    try:
        emit(logger("retry"), "info", happened)
    finally:
        redact_keys(before)
    assert before == SECRET_WORDS
    assert [record.url for record in logged.records] == [  # type: ignore[attr-defined]
        "http://***@h/?token=***&room=1",
        f"http://***@h/?token={SECRET}&room=***",
    ]


@pytest.mark.parametrize(
    "piece", ["?token=", "?a%3Da%26", "&", "%3F", "?" + "a" * 60, "?a%20%20%20%20%20%20%20%20", "?key='"]
)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    """A megabyte takes a moment."""
    text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    started = time.process_time()
    Redactor().text(text + "=")
    assert time.process_time() - started < 5
