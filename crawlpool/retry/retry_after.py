"""Reading Retry-After."""

from __future__ import annotations

import datetime
import re
from email.utils import parsedate_to_datetime

_FAR_S = 1e10  # more than 300 years: what a number of seconds beyond it means

_SECONDS = re.compile(r"[0-9]+", re.ASCII)


def retry_after_s(value: str | None, wall_now_s: float) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110 10.2.3).

    Args:
        value: the value of the header: a whole number of seconds or one of the three forms of an HTTP date.
        wall_now_s: the time, in seconds since 1970.

    Returns:
        Seconds from now, at least 0 and finite; ``None`` when there is no value or it is neither.
    """
    text = (value or "").strip(" \t")
    if _SECONDS.fullmatch(text):
        digits = text.lstrip("0")
        return min(float(digits or 0), _FAR_S) if len(digits) < 20 else _FAR_S
    if not text.isascii() or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:  # the form of C's asctime names no zone and means UTC
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return min(max(0.0, moment.timestamp() - wall_now_s), _FAR_S)
