"""How text from outside is written where it could do harm: one function for each place that it may go to.

What a terminal obeys, what turns the order of letters round, and what ends a line are never written as they are: the
control characters (C0, DEL, C1), the marks of bidirectional text (UAX #9: U+061C, U+200E, U+200F, U+202A to U+202E,
U+2066 to U+2069), the separators of lines and paragraphs (U+2028, U+2029), and halves of surrogate pairs, which UTF-8
can't say. All of them lie in the first plane, so that each has an escape of the form ``\\u202e``, which JSON reads
back. A line for eyes that is made of one value is ``crawlpool.redact.one_line``'s: it lets printable characters only
through.
"""

from __future__ import annotations

import re
from typing import Any

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS = "\u2028\u2029"
_SURROGATES = "\ud800-\udfff"
# Of JSON text: below U+0020 nothing is left in it but what stands between its values.
_NOT_IN_JSON = re.compile(f"[\x7f-\x9f{_BIDI}{_SEPARATORS}{_SURROGATES}]")
_NOT_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}{_SEPARATORS}{_SURROGATES}]")
_NOT_IN_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f{_BIDI}{_SEPARATORS}{_SURROGATES}]")
#: How cells begin that a spreadsheet runs as formulas; the last four are as wide as a Chinese character.
_FORMULA = (*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: What stands before a formula and a spreadsheet passes over: blanks of any kind, a byte order mark, zero width.
_PASSED_OVER = " \u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff"
_LEADING = re.compile(f"[{_PASSED_OVER}]+")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


def json_bytes(text: str) -> bytes:
    """Return JSON text as UTF-8 in which nothing is left that a terminal obeys; a reader gets the same values.

    Args:
        text: as ``json`` writes it, whole lines.

    Thread-safe, as all of this module is.
    """
    if text.isascii():  # known of each str; nearly all records are
        return (text.replace("\x7f", "\\u007f") if "\x7f" in text else text).encode("ascii")
    if text[-1:].isascii() and text[:-1].isprintable():  # quicker than the pattern; a line's end is the last
        return text.encode("utf-8")
    return _NOT_IN_JSON.sub(_escaped, text).encode("utf-8")


def for_terminal(text: str) -> str:
    """Return lines of text as a terminal may get them: tabs and line ends stay, all else that it obeys is escaped.

    Lines of JSON remain JSON. It is the last gate for what was put together of values that were made harmless one by
    one, and does nothing to those.
    """
    return text if text.isprintable() else _NOT_IN_LINES.sub(_escaped, text)


def in_line(text: str) -> str:
    """Return text as a part of one line: as ``for_terminal``, with tabs and line ends escaped, too. Thread-safe."""
    return text if text.isprintable() else _NOT_IN_LINE.sub(_escaped_short, text)


def harms_terminal(data: bytes) -> bool:
    """Tell whether bytes from outside, taken for UTF-8, hold something that a terminal obeys.

    A carriage return is harmless before a line feed alone: elsewhere what comes after it is written over what stands
    there. Bytes of 0x80 to 0x9F that aren't part of a UTF-8 character are C1 controls to a terminal of another charset.
    """
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return not text.isprintable() and any(not "\udca0" <= ch <= "\udcff" for ch in _NOT_IN_LINES.findall(text))


def header_lines(data: bytes) -> bytes:
    """Return the bytes of a header as a terminal may get them: a line for each of its lines."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return for_terminal(text).encode("utf-8")


def cell(text: str) -> str:
    """Return text for a cell of a table, which no spreadsheet takes for a formula and no terminal obeys.

    Where a formula could begin, an apostrophe goes before it (OWASP, "CSV Injection"). Thread-safe.
    """
    begins = _LEADING.match(text)
    is_formula = text.startswith(_FORMULA, 0 if begins is None else begins.end())
    text = in_line(text)
    return f"'{text}" if is_formula else text


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _escaped_short(found: re.Match[str]) -> str:
    return _SHORT.get(found[0]) or _escaped(found)


def printable(value: Any) -> str:
    """Return the ``repr`` of a value for a line of a log; of one whose ``repr`` raises, the name of its type."""
    try:
        return for_terminal(repr(value))
    except Exception:  # a repr is somebody's code
        return type(value).__name__
