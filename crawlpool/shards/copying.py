"""Copying what counts of an epoch's folder: the ledger as committed, and of each output what the ledger tells of.

The folder may be that of a process that is stopped and wakes any moment. So nothing of it is moved or changed, and no
file in the copy is one that its former owner could still write to: files that are complete, which nobody ever writes to
again, are linked; everything else is copied as far as it counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.ledger.flight import NAME as FLIGHT
from crawlpool.ledger.schema import NAME as LEDGER
from crawlpool.ledger.schema import trouble_told
from crawlpool.redact import one_line
from crawlpool.shards.stable import copy_stable
from crawlpool.sinks.bodies import body_ordinal
from crawlpool.sinks.marks import OPEN_SUFFIX, Mark, part_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PIECE_BYTES = 1 << 20
#: What lies beside the ledger's file and is a part of it; its shared memory isn't.
_BESIDE = ("", "-wal", "-journal")
_NEW_SUFFIX = ".new"  # of records that were written anew (``jobs.again``) and have yet to take their names
_MOVES, _BATCHES = "moves", "batches"


@dataclasses.dataclass(frozen=True)
class Known:
    """What a copied ledger says of the folder that it lies in.

    Args:
        marks: what counts of each output, by its name.
        moves: files that have yet to take their names, relative to the folder.
        batches: the highest batch of handed-over segments that each epoch has numbered.
    """

    marks: Mapping[str, Mark] = dataclasses.field(default_factory=dict)
    moves: frozenset[str] = frozenset()
    batches: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Copier:
    """Copies an epoch's folder.

    Args:
        source: the folder.
        target: a folder that is there and empty.
        check: called now and then; raises when the copy isn't wanted any more.

    Not thread-safe. The methods raise ``SinkError`` when the copy can't be written, and ``JobError`` when what is to be
    copied isn't what its ledger says.
    """

    def __init__(self, source: str, target: str, check: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._check = check
        self._folders = {target}

    def ledger(self, *, is_shared: bool) -> Known:
        """Copy the ledger, as it was at one moment; return what it says.

        Args:
            is_shared: whether the copy must do without a write-ahead log.
        """
        paths = [
            (os.path.join(self._source, LEDGER + end), os.path.join(self._target, LEDGER + end)) for end in _BESIDE
        ]
        copy_stable(paths, self._check)
        path = os.path.join(self._target, LEDGER)
        if not os.path.exists(path):
            return Known()  # its owner came to nothing
        with _database(path) as database:
            # Whatever lies beside the file is put into it first, by SQLite itself.
            database.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_shared else 'WAL'}")
            database.execute("PRAGMA synchronous = FULL")
            self._check()
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise JobError(f"{one_line(self._source)}: the ledger is damaged: {one_line(found)}")
            known = _known(database)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._sync(path)
        return known

    def outputs(self, known: Known) -> None:
        """Take over what counts of each output."""
        for name, mark in known.marks.items():
            if name.endswith("/"):
                self._bodies(name, mark)
            else:
                self._parts(name, mark, known.moves)

    def small(self, names: tuple[str, ...] = (FLIGHT, "job.toml")) -> None:
        """Copy the files beside, where they are there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._copy(os.path.join(self._source, name), os.path.join(self._target, name))

    def sync(self) -> None:
        """Return when all names are on the disk."""
        with _told(self._target):
            for folder in sorted(self._folders):
                disk.sync_folder(folder)

    # One output --------------------------------------------------------------------------------------------------

    def _parts(self, name: str, mark: Mark, moves: frozenset[str]) -> None:
        folder, base = os.path.split(name)
        for part in range(1, mark.part):
            final = os.path.join(folder, part_name(base, part))
            self._take(self._found(final, moves), final)
        final = os.path.join(folder, part_name(base, mark.part))
        if mark.length == 0 and not mark.is_complete:
            return  # nothing of it counts, and there may be no file
        # Its owner may go on with it, even if it is complete: it is copied, and as far as it counts.
        to = final if mark.is_complete else final + OPEN_SUFFIX
        self._copy(self._found(final, moves), self._place(to), length=mark.length)

    def _found(self, final: str, moves: frozenset[str]) -> str:
        """Return the path of the file that is a part, by whatever name it has now."""
        for name in (final, final + OPEN_SUFFIX):
            path = os.path.join(self._source, name)
            if name in moves and os.path.exists(path + _NEW_SUFFIX):
                return path + _NEW_SUFFIX
            if os.path.exists(path):
                return path
        raise JobError(f"{one_line(os.path.join(self._source, final))}: is missing, and its ledger tells of it")

    def _bodies(self, name: str, mark: Mark) -> None:
        found = 0
        for folder, _, files in os.walk(os.path.join(self._source, name.rstrip("/"))):
            self._check()
            for file in files:
                ordinal = body_ordinal(file)
                if ordinal is not None and ordinal <= mark.length:
                    path = os.path.join(folder, file)
                    self._take(path, os.path.relpath(path, self._source))
                    found += 1
        if found < mark.length:
            raise JobError(
                f"{one_line(self._source)}: of {mark.length:,} bodies in {one_line(name)} {found:,} are there"
            )
        if not mark.length:
            self._place(os.path.join(name, "x"))

    # Files -------------------------------------------------------------------------------------------------------

    def _take(self, path: str, name: str) -> None:
        """Have a complete file in the copy, too: by a link, where that can be."""
        self._check()
        to = self._place(name)
        try:
            disk.link(path, to)
        except OSError:  # another file system, one without links, or too many of them
            self._copy(path, to)

    def _place(self, name: str) -> str:
        """Return the path of a file of the copy; the folders that it lies in are made."""
        path = os.path.join(self._target, name)
        missing, at = [], os.path.dirname(path)
        while at not in self._folders:
            missing.append(at)
            at = os.path.dirname(at)
        with _told(path):
            for folder in reversed(missing):
                disk.make_folder(folder)
                self._folders.add(folder)
        return path

    def _copy(self, path: str, to: str, length: int | None = None) -> None:
        with _told(to), contextlib.ExitStack() as opened:
            source = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            opened.callback(os.close, source)
            target = disk.open_file(to, create=True, exclusive=True)
            opened.callback(os.close, target)
            left = os.fstat(source).st_size if length is None else length
            while left > 0 and (piece := os.read(source, min(left, _PIECE_BYTES))):
                self._check()
                disk.write_all(target, piece)
                left -= len(piece)
            disk.sync_file(target)
        if left > 0:
            raise JobError(f"{one_line(path)}: ends {left:,} bytes before what its ledger tells of")

    def _sync(self, path: str) -> None:
        with _told(path):
            fd = disk.open_file(path)
            try:
                disk.sync_file(fd)
            finally:
                os.close(fd)


@contextlib.contextmanager
def _database(path: str) -> Iterator[sqlite3.Connection]:
    with trouble_told(path):
        database = sqlite3.connect(path, isolation_level=None)
        try:
            yield database
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise JobError(f"{one_line(path)}: no ledger: {error}") from None
        finally:
            database.close()


def _known(database: sqlite3.Connection) -> Known:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"sink", "job"} <= tables:
        return Known()  # its tables were never made
    try:
        marks = {name: Mark(**json.loads(text)) for name, text in database.execute("SELECT name, mark FROM sink")}
        texts: dict[str, Any] = dict(
            database.execute("SELECT key, value FROM job WHERE key IN (?, ?)", (_MOVES, _BATCHES)).fetchall()
        )
        return Known(marks, frozenset(json.loads(texts.get(_MOVES, "[]"))), json.loads(texts.get(_BATCHES, "{}")))
    except (ValueError, TypeError) as error:
        raise JobError(f"the ledger is damaged: {one_line(str(error))}") from None


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error
