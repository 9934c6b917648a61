"""TOML as crawlpool writes it: a small part of the language, for settings. Python reads TOML, but writes none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPECIAL = re.compile(r'["\\\x00-\x1f\x7f]')


def toml_of(content: Mapping[str, Any]) -> str:
    """Return a document.

    Args:
        content: texts, numbers, truth values and lists of them, by name; and tables of these. A table whose values are
            all tables is written as those.

    Raises:
        TypeError: for a value of another kind.
    """
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    parts = ["".join(f"{_key(key)} = {_value(value)}\n" for key, value in plain.items())]
    for key, table in content.items():
        if isinstance(table, Mapping):
            parts += _table(_key(key), table)
    return "\n".join(part for part in parts if part)


def _table(name: str, table: Mapping[str, Any]) -> list[str]:
    if table and all(isinstance(value, Mapping) for value in table.values()):
        return [part for key, inner in table.items() for part in _table(f"{name}.{_key(key)}", inner)]
    return [f"[{name}]\n" + "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    raise TypeError(f"{type(value).__name__} is nothing that a settings file holds")


def _text(text: str) -> str:
    def escaped(found: re.Match[str]) -> str:
        char = found[0]
        return f"\\{char}" if char in '"\\' else f"\\u{ord(char):04x}"

    return f'"{_SPECIAL.sub(escaped, text)}"'
