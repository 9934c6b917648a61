"""Which entries of an input were seen, and by whom."""

from __future__ import annotations

import errno
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import JobError
from crawlpool.shards.ordinals import Ordinals

MOST = 3_000_000


@given(st.lists(st.tuples(st.one_of(st.integers(1, 9), st.integers(1, MOST)), st.integers(0, 65_000)), max_size=30))
def test_the_first_who_had_an_ordinal_is_remembered(given_: list[tuple[int, int]]) -> None:
    """As a dict does it."""
    known: dict[int, int] = {}
    with Ordinals(lambda: MOST) as ordinals:
        for ordinal, who in given_:
            assert ordinals.add(ordinal, who) == known.get(ordinal)
            known.setdefault(ordinal, who)


def test_an_ordinal_beyond_the_input_is_damage() -> None:
    """However great it is, no file of that size is made; where the input has grown meanwhile it is none."""
    most = 5
    with Ordinals(lambda: most) as ordinals:
        assert ordinals.add(5, 1) is None
        for ordinal in (0, -1, 6, 1 << 60):
            with pytest.raises(JobError, match="and the input 5 entries"):
                ordinals.add(ordinal, 1)
        most = 6
        assert ordinals.add(6, 1) is None
    ordinals.close()


def test_no_room_for_the_file_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the folder to look at."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(JobError, match=r"in the folder of TMPDIR: .*No space left"):
        Ordinals(lambda: 1)
