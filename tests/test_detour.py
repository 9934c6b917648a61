"""What a request that went by one of several proxies says of it, and by which one it goes then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import requests

from crawlpool import DeadlineExceeded, HostLimits, SessionPool, Target
from crawlpool.clock import SYSTEM_CLOCK, Deadline
from crawlpool.detour import leave_exit, passage_of, ride
from crawlpool.errors import BodyStalled, Cancelled, ErrorKind
from crawlpool.lines import Line
from crawlpool.politeness import BROKEN, UNSENT, Came, Exits, Host, Hosts, Passage, exits
from crawlpool.settle import came_of
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.transport.base import Completion, Exchange
from tests.farm import HOSTS, QUICK, Farm, exits_of, new_pool
from tests.gates import ListRun
from tests.kit import Proxy, RawServer, answering

pytestmark = pytest.mark.transports()


@pytest.fixture
def farm() -> Iterator[Farm]:
    with Farm(3) as farm:
        yield farm


def test_a_proxy_that_wants_a_login_is_left_alone(farm: Farm) -> None:
    """407 is the proxy's own answer: after three it rests, and each page comes by the other."""
    with (
        Farm(1, Answer(407, {"Proxy-Authenticate": "Basic"})) as closed,
        new_pool([*closed.urls, farm.urls[0]]) as pool,
    ):
        results = list(pool.map(f"http://{host}/" for host in HOSTS))
        assert all(result.is_ok for result in results)
        assert list(pool.statistics().proxies_rested) == closed.urls
        assert max(result.attempts for result in results) == 2


