"""The trail of a target: a row for each leg that was sent, whole when the result is there, and the log's very legs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import HostLimits, Outcome, RetryPolicy, SessionPool
from crawlpool.audit import RecordedLeg, judge
from crawlpool.clearance import Clearance
from crawlpool.evidence import leg_ended_of
from crawlpool.frontier import Frontier
from crawlpool.robots import Fetched
from crawlpool.settle import dropped
from crawlpool.testing import Answer, SiteServer
from crawlpool.trail import LegKind, LegNote
from tests.gates import PATIENCE_S, ListRun, until
from tests.kit import Proxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.leg import Leg
    from crawlpool.models import Result

LIMITS = HostLimits(delay_s=0.01, max_cooldown_s=0.05)
QUICK = RetryPolicy(attempts=2, backoff_s=0.001, max_retry_after_s=0.001, budget=None)
PLAIN = LegNote("first", 1.5, 2.0, 3.5, 4.0, "answered")


class Trails:
    """Crawls with trails, and keeps them by path: those of the targets, and those for robots.txt."""

    def __init__(self, server: SiteServer, pool: SessionPool) -> None:
        self.server, self.pool = server, pool
        self.of: dict[str, tuple[LegNote, ...]] = {}
        self.robots: list[tuple[str, Fetched, bytes | None, tuple[LegNote, ...]]] = []
        self.ended: list[tuple[Leg, Result]] = []

    def crawl(self, *paths: str, **options: Any) -> dict[str, tuple[LegNote, ...]]:
        crawl = self.pool.new_crawl(**{"limits": LIMITS, **options})
        crawl.options = dataclasses.replace(crawl.options, keeps_trail=True)
        if crawl.group.clearance is not None:
            learn = crawl._workforce.frontier.learn
            crawl.group.clearance = Clearance(crawl, "bot", learn, crawl._books.asked_robots, self._kept)
        settled = crawl.settled

        def keep(ended: Sequence[tuple[Leg, Result]]) -> None:
            self.ended += ended
            self.of.update({leg.target.url.partition(str(self.server.port))[2]: leg.trail for leg, _ in ended})
            settled(ended)

        crawl.settled = keep  # type: ignore[method-assign]
        crawl.run([self.server.url(path) for path in paths])
        return self.of

    def _kept(self, origin: str, fetched: Fetched, response: Any, trail: tuple[LegNote, ...]) -> None:
        self.robots.append((origin, fetched, None if response is None else response.content, trail))


def test_a_row_is_a_list_of_json_and_back() -> None:
    """The whole note is, and the shortest row; one of a newer version is read, one with too little is none."""
    whole = LegNote(*range(len(LegNote._fields)))  # type: ignore[arg-type]
    whole = whole._replace(moments=(0.0, 0.1, 0.0, 0.2, 0.3), error=("dns", "no such name"))
    for note in (whole, PLAIN):
        assert LegNote.of(json.loads(json.dumps(note))) == LegNote.of(json.loads(json.dumps(note.row))) == note
    assert PLAIN.row == ["first", 1.5, 2.0, 3.5, 4.0, "answered"]
    assert LegNote.of([*whole, "newer"]) == whole
    with pytest.raises(TypeError):
        LegNote.of(PLAIN.row[:4])
    assert (PLAIN.waited_s, PLAIN._replace(queued_s=None).waited_s, PLAIN.timings) == (1.5, 0.0, None)
    assert whole.timings == (0.0, 0.1, 0.0, 0.2, 0.3)


@pytest.mark.transports()
def test_each_leg_of_a_target_has_its_row(caplog: pytest.LogCaptureFixture) -> None:
    """A redirect, a refusal and its retry, robots.txt before them: why each was sent, and what held. The log's legs."""
    answers = iter([Answer(429, {"Retry-After": "7"}), b"x"])
    routes: Any = {
        "/robots.txt": b"User-agent: *\nCrawl-delay: 0.02\nDisallow: /never",
        "/from": Answer(302, {"Location": "/to"}),
        "/to": lambda request: next(answers),
    }
    with SiteServer(routes) as server, caplog.at_level("DEBUG", "crawlpool.leg"), SessionPool(retry=QUICK) as pool:
        trails = Trails(server, pool)
        trails.crawl("/from", "/never")
        url = server.url
        first, hop, retry = trails.of["/from"]
        assert trails.of["/never"] == ()
        assert [(note.kind, note.url, note.status, note.how) for note in (first, hop, retry)] == [
            ("first", None, 302, "answered"),
            ("redirect", url("/to"), 429, "refused"),
            ("retry", url("/to"), 200, "answered"),
        ]
        assert {note.host for note in (first, hop, retry)} == {None}  # as the target's own
        assert {note.ip for note in (first, hop, retry)} == {"127.0.0.1"}
        assert {(note.delay_s, note.per_host, note.max_cooldown_s) for note in (first, hop, retry)} == {(0.02, 1, 0.05)}
        assert hop.retry_after_s == 7.0
        assert hop.known_s is not None
        assert retry.rested_s == pytest.approx(hop.known_s + 0.05, abs=1e-5)
        assert retry.rested_s <= retry.start_s
        assert hop.end_s < (retry.not_before_s or 0) < retry.start_s
        assert 0 < retry.waited_s <= retry.end_s - hop.end_s
        assert (first.rested_s, first.not_before_s, first.error, first.proxy) == (None, None, None, None)
        ((origin, fetched, text, robots),) = trails.robots
        assert (origin, fetched.rules is not None, text) == (url(""), True, routes["/robots.txt"])
        assert [(note.kind, note.url, note.delay_s) for note in robots] == [("robots", None, 0.01)]
    logged = sorted(
        (vars(one) for one in caplog.records if one.name == "crawlpool.leg"), key=lambda one: one["start_s"]
    )
    rows = [(robots[0], f"{origin}/robots.txt"), *((note, url("/from")) for note in (first, hop, retry))]
    for fields, (note, target_url) in zip(logged, rows, strict=True):
        event = leg_ended_of(LegNote.of(json.loads(json.dumps(note.row))), target_url)
        assert event is not None
        assert dataclasses.asdict(event).items() <= fields.items()
    assert judge(RecordedLeg.of(fields) for fields in logged).breach_count == 0


