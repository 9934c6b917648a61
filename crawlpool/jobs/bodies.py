"""The bodies that a job has kept: found by what a record says, in its WARC files or in files of their own."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from crawlpool.errors import CrawlPoolError, JobError, WarcError
from crawlpool.jobs.files import file_trouble_told, found
from crawlpool.redact import one_line
from crawlpool.sinks.warc_reading import StoredResponse, read_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WARC = (".warc.gz", ".warc")


class KeptAt(NamedTuple):
    """Where a body is kept: the folder that ``file`` is relative to, and what of the file it is."""

    folder: str
    file: str
    offset: int
    length: int

    @property
    def is_warc(self) -> bool:
        """Whether it is a record of a WARC file, and not the body itself."""
        return self.file.lower().endswith(_WARC)

    def __str__(self) -> str:
        return f"{one_line(self.file)} at {self.offset:,}"


class Bodies:
    """The bodies of one job.

    Args:
        folder: the job's.
        outputs: the names of its outputs: only files that lie where these do are read.

    Raises:
        JobError: from each method, when what a record tells isn't there, or isn't what was written.

    Thread-safe: it has no state.
    """

    def __init__(self, folder: str, outputs: Sequence[str]) -> None:
        self.folder = folder
        # Of a WARC file the base name is told, of a body its path from where its folder lies.
        folders = (os.path.dirname(os.path.join(folder, name).rstrip("/")) for name in outputs)
        self._folders = tuple(dict.fromkeys((folder, *folders)))

    def places(self, record: Mapping[str, Any]) -> Iterator[KeptAt]:
        """Yield each place where the body of a record is kept."""
        for place in record.get("body") or ():
            try:
                file, offset, length = place["file"], place["offset"], place["length"]
                is_well = isinstance(file, str) and min(int(offset), int(length)) >= 0
            except (TypeError, KeyError, ValueError):
                is_well = False
            # Whoever made the folder must not have files of the reader's read that lie elsewhere.
            if not is_well or os.path.isabs(file) or ".." in file.split("/") or "\0" in file:
                raise JobError("the record tells of no place where a body may lie")
            yield KeptAt(self._folder_of(file), file, offset, length)

    def response(self, record: Mapping[str, Any]) -> StoredResponse | None:
        """Return the answer of a record as a WARC file has it; ``None`` where none does."""
        for place in self.places(record):
            if place.is_warc:
                return self.response_at(place)
        return None

    def response_at(self, place: KeptAt) -> StoredResponse:
        """Return the answer that a WARC file has at a place."""
        folder, file = os.path.split(os.path.join(place.folder, place.file))
        with file_trouble_told(one_line(place.file)):
            try:
                return read_response(folder, file, place.offset, place.length)
            except WarcError as error:
                raise JobError(one_line(str(error))) from error

    def content(self, record: Mapping[str, Any]) -> bytes | None:
        """Return the decoded body of a record; ``None`` where none was kept."""
        for place in sorted(self.places(record), key=lambda place: place.is_warc):  # a file of its own is sooner read
            return self.content_at(place, record)
        return None

    def content_at(self, place: KeptAt, record: Mapping[str, Any]) -> bytes:
        """Return the decoded body that lies at a place."""
        if not place.is_warc:
            with (
                file_trouble_told(one_line(place.file)),
                open(found(os.path.join(place.folder, place.file)), "rb") as file,
            ):
                file.seek(place.offset)
                content = file.read(place.length)
            if len(content) < place.length:
                raise JobError(f"{place}: the file ends there, and {place.length:,} bytes should follow")
            return content
        stored, size = self.response_at(place), record.get("bytes")
        try:
            return stored.content(size if isinstance(size, int) else None)
        except CrawlPoolError as error:
            raise JobError(f"{place}: {one_line(str(error))}") from error

    def open(self, record: Mapping[str, Any]) -> BinaryIO | None:
        """Return a file object with the decoded body of a record; ``None`` where none was kept.

        A body that has a file of its own isn't read into memory.
        """
        for place in self.places(record):
            if not place.is_warc and place.offset == 0:
                with file_trouble_told(one_line(place.file)):
                    return open(found(os.path.join(place.folder, place.file)), "rb")
        content = self.content(record)
        return None if content is None else io.BytesIO(content)

    def _folder_of(self, file: str) -> str:
        for folder in self._folders:
            try:
                found(os.path.join(folder, file))
            except FileNotFoundError:
                continue
            return folder
        return self._folders[0]
