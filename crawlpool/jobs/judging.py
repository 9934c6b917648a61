"""The requests of a job for the judge of ``crawlpool audit``: out of its ledger, all runs on one line of time.

The legs of a run tell their times by the monotonic clock of its process, and the ledger has one moment of each run by
both clocks. So within a run nothing depends on the wall clock, and between two it tells how far apart they are: a host
must have waited a full delay after a restart, too. Where the wall clock says that a run began before the one before it
was over, it was set back meanwhile; then nothing can be said of what lies between them.

What was under way when a process was killed was never committed, and isn't here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.audit import RecordedLeg
from crawlpool.evidence import leg_ended_of
from crawlpool.jobs.records import notes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.audit import Judge
    from crawlpool.jobs.reading import JobReader
    from crawlpool.ledger.reading import RunRow
    from crawlpool.trail import LegNote


class JobLegs:
    """Gives the legs of a job to a judge.

    Args:
        judge: who takes them.
        host: the one whose legs it gets; ``None`` for all.
        legs: how many there were, of all hosts.
        broken: those that can't be read.

    Not thread-safe.
    """

    def __init__(self, judge: Judge, host: str | None = None) -> None:
        self._judge = judge
        self._host = host
        self.legs = self.broken = 0

    def read(self, job: JobReader, name: str) -> None:
        """Give all legs of a job to the judge.

        Args:
            job: open to be read.
            name: as places should call it; the number after it is the target's.

        Raises:
            JobError: when it is damaged.
        """
        runs = job.ledger.runs()
        for stretch in _stretches(runs, _last_ends(job, runs)):
            self._judge.begin_run(name)
            shifts = {run.n: run.began_at - run.monotonic_s for run in stretch}
            for run, number, url, note in _legs_of(job):
                if run in shifts:
                    self._give(note, url, number, shifts[run])

    def _give(self, note: LegNote, url: str, number: int, shift_s: float) -> None:
        event = leg_ended_of(note, url)
        if event is None:
            return
        try:
            leg = RecordedLeg.of(vars(event), number)
        except (ValueError, TypeError):
            self.broken += 1
            return
        self.legs += 1
        if self._host is not None and leg.host != self._host:
            return
        self._judge.add(
            leg._replace(
                start_s=leg.start_s + shift_s,
                end_s=leg.end_s + shift_s,
                known_s=None if leg.known_s is None else leg.known_s + shift_s,
                lifted_s=None if leg.lifted_s is None else leg.lifted_s + shift_s,
                address=leg.address if self._host is None else None,  # what else was asked of it isn't looked at
            )
        )


def _legs_of(job: JobReader) -> Iterator[tuple[int, int, str, LegNote]]:
    """Yield each leg: its run, the number of its target (0 for robots.txt), that one's URL, and the note."""
    for settled in job.ledger.settled(has_handed_over=True):
        if settled.legs:
            url = job.target_of(settled).url
            for note in notes_of(settled.legs):
                yield settled.run, settled.id, url, note
    for origin, run, text in job.ledger.robots_legs():
        rows = job.ledger.parsed(text, "the legs for a robots.txt")
        for note in notes_of(rows if isinstance(rows, list) else [None]):
            yield run, 0, f"{origin}/robots.txt", note


def _last_ends(job: JobReader, runs: list[RunRow]) -> dict[int, float]:
    """Return when each run was over at the earliest, by the wall clock."""
    ends = {run.n: run.began_at if run.ended_at is None else run.ended_at for run in runs}
    broken_off = {run.n: run.began_at - run.monotonic_s for run in runs[:-1] if run.ended_at is None}
    if broken_off:
        for run, _, _, note in _legs_of(job):
            if run in broken_off and _is_time(note.end_s):
                ends[run] = max(ends[run], note.end_s + broken_off[run])
    return ends


def _stretches(runs: list[RunRow], ends: dict[int, float]) -> Iterator[list[RunRow]]:
    """Yield the runs in rows within which the wall clock went on."""
    row: list[RunRow] = []
    for run in runs:
        if row and run.began_at < ends[row[-1].n]:
            yield row
            row = []
        row.append(run)
    if row:
        yield row


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float))
