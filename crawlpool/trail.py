"""The trail of a target: a row for each of its legs that was sent, as a job keeps it.

It has what it takes to explain a target (what was asked for when, why it waited, what came of it), and to judge its
legs: ``crawlpool.evidence`` makes a row, and of a row the log line that ``crawlpool audit`` reads.
"""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.wire import spans_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class LegKind(str, enum.Enum):
    """Why a leg was sent."""

    FIRST = "first"
    RETRY = "retry"
    REDIRECT = "redirect"
    ROBOTS = "robots"  # for robots.txt, with its own retries and redirects
    AGAIN = "again"  # once more, not counted: our own network was gone, or a proxy had failed

    def __str__(self) -> str:
        return self.value


class LegNote(NamedTuple):
    """What is known of one leg that was sent. JSON writes it as a list; ``of`` reads that again.

    Moments are seconds of the process's monotonic clock, all but ``started_at_s``. What is usual is ``None``: the
    target's own URL, no limits, no error.

    Args:
        kind: a ``LegKind``'s value.
        started_at_s: when it was taken to be sent, in seconds since 1970; ``None`` where that isn't known.
        queued_s: when it began to wait in the frontier; ``None`` for one that waited elsewhere.
        start_s: when it was taken; it is sent after that.
        end_s: when its end was seen.
        how: what came of it for its host, a ``crawlpool.politeness.How``'s value; ``unsent`` where its host isn't
            judged by it.
        status: of its answer.
        ip: the address that answered.
        moments: what it spent its time on, as ``crawlpool.wire.Wire.timings`` has it; ``timings`` makes more of it.
        url: what was asked for, without userinfo; ``None`` for the target's own URL.
        host: of ``url``; ``None`` where it is the target's own.
        error: its kind, and one line about it without secrets.
        not_before_s: before when it might not go, by its own back-off.
        rested_s: until when its host rested while it waited, after a refusal.
        proxy: the one by which it went, without credentials.
        retry_after_s: the seconds that a refusal asked for.
        known_s: when a refusal had been told to everybody.
        delay_s: the delay that held for it, a ``Crawl-delay`` taken in; with the next two ``None`` where no limits did.
        per_host: how many were allowed at once; ``None`` for any number.
        max_cooldown_s: the bound on what a refusal asks for.
        address: the one for which the limits held as well, with the next two.
        address_delay_s: its delay.
        address_per_host: how many it might have at once.
        lifted_s: when an operator had last released the host.
    """

    kind: str
    started_at_s: float | None
    queued_s: float | None
    start_s: float
    end_s: float
    how: str
    status: int | None = None
    ip: str | None = None
    moments: tuple[float, ...] | None = None
    url: str | None = None
    host: str | None = None
    error: tuple[str, str] | None = None
    not_before_s: float | None = None
    rested_s: float | None = None
    proxy: str | None = None
    retry_after_s: float | None = None
    known_s: float | None = None
    delay_s: float | None = None
    per_host: int | None = None
    max_cooldown_s: float | None = None
    address: str | None = None
    address_delay_s: float | None = None
    address_per_host: int | None = None
    lifted_s: float | None = None

    @property
    def waited_s(self) -> float:
        """How long it waited in the frontier, for its own time and for its host's turn."""
        return 0.0 if self.queued_s is None else max(self.start_s - self.queued_s, 0.0)

    @property
    def timings(self) -> tuple[float, ...] | None:
        """The seconds that ``crawlpool.wire.TIMINGS`` names; ``None`` where there was no answer, or nobody tells."""
        return None if self.moments is None else tuple([round(span, 6) for span in spans_of(self.moments)])

    @property
    def row(self) -> list[Any]:
        """The shortest list from which ``of`` makes the note again: what is ``None`` at its end is left out."""
        row = list(self)
        while row[-1] is None:
            row.pop()
        return row

    @property
    def json(self) -> str:
        """The same as JSON: for a plain page on a host without limits in a third of the time."""
        known = self[:8]
        if self[9:] != _NO_MORE or None in known:
            return _encode(self.row)
        moments = "" if self.moments is None else f",{list(self.moments)!r}"
        kind, started_at_s, queued_s, start_s, end_s, how, status, ip = known
        return f'["{kind}",{started_at_s!r},{queued_s!r},{start_s!r},{end_s!r},"{how}",{status},"{ip}"{moments}]'

    @classmethod
    def of(cls, row: Sequence[Any]) -> LegNote:
        """Return the note that was written as a list.

        Args:
            row: as JSON has it. One with more fields is of a newer version, and what they say isn't known here.

        Raises:
            TypeError: when it has too few.
        """
        note = cls(*row[: len(cls._fields)])
        moments, error = note.moments, note.error
        return note._replace(
            moments=None if moments is None else tuple(moments), error=None if error is None else (error[0], error[1])
        )


_NO_MORE = (None,) * (len(LegNote._fields) - 9)
_encode = json.JSONEncoder(separators=(",", ":")).encode
