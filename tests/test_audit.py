"""The judge of ``crawlpool audit``: polite legs are clean whatever they are, and what came too early is named."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crawlpool.audit import TOLERANCE_S, Allowed, Judge, RecordedLeg, judge
from crawlpool.findings import Kind, Request

DELAYED, ONE, TWO = Allowed(1.0), Allowed(), Allowed(per_host=2)

Spans = list[tuple[float, float]]


def legs(spans: Spans, allowed: Allowed | None = DELAYED, **more: Any) -> list[RecordedLeg]:
    """Return legs with these spans; the line of each is its number, from 1."""
    return [RecordedLeg("h", f"http://h/{n}", *span, allowed, line=n, **more) for n, span in enumerate(spans, 1)]


def refused(leg: RecordedLeg, retry_after_s: float | None, known_s: float | None = None) -> RecordedLeg:
    """Return the leg with a refusal as its answer."""
    return leg._replace(status=429, is_refusal=True, retry_after_s=retry_after_s, known_s=known_s)


def told(found: Any) -> list[tuple[Kind, str, str, float]]:
    """Return the breaches: the rule, the line, the line of the other, and by how much."""
    return [(b.kind, b.place, b.other_place, round(b.by_s, 6)) for b in found.breaches]


@st.composite
def polite(draw: st.DrawFn, refuses: bool = True, least: int = 1) -> list[RecordedLeg]:
    """Return legs of one host, in the order of their starts, that keep what is allowed by the letter."""
    per_host = draw(st.integers(1, 4))
    delay_s = draw(st.sampled_from([0.0, 0.05, 0.5])) if per_host == 1 else 0.0
    allowed = Allowed(delay_s, per_host, draw(st.sampled_from([0.0, 0.3, 2.0])))
    made: list[RecordedLeg] = []
    start = draw(st.floats(0, 1e6))
    for n in range(draw(st.integers(least, 30))):
        ends = sorted(leg.end_s for leg in made)
        if len(ends) >= per_host:
            start = max(start, ends[-per_host] + delay_s)
        start += draw(st.sampled_from([0.0, 0.0, 0.1, 1.0]))
        before = -1.0
        while start > before:  # what waits for one refusal isn't under way any more when another one is known
            before = start
            for leg in (leg for leg in made if leg.is_refusal):
                asked_s = 1.0 if leg.retry_after_s is None else leg.retry_after_s
                is_under_way = per_host > 1 and start <= (leg.known_s or 0.0)
                if start >= leg.end_s and not is_under_way:
                    start = max(start, leg.end_s + min(asked_s, allowed.max_cooldown_s))
        end = start + draw(st.sampled_from([0.001, 0.02, 0.3, 5.0]))
        leg = RecordedLeg("h", f"http://h/{n}", start, end, allowed, line=n)
        if refuses and draw(st.booleans()):
            asked = draw(st.sampled_from([None, 0.0, 0.2, 1e6]))
            leg = refused(leg, asked, end + draw(st.sampled_from([0.0, 0.01])))
        made.append(leg)
    return made


@given(polite(), st.randoms())
def test_polite_legs_are_clean(made: list[RecordedLeg], chance: random.Random) -> None:
    """Legs that keep their limits have no breach, in whatever order the log has them."""
    chance.shuffle(made)
    found = judge(made)
    assert (found.breaches, found.breach_count, found.legs, found.hosts, found.runs) == ([], 0, len(made), 1, 1)
    assert all(tally.slack_s >= -TOLERANCE_S for tally in found.tallies.values())


@given(polite(refuses=False, least=2), st.data(), st.randoms())
def test_one_early_start_is_found_and_named(
    made: list[RecordedLeg], data: st.DataObject, chance: random.Random
) -> None:
    """The one leg that starts before its delay, or before there is a place for it, is named, and by how much."""
    allowed = made[0].allowed
    assert allowed is not None and allowed.per_host is not None
    found_at: list[tuple[int, float, RecordedLeg]] = []
    for n in range(allowed.per_host, len(made)):
        before = sorted(made[:n], key=lambda leg: (leg.end_s, leg.start_s))[-allowed.per_host]
        # As early as it may be without becoming one of those that started before.
        room_s = before.end_s + allowed.delay_s - made[n - 1].start_s
        if room_s > 0.01:
            found_at.append((n, room_s, before))
    assume(found_at)
    n, room_s, before = data.draw(st.sampled_from(found_at))
    by_s = data.draw(st.floats(0.005, room_s * 0.99))
    early = made[n] = made[n]._replace(start_s=before.end_s + allowed.delay_s - by_s)
    chance.shuffle(made)
    found = judge(made)
    assert found.breach_count == 1
    (breach,) = found.breaches
    assert breach.kind is (Kind.DELAY if allowed.delay_s else Kind.AT_ONCE)
    assert (breach.url, breach.place) == (early.url, f":{early.line}")
    assert math.isclose(breach.by_s, by_s, abs_tol=1e-6)
    named = made[[leg.url for leg in made].index(breach.other_url)]
    assert named.end_s == before.end_s


@given(st.integers(1, 3), st.floats(0.1, 3.0), st.floats(0.01, 0.99), st.sampled_from([0.0, 0.05]))
def test_who_starts_in_a_cooldown_is_named(per_host: int, asks_s: float, part: float, known_s: float) -> None:
    """What a refusal asks for, up to its cap, holds for every leg that isn't under way; the refusal is the other."""
    allowed = Allowed(0.0, per_host, 2.0)
    until = 1.0 + min(asks_s, 2.0)
    late = 1.0 + known_s
    start = late + (until - late) * part
    first, then = legs([(0.0, 1.0), (start, start + 1)], allowed)
    found = judge([then, refused(first, asks_s, late)])
    assume(until - start > TOLERANCE_S)
    assert told(found) == [(Kind.COOLDOWN, ":2", ":1", round(until - start, 6))]


