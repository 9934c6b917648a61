"""Answers with changed bytes, in great numbers: nothing crashes or hangs, and no byte of one is found in another's.

``python -m tests.fuzz`` (``tox -e fuzz``) asks a server on loopback for 50,000 of them over each transport, by ``map``,
by ``get`` in threads of its own and by ``crawl``, and prints how they ended. ``tests/transport/test_fuzz.py`` holds a
short run of the same. What fails is printed with its bytes; ``--seed S --only N`` asks for it alone.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import functools
import random
import re
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import requests

from crawlpool import Result, SessionPool, Target
from crawlpool.errors import ErrorKind, kind_of
from tests.mutants import Case, case_of, key_of

_KEY = re.compile(r"[0-9a-f]{16}")
_GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
_NONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, by RST
_IDLE_S = 0.03
_DEADLINE_S = 20.0


class Server:
    """Answers each request with its case's bytes, all in one thread; a connection that it keeps it closes when idle.

    A request is told by its path: ``/number/key/hop``. What isn't one of the cases is answered soundly.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._end = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._heads: dict[socket.socket, bytes] = {}
        self._idle_until: collections.OrderedDict[socket.socket, float] = collections.OrderedDict()
        self._thread = threading.Thread(target=self._run, name="fuzz-server")

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Server:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._end, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for sock in [*self._heads, self._listener, self._wake, self._end]:
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for found, _ in self._selector.select(_IDLE_S if self._idle_until else None):
                sock: Any = found.fileobj
                if sock is self._end:
                    return
                if sock is self._listener:
                    connection, _ = self._listener.accept()
                    connection.settimeout(5)
                    self._heads[connection] = b""
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    self._read(sock)
            now = time.monotonic()
            while self._idle_until and next(iter(self._idle_until.values())) < now:
                self._close(next(iter(self._idle_until)))

    def _read(self, sock: socket.socket) -> None:
        self._idle_until.pop(sock, None)
        try:
            piece = sock.recv(65536)
        except OSError:
            piece = b""
        if not piece:
            self._close(sock)
            return
        head = self._heads[sock] + piece
        if b"\r\n\r\n" not in head:
            self._heads[sock] = head
            return
        self._heads[sock] = b""
        answer, ends_by = self._answer(head.split(b" ", 2)[1].decode("latin-1"))
        try:
            sock.sendall(answer)
            if ends_by == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            ends_by = "close"
        if ends_by == "keep":
            self._idle_until[sock] = time.monotonic() + _IDLE_S
        else:
            self._close(sock)

    def _answer(self, path: str) -> tuple[bytes, str]:
        if path == "/good":
            return _GOOD, "keep"
        parts = path.split("/")
        if len(parts) == 4 and parts[1].isdigit() and parts[3].isdigit() and len(parts[1] + parts[3]) < 20:
            number, hop = int(parts[1]), int(parts[3])
            if key_of(self.seed, number) == parts[2]:
                case = case_of(self.seed, number)
                return case.answers[min(hop, len(case.answers) - 1)], case.ends_by
        return _NONE, "keep"

    def _close(self, sock: socket.socket) -> None:
        self._idle_until.pop(sock, None)
        if self._heads.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()


@dataclasses.dataclass
class Report:
    """What a fuzz saw: how many ended how, and what must not be, each with the bytes that made it so."""

    ended: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def add(self, seed: int, case: Case, why: str) -> None:
        """Note that a case went wrong."""
        shown = ", ".join(repr(answer[:3000]) for answer in case.answers)
        self.wrong.append(f"--seed {seed} --only {case.number}: {why}; {case.method}, then {case.ends_by}: {shown}")

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.ended.most_common())
        return f"{self.ended.total():,} in {self.seconds:.1f} s: {counts}"


@contextlib.contextmanager
def nothing_resolves() -> Iterator[None]:
    """Let no name resolve within this block, and no address be looked up but loopback's: whatever a Location says."""
    real = socket.getaddrinfo

    @functools.wraps(real)
    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, "no name resolves here")
        return real(host, *args, **kwargs)

    socket.getaddrinfo = lookup  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = real


def fuzz(transport: str, seed: int, numbers: Sequence[int], way: str = "map") -> Report:
    """Ask for cases over a transport in one of the ways; return what was seen."""
    report = Report()
    started = time.monotonic()
    more: dict[str, Any] = {} if transport == "urllib3" else {"in_flight": 64}
    with (
        nothing_resolves(),
        Server(seed) as server,
        SessionPool(
            threads=8,
            transport=transport,
            retry=False,
            trust_env=False,
            timeout=(5, 5),
            max_body_bytes=1 << 20,
            max_redirects=5,
            **more,
        ) as pool,
    ):
        _good(pool, server, report, "before")
        workers = _workers()
        seen: collections.Counter[int] = collections.Counter()
        for number, how, faults in _ASK[way](pool, server, numbers):
            seen[number] += 1
            report.ended[how] += 1
            for why in faults:
                report.add(seed, case_of(seed, number), why)
        for number in numbers:
            if seen[number] != 1:
                report.add(seed, case_of(seed, number), f"{seen[number]} results")
        _good(pool, server, report, "after")
        if not workers <= _workers():
            report.wrong.append(f"--seed {seed}: threads were lost: {sorted(workers - _workers())}")
    report.seconds = time.monotonic() - started
    return report


