"""The books of a crawl: counts that balance, kinds, statuses and slow hosts."""

from __future__ import annotations

import requests
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import books
from crawlpool.books import Books
from crawlpool.errors import DeadlineExceeded
from crawlpool.leg import Leg
from crawlpool.models import Hop, Outcome, Result, Target
from tests.gates import ListRun, Threads
from tests.kit import HandClock


def leg_of(url: str) -> Leg:
    return Leg.first(ListRun(), Target(url))


def response(status: int, content: bytes = b"") -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer._content = status, content
    return answer


@given(st.lists(st.sampled_from(Outcome)), st.integers(0, 5))
def test_each_outcome_is_counted_once(outcomes: list[Outcome], found: int) -> None:
    """The books balance exactly when as many targets are settled as came in and were found."""
    kept = Books(HandClock())
    for outcome in outcomes:
        kept.took()
        kept.settle(Result(Target("http://h/"), outcome), leg_of("http://h/"))
    for _ in range(found):
        kept.found()
    report = kept.report()
    assert report.settled == len(outcomes)
    assert report.is_balanced == (found == 0)
    assert report.check() is report if found == 0 else True
    for outcome in Outcome:
        assert getattr(report, outcome.value) == outcomes.count(outcome)


def test_a_refused_target_is_taken_back() -> None:
    """A target that was counted as found and then refused leaves no trace."""
    kept = Books(HandClock())
    kept.found()
    kept.unfound()
    assert kept.report() == Books(HandClock()).report()


def test_legs_retries_bytes_and_items() -> None:
    """Legs are counted with retries and redirects; a redirect is no retry; bytes are the bodies'."""
    kept, target = Books(HandClock()), Target("http://h/")
    hops = (Hop("http://h/", 302),)
    kept.settle(
        Result(target, Outcome.OK, response=response(200, b"12345"), redirects=hops, attempts=4), leg_of("http://h/")
    )
    kept.settle(Result(target, Outcome.SKIPPED), leg_of("http://h/"))
    kept.emitted()
    report = kept.report()
    assert (report.legs, report.retries, report.body_bytes, report.items) == (4, 2, 5, 1)


def test_kinds_and_statuses() -> None:
    """Errors are counted by kind, HTTP errors by status."""
    kept, target, leg = Books(HandClock()), Target("http://h/"), leg_of("http://h/")
    for status in (404, 404, 503):
        kept.settle(Result(target, Outcome.HTTP_ERROR, response=response(status)), leg)
    kept.settle(Result(target, Outcome.FAILED, error=DeadlineExceeded("late")), leg)
    progress = kept.progress(queued=3, running=2)
    assert progress.statuses == {404: 2, 503: 1}
    assert progress.kinds == {"deadline": 1}
    assert (progress.queued, progress.running) == (3, 2)


def test_the_slowest_hosts_come_first() -> None:
    """Progress names the five slowest hosts by their mean time, slowest first."""
    kept = Books(HandClock())
    for number in range(7):
        for elapsed_s in (number, number + 1.0):
            leg = leg_of(f"http://h{number}/")
            kept.settle(Result(leg.target, Outcome.OK, elapsed_s=elapsed_s), leg)
    slowest = kept.progress(0, 0).slowest
    assert [one.host for one in slowest] == ["h6", "h5", "h4", "h3", "h2"]
    assert (slowest[0].answers, slowest[0].mean_s) == (2, 6.5)


def test_hosts_are_forgotten_not_hoarded() -> None:
    """However many hosts there are, the times of a bounded number are kept, those asked most often among them."""
    kept = Books(HandClock())
    often = leg_of("http://often/")
    for _ in range(2):
        kept.settle(Result(often.target, Outcome.OK, elapsed_s=9.0), often)
    for number in range(books._KEPT_HOSTS * 2):
        leg = leg_of(f"http://h{number}/")
        kept.settle(Result(leg.target, Outcome.OK, elapsed_s=0.1), leg)
    assert len(kept._hosts) <= books._KEPT_HOSTS
    assert kept.progress(0, 0).slowest[0].host == "often"


def test_time_runs_from_the_start() -> None:
    """Elapsed time is 0 before the start and what the clock says after it; an interrupted crawl isn't complete."""
    clock = HandClock()
    kept = Books(clock)
    clock.tick(5)
    assert kept.report().elapsed_s == 0.0
    kept.start()
    clock.tick(2.5)
    assert kept.report().elapsed_s == 2.5
    assert kept.report().is_complete
    kept.interrupt()
    assert not kept.report().is_complete


def test_counts_from_many_threads_add_up() -> None:
    """No count is lost when workers settle at the same time."""
    kept = Books(HandClock())

    def work() -> None:
        for _ in range(500):
            kept.took()
            kept.settle(Result(Target("http://h/"), Outcome.OK, attempts=1), leg_of("http://h/"))

    with Threads() as threads:
        threads.start(work, 8)
    report = kept.report().check()
    assert (report.inputs, report.ok, report.legs) == (4000, 4000, 4000)
