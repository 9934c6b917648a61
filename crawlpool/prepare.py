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


class Plan:
    """What the plain requests of a session have in common, as long as none of its settings changes.

    Args:
        of: the pool's defaults, and ``headers`` the session's: what the plan was made from.
        base: the headers that each request begins with, merged and valid; nobody changes them.
        hooks: the response hooks of each request.
        store: whose cookies each request carries.
        settings: what an adapter's ``send`` takes, the same for any URL; ``None`` where it depends on the URL.

    Immutable but for what it remembers; belongs to its session's thread.
    """

    __slots__ = ("base", "headers", "hooks", "lines", "of", "seen", "settings", "store")

    def __init__(
        self,
        of: Any,
        headers: CaseInsensitiveDict[Any],
        base: CaseInsensitiveDict[Any],
        hooks: list[Any],
        store: CookieStore,
        settings: dict[str, Any] | None,
    ) -> None:
        self.of = of
        self.headers = headers
        self.seen = dict(headers._store)
        self.base = base
        self.lines: dict[str, Any] = base._store
        self.hooks = hooks
        self.store = store
        self.settings = settings

    def holds_for(self, of: Any, headers: Any, hooks: list[Any], store: Any, settings: Any) -> bool:
        """Tell whether everything is as it was when the plan was made."""
        return (
            of is self.of
            and headers is self.headers
            # One dict comparison of a handful of tuples: no hook into the headers can be missed by it.
            and headers._store == self.seen
            and hooks == self.hooks
            and store is self.store
            and settings is self.settings
        )

    def request(self, method: str, url: str, headers: Mapping[str, Any] | None = None) -> PlainRequest:
        """Return the prepared request of a GET or HEAD to a URL that ``PLAIN_URL`` matches.

        Raises:
            requests.exceptions.InvalidHeader: for a header of the call that HTTP can't carry.
        """
        prepared = PlainRequest(method, url, self)
        if headers:
            prepared.headers = merged(self.base, headers)
        store = self.store
        if not store.is_empty and "cookie" not in (prepared.shared_lines or prepared.headers._store):
            line = store.header_for(prepared)
            if line is not None:
                prepared.headers["Cookie"] = line
        return prepared


class PlainRequest(PreparedRequest):
    """The prepared request of a GET or HEAD without body, params and auth to a URL that ``PLAIN_URL`` matches.

    Its own headers, hooks and jar are made when somebody looks at them: for a redirect, an auth, a user.

    Args:
        plan: what it begins with.
    """

    body = None
    _body_position = None
    _headers: Any = None
    _hooks: Any = None
    _jar: Any = None

    def __init__(self, method: str, url: str, plan: Plan) -> None:
        # Not super().__init__(): it sets the same again.
        self.method = method
        self.url = url
        self._plan: Plan | None = plan

    @property
    def shared_lines(self) -> dict[str, Any] | None:
        """The headers, lower-case name to (name, value), as long as they are just those of the plan.

        The very same dict for all its requests, and nobody changes it; ``None`` for a request with headers of its own.
        """
        return self._plan.lines if self._headers is None and self._plan is not None else None

    @property
    def headers(self) -> Any:
        """The headers, as requests has them."""
        if self._headers is None and self._plan is not None:
            self._headers = merged(self._plan.base)
        return self._headers

    @headers.setter
    def headers(self, headers: Any) -> None:
        self._headers = headers

    @property
    def hooks(self) -> Any:
        """The hooks, as requests has them."""
        if self._hooks is None and self._plan is not None:
            self._hooks = {"response": list(self._plan.hooks)}
        return self._hooks

    @hooks.setter
    def hooks(self, hooks: Any) -> None:
        self._hooks = hooks

    @property
    def _cookies(self) -> Any:
        if self._jar is None and self._plan is not None:
            self._jar = RequestCookies(self._plan.store)
        return self._jar

    @_cookies.setter
    def _cookies(self, jar: Any) -> None:
        self._jar = jar

    def __getstate__(self) -> dict[str, Any]:
        # Responses can be pickled, with their requests; a store can't.
        return {
            **self.__dict__,
            "_headers": self.headers,
            "_hooks": self.hooks,
            "_jar": self._cookies,
            "_plan": None,
        }


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
