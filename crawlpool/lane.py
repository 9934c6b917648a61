"""The lane of a session whose transport blocks: how a worker's loop drives it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from crawlpool.transport.base import Completion, Exchange

if TYPE_CHECKING:
    import requests

    from crawlpool.transport.lifeline import Lifeline


class LaneOwner(Protocol):
    """The session that a lane belongs to."""

    lifeline: Lifeline

    def send_leg(self, exchange: Exchange) -> requests.Response:
        """Send one leg and read its body."""

    def dispose(self) -> None:
        """Close the session's connections for good."""


class BlockingLane:
    """The lane of a session whose transport blocks: its room is one, and starting an exchange is fetching it.

    Args:
        session: whose lane it is.

    Only the session's own thread calls it.
    """

    def __init__(self, session: LaneOwner) -> None:
        self._session = session
        self._done: list[Completion] = []

    def room(self) -> int:
        """Return 1, or 0 while a completion waits to be taken."""
        return 0 if self._done else 1

    def start(self, exchange: Exchange) -> None:
        """Send the exchange and wait for its end."""
        started = time.monotonic()
        response: requests.Response | None = None
        error: Exception | None = None
        session = self._session
        try:
            session.lifeline.enter()
            try:
                response = session.send_leg(exchange)
            finally:
                if session.lifeline.leave():
                    session.dispose()
        except Exception as caught:
            error = caught
        self._done.append(Completion(exchange, response, error, time.monotonic() - started))

    def completed(self) -> list[Completion]:
        """Return what ended since the last call."""
        done, self._done = self._done, []
        return done
