"""Whether jobs of many shards, or several jobs, are what was written: each shard by itself, and what lies between them.

Each shard has to agree with itself (``jobs.verify``), and to have taken in what of the input it was given; no entry of
the input may be there twice, over all shards and parts of a job; and what a shard has handed over has to have arrived,
once. What runs meanwhile is judged by what had been committed.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from crawlpool.errors import JobError
from crawlpool.jobs.expected import Flaw, Flaws
from crawlpool.jobs.reading import JobReader
from crawlpool.jobs.verify import Verified, verify
from crawlpool.ledger.shard_reading import ShardTables
from crawlpool.redact import one_line
from crawlpool.shards import layout, segments
from crawlpool.shards.handed import HandedCheck
from crawlpool.shards.inputs import InputState, input_state
from crawlpool.shards.ordinals import Ordinals
from crawlpool.shards.parts import named
from crawlpool.shards.segments import SegmentName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.shards.parts import Part, Root
    from crawlpool.shards.reading import JobsReader

_INPUT = str(SegmentName.of_input(0))[:6]  # how the names of the input's segments begin


@dataclasses.dataclass(frozen=True)
class JobsVerified(Verified):
    """What was looked at in several shards or jobs together, and what is wrong.

    Args:
        shards: that were looked at, and jobs without shards.
        on_its_way: targets that were shared out or handed over, and that no shard has taken in yet.
    """

    shards: int = 0
    on_its_way: int = 0


def verify_jobs(jobs: JobsReader, *, most_flaws: int = 20) -> JobsVerified:
    """Look at all of several shards and jobs.

    Args:
        jobs: open to be read.
        most_flaws: so many are told; all are counted.

    Raises:
        JobError: when a temporary file can't be written.
    """
    return _Verifier(jobs, most_flaws).run()


class _Verifier:
    def __init__(self, jobs: JobsReader, most_flaws: int) -> None:
        self._jobs = jobs
        self._most = most_flaws
        self._flaws = Flaws(most_flaws)
        self._counts = dict.fromkeys(field.name for field in dataclasses.fields(Verified))
        self._sums: dict[str, int] = {}
        self._flaw_count = 0  # of single shards
        self._kept: list[Flaw] = []
        self._on_its_way = 0
        self._shards = 0
        self._unread: set[str] = set()  # inboxes of which a segment can't be read

    def run(self) -> JobsVerified:
        for root in self._jobs.roots:
            for part in self._parts_of(root):
                self._shards += 1
                self._verify(part)
        for group in self._jobs.groups:
            if group[0].manifest is not None:
                self._verify_group(group)
        names = [field.name for field in dataclasses.fields(Verified) if field.name not in ("flaw_count", "flaws")]
        return JobsVerified(
            **{name: self._sums.get(name, 0) for name in names},
            flaw_count=self._flaw_count + self._flaws.count,
            flaws=tuple((self._kept + self._flaws.kept)[: self._most]),
            shards=self._shards,
            on_its_way=self._on_its_way,
        )

    def _parts_of(self, root: Root) -> Sequence[Part]:
        try:
            return root.parts()
        except JobError as error:
            self._flaws.add_trouble(one_line(root.path), error)
            return ()

    def _verify(self, part: Part) -> None:
        """Look at one shard, or a job without any, by itself."""
        try:
            with named(part):
                folder = part.folder()
                if folder is None:
                    return
                with JobReader(folder) as reader:
                    found = verify(reader, most_flaws=self._most)
        except JobError as error:
            self._flaws.add_trouble(one_line(part.name), error)
            return
        for field in dataclasses.fields(Verified):
            value = getattr(found, field.name)
            if isinstance(value, int):
                self._sums[field.name] = self._sums.get(field.name, 0) + value
        if found.flaw_count and part.folder() != folder:
            self._flaws.add(one_line(part.name), "it changed its owner while it was looked at: verify it once more")
            return
        self._flaw_count += found.flaw_count
        self._flaws.heard(found.flaws)
        self._kept += [Flaw(f"{one_line(part.name)}: {flaw.place}", flaw.what) for flaw in found.flaws]

    # Between the shards of one job -------------------------------------------------------------------------------

    def _verify_group(self, group: Sequence[Root]) -> None:
        manifest = group[0].manifest
        assert manifest is not None
        is_all = sum(len(root.manifest.mine()) for root in group if root.manifest is not None) == manifest.shards
        states: list[InputState] = []
        for root in group:
            self._tried(root.path, lambda root=root: states.append(self._check_input(root)))
        if len({(state.items, state.digest) for state in states if state.is_done}) > 1:
            self._flaws.add(one_line(group[0].path), "the parts were made of different inputs")
        with Ordinals(lambda: max(input_state(root.path).items for root in group)) as ordinals:
            for number, part in enumerate(part for root in group for part in self._parts_of(root)):
                self._tried(part.name, lambda part=part, at=number: self._check_ordinals(part, ordinals, at))
        handed = HandedCheck(group, self._jobs.shelf, self._flaws, is_all=is_all)
        handed.check()
        self._on_its_way += handed.on_its_way

    def _check_input(self, root: Root) -> InputState:
        """Compare what shards were given of the input with what they have taken in, or have in their inboxes."""
        before = input_state(root.path)
        there = {part.shard: part for part in root.parts()}
        assert root.manifest is not None
        waiting = {shard: self._waiting(root, shard, before) for shard in there if shard is not None}
        taken = {shard: self._taken(part, waiting[shard]) for shard, part in there.items() if shard is not None}
        after = input_state(root.path)
        for shard in root.manifest.mine():
            if shard not in there:
                if before.rows_of(shard):
                    what = f"the folder of the shard is gone, and {before.rows_of(shard):,} targets with it"
                    self._flaws.add(one_line(layout.shard_folder(root.path, shard)), what)
                continue
            found = taken[shard]
            if found is None or layout.inbox_folder(root.path, shard) in self._unread:
                continue  # it couldn't be looked at, which was told
            rows, names = found
            least, most = before.rows_of(shard), after.rows_of(shard)
            if not least <= rows <= most:
                what = f"{least:,} targets of the input were given to it, and {rows:,} are there"
                self._flaws.add(one_line(there[shard].name), what)
            if not before.segments_of(shard) <= names <= after.segments_of(shard):
                what = f"{before.segments_of(shard):,} segments of the input were given to it, and {names:,} are there"
                self._flaws.add(one_line(there[shard].name), what)
        return after

    def _waiting(self, root: Root, shard: int, state: InputState) -> dict[SegmentName, int]:
        """Return the segments of the input in an inbox, and how many targets each has."""
        folder = layout.inbox_folder(root.path, shard)
        sharding_id = root.manifest.sharding_id if root.manifest is not None else ""
        found: dict[SegmentName, int] = {}
        for name in segments.names(folder):
            if name.source is not None or name.number > state.rounds:
                continue
            try:
                found[name] = sum(1 for _ in segments.read(os.path.join(folder, str(name)), sharding_id))
            except FileNotFoundError:
                continue  # it was taken in meanwhile
            except JobError as error:
                self._flaws.add_trouble(one_line(folder), error)
                self._unread.add(folder)
        return found

    def _taken(self, part: Part, waiting: dict[SegmentName, int]) -> tuple[int, int] | None:
        """Return how many targets and segments of the input a shard has, with those that wait in its inbox."""

        def look(reader: JobReader) -> tuple[int, int]:
            tables = ShardTables(reader.ledger)
            left = [name for name in waiting if not tables.has_imported(str(name))]
            imported = sum(1 for name in tables.imported() if name.startswith(_INPUT))
            rows = reader.report.inputs + sum(waiting[name] for name in left)
            self._on_its_way += sum(waiting[name] for name in left)
            return rows, imported + len(left)

        try:
            none = sum(waiting.values()), len(waiting)
            found = self._jobs.shelf.look(part, look, none)
        except JobError as error:
            self._flaws.add_trouble(one_line(part.name), error)
            return None
        if found is none:
            self._on_its_way += none[0]
        return found

    def _check_ordinals(self, part: Part, ordinals: Ordinals, at: int) -> None:
        after = 0

        def page(reader: JobReader) -> list[tuple[int, int]]:
            return ShardTables(reader.ledger).ordinals(after)

        while found := self._jobs.shelf.look(part, page, ()):
            for number, n in found:
                other = ordinals.add(n, at)
                if other is not None:
                    where = "twice" if other == at else "in two shards"
                    self._flaws.add(one_line(part.name), f"entry {n:,} of the input is there {where} (target {number})")
            after = found[-1][0]

    def _tried(self, name: str, look: object) -> None:
        try:
            look()  # type: ignore[operator]
        except JobError as error:
            self._flaws.add_trouble(one_line(name), error)
