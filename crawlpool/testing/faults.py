"""What a fault is, what a correct client says of it, and routes that are worth having by themselves."""

from __future__ import annotations

import dataclasses
import random
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.config import check
from crawlpool.errors import ConfigError
from crawlpool.testing.http1 import Answer
from crawlpool.testing.routes import check_route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crawlpool.testing.http1 import Request
    from crawlpool.testing.routes import Route
    from crawlpool.testing.steps import Script

#: Where a fault lies: in an answer, in a connection before its first request, in TLS, in a proxy, or in the listener.
PLACES = ("answer", "opening", "tls", "proxy", "listener")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that servers do to a client, and what a correct client says then.

    Args:
        name: short, as a path has it.
        about: what the server does, in a few words.
        outcomes: how a target may end: ``ok``, ``http_error``, ``failed``.
        kinds: where it ``failed``, which ``error.kind`` says so.
        route: what answers.
        place: where the fault lies, one of ``PLACES``.
        opening: what a connection goes through before its first request.
        certificate: for TLS, which one is shown: one of ``crawlpool.testing.badtls.FLAVOURS``.
        body: where it ends ``ok``, the only body that is true; ``None`` for any.
        is_unverified: where it ends ``ok``, whether nothing has said how long the body is.
        asks: how many requests, one after the other, it takes to see it.
        pause_s: seconds to leave between them.
        method: the method to ask with.
        upload_bytes: how large a body to send.
        is_endless: whether only the client, ``release`` or ``stop`` ends it.
        coding: the Content-Encoding that it needs.

    Immutable, so safe in threads.
    """

    name: str
    about: str
    outcomes: frozenset[str]
    kinds: frozenset[str] = frozenset()
    route: Route | None = None
    place: str = "answer"
    opening: Script | None = None
    certificate: str | None = None
    body: bytes | None = None
    is_unverified: bool = False
    asks: int = 1
    pause_s: float = 0.0
    method: str = "GET"
    upload_bytes: int = 0
    is_endless: bool = False
    coding: str | None = None

    def __post_init__(self) -> None:
        check(self.place in PLACES, "place", self.place, f"one of {', '.join(PLACES)}")
        check(bool(self.outcomes), "outcomes", self.outcomes, "one at least")

    def __call__(self, request: Request) -> Any:
        """Answer a request: a fault is a route by itself, where it has one.

        Raises:
            ConfigError: where it has none.
        """
        route: Any = self.route
        check(route is not None, "fault", self.name, f"it lies in the {self.place}: this one is for serve()")
        return route(request) if callable(route) else route

    def check_as_route(self, where: str) -> None:
        """Raise ``ConfigError`` unless a route is all that it takes to meet this fault.

        Args:
            where: what it is the route of.
        """
        if self.place != "answer":
            place = {"opening": "the opening of a connection", "tls": "TLS"}.get(self.place, f"the {self.place}")
            why = f"lies in {place}, not in an answer"
            raise ConfigError(f"{where}: the fault {self.name!r} {why}: this one is for serve()")
        check(self.route is not None, where, self.name, "a fault without a route can't be one")

    @property
    def path(self) -> str:
        """The path under which a ``FaultServer`` serves it."""
        return f"/{self.name}"

    @property
    def expected(self) -> str:
        """What a correct client says, in words for a table, such as ``failed: truncated or decode``."""
        said = [outcome for outcome in sorted(self.outcomes) if outcome != "failed"]
        if "failed" in self.outcomes:
            said.append(f"failed: {' or '.join(sorted(self.kinds))}")
        return ", or ".join(said)

    def is_met(self, outcome: str, kind: str | None = None, body: bytes | None = None) -> bool:
        """Tell whether a client that ends so has told the truth.

        Args:
            outcome: how the target ended.
            kind: the ``error.kind``, where it failed.
            body: the body that it was given, where it ended ``ok``.
        """
        if outcome not in self.outcomes:
            return False
        if outcome == "failed":
            return kind in self.kinds
        return outcome != "ok" or self.body is None or body is None or body == self.body


class _InTurn:
    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        # Guards _asked.
        self._lock = threading.Lock()
        self._asked = 0

    def __call__(self, request: Request) -> Any:
        with self._lock:
            route: Any = self._routes[min(self._asked, len(self._routes) - 1)]
            self._asked += 1
        return route(request) if callable(route) else route


def in_turn(*routes: Route) -> Callable[[Request], Any]:
    """Return a route that answers the first request by the first of ``routes``, and so on; the last one stays.

    Raises:
        ConfigError: without any, and for what is no route.

    Thread-safe.
    """
    check(bool(routes), "routes", routes, "one at least")
    for number, route in enumerate(routes, 1):
        check_route(f"in_turn, route {number}", route)
    return _InTurn(routes)


def redirect_chain(hops: int, status: int = 302, end: Answer | bytes = b"the end") -> Callable[[Request], Any]:
    """Return a route that leads to itself ``hops`` times, each time by another URL, and then to ``end``."""

    def answer(request: Request) -> Any:
        done = int(request.query.partition("hop=")[2] or 0)
        return end if done >= hops else Answer(status, {"Location": f"{request.path}?hop={done + 1}"})

    return answer


def redirect_maze(hosts: Sequence[str] = (), seed: int = 0, status: int = 302) -> Callable[[Request], Answer]:
    """Return a route that leads on for ever, to URLs that never come twice: what no memory of URLs ends.

    Args:
        hosts: host names by whose URLs it leads, in turn; none for the host that was asked.
        seed: of what stands in the URLs: the same walk for the same seed.
        status: of the answers.
    """

    def answer(request: Request) -> Answer:
        step = int(request.query.partition("step=")[2].partition("&")[0] or 0) + 1
        mark = random.Random(f"{seed} {step}").getrandbits(64)
        there = f"{request.path}?step={step}&mark={mark:x}"
        if hosts:
            _, colon, port = request.headers.get("Host", "").rpartition(":")
            there = f"http://{hosts[step % len(hosts)]}{colon}{port}{there}"
        return Answer(status, {"Location": there})

    return answer


def redirect_loop(length: int = 1, status: int = 302) -> Callable[[Request], Answer]:
    """Return a route that leads round in a circle of ``length`` URLs; 1 leads to itself."""

    def answer(request: Request) -> Answer:
        at = int(request.query.partition("at=")[2] or 0)
        there = (at + 1) % length
        return Answer(status, {"Location": f"{request.path}?at={there}" if length > 1 else request.target})

    return answer


def cookie_bomb(count: int = 60, value_bytes: int = 900) -> Answer:
    """Return an answer that sets ``count`` cookies with values of ``value_bytes`` each."""
    fields = [("Set-Cookie", f"bomb{number}={'x' * value_bytes}; Path=/") for number in range(count)]
    return Answer(200, fields, b"cookies")
