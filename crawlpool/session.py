"""A ``requests.Session`` that belongs to one thread and shares with its pool what can be shared safely."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.cookies import cookiejar_from_dict, merge_cookies
from requests.sessions import merge_hooks, merge_setting
from requests.structures import CaseInsensitiveDict

from crawlpool.auth import noted
from crawlpool.clock import Deadline
from crawlpool.config import check_cap, check_deadline
from crawlpool.cookies import CookieStore, RequestCookies
from crawlpool.errors import causes
from crawlpool.exchange import receive, send_once, send_with_retries
from crawlpool.lane import BlockingLane, EngineLane
from crawlpool.layers import UNSET
from crawlpool.politeness import ExitProxies
from crawlpool.prepare import PLAIN_URL, PlainRequest, Plan, checked, merged
from crawlpool.redact import TORN, conceal, hide, is_torn, one_line, split_login
from crawlpool.redirects import RedirectingSession, names_proxy, redirect_errors
from crawlpool.retry import RetryPolicy
from crawlpool.shared import Call
from crawlpool.transport.reading import read_body

if TYPE_CHECKING:
    from crawlpool.transport.base import Exchange, Lane
    from crawlpool.transport.inbox import Inbox

_IS_HTTP = re.compile(r"https?://", re.IGNORECASE)
_PLAIN = requests.Session  # the class itself: what the name means may be replaced while we run
_REQUESTS_SEND = _PLAIN.send


class Session(RedirectingSession):
    """A session of a pool, or one that stands alone.

    Everything that works on a ``requests.Session`` works here. Beyond requests, each verb takes ``deadline=``
    (wall-clock seconds over redirects, retries, back-off and body), ``retry=`` (a ``RetryPolicy`` or ``False``) and
    ``max_body_bytes=``.

    Not thread-safe: it belongs to the thread that made it. ``pool.session`` gives each thread its own.
    """

    # Preparing ---------------------------------------------------------------------------------------------------

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request with this session's settings, as requests does."""
        self._sync()
        now = self._synced
        url, login = self._split(request.url)
        site = self._shared.sites.of(url) if self._shared.sites.current else None
        auth = request.auth or (site.auth if site is not None else None)
        if login is not None and not auth and not self.auth:
            auth = login
        if self.trust_env and not auth and not self.auth and self._shared.environment.has_logins:
            auth = self._shared.environment.login_for(url)
        hooks = request.hooks
        own_hooks = self.hooks
        if now.hooks:
            own_hooks = {"response": [*now.hooks, *(own_hooks or {}).get("response", ())]}
        prepared = requests.PreparedRequest()
        headers: Any = merge_setting(request.headers, self.headers, dict_class=CaseInsensitiveDict)
        if site is not None and site.headers:
            headers = merged(checked(self.headers), site.headers, request.headers)
        parts: dict[str, Any] = dict(
            method=request.method.upper() if request.method else request.method,
            url=url,
            files=request.files,
            data=request.data,
            json=request.json,
            headers=headers,
            params=merge_setting(request.params, self.params),
            auth=noted(merge_setting(auth, self.auth)),
            cookies=self._jar_for(request.cookies),
            hooks=merge_hooks(hooks, own_hooks),
        )
        try:
            prepared.prepare(**parts)
        except Exception as error:
            if "@" in str(url):
                conceal(causes(error), str(url))
            raise
        if "@" in (prepared.url or "") and not _IS_HTTP.match(prepared.url or ""):
            self.get_adapter(prepared.url or "")  # where there is none, its error shows no login; those of others might
        return prepared

    @staticmethod
    def _split(url: Any) -> tuple[Any, tuple[str, str] | None]:
        """Return a URL without its login, and the login; what isn't text becomes it as requests has it.

        Raises:
            requests.exceptions.InvalidURL: for a login with a delimiter in it, part of which would be the host.
        """
        if isinstance(url, bytes):
            url = url.decode("utf8")
        if "@" not in str(url):
            return url, None
        if is_torn(str(url)):
            raise requests.exceptions.InvalidURL(f"{TORN}: {one_line(hide(str(url)), 100)!r}")
        return split_login(str(url))

    def _jar_for(self, cookies: Any) -> Any:
        jar = self.cookies
        if isinstance(jar, CookieStore):
            return RequestCookies(jar, cookies)
        if cookies is not None and not hasattr(cookies, "set_cookie"):
            cookies = cookiejar_from_dict(cookies)
        return merge_cookies(merge_cookies(requests.cookies.RequestsCookieJar(), jar), cookies or {})

    def _prepare(self, method: str, url: Any, **parts: Any) -> requests.PreparedRequest:
        # What is most of a crawl goes the short way: a plain URL, nothing that changes URL or body, no auth.
        if (
            (method == "GET" or method == "HEAD")
            and type(url) is str
            and not (parts["params"] or parts["data"] or parts["json"] or parts["files"] or parts["cookies"])
            and parts["auth"] is None
            and not parts["hooks"]
            and PLAIN_URL.fullmatch(url) is not None
        ):
            prepared = self.prepare_plain(method, url, parts["headers"])
            if prepared is not None:
                return prepared
        return self.prepare_request(requests.Request(method=method, url=url, **parts))

    def prepare_plain(self, method: str, url: str, headers: Any = None) -> PlainRequest | None:
        """Return the prepared request of a GET or HEAD to a URL that ``PLAIN_URL`` matches, with nothing but headers.

        ``None`` where this session has something to add that takes the long way.
        """
        plan = self.plan()
        return None if plan is None else plan.request(method, url, headers)

    def plan(self) -> Plan | None:
        """Return what plain requests have in common now; ``None`` where one of them may take the long way."""
        self._sync()
        now = self._synced
        shared = self._shared
        jar = self.cookies
        mine = self._headers
        if (
            self.auth is not None
            or shared.sites.current
            or type(jar) is not CookieStore
            or self._params
            or (self.trust_env and shared.environment.has_logins)
            or not isinstance(mine, CaseInsensitiveDict)  # a user's plain dict in its place
        ):
            return None
        own = self.hooks.get("response") if self.hooks else None
        hooks = [*now.hooks, *([own] if callable(own) else own or ())]
        settings = self.plain_settings()
        plan = self._plan
        if plan is None or not plan.holds_for(now, mine, hooks, jar, settings):
            plan = self._plan = Plan(now, mine, checked(mine), hooks, jar, settings)
        return plan

    # Sending -----------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: Any,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        cookies: Any = None,
        files: Any = None,
        auth: Any = None,
        timeout: Any = UNSET,
        allow_redirects: bool = True,
        proxies: Any = None,
        hooks: Any = None,
        stream: bool | None = None,
        verify: Any = None,
        cert: Any = None,
        json: Any = None,
        *,
        deadline: float | None = UNSET,
        retry: RetryPolicy | bool | None = None,
        max_body_bytes: int | None = UNSET,
    ) -> requests.Response:
        """Prepare and send a request; takes what ``requests.Session.request`` takes, and three things more.

        Args:
            deadline: wall-clock seconds that the call may take, all in all; ``None`` for no deadline. A session that
                stands alone has no watchdog: it clips timeouts, and can't end a body that drips.
            retry: a policy for this call, or ``False`` for no retries.
            max_body_bytes: cap on the decoded body; ``None`` for none.

        Raises:
            requests.RequestException: as requests does; crawlpool's own kinds derive from it.
            PoolClosed: when the pool is closed.
        """
        if isinstance(url, bytes):
            url = url.decode("utf-8")
        call = self.call(deadline, retry, max_body_bytes)
        call.url = str(url)  # as it is written, not as it is prepared: what hides an address names none
        prepared = self._prepare(
            method.upper(),
            url,
            headers=headers,
            files=files,
            data=data or {},
            json=json,
            params=params or {},
            auth=auth,
            cookies=cookies,
            hooks=hooks,
        )
        settings = self.merge_environment_settings(prepared.url, proxies or {}, stream, verify, cert)
        return self.send(
            prepared,
            timeout=self.timeout if timeout is UNSET else timeout,
            allow_redirects=allow_redirects,
            call=call,
            **settings,
        )

    def call(self, deadline: Any = UNSET, retry: Any = None, max_body_bytes: Any = UNSET, accept: Any = None) -> Call:
        """Return what one call adds to the session's settings; the pool's values where none are given.

        Raises:
            ConfigError: for a value that can't be.
        """
        settings = self._shared.settings
        deadline_s = settings.deadline_s if deadline is UNSET else deadline
        check_deadline(deadline_s)
        cap = settings.max_body_bytes if max_body_bytes is UNSET else max_body_bytes
        check_cap(cap)
        return Call(Deadline(deadline_s, self._shared.deadline_clock), RetryPolicy.given(retry), cap, accept)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """Return the settings of a request: the call's, the session's, the environment's, in this order."""
        self._sync()
        mine = self._proxies or {}
        exits = self._shared.exits
        if exits is not None and not names_proxy(url, mine, proxies or {}):
            proxies = exits.of(urlsplit(url).hostname or "").proxies  # that one's, unless a turn says another
        elif self.trust_env and self._shared.environment.has_proxies:
            found = self._shared.environment.proxies_for(url, (proxies or {}).get("no_proxy"))
            mine = {**found, **mine} if found else mine
        if type(proxies) is not ExitProxies and (proxies or mine):
            given = {**mine, **(proxies or {})}
            proxies = {scheme: proxy for scheme, proxy in given.items() if proxy is not None}
        verify = self.verify if verify is None else verify
        if verify is True and self.trust_env:
            verify = self._shared.environment.ca_bundle or True
        return {
            "proxies": proxies or {},
            "stream": self.stream if stream is None else stream,
            "verify": verify,
            "cert": self.cert if cert is None else cert,
        }

    def plain_settings(self) -> dict[str, Any] | None:
        """Return the settings of a request that has none of its own; ``None`` where they depend on its URL.

        The dict is shared: nobody changes it.
        """
        self._sync()
        if self._proxies or self._shared.exits is not None or (self.trust_env and self._shared.environment.has_proxies):
            return None
        now = (self._synced, self._own_version, self.trust_env)
        if self._plain_of != now:
            found = self.merge_environment_settings("", {}, False, None, None)
            self._plain_of, self._plain = now, {**found, "timeout": self.timeout}
        return self._plain

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, following redirects and retrying; as ``requests.Session.send``."""
        if isinstance(request, requests.Request):
            raise ValueError("You can only send PreparedRequests.")
        if "@" in (request.url or "") and split_login(request.url or "")[0] != request.url:
            request = request.copy()  # it was prepared elsewhere; the login stands in its header by now
            request.url = split_login(request.url or "")[0]
        call = kwargs.pop("call", None)
        if _PLAIN.send is not _REQUESTS_SEND:  # patched: by requests-mock, for one
            return _PLAIN.send(self, request, **kwargs)
        if call is None:
            call = self.call(
                kwargs.pop("deadline", UNSET), kwargs.pop("retry", None), kwargs.pop("max_body_bytes", UNSET)
            )
        allow_redirects = kwargs.pop("allow_redirects", True)
        call.follows = call.follows or allow_redirects
        if call.url is None:
            call.url = request.url
        if "proxies" not in kwargs or "verify" not in kwargs or "stream" not in kwargs or "cert" not in kwargs:
            found = self.merge_environment_settings(request.url, None, None, None, None)
            kwargs = {**found, **kwargs}
        kwargs.setdefault("timeout", self.timeout)
        self.lifeline.enter()
        try:
            response = send_with_retries(self, request, call, kwargs)
            if self.get_redirect_target(response):
                response = self._redirected(response, request, call, allow_redirects, kwargs)
            return response
        finally:
            if self.lifeline.leave():
                self.dispose()

    def _redirected(self, first: Any, request: Any, call: Call, follow: bool, kwargs: dict[str, Any]) -> Any:
        with redirect_errors():
            if not follow:
                first._next = next(self.resolve_redirects(first, request, yield_requests=True, **kwargs), None)
                return first
            answers = [first, *self.resolve_redirects(first, request, call=call, **kwargs)]
        last = answers.pop()
        last.history = answers
        return last

    # A worker's way ------------------------------------------------------------------------------------------------

    def lane(self, inbox: Inbox) -> Lane:
        """Return this session's side of its transport, for a worker's loop; ``inbox`` is the one of all workers."""
        return BlockingLane(self) if self._shared.engine is None else EngineLane(self, inbox)

    def engine_adapter(self, exchange: Exchange) -> Any:
        """Return the adapter whose engine takes the exchange, or ``None`` where the blocking way must be gone."""
        is_mocked = _PLAIN.send is not _REQUESTS_SEND or "send" in self.__dict__
        return None if is_mocked else super().engine_adapter(exchange)

    def finish(self, exchange: Exchange, response: requests.Response) -> requests.Response:
        """Do what is to be done with an answer whose body an engine has brought: hooks, cookies, decoding."""
        return receive(self, exchange, response)

    def send_leg(self, exchange: Exchange) -> requests.Response:
        """Send one leg of a crawl: no redirect followed, no retry; a mock that replaced ``send`` gets it too."""
        if _PLAIN.send is not _REQUESTS_SEND or "send" in self.__dict__:
            response = self.send(exchange.request, allow_redirects=False, **{**exchange.settings, "stream": True})
            if exchange.accept is not None:
                exchange.accept(response)
            read_body(response, exchange.max_body_bytes)
            return response
        return send_once(self, exchange)

    def next_hop(self, response: requests.Response, exchange: Exchange) -> requests.PreparedRequest | None:
        """Return the request that a redirect asks for, prepared as requests would, or ``None`` for no redirect.

        Raises:
            requests.RequestException: when the redirect's target can't be requested.
        """
        if self.get_redirect_target(response) is None:
            return None
        hops = self.resolve_redirects(response, exchange.request, yield_requests=True, **exchange.settings)
        with redirect_errors():
            request: Any = next(hops, None)
        return request  # type: ignore[no-any-return]

    # Closing -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection of this session; a session that stands alone can be used again, as in requests."""
        for adapter in {id(adapter): adapter for adapter in self.adapters.values()}.values():
            adapter.close()

    def dispose(self) -> None:
        """Close for good: by the pool when the session is idle, else by its own thread when its call ends."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # As requests' tests ask for it. What crosses over: settings, cookies, and the adapters that the user mounted.
        state = {name: getattr(self, name, None) for name in (*self.__attrs__, "timeout")}
        state["cookies"] = self.cookies.copy()
        state["adapters"] = {prefix: self.adapters[prefix] for prefix in self._self_mounted}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self)
        for prefix, adapter in state.pop("adapters").items():
            self.mount(prefix, adapter)
        for name, value in state.items():
            setattr(self, name, value)
