"""What a transport is to the rest: room, start, completed.

A **lane** is a session's side of its transport. A worker asks how much room there is, starts that many exchanges, and
takes the batch that completed. With urllib3 the room is one and starting is fetching, in the worker's own thread.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from crawlpool.address import Inputs
    from crawlpool.clock import Deadline


@dataclasses.dataclass(slots=True)
class Exchange:
    """One request to be sent once, and all that finishing it needs.

    Args:
        request: the prepared request.
        settings: ``stream``, ``verify``, ``cert``, ``proxies`` and ``timeout``, as an adapter's ``send`` takes them.
        deadline: when it must have ended.
        max_body_bytes: cap on the decoded body, or ``None``.
        accept: called with the response before its body is read; it raises to refuse the body.
        keeps_redirect: whether a redirect isn't followed, so that its body must be whole like any other's.
        token: the caller's own, handed back with the completion.
        is_quick: whether finishing it runs no code of the user's, so that many can be finished in one go.
        is_aborted: set by ``abort`` from another thread.
        keeps_wire: whether its response keeps the bytes of the wire, as ``response.kept``; not where it is streamed.
        is_late: asked right before the request goes out, with the moment at which its thread last saw what has come:
            whether it must not go out any more. It ends with ``TakenBack`` then. ``None`` where it always may.
        has_come: told the status of its answer by the thread that reads it, before anybody judges it; ``None`` for
            nobody to be told.
        inputs: who knows which hosts that aren't public the user has named; ``None`` where the URL is the user's own.
        end: how to end it while it is being sent; set by whoever sends it, from which moment on ``abort`` works.
    """

    request: requests.PreparedRequest
    settings: dict[str, Any] = dataclasses.field(repr=False)  # proxies may hold a password
    deadline: Deadline
    max_body_bytes: int | None = None
    accept: Callable[[requests.Response], None] | None = None
    keeps_redirect: bool = False
    token: Any = None
    is_quick: bool = False
    is_aborted: bool = False
    keeps_wire: bool = False
    inputs: Inputs | None = None
    is_late: Callable[[float], bool] | None = None
    has_come: Callable[[int], object] | None = None
    end: Callable[[], object] | None = None

    def abort(self) -> None:
        """End it if it is being sent, and keep it from being sent; from any thread."""
        self.is_aborted = True  # first: who sets ``end`` looks at this afterwards
        end = self.end
        if end is not None:
            end()


@dataclasses.dataclass(slots=True)
class Completion:
    """An exchange that ended: with a response whose body was read, or with an error; never with both."""

    exchange: Exchange
    response: requests.Response | None
    error: BaseException | None
    elapsed_s: float


class Lane(Protocol):
    """A session's side of its transport. Only the session's own thread calls it."""

    def room(self) -> int:
        """Return how many exchanges may be started now."""

    def blocks(self, exchange: Exchange) -> bool:
        """Tell whether to start an exchange is to wait for its end."""

    def has_news(self) -> bool:
        """Tell, without a lock and at once, whether ``completed`` has something that nobody is at."""

    def start(self, exchange: Exchange) -> None:
        """Start an exchange. Whatever goes wrong with it becomes a completion; ``BaseException`` alone gets out."""

    def completed(self) -> list[Completion]:
        """Return exchanges that ended, of this lane or another of the pool; waits for none."""

    def settled(self) -> None:
        """Say that what ``completed`` returned last has been settled."""
