"""What is in flight is known to the next process, however this one ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from crawlpool.errors import SinkError
from crawlpool.ledger.flight import Flight

if TYPE_CHECKING:
    import pathlib


def test_what_was_begun_and_not_ended_is_left(tmp_path: pathlib.Path) -> None:
    """The next one sees it, though nothing was closed; what was begun twice is there once."""
    path = str(tmp_path / "flight")
    first = Flight(path, 4)
    assert first.left == frozenset()
    for target in (7, 8, 7, 9):
        first.began(target)
    first.ended([8, 5])
    assert Flight(path, 4).left == {7, 9}
    first.close(is_clean=False)
    assert Flight(path, 4).left == frozenset()  # the one before has cut it


def test_a_clean_end_leaves_nobody_to_suspect(tmp_path: pathlib.Path) -> None:
    """Closed in peace, nothing is left; it may be closed again."""
    path = str(tmp_path / "flight")
    flight = Flight(path, 2)
    flight.began(1)
    flight.close(is_clean=True)
    flight.close(is_clean=False)
    assert Flight(path, 2).left == frozenset()


def test_of_too_many_the_oldest_are_forgotten(tmp_path: pathlib.Path) -> None:
    """The file doesn't grow: there are as many places as were asked for."""
    path = str(tmp_path / "flight")
    flight = Flight(path, 2)
    for target in (1, 2, 3):
        flight.began(target)
    flight.ended([1])
    assert os.path.getsize(path) == 16
    assert Flight(path, 2).left == {2, 3}
    flight.close(is_clean=True)


def test_a_file_that_cannot_be_made_is_told(tmp_path: pathlib.Path) -> None:
    """One line names it."""
    with pytest.raises(SinkError, match=r"flight: No such file or directory"):
        Flight(str(tmp_path / "nowhere" / "flight"), 2)
