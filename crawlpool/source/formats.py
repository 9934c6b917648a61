"""From lines to targets: plain lines, JSON Lines and CSV; what is no target comes as a ``BadLine``."""

from __future__ import annotations

import collections
import csv
import json
from typing import TYPE_CHECKING, Any, NoReturn

from crawlpool.errors import InputError
from crawlpool.models import Target
from crawlpool.redact import hide
from crawlpool.source.reader import LongLine
from crawlpool.source.settings import BadLine, InputFileError, SourceSettings
from crawlpool.source.urls import PLAIN, hide_cut, normalize, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NUL = "NUL byte (UTF-16 instead of UTF-8?)"


def items_of(lines: Iterable[bytes | LongLine], name: str, settings: SourceSettings, ordinals: Iterator[int]) -> Any:
    """Return an iterator over the targets and bad lines of one input.

    Args:
        lines: its lines.
        name: how it is called in messages.
        settings: how it is to be read.
        ordinals: gives the ``n`` of the next line that counts.

    Raises:
        InputFileError: by the iterator, when a CSV input has no header row or lacks a column.
    """
    return _FORMATS[settings.input_format](lines, name, settings, ordinals)


def target_of(text: str, n: int, place: str, settings: SourceSettings, meta: Any = None) -> Target | BadLine:
    """Return the target of a URL as it was written, or its bad line; thread-safe."""
    try:
        url = normalize(text, settings.default_scheme)
    except InputError as error:
        return BadLine(n, hide(text), place, InputError(str(error), place))
    return Target(url, method=settings.method, meta=meta, n=n, input=text)


def _bad_bytes(line: bytes | LongLine, n: int, place: str, limit: int) -> BadLine:
    """Return the bad line of bytes that are no text: too many, or not UTF-8."""
    if isinstance(line, LongLine):
        head = hide_cut(line.head.decode("utf-8", "replace"))
        message = f"line of {line.length} bytes (the limit is {limit}): {quoted(head)}"
        return BadLine(n, head, place, InputError(message, place))
    shown = line.decode("utf-8", "backslashreplace")
    try:
        line.decode()
        reason = "no text"
    except UnicodeDecodeError as error:
        reason = f"byte 0x{line[error.start]:02x} at {error.start + 1} is not UTF-8"
    return BadLine(n, hide(shown), place, InputError(f"{reason}: {quoted(shown)}", place))


def _from_lines(
    lines: Iterable[bytes | LongLine], name: str, settings: SourceSettings, ordinals: Iterator[int]
) -> Iterator[Target | BadLine]:
    method = settings.method
    plain = PLAIN.fullmatch
    for number, raw in enumerate(lines, 1):
        if isinstance(raw, LongLine):
            if not raw.head.lstrip().startswith(b"#"):
                yield _bad_bytes(raw, next(ordinals), f"{name}:{number}", settings.max_line_bytes)
            continue
        line = raw.strip()
        match = plain(line)
        if match:  # the fast path: nearly every line of nearly every list
            text = line.decode("ascii")
            url = text if match[1] is not None else f"{text}/"
            yield Target(url, method, None, None, None, None, 0, 0, None, next(ordinals), text)
            continue
        if not line or line.startswith(b"#"):
            continue
        n = next(ordinals)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            yield _bad_bytes(line, n, f"{name}:{number}", settings.max_line_bytes)
            continue
        yield target_of(text, n, f"{name}:{number}", settings)


def _from_jsonl(
    lines: Iterable[bytes | LongLine], name: str, settings: SourceSettings, ordinals: Iterator[int]
) -> Iterator[Target | BadLine]:
    for number, line in enumerate(lines, 1):
        if isinstance(line, bytes) and not line.strip():
            continue
        n, place = next(ordinals), f"{name}:{number}"
        try:
            text = line.decode()  # type: ignore[union-attr]  # a LongLine has none, which is caught
        except (AttributeError, UnicodeDecodeError):
            yield _bad_bytes(line, n, place, settings.max_line_bytes)
            continue
        try:
            found = _json_object(text)
            url = found.get(settings.url_field)
            if not isinstance(url, str):
                what = "no text" if settings.url_field in found else "missing"
                raise InputError(f"the field '{settings.url_field}' is {what}: {quoted(text)}")
        except InputError as error:
            yield BadLine(n, hide(text), place, InputError(str(error), place))
            continue
        meta = {field: found.get(field) for field in settings.carry} if settings.carry else None
        yield target_of(url, n, place, settings, meta)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_json, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep or a number out of range"
        at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"not JSON ({reason}{at}): {quoted(text)}") from None
    if not isinstance(found, dict):
        raise InputError(f"not a JSON object: {quoted(text)}")
    return found