def test_the_delay_counts_from_the_end_of_the_answer() -> None:
    """One leg after the other is well; one before its time, and one beside another, are too early by the rest."""
    assert judge(legs([(0, 1), (2, 3), (4, 5)])).breach_count == 0
    assert told(judge(legs([(0, 1), (1.75, 3)]))) == [(Kind.DELAY, ":2", ":1", 0.25)]
    assert told(judge(legs([(0, 2), (1, 3)]))) == [(Kind.DELAY, ":2", ":1", 2.0)]


def test_a_long_leg_collides_with_all_that_started_meanwhile() -> None:
    """It is logged after them, which changes nothing: each of them is early by the whole of what was left of it."""
    found = judge(legs([(1, 2), (3, 4), (5, 6), (0, 9)]))
    assert [(line, other) for _, line, other, _ in told(found)] == [(":1", ":4"), (":2", ":4"), (":3", ":4")]
    assert [by_s for *_, by_s in told(found)] == [9.0, 7.0, 5.0]


def test_never_more_at_once_than_allowed() -> None:
    """The third of two at once is early until the first of them has ended."""
    assert judge(legs([(0, 2), (1, 3), (2, 4)], TWO)).breach_count == 0
    assert told(judge(legs([(0, 2), (1, 3), (1.5, 4)], TWO))) == [(Kind.AT_ONCE, ":3", ":1", 0.5)]
    assert judge(legs([(0, 9)] * 100, Allowed(0.0, None))).breach_count == 0


@pytest.mark.parametrize(("asks_s", "until"), [(None, 2.0), (0.0, 1.0), (0.5, 1.5), (1e6, 4.0)])
def test_how_long_a_refusal_holds(asks_s: float | None, until: float) -> None:
    """So long as it asks for, 1 second when it names no time, and never longer than the cap."""
    allowed = Allowed(0.0, 1, 3.0)
    first, then = legs([(0, 1), (until, until + 1)], allowed)
    assert judge([refused(first, asks_s), then]).breach_count == 0
    early = then._replace(start_s=until - 0.25)
    assert judge([refused(first, asks_s), early]).breach_count == 1


