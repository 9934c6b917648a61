"""From a leg to a request, and from an answer to the next leg or the one result."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from crawlpool import (
    BodyTooLarge,
    ConfigError,
    ErrorKind,
    InputError,
    Outcome,
    Result,
    RetryPolicy,
    SessionPool,
    Target,
)
from crawlpool.leg import Leg
from crawlpool.settle import begin, conclude, dropped, first_leg
from crawlpool.testing import Answer, SiteServer
from crawlpool.transport.base import Completion
from crawlpool.transport.inbox import Inbox
from tests.gates import PATIENCE_S, ListRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlpool.session import Session

pytestmark = pytest.mark.above_transports

FAST = RetryPolicy(attempts=3, backoff_s=0.25, jitter=False, budget=None)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(retry=FAST) as pool:
        yield pool


def step(leg: Leg, session: Session) -> Leg | Result:
    """Do one leg as a worker would."""
    news = threading.Semaphore(0)
    lane = session.lane(Inbox(news.release))
    exchange = begin(leg, session)
    if isinstance(exchange, Completion):
        return conclude(leg, session, exchange)
    lane.start(exchange)
    while not (completed := lane.completed()):
        assert news.acquire(timeout=PATIENCE_S), "what was started never ended"
    (completion,) = completed
    verdict = conclude(leg, session, completion)
    lane.settled()
    return verdict


def to_the_end(leg: Leg, session: Session) -> tuple[Result, list[Leg]]:
    """Do a target's legs one after the other without waiting; return its result and the legs that followed."""
    legs: list[Leg] = []
    while isinstance(verdict := step(leg, session), Leg):
        leg = verdict
        legs.append(leg)
    return verdict, legs


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raise_it


def test_an_answer_is_the_result(pool: SessionPool) -> None:
    """A plain answer ends its target: outcome by status, response read, one attempt, times known."""
    with SiteServer({"/": b"hello"}) as server:
        result = step(ListRun().leg(server.url("/")), pool.session)
        assert isinstance(result, Result)
        assert (result.outcome, result.attempts, result.redirects, result.error) == (Outcome.OK, 1, (), None)
        assert result.unwrap().text == "hello"
        assert result.elapsed_s is not None and result.started_at_s is not None
        missing = step(ListRun().leg(server.url("/missing")), pool.session)
        assert isinstance(missing, Result)
        assert missing.outcome is Outcome.HTTP_ERROR
        assert missing.response is not None and missing.response.status_code == 404


def test_a_target_goes_over_the_run(pool: SessionPool) -> None:
    """Method, headers, params and body of the target are sent, over those of the run, over those of the pool."""
    with SiteServer(
        lambda r: f"{r.method} {r.query} {r.headers.get('A')}{r.headers.get('B')} {r.body.decode()}"
    ) as server:
        run = ListRun(request={"headers": {"a": "run", "b": "run"}, "params": {"p": "run"}})
        target = Target(server.url("/"), "put", headers={"a": "mine"}, data=b"body", params={"p": "mine"})
        result = step(Leg.first(run, target), pool.session)
        assert isinstance(result, Result)
        assert result.unwrap().text == "PUT p=mine minerun body"
        plain = step(run.leg(server.url("/")), pool.session)
        assert isinstance(plain, Result)
        assert plain.unwrap().text == "GET p=run runrun "


def test_a_redirect_is_a_leg_of_its_own(pool: SessionPool) -> None:
    """A redirect hop comes back as the next leg, counted for its own host, with the way that led there."""
    routes = {"/a": Answer(302, {"Location": "/b"}), "/b": b"there"}
    with SiteServer(routes) as server:
        first = ListRun().leg(server.url("/a"), ordinal=5)
        hop = step(first, pool.session)
        assert isinstance(hop, Leg)
        assert (hop.host, hop.legs, hop.attempt, hop.target, hop.ordinal) == ("127.0.0.1", 1, 1, first.target, 5)
        assert hop.request is not None and hop.request.url == server.url("/b")
        result = step(hop, pool.session)
        assert isinstance(result, Result)
        assert [(h.url, h.status) for h in result.redirects] == [(server.url("/a"), 302)]
        assert result.attempts == 2
        assert [r.status_code for r in result.unwrap().history] == [302]


