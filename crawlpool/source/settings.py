"""What a source needs to know of its input, and what it hands on for a line that is no target."""

from __future__ import annotations

import dataclasses
import re

from crawlpool.config import check, is_count
from crawlpool.errors import InputError

FORMATS = ("lines", "jsonl", "csv")
DEFAULT_MAX_LINE_BYTES = 65536
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class InputFileError(InputError):
    """An input can't be read at all, or not any further; the message names the file and why."""


@dataclasses.dataclass(frozen=True)
class BadLine:
    """A line of the input that is no target; it gets its record all the same.

    Args:
        n: the ordinal of the line, as a target's.
        input: what was given, shortened where the line is too long, without userinfo.
        place: the file and the line in it, ``urls.txt:17``.
        error: what is wrong with it; its message begins with ``place``.
    """

    n: int
    input: str
    place: str
    error: InputError


@dataclasses.dataclass(frozen=True)
class SourceSettings:
    """How the input is to be read.

    Args:
        input_format: ``lines`` (a URL a line), ``jsonl`` (a JSON object a line) or ``csv`` (with a header row).
        url_field: the key or column that holds the URL.
        carry: keys or columns that go along as the target's ``meta``.
        default_scheme: ``http`` or ``https``, put before URLs that have no scheme; ``None`` makes those bad lines.
        method: the HTTP method of every target.
        max_line_bytes: a longer line, or CSV row, is a bad line; only its beginning is ever in memory.

    Raises:
        ConfigError: for a value that can't be.
    """

    input_format: str = "lines"
    url_field: str = "url"
    carry: tuple[str, ...] = ()
    default_scheme: str | None = None
    method: str = "GET"
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES

    def __post_init__(self) -> None:
        check(self.input_format in FORMATS, "input_format", self.input_format, f"one of {', '.join(FORMATS)}")
        check(isinstance(self.url_field, str) and self.url_field != "", "url_field", self.url_field, "a field's name")
        check(not isinstance(self.carry, str), "carry", self.carry, "a sequence of field names, not one text")
        object.__setattr__(self, "carry", tuple(self.carry))
        check(
            all(isinstance(name, str) and name for name in self.carry) and len(set(self.carry)) == len(self.carry),
            "carry",
            self.carry,
            "names of fields, each once",
        )
        check(
            not self.carry or self.input_format != "lines",
            "carry",
            self.carry,
            "plain lines have no fields; use input_format jsonl or csv",
        )
        check(self.default_scheme in (None, "http", "https"), "default_scheme", self.default_scheme, "http or https")
        check(
            isinstance(self.method, str) and _METHOD.fullmatch(self.method) is not None,
            "method",
            self.method,
            "a word such as GET",
        )
        object.__setattr__(self, "method", self.method.upper())
        check(is_count(self.max_line_bytes, 16), "max_line_bytes", self.max_line_bytes, "a whole number, at least 16")
