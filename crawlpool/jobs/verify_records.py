"""Whether the records of a job are those that its ledger tells of: one for each settled target, and none else."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from crawlpool.errors import JobError
from crawlpool.jobs.chain import MARK, chain_of
from crawlpool.jobs.entries import STATES
from crawlpool.jobs.expected import RecordAt
from crawlpool.jobs.records import fields_of, item_of, notes_of
from crawlpool.ledger.schema import HANDED_OVER
from crawlpool.redact import one_line, redact_url

if TYPE_CHECKING:
    from crawlpool.jobs.expected import Expected, Flaws
    from crawlpool.jobs.reading import JobReader
    from crawlpool.jobs.verify_bodies import BodiesCheck
    from crawlpool.ledger.reading import Settled
    from crawlpool.sinks.marks import Mark
    from crawlpool.trail import LegNote

#: What a record and the ledger both say.
_AGREED = ("url", "n", "method", "outcome", "reason", "status", "kind", "run")
_REDIRECTS = frozenset((301, 302, 303, 307, 308))  # those that requests follows
_NAMES = {state: outcome.value for outcome, state in STATES.items()}


class RecordsCheck:
    """Goes through the ledger's results, and then through the file of records from its beginning.

    Args:
        job: open to be read.
        flaws: takes what is wrong.
        expected: takes what should stand where.
        bodies: takes each record, to look at its body.

    Not thread-safe.
    """

    def __init__(self, job: JobReader, flaws: Flaws, expected: Expected, bodies: BodiesCheck) -> None:
        self._job = job
        self._flaws = flaws
        self._expected = expected
        self._bodies = bodies
        #: Records that are as they should be, and items.
        self.records = self.items = 0

    def check(self, mark: Mark, *, is_at_rest: bool) -> None:
        """Look at all records.

        Args:
            mark: what counts of them.
            is_at_rest: whether nobody adds any: then all that is settled must be among what counts.

        Raises:
            JobError: when the ledger or a file can't be read on.
        """
        for settled in self._job.ledger.settled():
            self._expect(settled)
        for settled in self._job.ledger.settled(HANDED_OVER):
            self._bodies.handed_over(sum(note.status in _REDIRECTS for note in self._notes_of(settled)))
        files = self._job.files
        for part in range(1, mark.part + 1):
            self._check_part(part, mark.length if part == mark.part else files.size(part))
        if is_at_rest:
            for want in self._expected.records(mark.part):
                if want.offset >= mark.length:
                    self._miss(want, "it is beyond what counts")
            for want in self._expected.records_after(mark.part):
                self._miss(want, "it is beyond what counts")

    def _expect(self, settled: Settled) -> None:
        said = _digest(self._said_of(settled))
        want = RecordAt(settled.part, settled.offset, settled.length, settled.id, said, self._elsewhere(settled))
        if not self._expected.add_record(want):
            self._miss(want, "it is the place of another one")
        self._notes_of(settled)

    def _notes_of(self, settled: Settled) -> tuple[LegNote, ...]:
        try:
            return notes_of(settled.legs)
        except JobError as error:
            self._flaws.add("ledger", f"target {settled.id}: {error}")
            return ()

    def _elsewhere(self, settled: Settled) -> int:
        """Return how many redirects of a target were answered to another shard, which handed it over."""
        if not settled.line.startswith(MARK):
            return 0
        self._job.target_of(settled)  # whether the line can be read
        return len(chain_of(settled.line).hops)

    def _said_of(self, settled: Settled) -> list[Any]:
        target = self._job.target_of(settled)
        outcome = _NAMES.get(settled.outcome)
        told = settled.reason, settled.status, settled.kind, settled.run
        return [redact_url(target.url), target.n, target.method, outcome, *told]

    def _check_part(self, part: int, until: int) -> None:
        files = self._job.files
        name = files.name(part)
        wanted = self._expected.records(part)
        want = next(wanted, None)
        for offset, line in files.lines(part, until):
            while want is not None and want.offset < offset:
                self._miss(want, "no line begins there")
                want = next(wanted, None)
            if want is not None and want.offset == offset:
                self._check_line(want, line)
                want = next(wanted, None)
            elif isinstance(item_of(line), dict):
                self.items += 1
            elif fields_of(line) is None:
                self._flaws.add(name, "the line is neither a record nor an item", offset)
            else:
                self._flaws.add(name, "there is a record that no target has", offset)
        while want is not None and want.offset < until:
            self._miss(want, "no line begins there")
            want = next(wanted, None)

    def _check_line(self, want: RecordAt, line: bytes) -> None:
        name = self._job.files.name(want.part)
        fields = fields_of(line)
        if fields is None or len(line) != want.length:
            what = "the line is no record" if fields is None else f"the line has {len(line):,} bytes"
            self._flaws.add(name, f"{what}; the record of target {want.id} has {want.length:,}", want.offset)
            return
        error = fields.get("error")
        said = [*(fields.get(key) for key in _AGREED[:6]), error.get("kind") if isinstance(error, dict) else None]
        said.append(fields.get("run"))
        if _digest(said) != want.digest:
            self._flaws.add(name, self._difference(want, said), want.offset)
            return
        self.records += 1
        self._bodies.check(fields, want, name)

    def _difference(self, want: RecordAt, said: list[Any]) -> str:
        settled = self._job.ledger.settled_of(want.id)
        if settled is not None:
            for key, has, should in zip(_AGREED, said, self._said_of(settled), strict=True):
                if has != should or type(has) is not type(should):
                    said_of = f"its {key} is {_shown(has)}, and in the ledger {_shown(should)}"
                    return f"the record of target {want.id} isn't what the ledger has: {said_of}"
        return f"the record of target {want.id} isn't what the ledger has"

    def _miss(self, want: RecordAt, why: str) -> None:
        name = self._job.files.name(want.part)
        self._flaws.add(name, f"the record of target {want.id} should stand there: {why}", want.offset)


def _digest(said: list[Any]) -> bytes:
    # By the bytes that a record has of it: a half of a surrogate pair comes back as it was.
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).digest()


def _shown(value: Any) -> str:
    return one_line(json.dumps(value), 100)
