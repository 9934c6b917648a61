"""A compact memory of what was met: 64-bit digests, each with a small number, at 12 bytes and a little more."""

from __future__ import annotations

import bisect
from array import array

_MOST = 2048  # entries of a shelf: to put one in moves half of them, to look one up halves them eleven times
_BITS = 64
_LARGEST = (1 << 32) - 1


class Digests:
    """A map from 64-bit numbers to 32-bit numbers, in which nothing is changed or taken out.

    The digests lie sorted on shelves, each a plain array; a shelf that is full becomes two. A set of Python would take
    75 bytes for each.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self) -> None:
        self._starts = array("Q", [0])  # the lowest digest that each shelf may hold
        self._shelves = [array("Q")]
        self._numbers = [array("I")]
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, digest: int, number: int) -> int | None:
        """Remember a digest if it is new.

        Args:
            digest: 0 up to 2 ** 64 - 1; evenly spread, as digests are.
            number: what to keep with it; above 2 ** 32 - 1 it is kept as 0.

        Returns:
            The number of the digest that was there before; ``None`` when it is new.
        """
        place = bisect.bisect_right(self._starts, digest) - 1
        shelf = self._shelves[place]
        at = bisect.bisect_left(shelf, digest)
        if at < len(shelf) and shelf[at] == digest:
            return self._numbers[place][at]
        shelf.insert(at, digest)
        self._numbers[place].insert(at, number if number <= _LARGEST else 0)
        self._size += 1
        if len(shelf) > _MOST:
            self._divide(place)
        return None

    @property
    def bytes_held(self) -> int:
        """How much memory the entries take, in bytes, room for more and the shelves' own included."""
        parts = [self._starts, *self._shelves, *self._numbers]
        return sum(part.__sizeof__() for part in parts) + 16 * len(self._shelves)

    def _divide(self, place: int) -> None:
        shelf, numbers = self._shelves[place], self._numbers[place]
        half = len(shelf) // 2
        self._starts.insert(place + 1, shelf[half])
        self._shelves[place : place + 1] = [shelf[:half], shelf[half:]]
        self._numbers[place : place + 1] = [numbers[:half], numbers[half:]]
