"""One ``Set-Cookie`` value taken apart, as RFC 6265bis, section 5.6, has it, in time linear in its length."""

from __future__ import annotations

import dataclasses
import re

from crawlpool.cookies.dates import parse_date

#: Octets of name and value together, and of the value of one attribute (RFC 6265bis, section 5.6).
MAX_COOKIE, MAX_ATTRIBUTE = 4096, 1024
#: No cookie lives longer, whatever it asks for (RFC 6265bis, sections 5.5 and 5.6): 400 days.
MAX_AGE_S = 400 * 24 * 3600

# All control characters but the tab.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SECONDS = re.compile(r"-?[0-9]+")
_WHITE = " \t"
_SAME_SITE = {"none": "None", "lax": "Lax", "strict": "Strict"}


@dataclasses.dataclass(frozen=True)
class SetCookie:
    """What one ``Set-Cookie`` value says.

    Args:
        name: may be empty, as in ``Set-Cookie: value``.
        value: as it came, quotes and all.
        domain: lower case, without the first dot; "" for none.
        path: "" where the default path is to be taken.
        secure: whether it may only go over a secure connection.
        http_only: whether scripts are not to see it.
        same_site: ``None``, ``"None"``, ``"Lax"`` or ``"Strict"``.
        expires: seconds since 1970, 0 for "long ago"; ``None`` for the end of the session.
    """

    name: str
    value: str
    domain: str
    path: str
    secure: bool
    http_only: bool
    same_site: str | None
    expires: int | None


def parse_set_cookie(line: str, now_s: float) -> SetCookie | None:
    """Return what a ``Set-Cookie`` value says; ``None`` for one that is to be ignored as a whole.

    That is one with a control character, one without name and value, and one that is too long. An attribute that is
    too long, unknown or makes no sense is ignored for itself; of several of one kind the last counts.

    Args:
        line: the header's value, each character one octet of it.
        now_s: the time, in seconds since 1970.

    Source: RFC 6265bis, section 5.6.
    """
    if _CONTROL.search(line):
        return None
    pair, _, rest = line.partition(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", name
    name, value = name.strip(_WHITE), value.strip(_WHITE)
    if not (name or value) or len(name) + len(value) > MAX_COOKIE:
        return None
    domain = path = ""
    secure = http_only = False
    same_site: str | None = None
    expires: int | None = None
    max_age: int | None = None
    latest = int(now_s) + MAX_AGE_S
    for attribute in rest.split(";") if rest else ():
        key, _, said = attribute.partition("=")
        said = said.strip(_WHITE)
        if len(said) > MAX_ATTRIBUTE:
            continue
        key = key.strip(_WHITE).lower()
        if key == "path":
            path = said if said.startswith("/") else ""
        elif key == "domain":
            domain = said.removeprefix(".").lower()
        elif key == "expires":
            date = parse_date(said)
            expires = expires if date is None else min(max(date, 0), latest)
        elif key == "max-age":
            if _SECONDS.fullmatch(said):
                age = int(said)
                max_age = min(int(now_s) + age, latest) if age > 0 else 0
        elif key == "secure":
            secure = True
        elif key == "httponly":
            http_only = True
        elif key == "samesite":
            same_site = _SAME_SITE.get(said.lower())
    return SetCookie(name, value, domain, path, secure, http_only, same_site, expires if max_age is None else max_age)
