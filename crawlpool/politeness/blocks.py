"""Hosts that don't want us: what an answer is that says so, and when enough of them have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: So many of a host's last answers are looked at; with so many blocks among them it is blocked.
LAST, BLOCKS = 20, 18
#: Statuses by which a host says that we may not have what we ask for, or not so often (RFC 9110 15.5, RFC 6585 4).
STATUSES = frozenset({401, 403, 429})
#: Header fields by which the large networks tell that an answer is a challenge for a browser, and their values.
CHALLENGES: Mapping[str, frozenset[str]] = {
    "cf-mitigated": frozenset({"challenge"}),
    "x-amzn-waf-action": frozenset({"challenge", "captcha"}),
}

_MASK = (1 << LAST) - 1


def is_block(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether an answer is a block.

    Args:
        status: its status.
        headers: its fields, found whatever their case.
    """
    if status in STATUSES:
        return True
    if status == 200:  # challenges come with a status of their own: the many that are well aren't searched
        return False
    return any(headers.get(name, "").strip().lower() in values for name, values in CHALLENGES.items())


def noted(last: int, is_blocked: bool) -> int:
    """Return what is kept of a host's last answers: a bit for each, with one more.

    Args:
        last: what was kept so far; 0 in the beginning.
        is_blocked: whether the new one is a block.
    """
    return (last << 1 | is_blocked) & _MASK


def are_enough(last: int) -> bool:
    """Tell whether a host is blocked, by what is kept of its last answers."""
    return last.bit_count() >= BLOCKS
