"""Which shard a runner takes, when a job is done, and when a shard is left alone."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from crawlpool.engines.choice import (
    ALONE_AFTER,
    GIVEN_UP_AFTER,
    Look,
    Patience,
    Tries,
    Why,
    how_many,
    in_order,
    is_done,
    is_given_up,
    is_runnable,
    is_suspect,
    next_look_s,
)

RUN = "this"
DONE = Look(1, 3, is_released=True, why=Why.DONE, run=RUN)

LOOKS = st.builds(
    Look,
    st.integers(0, 20),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 5)),
    st.one_of(st.none(), st.sampled_from(Why)),
    st.sampled_from([RUN, "another"]),
    st.integers(0, 5000),
    st.integers(0, 2),
    st.integers(0, 7),
    st.integers(0, 1),
).map(lambda look: dataclasses.replace(look, is_released=look.is_released and not look.is_held and look.tenure > 0))


@pytest.mark.parametrize(
    ("look", "is_to_run"),
    [
        (Look(1), False),
        (Look(1, segments=1, inbox_bytes=100), True),
        (Look(1, 1, is_held=True, segments=4), False),
        (Look(1, 1), True),
        (DONE, False),
        (dataclasses.replace(DONE, segments=1), True),
        (dataclasses.replace(DONE, pending=7, why=Why.DRAINED), True),
        (dataclasses.replace(DONE, pending=None, why=Why.DRAINED), True),
        (dataclasses.replace(DONE, pending=7, why=Why.HELD), False),
        (dataclasses.replace(DONE, pending=7, why=Why.HELD, segments=1), True),
        (dataclasses.replace(DONE, pending=7, why=Why.HELD, run="another"), True),
        (dataclasses.replace(DONE, later=1), False),
        (dataclasses.replace(DONE, pending=7, why=Why.HELD, later=1), False),
        (Look(1, later=2), False),
        (dataclasses.replace(DONE, pending=None, why=Why.FAILED, segments=1), False),
        (dataclasses.replace(DONE, pending=None, why=Why.FAILED, run="another"), True),
    ],
)
def test_a_shard_is_taken_that_has_something_to_do_and_nobody_who_does_it(look: Look, is_to_run: bool) -> None:
    """A shard is taken where targets wait and nobody has it; what failed or is held waits for another run."""
    assert is_runnable(look, RUN) is is_to_run


def test_what_was_done_before_is_opened_once_to_take_failed_targets_again() -> None:
    """A run that takes failed targets again opens each shard that an earlier run has let go of, and only once."""
    before = dataclasses.replace(DONE, run="another")
    assert not is_runnable(before, RUN)
    assert is_runnable(before, RUN, again=True)
    assert not is_runnable(DONE, RUN, again=True)


def test_a_shard_that_ends_its_owners_is_first_run_alone_and_then_left_alone() -> None:
    """What ended two processes in vain is run by itself, what ended five isn't run any more."""
    looks = [Look(1, 5, tries=tries) for tries in range(GIVEN_UP_AFTER + 2)]
    assert [is_suspect(look) for look in looks] == [tries >= ALONE_AFTER for tries in range(GIVEN_UP_AFTER + 2)]
    assert [is_runnable(look, RUN) for look in looks] == [not is_given_up(look) for look in looks]
    assert not is_runnable(looks[GIVEN_UP_AFTER], RUN)
    assert is_runnable(looks[GIVEN_UP_AFTER - 1], RUN)


def test_tries_are_counted_while_nothing_gets_on() -> None:
    """Each tenure after a broken-off one counts, until a target more has its outcome, a release, or another run."""
    tries = Tries()
    for count in (1, 2, 3):
        tries = tries.begun(RUN, is_broken_off=True) if tries.run else Tries(RUN).begun(RUN, is_broken_off=True)
        assert tries.count == count
        assert tries.got_on(0) == tries
    assert tries.got_on(5) == Tries(RUN, 0, 5)
    assert tries.begun(RUN, is_broken_off=False).count == 0
    assert tries.begun("another", is_broken_off=True).count == 0
    assert Tries.of_json(tries.as_json()) == tries
    assert Tries.of_json({"run": 1}) == Tries()


def test_the_shard_with_most_to_do_comes_first_and_a_suspect_last() -> None:
    """What was broken off is taken first, then what has most to do; what may end its process comes last."""
    looks = [
        Look(1, segments=1, inbox_bytes=120),
        Look(2, 4, tries=3),
        Look(3, segments=1, inbox_bytes=120_000),
        Look(4, 1),
        Look(5, 1, is_held=True),
        Look(6, segments=1, inbox_bytes=1_200_000),
    ]
    assert [look.shard for look in in_order(looks, RUN, "r")] == [4, 6, 3, 1, 2]
    assert [look.shard for look in in_order(looks, RUN, "r", {6, 4})] == [3, 1, 2]


