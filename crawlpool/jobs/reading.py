"""A job read back: its records, bodies, requests and books, while it runs or afterwards. Nothing is locked or changed.

A record's place in its file stands in the ledger, and what stands there is whole: bytes come first, then the commit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any

from crawlpool.errors import CrawlPoolError, InputError, JobError
from crawlpool.jobs.again import MOVES
from crawlpool.jobs.bodies import Bodies
from crawlpool.jobs.entries import STATES, target_of_line
from crawlpool.jobs.files import PartFiles
from crawlpool.jobs.outputs import is_records
from crawlpool.jobs.records import JobRecord, fields_of, item_of
from crawlpool.ledger.reading import LedgerReader
from crawlpool.ledger.schema import NAME
from crawlpool.ledger.store import signed
from crawlpool.leg import host_of
from crawlpool.models import Outcome, Report, Target
from crawlpool.redact import one_line, redact_url
from crawlpool.seen import digest_of, normal_form
from crawlpool.sinks.marks import Mark
from crawlpool.source.urls import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from crawlpool.ledger.reading import Settled, TargetRow

_NAMES = {state: outcome.value for outcome, state in STATES.items()}


@dataclasses.dataclass(frozen=True)
class JobRun:
    """One run of a job.

    Args:
        n: its ordinal, which the records have as ``run``.
        began_at_s: when it began, in seconds since 1970.
        ended_at_s: when it ended; ``None`` of one that goes on, or was broken off.
        ending: how: ``complete`` or ``interrupted``; ``None`` as above.
    """

    n: int
    began_at_s: float
    ended_at_s: float | None
    ending: str | None


class NotBegun(JobError):
    """A job's folder whose ledger nobody has begun to fill."""


