"""The records of a job: JSON lines in the numbered files of its folder, and where in them each record stands."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.escape import json_bytes
from crawlpool.record import SCHEMA_VERSION, record_line
from crawlpool.sinks.base import json_of_item
from crawlpool.sinks.marks import Mark
from crawlpool.sinks.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.models import Result


class Place(NamedTuple):
    """Where a record stands: the number of the part, and offset and length of its line in bytes."""

    part: int
    offset: int
    length: int


class RecordsSink:
    """Writes records and items as lines of JSON; what it has written counts as far as its mark is committed.

    Args:
        path: of the first file, which ends in ``.jsonl``.
        headers: the names of response headers to keep in the records; ``record.EVERY_HEADER`` for all, ``None`` for
            none.
        run: the ordinal of the run that writes.
        rotate_bytes: a file that would become longer ends before; ``None`` for one file without end.
        mark: what is committed of it.

    Raises:
        SinkError: as ``Parts`` does, here and in each call.

    Not thread-safe: a job's clerk drives it.
    """

    keeps_bodies = False
    needs_wire = False

    def __init__(
        self,
        path: str,
        *,
        headers: Container[str] | None = None,
        run: int = 1,
        rotate_bytes: int | None = None,
        mark: Mark | None = None,
    ) -> None:
        if isinstance(headers, Iterable):
            headers = frozenset(str(name).lower() for name in headers)
        self._headers = headers
        self._run = run
        self._parts = Parts(path, rotate_bytes=rotate_bytes, mark=mark)

    def line_of(self, result: Result) -> bytes:
        """Return the line of a result's record. Thread-safe: it changes nothing."""
        return record_line(result, run=self._run, headers=self._headers)

    def write_all(self, results: Sequence[Result]) -> list[Place]:
        """Write the records of some results; return where each stands."""
        return self.write_lines([self.line_of(result) for result in results])

    def write_lines(self, lines: Sequence[bytes]) -> list[Place]:
        """Write records that are lines already; return where each stands."""
        if not lines:
            return []
        _, offset = self._parts.append(b"".join(lines))
        places, part = [], self._parts.part
        for line in lines:
            places.append(Place(part, offset, len(line)))
            offset += len(line)
        return places

    def emit_all(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Write items of handlers, each as ``{"v":1,"item":{…},"run":1}``.

        Raises:
            ConfigError: when one isn't a mapping that JSON can say; none is written then.
        """
        lines = [f'{{"v":{SCHEMA_VERSION},"item":{json_of_item(item)},"run":{self._run}}}\n' for item in items]
        if lines:
            self._parts.append(json_bytes("".join(lines)))

    def sync(self) -> Mark:
        """Return when all is on the disk; return what may be committed."""
        return self._parts.sync()

    def committed(self, mark: Mark) -> None:
        """Take it that a mark is committed: files that are complete get their names."""
        self._parts.committed(mark)

    def complete(self) -> Mark:
        """As ``sync``, when nothing is to come any more."""
        return self._parts.complete()

    def close(self) -> None:
        """Let go of the files. What isn't synced may be lost. May be called again."""
        self._parts.close()
