"""What should stand where in the files of a job, and what was found to be wrong: the notes of who verifies it.

They are as many as the job has targets, so they lie in a temporary file, and memory doesn't grow with the job.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE record (
    part INTEGER, offset INTEGER, length INTEGER, id INTEGER, digest BLOB, elsewhere INTEGER,
    PRIMARY KEY (part, offset)
) WITHOUT ROWID;
CREATE TABLE body (
    file TEXT, offset INTEGER, length INTEGER, id INTEGER, url TEXT, sha256 TEXT, size INTEGER,
    PRIMARY KEY (file, offset)
) WITHOUT ROWID;
"""


class RecordAt(NamedTuple):
    """Where the record of a target should stand, and the digest of what it should say.

    ``elsewhere`` is how many of its redirects other shards were answered by.
    """

    part: int
    offset: int
    length: int
    id: int
    digest: bytes
    elsewhere: int = 0


class BodyAt(NamedTuple):
    """Where the response of a target should lie in a WARC file, and what its record says of the body."""

    file: str
    offset: int
    length: int
    id: int
    url: str | None
    sha256: str | None
    size: int | None


@dataclasses.dataclass(frozen=True)
class Flaw:
    """Something that is wrong with a job.

    Args:
        place: the file, with the offset in bytes where that is known; ``ledger`` for what the ledger says itself.
        what: what is wrong there.
    """

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Flaws:
    """Collects flaws; all are counted, and the first are kept.

    Args:
        most: so many are kept.

    Not thread-safe.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept: list[Flaw] = []
        self.count = 0
        self._files: set[str] = set()
        self._troubles: set[str] = set()

    def add(self, file: str, what: str, offset: int | None = None) -> None:
        """Take one.

        Args:
            file: as messages call it.
            what: is wrong.
            offset: where in the file.
        """
        self.count += 1
        self._files.add(file)
        if len(self.kept) < self._most:
            self.kept.append(Flaw(file if offset is None else f"{file} at {offset:,}", what))

    def add_trouble(self, file: str, error: JobError) -> None:
        """Take it that something can't be looked at, and why; the same once, however often it was come upon.

        Args:
            file: as messages call what was looked at; the error may name a file in it.
            error: why.
        """
        what = str(error)
        if what in self._troubles:
            return
        self._troubles.add(what)
        if what.startswith((f"{file}/", f"{file}: ")):  # it names the place itself, or a closer one
            below, _, what = what[len(file) :].partition(": ")
            file += below
        self.add(file, what)

    def heard(self, flaws: Iterable[Flaw]) -> None:
        """Take it that somebody else tells of these: what can't be looked at for the same reason isn't told again."""
        for flaw in flaws:
            self._troubles.update((flaw.what, f"{flaw.place}: {flaw.what}"))

    def has(self, file: str) -> bool:
        """Tell whether there is one of a file."""
        return file in self._files


class Expected:
    """What should stand where; a context manager.

    Raises:
        JobError: from each method, when the temporary file can't be written.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, gone at the end
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")

    def add_record(self, record: RecordAt) -> bool:
        """Take a record; return whether none of another target should stand there."""
        return self._add("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", record)

    def add_body(self, body: BodyAt) -> bool:
        """Take a response; return whether none of another target should lie there."""
        return self._add("INSERT INTO body VALUES (?, ?, ?, ?, ?, ?, ?)", body)

    def records(self, part: int) -> Iterator[RecordAt]:
        """Yield the records of a part, in order."""
        query = "SELECT * FROM record WHERE part = ? ORDER BY offset"
        return map(RecordAt._make, self._database.execute(query, (part,)))

    def records_after(self, part: int) -> Iterator[RecordAt]:
        """Yield the records of all parts after one."""
        return map(RecordAt._make, self._database.execute("SELECT * FROM record WHERE part > ?", (part,)))

    def bodies(self, file: str) -> Iterator[BodyAt]:
        """Yield the responses of a file, in order."""
        return map(BodyAt._make, self._database.execute("SELECT * FROM body WHERE file = ? ORDER BY offset", (file,)))

    def files(self) -> list[str]:
        """Return the files that have responses."""
        return [row[0] for row in self._database.execute("SELECT DISTINCT file FROM body ORDER BY file")]

    def close(self) -> None:
        """Forget all. May be called again."""
        self._database.close()

    def __enter__(self) -> Expected:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, statement: str, row: tuple[object, ...]) -> bool:
        try:
            self._database.execute(statement, row)
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as error:
            raise JobError(f"a temporary file is needed, in the folder of TMPDIR: {error}") from error
        return True
