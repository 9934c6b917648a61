"""The arithmetic of leases: no two owners at once, whatever their clocks show and however long writing takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import ConfigError
from crawlpool.shards.lease import DEFAULT_LEASE_S, Terms, Watch
from tests.kit import HandClock

OURS, OTHERS = b"counter 1", b"counter 2"


def test_a_lease_has_its_margin_and_is_refreshed_in_time() -> None:
    """The holder's end comes a quarter before an observer's; four refreshes fit in before it."""
    terms = Terms(24.0)
    assert (terms.margin_s, terms.refresh_s, terms.unacked_s) == (6.0, 4.0, 3.0)
    assert terms.end_after(100.0) == 118.0
    assert terms.refresh_s * 4 < terms.lease_s - terms.margin_s
    assert terms.unacked_s < terms.margin_s
    assert Terms().lease_s == DEFAULT_LEASE_S


@pytest.mark.parametrize("lease_s", [0, -1, float("nan"), float("inf"), "30", True])
def test_a_lease_is_a_positive_number_of_seconds(lease_s: float) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ConfigError, match="lease_s="):
        Terms(lease_s)


def test_a_tenure_ends_when_it_was_seen_not_to_change_for_a_whole_lease() -> None:
    """The time runs from the first look of this observer, and anew with every change."""
    clock = HandClock()
    watch = Watch(Terms(8.0), clock)
    assert not watch.has_ended("0007", 3, OURS)
    clock.tick(7.9)
    assert not watch.has_ended("0007", 3, OURS)
    assert watch.left_s("0007") == pytest.approx(0.1)
    assert not watch.has_ended("0007", 3, OTHERS)  # refreshed
    clock.tick(7.9)
    assert not watch.has_ended("0007", 3, OTHERS)
    clock.tick(0.2)
    assert watch.has_ended("0007", 3, OTHERS)
    assert watch.left_s("0007") == 0.0


def test_a_later_tenure_and_another_shard_are_watched_for_themselves() -> None:
    """What was seen of one says nothing of the other, though their files hold the same."""
    clock = HandClock()
    watch = Watch(Terms(8.0), clock)
    watch.has_ended("0007", 3, OURS)
    clock.tick(9)
    assert not watch.has_ended("0007", 4, OURS)
    assert not watch.has_ended("0008", 3, OURS)
    clock.tick(9)
    assert watch.has_ended("0007", 4, OURS)
    watch.forget("0007")
    assert not watch.has_ended("0007", 4, OURS)
    assert watch.left_s("0009") == 8.0


def test_an_observer_remembers_a_bounded_number_of_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than that the first is waited for anew; none ends too early."""
    monkeypatch.setattr("crawlpool.shards.lease._MOST_WATCHED", 2)
    clock = HandClock()
    watch = Watch(Terms(8.0), clock)
    for shard in ("1", "2", "3"):
        assert not watch.has_ended(shard, 1, OURS)
    clock.tick(9)
    assert [watch.has_ended(shard, 1, OURS) for shard in ("2", "3", "1")] == [True, True, False]


@given(
    lease_s=st.floats(0.1, 600),
    offset_s=st.floats(-1e9, 1e9),
    drift=st.floats(-0.01, 0.01),
    writing=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), min_size=1, max_size=12),
    seen_after_s=st.floats(0, 300),
    look_every_s=st.floats(0.01, 10),
)
def test_no_holder_sends_when_an_observer_may_begin(
    lease_s: float,
    offset_s: float,
    drift: float,
    writing: list[tuple[float, float]],
    seen_after_s: float,
    look_every_s: float,
) -> None:
    """Between a holder's end and the first moment of another lies nearly the margin: for clocks a percent apart, for
    refreshes that come late and take long, and for files that are seen long after they were written.
    """
    terms = Terms(lease_s)
    # The holder, in true time: it refreshes as long as it may, and stops with the last one of the list.
    now, end, written = 0.0, terms.end_after(0.0), [0.0]
    for wait, takes in writing:
        began = now + wait * terms.refresh_s
        done = began + takes * terms.refresh_s
        if began >= end:
            break  # its lease has ended: it writes nothing any more
        written.append(done)  # others may see it, though it came too late for the holder itself
        now = done
        if done < end:
            end = terms.end_after(began)
    # The observer, whose clock shows something else and runs a percent faster or slower.
    clock = HandClock()
    watch = Watch(terms, clock)
    at = 0.0
    for _ in range(100_000):
        clock.now_s = offset_s + at * (1 + drift)
        seen = sum(moment + seen_after_s <= at for moment in written)
        if seen and watch.has_ended("0000", 1, str(seen).encode()):
            break
        at += max(look_every_s, terms.lease_s / 100)
    else:
        raise AssertionError("it never ended")
    assert at - end >= terms.margin_s - 0.011 * terms.lease_s - 1e-6 * lease_s