@pytest.mark.transports()
def test_a_plain_page_leaves_the_least() -> None:
    """Through the I/O thread alone, too: no limits, no URL of its own, no secret; and without the option nothing."""

    class InstantRun(ListRun):
        is_instant = True

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        url = f"http://u:secret@127.0.0.1:{server.port}/"
        for run in (InstantRun(keeps_trail=True), InstantRun()):
            pool._workforce.put_all([run.leg(each) for each in [server.url()] * 5 + [url] * 5])
            for _ in range(10):
                assert run.came.acquire(timeout=PATIENCE_S)
            trails = [leg.trail for leg, _ in run.results]
            if not run.options.keeps_trail:
                assert trails == [()] * 10
                continue
            for (note,) in trails:
                assert note[5:8] == ("answered", 200, "127.0.0.1")
                assert note[9:] == (None,) * (len(note) - 9)
                assert note.queued_s is not None
                assert note.queued_s <= note.start_s <= note.end_s
                event = leg_ended_of(note, url)
                assert event is not None
                assert (event.url, event.host) == (server.url(), "127.0.0.1")


@pytest.mark.transports()
def test_failures_have_rows_and_what_was_never_sent_has_none() -> None:
    """The error's kind and one line without secrets; each try of several; not a URL that can't be asked for."""
    with SiteServer({}, hosts="127.0.0.2") as gone, SessionPool(retry=QUICK) as pool:
        gone.stop()
        run = ListRun(keeps_trail=True)
        url = f"http://u:secret@127.0.0.2:{gone.port}/"
        pool._workforce.put_all([run.leg(url), run.leg("ftp://127.0.0.3/")])
        for _ in range(2):
            assert run.came.acquire(timeout=PATIENCE_S)
        trails = {leg.host: leg.trail for leg, _ in run.results}
    first, retry = trails["127.0.0.2"]
    assert [(note.kind, note.how, note.status, note.url) for note in (first, retry)] == [
        ("first", "unreachable", None, None), ("retry", "unreachable", None, None),
    ]  # fmt: skip
    assert first.error == ("connect", "Connection refused")
    assert trails["127.0.0.3"] == ()


