"""What came of a request, as far as it concerns its host."""

from __future__ import annotations

import dataclasses
import enum

from crawlpool.errors import ErrorKind

#: The statuses by which a host asks to be left alone for a while (RFC 6585 4, RFC 9110 15.6.4).
REFUSALS = frozenset({429, 503})


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
