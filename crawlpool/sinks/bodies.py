"""Bodies as files: the decoded body of each answer, under a name that no server has a say in."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.errors import SinkError
from crawlpool.models import BodyPlace
from crawlpool.redact import one_line
from crawlpool.sinks.base import json_of_item
from crawlpool.sinks.marks import Mark
from crawlpool.sinks.parts import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crawlpool.models import Result

PARTIAL_SUFFIX = ".part"
_PER_FOLDER = 1000
_NAME = re.compile(r"(\d{8,12})\.[a-z0-9]+(?:\.part)?")
#: The only extensions there are; what isn't in here is ``.bin``, whatever the answer calls itself.
EXTENSIONS = {
    "application/atom+xml": ".xml",
    "application/gzip": ".gz",
    "application/javascript": ".js",
    "application/json": ".json",
    "application/ld+json": ".json",
    "application/pdf": ".pdf",
    "application/rss+xml": ".xml",
    "application/xhtml+xml": ".html",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/javascript": ".js",
    "text/plain": ".txt",
    "text/xml": ".xml",
    "video/mp4": ".mp4",
}


class BodiesSink:
    """Writes the decoded body of each answer as a file: ``00/01/00001234.html``.

    The number counts the bodies as they come: a target's own ``n`` is a seed's alone. A folder holds 1,000 files or
    folders at most, until there are 1,000,000,000 bodies. A file is written under a name that ends in ``.part`` and
    renamed; there is none for an answer without a body, nor for a target without an answer.

    Args:
        folder: made, with mode 0700, if it isn't there; its parent must be.
        mark: what a job's ledger has committed, its ``length`` being how many bodies; files that lie there besides and
            have such names go. ``None`` where there is no job: the folder must be empty, and no file is synced.

    Raises:
        SinkError: when the folder can't be made, or isn't empty.

    Thread-safe. In a job one thread drives it: ``write_all``, ``sync``, ``committed``, at last ``complete``.
    """

    #: A crawl calls this sink before those whose records say where a body lies.
    keeps_bodies = True

    def __init__(self, folder: str, *, mark: Mark | None = None) -> None:
        self._folder = folder.rstrip("/" + os.sep) or folder[:1]
        self._base = os.path.basename(self._folder)
        self._name = one_line(folder)
        self._has_job = mark is not None
        self._failure: str | None = None  # only ever set
        # Guards _next, _made, _unsynced and _changed. Files are written without it, folders made under it.
        self._lock = threading.Lock()
        self._next = 1 if mark is None else mark.length + 1
        self._made: str | None = None
        self._unsynced: list[str] = []
        self._changed: set[str] = set()
        with self._guarded():
            self._make(self._folder)
            if mark is not None:
                self._clear()
            elif os.listdir(self._folder):
                raise SinkError(f"{self._name}: the folder isn't empty; bodies of several runs would be mixed in it")

    def write(self, result: Result) -> None:
        """Write the body of ``result``. Raises ``SinkError`` when this or an earlier one can't be written."""
        self.write_all((result,))

    def write_all(self, results: Iterable[Result]) -> None:
        """Write the bodies of several results, and note on each where its body lies; raises as ``write`` does."""
        for result in results:
            content = getattr(result.response, "_content", None)
            if isinstance(content, bytes) and content:
                file = self._write(content, extension_of(result.response))
                result.note("bodies", (*result.bodies, BodyPlace(file, 0, len(content))))

    def emit(self, item: Mapping[str, Any]) -> None:
        """Check an item of a handler; it isn't written. Raises ``ConfigError`` when it isn't JSON."""
        json_of_item(item)

    def sync(self) -> Mark:
        """Return when all files and their names are on the disk: what may be committed now.

        Raises:
            SinkError: when they can't be synced; so does every later call.
        """
        with self._guarded():
            with self._lock:
                unsynced, self._unsynced = self._unsynced, []
                changed, self._changed = self._changed, set()
                count = self._next - 1
            for path in unsynced:
                fd = disk.open_file(path)
                try:
                    disk.sync_file(fd)
                finally:
                    os.close(fd)
            for path in sorted(changed):
                disk.sync_folder(path)
        return Mark(1, count)

    def complete(self) -> Mark:
        """As ``sync``, for bodies that are at their end."""
        return dataclasses.replace(self.sync(), is_complete=True)

    def committed(self, mark: Mark) -> None:
        """Do nothing: each file has its name. Raises ``SinkError`` when an earlier one couldn't be written."""
        self.flush()

    def flush(self) -> None:
        """Do nothing: a file is out when ``write`` returns. Raises ``SinkError`` when an earlier one isn't."""
        with self._guarded():
            pass

    def close(self) -> None:
        """Raise ``SinkError`` if a body couldn't be written; there is nothing to let go of. May be called again."""
        self.flush()

    def _write(self, content: bytes, extension: str) -> str:
        with self._guarded():
            with self._lock:
                ordinal = self._next
                self._next += 1
                inner = self._made_for(ordinal)
            name = f"{ordinal:08}{extension}"
            path = os.path.join(self._folder, inner, name)
            fd = disk.open_file(path + PARTIAL_SUFFIX, create=True, exclusive=True)
            try:
                disk.write_all(fd, content)
            finally:
                os.close(fd)
            disk.rename(path + PARTIAL_SUFFIX, path)
            if self._has_job:
                with self._lock:
                    self._unsynced.append(path)
                    self._changed.add(os.path.dirname(path))
        return f"{self._base}/{inner}/{name}"

    def _made_for(self, ordinal: int) -> str:
        inner = _folder_of(ordinal)
        if inner != self._made:
            self._make(os.path.join(self._folder, inner.partition("/")[0]))
            self._make(os.path.join(self._folder, inner))
            self._made = inner
        return inner

    def _make(self, path: str) -> None:
        if not os.path.isdir(path):
            disk.make_folder(path)
        if self._has_job:  # one that is there, too: who made it may have been killed before its name was on the disk
            self._changed.add(os.path.dirname(path) or os.curdir)

    def _clear(self) -> None:
        """Take away what was written and not committed; it lies in the folder of the next body and in those after."""
        ordinal = self._next
        while os.path.isdir(folder := os.path.join(self._folder, _folder_of(ordinal))):
            for name in sorted(os.listdir(folder)):
                found = _NAME.fullmatch(name)
                if found is not None and int(found[1]) >= self._next:
                    disk.remove(os.path.join(folder, name))
                    self._changed.add(folder)
            ordinal = (ordinal // _PER_FOLDER + 1) * _PER_FOLDER

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            yield
        except (OSError, ValueError) as error:
            self._failure = str(error) if isinstance(error, SinkError) else failure_of(self._name, error)
            raise SinkError(self._failure) from error


def body_ordinal(name: str) -> int | None:
    """Return which body has a file of that name; ``None`` for a file that is being written, and for any other."""
    found = None if name.endswith(PARTIAL_SUFFIX) else _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def _folder_of(ordinal: int) -> str:
    return f"{ordinal // _PER_FOLDER**2:02}/{ordinal // _PER_FOLDER % _PER_FOLDER:02}"


def extension_of(response: Any) -> str:
    """Return the extension for an answer's body, by the media type that it names."""
    given = response.headers.get("content-type") or ""
    return EXTENSIONS.get(given.partition(";")[0].strip().lower(), ".bin")