@pytest.mark.transports()
def test_what_is_excused_is_there_and_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leg that follows is sent ``again``; its host never had the one before, by what audit judges."""
    excuses = iter([True])
    monkeypatch.setattr(Frontier, "excuses", lambda self, leg: next(excuses, False))
    with SiteServer({}, hosts="127.0.0.2") as gone, SessionPool(retry=False) as pool:
        gone.stop()
        run = ListRun(limits=HostLimits(concurrency=1), keeps_trail=True)
        pool._workforce.put(run.leg(gone.url()))
        assert run.came.acquire(timeout=PATIENCE_S)
        ((leg, result),) = run.results
    first, again = leg.trail
    assert (first.kind, first.how, again.kind, again.how) == ("first", "unsent", "again", "unreachable")
    assert first.error == again.error == ("connect", "Connection refused")
    assert leg_ended_of(first, result.target.url) is None
    assert again.not_before_s is not None


@pytest.mark.transports()
def test_a_leg_that_another_proxy_takes_over_is_sent_again() -> None:
    """The proxy of each leg is named without credentials, the one that failed as well."""
    with SiteServer({"/": b"x"}) as server, Proxy() as good, Proxy() as bad:
        names = [f"http://u:secret@127.0.0.1:{one.port}" for one in (good, bad)]
        bad.script = lambda connection, number: connection.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        with SessionPool(retry=False, proxies=names) as pool:
            run = ListRun(keeps_trail=True)
            pool._workforce.put_all([run.leg(f"http://h{n}.test:{server.port}/") for n in range(8)])
            for _ in range(8):
                assert run.came.acquire(timeout=PATIENCE_S)
    trails = [leg.trail for leg, _ in run.results]
    assert {result.outcome for _, result in run.results} == {Outcome.OK}
    failed = [trail for trail in trails if len(trail) > 1]
    assert failed
    for first, again in failed:
        assert (first.kind, first.how, again.kind) == ("first", "unsent", "again")
        assert ((first.proxy or "").rstrip("/"), (again.proxy or "").rstrip("/")) == (
            f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}",
        )  # fmt: skip


def test_a_leg_that_is_dropped_keeps_its_trail() -> None:
    """A retry that a stop finds waiting ends with the row of the try before it."""
    with SiteServer({"/": Answer(503)}) as server, SessionPool(retry=RetryPolicy(attempts=2, backoff_s=60)) as pool:
        run = ListRun(keeps_trail=True)
        pool._workforce.put(run.leg(server.url()))
        until(lambda: server.request_count == 1 and len(pool._workforce.frontier) == 1)
        legs = pool._workforce.frontier.take_back(run)
    (leg,) = legs
    assert (leg.kind, [note.status for note in leg.trail]) == (LegKind.RETRY, [503])
    assert dropped(leg, "interrupted").attempts == 1


def test_a_fault_in_a_row_costs_no_result(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the target has its result, and no row."""
    monkeypatch.setattr("crawlpool.worker.note_of", lambda *_: 1 / 0)
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        run = ListRun(keeps_trail=True)
        pool._workforce.put(run.leg(server.url()))
        assert run.came.acquire(timeout=PATIENCE_S)
    ((leg, result),) = run.results
    assert (leg.trail, result.outcome) == ((), Outcome.OK)
    assert "a leg could not be put on record" in caplog.text