def _workers() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("crawlpool-")}


def _good(pool: SessionPool, server: Server, report: Report, when: str) -> None:
    """Have each worker fetch something sound."""
    results = [result.is_ok for result in pool.map([server.url("/good")] * 32)]
    if results != [True] * 32 or pool.get(server.url("/good")).content != b"good":
        report.wrong.append(f"the pool doesn't work {when}")


Judged: TypeAlias = tuple[int, str, list[str]]


def _targets(server: Server, numbers: Sequence[int]) -> Iterator[Target]:
    for number in numbers:
        case = case_of(server.seed, number)
        yield Target(server.url(case.path), case.method, meta={"n": number})


def _by_map(pool: SessionPool, server: Server, numbers: Sequence[int]) -> Iterator[Judged]:
    for result in pool.map(_targets(server, numbers), deadline=_DEADLINE_S):
        yield judged(server.seed, result.target.meta["n"], result.response, result.error)


def _by_crawl(pool: SessionPool, server: Server, numbers: Sequence[int]) -> Iterator[Judged]:
    found: list[Judged] = []

    def take(result: Result) -> None:
        found.append(judged(server.seed, result.target.meta["n"], result.response, result.error))

    report = pool.crawl(_targets(server, numbers), on_result=take, deadline=_DEADLINE_S, max_body_bytes=1 << 20)
    assert report.is_balanced
    yield from found


def _by_get(pool: SessionPool, server: Server, numbers: Sequence[int]) -> Iterator[Judged]:
    def get(number: int) -> Judged:
        case = case_of(server.seed, number)
        try:
            url, stream = server.url(case.path), number % 4 == 0
            with pool.request(case.method, url, deadline=_DEADLINE_S, stream=stream) as response:
                response.content  # noqa: B018 - reads the body
        except Exception as error:
            return judged(server.seed, number, None, error)
        return judged(server.seed, number, response, None)

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        yield from executor.map(get, numbers)


_ASK: dict[str, Callable[[SessionPool, Server, Sequence[int]], Iterator[Judged]]] = {
    "map": _by_map,
    "get": _by_get,
    "crawl": _by_crawl,
}


def judged(seed: int, number: int, response: Any, error: BaseException | None) -> Judged:
    """Return how a case ended, and what is wrong with that."""
    return number, _how(response, error), list(_faults(seed, case_of(seed, number), response, error))


def _how(response: Any, error: BaseException | None) -> str:
    if error is not None:
        return str(kind_of(error))
    return "ok" if response.status_code < 400 else "http_error"


def _faults(seed: int, case: Case, response: Any, error: BaseException | None) -> Iterator[str]:
    """Yield what is wrong with how a case ended."""
    if error is not None:
        if not isinstance(error, requests.RequestException) or kind_of(error) is ErrorKind.INTERNAL:
            yield f"ended as {error!r}"
        elif kind_of(error) in (ErrorKind.DEADLINE, ErrorKind.TIMEOUT):
            yield f"took too long: {error!r}"
    said = repr(error) if response is None else _said(response)
    strange = {key for key in _KEY.findall(said) if key != case.key and key in _keys(seed)}
    if strange:
        yield f"holds what belongs to {sorted(strange)}"
    is_sound = response is not None and (response.status_code, response.content) == case.expected
    if case.expected is not None and not is_sound:
        yield f"is sound, and ended as {error!r}, {response!r}"


def _said(response: requests.Response) -> str:
    parts = [*response.history, response]
    bodies = [one.content if one is response else one._content or b"" for one in parts]  # a hop's may be unread
    heads = [f"{one.status_code} {one.reason} {dict(one.headers)}" for one in parts]
    return " ".join([*heads, *(body.decode("latin-1") for body in bodies)])


@functools.cache
def _keys(seed: int) -> frozenset[str]:
    return frozenset(key_of(seed, number) for number in range(_MOST_CASES))


_MOST_CASES = 100_000


def main() -> None:
    """Fuzz as asked, print what was seen, and end with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--count", type=int, default=50_000, help="cases for each transport by map; a tenth by the rest"
    )
    parser.add_argument("--only", type=int, help="ask for this case alone, in each way")
    parser.add_argument("--transport", choices=("curl", "urllib3", "both"), default="both")
    given = parser.parse_args()
    faulthandler.dump_traceback_later(3600, exit=True)
    wrong = 0
    for transport in ("urllib3", "curl") if given.transport == "both" else (given.transport,):
        for way in _ASK:
            count = given.count if way == "map" else given.count // 10
            numbers = range(count) if given.only is None else (given.only,)
            report = fuzz(transport, given.seed, numbers, way)
            print(f"{transport} {way}, seed {given.seed}: {report}", flush=True)
            for line in report.wrong[:20]:
                print(f"  {line}", flush=True)
            wrong += len(report.wrong)
    faulthandler.cancel_dump_traceback_later()
    print(f"{wrong} wrong")
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
