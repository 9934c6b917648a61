"""File descriptors run out: what needs one waits, is tried again, and blames nobody; in the end there is an end."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import shortage
from crawlpool.errors import ErrorKind, NoDescriptors, OutOfMemory, kind_of
from crawlpool.limits import HostLimits
from crawlpool.politeness import UNSENT
from crawlpool.settle import came_from
from crawlpool.shortage import FIRST_S, GIVE_UP_S, LAST_S, TOLD_S, Shortage, again_s, is_starved, shortage_in
from tests.cli.command import PATIENCE_S, environment, finish, start
from tests.kit import HandClock, RawServer, answering

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of descriptors, as Linux has them")


# What it is ----------------------------------------------------------------------------------------------------------


def test_a_want_of_descriptors_is_found_however_it_is_wrapped() -> None:
    """Of the process or the system; another error is none."""
    for number in (errno.EMFILE, errno.ENFILE):
        inner = OSError(number, os.strerror(number))
        wrapped = requests.ConnectionError(requests.exceptions.RequestException(inner))
        assert shortage_in(inner) is inner is shortage_in(wrapped)
    assert shortage_in(requests.ConnectionError(OSError(errno.ECONNREFUSED, "no"))) is None
    assert shortage.shortage_now() is None


def test_it_is_connect_and_memory_is_internal() -> None:
    """Each has its kind, and neither says anything of the host."""
    assert kind_of(NoDescriptors("none")) is ErrorKind.CONNECT
    assert kind_of(OutOfMemory("none")) is ErrorKind.INTERNAL is kind_of(MemoryError())
    assert came_from(None, NoDescriptors("none"), HostLimits(), 0.0) is UNSENT


def test_only_the_request_itself_is_starved() -> None:
    """What a hook asked for in vain doesn't have the request sent again that the hook is of."""
    mine, other = (
        requests.Request("POST", "http://a.test/").prepare(),
        requests.Request("GET", "http://b.test/").prepare(),
    )
    assert is_starved(NoDescriptors("none", request=mine), mine)
    assert not is_starved(NoDescriptors("none", request=other), mine)
    assert not is_starved(None, mine) and not is_starved(OSError(errno.EMFILE, "none"), mine)


@given(st.integers(0, 10_000))
def test_the_waits_grow_to_a_bound(times: int) -> None:
    """Doubled each time, never less than the first and never more than the last."""
    assert FIRST_S <= again_s(times) <= again_s(times + 1) <= LAST_S
    assert again_s(0) == FIRST_S


def test_it_lasts_until_something_else_comes_of_a_request() -> None:
    """Its time begins with the first failure; it is told once a minute; and after a minute it is hopeless."""
    clock = HandClock()
    short = Shortage(clock)
    assert not short.is_on and short.lasted_s() == 0.0
    assert short.met()
    clock.tick(TOLD_S - 1)
    assert not short.met()
    assert short.is_on and short.lasted_s() == TOLD_S - 1 and not short.is_hopeless()
    short.passed()
    assert not short.is_on and short.lasted_s() == 0.0
    clock.tick(1)
    assert short.met()
    clock.tick(GIVE_UP_S)
    assert short.is_hopeless()


# In a process that has few -------------------------------------------------------------------------------------------

_FEW = """
import json, logging, os, resource, sys, threading, time
from crawlpool import SessionPool, shortage
from crawlpool.errors import kind_of
url, transport, tls = sys.argv[1:4]
told = []
class Told(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.getLogger("crawlpool").addHandler(Told())
def limit(more):
    # The lowest number that is free, and so many from there on.
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + more, 4096))
held = []
def hold():
    # All that are left.
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
def let_go():
    while held:
        os.close(held.pop())
pool = SessionPool(threads=6, transport=transport, trust_env=False, retry=False, timeout=20, verify=tls or True)
"""


