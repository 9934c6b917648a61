"""Taking failed targets of a job again: their records go, so that each URL has one line, and they wait once more.

The files of records are written anew beside the old ones and synced; then one transaction of the ledger says that they
count, and that they are to take the old ones' names; then they do. A crash before the transaction leaves the old files
as they were, one after it finds in the ledger what is still to be renamed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.config import check
from crawlpool.errors import ErrorKind
from crawlpool.jobs.entries import STATES, host_of_line
from crawlpool.jobs.outputs import is_records
from crawlpool.ledger.schema import transaction, trouble_told
from crawlpool.models import Outcome
from crawlpool.sinks.marks import OPEN_SUFFIX, Mark, part_name, tail_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawlpool.ledger.store import Ledger

NEW_SUFFIX = ".new"
#: Under which key the ledger has the files that have yet to take their names; there once anything was taken again.
MOVES = "moves"
_BATCH = 5000
_PIECE_BYTES = 1 << 20


def check_kinds(kinds: Collection[str]) -> None:
    """Raise ``ConfigError`` unless each is a kind of error, a status such as ``503``, or ``4xx`` or ``5xx``."""
    for one in kinds:
        is_status = len(one) == 3 and one[0] in "45" and (one[1:] == "xx" or one[1:].isdigit())
        check(
            is_status or one in set(map(str, ErrorKind)),
            "retry",
            one,
            "a kind of error, or a status such as 503 or 5xx",
        )


def finish_moves(folder: str, ledger: Ledger) -> None:
    """Have files take their names that a run was broken off before; those that no transaction speaks of go.

    Raises:
        SinkError: when that can't be done.
    """
    with trouble_told(folder):
        moves = json.loads(ledger.value(MOVES) or "[]")
        for name in moves:
            path = os.path.join(folder, name)
            if os.path.exists(path + NEW_SUFFIX):
                disk.rename(path + NEW_SUFFIX, path)
                disk.sync_folder(os.path.dirname(path) or os.curdir)
        if moves:
            with transaction(ledger.database):
                ledger.put({MOVES: "[]"})


def take_again(folder: str, outputs: Sequence[str], ledger: Ledger, kinds: Collection[str]) -> int:
    """Have failed targets wait again.

    Args:
        folder: the job's.
        outputs: the names of its outputs.
        ledger: its ledger; nobody writes the outputs meanwhile.
        kinds: which: kinds of errors and statuses; none for all that failed, but bad lines, which would fail again.

    Returns:
        How many.

    Raises:
        SinkError: when it can't be done; the job is as it was then.
    """
    with trouble_told(ledger.path):
        found = [row for row in _failed(ledger) if _is_wanted(row, kinds)]
        if not found:
            return 0
        records = [name for name in outputs if is_records(name)]
        marks = ledger.marks()
        gone = {(part, offset): length for _, _, _, part, offset, length in found}
        first = records[0]
        lines = _digests(folder, first, marks[first], gone)
        shifts: dict[int, list[tuple[int, int]]] = {}
        moves: list[str] = []
        for name in records:
            for part, path in _files(folder, name, marks.get(name)):
                cuts = _rewritten(path, lines)
                if not cuts:
                    continue
                moves.append(os.path.relpath(path, folder))
                if name == first:
                    shifts[part] = cuts
                if part == marks[name].part:
                    marks[name] = _mark_of(path + NEW_SUFFIX, marks[name])
        _commit(ledger, found, shifts, marks, moves)
    finish_moves(folder, ledger)
    return len(found)


def _failed(ledger: Ledger) -> Iterator[Any]:
    """Go through what failed or answered with an error: id, kind, status, and where its record stands."""
    states = (STATES[Outcome.FAILED], STATES[Outcome.HTTP_ERROR])
    return iter(
        ledger.database.execute(
            "SELECT result.id, kind, status, part, offset, length FROM result JOIN target USING (id) "
            "WHERE outcome IN (?, ?) AND (verdict IS NULL OR json_extract(verdict, '$.crashes') IS NOT NULL)",
            states,
        )
    )


def _is_wanted(row: Any, kinds: Collection[str]) -> bool:
    _, kind, status, *_ = row
    if kind is not None:
        return not kinds or kind in kinds
    return str(status) in kinds or f"{str(status)[:1]}xx" in kinds


def _files(folder: str, name: str, mark: Mark | None) -> Iterator[tuple[int, str]]:
    """Go through the files of an output that are there: the number of the part, and the path."""
    path = os.path.join(folder, name)
    for part in range(1, (mark or Mark()).part + 1):
        final = os.path.join(os.path.dirname(path), part_name(os.path.basename(path), part))
        for there in (final, final + OPEN_SUFFIX):
            if os.path.exists(there):
                yield part, there


def _digests(folder: str, name: str, mark: Mark, gone: Mapping[tuple[int, int], int]) -> set[bytes]:
    """Return the digests of the lines that go: other outputs have the very same ones."""
    found: set[bytes] = set()
    for part, path in _files(folder, name, mark):
        with open(path, "rb") as file:
            for offset in sorted(at for of, at in gone if of == part):
                file.seek(offset)
                found.add(_digest(file.read(gone[part, offset])))
    return found


def _rewritten(path: str, lines: set[bytes]) -> list[tuple[int, int]]:
    """Write a file anew without some lines; return of each where it began and how long it was."""
    cuts: list[tuple[int, int]] = []
    fd = disk.open_file(path + NEW_SUFFIX, create=True)
    try:
        disk.cut(fd, 0)
        kept: list[bytes] = []
        size = at = 0
        with open(path, "rb") as file:
            for line in file:
                if _digest(line) in lines:
                    cuts.append((at, len(line)))
                else:
                    kept.append(line)
                    size += len(line)
                    if size >= _PIECE_BYTES:
                        disk.write_all(fd, b"".join(kept))
                        kept, size = [], 0
                at += len(line)
        disk.write_all(fd, b"".join(kept))
        if cuts:
            disk.sync_file(fd)
    finally:
        os.close(fd)
    if cuts:
        disk.sync_folder(os.path.dirname(path) or os.curdir)
    else:
        disk.remove(path + NEW_SUFFIX)
    return cuts


def _mark_of(path: str, before: Mark) -> Mark:
    fd = disk.open_file(path)
    try:
        length, crc = os.fstat(fd).st_size, 0
        os.lseek(fd, 0, os.SEEK_SET)
        while piece := os.read(fd, _PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
        return dataclasses.replace(before, length=length, tail=tail_of(fd, length), crc=crc)
    finally:
        os.close(fd)


def _commit(
    ledger: Ledger,
    found: Sequence[Any],
    shifts: Mapping[int, Sequence[tuple[int, int]]],
    marks: Mapping[str, Mark],
    moves: Sequence[str],
) -> None:
    books = json.loads(ledger.value("books") or "{}")
    for _, kind, status, *_ in found:
        outcome = Outcome.HTTP_ERROR if kind is None else Outcome.FAILED
        books["ended"][outcome.value] -= 1
        counts, key = (books["statuses"], str(status)) if kind is None else (books["kinds"], kind)
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
    ids = json.dumps([row[0] for row in found])
    with transaction(ledger.database):
        execute = ledger.database.execute
        _restore_suspects(execute, ids)
        execute("DELETE FROM settled WHERE id IN (SELECT value FROM json_each(?))", (ids,))
        execute("UPDATE target SET state = 0, crashes = 0 WHERE id IN (SELECT value FROM json_each(?))", (ids,))
        for part, cuts in shifts.items():
            _shift(execute, part, cuts)
        ledger.put({"books": json.dumps(books), MOVES: json.dumps(moves)})
        ledger.put_marks(marks)


def _restore_suspects(execute: Callable[..., Any], ids: str) -> None:
    """Give those that were given up after crashes their hosts back."""
    query = "SELECT id, n, line FROM target WHERE verdict IS NOT NULL AND id IN (SELECT value FROM json_each(?))"
    for number, n, line in execute(query, (ids,)).fetchall():
        host = host_of_line(line, n)
        where = "host = (SELECT id FROM host WHERE name = ?)"
        execute(f"UPDATE target SET verdict = NULL, rank = 0, {where} WHERE id = ?", (host, number))


def _shift(execute: Callable[..., Any], part: int, cuts: Sequence[tuple[int, int]]) -> None:
    """Have the records of a part stand where they do after lines before them have gone."""
    rows = execute("SELECT id, offset FROM result WHERE part = ? ORDER BY offset", (part,)).fetchall()
    moved: list[tuple[int, int]] = []
    at = by = 0
    for number, offset in rows:
        while at < len(cuts) and cuts[at][0] < offset:
            by += cuts[at][1]
            at += 1
        if by:
            moved.append((number, offset - by))
    for start in range(0, len(moved), _BATCH):
        execute(
            "UPDATE settled SET info = json_set(info, '$[6]', json_extract(moved.value, '$[1]')) "
            "FROM json_each(?) AS moved WHERE settled.id = json_extract(moved.value, '$[0]')",
            (json.dumps(moved[start : start + _BATCH]),),
        )


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
