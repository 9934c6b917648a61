"""Which transports a test runs over, by its marks; by default each rule that lies above them is held over one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import pytest

from crawlpool.transport.curl import library

#: What the tests that are marked ``transports`` run over.
TRANSPORTS = {
    "urllib3": pytest.param("urllib3"),
    "curl": pytest.param("curl", marks=pytest.mark.skipif(not library.is_installed(), reason="pycurl isn't installed")),
}

MARKS = {
    "transports": "transports(*names): run over each of these transports; over all that there are when none is named",
    "above_transports": "above_transports: run over one of the transports, and with --thorough over each that there is",
}


def transports_of(test: str, marks: Iterable[pytest.Mark], *, is_thorough: bool) -> Sequence[str] | None:
    """Return the names of the transports that a test runs over; ``None`` where no mark says it.

    Args:
        test: its function's name.
        marks: those of the test, the closest first: that one counts.
        is_thorough: whether ``--thorough`` was given.
    """
    for mark in marks:
        if mark.name == "transports":
            return mark.args or tuple(TRANSPORTS)
        if mark.name == "above_transports":
            return tuple(TRANSPORTS) if is_thorough else (one_of_them(test, has_curl=library.is_installed()),)
    return None


def one_of_them(test: str, *, has_curl: bool) -> str:
    """Return the transport that a test which holds for each runs over: about half of them each, always the same one."""
    return "curl" if has_curl and zlib.crc32(test.encode()) % 2 else "urllib3"