def test_what_is_under_way_at_a_refusal_is_well() -> None:
    """Where several may run: who was taken before all knew of it. Where one may, nothing can be under way."""
    spans: Spans = [(0, 1), (0.5, 3), (1.1, 2)]
    first, *others = legs(spans, TWO)
    assert judge([refused(first, 1.0, 1.1), *others]).breach_count == 0
    assert told(judge([refused(first, 1.0, 1.05), *others])) == [(Kind.COOLDOWN, ":3", ":1", 0.9)]
    first, then = legs([(0, 1), (1.1, 2)], ONE)
    assert judge([refused(first, 1.0, 1.1), then]).breach_count == 1


def test_each_leg_is_judged_by_its_own_limits() -> None:
    """Two crawls of a pool may ask one host with different ones; those taken in one go are in the order that can be."""
    slow, quick = legs([(0, 5)], ONE), legs([(0, 4), (1, 6)], Allowed(0.0, 4))
    assert judge([*quick[:1], *slow]).breach_count == 0
    assert judge([*slow, *quick]).breach_count == 0
    late = legs([(3, 7)], ONE)
    assert [kind for kind, *_ in told(judge([*slow, *quick, *late]))] == [Kind.AT_ONCE]


def test_runs_and_hosts_are_apart() -> None:
    """Clocks of two runs have nothing to do with each other, and neither have two hosts."""
    first, second = legs([(0, 5), (1, 2)])
    one = Judge()
    one.begin_run("a.log")
    one.add(first)
    one.begin_run("b.log")
    one.add(second)
    one.add(first._replace(host="other"))
    found = one.findings()
    assert (found.breach_count, found.runs, found.hosts, found.legs) == (0, 2, 2, 3)


def test_legs_without_limits_are_counted_and_not_judged() -> None:
    """They are in nobody's way, either; given limits hold for all."""
    free = legs([(0, 5), (1, 6)], None)
    found = judge([*free, *legs([(2, 3)])])
    assert (found.breach_count, found.legs, found.without_limits, found.judged) == (0, 3, 2, 1)
    found = judge(free, Allowed(per_host=1))
    assert (found.breach_count, found.without_limits) == (1, 0)


def test_given_limits_take_the_place_of_those_that_held() -> None:
    """The same legs are too early for a longer delay; the bound of the cooldown stays as it was."""
    made = legs([(0, 1), (2, 3)], Allowed(1.0, 1, 0.5))
    assert judge(made).breach_count == 0
    assert told(judge(made, Allowed(1.5))) == [(Kind.DELAY, ":2", ":1", 0.5)]
    assert judge([refused(made[0], 60.0), made[1]], Allowed(per_host=3)).breach_count == 0


def test_the_tightest_margin_is_told_for_each_rule() -> None:
    """How often each rule was asked, and who kept it most closely; a breach is no margin."""
    first, second, third, fourth = legs([(0, 1), (2.25, 3), (4.5, 5), (5.5, 6)])
    found = judge([refused(first, 1.0), second, third, fourth])
    delay, cooldown = found.tallies[Kind.DELAY], found.tallies[Kind.COOLDOWN]
    assert (delay.asked, delay.slack_s, delay.host, delay.place) == (3, 0.25, "h", ":2")
    assert (cooldown.asked, cooldown.slack_s) == (3, 0.25)
    assert (found.tallies[Kind.AT_ONCE].asked, found.breach_count) == (0, 1)


def test_the_first_breaches_are_kept_and_all_are_counted() -> None:
    """Memory doesn't grow with them."""
    one = Judge(most_breaches=3)
    one.begin_run()
    for leg in legs([(n / 10, n / 10 + 0.1) for n in range(11)]):
        one.add(leg)
    found = one.findings()
    assert (len(found.breaches), found.breach_count) == (3, 10)


