"""From a URL as somebody wrote it to the URL that is fetched, or to one clear sentence why there is none."""

from __future__ import annotations

import re

import idna
import requests
from urllib3.exceptions import HTTPError

from crawlpool.errors import InputError
from crawlpool.redact import TORN, hide, is_torn, one_line

MAX_HOST_CHARS = 253
MAX_LABEL_CHARS = 63
SHOWN_CHARS = 100

_ESCAPE = rb"%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F])"
#: A URL line that is its own normal form but for a missing "/" after the host (then group 1 is None). Each URL that
#: matches must come out of ``normalize`` as itself: lower-case host, port below 65000, no dot segments, and only
#: escapes in upper case of what must be escaped. Nothing in it is ambiguous, so a line that fails to match costs linear
#: time.
PLAIN = re.compile(
    rb"https?://(?=[^/:]{1,253}(?:[/:]|\Z))[a-z0-9_][a-z0-9_-]{0,62}(?:\.[a-z0-9_][a-z0-9_-]{0,62})*(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
    rb"((?:/(?!\.)[A-Za-z0-9._~!$&'()*+,;=:@-]*(?:%(E)[A-Za-z0-9._~!$&'()*+,;=:@-]*)*)+"
    rb"(?:\?(?=.)[A-Za-z0-9._~!$&'()*+,;=:@/?-]*(?:%(E)[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)*)?)?".replace(b"%(E)", _ESCAPE)
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_OTHER_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+\-]*):(?!\d{1,5}(?:[/?#]|\Z))")
_AUTHORITY = re.compile(r"[^\\/?#]*")
_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
# What no host may hold (WHATWG URL, "forbidden domain code points"); brackets and colons are IPv6 and seen apart.
_BAD_HOST = re.compile(r"[\x00-\x20#/:<>?@\[\\\]^|%\x7f]")
_KNOWN_HOST_END = re.compile(r"[^/?#:@\s]*(?::\d+)?[/?#]")


def hide_cut(text: str) -> str:
    """Return the beginning of a cut-off line so that no part of a userinfo shows whose ``@`` was cut off."""
    hidden = hide(text)
    if hidden != text:
        return hidden + "…"
    before, slashes, after = text.partition("//")
    if slashes:
        return f"{text}…" if _KNOWN_HOST_END.match(after) else f"{before}//…"
    return f"{text.partition(':')[0]}…"


def quoted(text: str) -> str:
    """Return ``text`` for a message: in quotes, one printable line, shortened, userinfo hidden."""
    return f"'{one_line(hide(text), SHOWN_CHARS)}'"


def normalize(text: str, default_scheme: str | None = None) -> str:
    """Return the URL that is fetched for ``text``, as requests prepares it, without its fragment.

    International host names become punycode (UTS 46, as requests does), spaces and non-ASCII are percent-encoded,
    scheme and host are lower-cased, dot segments resolved (RFC 3986, 5.2.4 and 6.2). Userinfo stays.

    Args:
        text: an absolute http or https URL; or one without a scheme, with ``default_scheme``.
        default_scheme: ``http`` or ``https`` for URLs that have none; ``None`` refuses them.

    Raises:
        InputError: when it is no URL that can be fetched. The message never shows userinfo.

    Thread-safe: no state.
    """
    control = _CONTROL.search(text)
    if control:
        if control.group() == "\0":
            raise InputError(f"NUL byte at character {control.start() + 1} (UTF-16 instead of UTF-8?): {quoted(text)}")
        raise InputError(f"control character {control.group()!r} at character {control.start() + 1}: {quoted(text)}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can spell it
            raise InputError(f"half a surrogate pair: {quoted(text)}") from None
    text = text.strip()
    if not text:
        raise InputError("no URL, only invisible characters")
    full = _with_scheme(text, default_scheme)
    if is_torn(full):
        raise InputError(f"{TORN}: {quoted(text)}")
    scheme, _, rest = full.partition("://")
    authority = _AUTHORITY.match(rest).group()  # type: ignore[union-attr]  # it matches the empty string, too
    tail = rest[len(authority) :].partition("#")[0]
    userinfo, at, host_port = authority.rpartition("@")
    host, port = _host_and_port(host_port, text)
    prepared = requests.models.PreparedRequest()
    try:
        prepared.prepare_url(f"{scheme.lower()}://{userinfo}{at}{host}{port}{tail}", None)
    except (requests.RequestException, HTTPError, ValueError) as error:
        raise InputError(f"no URL that can be fetched: {quoted(text)}") from error
    url = prepared.url
    if not isinstance(url, str) or not _is_good_host(url):
        raise InputError(f"bad host name: {quoted(text)}")
    return url


def _with_scheme(text: str, default_scheme: str | None) -> str:
    found = _SCHEME.match(text)
    if found:
        if found.group(1).lower() in ("http", "https"):
            return text
        raise InputError(f"unsupported scheme (only http and https are fetched): {quoted(text)}")
    other = _OTHER_SCHEME.match(text)
    if other and other.group(1).lower() in ("http", "https"):
        raise InputError(f"two slashes are missing after '{other.group(1).lower()}:' in {quoted(text)}")
    if other:  # mailto:, javascript:, and user:password@host, which can't be told from them
        raise InputError(f"unsupported scheme (only http and https are fetched): {quoted(text)}")
    if default_scheme is None or text.startswith(":"):
        raise InputError(f"no scheme (http:// or https://): {quoted(text)}")
    return f"{default_scheme}:{text}" if text.startswith("//") else f"{default_scheme}://{text}"


def _host_and_port(host_port: str, text: str) -> tuple[str, str]:
    """Return the host, in ASCII, and the port with its colon or nothing; ``text`` is for messages."""
    parts = _HOST_PORT.fullmatch(host_port)
    if parts is None:
        raise InputError(f"bad host name: {quoted(text)}")
    host, port = parts.group(1), parts.group(2) or ""
    if not host:
        raise InputError(f"no host: {quoted(text)}")
    digits = port.lstrip("0")
    if port and not (port.isascii() and port.isdigit() and 0 < len(digits) <= 5 and int(digits) <= 65535):
        raise InputError(f"bad port (a number from 1 to 65535): {quoted(text)}")
    if len(host) > MAX_HOST_CHARS + 1:  # before idna, whose work grows with the length
        raise InputError(f"host name of more than {MAX_HOST_CHARS} characters: {quoted(text)}")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except UnicodeError as error:
            # idna's reason repeats a part of the host; where an "@" follows, that part may be a password's.
            reason = "" if "@" in text else f" ({one_line(str(error), SHOWN_CHARS)})"
            raise InputError(f"bad international host name{reason}: {quoted(text)}") from None
    return host, f":{digits}" if digits else ""


def _is_good_host(url: str) -> bool:
    authority = _AUTHORITY.match(url.partition("://")[2]).group()  # type: ignore[union-attr]
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        # urllib3 has matched it against the grammar of IPv6 addresses. A zone ("%eth0") has no place in a URL
        # (RFC 9844), and requests escapes the rest of such a URL twice.
        return "%" not in host
    host = host.partition(":")[0].removesuffix(".")
    return (
        len(host) <= MAX_HOST_CHARS
        and host.isascii()
        and not _BAD_HOST.search(host)
        and all(0 < len(label) <= MAX_LABEL_CHARS for label in host.split("."))
    )
