"""Where a command tells what goes on: stderr, a whole line at a time, above the progress bar when there is one."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from crawlpool.clock import iso_utc
from crawlpool.escape import for_terminal
from crawlpool.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGER_NAME = "crawlpool.cli"
_PREFIX = "crawlpool: "


class Telling:
    """Tells things to whoever runs the command.

    Args:
        log_format: ``console`` for text, ``json`` for one JSON object a line.
        is_quiet: whether only warnings and errors are told.
        stream: where to; stderr as it is at each line unless given.

    Thread-safe. Telling never raises: a command doesn't fail because nobody listens.
    """

    def __init__(self, log_format: str = "console", *, is_quiet: bool = False, stream: TextIO | None = None) -> None:
        self.is_json = log_format == "json"
        self.is_quiet = is_quiet
        self._stream = stream
        # Guards the stream: one line at a time is written. Written under it, as that is all that it is for.
        self._lock = threading.Lock()
        # Set by a bar while it is drawn; replaced as a whole, so that readers need no lock.
        self._above_bar: Callable[[str], None] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether there is a terminal at the other end that can draw."""
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            return stream is not None and stream.isatty()
        except ValueError:  # somebody closed it
            return False

    def say(self, event: str, text: str, **fields: Any) -> None:
        """Tell what goes on, unless quiet: ``text`` on a console, ``event`` with its fields as JSON."""
        if not self.is_quiet:
            self._tell("info", event, text, fields)

    def warn(self, event: str, text: str, **fields: Any) -> None:
        """Tell what somebody should look at."""
        self._tell("warning", event, text, fields)

    def fail(self, event: str, text: str, **fields: Any) -> None:
        """Tell why the command can't do what it was asked for."""
        self._tell("error", event, text, fields)

    def line(self, text: str) -> None:
        """Write lines, above the bar when one is drawn; what a terminal would obey is escaped."""
        self.rendered(for_terminal(text))

    def rendered(self, text: str) -> None:
        """Write lines as they are: colours and all, of values that were made harmless one by one."""
        above_bar = self._above_bar
        try:
            if above_bar is not None:
                above_bar(text)
                return
            stream = self._stream if self._stream is not None else sys.stderr
            if stream is not None:
                encoding = getattr(stream, "encoding", None) or "utf-8"
                shown = f"{text}\n".encode(encoding, "backslashreplace").decode(encoding)
                with self._lock:
                    stream.write(shown)
                    stream.flush()
        except (OSError, ValueError):
            pass  # nobody listens any more

    def draw_above(self, write: Callable[[str], None] | None) -> None:
        """Have lines written by ``write``, which keeps a bar below them; ``None`` when the bar is gone."""
        self._above_bar = write

    def beside(self, stream: TextIO) -> TextIO:
        """Return ``stream`` for another writer to the same terminal: its lines, too, go above the bar."""
        return _Beside(stream, self)  # type: ignore[return-value]  # what a sink of lines needs of a text file

    def _tell(self, level: str, event: str, text: str, fields: dict[str, Any]) -> None:
        if self.is_json:
            told = {
                "event": event,
                "level": level,
                "logger": LOGGER_NAME,
                "timestamp": iso_utc(time.time()),
                "message": text,
                **fields,
            }
            self.line(redact_text(json.dumps(told, ensure_ascii=False, default=str)))
        else:
            first, *rest = redact_text(text).split("\n")
            indent = " " * len(_PREFIX)
            self.line("\n".join([_PREFIX + first, *(indent + line for line in rest)]))


class _Beside:
    """The part of a text file that a sink of lines uses; see ``Telling.beside``."""

    def __init__(self, stream: TextIO, telling: Telling) -> None:
        self._stream = stream
        self._telling = telling
        self.encoding = stream.encoding
        self.name = getattr(stream, "name", "stdout")

    def write(self, text: str) -> int:
        """Write whole lines."""
        above_bar = self._telling._above_bar
        if above_bar is None:
            return self._stream.write(text)
        above_bar(text.removesuffix("\n"))
        return len(text)

    def flush(self) -> None:
        """Flush what was written past the bar."""
        self._stream.flush()
