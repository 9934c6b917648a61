"""The cookie store: one jar for all threads of a pool, indexed by domain."""

from __future__ import annotations

import copy
import threading
import time
from http.cookiejar import Cookie, CookieJar, CookiePolicy
from typing import TYPE_CHECKING, Any

from requests.cookies import CookieConflictError

from crawlpool.cookies import netscape
from crawlpool.cookies.asking import sendable
from crawlpool.cookies.index import MAX_COOKIES, CookieIndex
from crawlpool.cookies.jar import JudgedJar, cookie_of, foresee
from crawlpool.cookies.match import Key, Paths, Where, copy_paths, make_dict
from crawlpool.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from http.cookies import Morsel

    from crawlpool.cookies.incoming import Incoming

_NO_DEFAULT: Any = object()


class CookieStore(JudgedJar):
    """A ``RequestsCookieJar`` by RFC 6265bis, safe in threads in every operation, whose cost is that of what is sent.

    Each operation is one step: none is seen half done, and no update is lost. Iteration goes over a snapshot. What
    servers may set, and what is sent to whom in which order, is as in browsers: no cookie for a public suffix, none
    for other hosts, ``Secure``, the prefixes ``__Host-`` and ``__Secure-``, limits of size and number. What the caller
    sets is taken as it is. A cookie belongs to the store once it is set: to change one, set a changed copy of it.

    Args:
        policy: asked about each cookie that the RFC lets in or out; it can refuse more, not allow more. It is called
            from all threads, with no lock held. ``None`` for no more than the RFC.
        max_cookies: how many are kept; the least recently used go. Of one domain there are 180 at most.

    Raises:
        ConfigError: when ``max_cookies`` is no positive whole number.

    Thread-safe.

    Source: RFC 6265bis, section 5.
    """

    def __init__(self, policy: CookiePolicy | None = None, *, max_cookies: int = MAX_COOKIES) -> None:
        if not isinstance(max_cookies, int) or isinstance(max_cookies, bool) or max_cookies < 1:
            raise ConfigError(f"max_cookies must be a whole number of 1 or more, not {max_cookies!r}")
        super().__init__(policy)
        self._max_cookies = max_cookies
        self._set_up({})

    def _set_up(self, cookies: dict[str, Paths]) -> None:
        # Guards _index with all that is in it; _cookies is _index.domains, under the name that the standard library
        # has for it. Reentrant because users of its jars take it themselves around several calls. One field is read
        # without it, _index.count: a plain int, and what it tells may be out of date at once anyway.
        self._cookies_lock = threading.RLock()
        make_dict(self._policy)
        self._cookies = cookies
        self._index = CookieIndex(cookies, self._max_cookies)

    def _reset_lock_after_fork(self) -> None:
        """Make the store usable in a forked child, where a thread that isn't there may hold the lock.

        The index is made anew, as it may have been half changed; cookies are never half stored.
        """
        self._set_up(self._cookies)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is stored. Takes no lock."""
        return not self._index.count

    # Reading

    def __iter__(self) -> Iterator[Cookie]:  # type: ignore[override]  # as in any CookieJar
        """Iterate over the cookies stored at this moment."""
        return iter(self._snapshot())

    def __len__(self) -> int:
        return self._index.count

    def get_dict(self, domain: str | None = None, path: str | None = None) -> dict[str, Any]:
        """Return the cookies of ``domain`` and ``path``, or all, as a dict of values by name."""
        return {cookie.name: cookie.value for cookie in self._snapshot(domain, path)}

    def copy(self) -> CookieStore:
        """Return an independent store with copies of all cookies and the same policy object."""
        new = CookieStore(self.get_policy(), max_cookies=self._max_cookies)
        new.update(self)
        return new

    def _snapshot(self, domain: str | None = None, path: str | None = None) -> list[Cookie]:
        with self._cookies_lock:
            return self._index.within(domain, path)

    def _find(self, name: str, domain: str | None = None, path: str | None = None) -> str | None:
        for cookie in self._snapshot(domain, path):
            if cookie.name == name:
                return cookie.value
        raise KeyError(f"name={name!r}, domain={domain!r}, path={path!r}")

    def _find_no_duplicates(self, name: str, domain: str | None = None, path: str | None = None) -> str:
        found = None
        for cookie in self._snapshot(domain, path):
            if cookie.name == name:
                if found is not None:
                    raise CookieConflictError(f"There are multiple cookies with name, {name!r}")
                found = cookie.value
        if found is None:
            raise KeyError(f"name={name!r}, domain={domain!r}, path={path!r}")
        return found

    # Changing

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:
        """Store ``cookie`` in the place of one with the same domain, path and name. No policy is asked."""
        foresee((cookie,))
        with self._cookies_lock:
            self._set_cookie(cookie)

    def _set_cookie(self, cookie: Cookie) -> None:
        value = cookie.value
        if value is not None and value.startswith('"') and value.endswith('"'):
            cookie.value = value.replace('\\"', "")  # as RequestsCookieJar does
        self._index.set(cookie)

    def set(self, name: str, value: str | Morsel[Any] | None, **kwargs: Any) -> Cookie | None:
        """Store a cookie made of ``name`` and ``value``; the value ``None`` removes it, as in requests.

        Args:
            name: the cookie's name.
            value: text, or a ``Morsel`` that holds name and value.
            kwargs: ``domain``, ``path``, ``expires`` (seconds since 1970), ``secure`` and what else
                ``requests.cookies.create_cookie`` takes.

        Returns:
            The cookie stored, or ``None`` after a removal.
        """
        if value is None:
            with self._cookies_lock:
                self._remove_named(name, kwargs.get("domain"), kwargs.get("path"))
            return None
        cookie = cookie_of(name, value, **kwargs)
        self.set_cookie(cookie)
        return cookie

    def update(self, other: Any) -> None:  # type: ignore[override]  # as in RequestsCookieJar
        """Store copies of all cookies of another jar, or names and values of a mapping, in one step."""
        cookies: list[Cookie | str] = []  # a text is a name to remove
        if isinstance(other, CookieJar):
            cookies += [copy.copy(cookie) for cookie in other]
        else:
            cookies += [name if value is None else cookie_of(name, value) for name, value in dict(other).items()]
        foresee([cookie for cookie in cookies if not isinstance(cookie, str)])
        with self._cookies_lock:
            for cookie in cookies:
                if isinstance(cookie, str):
                    self._remove_named(cookie)
                else:
                    self._set_cookie(cookie)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of the cookie ``key``; store ``default`` first if there is none. One step."""
        cookie = None if default is None else cookie_of(key, default)
        foresee(() if cookie is None else (cookie,))
        with self._cookies_lock:
            try:
                return self._find_no_duplicates(key)
            except KeyError:
                if cookie is not None:
                    self._set_cookie(cookie)
                return default

    def pop(self, key: str, default: Any = _NO_DEFAULT) -> Any:
        """Remove the cookie ``key`` and return its value, in one step.

        Raises:
            KeyError: when there is none and no ``default`` was given.
            CookieConflictError: when there are several.
        """
        with self._cookies_lock:
            try:
                value = self._find_no_duplicates(key)
            except KeyError:
                if default is _NO_DEFAULT:
                    raise
                return default
            self._remove_named(key)
            return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the first cookie and return its name and value. A ``RequestsCookieJar`` always raises here.

        Raises:
            KeyError: when the store is empty.
        """
        with self._cookies_lock:
            for cookie in self._index.within(None, None):
                self._index.remove(cookie.domain, cookie.path, cookie.name)
                return cookie.name, cookie.value
        raise KeyError("popitem(): the cookie store is empty")

    def __delitem__(self, name: str) -> None:
        with self._cookies_lock:
            self._remove_named(name)

    def _remove_named(self, name: str, domain: str | None = None, path: str | None = None) -> None:
        self._index.remove_all(self._index.named(name, domain, path))

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Remove all cookies, or those of a domain, those of a path in it, or the one of that name.

        Raises:
            KeyError: when there is no such domain, path or name.
            ValueError: when a path is given without a domain, or a name without both.
        """
        if name is not None and (domain is None or path is None):
            raise ValueError("domain and path must be given to remove a cookie by name")
        if path is not None and domain is None:
            raise ValueError("domain must be given to remove cookies by path")
        with self._cookies_lock:
            if domain is None:
                self._index.clear()
            elif path is None:
                self._index.remove_domain(domain)
            elif name is None:
                self._index.remove_path(domain, path)
            else:
                self._index.remove(domain, path, name)

    def clear_session_cookies(self) -> None:
        """Remove the cookies that were to end with the session (RFC 6265, section 5.3, step 3)."""
        with self._cookies_lock:
            self._remove_where(lambda cookie: cookie.discard)

    def clear_expired_cookies(self) -> None:
        """Remove expired cookies. Looks at each one; what requests do by themselves after a header does not."""
        now_s = time.time()
        with self._cookies_lock:
            self._remove_where(lambda cookie: cookie.is_expired(now_s))  # type: ignore[arg-type]  # typed as int

    def _remove_where(self, is_unwanted: Callable[[Cookie], bool]) -> None:
        unwanted = [c for c in self._index.within(None, None) if is_unwanted(c)]
        self._index.remove_all([(c.domain, c.path, c.name) for c in unwanted])

    # Requests and responses

    @property
    def _is_bare(self) -> bool:
        return not self._index.count

    def _going(self, where: Where, request: Any) -> list[Cookie]:
        return [cookie for _, cookie in sendable(self._policy, self._matching(where), request)]

    def _apply(self, incoming: Incoming) -> None:
        with self._cookies_lock:
            self._index.purge()
            for cookie in incoming.cookies:
                if incoming.is_gone(cookie):
                    self._index.drop(cookie, incoming.is_secure)
                else:
                    self._index.take(cookie, incoming.is_secure)

    # For the views: what a RequestCookies asks of its store

    def _has(self, domain: str, path: str, name: str) -> bool:
        with self._cookies_lock:
            return self._index.get(domain, path, name) is not None

    def _in_the_way(self, cookie: Cookie) -> list[Key]:
        with self._cookies_lock:
            return self._index.in_the_way(cookie)

    def _copied(self) -> dict[str, Paths]:
        with self._cookies_lock:
            return {domain: copy_paths(paths) for domain, paths in self._index.domains.items()}

    def _matching(self, where: Where) -> list[tuple[Key, Cookie]]:
        """Return what the RFC sends with a request, in order, with its keys; then drop what has expired."""
        with self._cookies_lock:
            found = self._index.going(where, time.time())
            self._index.purge()
        return found

    # Files and pickles

    @classmethod
    def load(cls, path: str | os.PathLike[str], policy: CookiePolicy | None = None) -> CookieStore:
        """Return a store with the cookies of a Netscape ``cookies.txt``, such as ``curl -c`` writes.

        Left out are expired cookies, and those for all hosts of a public suffix: they were never anybody's to set.
        A warning tells how many of the latter there were.

        Args:
            path: the file.
            policy: the policy of the new store; it isn't asked about the cookies of the file.

        Raises:
            CookieFileError: when the file can't be read, or a line of it is no cookie.
        """
        store = cls(policy)
        cookies = netscape.read(path)
        foresee(cookies)
        with store._cookies_lock:
            for cookie in cookies:
                store._index.set(cookie)  # as it was sent; requests' way with quotes is for what callers set
        return store

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all cookies but expired ones to a Netscape ``cookies.txt``, as ``curl -b`` reads it.

        Session cookies are written too. The file appears whole or not at all, readable by its owner only.

        Raises:
            CookieFileError: when the file can't be written, or a cookie can't be put into such a file.
        """
        netscape.write(path, self._snapshot())

    def __getstate__(self) -> dict[str, Any]:
        return {"_policy": self._policy, "_max_cookies": self._max_cookies, "_cookies": self._copied()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._policy = state["_policy"]
        self._max_cookies = state["_max_cookies"]
        self._set_up(state["_cookies"])
