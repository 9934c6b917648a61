"""The outputs of a job, driven as one: bodies first, so that the records can say where they lie, then the records."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool import disk
from crawlpool.errors import ConfigError, SinkError
from crawlpool.record import with_bodies
from crawlpool.redact import one_line
from crawlpool.sinks.marks import Mark
from crawlpool.sinks.records import Place, RecordsSink

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from crawlpool.models import Result

#: What a job writes unless told otherwise.
RECORDS = "results.jsonl"


class DurableSink(Protocol):
    """An output of a job. One thread drives it; every method raises ``SinkError`` when it can't be written."""

    def write_all(self, results: Sequence[Result]) -> Any:
        """Write what it keeps of some results."""

    def sync(self) -> Mark:
        """Return when all is on the disk; return what may be committed."""

    def committed(self, mark: Mark) -> None:
        """Take it that a mark is committed."""

    def complete(self) -> Mark:
        """As ``sync``, when nothing is to come any more."""

    def close(self) -> None:
        """Let go of the files."""


def with_records(outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs of a job, with records among them that lie in its folder: a job is read back by these."""
    if any(is_records(name) and not os.path.isabs(name) for name in outputs):
        return tuple(outputs)
    return (*outputs, RECORDS)


def is_records(name: str) -> bool:
    """Tell whether an output takes records."""
    return name.lower().endswith(".jsonl")


class JobOutputs:
    """All outputs of a job, open at what is committed of each.

    Args:
        folder: the job's; names that aren't absolute are of files in it.
        names: ``*.jsonl``, ``*.warc.gz``, and folders, which end in ``/``.
        marks: what is committed of each, by name.
        run: the ordinal of the run.
        headers: the names of response headers that the records keep.
        rotate_bytes: the size at which a file ends and another one begins; ``None`` for never.
        keeps_credentials: whether WARC records show credentials.

    Raises:
        SinkError: when one can't be opened; those opened before are closed. So do all methods.
        ConfigError: for a name of another kind.

    Not thread-safe: the clerk drives them.
    """

    def __init__(
        self,
        folder: str,
        names: Sequence[str],
        marks: Mapping[str, Mark],
        *,
        run: int = 1,
        headers: Container[str] | None = None,
        rotate_bytes: int | None = None,
        keeps_credentials: bool = False,
    ) -> None:
        self._sinks: dict[str, DurableSink] = {}
        try:
            for name in sorted(names, key=is_records):  # stable: those that keep bodies first
                path, mark = os.path.join(folder, name), marks.get(name, Mark())
                if mark == Mark():
                    _make_folder_of(path, folder)
                if is_records(name):
                    self._sinks[name] = RecordsSink(path, headers=headers, run=run, mark=mark)
                elif name.lower().endswith(".warc.gz"):
                    from crawlpool.sinks.warc import WarcSink

                    self._sinks[name] = WarcSink(
                        path, rotate_bytes=rotate_bytes, credentials=keeps_credentials, mark=mark
                    )
                elif name.endswith("/"):
                    from crawlpool.sinks.bodies import BodiesSink

                    self._sinks[name] = BodiesSink(path, mark=mark)
                else:
                    raise ConfigError(
                        f"output={name!r}: .jsonl, .warc.gz and folders that end in / are outputs of a job"
                    )
        except BaseException:
            self.close()
            raise
        self._records = [sink for sink in self._sinks.values() if isinstance(sink, RecordsSink)]
        self._bodies = [sink for sink in self._sinks.values() if not isinstance(sink, RecordsSink)]
        self._prepare = [sink.prepare for sink in self._bodies if hasattr(sink, "prepare")]
        #: Whether answers must keep what came over the wire.
        self.needs_wire = any(getattr(sink, "needs_wire", False) for sink in self._sinks.values())

    def line_of(self, result: Result) -> bytes:
        """Return the line of a result's record, as it is before its body is kept; also prepare that. Thread-safe."""
        for prepare in self._prepare:
            prepare(result)
        return self._records[0].line_of(result)

    def write(
        self, results: Sequence[Result], items: Sequence[Mapping[str, Any]], lines: Sequence[bytes]
    ) -> list[Place]:
        """Write results and items; return where the record of each result stands in the first of the records' files.

        Args:
            results: the results.
            items: what handlers emitted.
            lines: what ``line_of`` returned of each result.
        """
        for sink in self._bodies:
            sink.write_all(results)
        if self._bodies:
            lines = [with_bodies(line, result) for line, result in zip(lines, results, strict=True)]
        places = [records.write_lines(lines) for records in self._records]
        for records in self._records:
            records.emit_all(items)
        return places[0]

    def keep_exchanges(self, results: Sequence[Result]) -> None:
        """Write the exchanges of targets that have no record here, where an output keeps such.

        Args:
            results: of targets that were handed over to another shard.
        """
        for sink in self._bodies:
            if getattr(sink, "needs_wire", False):
                sink.write_all(results)

    def sync(self) -> dict[str, Mark]:
        """Return when all is on the disk; return what may be committed of each."""
        return {name: sink.sync() for name, sink in self._sinks.items()}

    def complete(self) -> dict[str, Mark]:
        """As ``sync``, when nothing is to come any more."""
        return {name: sink.complete() for name, sink in self._sinks.items()}

    def committed(self, marks: Mapping[str, Mark]) -> None:
        """Take it that marks are committed."""
        for name, mark in marks.items():
            self._sinks[name].committed(mark)

    def close(self) -> None:
        """Let go of all files; what isn't synced may be lost. May be called again."""
        first: SinkError | None = None
        for sink in self._sinks.values():
            try:
                sink.close()
            except SinkError as error:
                first = first or error
        if first is not None:
            raise first


def _make_folder_of(path: str, job: str) -> None:
    """Make the folder of an output where there is none, and see that its name outlives a loss of power.

    Of what lies in the job every folder's name is synced, made now or before: who made it may have been killed before
    it came to that. This is done as long as nothing of the output is committed.
    """
    folder, job = os.path.dirname(os.path.abspath(path.rstrip("/"))), os.path.abspath(job)
    missing, at = [], folder
    while not os.path.isdir(at):
        missing.append(at)
        at = os.path.dirname(at)
    unsynced, at = {*missing}, folder
    while at.startswith(os.path.join(job, "")):
        unsynced.add(at)
        at = os.path.dirname(at)
    try:
        for one in reversed(missing):
            disk.make_folder(one)
        for parent in sorted({os.path.dirname(one) for one in unsynced}):
            disk.sync_folder(parent)
    except OSError as error:
        raise SinkError(f"{one_line(folder)}: {error.strerror or error}") from error