class JobReader:
    """A job with one ledger, open to be read. Made by ``open_job``.

    What it returns is what was committed when it was asked. Files that grow or get their final names meanwhile are
    found; a reader that is open for weeks doesn't hold back the run.

    Raises:
        JobError: as ``open_job`` does; and so does every method when the job is damaged, or a file of it is gone.

    Not thread-safe: let each thread open its own.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.paths = (self.path,)
        place = os.path.join(self.path, NAME)
        if not os.path.lexists(place):
            there = "there is no such folder" if not os.path.isdir(self.path) else f"is no job: it has no {NAME}"
            raise JobError(f"{one_line(self.path)}: {there}")
        self.ledger = LedgerReader(place)
        try:
            fixed = self.ledger.value("fixed")
            if not isinstance(fixed, dict) or not isinstance(fixed.get("outputs"), list):
                raise NotBegun(f"{one_line(self.path)}: the job was never begun: its ledger is empty")
            #: What decides the job, and what it was begun with.
            self.fixed: dict[str, Any] = fixed
            self.outputs: tuple[str, ...] = tuple(str(name) for name in fixed["outputs"])
            #: The output whose records are read.
            self.records_name = next(name for name in self.outputs if is_records(name) and not os.path.isabs(name))
            self.files = self.files_of(self.records_name)
            self.bodies = Bodies(self.path, self.outputs)
        except StopIteration:
            self.ledger.close()
            raise JobError(f"{one_line(self.path)}: the job has no records in its folder") from None
        except BaseException:
            self.ledger.close()
            raise

    # Records -----------------------------------------------------------------------------------------------------

    def records(self, *, outcome: str | Outcome | None = None, host: str | None = None) -> Iterator[JobRecord]:
        """Yield the records of what is settled, in the order in which the targets came in.

        What is settled while this goes on comes too, if it is further on in that order.

        Args:
            outcome: only those that ended so.
            host: only those of this host.

        Raises:
            ValueError: for an outcome that there isn't.
        """
        return self._records(None if outcome is None else STATES[Outcome(outcome)], host)

    def _records(self, state: int | None, host: str | None) -> Iterator[JobRecord]:
        name = None if host is None else plain_name(host)
        for settled in self.ledger.settled(state, name):
            if name is None or self.is_of(settled, name):
                record = self.record_of(settled)
                if record is not None:
                    yield record

    def is_of(self, settled: Settled, host: str) -> bool:
        """Tell whether a target is of a host.

        What waited for no host, duplicates for one, is the host's all the same; and what was handed over by another
        shard is of the host that it was asked of first.
        """
        return host_of(self.target_of(settled).url).encode("utf-8", "backslashreplace").decode() == host

    def __iter__(self) -> Iterator[JobRecord]:
        return self.records()

    def get(self, url: str | Target) -> JobRecord | None:
        """Return the record of a URL, in whatever spelling; ``None`` where the job doesn't have it, or not yet.

        Args:
            url: as it was asked for, not where a redirect led; or a target, for one with a method, headers or data.
        """
        number = self.find(url)
        settled = None if number is None else self.ledger.settled_of(number)
        return None if settled is None else self.record_of(settled)

    def find(self, url: str | Target) -> int | None:
        """Return the number of the target that asks for a URL, settled or not; ``None`` where the job has none."""
        for target in spellings(url, self.fixed.get("method")):
            digest = digest_of(target)
            number = None if digest is None else self.ledger.first_of(signed(digest))
            row = None if number is None else self.ledger.target(number)
            if row is not None and normal_form(self.target_of(row).url) == normal_form(target.url):
                return number
        return None

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield what handlers have emitted, in the order in which it was written."""
        for item, _ in self.items_from(1, 0):
            yield item

    def items_from(self, part: int, offset: int) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
        """Yield what handlers have emitted from a place on, each with the place after it: part and offset."""
        mark = self.mark(self.records_name)
        for number in range(part, mark.part + 1):
            until = mark.length if number == mark.part else self.files.size(number)
            for at, line in self.files.lines(number, until, offset if number == part else 0):
                # No record has that key, and to parse all of them would take long.
                if b'"item":' in line[:32] and isinstance(item := item_of(line), dict):
                    yield item, (number, at + len(line))

    # What is known of the job ------------------------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """The books of all its runs together; they balance with what is ``pending``."""
        books = self.ledger.value("books") or {}
        try:
            ended = {outcome.value: int(books["ended"][outcome.value]) for outcome in Outcome} if books else {}
            moved_in, moved_out = int(books.get("moved_in", 0)), int(books.get("moved_out", 0))
            came = int(books.get("inputs", 0)) + int(books.get("found", 0)) + moved_in
            pending = came - sum(ended.values()) - moved_out
            return Report(
                **ended,
                inputs=int(books.get("inputs", 0)),
                found=int(books.get("found", 0)),
                body_bytes=int(books.get("bytes", 0)),
                legs=int(books.get("legs", 0)),
                robots_legs=int(books.get("robots_legs", 0)),
                retries=int(books.get("retries", 0)),
                items=int(books.get("items", 0)),
                elapsed_s=float(books.get("elapsed_s", 0.0)),
                pending=pending,
                moved_in=moved_in,
                moved_out=moved_out,
                is_complete=self.is_input_done and not pending,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise JobError(f"{one_line(self.path)}: the ledger is damaged: its books can't be read") from None

    @property
    def is_input_done(self) -> bool:
        """Whether all of the input is in the ledger."""
        position = self.ledger.value("position") or {}
        return bool(position.get("is_done", False)) if isinstance(position, dict) else False

    @property
    def runs(self) -> tuple[JobRun, ...]:
        """Its runs, in order."""
        return tuple(JobRun(row.n, row.began_at, row.ended_at, row.ending) for row in self.ledger.runs())

    def mark(self, name: str) -> Mark:
        """Return what counts of an output."""
        fields = self.ledger.mark(name)
        try:
            return Mark() if fields is None else Mark(**fields)
        except TypeError:
            raise JobError(f"{one_line(self.path)}: the ledger is damaged: no mark of {one_line(name)}") from None

    def target_of(self, row: Settled | TargetRow) -> Target:
        """Return what a target asks for."""
        try:
            return target_of_line(row.line, row.n)
        except (ValueError, TypeError, IndexError, CrawlPoolError, RecursionError):
            raise JobError(f"{one_line(self.path)}: the ledger is damaged: target {row.id} can't be read") from None

    def record_at(self, settled: Settled) -> dict[str, Any]:
        """Return what stands at the place of a record."""
        fields = fields_of(self.files.read(settled.part, settled.offset, settled.length))
        said = None if fields is None else (fields["url"], fields["outcome"], fields.get("run"))
        url = redact_url(self.target_of(settled).url)
        if fields is None or said != (url, _NAMES.get(settled.outcome), settled.run):
            place = f"{self.files.name(settled.part)} at {settled.offset:,}"
            raise JobError(f"{place}: the record of target {settled.id} should stand there, and doesn't")
        return fields

    # The end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of all files. May be called again."""
        self.files.close()
        self.ledger.close()

    def __enter__(self) -> JobReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JobReader {self.path!r}>"

    def files_of(self, name: str) -> PartFiles:
        """Return the files of an output, to be read; who asks closes them."""
        moves = self.ledger.value(MOVES) or ()
        return PartFiles(self.path, name, [str(one) for one in moves])

    def record_of(self, settled: Settled, before: Callable[[], list[Any]] | None = None) -> JobRecord | None:
        """Return a record; ``None`` where its target has come to wait again meanwhile.

        Args:
            settled: what came of the target.
            before: as ``JobRecord`` takes it.
        """
        try:
            return JobRecord(self.record_at(settled), settled, self.bodies, before)
        except JobError:
            # Where failed targets are taken again, the files are written anew, and records stand elsewhere.
            self.files.close()
            self.files = self.files_of(self.records_name)
            now = self.ledger.settled_of(settled.id)
            return None if now is None else JobRecord(self.record_at(now), now, self.bodies, before)


def spellings(url: str | Target, usual: object = None) -> Iterator[Target]:
    """Yield the targets that somebody may mean by a URL.

    Args:
        url: in whatever spelling; or a target, which is meant as it is.
        usual: the method of the job, where that isn't GET.
    """
    if isinstance(url, Target):
        yield url
        return
    url = redact_url(url)  # no login is in a job
    urls = [url]
    with contextlib.suppress(InputError):
        urls.insert(0, normalize(url, "http"))
    for method in dict.fromkeys(("GET", usual if isinstance(usual, str) and usual else "GET")):
        for one in dict.fromkeys(urls):
            if one:
                yield Target(one, method)


def plain_name(host: str) -> str:
    """Return the name of a host that somebody has written, as ledgers have it."""
    return host.strip().lower().rstrip(".")