def test_runners_begin_with_different_shards() -> None:
    """Of shards with about as much to do two runners don't take the same first."""
    looks = [Look(shard, segments=1, inbox_bytes=100) for shard in range(64)]
    firsts = {in_order(looks, RUN, f"r-{number}")[0].shard for number in range(8)}
    assert len(firsts) > 4


def test_a_job_is_done_when_nothing_is_left_and_nothing_is_on_its_way() -> None:
    """A job is done when its input is, no shard has an owner or something to do, and no tenure is new meanwhile."""
    looks = [DONE, Look(2)]
    assert is_done(looks, looks, is_input_done=True, run=RUN)
    assert not is_done(looks, looks, is_input_done=False, run=RUN)
    new = [dataclasses.replace(DONE, tenure=4), Look(2)]  # somebody had it between the two looks: it may have written
    assert not is_done(looks, new, is_input_done=True, run=RUN)
    assert not is_done(looks, [DONE, Look(2, 1, is_held=True)], is_input_done=True, run=RUN)
    assert not is_done([DONE, Look(2, segments=1)], looks, is_input_done=True, run=RUN)
    failed = [DONE, Look(2, 1, is_released=True, pending=None, why=Why.FAILED, run=RUN)]
    assert is_done(failed, failed, is_input_done=True, run=RUN), "what can't go on doesn't hold up the end"
    given_up = [DONE, Look(2, 9, tries=GIVEN_UP_AFTER)]
    assert is_done(given_up, given_up, is_input_done=True, run=RUN)


@hypothesis.given(st.lists(LOOKS, max_size=12, unique_by=lambda look: look.shard), st.booleans())
def test_a_job_is_either_done_or_somebody_has_something_to_do(looks: list[Look], again: bool) -> None:
    """Whatever the shards look like: a job that isn't done has one that is held or can be taken."""
    is_over = is_done(looks, looks, is_input_done=True, run=RUN, again=again)
    can_go_on = any(look.is_held for look in looks) or bool(in_order(looks, RUN, "r", again=again))
    assert is_over is not can_go_on


def test_the_end_waits_a_while_for_segments_that_cannot_be_judged_yet() -> None:
    """As long as it is patient, counted from when nothing else was left; then it ends without them."""
    patience = Patience(9.0)
    late = [DONE, Look(2, later=1)]
    assert patience.is_over([DONE], 0.0, is_done=True)
    assert not patience.is_over(late, 0.0, is_done=False)
    ends = [patience.is_over(late, now, is_done=True) for now in (100.0, 108.9, 109.0)]
    assert ends == [False, False, True]
    assert not patience.is_over(late, 200.0, is_done=False)  # something came after all, and is done
    assert not patience.is_over(late, 201.0, is_done=True)
    assert patience.is_over([DONE, Look(2)], 202.0, is_done=True)


def test_as_many_shards_are_opened_as_keep_the_pool_busy() -> None:
    """One is opened first, twice as many at each look, until half of the pool is busy or no more are allowed."""
    opened = [0]
    while (more := how_many(opened[-1], 32, 0, 16)) > 0:
        opened.append(opened[-1] + more)
    assert opened == [0, 1, 2, 4, 8, 16, 32]
    assert how_many(1, 32, 9, 16) == 0
    assert how_many(1, 32, 8, 16) == 1
    assert how_many(0, 1, 0, 16) == 1
    assert how_many(1, 1, 0, 16) == 0


def test_no_more_than_two_shards_are_opened_before_all_that_are_open_have_begun() -> None:
    """What they will keep busy isn't known before: a runner doesn't take half a job because its ledgers open slowly."""
    assert [how_many(n, 32, 0, 16, is_opening=True) for n in (1, 2, 8)] == [1, 0, 0]


def test_where_the_interpreter_or_the_disk_is_busy_two_shards_are_open() -> None:
    """One that ends, and the next one: each more would commit for itself, in smaller groups. None is let go of."""
    assert [how_many(n, 32, 0, 16, 0.8) for n in (0, 1, 2, 8)] == [2, 1, 0, 0]
    assert [how_many(n, 32, 0, 16, 0.5) for n in (0, 1, 2, 8)] == [1, 1, 2, 8]
    assert [how_many(n, 32, 0, 16, 0.5, is_held_back=True) for n in (0, 1, 2, 8)] == [2, 1, 0, 0]
    assert how_many(0, 1, 0, 16, 0.8) == 1


def test_a_runner_without_work_looks_less_and_less_often() -> None:
    """One that finds nothing looks again soon at first, and every five seconds in the end."""
    waits = [next_look_s(number) for number in range(30)]
    assert waits == sorted(waits)
    assert waits[0] == 0.2
    assert waits[-1] == 5.0
