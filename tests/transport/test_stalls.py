"""Stalls wherever an exchange can stall: each request ends by its deadline, and the thread that asked is free again."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from crawlpool import AddressRules, DeadlineExceeded, SessionPool, Target
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.transport.connecting import interleaved, places_of, until_for
from crawlpool.transport.curl import library
from crawlpool.transport.resolver import Resolver
from tests.gates import PATIENCE_S, Threads, until
from tests.kit import RawServer
from tests.stalling import KINDS, Stalls
from tests.stalls import MODES, many, one, planned, pool_over

TRANSPORTS = ["urllib3", *(["curl"] if library.is_installed() else [])]
#: What a machine that others use as well may take its time for. The long form grants a second and no more.
LATE_S = 5.0


def test_requests_that_stall_end_by_their_deadlines() -> None:
    """60 trials, at random: each ends in time and as what it was, and the next page comes."""
    trials = many(66, random.SystemRandom().randrange(1 << 32), at_once=16, transports=TRANSPORTS, say=print)
    assert len(trials) == 66
    late = [trial for trial in trials if trial.over_s > LATE_S or trial.after_s > LATE_S]
    early = [trial for trial in trials if trial.over_s < -0.05 and not trial.may_be_early]
    assert not late + early, "\n".join(map(str, late + early))
    assert not [trial for trial in trials if not trial.is_good and trial.over_s <= 1.0]


def test_trials_are_of_every_kind() -> None:
    """A thousand of them have each kind over each transport, and each mode."""
    plans = list(planned(1000, 1, ["urllib3", "curl"]))
    assert {(transport, kind) for transport, _, kind, _ in plans} == {
        (transport, kind) for transport in ("urllib3", "curl") for kind in KINDS
    }
    assert {mode for _, mode, _, _ in plans} == set(MODES)
    assert all(0.2 <= deadline_s <= 1.0 for *_, deadline_s in plans)


@pytest.mark.transports()
def test_lookups_that_never_return_hold_no_caller_and_few_threads(certificates: Certificates, transport: str) -> None:
    """Twenty names that are never found: all callers are let go, eight threads are held, and an address still works."""
    stalls = Stalls(certificates)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pool_over(transport, stalls, certificates.authority, 4))
        stack.enter_context(stalls)
        with Threads() as threads:
            for _ in range(20):
                threads.start(lambda: _late(pool, stalls))
        held = [thread for thread in threading.enumerate() if thread.name.startswith("crawlpool-resolver")]
        assert len(held) == 8
        assert pool.get(stalls.good(), deadline=PATIENCE_S).content == b"good"


def _late(pool: SessionPool, stalls: Stalls) -> None:
    with pytest.raises(DeadlineExceeded):
        pool.get(stalls.ask("name", random.Random()).url, deadline=0.3)


@pytest.mark.transports()
def test_an_abort_ends_a_stalled_request(certificates: Certificates) -> None:
    """A worker that waits for bytes is free at once when its future is aborted."""
    with contextlib.ExitStack() as stack:
        stalls = Stalls(certificates)
        pool = stack.enter_context(SessionPool(threads=1, retry=False, trust_env=False, timeout=PATIENCE_S))
        stack.enter_context(stalls)
        future = pool.submit("GET", stalls.ask("header drips", _Plain()).url)
        until(future.running)  # one that is taken and not begun yet is cancelled, like one that waits
        future.abort()
        assert kind_of(future.exception(PATIENCE_S) or ValueError()) is ErrorKind.CANCELLED
        assert pool.submit("GET", stalls.good()).result(PATIENCE_S).ok


class _Plain(random.Random):
    """Chance that always takes the first."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


@pytest.mark.parametrize("mode", ["get", "download"])
@pytest.mark.transports()
def test_a_stall_without_a_deadline_ends_by_the_read_timeout(
    certificates: Certificates, mode: str, transport: str
) -> None:
    """A body that stops is late for the read timeout; a stream's, too, for which the deadline is over."""
    with contextlib.ExitStack() as stack:
        stalls = Stalls(certificates)
        pool = stack.enter_context(pool_over(transport, stalls, certificates.authority, 1))
        stack.enter_context(stalls)
        url = stalls.ask("body stops", _Plain()).url
        with pytest.raises(requests.exceptions.RequestException) as caught:
            if mode == "get":
                pool.get(url, timeout=(5, 0.2), deadline=None)
            else:
                with pool.get(url, timeout=(5, 0.2), deadline=PATIENCE_S, stream=True) as response:
                    assert response.content
        assert kind_of(caught.value) is ErrorKind.TIMEOUT


# One connect timeout for everything ----------------------------------------------------------------------------------


@pytest.mark.transports("urllib3")  # libcurl connects by itself
def test_mute_addresses_share_one_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take half of what is left, the last one all of it: eight take as long as one, and all are tried."""
    given: list[tuple[str, float]] = []

    def connect(self: socket.socket, address: Any) -> None:
        given.append((address[0], self.gettimeout() or 0.0))
        raise TimeoutError("timed out")

    addresses = [f"192.0.2.{number}" for number in range(1, 9)]
    with SessionPool(retry=False, trust_env=False, addresses=AddressRules("allow")) as pool:
        assert pool._shared.resolver is not None
        pool._shared.resolver._lookup = lambda host, port: addresses
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", connect)
            with pytest.raises(requests.ConnectTimeout):
                pool.get("http://dead.example/", timeout=(8, 5))
        assert [address for address, _ in given] == addresses
        shares = [share for _, share in given]
        assert shares[0] <= 4.0 and all(share <= 4.001 for share in shares[1:7]) and shares[7] <= 8.0
        assert pool.statistics().connections_open == 0


@pytest.mark.transports()
def test_a_mute_address_does_not_keep_the_next_from_being_tried(transport: str) -> None:
    """The first takes no connection, the second answers: well within the connect timeout of both."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        stack.enter_context(SiteServer({"/": b"second"}, hosts="127.0.0.2", port=port))
        pool = stack.enter_context(
            SessionPool(retry=False, trust_env=False, transport=transport, addresses=AddressRules("allow"))
        )
        assert pool._shared.resolver is not None
        pool._shared.resolver._lookup = lambda host, port: ["127.0.0.1", "127.0.0.2"]
        assert pool.get(f"http://two.example:{port}/", timeout=(1.5, 30), deadline=60).content == b"second"