def _no_json(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):  # 1e999: no record could say it
        raise ValueError(digits)
    return number


class _OpenQuote(Exception):
    """A quoted CSV field doesn't close within its bounds."""


class _Rows:
    """The rows of a CSV input as (line number, text, fields), or (line number, bytes, None) of no text.

    A row whose quote never closes costs only its first line: the lines read in search of the end are read again as
    rows of their own. What is held is bounded by ``max_line_bytes``.
    """

    def __init__(self, lines: Iterable[bytes | LongLine], max_bytes: int) -> None:
        self._fresh = enumerate(lines, 1)
        self._again: collections.deque[tuple[int, bytes | LongLine]] = collections.deque()
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[tuple[int, bytes | LongLine | str, list[str] | str]]:
        """Yield number, what stood there, and its fields; or the reason why there are none."""
        while (numbered := self._take()) is not None:
            number, line = numbered
            if isinstance(line, bytes) and not line.strip():
                continue
            try:
                text = line.decode()  # type: ignore[union-attr]  # a LongLine has none, which is caught
            except (AttributeError, UnicodeDecodeError):
                yield number, line, ""
                continue
            if "\0" in text:  # csv takes it from Python 3.11 on
                yield number, text, _NUL
                continue
            taken: list[tuple[int, bytes | LongLine]] = []
            try:
                # A reader for each row costs about a microsecond, and forgets a broken row with certainty.
                fields: list[str] | str = next(csv.reader(self._fed(text, len(text), taken), strict=True))
            except (_OpenQuote, csv.Error) as error:
                self._again.extendleft(reversed(taken))
                fields = str(error)
            yield number, text, fields

    def _take(self) -> tuple[int, bytes | LongLine] | None:
        return self._again.popleft() if self._again else next(self._fresh, None)

    def _fed(self, first: str, size: int, taken: list[tuple[int, bytes | LongLine]]) -> Iterator[str]:
        yield f"{first}\n"
        while (numbered := self._take()) is not None:
            taken.append(numbered)
            line = numbered[1]
            if isinstance(line, LongLine) or size + len(line) > self._max_bytes:
                raise _OpenQuote(f"a quote opens here that doesn't close within {self._max_bytes} bytes")
            size += len(line) + 1
            if b"\0" in line:
                raise _OpenQuote(f"a quote opens here, and in its field is a {_NUL}")
            try:
                yield f"{line.decode()}\n"
            except UnicodeDecodeError:
                raise _OpenQuote("a quote opens here, and its field is not UTF-8") from None
        raise _OpenQuote("a quote opens here that never closes")


def _from_csv(
    lines: Iterable[bytes | LongLine], name: str, settings: SourceSettings, ordinals: Iterator[int]
) -> Iterator[Target | BadLine]:
    rows = iter(_Rows(lines, settings.max_line_bytes))
    first = next(rows, None)
    if first is None:
        return
    header = first[2]
    if isinstance(header, str):
        raise InputFileError(f"no header row: {header or 'it is too long or not UTF-8'}", f"{name}:{first[0]}")
    header = [column.strip() for column in header]
    for wanted in (settings.url_field, *settings.carry):
        if wanted not in header:
            listed = ", ".join(header)
            raise InputFileError(f"the header row has no column '{wanted}': {quoted(listed)}", f"{name}:{first[0]}")
    url_at = header.index(settings.url_field)
    carried = [(field, header.index(field)) for field in settings.carry]
    for number, given, fields in rows:
        n, place = next(ordinals), f"{name}:{number}"
        if not isinstance(given, str):
            yield _bad_bytes(given, n, place, settings.max_line_bytes)
            continue
        if isinstance(fields, str):
            yield BadLine(n, hide(given), place, InputError(f"{fields}: {quoted(given)}", place))
        elif len(fields) != len(header):
            hint = " (a comma inside a field needs quotes around it)" if len(fields) > len(header) else ""
            message = f"{len(fields)} fields where the header row has {len(header)}{hint}: {quoted(given)}"
            yield BadLine(n, hide(given), place, InputError(message, place))
        else:
            meta = {field: fields[at] for field, at in carried} if carried else None
            yield target_of(fields[url_at].strip(), n, place, settings, meta)


_FORMATS = {"lines": _from_lines, "jsonl": _from_jsonl, "csv": _from_csv}
