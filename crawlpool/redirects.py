"""What holds when a redirect is followed: whose credentials go along, which proxy, and what is no redirect.

Credentials are for the origin that they were given for: scheme, host and port (RFC 9110, section 15.4; RFC 6454). One
exception is requests' own: they go along from http to https on the same host, both with their standard ports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.models import REDIRECT_STATI
from requests.utils import select_proxy
from urllib3.util import parse_url

from crawlpool.auth import given_by_auth, noted, take_back
from crawlpool.layers import LayeredSession
from crawlpool.politeness import ExitProxies
from crawlpool.redact import hide, one_line, split_login

#: What tells of a body goes with it (Fetch, "request-body-header name"; RFC 9110, section 15.4, point 6).
_OF_BODY = ("content-", "transfer-encoding", "trailer")


class RedirectingSession(LayeredSession):
    """A session whose redirects keep to the sites and the environment of its pool.

    Not thread-safe: it belongs to the thread that made it.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the Location of a redirect without the userinfo that it may have, or ``None``.

        Who redirects doesn't decide by which login somebody else is asked.

        Raises:
            requests.exceptions.InvalidURL: when its bytes are no text.
        """
        if resp.status_code not in REDIRECT_STATI:  # asked several times of each answer; nearly all end here
            return None
        with redirect_errors():
            target = super().get_redirect_target(resp)
            return target if target is None or "@" not in target else _without_login(target)

    def rebuild_method(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Choose the method as requests does, and leave the call's own cookies behind where the origin is another."""
        super().rebuild_method(prepared_request, response)
        # It is called before the cookies of the new request are chosen. Those that a call gives by name and value have
        # no domain, and would go to every host; the store's go by their own rules.
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[arg-type]
            getattr(prepared_request._cookies, "_cookies", {}).pop("", None)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Drop credentials that the redirect's target must not see, and apply what is set for its own origin."""
        headers: Any = prepared_request.headers
        if prepared_request.body is None:
            for name in [name for name in headers if name.lower().startswith(_OF_BODY)]:
                del headers[name]
        before, after = self._shared.sites.of(response.request.url), self._shared.sites.of(prepared_request.url)  # type: ignore[arg-type]
        strips = self.should_strip_auth(response.request.url, prepared_request.url)  # type: ignore[arg-type]
        if strips or (before is not after and before is not None and before.auth is not None):
            take_back(prepared_request, given_by_auth(response.request))
        else:
            given_by_auth(response.request).note_on(prepared_request)
        if before is not after:
            for name, value in (before.headers if before is not None else {}).items():
                if headers.get(name) == value:  # the call's own header of that name stays
                    del headers[name]
            for name, value in (after.headers if after is not None else {}).items():
                headers.setdefault(name, value)
        if after is not None and after.auth is not None:
            if before is not after:  # else the header is the site's already, or the call's own
                prepared_request.prepare_auth(noted(after.auth))
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
            found = super().rebuild_proxies(prepared_request, given)
        finally:
            self.trust_env = trusted
        scheme = str(prepared_request.url).partition(":")[0]
        if select_proxy(str(prepared_request.url), found) != found.get(scheme):
            # requests logs in at the proxy of the scheme, and this host goes by another one.
            prepared_request.headers.pop("Proxy-Authorization", None)
        return found


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


def _without_login(target: str) -> str:
    """Return a Location without userinfo: of an absolute reference, and of one that has its scheme from the request.

    Raises:
        requests.exceptions.InvalidURL: for what is no URL; sending it would say so, and show what may be a login.
    """
    whole = f"http:{target}" if target.startswith("//") else target
    clean = split_login(whole)[0]
    try:
        parse_url(whole)
    except ValueError:
        shown = one_line(hide(target), 100)
        raise requests.exceptions.InvalidURL(f"the redirect's target is no URL: {shown!r}") from None
    return clean if whole is target else clean.removeprefix("http:")
