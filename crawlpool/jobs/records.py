"""A record of a job as it is read back: what its line says, and what lies behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from requests.structures import CaseInsensitiveDict

from crawlpool.errors import JobError
from crawlpool.models import Outcome
from crawlpool.trail import LegNote

if TYPE_CHECKING:
    from crawlpool.jobs.bodies import Bodies
    from crawlpool.ledger.reading import Settled


class JobRecord(Mapping[str, Any]):
    """The record of one target that is settled: a mapping with the keys of its line.

    Its attributes lead further: to the bytes of the answer, where the job keeps them, and to the requests that it
    took.  ``reader.records()`` and ``reader.get(url)`` give such records; the reader must be open as long as files are
    to be read by them.

    Args:
        fields: what the line says.
        settled: what the ledger says.
        bodies: where bodies lie.
        before: returns what the ledgers of other shards have of the requests for it, where these have handed it over.

    Thread-safe, but for ``legs`` of a job of many shards: it doesn't change.
    """

    __slots__ = ("_before", "_bodies", "_fields", "_settled")

    def __init__(
        self,
        fields: dict[str, Any],
        settled: Settled,
        bodies: Bodies,
        before: Callable[[], list[Any]] | None = None,
    ) -> None:
        self._fields = fields
        self._settled = settled
        self._bodies = bodies
        self._before = before

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<JobRecord {self.outcome} {self.url!r}>"

    @property
    def id(self) -> int:
        """The number of the target in the ledger."""
        return self._settled.id

    @property
    def url(self) -> str:
        """What was asked for, without userinfo; an empty text for an input line that is no URL."""
        return str(self._fields["url"])

    @property
    def folder(self) -> str:
        """The path of the folder that the job's files lie in; of a job of many shards that of the shard's epoch."""
        return self._bodies.folder

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome(self._fields["outcome"])

    @property
    def legs(self) -> tuple[LegNote, ...]:
        """The requests that were sent for it, in order, each as a ``crawlpool.trail.LegNote``.

        In a job of many shards those that other shards have sent for it come first; their moments are of another clock.

        Raises:
            JobError: when the ledger is damaged.
        """
        before = [] if self._before is None else self._before()
        return notes_of([*before, *self._settled.legs])

    @property
    def has_body(self) -> bool:
        """Whether the job has kept its body."""
        return bool(self._fields.get("body"))

    @property
    def content(self) -> bytes | None:
        """The decoded body; ``None`` where the job has kept none.

        It is what ``response.content`` was: it is read from where it lies each time.

        Raises:
            JobError: when it isn't there any more, or isn't what was written.
        """
        return self._bodies.content(self._fields)

    def open(self) -> BinaryIO:
        """Return a file object with the decoded body, to be closed by the caller.

        Raises:
            JobError: when the job has kept none, or it isn't there any more.
        """
        file = self._bodies.open(self._fields)
        if file is None:
            raise JobError(f"{self.url}: {why_no_body(self._fields)}")
        return file

    @property
    def headers(self) -> CaseInsensitiveDict[str]:
        """The response's header, repeated fields joined by ``", "``.

        All of it where the answer is in a WARC file; else what the record has of it, which may be nothing.

        Raises:
            JobError: as ``content`` does.
        """
        joined: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        stored = self._bodies.response(self._fields)
        pairs = (self._fields.get("headers") or {}).items() if stored is None else stored.headers
        for name, value in pairs:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    @property
    def head(self) -> bytes | None:
        """The response's header as it came, status line included; ``None`` where no WARC file has it.

        Raises:
            JobError: as ``content`` does.
        """
        stored = self._bodies.response(self._fields)
        return None if stored is None else stored.head


def fields_of(line: bytes) -> dict[str, Any] | None:
    """Return what the line of a record says; ``None`` for one that is no whole record."""
    if not line.endswith(b"\n") or line.count(b"\n") != 1:
        return None
    try:
        fields = json.loads(line.decode("utf-8", "surrogatepass"))  # of bytes it would first guess the encoding
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("url"), str) or "item" in fields:
        return None
    return fields if fields.get("outcome") in _OUTCOMES else None


def item_of(line: bytes) -> Any:
    """Return what a handler emitted, of its line; ``None`` for a line that isn't such a one."""
    try:
        fields = json.loads(line.decode("utf-8", "surrogatepass"))  # of bytes it would first guess the encoding
    except (ValueError, RecursionError):
        return None
    return fields.get("item") if isinstance(fields, dict) else None


def notes_of(rows: list[Any]) -> tuple[LegNote, ...]:
    """Return the trail of a target, of what the ledger has of it.

    Raises:
        JobError: when it is none.
    """
    try:
        return tuple(LegNote.of(row) for row in rows)
    except (ValueError, TypeError, IndexError):
        raise JobError("the ledger is damaged: the legs of a target can't be read") from None


def why_no_body(fields: Mapping[str, Any]) -> str:
    """Return why there is no body, as a message says it."""
    kind = (fields.get("error") or {}).get("kind")
    if kind in _CUT_SHORT:
        return f"its answer wasn't taken whole ({kind}), and so there is no body"
    if fields["status"] is None:
        return "there was no answer, and so there is no body"
    return "its body wasn't kept; a job keeps bodies where it has an output such as -o pages.warc.gz"


#: Kinds of errors of an answer that came, and whose body isn't there.
_CUT_SHORT = frozenset({"truncated", "decode", "too_large"})
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)
