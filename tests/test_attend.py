"""What the I/O thread does by itself: plain legs of a map, and nothing that may run a user's code or wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from crawlpool import HostLimits, Outcome, SessionPool, Target
from crawlpool.attend import is_instant, may_begin
from crawlpool.clock import Deadline
from crawlpool.lane import EngineLane
from crawlpool.leg import Leg
from crawlpool.lines import Line
from crawlpool.models import Result
from crawlpool.testing import SiteServer
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl import library
from crawlpool.transport.lifeline import LegEnd
from tests.gates import Gate, ListRun, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator

if library.is_installed():
    from crawlpool.transport.curl.adapter import CurlAdapter

pytestmark = [pytest.mark.transports("curl"), pytest.mark.timeout(30)]

HEAD = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"Server: x\r\n", b"\r\n"]


class Instant(ListRun):
    """A run as plain as a map's."""

    is_instant = True


@pytest.fixture
def adapter() -> Iterator[CurlAdapter]:
    """An adapter whose engine is never started."""
    one = CurlAdapter()
    yield one
    one.close()


def ended(adapter: CurlAdapter, leg: Leg | None = None, **changed: Any) -> Any:
    """Return a transfer that ended as plainly as can be, but for what is given."""
    leg = leg or Leg.first(Instant(), Target("http://h.example/"))
    leg.seat = Line()
    request = requests.Request("GET", leg.target.url).prepare()
    settings = {"stream": False, "timeout": 1, "verify": True, "cert": None, "proxies": {}}
    exchange = Exchange(request, settings, Deadline(None), changed.pop("cap", None), token=leg, is_quick=True)
    transfer = adapter.transfer_for(exchange, object())  # type: ignore[arg-type]
    for name, value in {"head": HEAD, "body": [b"ok"], "timings": (0.0,) * 5, **changed}.items():
        setattr(transfer, name, value)
    return transfer


def is_finished_here(transfer: Any) -> bool:
    """Tell whether the I/O thread would finish the transfer by itself."""
    return is_instant(transfer) and EngineLane.finished_plain(transfer) is not None


@pytest.mark.parametrize("status", [b"200", b"204", b"206"])
def test_a_plain_success_is_finished_here(status: bytes, adapter: CurlAdapter) -> None:
    """Its response is whole, and nothing of the user's has run."""
    transfer = ended(adapter, head=[b"HTTP/1.1 " + status + b" \r\n", *HEAD[1:]])
    assert is_instant(transfer)
    done: Any = EngineLane.finished_plain(transfer)
    assert (done.response.status_code, done.response.content, done.error) == (int(status), b"ok", None)
    assert done.exchange is transfer.exchange
    assert done.exchange.end is None


