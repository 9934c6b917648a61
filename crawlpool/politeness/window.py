"""How many requests a host may have at once, found out by trying: a little more while all goes well, half when not."""

from __future__ import annotations


class Window:
    """Additive increase, multiplicative decrease, as TCP finds its rate (RFC 5681 3.1).

    It begins with one request at a time. Each answer adds the share that makes one more after a whole window of them; a
    refusal, a connection that fails and an answer that breaks off halve it, once for all that were under way then.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_size", "_spared")

    def __init__(self) -> None:
        self._size = 1.0
        self._spared = 0  # requests under way when it was halved last: what comes of them isn't held against the host

    @property
    def size(self) -> int:
        """How many may run at once."""
        return int(self._size)

    def went_well(self, most: int) -> None:
        """Take an answer.

        Args:
            most: what it grows to at most.
        """
        self._spared = max(self._spared - 1, 0)
        self._size = min(self._size + 1.0 / self._size, float(most))

    def went_wrong(self, running: int) -> None:
        """Take a refusal or failure.

        Args:
            running: how many others are under way.
        """
        if self._spared:
            self._spared -= 1
            return
        self._size = max(self._size / 2.0, 1.0)
        self._spared = running

    def __repr__(self) -> str:
        return f"<Window {self._size:.2f}>"
