"""What an auth adds to a request, so that all of it can be taken back where a redirect leads to another origin.

requests knows of the ``Authorization`` header alone. An auth of the user's may set any header, and one that answers
challenges, as digest does, hangs a hook on the request, which would log in at whoever challenges it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.auth import AuthBase, HTTPBasicAuth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import requests

_NOTE = "_crawlpool_auth"  # the attribute of a prepared request


class Given:
    """What an auth has given to a request.

    Args:
        headers: names of the headers that it set.
        hooks: the response hooks that it added.

    Immutable.
    """

    __slots__ = ("headers", "hooks")

    def __init__(self, headers: Iterable[str] = (), hooks: Iterable[Callable[..., Any]] = ()) -> None:
        self.headers = tuple(headers)
        self.hooks = tuple(hooks)

    def note_on(self, request: requests.PreparedRequest) -> None:
        """Note it on the request that a redirect within the origin has made of the one before."""
        if self.headers or self.hooks:
            setattr(request, _NOTE, self)


_NOTHING = Given()


class NotedAuth:
    """An auth that notes on each request what the auth of the caller does to it.

    Args:
        auth: the caller's: anything that requests calls.

    As thread-safe as the caller's is.
    """

    def __init__(self, auth: Callable[[Any], Any]) -> None:
        self._auth = auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Let the caller's auth do its work."""
        headers, hooks = dict(request.headers), _hooks_of(request)
        done = self._auth(request)
        changed = [name for name, value in done.headers.items() if headers.get(name) != value]
        added = [hook for hook in _hooks_of(done) if hook not in hooks]
        Given(changed, added).note_on(done)
        return done  # type: ignore[no-any-return]


def noted(auth: Any) -> Any:
    """Return an auth that notes what it does; what sets the ``Authorization`` header and no more is none of those."""
    if not callable(auth) or isinstance(auth, (tuple, NotedAuth)) or type(auth) is HTTPBasicAuth:
        return auth
    return NotedAuth(auth)


def given_by_auth(request: requests.PreparedRequest) -> Given:
    """Return what an auth is known to have given to a request."""
    found: Given = getattr(request, _NOTE, _NOTHING)
    return found


def take_back(request: requests.PreparedRequest, given: Given) -> None:
    """Take from a request what may let somebody in: ``Authorization``, and what an auth has given besides.

    Args:
        request: that of a redirect's target; its hooks are another request's, too, and are replaced.
        given: as the request before has it.
    """
    for name in ("Authorization", *given.headers):
        request.headers.pop(name, None)
    hooks: Any = request.hooks
    kept = [hook for hook in _hooks_of(request) if hook not in given.hooks and not _is_of_auth(hook)]
    if len(kept) != len(_hooks_of(request)):
        request.hooks = {**hooks, "response": kept}


def _hooks_of(request: Any) -> list[Any]:
    found = (request.hooks or {}).get("response") or []
    return [found] if callable(found) else list(found)


def _is_of_auth(hook: Any) -> bool:
    """Tell whether a hook is a method of an auth, of a request that was prepared elsewhere."""
    return isinstance(getattr(hook, "__self__", None), AuthBase)
