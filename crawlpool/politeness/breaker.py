"""The circuit breaker of a host that can't be connected to: it is probed rarely, and given up in the end."""

from __future__ import annotations

import enum

from crawlpool.errors import ErrorKind

#: Seconds from the opening to each probe; after the last one has failed the host is given up.
PROBES_S = (10.0, 20.0, 40.0)
#: How long a host stays given up; then it is probed once more.
GIVEN_UP_S = 300.0


class State(enum.Enum):
    """Whether a host is asked."""

    CLOSED = "closed"
    OPEN = "open"
    GIVEN_UP = "given up"


class Breaker:
    """Counts a host's failures to connect. Times are of one monotonic clock.

    Args:
        failures: so many in a row open it.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_count", "_failed_probes", "_most", "_until", "kind", "state")

    def __init__(self, failures: int) -> None:
        self._most = failures
        self._count = 0
        self._failed_probes = 0
        self._until = 0.0
        self.state = State.CLOSED
        self.kind = ErrorKind.CONNECT

    @property
    def is_closed(self) -> bool:
        """Whether the host is asked as ever."""
        return self.state is State.CLOSED

    def probe_at(self) -> float:
        """Return when the next request may be sent, by which it is probed."""
        return self._until

    def is_given_up(self, now: float) -> bool:
        """Tell whether what waits for the host shall end unsent."""
        return self.state is State.GIVEN_UP and now < self._until

    def failed(self, now: float, kind: ErrorKind, *, is_probe: bool) -> None:
        """Count a failure.

        Args:
            now: the time.
            kind: of the error.
            is_probe: whether the request was sent after the breaker had opened; others tell nothing new then.
        """
        self.kind = kind
        if self.is_closed:
            self._count += 1
            if self._count >= self._most:
                self.state = State.OPEN
                self._until = now + PROBES_S[0]
        elif is_probe:
            self._failed_probes += 1
            if self._failed_probes < len(PROBES_S):
                self._until = now + PROBES_S[self._failed_probes]
            else:
                self.state = State.GIVEN_UP
                self._until = now + GIVEN_UP_S

    def succeeded(self) -> None:
        """Close it: the host was reached."""
        self._count = self._failed_probes = 0
        self.state = State.CLOSED

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value}, {self._count} failures>"
