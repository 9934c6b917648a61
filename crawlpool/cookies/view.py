"""The cookies that one request carries: the shared store's, and over them the request's own. Nothing is copied."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from requests.cookies import RequestsCookieJar

from crawlpool.cookies.asking import sendable
from crawlpool.cookies.incoming import lies_over
from crawlpool.cookies.jar import JudgedJar, cookie_of
from crawlpool.cookies.match import Domains, Key, Where, make_dict, matching, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.cookiejar import CookiePolicy

    from crawlpool.cookies.incoming import Incoming
    from crawlpool.cookies.store import CookieStore

# Judges the cookies that the caller gave with the request, as requests does: it merges them into a jar with this
# policy. So a session whose policy blocks all cookies of servers still sends those of ``cookies=``.
_OWN_POLICY = DefaultCookiePolicy()
make_dict(_OWN_POLICY)


def _copy_all(domains: Domains) -> Domains:
    """Return a copy of ``domains`` with copies of the cookies."""
    return {
        domain: {path: {name: copy.copy(cookie) for name, cookie in names.items()} for path, names in paths.items()}
        for domain, paths in domains.items()
    }


class RequestCookies(JudgedJar):
    """What a prepared request has as its jar, in place of the merged copy that requests makes for each request.

    It shows the store's cookies as they are now, updated by the request's own: of two cookies with the same domain,
    path and name the own one wins. All that is written goes to the own part, never into the store: cookies of a
    response that are extracted here, too. To make one costs nothing by the number of cookies stored.

    Three things differ from the merged copy. Cookies that the store got or lost after the request was prepared are
    seen. The store's cookies are judged by the store's policy where requests uses the standard one. And an own cookie
    without a domain goes to the host that the request was made for and to no other that a redirect leads to, nor from
    https down to http: requests sends it everywhere.

    In a header the own cookies come after the store's of the same length of path.

    Args:
        store: the shared store.
        own: the caller's cookies for this request, as requests takes them: a mapping, a jar (it is copied), or none.

    Not thread-safe, as the request that it belongs to isn't; many views may share one store.
    """

    def __init__(self, store: CookieStore, own: Mapping[str, str] | CookieJar | None = None) -> None:
        # Not super().__init__(): it would make a policy.
        self._store: CookieStore | None = store  # None once the view stands on its own
        self._policy = store.get_policy()
        self._own_policy: CookiePolicy = _OWN_POLICY
        # For the inherited methods of the standard library's jar, which take it around changes of _cookies.
        self._cookies_lock = threading.RLock()
        self._cookies: Domains = {}  # the own part
        self._hidden: set[Key] = set()  # the store's cookies that were removed here
        self._home: Where | None = None  # whom the first header was for: own cookies without a domain are its alone
        if own:
            self._add(own)

    def _add(self, own: Mapping[str, str] | CookieJar) -> None:
        if isinstance(own, CookieJar):
            for cookie in own:
                self.set_cookie(copy.copy(cookie))
        else:
            for name in own:
                self.set_cookie(cookie_of(name, own[name]))

    # Reading

    def _all(self) -> Domains:
        """Return the own cookies laid over the store's, in dicts of their own."""
        merged: Domains = {} if self._store is None else self._store._copied()
        for domain, path, name in self._hidden:
            merged.get(domain, {}).get(path, {}).pop(name, None)
        for domain, paths in self._cookies.items():
            for path, names in paths.items():
                merged.setdefault(domain, {}).setdefault(path, {}).update(names)
        return merged

    def __iter__(self) -> Iterator[Cookie]:  # type: ignore[override]  # as in any CookieJar
        """Iterate over the cookies of this moment, the own ones over the store's."""
        return iter(list(walk(self._all())))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def is_empty(self) -> bool:
        """Whether neither the store nor the own part holds a cookie; cheap, unless cookies were removed here."""
        if self._hidden:
            return not len(self)
        return (self._store is None or self._store.is_empty) and not any(True for _ in walk(self._cookies))

    @property
    def _is_bare(self) -> bool:
        return not self._cookies and (self._store is None or self._store.is_empty)

    def _going(self, where: Where, request: Any) -> list[Cookie]:
        if self._home is None:
            self._home = where
        shared = [] if self._store is None else self._store._matching(where)
        if not (self._cookies or self._hidden):
            return [cookie for _, cookie in sendable(self._policy, shared, request)]
        self._purge_own()
        own = [entry for entry in matching(self._cookies, where, time.time()) if entry[0][0] or self._is_home(where)]
        if len(own) > 1:
            place = {id(cookie): n for n, cookie in enumerate(walk(self._cookies))}
            own.sort(key=lambda entry: place[id(entry[1])])
        shared = [entry for entry in shared if entry[0] not in self._hidden and not self._owns(*entry[0])]
        going = sendable(self._policy, shared, request)
        going = going + sendable(self._own_policy, own, request)
        going.sort(key=lambda entry: -len(entry[0][1]))
        return [cookie for _, cookie in going]

    def _owns(self, domain: str, path: str, name: str) -> bool:
        return name in self._cookies.get(domain, {}).get(path, {})

    def _is_home(self, where: Where) -> bool:
        home = self._home
        return home is None or (home.host == where.host and (where.is_secure or not home.is_secure))

    def copy(self) -> RequestCookies:
        """Return a view on the same store with copies of the own cookies."""
        new = RequestCookies.__new__(RequestCookies)
        new._store, new._policy, new._own_policy = self._store, self._policy, self._own_policy
        new._cookies_lock = threading.RLock()
        new._cookies = _copy_all(self._cookies)
        new._hidden = set(self._hidden)
        new._home = self._home
        return new

    # Changing

    def set_policy(self, policy: CookiePolicy) -> None:
        """Let ``policy`` decide about all cookies of this request, given ones too; the store keeps its own."""
        self._policy = self._own_policy = policy

    def update(self, other: Any) -> None:  # type: ignore[override]  # as in RequestsCookieJar
        """Add copies of all cookies of a jar, or names and values of a mapping.

        The view's own store needs no copying: as after an update of a merged copy, its cookies then win over the own
        ones, and those removed here are back. That is what requests does at a redirect.
        """
        if self._store is None or other is not self._store:
            super().update(other)
            return
        self._hidden.clear()
        for domain, paths in self._cookies.items():  # the emptied dicts stay: they keep the domain's place in the order
            for path, names in paths.items():
                for name in [name for name in names if self._store._has(domain, path, name)]:
                    del names[name]

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Remove cookies from this request, as from a merged copy; the store keeps them.

        Raises:
            KeyError: when there is no such domain, path or name.
            ValueError: when a path is given without a domain, or a name without both.
        """
        if self._store is None or domain is None or path is None or name is None:
            self._stand_alone()
            super().clear(domain, path, name)
            return
        key = (domain, path, name)
        is_shown = key not in self._hidden and self._store._has(domain, path, name)
        if is_shown:
            self._hidden.add(key)
        names = self._cookies.get(domain, {}).get(path, {})
        if names.pop(name, None) is None and not is_shown:
            raise KeyError(name)

    def clear_session_cookies(self) -> None:
        """Remove the cookies that were to end with the session from this request; the store keeps them."""
        self._stand_alone()
        super().clear_session_cookies()

    def clear_expired_cookies(self) -> None:
        """Remove expired cookies; the store's are dropped there."""
        self._purge_own()
        if self._store is not None:
            self._store.clear_expired_cookies()

    def _purge_own(self) -> None:
        now_s = time.time()
        for cookie in list(walk(self._cookies)):
            if cookie.is_expired(now_s):  # type: ignore[arg-type]  # typed as int
                # A merged copy has lost the store's cookie of that key when it took this one.
                self._hidden.add((cookie.domain, cookie.path, cookie.name))
                del self._cookies[cookie.domain][cookie.path][cookie.name]

    def _apply(self, incoming: Incoming) -> None:
        for cookie in incoming.cookies:
            if not incoming.is_secure and not self._may_take(cookie):
                continue
            if not incoming.is_gone(cookie):
                super().set_cookie(cookie)
                continue
            with contextlib.suppress(KeyError):
                self.clear(cookie.domain, cookie.path, cookie.name)

    def _may_take(self, cookie: Cookie) -> bool:
        """Tell whether a cookie that came by an insecure way leaves each ``Secure`` one alone."""
        shared = [] if self._store is None else self._store._in_the_way(cookie)
        if any(key not in self._hidden and not self._owns(*key) for key in shared):
            return False
        return not any(lies_over(cookie, kept) for kept in walk(self._cookies))

    def _stand_alone(self) -> None:
        """Become a plain merged copy, for what can't be told by keys; no request of requests' own needs it."""
        if self._store is not None:
            self._cookies = _copy_all(self._all())
            self._store = None
            self._hidden.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        # A request that is pickled or deep-copied gets the merged copy that requests would have given it.
        return RequestsCookieJar, (), {"_policy": self._policy, "_cookies": self._all()}
