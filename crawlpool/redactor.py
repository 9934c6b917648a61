"""What a log must not tell: the values of query keys that look secret, logins in URLs, and what a terminal obeys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from crawlpool.config import check
from crawlpool.escape import for_terminal, in_line
from crawlpool.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: Words that make the name of a key look secret: ``token`` is one of ``access_token``, ``accessToken`` and ``X-Token``.
SECRET_WORDS = frozenset(
    "apikey auth authorization credential credentials jsessionid jwt key otp pass passphrase passwd password phpsessid "
    "pin pwd secret session sessionid sessid sid sig sign signature ticket token".split()
)
HIDDEN = "***"
_MOST_NAME = 64
_DEEPEST = 4
_OF_LINES = ("exception", "stack")  # what structlog calls a traceback
# The name of a key in whatever text: after "?", "&", ";" or "#", themselves or percent-encoded, as they are in a URL
# that is another one's value. A name is short, and a value is looked at only where it is to go: the work grows with the
# length of the text alone.
_KEY = re.compile(
    r"((?<=[?&;#])[^=&;#?%\s\"'<>]{0,64}(?:%[0-9A-Fa-f]{2}[^=&;#?%\s\"'<>]{0,16}){0,8}"
    r"|(?<=%3[FBfb])[A-Za-z0-9_.\[\]-]{1,64}|(?<=%2[36])[A-Za-z0-9_.\[\]-]{1,64})(?:=|%3[Dd])"
)
# It ends where the next key may begin, and where the URL may end. Rather too much is cut than too little: an encoded
# "&" may be part of a value.
_VALUE = re.compile(r"(?:[^&;#\s\"'<>]|'(?![\s),:.\]}]|$))+")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class Redactor:
    """A structlog processor that takes secrets out of what is logged.

    In each text of an event, and in those of its lists and mappings, it puts ``***`` in place of the value of each
    query key that looks secret, and of each login in a URL. It also escapes what a terminal would obey, and what would
    end the line, but for the lines of a traceback. The event's own names (``token=…`` in a call of the logger) aren't
    looked at.

    Args:
        keys: words, lower case. A key looks secret that is one of them, or has one of them among its words:
            ``access_token``, ``accessToken``, ``X-Amz-Signature``. Without any, no key does.

    Raises:
        ConfigError: for what is no words.

    Thread-safe: it is immutable.

    Example:
        >>> from crawlpool.observe import Redactor
        >>> Redactor()(None, "info", {"event": "sent", "url": "https://h.example/?page=2&access_token=abc"})
        {'event': 'sent', 'url': 'https://h.example/?page=2&access_token=***'}
    """

    __slots__ = ("keys",)

    def __init__(self, keys: Iterable[str] = SECRET_WORDS) -> None:
        rule = "words of letters and digits, such as token"
        check(not isinstance(keys, str), "keys", keys, rule)
        words = frozenset(keys)
        for word in words:
            check(isinstance(word, str) and word.isalnum() and word.isascii(), "keys", word, rule)
        self.keys: frozenset[str] = frozenset(word.lower() for word in words)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event with nothing secret in its texts; as structlog calls its processors."""
        for name, value in event.items():
            if isinstance(value, (str, list, tuple, Mapping)):
                event[name] = self._of(value, _DEEPEST, name in _OF_LINES)
        return event

    def text(self, text: str) -> str:
        """Return a text without the values of secret keys and without logins in URLs."""
        text = redact_text(text)
        if not self.keys or ("=" not in text and "%3" not in text):
            return text
        shown, at = [], 0
        for found in _KEY.finditer(text):
            if found.start() < at or not self.is_secret(found[1]):
                continue  # what lies in a value that goes isn't looked at
            value = _VALUE.match(text, found.end())
            if value is not None:
                shown += [text[at : found.end()], HIDDEN]
                at = value.end()
        return "".join([*shown, text[at:]])

    def is_secret(self, name: str) -> bool:
        """Tell whether the name of a query key looks secret."""
        name = unquote(name) if "%" in name else name
        if name.lower() in self.keys:
            return True
        return any(word.lower() in self.keys for word in _WORD.findall(name[:_MOST_NAME]))

    def __repr__(self) -> str:
        return f"Redactor({sorted(self.keys)!r})"

    def _of(self, value: Any, depth: int, has_lines: bool = False) -> Any:
        if isinstance(value, str):
            return for_terminal(self.text(value)) if has_lines else in_line(self.text(value))
        if depth == 0:
            return value
        if isinstance(value, Mapping):
            return {key: self._of(one, depth - 1) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._of(one, depth - 1) for one in value)
        return value