def test_redirects_end(pool: SessionPool) -> None:
    """Redirects end with an error after the most that may be, and aren't followed at all when they shan't be."""
    with SiteServer({"/": Answer(302, {"Location": "/"})}) as server:
        result, legs = to_the_end(ListRun(max_redirects=2).leg(server.url("/")), pool.session)
        assert isinstance(result.error, requests.TooManyRedirects)
        assert (result.outcome, result.error_kind, len(legs)) == (Outcome.FAILED, ErrorKind.REDIRECT, 2)
        result, legs = to_the_end(ListRun(allow_redirects=False).leg(server.url("/")), pool.session)
        assert (result.outcome, legs) == (Outcome.OK, [])


@pytest.mark.parametrize("location", ["ftp://h/x", "file:///etc/passwd"])
def test_a_redirect_leads_to_http_only(pool: SessionPool, location: str) -> None:
    """A redirect to what is no http or https URL fails the target as an invalid URL; nothing local is read."""
    with SiteServer({"/": Answer(302, {"Location": location})}) as server:
        result, legs = to_the_end(ListRun().leg(server.url("/")), pool.session)
        assert (result.outcome, result.error_kind, legs) == (Outcome.FAILED, ErrorKind.INVALID_URL, [])


def test_a_retry_is_a_later_leg(pool: SessionPool) -> None:
    """A failure comes back as a leg with a time before which it may not run; nobody sleeps for it."""
    with SiteServer({"/": Answer(503, {"Retry-After": "7"})}) as server:
        before = pool._shared.clock.monotonic()
        again = step(ListRun().leg(server.url("/")), pool.session)
        assert isinstance(again, Leg)
        assert 7 <= again.not_before - before < 8
        assert (again.attempt, again.legs) == (2, 1)


def test_the_last_answer_is_the_result_when_retries_are_used_up(pool: SessionPool) -> None:
    """A status that stays bad ends as ``http_error`` with the last response, an error that stays as ``failed``."""
    with SiteServer({"/": Answer(503)}) as server:
        result, legs = to_the_end(ListRun().leg(server.url("/")), pool.session)
        assert (result.outcome, result.attempts, len(legs)) == (Outcome.HTTP_ERROR, 3, 2)
        url = server.url("/")
    result, _ = to_the_end(ListRun().leg(url), pool.session)
    assert (result.outcome, result.attempts, result.error_kind) == (Outcome.FAILED, 3, ErrorKind.CONNECT)


def test_a_wait_beyond_max_wait_is_not_begun(pool: SessionPool) -> None:
    """A back-off that would take a target over ``max_wait_s`` isn't begun: the last answer stands."""
    with SiteServer({"/": Answer(503, {"Retry-After": "7"})}) as server:
        run = ListRun(max_wait_s=5)
        result, legs = to_the_end(run.leg(server.url("/")), pool.session)
        assert (result.outcome, legs) == (Outcome.HTTP_ERROR, [])
        assert server.request_count == 1


def test_the_deadline_is_of_a_leg_or_of_all(pool: SessionPool) -> None:
    """By choice each leg of a target has a deadline of its own, or all of them have one together."""
    with SiteServer({"/a": Answer(302, {"Location": "/b"}), "/b": b"x"}) as server:
        for is_of_leg in (True, False):
            leg = ListRun(deadline_s=30, is_deadline_of_leg=is_of_leg).leg(server.url("/a"))
            leg.deadline = None
            hop = step(leg, pool.session)
            assert isinstance(hop, Leg)
            first = leg.deadline
            step(hop, pool.session)
            assert (hop.deadline is first) is not is_of_leg


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("", ErrorKind.INVALID_URL),
        ("nothing", ErrorKind.INVALID_URL),
        ("http://", ErrorKind.INVALID_URL),
        ("ftp://127.0.0.1/", ErrorKind.INVALID_URL),
        ("data:text/html,x", ErrorKind.INVALID_URL),
        ("http://[::1/", ErrorKind.INVALID_URL),
        ("http://127.0.0.1:99999/", ErrorKind.INVALID_URL),
        ("http://*.example/", ErrorKind.INVALID_URL),
        ("http://\ud800/", ErrorKind.INVALID_URL),
        ("http://127.0.0.1:1/", ErrorKind.CONNECT),
    ],
)
def test_a_url_that_cannot_be_is_a_result(pool: SessionPool, url: str, kind: ErrorKind) -> None:
    """Whatever a URL is, its target has one result, with the right kind; what can't be sent has no attempt."""
    result, _ = to_the_end(ListRun(retry=RetryPolicy.never()).leg(url), pool.session)
    assert (result.outcome, result.error_kind) == (Outcome.FAILED, kind)
    assert result.attempts == (1 if kind is ErrorKind.CONNECT else 0)
    assert result.record["error"]["kind"] == str(kind)


