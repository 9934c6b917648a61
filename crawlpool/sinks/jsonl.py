"""Records as JSON Lines: one line for one URL, in the file or pipe as soon as it is known."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.errors import SinkError
from crawlpool.escape import json_bytes
from crawlpool.record import SCHEMA_VERSION, record_line
from crawlpool.redact import one_line
from crawlpool.sinks.base import Combiner, json_of_item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.models import Result

STDOUT = "-"
_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class HasFileno(Protocol):
    """A file object with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class JsonlSink:
    """Writes each record as a line of JSON, whole, past all buffers.

    A handler's item is the line ``{"v":1,"item":{…},"run":1}``: no record has the key ``item``. A target's ``meta``
    that isn't JSON (in a crawl it must be) becomes ``{"not_json": "<its repr>"}``: the URL has its record all the same.

    Args:
        destination: a path, created with mode 0600 or cut to nothing; ``-`` for descriptor 1, standard output; or a
            descriptor or file object, which stays open and must not be written to by others meanwhile.
        headers: the names of response headers to keep in the records; ``record.EVERY_HEADER`` for all, ``None`` for
            none.
        run: the ordinal of the run that writes.

    Raises:
        SinkError: when the destination can't be opened.

    Thread-safe. A thread returns from ``write`` while another one writes its line; see ``Combiner``.
    """

    def __init__(
        self, destination: str | int | HasFileno, *, headers: Container[str] | None = None, run: int = 1
    ) -> None:
        if isinstance(headers, Iterable):
            headers = frozenset(str(name).lower() for name in headers)
        self._headers = headers
        self._run = run
        self._owned_fd: int | None = None
        self._keep = destination  # a file object's descriptor lives as long as the object
        if destination == STDOUT:
            self._name, self._fd = "stdout", _stdout_fd()
        elif isinstance(destination, str):
            self._name = one_line(destination)
            self._fd = self._owned_fd = _opened(destination, self._name)
        else:
            self._fd = destination if isinstance(destination, int) else destination.fileno()
            self._name = f"descriptor {self._fd}"
        self._lines = Combiner(self._write_some, self._name)
        # Whether writing never waits for a reader: so it is with a file, and not with a pipe or a terminal.
        self.is_quick = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def write(self, result: Result) -> None:
        """Write the record of ``result``. Raises ``SinkError`` when this or an earlier record can't be written."""
        self._lines.put(record_line(result, run=self._run, headers=self._headers))

    def write_all(self, results: Iterable[Result]) -> None:
        """Write the records of several results in one go; raises as ``write`` does."""
        self._lines.put(*[record_line(result, run=self._run, headers=self._headers) for result in results])

    def emit(self, item: Mapping[str, Any]) -> None:
        """Write an item of a handler.

        Raises:
            ConfigError: when it isn't a mapping that JSON can say.
            SinkError: when this or an earlier line can't be written.
        """
        line = f'{{"v":{SCHEMA_VERSION},"item":{json_of_item(item)},"run":{self._run}}}\n'
        self._lines.put(json_bytes(line))

    def flush(self) -> None:
        """Return when all records are with the operating system. Raises ``SinkError`` when they can't be."""
        self._lines.flush()

    def close(self) -> None:
        """Flush, and close what the sink opened itself. May be called again; raises ``SinkError`` as ``write`` does."""
        try:
            self._lines.close()
        finally:
            # No thread is writing now, and none will: the combiner is closed or has failed.
            fd, self._owned_fd = self._owned_fd, None
            if fd is not None:
                os.close(fd)

    def _write_some(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, data)  # Python itself goes on after EINTR (PEP 475)
            except BlockingIOError:  # the descriptor is in non-blocking mode, as a shared terminal or pipe may be
                _wait_writable(self._fd)


def _stdout_fd() -> int:
    if sys.__stdout__ is None:  # closed at the start: descriptor 1 may since be anybody's file
        raise SinkError("stdout: it was closed when the program started")
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(1, os.O_BINARY)
    return 1


def _opened(path: str, name: str) -> int:
    try:
        return os.open(path, _OPEN_FLAGS, 0o600)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError):
            reason = "its folder does not exist"
        raise SinkError(f"{name}: {reason}") from error


def _wait_writable(fd: int) -> None:
    if hasattr(select, "poll"):  # select() can't take descriptors above 1023
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        poller.poll()
    else:
        select.select([], [fd], [])
