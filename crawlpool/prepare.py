"""Preparing a request the lean way: what requests does, minus what it does again for each request.

``requests.Session.prepare_request`` takes 94 µs: it copies the cookie jar, checks the default headers again, and
parses and quotes the URL four times. A plain URL comes out of all that as it went in; this module knows which ones do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from requests.exceptions import InvalidHeader
from requests.models import PreparedRequest
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity

from crawlpool.cookies import RequestCookies
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.cookies import CookieStore

# URLs that requests' prepare_url returns unchanged (tests/test_prepare.py holds that for any string that matches):
# lower-case host of plain labels, no leading zero in the port, no segment that begins with a dot, nothing quoted,
# no userinfo, no fragment. Ports from 65000 up take the other way, which checks their range.
PLAIN_URL = re.compile(
    r"https?://[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
    r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
    r"(?:/(?!\.)[A-Za-z0-9_~!$&'()*+,;=:@.-]*)+"
    r"(?:\?[A-Za-z0-9_~!$&'()*+,;=:@/?.-]+)?"
)


class PlainRequest(PreparedRequest):
    """The prepared request of a GET or HEAD without body, params and auth to a URL that ``PLAIN_URL`` matches.

    Args:
        headers: merged and valid; the request takes them over.
        store: whose cookies it carries: its jar is made when somebody looks at it, for a redirect or an auth.
        hooks: the request's own dict of lists.
    """

    body = None
    _body_position = None

    def __init__(
        self, method: str, url: str, headers: CaseInsensitiveDict[Any], store: CookieStore, hooks: dict[str, Any]
    ) -> None:
        # Not super().__init__(): it sets the same again.
        self.method = method
        self.url = url
        self.headers = headers
        self.hooks = hooks
        self._store: CookieStore | None = store
        self._jar: Any = None

    @property
    def _cookies(self) -> Any:
        if self._jar is None and self._store is not None:
            self._jar = RequestCookies(self._store)
        return self._jar

    @_cookies.setter
    def _cookies(self, jar: Any) -> None:
        self._jar, self._store = jar, None

    def __getstate__(self) -> dict[str, Any]:
        # Responses can be pickled, with their requests; a store can't.
        return {**self.__dict__, "_jar": self._cookies, "_store": None}


def checked(headers: Mapping[str, Any]) -> CaseInsensitiveDict[Any]:
    """Return the headers that a request may start from: checked, native strings, without those set to ``None``.

    Raises:
        requests.exceptions.InvalidHeader: for a name or value that HTTP can't carry.
    """
    kept: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
    for name, value in headers.items():
        if value is not None:
            check_header(name, value)
            kept[_native(name)] = value
    return kept


def merged(base: CaseInsensitiveDict[Any], *layers: Mapping[str, Any] | None) -> CaseInsensitiveDict[Any]:
    """Return a new dict of ``base``, which is known to be valid, with each layer over the one before.

    A value of ``None`` takes a header out, as in requests.

    Raises:
        requests.exceptions.InvalidHeader: for a name or value of a layer that HTTP can't carry.
    """
    result: CaseInsensitiveDict[Any] = CaseInsensitiveDict.__new__(CaseInsensitiveDict)  # __init__ has nothing to do
    store = result._store = base._store.copy()
    if not any(layers):
        return result
    for layer in layers:
        for name, value in (layer or {}).items():
            if value is None:
                store.pop(_native(name).lower(), None)
            else:
                check_header(name, value)
                name = _native(name)
                store[name.lower()] = (name, value)
    return result


def check_header(name: Any, value: Any) -> None:
    """Raise unless HTTP can carry the header; the message names it and doesn't show its value, which may be a secret.

    Raises:
        requests.exceptions.InvalidHeader: where requests' own check does.
    """
    try:
        check_header_validity((name, value))
    except InvalidHeader:
        shown = name if isinstance(name, str) else repr(name)
        what = "a value" if isinstance(value, (str, bytes)) else f"a value of type {type(value).__name__}"
        message = f"header {one_line(shown, 80)!r}: its name, or {what}, is nothing that HTTP can carry"
        raise InvalidHeader(message) from None


def _native(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("ascii")
