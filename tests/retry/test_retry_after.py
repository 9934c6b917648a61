"""Tests of crawlpool.retry.retry_after."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.retry import retry_after_s

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.fixture
def in_tokyo():
    """Put this process nine hours east of UTC, where the platform can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        _tzset()
        yield
    _tzset()


def _tzset():
    getattr(time, "tzset", lambda: None)()  # Windows has none


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("120", 120), (" 7\t", 7), ("007", 7), ("00", 0)])
def test_a_whole_number_is_seconds(value, seconds):
    """A number is seconds from now; blanks around it don't matter."""
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"]
)
def test_each_form_of_an_http_date_is_read(value, in_tokyo):
    """All three forms of RFC 9110 5.6.7 are times in UTC, wherever this machine stands."""
    assert retry_after_s(value, NOW) == 60


def test_a_date_that_is_over_means_now():
    """A date in the past asks for no wait, not for a negative one."""
    assert retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", NOW + 3600) == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "-5",
        "+5",
        "5.5",
        "1e3",
        "1_0",
        "soon",
        "120, 120",
        "١٢٠",
        "\uff11\uff12\uff10",
        "²",
        "12\n",
        "2026-11-22",
        "Sun, 06 Nov 1994",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        "06 Nov 1994 08:49:37 +99999999999",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "x" * 100_000,
    ],
)
def test_junk_is_as_good_as_nothing(value):
    """What is neither a number nor a date is ignored."""
    assert retry_after_s(value, NOW) is None


@pytest.mark.parametrize("digits", [19, 20, 400, 100_000])
def test_huge_numbers_stay_finite(digits):
    """A number of any length is read, without an overflow and without Python's limit on digits."""
    seconds = retry_after_s("9" * digits, NOW)
    assert seconds is not None and math.isfinite(seconds) and seconds >= 1e9


@given(st.text() | st.text("0123456789 ,:+-.GMTSunNov"), st.floats(0, 4e9))
def test_any_text_gives_a_wait_or_nothing(value, now):
    """Whatever a server sends, the answer is None or a finite number that isn't negative."""
    seconds = retry_after_s(value, now)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.integers(0, 10**9))
def test_a_number_is_read_exactly(seconds):
    """Writing and reading a number of seconds is the identity."""
    assert retry_after_s(str(seconds), NOW) == seconds