def test_where_all_want_a_login_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the outcome, as with one proxy."""
    monkeypatch.setattr(exits, "REST_S", 0.0)
    with Farm(2, Answer(407, {"Proxy-Authenticate": "Basic"})) as closed, new_pool(closed.urls) as pool:
        (result,) = pool.map([f"http://{HOSTS[0]}/"])
        assert (result.record["outcome"], result.record["status"], result.attempts) == ("http_error", 407, 2)
        assert pool.get(f"http://{HOSTS[1]}/").status_code == 407


@contextlib.contextmanager
def tunnels(refusal: bytes, certificates: Certificates) -> Iterator[tuple[SessionPool, str, str, str]]:
    """Give a pool over a proxy that refuses tunnels and one that makes them, and the names of both and of a server."""
    with (
        RawServer(answering(refusal, close=True)) as refusing,
        Proxy() as good,
        SiteServer({"/": b"x"}, tls=certificates.server_context()) as server,
        new_pool(
            [f"http://127.0.0.1:{one.port}" for one in (refusing, good)], verify=str(certificates.authority)
        ) as pool,
    ):
        yield pool, *(f"http://127.0.0.1:{one.port}" for one in (refusing, good)), server.url(host="localhost")


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"407 Who"])
def test_a_tunnel_that_one_refuses_goes_by_another(status: bytes, certificates: Certificates) -> None:
    """The refusing one rests after three, be it that it wants a login or that the other one gets there."""
    refusal = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    with tunnels(refusal, certificates) as (pool, refusing, _, url):
        exits_of(pool).home = lambda host: exits_of(pool).all[0]  # type: ignore[method-assign]
        for number in range(3):
            assert not exits_of(pool).all[0].is_resting
            (result,) = pool.map([Target(f"{url}?{number}")])
            assert result.is_ok, result
            assert result.attempts == 2
        assert pool.statistics().proxies_rested == {refusing: 1}


def test_a_host_that_no_proxy_gets_to_is_no_proxys_fault(certificates: Certificates) -> None:
    """Each was asked: the target fails, and none of them rests, however many such hosts there are."""
    refusal = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    with RawServer(answering(refusal, close=True)) as one, RawServer(answering(refusal, close=True)) as two:
        with new_pool([f"http://127.0.0.1:{proxy.port}" for proxy in (one, two)]) as pool:
            results = list(pool.map(f"https://{host}/" for host in HOSTS[:10]))
            assert {(result.error_kind, result.attempts) for result in results} == {
                (ErrorKind.PROXY, QUICK.attempts + 1)
            }
            assert pool.statistics().proxies_rested == {}


def test_what_a_proxy_failed_says_nothing_of_the_host() -> None:
    """Neither that it was reached nor that it wasn't; with a proxy of the user's it counts as ever."""
    leg = ListRun(limits=HostLimits()).leg(f"http://{HOSTS[0]}/")
    leg.seat = Line.of((leg.run.group, leg.host), Hosts(), 0.0, 1.0)
    exchange = leg.exchange = Exchange(requests.PreparedRequest(), {}, Deadline(None), token=leg)
    ended = Completion(exchange, None, requests.exceptions.ProxyError("x"), 0.0)
    assert came_of(leg, ended, SYSTEM_CLOCK) is BROKEN
    leg.passage = Passage.FAILED
    assert came_of(leg, ended, SYSTEM_CLOCK) is UNSENT


def test_what_could_not_be_reached_by_an_exit_that_rests_is_forgiven() -> None:
    """Hosts whose exit it is are asked again at once; those of another exit are where they were."""
    several, hosts = Exits(["http://10.0.0.1:1", "http://10.0.0.2:1"]), Hosts()
    limits = HostLimits(connect_failures=1)
    for name in HOSTS:
        host = hosts.of(name, 0.0)
        host.start()
        host.end(Came.unreachable(ErrorKind.CONNECT), limits, 0.0)
    rider = ListRun().leg(f"http://{HOSTS[0]}/")
    told: list[tuple[str, str]] = []
    forgiven: list[Host] = []
    for _ in range(exits.FAILURES):
        assert ride(rider, several, 0.0)
        rider.passage = Passage.FAILED
        forgiven += leave_exit(rider, several, hosts, told, 0.0)
    assert rider.exit is not None
    assert told == [("proxy rests", rider.exit.name)]
    assert {host.name for host in forgiven} == {name for name in HOSTS if several.home(name) is rider.exit}
    assert {host.name for host in hosts if host.trouble is None} == {host.name for host in forgiven}


@pytest.mark.parametrize(
    ("error", "passage"),
    [
        (None, Passage.THROUGH),
        (Cancelled("x"), Passage.UNKNOWN),
        (DeadlineExceeded("x"), Passage.UNKNOWN),
        (SystemExit(), Passage.UNKNOWN),
        (requests.exceptions.ProxyError("Cannot connect to proxy."), Passage.FAILED),
        (requests.exceptions.ProxyError(OSError("Tunnel connection failed: 503 No")), Passage.REFUSED),
        (requests.exceptions.ProxyError("CONNECT tunnel failed, response 403"), Passage.REFUSED),
        (requests.exceptions.ProxyError("CONNECT tunnel failed, response 407"), Passage.FAILED),
        (requests.exceptions.ProxyError(OSError("Tunnel connection failed: 407 Who")), Passage.FAILED),
        (requests.exceptions.ProxyError("cannot complete SOCKS5 connection to a.example. (4)"), Passage.REFUSED),
        (requests.ConnectionError(ConnectionResetError()), Passage.UNREACHED),
        (requests.ReadTimeout("x"), Passage.UNREACHED),
        (BodyStalled("x"), Passage.THROUGH),
        (requests.exceptions.SSLError("x"), Passage.THROUGH),
        (requests.exceptions.InvalidURL("x"), Passage.UNKNOWN),
    ],
)
def test_what_a_request_says_of_its_proxy(error: BaseException | None, passage: Passage) -> None:
    """Whether it came through, the proxy failed, or what lies behind it; a login that is wanted is the proxy's."""
    response = requests.Response()
    response.status_code = 503
    assert passage_of(None if error else response, error) is passage
