"""The cookie store: one jar for all threads of a pool, indexed by domain."""

from __future__ import annotations

import copy
import threading
import time
from http.cookiejar import Cookie, CookieJar, CookiePolicy
from typing import TYPE_CHECKING, Any

from requests.cookies import CookieConflictError

from crawlpool.cookies import netscape
from crawlpool.cookies.index import CookieIndex
from crawlpool.cookies.jar import JudgedJar, cookie_of
from crawlpool.cookies.match import (
    Facts,
    Paths,
    candidate_domains,
    copy_paths,
    host_of,
    is_indexable,
    request_host,
    rules_for,
    select,
    settle,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from http.cookies import Morsel

    from crawlpool.cookies.incoming import Incoming

_NO_DEFAULT: Any = object()


class CookieStore(JudgedJar):
    """A ``RequestsCookieJar`` that is safe in threads in every operation, and costs by the cookies that are sent.

    Each operation is one step: none is seen half done, and no update is lost. Iteration goes over a snapshot. The
    ``Cookie`` header and the contents are those that a plain ``RequestsCookieJar`` would have, cookie for cookie.
    A cookie belongs to the store once it is set: to change one, set a changed copy of it.

    Args:
        policy: which cookies are accepted and sent; ``None`` for the standard ``DefaultCookiePolicy``. It is called
            from all threads, with no lock held. A policy with a ``domain_return_ok`` of its own is asked about each
            stored domain, so requests then cost by the domains stored.

    Thread-safe.
    """

    def __init__(self, policy: CookiePolicy | None = None) -> None:
        super().__init__(policy)
        self._set_up({})

    def _set_up(self, cookies: dict[str, Paths]) -> None:
        # Guards _index with all that is in it; _cookies is _index.domains, under the name that the standard library
        # has for it. Reentrant because users of its jars take it themselves around several calls. Two fields are read
        # without it, _index.count and next_rank: plain ints, and what they tell may be out of date at once anyway.
        self._cookies_lock = threading.RLock()
        settle(self._policy)
        self._cookies = cookies
        self._index = CookieIndex(cookies)

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
        new = CookieStore(self.get_policy())
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
        with self._cookies_lock:
            for cookie in cookies:
                if isinstance(cookie, str):
                    self._remove_named(cookie)
                else:
                    self._set_cookie(cookie)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of the cookie ``key``; store ``default`` first if there is none. One step."""
        with self._cookies_lock:
            try:
                return self._find_no_duplicates(key)
            except KeyError:
                self.set(key, default)
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

    def _has_nothing_for(self, request: Any) -> bool:
        if not self._index.count:
            return True
        if request.headers.get("Host") or not is_indexable(self._policy):
            return False
        candidates = candidate_domains(host_of(request.url))
        if candidates is None:
            return False
        with self._cookies_lock:
            domains = self._index.domains
            if any(domain in domains for domain in candidates):
                return False
            self._index.purge()
            return True

    def _cookies_for_request(self, request: Any) -> list[Cookie]:
        return self._judged_for(request, self._policy)

    def _judged_for(self, request: Any, policy: CookiePolicy) -> list[Cookie]:
        now_s = int(time.time())
        part = [(domain, paths) for _, domain, paths in self._part_for(request, policy)]
        return select(rules_for(policy, Facts(request, now_s)), part) if part else []

    # For the views: what a RequestCookies asks of its store

    @property
    def _next_rank(self) -> int:
        return self._index.next_rank

    def _has(self, domain: str, path: str, name: str) -> bool:
        with self._cookies_lock:
            return self._index.get(domain, path, name) is not None

    def _part_of_all(self) -> list[tuple[float, str, Paths]]:
        with self._cookies_lock:
            return self._index.part(None)

    def _part_for(self, request: Any, policy: CookiePolicy) -> list[tuple[float, str, Paths]]:
        """Return (rank, domain, cookies) of the domains that ``policy`` may match with ``request``; then purge."""
        candidates = candidate_domains(request_host(request)) if is_indexable(policy) else None
        with self._cookies_lock:
            part = self._index.part(candidates)
            self._index.purge()
        return part

    def _apply(self, incoming: Incoming) -> None:
        with self._cookies_lock:
            self._index.remove_all(incoming.gone)
            for cookie in incoming.cookies:
                self._set_cookie(cookie)

    # Files and pickles

    @classmethod
    def load(cls, path: str | os.PathLike[str], policy: CookiePolicy | None = None) -> CookieStore:
        """Return a store with the cookies of a Netscape ``cookies.txt``, such as ``curl -c`` writes.

        Expired cookies are left out.

        Args:
            path: the file.
            policy: the policy of the new store; it isn't asked about the cookies of the file.

        Raises:
            CookieFileError: when the file can't be read, or a line of it is no cookie.
        """
        store = cls(policy)
        cookies = netscape.read(path)
        with store._cookies_lock:
            for cookie in cookies:
                store._set_cookie(cookie)
        return store

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all cookies but expired ones to a Netscape ``cookies.txt``, as ``curl -b`` reads it.

        Session cookies are written too. The file appears whole or not at all, readable by its owner only.

        Raises:
            CookieFileError: when the file can't be written, or a cookie can't be put into such a file.
        """
        netscape.write(path, self._snapshot())

    def __getstate__(self) -> dict[str, Any]:
        with self._cookies_lock:
            cookies = {domain: copy_paths(paths) for domain, paths in self._index.domains.items()}
        return {"_policy": self._policy, "_cookies": cookies}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._policy = state["_policy"]
        self._set_up(state["_cookies"])
