"""The dates of cookies, read as leniently as RFC 6265bis, section 5.1.1, has it, in time linear in their length."""

from __future__ import annotations

import datetime
import re

# The delimiters of the RFC: tab, 20-2F, 3B-40, 5B-60, 7B-7E. What is between them is a token.
_TOKENS = re.compile(r"[^\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
# A token may go on with anything after a character that is no digit.
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY = re.compile(r"([0-9]{1,2})(?![0-9])")
_YEAR = re.compile(r"([0-9]{2,4})(?![0-9])")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_FIRST_YEAR = 1601


def parse_date(text: str) -> int | None:
    """Return the seconds since 1970 of a cookie's date, whatever its form; ``None`` when it is none.

    The time of day is the first token that looks like one, and so are day, month and year; all else is passed over,
    a time zone, too: it is always UTC.

    Source: RFC 6265bis, section 5.1.1.
    """
    time: tuple[int, int, int] | None = None
    day = month = year = None
    for token in _TOKENS.findall(text):
        if time is None and (found := _TIME.match(token)):
            time = (int(found[1]), int(found[2]), int(found[3]))
        elif day is None and (found := _DAY.match(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (found := _YEAR.match(token)):
            year = int(found[1])
    if time is None or day is None or month is None or year is None:
        return None
    if 70 <= year <= 99:
        year += 1900
    elif year <= 69:
        year += 2000
    if year < _FIRST_YEAR:
        return None
    try:
        moment = datetime.datetime(year, month, day, *time, tzinfo=datetime.timezone.utc)
    except ValueError:  # no such hour, or no such day in that month
        return None
    return int(moment.timestamp())
