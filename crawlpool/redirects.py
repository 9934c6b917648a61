"""What holds when a redirect is followed: whose credentials go along, which proxy, and what is no redirect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.models import REDIRECT_STATI

from crawlpool.layers import LayeredSession
from crawlpool.politeness import ExitProxies
from crawlpool.redact import one_line


class RedirectingSession(LayeredSession):
    """A session whose redirects keep to the sites and the environment of its pool.

    Not thread-safe: it belongs to the thread that made it.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the Location of a redirect, or ``None``.

        Raises:
            requests.exceptions.InvalidURL: when its bytes are no text.
        """
        if resp.status_code not in REDIRECT_STATI:  # asked several times of each answer; nearly all end here
            return None
        with redirect_errors():
            return super().get_redirect_target(resp)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Drop credentials that the redirect's target must not see, and apply what is set for its own origin."""
        headers: Any = prepared_request.headers
        before, after = self._shared.sites.of(response.request.url), self._shared.sites.of(prepared_request.url)  # type: ignore[arg-type]
        strips = "Authorization" in headers and self.should_strip_auth(response.request.url, prepared_request.url)  # type: ignore[arg-type]
        if strips or (before is not after and before is not None and before.auth is not None):
            headers.pop("Authorization", None)
        if before is not after:
            for name, value in (before.headers if before is not None else {}).items():
                if headers.get(name) == value:  # the call's own header of that name stays
                    del headers[name]
            for name, value in (after.headers if after is not None else {}).items():
                headers.setdefault(name, value)
        if after is not None and after.auth is not None:
            if before is not after:  # else the header is the site's already, or the call's own
                prepared_request.prepare_auth(after.auth)
        elif self.trust_env and self._shared.environment.has_logins:
            found = self._shared.environment.login_for(prepared_request.url)  # type: ignore[arg-type]
            if found is not None:
                prepared_request.prepare_auth(found)

    def rebuild_proxies(self, prepared_request: requests.PreparedRequest, proxies: Any) -> Any:
        """Return the proxies for a redirect's target, by the environment as it was when the pool was made."""
        exits = self._shared.exits
        if type(proxies) is ExitProxies and exits is not None:
            # The transport logs in at the proxy that it goes by; what another one was told is not for this one.
            prepared_request.headers.pop("Proxy-Authorization", None)
            return exits.of(urlsplit(str(prepared_request.url)).hostname or "").proxies
        given = dict(proxies or {})
        if self.trust_env:
            environment = self._shared.environment
            found = environment.proxies_for(prepared_request.url, given.get("no_proxy"))  # type: ignore[arg-type]
            if not found and environment.has_proxies:
                given = {k: v for k, v in given.items() if environment.proxies.get(k) != v}
            scheme = str(prepared_request.url).partition(":")[0]
            proxy = found.get(scheme, found.get("all"))
            if proxy:
                given.setdefault(scheme, proxy)
        trusted, self.trust_env = self.trust_env, False  # what follows must not read the environment of this moment
        try:
            return super().rebuild_proxies(prepared_request, given)
        finally:
            self.trust_env = trusted


def names_proxy(url: Any, *given: Mapping[str, Any]) -> bool:
    """Tell whether mappings of proxies say anything of a URL, be it that it goes without; as requests reads them."""
    if not any(given):
        return False
    parts = urlsplit(url)
    keys = (f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all")
    return any(key in one for one in given for key in keys)


@contextlib.contextmanager
def redirect_errors() -> Iterator[None]:
    """Say of a Location that can't be parsed that it is no URL; requests lets its parsers' bare errors through."""
    try:
        yield
    except requests.RequestException:
        raise
    except ValueError as error:
        raise requests.exceptions.InvalidURL(f"the redirect's target is no URL: {one_line(str(error))}") from error
