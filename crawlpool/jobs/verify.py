"""Whether a job is what was written: its ledger, its records and the bodies agree, and every digest is right.

A job that runs meanwhile is judged by what had been committed when this began, and its books by what they were before
and afterwards: between the two lies what was counted.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from typing import TYPE_CHECKING, TypeVar

from crawlpool.errors import JobError
from crawlpool.jobs.entries import STATES
from crawlpool.jobs.expected import Expected, Flaw, Flaws
from crawlpool.jobs.outputs import is_records
from crawlpool.jobs.verify_bodies import BodiesCheck
from crawlpool.jobs.verify_records import RecordsCheck
from crawlpool.ledger.schema import HANDED_OVER, PENDING
from crawlpool.redact import one_line
from crawlpool.sinks.marks import OPEN_SUFFIX, part_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.jobs.files import PartFiles
    from crawlpool.jobs.reading import JobReader
    from crawlpool.models import Report
    from crawlpool.sinks.marks import Mark

_LEDGER, _CAME = "ledger", "inputs + found"
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong.

    Args:
        targets: in the ledger.
        pending: of these, what waits for the next run.
        handed_over: of these, what another shard goes on with.
        records: that stand where the ledger says.
        items: of handlers, among the records.
        responses: in WARC files, redirects included.
        bodies: that were compared with their records' digests.
        flaw_count: what is wrong.
        flaws: the first of that.
    """

    targets: int
    pending: int
    handed_over: int
    records: int
    items: int
    responses: int
    bodies: int
    flaw_count: int
    flaws: tuple[Flaw, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.flaw_count


def verify(job: JobReader, *, most_flaws: int = 20) -> Verified:
    """Look at all of a job.

    Args:
        job: open to be read.
        most_flaws: so many are told; all are counted.
    """
    with Expected() as expected:
        return _Verifier(job, Flaws(most_flaws), expected).run()


class _Verifier:
    def __init__(self, job: JobReader, flaws: Flaws, expected: Expected) -> None:
        self._job = job
        self._flaws = flaws
        runs = job.ledger.runs()
        self._is_at_rest = not runs or runs[-1].ended_at is not None
        self._bodies = BodiesCheck(job, flaws, expected)
        self._records = RecordsCheck(job, flaws, expected, self._bodies)
        self._targets: dict[int, int] = {}

    def run(self) -> Verified:
        job, flaws = self._job, self._flaws
        for damage in job.ledger.damages():
            flaws.add(_LEDGER, one_line(damage))
        before = self._tried(_LEDGER, lambda: job.report)
        marks = self._tried(_LEDGER, lambda: {name: job.mark(name) for name in job.outputs if not name.endswith("/")})
        self._tried(_LEDGER, self._count_targets)
        if marks is not None:
            records = job.records_name
            self._tried(records, lambda: self._records.check(marks[records], is_at_rest=self._is_at_rest))
            for name, mark in marks.items():
                if not is_records(name):
                    self._tried(one_line(name), lambda name=name, mark=mark: self._bodies.check_warc(name, mark))  # type: ignore[misc]
            for name, mark in marks.items():
                self._tried(one_line(name), lambda name=name, mark=mark: self._check_files(name, mark))  # type: ignore[misc]
        after = self._tried(_LEDGER, lambda: job.report)
        if before is not None and after is not None:
            self._check_books(before, after)
        return Verified(
            targets=sum(self._targets.values()),
            pending=self._targets.get(PENDING, 0),
            handed_over=self._targets.get(HANDED_OVER, 0),
            records=self._records.records,
            items=self._records.items,
            responses=self._bodies.responses,
            bodies=self._bodies.bodies,
            flaw_count=flaws.count,
            flaws=tuple(flaws.kept),
        )

    def _tried(self, file: str, look: Callable[[], _T]) -> _T | None:
        """Return what looking comes to; what can't be looked at is a flaw, and the rest is looked at all the same."""
        try:
            return look()
        except JobError as error:
            self._flaws.add_trouble(file, error)
            return None

    # The ledger --------------------------------------------------------------------------------------------------

    def _count_targets(self) -> None:
        found = self._targets
        for number, state, has_result in self._job.ledger.states():
            found[state] = found.get(state, 0) + 1
            if (state != 0) is not bool(has_result):
                said = "is settled and has no result" if state else "waits and has a result"
                self._flaws.add(_LEDGER, f"target {number} {said}")

    def _check_books(self, before: Report, after: Report) -> None:
        counts = {outcome.value: self._targets.get(state, 0) for outcome, state in STATES.items()}
        counts[_CAME] = sum(self._targets.values())
        counts["moved_out"] = self._targets.get(HANDED_OVER, 0)
        counts["items"] = self._records.items
        for name, count in counts.items():
            least, most = (_number(name, report) for report in (before, after))
            if not least <= count <= most:
                said = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                name += " + moved_in" if name == _CAME and after.moved_in else ""
                self._flaws.add(_LEDGER, f"the books have {said} {name}, and there are {count:,}")

    # The files ---------------------------------------------------------------------------------------------------

    def _check_files(self, name: str, mark: Mark) -> None:
        """Compare an output's files with what is committed of them: names, lengths, and the digest of the last."""
        folder, base = os.path.split(os.path.join(self._job.path, name))
        there = set(os.listdir(folder or os.curdir))
        for part in range(1, mark.part + 1):
            final = part_name(base, part)
            is_whole = part < mark.part or mark.is_complete
            names = {final, final + OPEN_SUFFIX} & there
            if not names:
                if part < mark.part or mark.length:
                    self._flaws.add(one_line(final), "the file is gone")
            elif self._is_at_rest and names != {final if is_whole else final + OPEN_SUFFIX}:
                self._flaws.add(one_line(final), f"is there as {' and '.join(sorted(names))}")
        if self._is_at_rest:
            self._check_no_more(base, mark, there)
        files = self._job.files_of(name)
        try:
            self._check_last(files, mark)
        finally:
            files.close()

    def _check_no_more(self, base: str, mark: Mark, there: set[str]) -> None:
        stem, suffix = re.fullmatch(r"(.*?)((?:\.[^.]*?)?(?:\.[^.]*)?)", part_name(base, 2)).groups()  # type: ignore[union-attr]
        stem = stem.removesuffix("-00002")
        for name in there:
            found = re.fullmatch(rf"{re.escape(stem)}-(\d{{5,9}}){re.escape(suffix)}({re.escape(OPEN_SUFFIX)})?", name)
            if found and int(found[1]) > mark.part:
                self._flaws.add(one_line(name), "is no part of what counts")

    def _check_last(self, files: PartFiles, mark: Mark) -> None:
        name = files.name(mark.part)
        if not mark.length and not self._is_at_rest:
            return
        size = files.size(mark.part)
        if size < mark.length:
            self._flaws.add(
                name, f"the file ends there, and {mark.length - size:,} bytes of what counts are gone", size
            )
        elif size > mark.length and (self._is_at_rest or mark.is_complete):
            self._flaws.add(name, f"{size - mark.length:,} bytes follow that don't count", mark.length)
        if size >= mark.length and not self._flaws.has(name):
            crc = 0
            for piece in files.pieces(mark.part, mark.length):
                crc = zlib.crc32(piece, crc)
            if crc != mark.crc:
                what = f"it isn't what was written: something in its {mark.length:,} bytes was changed"
                self._flaws.add(name, what)


def _number(name: str, report: Report) -> int:
    return report.inputs + report.found + report.moved_in if name == _CAME else int(getattr(report, name))