def test_a_name_that_does_not_resolve(pool: SessionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that can't be found ends as ``dns`` and isn't asked for again."""
    monkeypatch.setattr(socket, "getaddrinfo", raising(socket.gaierror(socket.EAI_NONAME, "no such name")))
    result, legs = to_the_end(ListRun().leg("http://nowhere.example/"), pool.session)
    assert (result.error_kind, legs) == (ErrorKind.DNS, [])


@pytest.mark.parametrize(
    "error", [ValueError("v"), RuntimeError("r"), SystemExit("s"), KeyboardInterrupt(), GeneratorExit()]
)
@pytest.mark.parametrize("where", ["auth", "hook", "strategy", "accept"])
def test_whatever_a_users_code_raises_ends_its_target(
    pool: SessionPool, error: BaseException, where: str, transport: str
) -> None:
    """An auth, hook, retry strategy or judge that raises anything ends its target with that, and nothing more."""
    with SiteServer({"/": b"x"}) as server:
        options: dict[str, Any] = {}
        if where == "auth":
            options["request"] = {"auth": raising(error)}
        elif where == "hook":
            options["request"] = {"hooks": {"response": raising(error)}}
        elif where == "strategy":
            options["retry"] = RetryPolicy(retry=raising(error))
        run = ListRun(**options)
        if where == "accept":
            run.accept = raising(error)  # type: ignore[method-assign]
        pool._workforce.put(run.leg(server.url("/")))
        assert run.came.acquire(timeout=20)
        ((_, result),) = run.results
        assert result.outcome is Outcome.FAILED
        assert type(result.error) is type(error) or (
            where == "auth" and isinstance(result.error, requests.RequestException)
        )
        # With curl another may be called to finish what the one that began it doesn't wait for.
        assert pool._workforce.threads in ((1, 2) if transport == "curl" else (1,))


def test_a_bad_setting_of_a_run_is_said_as_such(pool: SessionPool) -> None:
    """A setting that can't be, found only when the request is prepared, fails the target and not the worker."""
    result, _ = to_the_end(ListRun(request={"timeout": "soon"}).leg("http://127.0.0.1:1/"), pool.session)
    assert isinstance(result.error, (ConfigError, requests.RequestException))
    result, _ = to_the_end(ListRun(request={"headers": {"a": "b\nc"}}).leg("http://127.0.0.1:1/"), pool.session)
    assert isinstance(result.error, requests.exceptions.InvalidHeader)


def test_a_body_over_the_cap(pool: SessionPool) -> None:
    """A body over the run's cap ends its target, whatever the pool's is; and it isn't asked for again."""
    with SiteServer({"/": b"x" * 100}) as server:
        result, legs = to_the_end(ListRun(max_body_bytes=99).leg(server.url("/")), pool.session)
        assert (type(result.error), legs) == (BodyTooLarge, [])
        result, _ = to_the_end(ListRun(max_body_bytes=100).leg(server.url("/")), pool.session)
        assert result.is_ok


def test_only_final_answers_are_judged(pool: SessionPool) -> None:
    """A run looks at final, successful answers; redirects and errors are no bodies that it asked for."""
    seen: list[int] = []
    run = ListRun()
    run.accept = lambda leg, response: seen.append(response.status_code)  # type: ignore[method-assign]
    with SiteServer({"/a": Answer(302, {"Location": "/b"}), "/b": b"x"}) as server:
        to_the_end(run.leg(server.url("/a")), pool.session)
        to_the_end(run.leg(server.url("/missing")), pool.session)
    assert seen == [200]


def test_what_is_no_target_has_a_result_too(pool: SessionPool) -> None:
    """An input that is neither text nor a target becomes a leg that is never sent and fails as an invalid URL."""
    for given in (None, 5, b"http://h/", ["http://h/"]):
        leg = first_leg(ListRun(), given, 3)
        result = step(leg, pool.session)
        assert isinstance(result, Result)
        assert isinstance(result.error, InputError)
        assert type(given).__name__ in str(result.error)
        assert leg.ordinal == 3
    target = Target("http://h/")
    assert first_leg(ListRun(), target).target is target
    assert first_leg(ListRun(), "http://h/").verdict is None


def test_a_dropped_leg_is_skipped_with_its_reason() -> None:
    """A target that was given up is skipped, says why, and keeps what it had come to."""
    leg = ListRun().leg("http://h/")
    leg.legs, leg.waited_s = 2, 1.5
    result = dropped(leg, "interrupted")
    assert (result.outcome, result.reason, result.attempts, result.waited_s) == (Outcome.SKIPPED, "interrupted", 2, 1.5)