@pytest.mark.parametrize(
    "changed",
    [
        {"is_quick": False},
        {"code": 7},
        {"error": ValueError()},
        {"stopped": LegEnd.CANCELLED},
        {"body": [b"x"] * 9},
        {"cap": 1},
        {"head": []},
        {"head": [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n"]},
        {"head": [b"HTTP/1.1 301 Moved\r\n", b"Location: /\r\n", b"\r\n"]},
        {"head": [b"HTTP/1.1 404 Not Found\r\n", b"\r\n"]},
        {"head": [b"HTTP/1.1 503 Busy\r\n", b"\r\n"]},
        {"head": [b"HTTP/1.1 103 Early Hints\r\n", b"\r\n", *HEAD]},
        {"head": [HEAD[0], b"Set-Cookie: a=b\r\n", b"\r\n"]},
        {"head": [HEAD[0], b"sET-cOOKIE: a=b\r\n", b"\r\n"]},
        {"head": [HEAD[0], b"Content-Encoding: gzip\r\n", b"\r\n"]},
        {"head": [HEAD[0], b"content-encoding: gzip\r\n", b"\r\n"]},
    ],
    ids=repr,
)
def test_all_else_is_the_workers(changed: dict[str, Any], adapter: CurlAdapter) -> None:
    """A failure, a redirect, an error status, a cookie, a coding, many pieces: more work, or somebody's code."""
    transfer = ended(adapter, **changed)
    assert not is_finished_here(transfer)
    assert transfer.exchange.end is not None  # nothing was begun with it that a worker would miss


def test_legs_of_other_runs_are_the_workers(adapter: CurlAdapter) -> None:
    """A run with a handler, a callback or a sink says so; its legs are neither finished nor begun here."""
    leg = ListRun().leg("http://h.example/")
    assert not is_instant(ended(adapter, leg))
    assert not may_begin(leg)


def test_only_plain_first_legs_are_begun_here() -> None:
    """A GET or HEAD of a plain URL; no body, no params, no retry, no hop, and nothing that isn't to be sent."""
    run = Instant()
    for method in ("GET", "HEAD"):
        assert may_begin(Leg.first(run, Target("http://h.example/", method, headers={"X": "1"})))
    for target in (
        Target("http://h.example/", "POST"),
        Target("http://h.example/", data=b"x"),
        Target("http://h.example/", params={"a": "b"}),
        Target("http://h.example/a b"),
        Target("http://u:p@h.example/"),
    ):
        assert not may_begin(Leg.first(run, target))
    refused = Leg.first(run, Target(""), verdict=Result(Target(""), Outcome.FAILED))
    assert not may_begin(refused)
    first = Leg.first(run, Target("http://h.example/"))
    assert not may_begin(first.next(requests.PreparedRequest(), 2, 0.0))


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(threads=2, retry=False, trust_env=False) as pool:
        yield pool


def test_a_map_needs_its_workers_for_the_beginning_only(pool: SessionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of plain targets nearly all are begun and finished by the I/O thread; each has its result, in order."""
    by: list[str] = []
    settle = pool._workforce._settle
    attendant: Any = pool._workforce._attendant
    if attendant is None:
        pytest.skip("this interpreter has no lock to be spared")

    def noted(session: Any, completions: list[Any], **more: Any) -> None:
        by.extend([threading.current_thread().name] * len(completions))
        settle(session, completions, **more)

    monkeypatch.setattr(attendant, "_settle", noted)
    with SiteServer(lambda request: request.path) as server:
        paths = [f"/{number}" for number in range(500)]
        texts = [result.unwrap().text for result in pool.map([server.url(path) for path in paths], ordered=True)]
    assert texts == paths
    assert len(by) > 400
    assert set(by) == {"crawlpool-io"}


def test_what_comes_to_nothing_at_once_has_its_result(pool: SessionPool) -> None:
    """Legs that the I/O thread takes and can't start, here for their proxy, are settled like all others."""
    pool.proxies = {"http://localhost": "http://"}
    with SiteServer({"/": b"x"}) as server:
        good, bad = server.url("/"), server.url("/").replace("127.0.0.1", "localhost")
        results = list(pool.map([good] * 50 + [bad] * 50 + [good] * 50 + [bad] * 3))
    assert sum(result.is_ok for result in results) == 100
    failed = [result.error for result in results if not result.is_ok]
    assert len(failed) == 53
    assert {type(error) for error in failed} == {requests.exceptions.InvalidProxyURL}


def test_a_worker_goes_on_where_the_io_thread_does_not_come_back(pool: SessionPool) -> None:
    """What can't be started frees its host, and nothing is on the wire: a worker is woken for the host's next leg."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate, Threads() as threads:
        results: list[Result] = []
        legs = pool.map([server.url("/")] * 4, limits=HostLimits(concurrency=1))
        threads.start(lambda: results.extend(legs))
        gate.wait_for(1)
        workers = pool._workforce
        until(lambda: workers.frontier.idle == workers.threads and len(workers.frontier) == 3)
        pool.proxies = {"http": "http://"}
        gate.open()
        threads.join()
    assert [result.is_ok for result in results] == [True, False, False, False]


def test_an_auth_that_is_set_meanwhile_runs_in_a_worker(pool: SessionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on nothing is begun by the I/O thread, where a user's code would hold up all transfers."""
    ran: set[str] = set()
    calls = iter(range(1_000_000))
    inbox = pool._workforce._inbox
    attendant: Any = inbox._attend
    if pool._workforce._attendant is None:
        pytest.skip("this interpreter has no lock to be spared")

    def auth(request: Any) -> Any:
        ran.add(threading.current_thread().name)
        request.headers["Authorization"] = "mine"
        return request

    def attend(ended: Any) -> Any:
        if next(calls) == 3:
            pool.auth = auth
        return attendant(ended)

    monkeypatch.setattr(inbox, "_attend", attend)
    with SiteServer(lambda request: request.headers.get("authorization", "none")) as server:
        urls = [server.url(f"/{number}") for number in range(1500)]
        texts = [result.unwrap().text for result in pool.map(urls, limits=HostLimits(concurrency=4), ordered=True)]
    assert (texts[0], texts[-1]) == ("none", "mine")
    assert ran
    assert all(name.startswith("crawlpool-worker") for name in ran)
