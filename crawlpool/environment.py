"""What the process's environment says of proxies, credentials and CA bundles: read once, never written.

requests reads the environment and the netrc file again for each request, which costs about 100 µs, and writes
``os.environ`` for a moment where ``no_proxy`` is given, which other threads see.
"""

from __future__ import annotations

import netrc
import os
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests.utils import address_in_network, is_ipv4_address, is_valid_cidr

if TYPE_CHECKING:
    from collections.abc import Mapping

_bypasses: Any = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # documented nowhere, stable
_NETRC_FILES = ("~/.netrc", "~/_netrc")


class Environment:
    """The environment as it was when this was made.

    Args:
        proxies: proxy URLs by scheme, ``all`` and ``no`` (the hosts that go without).
        ca_bundle: a CA bundle's path, or ``None``.
        logins: a parsed netrc file, or ``None``.

    Thread-safe: it is immutable.
    """

    __slots__ = ("_logins", "_no_proxy", "ca_bundle", "has_logins", "has_proxies", "proxies")

    def __init__(
        self,
        proxies: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
        logins: netrc.netrc | None = None,
    ) -> None:
        self.proxies: dict[str, str] = dict(proxies or {})
        self._no_proxy = self.proxies.get("no", "")
        self.has_proxies = any(key != "no" for key in self.proxies)
        self.ca_bundle = ca_bundle
        self._logins = logins
        self.has_logins = logins is not None

    @classmethod
    def read(cls, *, with_netrc: bool = True) -> Environment:
        """Read ``*_proxy``, ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` and ``NETRC`` or ``~/.netrc``.

        A netrc file that can't be read or parsed counts as none, as in requests; ``with_netrc=False`` leaves it alone.
        """
        ca_bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
        return cls(urllib.request.getproxies(), ca_bundle, _read_netrc() if with_netrc else None)

    @classmethod
    def empty(cls) -> Environment:
        """Return an environment that says nothing, for ``trust_env=False``."""
        return cls()

    def proxies_for(self, url: str, no_proxy: str | None = None) -> dict[str, str]:
        """Return the proxies that hold for ``url``, by scheme; empty where the host goes without.

        Args:
            url: an absolute URL.
            no_proxy: hosts that go without, instead of the environment's.
        """
        if not self.has_proxies or self._is_bypassed(url, no_proxy):
            return {}
        return self.proxies

    def login_for(self, url: str) -> tuple[str, str] | None:
        """Return the netrc file's (user, password) for the host of ``url``, or ``None``."""
        if self._logins is None:
            return None
        host = urlsplit(url).hostname
        found: Any = self._logins.authenticators(host) if host else None
        if not found or not any(found):
            return None
        return (found[0] or found[1] or "", found[2] or "")

    def _is_bypassed(self, url: str, no_proxy: str | None) -> bool:
        parts = urlsplit(url)
        host = parts.hostname
        if host is None:  # a file: URL, say
            return True
        listed = self._no_proxy if no_proxy is None else no_proxy
        if listed:
            names = [name for name in listed.replace(" ", "").split(",") if name]
            if is_ipv4_address(host):
                for name in names:
                    if is_valid_cidr(name) and address_in_network(host, name):
                        return True
                    if name == host:
                        return True
            else:
                forms = (host, f"{host}:{parts.port}") if parts.port else (host,)
                for name in (name.lstrip(".") for name in names):
                    if any(form == name or form.endswith(f".{name}") for form in forms):
                        return True
        return bool(_bypasses(host, {"no": listed}))


class LiveEnvironment(Environment):
    """The environment as it is at each question, for a session that stands alone, as requests' own do."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.has_logins = True
        self.has_proxies = True

    def __getattribute__(self, name: str) -> Any:
        if name == "ca_bundle":
            return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
        return super().__getattribute__(name)

    def proxies_for(self, url: str, no_proxy: str | None = None) -> dict[str, str]:
        """Ask the environment of this moment."""
        return Environment(urllib.request.getproxies()).proxies_for(url, no_proxy)

    def login_for(self, url: str) -> tuple[str, str] | None:
        """Ask requests, whose function tests and mocks replace."""
        import requests.sessions

        ask: Any = vars(requests.sessions)["get_netrc_auth"]
        found = ask(url)
        return None if found is None else (found[0], found[1])


def _read_netrc() -> netrc.netrc | None:
    named = os.environ.get("NETRC")
    for path in (named,) if named is not None else _NETRC_FILES:
        path = os.path.expanduser(path)
        if os.path.exists(path):
            try:
                return netrc.netrc(path)
            except (netrc.NetrcParseError, OSError, UnicodeError):
                return None
    return None
