"""Hosts that don't want us: what an answer is that says so, and when enough of them have."""

from __future__ import annotations

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


class Blocks:
    """What hosts answered to one crawl, as far as it says that they don't want it. Another crawl begins anew.

    Hosts of whose last answers none was a block take no memory.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: dict[str, int] = {}  # of each host a bit for each of its last answers, set for a block

    def note(self, host: str, *, is_block: bool) -> None:
        """Take an answer.

        Args:
            host: whose.
            is_block: whether it says that the host doesn't want us.
        """
        last = (self.last.get(host, 0) << 1 | is_block) & _MASK
        if last:
            self.last[host] = last
        else:
            self.last.pop(host, None)

    def forget(self, host: str) -> None:
        """Take it that a host never said so."""
        self.last.pop(host, None)

    def hosts(self) -> list[str]:
        """Return the hosts that are blocked."""
        return [host for host in self.last if self.has(host)]

    def has(self, host: str) -> bool:
        """Tell whether a host is blocked: whether nearly all of its last answers were blocks."""
        last = self.last.get(host)
        return last is not None and last.bit_count() >= BLOCKS
