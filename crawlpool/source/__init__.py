"""Where targets come from: files, standard input and URLs, read lazily, one line at a time."""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from crawlpool.errors import ConfigError
from crawlpool.source.formats import items_of, target_of
from crawlpool.source.reader import STDIN, Stopped, StopSignal, file_error, opened, place_of, split_lines
from crawlpool.source.settings import BadLine, InputFileError, SourceSettings

if TYPE_CHECKING:
    from crawlpool.models import Target

__all__ = ["BadLine", "InputFileError", "Source", "SourceSettings", "check_inputs", "is_url"]

#: Above this the lines aren't counted before the crawl: reading them twice would no longer be cheap.
COUNTED_BYTES = 16 * 1024 * 1024
_LINE_THAT_COUNTS = {
    "lines": re.compile(rb"^[ \t\r\f\v]*[^\s#]", re.MULTILINE),
    "jsonl": re.compile(rb"^[ \t\r\f\v]*\S", re.MULTILINE),
}


def is_url(given: str) -> bool:
    """Tell whether an input is a URL itself and no file."""
    return "://" in given


def check_inputs(inputs: Sequence[str], settings: SourceSettings | None = None) -> None:
    """Find trouble with the inputs before the crawl starts. Regular files are opened, streams are not touched.

    Args:
        inputs: paths, URLs, ``-`` for standard input.
        settings: how they will be read; ``None`` for the defaults.

    Raises:
        InputFileError: when a file is missing, a directory, unreadable, UTF-16, no gzip data in spite of its name, or
            CSV without the columns asked for.
        ConfigError: when standard input is given twice.
    """
    if list(inputs).count(STDIN) > 1:
        raise ConfigError(f"inputs={list(inputs)!r}: '-' is there twice, yet standard input can be read only once")
    for given in inputs:
        if given == STDIN or is_url(given):
            continue
        try:
            mode = os.stat(given).st_mode
        except (OSError, ValueError) as error:
            raise file_error(error, place_of(given)) from error
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            for _ in Source([given], settings):
                break
        elif not os.access(given, os.R_OK):
            raise InputFileError("no permission to read it", place_of(given))


class Source(Iterable["Target | BadLine"]):
    """The targets of some inputs, in order, read only as far as they are asked for.

    One thread iterates; ``stop`` may be called from any. Memory is bounded by ``max_line_bytes`` and a chunk of 64 KiB,
    however many lines there are. A line of a stream is there as soon as its newline is. Iterating again begins again,
    but for standard input.

    Args:
        inputs: paths, URLs (all that holds ``://``), ``-`` for standard input. Gzip is unpacked, by its first bytes.
        settings: how they are read; ``None`` for the defaults.
        stdin_fd: the descriptor that ``-`` stands for; it isn't closed.
    """

    def __init__(self, inputs: Sequence[str], settings: SourceSettings | None = None, *, stdin_fd: int = 0) -> None:
        self._inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self._settings = settings if settings is not None else SourceSettings()
        self._stdin_fd = stdin_fd
        self._signal = StopSignal()
        self._total: tuple[int | None] | None = None

    def __iter__(self) -> Iterator[Target | BadLine]:
        """Yield each line's target, or its bad line; nothing more once ``stop`` was called.

        Raises:
            InputFileError: when an input can't be read, or not to its end. What came before was handed out.
        """
        ordinals = itertools.count(1)
        signal = self._signal
        try:
            for position, given in enumerate(self._inputs, 1):
                for item in self._items(given, position, ordinals):
                    if signal.is_set:
                        return
                    yield item
        except Stopped:
            return

    def _items(self, given: str, position: int, ordinals: Iterator[int]) -> Iterator[Target | BadLine]:
        if is_url(given):
            yield target_of(given, next(ordinals), f"argument {position}", self._settings)
            return
        with opened(given, self._signal, self._stdin_fd) as read:
            lines = split_lines(read, self._settings.max_line_bytes)
            yield from items_of(lines, place_of(given), self._settings, ordinals)

    def stop(self) -> None:
        """End the iteration, at once even where it waits for standard input. Thread-safe; may be called again."""
        self._signal.stop()

    @property
    def total(self) -> int | None:
        """How many items there will be, where counting is cheap, as in plain text files up to 16 MiB in all, and URLs.

        ``None`` otherwise. The files are read at the first call. Thread-safe: two first calls count the same.
        """
        if self._total is None:
            self._total = (self._count(),)
        return self._total[0]

    def _count(self) -> int | None:
        count = _LINE_THAT_COUNTS.get(self._settings.input_format)
        total, room = 0, COUNTED_BYTES
        for given in self._inputs:
            if is_url(given):
                total += 1
                continue
            try:
                if count is None or given == STDIN or not stat.S_ISREG(os.stat(given).st_mode):
                    return None
                with open(given, "rb") as file:
                    text = file.read(room + 1)
            except (OSError, ValueError):
                return None  # the iteration says what is wrong
            if len(text) > room or text.startswith(b"\x1f\x8b"):
                return None
            room -= len(text)
            total += sum(1 for _ in count.finditer(text.removeprefix(b"\xef\xbb\xbf")))
        return total