def test_a_share_is_half_until_the_last() -> None:
    """Of what is left; all of it for the last; never less than nothing, and no limit stays none."""
    assert until_for(None, 3, 10.0) is None
    assert until_for(18.0, 0, 10.0) == 18.0
    assert until_for(18.0, 1, 10.0) == until_for(18.0, 7, 10.0) == 14.0
    assert until_for(9.0, 1, 10.0) == 10.0


def test_families_take_turns() -> None:
    """The first family's first address first, then the other's; eight in all, each once (RFC 8305 4)."""
    six = [(socket.AF_INET6, 1, 6, (f"2001:db8::{n}", 80, 0, 0)) for n in range(6)]
    four = [(socket.AF_INET, 1, 6, (f"192.0.2.{n}", 80)) for n in range(6)]
    found = interleaved([*six, *four])
    assert found == [six[0], four[0], six[1], four[1], six[2], four[2], six[3], four[3]]
    assert interleaved([*four[:1], *six]) == [four[0], *six]
    assert interleaved([]) == []


def test_places_are_the_resolvers_addresses() -> None:
    """Text becomes what ``connect`` takes, an IPv6 scope included; too late is a ``TimeoutError``."""
    resolver = Resolver(lookup=lambda host, port: ["192.0.2.1", "2001:db8::1", "fe80::1%lo"])
    try:
        four, six, local = places_of("a.test", 80, resolver, time.monotonic() + PATIENCE_S)
        assert four == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("192.0.2.1", 80))
        assert six == (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("2001:db8::1", 80, 0, 0))
        assert local[3][3] == socket.if_nametoindex("lo")
        with pytest.raises(TimeoutError):
            places_of("b.test", 80, resolver, time.monotonic() - 1)
    finally:
        resolver.close()


# Who else waits ------------------------------------------------------------------------------------------------------


@pytest.mark.transports()
def test_a_crawl_goes_on_beside_hosts_that_stall(certificates: Certificates, transport: str) -> None:
    """Two workers, four targets that stall and four that don't: the books balance, and each has its outcome."""
    with contextlib.ExitStack() as stack:
        stalls = Stalls(certificates)
        pool = stack.enter_context(pool_over(transport, stalls, certificates.authority, 2))
        stack.enter_context(stalls)
        chance = random.Random()
        kinds = ("name", "header drips", "body drips", "TLS says nothing")
        bad = [stalls.ask(kind, chance).url for kind in kinds]
        good = [f"{stalls.good()}?{number}" for number in range(4)]
        ended: dict[str, str] = {}
        report = pool.crawl(
            [Target(url) for pair in zip(bad, good, strict=True) for url in pair],
            lambda result, _: ended.__setitem__(result.target.url, str(result.error_kind)),
            robots=False,
            deadline=0.3,
            limits=None,
        )
        assert (report.ok, report.failed) == (4, 4)
        assert {ended[url] for url in bad} == {"deadline"}


@pytest.fixture
def slow_proxy() -> Iterator[RawServer]:
    """A SOCKS proxy that drips its answer and never ends it."""
    server: RawServer

    def script(connection: socket.socket, _: int) -> None:
        connection.recv(4096)
        connection.sendall(b"\x05\x00\x05\x00\x00\x03\xff")
        while not server.shutdown.wait(1.0):  # 255 of them are to come
            connection.sendall(b"a")

    server = RawServer(script)
    with server:
        yield server


@pytest.mark.transports()
def test_closing_a_pool_ends_who_talks_to_a_socks_proxy(slow_proxy: RawServer) -> None:
    """The socket is known while the proxy is talked to: nobody waits for its timeout."""
    proxies = {"http": f"socks5h://127.0.0.1:{slow_proxy.port}"}
    pool = SessionPool(retry=False, trust_env=False, timeout=PATIENCE_S, deadline=None)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            pool.get("http://far.test/", proxies=proxies)
        except Exception as error:
            failed.append(error)

    with Threads() as threads:
        threads.start(ask)
        while not slow_proxy.connections:
            time.sleep(0.001)
        pool.close()
    assert [kind_of(error) for error in failed] == [ErrorKind.CANCELLED]


def test_one_trial_of_each_mode_is_told_apart(certificates: Certificates) -> None:
    """A trial that ends as something else, or late, isn't good."""
    with contextlib.ExitStack() as stack:
        stalls = Stalls(certificates)
        pool = stack.enter_context(pool_over("urllib3", stalls, certificates.authority, 1))
        stack.enter_context(stalls)
        trial = one(pool, stalls, "urllib3", "get", "header drips", 0.2, random.Random())
    assert trial.ended_as == "deadline"
    assert not dataclasses.replace(trial, took_s=1.21).is_good
    assert not dataclasses.replace(trial, ended_as="no error").is_good
