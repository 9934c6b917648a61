"""The compact memory of digests: as a dict, at a sixth of the size."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from crawlpool.digests import Digests

DIGESTS = st.integers(0, 40) | st.integers(2**64 - 40, 2**64 - 1) | st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(DIGESTS, st.integers(0, 2**33)), max_size=60))
def test_it_is_a_map_in_which_the_first_stays(entries: list[tuple[int, int]]) -> None:
    """The first number given for a digest is what every later ``add`` returns; what is too large is kept as 0."""
    digests, model = Digests(), dict[int, int]()
    for digest, number in entries:
        assert digests.add(digest, number) == model.get(digest)
        model.setdefault(digest, number if number < 2**32 else 0)
    assert len(digests) == len(model)


def test_many_on_many_shelves() -> None:
    """200,000 entries are all found again, with their numbers, and take no more than 16 bytes each."""
    source = random.Random(7)
    entries = {source.getrandbits(64): number for number in range(200_000)}
    digests = Digests()
    assert all(digests.add(digest, number) is None for digest, number in entries.items())
    assert all(digests.add(digest, 1) == number for digest, number in entries.items())
    assert digests.bytes_held / len(entries) <= 16


def test_what_comes_in_order_is_found_too() -> None:
    """Digests that rise or fall fill one shelf after another."""
    for step in (1, -1):
        digests = Digests()
        order = range(10_000)[::step]
        assert all(digests.add(digest, digest) is None for digest in order)
        assert all(digests.add(digest, 0) == digest for digest in order)
