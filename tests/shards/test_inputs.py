"""How far the input was cut into shards: what was written of that comes back, and damage is told."""

from __future__ import annotations

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import JobError
from crawlpool.shards.inputs import InputState, input_state, is_visible, put_input_state
from crawlpool.shards.segments import SegmentName

NUMBERS = st.lists(st.integers(0, 10**12), max_size=3).map(tuple)
STATES = st.builds(
    InputState,
    st.integers(0, 10**9),
    st.integers(0, 10**12),
    st.none() | st.text(max_size=5),
    st.booleans(),
    st.lists(st.sampled_from(["::1", "127.0.0.1", "localhost", "\ud800"]), max_size=3).map(tuple),
    NUMBERS,
    NUMBERS,
)


@given(state=STATES)
def test_a_state_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, state: InputState) -> None:
    """All of it is read as it was written; before that nothing was read of the input."""
    folder = str(tmp_path_factory.mktemp("job", numbered=True))
    assert input_state(folder) == InputState()
    put_input_state(folder, state)
    assert input_state(folder) == state


def test_shards_that_were_given_nothing_have_nothing() -> None:
    """Where the state doesn't speak of a shard, no segment of the input is for it."""
    state = InputState(segments=(2, 0), rows=(7, 0))
    assert [state.segments_of(shard) for shard in (0, 1, 5)] == [2, 0, 0]
    assert [state.rows_of(shard) for shard in (0, 1, 5)] == [7, 0, 0]


def test_a_segment_counts_with_its_round() -> None:
    """One of a later round than those that count is to be left alone; one that was handed over counts."""
    state = InputState(rounds=2)
    assert [is_visible(SegmentName.of_input(number), state) for number in (1, 2, 3)] == [True, True, False]
    assert is_visible(SegmentName(3, 1, 99), state)


GOOD = {
    "v": 1,
    "rounds": 1,
    "items": 2,
    "digest": "a",
    "is_done": False,
    "hosts": ["::1"],
    "segments": [1],
    "rows": [2],
}


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": -1},
        {"rounds": "1"},
        {"items": None},
        {"items": True},
        {"digest": 5},
        {"is_done": 1},
        {"hosts": [1]},
        {"hosts": None},
        {"segments": 3},
        {"segments": [1.5]},
        {"rows": [-1]},
        {"more": 1},
    ],
)
def test_a_damaged_state_is_told(tmp_path: pathlib.Path, change: dict[str, object]) -> None:
    """A value that can't be is told as damage, in one line that names the file."""
    path = tmp_path / "input.json"
    path.write_text(json.dumps(GOOD))
    assert input_state(str(tmp_path)).hosts == ("::1",)
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(JobError, match=r"input.json: is damaged"):
        input_state(str(tmp_path))


def test_each_key_is_needed_and_a_later_version_is_refused(tmp_path: pathlib.Path) -> None:
    """Nothing is guessed: neither what a lost key meant, nor what a later crawlpool means."""
    path = tmp_path / "input.json"
    for name in ("hosts", "segments", "rows"):
        path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != name}))
        with pytest.raises(JobError, match="is damaged"):
            input_state(str(tmp_path))
    path.write_text("no JSON")
    with pytest.raises(JobError, match="is damaged: no JSON object"):
        input_state(str(tmp_path))
    path.write_text(json.dumps({**GOOD, "v": 2}))
    with pytest.raises(JobError, match=r"by a later crawlpool \(version 2, here 1\)"):
        input_state(str(tmp_path))
