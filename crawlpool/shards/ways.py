"""Where a URL is among the shards of jobs: in that of its host, or where its redirects have led it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.errors import JobError
from crawlpool.jobs.chain import MARK, chain_of
from crawlpool.jobs.entries import target_of_line
from crawlpool.jobs.reading import spellings
from crawlpool.ledger.schema import HANDED_OVER
from crawlpool.ledger.shard_reading import ShardTables
from crawlpool.ledger.store import signed
from crawlpool.leg import host_of
from crawlpool.seen import digest_of, normal_form
from crawlpool.shards import segments
from crawlpool.shards.inputs import input_state
from crawlpool.shards.parts import Part
from crawlpool.shards.transit import has_imported, waiting_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crawlpool.jobs.reading import JobReader
    from crawlpool.models import Target
    from crawlpool.shards.parts import Root, Shelf


class Found(NamedTuple):
    """Where a target is.

    Args:
        part: what has it now, or had it last where it is on its way.
        number: it has there.
        way: the places where it was before, each as its part and its number there; the first is where it came in.
        is_on_its_way: whether it was handed over, and nobody has taken it in yet.
    """

    part: Part
    number: int
    way: tuple[tuple[Part, int], ...] = ()
    is_on_its_way: bool = False

    @property
    def first(self) -> tuple[Part, int]:
        """Where it came in."""
        return self.way[0] if self.way else (self.part, self.number)


class Ways:
    """Finds targets in jobs.

    Args:
        groups: the jobs; the parts of one stand together.
        shelf: has their ledgers.

    Raises:
        JobError: from each method, when something is damaged or gone.

    Not thread-safe.
    """

    def __init__(self, groups: Sequence[Sequence[Root]], shelf: Shelf) -> None:
        self._groups = groups
        self._shelf = shelf

    def find(self, url: str | Target) -> Found | None:
        """Return where the target is that asks for a URL.

        Args:
            url: in whatever spelling; or a target.

        Returns:
            The first that is settled, of several jobs, else the first; ``None`` where they have none.
        """
        first = None
        for group in self._groups:
            for root in group:
                found = self._find_in(group, root, url)
                if found is not None and self._is_settled(found):
                    return found
                first = first or found
        return first

    def inbox_of(self, url: str | Target) -> Part | None:
        """Return the shard in whose inbox a target waits that asks for a URL, and that no shard has taken in yet.

        Only the inbox of the shard of its host is read.

        Args:
            url: as ``find`` takes it.
        """
        for root in (root for group in self._groups for root in group):
            if root.sharding is None:
                continue
            wanted: dict[int, dict[int, Target]] = {}
            for target in self._spelled(root, url):
                digest = digest_of(target)
                if digest is not None:
                    key = signed(digest)
                    shard = root.sharding.shard_of_row((None, host_of(target.url), 0.0, "", None, key, 0))
                    wanted.setdefault(shard, {})[key] = target
            for shard, targets in wanted.items():
                if self._is_in_inbox(root.path, shard, targets):
                    return Part(root.path, shard)
        return None

    def _is_in_inbox(self, root: str, shard: int, targets: Mapping[int, Target]) -> bool:
        for folder, name in waiting_in(root, shard, input_state(root)):
            if has_imported(Part(root, shard), self._shelf, name):
                continue
            with contextlib.suppress(FileNotFoundError):  # it was taken in just now
                for n, _, _, line, _, digest, _ in segments.read(os.path.join(folder, str(name))):
                    target = targets.get(digest)
                    if target is not None and normal_form(target_of_line(line, n).url) == normal_form(target.url):
                        return True
        return False

    def follow(self, group: Sequence[Root], part: Part, number: int) -> Found:
        """Return where a target has come to.

        Args:
            group: the job that it is of.
            part: where it was.
            number: it had there.
        """
        way: list[tuple[Part, int]] = []
        while self._shelf.look(part, lambda reader, at=number: _is_moved(reader, at), False):  # type: ignore[misc]
            way.append((part, number))
            taken = self._taken_in(group, part, number)
            if taken is None:
                return Found(part, number, tuple(way[:-1]), is_on_its_way=True)
            part, number = taken
        return Found(part, number, tuple(way))

    def legs_before(self, group: Sequence[Root], line: str) -> list[Any]:
        """Return the requests that other shards have sent for a target, as their ledgers have them; in order.

        What lies in a folder that isn't among those that are read is left out.

        Args:
            group: the job that it is of.
            line: of the target, as the ledger has it that has it now.
        """
        found: list[Any] = []
        while line.startswith(MARK):
            try:
                chain = chain_of(line)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                raise JobError("the ledger is damaged: a target that was handed over can't be read") from None
            part = next((part for root in group for part in root.parts() if part.shard == chain.source), None)
            row = None
            if part is not None:
                number = chain.source_id
                row = self._shelf.look(part, lambda reader: reader.ledger.settled_of(number, is_handed_over=True), None)  # noqa: B023
            if row is None:
                return found
            found[:0] = row.legs
            line = row.line
        return found

    def _taken_in(self, group: Sequence[Root], part: Part, number: int) -> tuple[Part, int] | None:
        """Return where a target was taken in that a shard has handed over; ``None`` where nobody has it yet.

        The ledger that handed it over doesn't keep where to. So all are asked, each by its key; the folders in which
        other parts of the job lie, too.
        """
        source = part.shard
        for other in (other for root in group for other in root.parts()):
            if other != part:
                at = self._shelf.look(
                    other, lambda reader: ShardTables(reader.ledger).taken_in(source or 0, number), None
                )
                if at is not None:
                    return other, at
        return None

    def _find_in(self, group: Sequence[Root], root: Root, url: str | Target) -> Found | None:
        for target in self._spelled(root, url):
            digest = digest_of(target)
            part = root.part_of(host_of(target.url), None if digest is None else signed(digest))
            if part is None:
                continue
            number = self._shelf.look(part, lambda reader, target=target: reader.find(target), None)  # type: ignore[misc]
            if number is not None:
                return self.follow(group, part, number)
        return None

    def _spelled(self, root: Root, url: str | Target) -> Iterator[Target]:
        if root.manifest is not None:
            yield from spellings(url, root.manifest.fixed.get("method"))
        else:
            usual = self._shelf.look(Part(root.path), lambda reader: reader.fixed.get("method"), None)
            yield from spellings(url, usual)

    def _is_settled(self, found: Found) -> bool:
        return self._shelf.look(found.part, lambda reader: reader.ledger.settled_of(found.number) is not None, False)


def _is_moved(reader: JobReader, number: int) -> bool:
    row = reader.ledger.target(number)
    return row is not None and row.state == HANDED_OVER