def few(server: str, transport: str, code: str, tls: str = "") -> dict[str, object]:
    """Run code in a process that may have few descriptors; return the JSON that it prints."""
    program = _FEW + textwrap.dedent(code)
    command = [sys.executable, "-W", "error", "-c", program, server, transport, tls]
    ended = subprocess.run(command, capture_output=True, env=environment(), timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    found: dict[str, object] = json.loads(ended.stdout)
    assert ended.stderr == b"", ended.stderr.decode()
    return found


@linux
@pytest.mark.transports()
def test_a_map_goes_on_when_descriptors_come_free(transport: str) -> None:
    """None is left when it begins: all is put back, uncounted, one warning says so, and then all is fetched."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as server:
        found = few(
            server.url(),
            transport,
            """
            limit(12)
            hold()
            threading.Timer(0.8, let_go).start()
            results = list(pool.map([f"{url}?{n}" for n in range(20)]))
            pool.close()
            print(json.dumps({
                "outcomes": sorted({str(r.outcome.value) for r in results}),
                "attempts": sorted({r.attempts for r in results}),
                "told": told,
            }))
            """,
        )
    assert (found["outcomes"], found["attempts"]) == (["ok"], [1])
    assert [line for line in found["told"] if "descriptor" in line] == found["told"]  # type: ignore[union-attr]
    assert len(found["told"]) == 1  # type: ignore[arg-type]


@linux
@pytest.mark.transports()
def test_a_verb_waits_until_its_deadline(transport: str) -> None:
    """It raises then, and the next one, for which there is a descriptor, is answered in the same thread."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as server:
        found = few(
            server.url(),
            transport,
            """
            limit(12)
            hold()
            started = time.monotonic()
            try:
                pool.get(url, deadline=0.6)
            except Exception as error:
                kind, took = kind_of(error).value, time.monotonic() - started
            let_go()
            body = pool.get(url, deadline=20).text
            pool.close()
            print(json.dumps({"kind": kind, "took": took, "body": body}))
            """,
        )
    assert (found["kind"], found["body"]) == ("deadline", "ok")
    assert 0.5 < found["took"] < 6.0  # type: ignore[operator]


@linux
@pytest.mark.transports()
def test_what_waits_for_a_descriptor_fails_in_the_end(transport: str) -> None:
    """Where none comes free for long each target ends as ``connect``, with no attempt counted, and the map ends."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as server:
        found = few(
            server.url(),
            transport,
            """
            limit(12)
            hold()
            shortage.GIVE_UP_S = 0.5
            results = list(pool.map([f"{url}?{n}" for n in range(8)]))
            starved = pool.starved_s
            let_go()
            pool.close()
            print(json.dumps({"kinds": sorted({r.error_kind.value for r in results}), "starved": starved}))
            """,
        )
    assert found["kinds"] == ["connect"]
    assert found["starved"] > 0.4  # type: ignore[operator]


@linux
@pytest.mark.transports()
def test_a_crawl_of_names_goes_on_with_few_descriptors(transport: str) -> None:
    """Six requests at once and descriptors for three: the name is found and all is fetched; no host is blamed."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")) as server:
        found = few(
            server.url(),
            transport,
            """
            from crawlpool import HostLimits
            list(pool.map([url]))
            limit(3)
            port = url.rpartition(":")[2].strip("/")
            urls = [f"http://{('127.0.0.1', 'localhost')[n % 2]}:{port}/{n}" for n in range(40)]
            ended = []
            report = pool.crawl(urls, lambda result, _: ended.append(result.attempts), robots=False,
                                limits=HostLimits(concurrency=8, connect_failures=1))
            pool.close()
            print(json.dumps({"ok": report.ok, "attempts": sorted(set(ended))}))
            """,
        )
    assert found == {"ok": 40, "attempts": [1]}


@linux
@pytest.mark.transports()
def test_a_ca_bundle_that_cannot_be_opened_is_tried_again(transport: str, certificates: object) -> None:
    """TLS needs a file before it needs a socket: that it can't be opened for now is no failure of the host's."""
    with RawServer(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        tls=certificates.server_context(),  # type: ignore[attr-defined]
    ) as server:
        found = few(
            server.url(),
            transport,
            """
            limit(12)
            hold()
            threading.Timer(0.5, let_go).start()
            print(json.dumps({"body": pool.get(url, deadline=30).text}))
            pool.close()
            """,
            tls=str(certificates.authority),  # type: ignore[attr-defined]
        )
    assert found == {"body": "ok"}


_STARVED = """
import os, resource
import crawlpool.cli.run as run
run.STARVED_S = 0.5
begin = run._Conductor._run_crawl
def limited(self):
    for name in ("encodings.idna", "structlog"):
        __import__(name)
    probe = os.dup(0)
    os.close(probe)
    self._pool._watchdog.ensure_running()
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, probe))
    begin(self)
run._Conductor._run_crawl = limited
"""


@linux
@pytest.mark.above_transports
def test_a_command_without_descriptors_ends_with_3(transport: str) -> None:
    """After some time without any progress: one line, which says what helps, and code 3."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as server:
        arguments = ["run", server.url(), "--transport", transport, "--progress", "none", "-q", "--grace", "1"]
        code, out, err = finish(start(arguments, before=_STARVED, stdin=subprocess.DEVNULL))
    lines = [line for line in err.splitlines() if "descriptor" in line]
    assert code == 3, (out, err)
    assert any("ulimit -n" in line for line in lines), err


# What else runs out --------------------------------------------------------------------------------------------------


@pytest.mark.transports()
def test_a_body_without_memory_is_its_targets_failure(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind ``internal``, once; the workers go on with the others."""
    import crawlpool.transport.reading as reading
    from crawlpool import SessionPool
    from crawlpool.transport.curl.library import is_installed

    assert is_installed() or transport == "urllib3"
    whole = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    import gzip

    packed = gzip.compress(b"x" * 1000)
    decode = reading.decode_body

    def no_memory(*args: object, **kwargs: object) -> object:
        raise MemoryError

    with RawServer(answering(whole % (len(packed), packed))) as server:
        with SessionPool(threads=2, trust_env=False) as pool, monkeypatch.context() as patch:
            patch.setattr(reading, "decode_body", no_memory)
            bad = list(pool.map([server.url(f"/{n}") for n in range(5)]))
            patch.setattr(reading, "decode_body", decode)
            good = list(pool.map([server.url(f"/{n}") for n in range(5)]))
    assert {str(result.error_kind) for result in bad} == {"internal"}
    assert [result.attempts for result in bad] == [1] * 5
    assert all(result.unwrap().content == b"x" * 1000 for result in good)


@linux
def test_a_lookup_for_want_of_a_descriptor_is_no_name_that_is_not_there() -> None:
    """The system says that there is no such name; the resolver says why, and keeps nothing of it."""
    found = few(
        "http://a.test/",
        "urllib3",
        """
        import socket
        resolver = pool._shared.resolver
        def lookup(host, port):
            if held:
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            return ["127.0.0.1"]
        resolver._lookup = lookup
        limit(3)
        hold()
        try:
            resolver.resolve("a.test", 80, 20)
        except OSError as error:
            number = error.errno
        let_go()
        print(json.dumps({"errno": number, "found": resolver.resolve("a.test", 80, 20)}))
        pool.close()
        """,
    )
    assert found == {"errno": errno.EMFILE, "found": ["127.0.0.1"]}
    assert not isinstance(OSError(errno.EMFILE, ""), socket.gaierror)
