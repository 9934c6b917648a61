"""The ledgers of jobs that are read together: which there are, where each lies now, and a few of them open at a time.

A *part* is what has one ledger: a job without shards, or a shard. Where the ledger of a shard lies changes: each epoch
has a folder of its own, and the newest tenure's file says which one counts.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, TypeVar

from crawlpool.errors import JobError, SinkError
from crawlpool.jobs.reading import JobReader, NotBegun
from crawlpool.ledger.lock import NAME as LOCK
from crawlpool.ledger.schema import NAME as LEDGER
from crawlpool.redact import one_line
from crawlpool.shards import atomic, layout, manifest, tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crawlpool.shards.hashing import Sharding
    from crawlpool.shards.manifest import Manifest
    from crawlpool.shards.tenure import Tenure

#: So many ledgers are open at once; each has some five files. To open one takes as long as to read a few records.
MOST_OPEN = 64
_TRIES = 20  # to find a part in a place that counts: as many take-overs in a row aren't met by chance
_BARE = {layout.ORIGIN, LOCK}  # what the folder of an epoch may have that hasn't begun
_T = TypeVar("_T")
_N = TypeVar("_N")


@dataclasses.dataclass(frozen=True)
class Part:
    """What has one ledger of its own.

    Args:
        root: the folder of its job.
        shard: its number; ``None`` of a job without shards.
    """

    root: str
    shard: int | None = None

    @property
    def name(self) -> str:
        """How messages call it: the path of its folder, but for the epoch."""
        return self.root if self.shard is None else layout.shard_folder(self.root, self.shard)

    def tenure(self) -> Tenure | None:
        """Return its newest tenure; ``None`` where nobody has ever had it.

        Raises:
            JobError: when that can't be read.
        """
        if self.shard is None:
            return None
        try:
            return tenure.newest(self.name)
        except SinkError as error:
            raise JobError(str(error)) from error

    def folder(self) -> str | None:
        """Return where its ledger lies that counts now; ``None`` where nothing was begun.

        Raises:
            JobError: when that can't be told, or the folder is gone.
        """
        if self.shard is None:
            return self.root
        found = self.tenure()
        if found is None or not found.epoch:
            return None
        path = layout.epoch_folder(self.root, self.shard, found.epoch)
        if os.path.lexists(os.path.join(path, LEDGER)):
            return path
        try:
            names = set(os.listdir(path))
        except OSError as error:
            raise JobError(f"{one_line(path)}: {error.strerror or error}") from error
        origin = atomic.get_json(os.path.join(path, layout.ORIGIN)) or {}
        if origin.get("from") is not None or names - _BARE:
            raise JobError(f"{one_line(path)}: the ledger of shard {self.shard} is gone")
        return None  # its owner has just come, or went before it had begun


class Root:
    """One job that is read.

    Args:
        path: of its folder.

    Raises:
        JobError: when there is none, or its manifest can't be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        self.sharding: Sharding | None = None
        if manifest.is_sharded(path):
            self.manifest = manifest.read(path)
            self.sharding = self.manifest.sharding(path)
            self._mine = frozenset(self.manifest.mine())

    def parts(self) -> list[Part]:
        """Return what of it has a ledger, or may have one soon: its shards that are there, or the job itself."""
        if self.manifest is None:
            return [Part(self.path)]
        return [Part(self.path, shard) for shard in layout.shards_there(self.path) if shard in self._mine]

    def part_of(self, host: str, digest: int | None = None) -> Part | None:
        """Return what has the targets of a host; ``None`` where that is a shard of another folder, or isn't there.

        Args:
            host: its name.
            digest: of what a target asks for, as the ledger has it: one without a host goes by that.
        """
        if self.sharding is None:
            return Part(self.path)
        shard = self.sharding.shard_of_row((None, host, 0.0, "", None, digest, 0))
        is_there = shard in self._mine and os.path.isdir(layout.shard_folder(self.path, shard))
        return Part(self.path, shard) if is_there else None

    def belongs_to(self, other: Root) -> bool:
        """Tell whether both are parts of one job, such as ``--shard 1/2`` and ``--shard 2/2`` make them."""
        mine, its = self.manifest, other.manifest
        if mine is None or its is None or mine.part is None or its.part is None:
            return False
        is_alike = (mine.sharding_id, mine.part[1], mine.outputs) == (its.sharding_id, its.part[1], its.outputs)
        return is_alike and mine.part[0] != its.part[0]


