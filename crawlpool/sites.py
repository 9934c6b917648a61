"""What holds for one origin only: headers, auth, retry and limits that never follow a redirect away from it."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from crawlpool.errors import ConfigError
from crawlpool.limits import HostLimits, check_limits
from crawlpool.prepare import check_header
from crawlpool.redact import hide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.retry import RetryPolicy

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return ``scheme://host:port`` of an absolute URL: lower case, no userinfo, the port always there.

    Raises:
        ConfigError: when it isn't an absolute http or https URL.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        parts = parse_url("")
    if parts.scheme not in _DEFAULT_PORTS or not parts.host:
        raise ConfigError(
            f"origin {hide(url)!r}: an origin is http://host or https://host, with a port where it needs one"
        )
    return f"{parts.scheme}://{parts.host.lower()}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def declared_origin(text: str) -> str:
    """Return the origin that a user names, as ``origin_of`` writes it.

    Raises:
        ConfigError: when it isn't one, or is more: what is set for an origin holds for all of its paths.
    """
    origin = origin_of(text)
    parts = parse_url(text)
    if parts.path not in (None, "", "/") or parts.query is not None or parts.auth is not None:
        raise ConfigError(f"origin {hide(text)!r}: an origin has no user, no path and no query: {origin}")
    return origin


@dataclasses.dataclass(frozen=True)
class Site:
    """The settings of one origin.

    Args:
        origin: as ``origin_of`` writes it.
        headers: headers for this origin, over the pool's and the session's, under those of a call.
        auth: requests auth for this origin.
        retry: a retry policy for this origin, or ``False`` for none.
        limits: how hard its host may be asked in ``submit``, ``map`` and ``crawl``.
    """

    origin: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    auth: Any = None
    retry: RetryPolicy | bool | None = None
    limits: HostLimits | None = None

    def __post_init__(self) -> None:
        check_limits(self.limits)
        for header in self.headers.items():
            check_header(*header)

    def __repr__(self) -> str:
        return f"<Site {self.origin}>"  # headers and auth are often secrets


class Sites:
    """The settings of all origins of a pool.

    Thread-safe: a change publishes a new dict; readers take ``current`` without a lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the replacement of `current` by a changed copy
        self.current: dict[str, Site] = {}

    def put(self, site: Site) -> None:
        """Set the settings of an origin; what it had before is replaced."""
        with self._lock:
            self.current = {**self.current, site.origin: site}

    def of(self, url: str) -> Site | None:
        """Return the settings of the origin of ``url``; ``None`` where there are none or ``url`` has no origin."""
        if not self.current:
            return None
        try:
            return self.current.get(origin_of(url))
        except ConfigError:
            return None

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
