"""What came of a request, as far as it concerns its host."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from crawlpool.errors import ErrorKind

#: The statuses by which a host asks to be left alone for a while (RFC 6585 4, RFC 9110 15.6.4).
REFUSALS = frozenset({429, 503})

#: Statuses by which a host says that we may not have what we ask for, or not so often (RFC 9110 15.5, RFC 6585 4).
STATUSES = frozenset({401, 403, 429})
#: Header fields by which the large networks tell that an answer is a challenge for a browser, and their values.
CHALLENGES: Mapping[str, frozenset[str]] = {
    "cf-mitigated": frozenset({"challenge"}),
    "x-amzn-waf-action": frozenset({"challenge", "captcha"}),
}


class How(enum.Enum):
    """How a request ended for its host."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    UNSENT = "unsent"


@dataclasses.dataclass(frozen=True, slots=True)
class Came:
    """What came of a request.

    Args:
        how: an answer; one of ``REFUSALS``; no connection, or no address; a connection and no whole answer; or it was
            never sent.
        retry_after_s: the seconds that a refusal asked for; ``None`` where it named none that can be read.
        kind: of the error, where the host couldn't be reached.
        is_block: whether an answer says that the host doesn't want us.
    """

    how: How
    retry_after_s: float | None = None
    kind: ErrorKind | None = None
    is_block: bool = False

    @property
    def has_reached(self) -> bool:
        """Whether the host was reached."""
        return self.how is not How.UNSENT and self.how is not How.UNREACHABLE

    @classmethod
    def refused(cls, retry_after_s: float | None, *, is_block: bool = False) -> Came:
        """Return what a 429 or 503 is."""
        return cls(How.REFUSED, retry_after_s, None, is_block)

    @classmethod
    def unreachable(cls, kind: ErrorKind) -> Came:
        """Return what a failure to resolve or to connect is."""
        return cls(How.UNREACHABLE, None, kind)


ANSWERED = Came(How.ANSWERED)
BLOCKED = Came(How.ANSWERED, is_block=True)
BROKEN = Came(How.BROKEN)
UNSENT = Came(How.UNSENT)


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