def check_apart(paths: Sequence[str]) -> None:
    """Refuse to read a job twice, by whatever path, or beside a copy of it: all of it would count twice.

    Args:
        paths: of the folders of jobs; what is no folder is let pass.

    Raises:
        JobError: naming the second path.
    """
    seen: dict[tuple[int, int], str] = {}
    told: dict[object, str] = {}
    for path in paths:
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # who opens it says so
            continue
        place = (found.st_dev, found.st_ino)
        if place in seen:
            how = "" if seen[place] == path else f", as {one_line(seen[place])}"
            raise JobError(f"{one_line(path)}: the same job was given before{how}")
        seen[place] = path
        for identity in _identities(path):
            if identity in told:
                raise JobError(
                    f"{one_line(path)}: the same job was given before, as {one_line(told[identity])}: a copy"
                )
            told[identity] = path


def _identities(path: str) -> list[object]:
    """Return what no other folder has unless it is a copy, or the same part of the same job."""
    try:
        found = manifest.read(path) if manifest.is_sharded(path) else None
    except JobError:  # who opens it says so
        return []
    if found is None:
        return []
    return [found.job_id, *([] if found.part is None else [(found.sharding_id, found.part)])]


class Shelf:
    """Keeps a few of many ledgers open to be read; the one that was asked for longest ago goes first.

    Args:
        most: so many are open at once.

    Not thread-safe.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._open: collections.OrderedDict[Part, JobReader] = collections.OrderedDict()

    def reader(self, part: Part) -> JobReader | None:
        """Return the reader of a part, in the place that counts now; ``None`` where nothing of it was begun.

        It may be closed as soon as another one is asked for.

        Raises:
            JobError: when it is damaged, or gone.
        """
        with named(part):
            folder = part.folder()
            reader = self._open.get(part)
            if reader is not None and reader.path == folder:
                self._open.move_to_end(part)
                return reader
            self._let_go(part)
            if folder is None:
                return None
            try:
                self._open[part] = reader = JobReader(folder)
            except NotBegun:
                if part.shard is None:
                    raise
                return None
            while len(self._open) > self._most:
                self._let_go(next(iter(self._open)))
            return reader

    def look(self, part: Part, at: Callable[[JobReader], _T], none: _N) -> _T | _N:
        """Return what is found in a part, in a place that counted before and afterwards.

        What was committed there by then is in any later place, too: an owner's successor first says that it has the
        shard, and then copies what there is.

        Args:
            part: where to look.
            at: called with its reader, perhaps several times; lets go of that when it returns.
            none: what is returned where nothing was begun.

        Raises:
            JobError: when it is damaged, or gone.
        """
        for left in reversed(range(_TRIES)):
            try:
                reader = self.reader(part)
                if reader is None:
                    return none
                with named(part):
                    found = at(reader)
            except JobError:
                reader = self._open.get(part)
                if not left or reader is None or not _has_moved(part, reader.path):
                    raise
                continue
            if not _has_moved(part, reader.path):
                return found
        raise JobError(f"{one_line(part.name)}: changes its owner all the time")

    def close(self) -> None:
        """Let go of all of them. May be called again."""
        while self._open:
            self._let_go(next(iter(self._open)))

    def _let_go(self, part: Part) -> None:
        reader = self._open.pop(part, None)
        if reader is not None:
            reader.close()


def grouped(roots: Sequence[Root]) -> list[list[Root]]:
    """Return jobs so that the parts of one stand together, in the order in which the first of each was given."""
    groups: list[list[Root]] = []
    for root in roots:
        for group in groups:
            if all(root.belongs_to(other) for other in group):
                group.append(root)
                break
        else:
            groups.append([root])
    return groups


@contextlib.contextmanager
def named(part: Part) -> Iterator[None]:
    """Have trouble with a shard say which one it is.

    Raises:
        JobError: in place of one that doesn't.
    """
    try:
        yield
    except JobError as error:
        name = one_line(part.name)
        if part.shard is None or name in str(error):
            raise
        raise JobError(f"{name}: {error}") from error


def _has_moved(part: Part, folder: str) -> bool:
    return part.shard is not None and part.folder() != folder
