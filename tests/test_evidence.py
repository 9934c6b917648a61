"""The evidence of a run: a log line for each leg that was sent, true, complete, and free where nobody wants it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import requests

from crawlpool import HostLimits, Outcome, RetryPolicy, SessionPool
from crawlpool.audit import RecordedLeg, judge
from crawlpool.evidence import is_logged
from crawlpool.testing import Answer, SiteServer
from tests.gates import Threads

Caplog = pytest.LogCaptureFixture

LIMITS = HostLimits(delay_s=0.01, max_cooldown_s=0.05)


def legs_of(caplog: Caplog) -> list[dict[str, Any]]:
    """Return the fields of each leg that was logged, in the order of the starts."""
    found = [vars(record) for record in caplog.records if record.name == "crawlpool.leg"]
    assert {fields["message"] for fields in found} <= {"leg ended"}
    return sorted(found, key=lambda fields: fields["start_s"])


@pytest.mark.transports()
def test_each_request_is_logged_with_what_held_for_it(caplog: Caplog) -> None:
    """robots.txt with its Crawl-delay, a redirect's hop, a refusal and its retry are legs like any other."""
    answers = iter([Answer(429, {"Retry-After": "7"}), b"x"])
    routes: Any = {
        "/robots.txt": b"User-agent: *\nCrawl-delay: 0.02\nDisallow: /never",
        "/from": Answer(302, {"Location": "/to"}),
        "/to": lambda request: next(answers),
    }
    retry = RetryPolicy(attempts=2, backoff_s=0.001, max_retry_after_s=0.001, budget=None)
    with SiteServer(routes) as server, caplog.at_level("DEBUG", "crawlpool.leg"):
        with SessionPool(retry=retry) as pool:
            report = pool.crawl([server.url("/from"), server.url("/never")], limits=LIMITS)
        port = server.port
    assert (report.ok, report.disallowed) == (1, 1)
    found = legs_of(caplog)
    assert [fields["url"].partition(f":{port}")[2] for fields in found] == ["/robots.txt", "/from", "/to", "/to"]
    assert [(fields["status"], fields["how"]) for fields in found] == [
        (200, "answered"), (302, "answered"), (429, "refused"), (200, "answered"),
    ]  # fmt: skip
    assert [fields["delay_s"] for fields in found] == [0.01, 0.02, 0.02, 0.02]
    limits = [(fields["host"], fields["per_host"], fields["max_cooldown_s"]) for fields in found]
    assert limits == [("127.0.0.1", 1, 0.05)] * 4
    assert [fields["retry_after_s"] for fields in found] == [None, None, 7.0, None]
    assert found[2]["known_s"] >= found[2]["end_s"]
    assert all(fields["started_at"].endswith("Z") for fields in found)
    assert judge(RecordedLeg.of(fields) for fields in found).breach_count == 0


@pytest.mark.transports()
def test_a_host_without_limits_has_none_in_the_log(caplog: Caplog) -> None:
    """All three are null; what came of the leg is told all the same, and no credential."""
    with SiteServer({"/": Answer(503, {"Retry-After": "3"})}) as server, caplog.at_level("DEBUG", "crawlpool.leg"):
        with SessionPool(retry=RetryPolicy(attempts=1)) as pool:
            results = pool.map([f"http://u:secret@127.0.0.1:{server.port}/"])
            assert [result.outcome for result in results] == [Outcome.HTTP_ERROR]
    (fields,) = legs_of(caplog)
    assert (fields["delay_s"], fields["per_host"], fields["max_cooldown_s"]) == (None, None, None)
    assert (fields["how"], fields["retry_after_s"], fields["known_s"]) == ("refused", 3.0, None)
    assert fields["url"] == f"http://127.0.0.1:{server.port}/"


@pytest.mark.transports()
def test_failures_are_requests_too_and_what_was_never_sent_is_none(caplog: Caplog) -> None:
    """A connection that can't be made and an answer that breaks off are logged without a status; a bad URL isn't."""
    cut = Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    with SiteServer({"/": cut}) as server, SiteServer({}, hosts="127.0.0.2") as gone:
        gone.stop()
        with caplog.at_level("DEBUG", "crawlpool.leg"), SessionPool(retry=RetryPolicy(attempts=1)) as pool:
            urls = [server.url(), gone.url(), "ftp://127.0.0.3/"]
            assert [result.error is None for result in pool.map(urls, limits=LIMITS)] == [False] * 3
    found = {fields["host"]: (fields["how"], fields["status"]) for fields in legs_of(caplog)}
    assert found == {"127.0.0.1": ("broken", None), "127.0.0.2": ("unreachable", None)}


@pytest.mark.transports()
def test_what_callers_send_by_themselves_is_logged_with_the_rest(caplog: Caplog) -> None:
    """The verbs of a pool that has limits: each request, its retry too, beside those of workers; judged together."""
    answers = iter([Answer(429, {"Retry-After": "7"})])
    routes: Any = {"/busy": lambda request: next(answers, b"x"), "/": b"x"}
    retry = RetryPolicy(attempts=2, backoff_s=0.001, max_retry_after_s=0.001, budget=None)
    with SiteServer(routes) as server, caplog.at_level("DEBUG", "crawlpool.leg"):
        with SessionPool(retry=retry, limits=LIMITS, threads=2) as pool, Threads() as threads:
            assert pool.get(server.url("/busy")).ok
            for _ in range(3):
                threads.start(lambda: pool.get(server.url()))
            assert all(result.is_ok for result in pool.map([server.url()] * 3))
            threads.join()
            with pytest.raises(requests.ConnectionError):
                pool.get("http://127.0.0.2:1/", retry=False)
        count = server.request_count
    found = legs_of(caplog)
    mine = [fields for fields in found if fields["host"] == "127.0.0.1"]
    assert len(mine) == count == 8
    assert [(fields["status"], fields["how"], fields["retry_after_s"]) for fields in mine[:2]] == [
        (429, "refused", 7.0), (200, "answered", None),
    ]  # fmt: skip
    assert {(fields["delay_s"], fields["per_host"], fields["max_cooldown_s"]) for fields in found} == {(0.01, 1, 0.05)}
    assert [(fields["how"], fields["status"]) for fields in found if fields not in mine] == [("unreachable", None)]
    assert judge(RecordedLeg.of(fields) for fields in found).breach_count == 0


def test_where_nobody_wants_it_there_is_none(caplog: Caplog) -> None:
    """The level is looked at once for a batch; below debug no row is made where no run keeps trails."""
    with caplog.at_level("INFO", "crawlpool"):
        assert not is_logged()
        with SiteServer({"/": b"x"}) as server, SessionPool() as pool, pytest.MonkeyPatch.context() as patch:
            patch.setattr("crawlpool.worker.note_of", None)
            assert [result.unwrap().text for result in pool.map([server.url()] * 3)] == ["x"] * 3
    with caplog.at_level("DEBUG", "crawlpool"):
        assert is_logged()


def test_a_handler_that_raises_costs_no_result(caplog: Caplog) -> None:
    """The log is the application's, and so are its faults."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no log today")

    log, raising = logging.getLogger("crawlpool.leg"), Raising()
    log.addHandler(raising)
    try:
        with SiteServer({"/": b"x"}) as server, caplog.at_level("DEBUG", "crawlpool.leg"), SessionPool() as pool:
            assert [result.unwrap().text for result in pool.map([server.url()] * 3)] == ["x"] * 3
    finally:
        log.removeHandler(raising)
