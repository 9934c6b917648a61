"""What the values of options mean."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.cli.exits import FailureBound
from crawlpool.cli.values import MaxFailures, Resolve, Seconds, Size, Statuses, Words


def value(kind: Any, given: Any) -> Any:
    """Return what a type makes of a value, as click would."""
    return kind.convert(given, None, None)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("0", None),
        (0, None),
        ("1", 1),
        (7, 7),
        ("500k", 512_000),
        ("32M", 33_554_432),
        ("1.5 KiB", 1536),
        ("1gb", 2**30),
    ],
)
def test_sizes_are_in_powers_of_1024(given: Any, size: int | None) -> None:
    """A letter is enough, of any case; 0 is no limit."""
    assert value(Size(), given) == size


@pytest.mark.parametrize("given", ["", "k", "-1", "1 x", "0.2", "1e3", "nan", True])
def test_what_is_no_size_is_refused(given: Any) -> None:
    """The message names the value."""
    with pytest.raises(click.BadParameter, match=r"is no size|less than a byte"):
        value(Size(), given)


@given(st.floats())
def test_seconds_are_finite_and_never_negative(number: float) -> None:
    """Every number is taken as it is, or refused; 0 only where it means something."""
    for kind, zero in ((Seconds(), False), (Seconds(zero=True), True), (Seconds(zero_is_none=True), None)):
        try:
            found = value(kind, number)
        except click.BadParameter:
            assert not 0 < number < float("inf") and (number != 0 or zero is False)
        else:
            assert found == (number or (None if zero is None else 0.0))


def test_lists_are_split_at_commas() -> None:
    """White space around words doesn't count; an empty word is refused; a TOML list does as well."""
    assert value(Words("X"), " a, b ") == ("a", "b")
    assert value(Words("X"), ["a", "b"]) == ("a", "b")
    for bad in ("", "a,,b", ","):
        with pytest.raises(click.BadParameter, match="empty word"):
            value(Words("X"), bad)


def test_statuses_may_have_wildcards() -> None:
    """As in 5xx; numbers of a TOML file do as well."""
    assert value(Statuses(), "429,50x") == {429, *range(500, 510)}
    assert value(Statuses(), [429, "503"]) == {429, 503}


def test_resolve_is_as_curl_takes_it() -> None:
    """Names are lower-cased and made ASCII; IPv6 may stand in brackets."""
    assert value(Resolve(), "A.Example:443:127.0.0.1") == ("a.example", 443, "127.0.0.1")
    assert value(Resolve(), "b\u00fccher.example:80:[::1]") == ("xn--bcher-kva.example", 80, "::1")
    assert value(Resolve(), "h:80:::1") == ("h", 80, "::1")
    for bad in ("h:80", "h:0:127.0.0.1", "h:x:127.0.0.1", ":80:127.0.0.1", "h:80:127.0.0.256", "h:80:127.0.0.1,::1"):
        with pytest.raises(click.BadParameter, match="is not HOST:PORT:ADDRESS"):
            value(Resolve(), bad)


def test_failures_are_a_number_or_a_percentage() -> None:
    """Nothing else, and no more than all."""
    assert value(MaxFailures(), "3") == FailureBound(count=3)
    assert value(MaxFailures(), 0) == FailureBound(count=0)
    assert value(MaxFailures(), "2.5 %") == FailureBound(percent=2.5)
    for bad in ("-1", "many", "%", "100.1%", "1.5", True):
        with pytest.raises(click.BadParameter, match="neither a number"):
            value(MaxFailures(), bad)