def test_who_looks_on_sees_each_request_with_its_gap() -> None:
    """In the order of the starts, with what lies since the latest end before; negative where two overlap."""
    seen: list[Request] = []
    judge([*legs([(3, 4), (0, 1), (0.5, 2)], None)], on_request=seen.append)
    assert [(one.run, one.start_s, one.end_s, one.gap_s) for one in seen] == [
        (1, 0, 1, None), (1, 0.5, 2, -0.5), (1, 3, 4, 1.0),
    ]  # fmt: skip
    assert [one.place for one in seen] == [":2", ":3", ":1"]


GOOD = {
    "host": "h",
    "url": "http://h/",
    "start_s": 1,
    "end_s": 2.5,
    "delay_s": 0.5,
    "per_host": 1,
    "max_cooldown_s": 9.0,
}


def test_a_leg_is_what_the_log_says() -> None:
    """Whole numbers will do; userinfo that somebody put there is not told on."""
    leg = RecordedLeg.of({**GOOD, "url": "http://u:p@h/", "how": "refused", "status": 503, "retry_after_s": 7}, 3)
    assert leg == RecordedLeg("h", "http://h/", 1.0, 2.5, Allowed(0.5, 1, 9.0), 503, True, 7.0, None, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": None},
        {"url": 7},
        {"start_s": None},
        {"start_s": "1"},
        {"end_s": 0.5},
        {"end_s": math.nan},
        {"end_s": 10**400},
        {"start_s": True},
        {"delay_s": -1},
        {"delay_s": None},
        {"per_host": 0},
        {"per_host": 1.5},
        {"retry_after_s": math.inf},
    ],
)
def test_what_is_no_leg_is_refused(wrong: dict[str, Any]) -> None:
    """Nothing is judged by half."""
    with pytest.raises(ValueError, match=r"leg|seconds"):
        RecordedLeg.of({**GOOD, **wrong})


def shared(leg: RecordedLeg, host: str, address: str = "10.0.0.1", delay_s: float = 1.0) -> RecordedLeg:
    """Return the leg as one of a host that shares an address."""
    per_host = None if leg.allowed is None else leg.allowed.per_host
    return leg._replace(host=host, address=address, address_delay_s=delay_s, address_per_host=per_host)


def test_an_address_is_judged_by_the_legs_of_all_its_hosts() -> None:
    """By the delay without a Crawl-delay, and by so many at once; a host's own rules are as ever."""
    spans = [(0.0, 1.0), (1.5, 2.0), (3.0, 4.0)]
    delayed = legs(spans, DELAYED._replace(delay_s=3.0))
    found = judge([shared(leg, f"h{n}") for n, leg in enumerate(delayed)])
    assert told(found) == [(Kind.ADDRESS_DELAY, ":2", ":1", 0.5)]
    assert (found.breaches[0].host, found.breaches[0].allowed) == ("10.0.0.1", 1.0)
    assert told(judge([shared(leg, f"h{n}", address=f"10.0.0.{n}") for n, leg in enumerate(delayed)])) == []
    crowd = legs([(0.0, 5.0), (1.0, 5.0), (2.0, 5.0)], TWO)
    found = judge([shared(leg, f"h{n}", delay_s=0.0) for n, leg in enumerate(crowd)])
    assert told(found) == [(Kind.ADDRESS_AT_ONCE, ":3", ":1", 3.0)]


def test_other_limits_are_those_of_the_address_too() -> None:
    """Would it have borne twice the delay?"""
    made = [shared(leg, f"h{n}") for n, leg in enumerate(legs([(0.0, 1.0), (2.0, 3.0)]))]
    assert told(judge(made)) == []
    assert told(judge(made, Allowed(2.0))) == [(Kind.ADDRESS_DELAY, ":2", ":1", 1.0)]
