"""Settings are checked when they are made, and a bad one is named with its value."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import Timeout

from crawlpool.config import PoolSettings, is_count, is_seconds, split_timeout
from crawlpool.errors import ConfigError


@pytest.mark.parametrize(
    ("timeout", "pair"),
    [
        (None, (None, None)),
        (3, (3, 3)),
        (0.5, (0.5, 0.5)),
        ((1, 2), (1, 2)),
        ((None, 2), (None, 2)),
        (Timeout(connect=1, read=2), (1, 2)),
        (Timeout(total=5), (5, 5)),
        (Timeout(total=5, read=2), (5, 2)),
        (Timeout(connect=3, read=None), (3, None)),
        (Timeout(), (None, None)),
    ],
)
def test_every_form_of_a_timeout_is_understood(timeout: object, pair: tuple[float | None, float | None]) -> None:
    """Whatever requests takes as a timeout becomes connect and read seconds; a total bounds each."""
    assert split_timeout(timeout) == pair


@pytest.mark.parametrize("timeout", [0, -1, True, math.nan, math.inf, (1, 0), (1, 2, 3), "5", (1, "x"), [1, 2]])
def test_a_bad_timeout_is_named(timeout: object) -> None:
    """What can't be a timeout raises a ValueError that shows it."""
    with pytest.raises(ValueError, match="imeout") as caught:
        split_timeout(timeout)
    assert isinstance(caught.value, ConfigError)
    assert repr(timeout) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0),
        ("threads", 4097),
        ("threads", True),
        ("threads", 1.0),
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", math.inf),
        ("deadline_s", "5"),
        ("max_body_bytes", 0),
        ("idle_connections", 0),
        ("queue_size", 0),
        ("queue_size", 2.5),
    ],
)
def test_a_bad_pool_setting_is_named_with_its_value(name: str, value: object) -> None:
    """A setting that can't be raises when it is made, and says which it was."""
    with pytest.raises(ConfigError) as caught:
        PoolSettings(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{name.removesuffix('_s')}={value!r}: ")


def test_settings_are_frozen() -> None:
    """What a pool was made with can't be changed under it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        PoolSettings().threads = 3  # type: ignore[misc]


def test_the_queue_has_room_for_four_targets_a_thread() -> None:
    """Unless its size is given."""
    assert PoolSettings(threads=5).queue_room == 20
    assert PoolSettings(threads=5, queue_size=7).queue_room == 7


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_counts_and_seconds_agree_with_arithmetic(value: object) -> None:
    """Only whole numbers count, only finite positive numbers are seconds, and a bool is neither."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    assert is_count(value) == (number and isinstance(value, int) and value >= 1)
    assert is_seconds(value) == (number and math.isfinite(value) and value > 0)  # type: ignore[arg-type]
    assert is_seconds(value, zero=True) == (is_seconds(value) or (number and value == 0))
