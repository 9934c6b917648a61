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

from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

# URLs that requests' prepare_url returns unchanged (tests/test_prepare.py holds that for any string that matches):
# lower-case host of plain labels, no leading zero in the port, no segment that begins with a dot, nothing quoted,
# no userinfo, no fragment. Ports from 60000 up take the other way, which checks their range.
PLAIN_URL = re.compile(
    r"https?://[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
    r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
    r"(?:/(?!\.)[A-Za-z0-9_~!$&'()*+,;=:@.-]*)+"
    r"(?:\?[A-Za-z0-9_~!$&'()*+,;=:@/?.-]+)?"
)


def prepare_plain(
    method: str, url: str, headers: CaseInsensitiveDict[Any], cookies: Any, hooks: dict[str, Any]
) -> PreparedRequest:
    """Return the prepared request of a GET or HEAD without body, params and auth to a URL that ``PLAIN_URL`` matches.

    Args:
        headers: merged and valid; the request takes them over.
        cookies: the jar that the request carries.
        hooks: the request's own dict of lists.
    """
    prepared = PreparedRequest()
    prepared.method = method
    prepared.url = url
    prepared.headers = headers
    prepared._cookies = cookies
    prepared.hooks = hooks
    return prepared


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
    result: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
    store = result._store = base._store.copy()
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
