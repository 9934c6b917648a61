"""Bodies as files: the decoded body of each answer, under a name that no server has a say in."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.errors import SinkError
from crawlpool.models import BodyPlace
from crawlpool.redact import one_line
from crawlpool.sinks.base import json_of_item
from crawlpool.sinks.parts import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crawlpool.models import Result

PARTIAL_SUFFIX = ".part"
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
    """Writes the decoded body of each answer as a file: ``00/00/00001234.html``.

    A file is named by an ordinal: the target's own ``n`` is a seed's alone, so bodies are counted as they come. A folder
    holds 1,000 files or folders at most, until there are 1,000,000,000 bodies. A file is written under a name that ends
    in ``.part`` and renamed; there is none for an answer without a body, nor for a target without an answer.

    Args:
        folder: made, with mode 0700, if it isn't there; its parent must be.
        next_ordinal: the number of the first file; in a job, what its ledger has committed (``ordinal``). Files of
            that number and above that lie there were not committed, and are replaced.
        has_job: whether ``sync`` is called before anything counts; else files aren't synced.

    Raises:
        SinkError: when the folder can't be made.

    Thread-safe. In a job one thread drives it: ``write_all``, then ``sync``.
    """

    #: A crawl calls this sink before those whose records say where a body lies.
    keeps_bodies = True

    def __init__(self, folder: str, *, next_ordinal: int = 1, has_job: bool = False) -> None:
        self._folder = folder.rstrip("/" + os.sep) or folder[:1]
        self._base = os.path.basename(self._folder)
        self._name = one_line(folder)
        self._has_job = has_job
        # Guards all that follows. Files are written without it; folders are made under it, few as they are.
        self._lock = threading.Lock()
        self._next = next_ordinal
        self._made: str | None = None
        self._unsynced: list[str] = []
        self._changed: set[str] = set()
        self._failure: str | None = None
        with self._guarded():
            self._make(self._folder)

    @property
    def ordinal(self) -> int:
        """The number that the next body gets."""
        return self._next

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

    def sync(self) -> int:
        """Return when all files and their names are on the disk: the ordinal that may be committed now.

        Raises:
            SinkError: when they can't be synced; so does every later call.
        """
        with self._guarded():
            with self._lock:
                unsynced, self._unsynced = self._unsynced, []
                changed, self._changed = self._changed, set()
                ordinal = self._next
            for path in unsynced:
                fd = disk.open_file(path)
                try:
                    disk.sync_file(fd)
                finally:
                    os.close(fd)
            for path in sorted(changed):
                disk.sync_folder(path)
        return ordinal

    def flush(self) -> None:
        """Do nothing but tell of an earlier failure: a file is out when ``write`` returns. Raises ``SinkError``."""
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
                inner = self._folder_of(ordinal)
            name = f"{ordinal:08}{extension}"
            path = os.path.join(self._folder, inner, name)
            partial = path + PARTIAL_SUFFIX
            with contextlib.suppress(FileNotFoundError):
                disk.remove(partial)  # of a crash; a symbolic link would be followed
            fd = disk.open_file(partial, create=True, exclusive=True)
            try:
                disk.write_all(fd, content)
            finally:
                os.close(fd)
            disk.rename(partial, path)
            if self._has_job:
                with self._lock:
                    self._unsynced.append(path)
                    self._changed.add(os.path.dirname(path))
        return f"{self._base}/{inner}/{name}"

    def _folder_of(self, ordinal: int) -> str:
        inner = f"{ordinal // 1_000_000 % 1000:02}/{ordinal // 1000 % 1000:02}"
        if inner != self._made:
            outer = os.path.join(self._folder, inner.partition("/")[0])
            self._make(outer)
            self._make(os.path.join(self._folder, inner))
            self._made = inner
        return inner

    def _make(self, path: str) -> None:
        if not os.path.isdir(path):
            disk.make_folder(path)
            if self._has_job:
                self._changed.add(os.path.dirname(path) or os.curdir)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            yield
        except (OSError, ValueError) as error:
            self._failure = failure_of(self._name, error)
            raise SinkError(self._failure) from error


def extension_of(response: Any) -> str:
    """Return the extension for an answer's body, by the media type that it names."""
    given = response.headers.get("content-type") or ""
    return EXTENSIONS.get(given.partition(";")[0].strip().lower(), ".bin")
