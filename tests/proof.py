"""The proof of politeness: a server that writes down, by its own clock, when each of its hosts was asked.

``python -m tests.proof`` crawls 200 hosts with 100,000 requests and mixed limits, while the server refuses now and then
with each form of ``Retry-After``, and counts what came too early and what was too much at once: both must be 0.
``--audit`` has ``crawlpool.audit`` judge the crawler's own log of it, too.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import dataclasses
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from typing import Any

from crawlpool import HostLimits, RetryPolicy, SessionPool
from crawlpool.audit import RecordedLeg, judge

CAP_S = 1.0
CRAWL_DELAY_S = 0.25
REFUSE_EACH = 29
REACTION_S = 0.25
#: Each form of Retry-After, and the seconds that it asks for.
FORMS: tuple[tuple[str | None, float], ...] = (
    ("1", 1.0),
    ("date", 1.0),  # written when it is sent; a date has whole seconds
    ("0", 0.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("-5", 1.0),  # no number of seconds: as without one
    ("soon", 1.0),
    ("99999999999999999999", CAP_S),
    (None, 1.0),
)
#: The limits of hosts in turn; ``None`` is robots.txt's Crawl-delay under four at once.
KINDS: tuple[HostLimits | None, ...] = (
    HostLimits(delay_s=0.02, max_cooldown_s=CAP_S),
    HostLimits(delay_s=0.1, max_cooldown_s=CAP_S),
    HostLimits(concurrency=1, max_cooldown_s=CAP_S),
    HostLimits(concurrency=3, max_cooldown_s=CAP_S),
    None,
)
_CRAWL_DELAYED = HostLimits(concurrency=4, max_cooldown_s=CAP_S)


@dataclasses.dataclass(frozen=True)
class Seen:
    """One request as the server saw it; ``closed_s`` is how long it asked to be left alone."""

    path: str
    came: float
    ended: float
    closed_s: float


class _Server(asyncio.Protocol):
    """A connection; HTTP/1.1 with keep-alive, one request at a time."""

    log: dict[str, list[Seen]]
    counts: dict[str, int]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.host = transport.get_extra_info("sockname")[0]
        self.head = b""
        self.came = 0.0

    def data_received(self, data: bytes) -> None:
        if not self.head:
            self.came = time.monotonic()
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            path = self.head.split(b" ", 2)[1].decode()
            self.head = b""
            asyncio.get_running_loop().call_later(0.002, self.answer, path, self.came)

    def answer(self, path: str, came: float) -> None:
        number = self.counts[self.host] = self.counts.get(self.host, 0) + 1
        status, headers, body, closed_s = "200 OK", "", b"x" * 100, 0.0
        if path == "/robots.txt":
            kind = KINDS[(int(self.host.rsplit(".", 1)[1]) - 1) % len(KINDS)]
            body = b"User-agent: *\nDisallow: /never\n"
            if kind is None:
                body += b"Crawl-delay: %.2f\n" % CRAWL_DELAY_S
        elif number % REFUSE_EACH == 0:
            form, closed_s = FORMS[number // REFUSE_EACH % len(FORMS)]
            status = "429 Too Many Requests" if number % 2 else "503 Service Unavailable"
            if form == "date":
                at = time.time() + 1.0
                form, closed_s = formatdate(at, usegmt=True), max(0.0, int(at) - time.time())
            headers = "" if form is None else f"Retry-After: {form}\r\n"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
        ended = time.monotonic()  # before the client can have the first byte of it
        self.transport.write(head + body)
        self.log.setdefault(self.host, []).append(Seen(path, came, ended, closed_s))


async def _serve(hosts: list[str], ends: Any) -> None:
    _Server.log, _Server.counts = {}, {}
    loop = asyncio.get_running_loop()
    first = await loop.create_server(_Server, hosts[0], 0, backlog=512)
    port = first.sockets[0].getsockname()[1]
    others = [await loop.create_server(_Server, host, port, backlog=512) for host in hosts[1:]]
    ends.send(port)
    await loop.run_in_executor(None, ends.recv)
    for server in (first, *others):
        server.close()
    ends.send({host: [dataclasses.astuple(one) for one in seen] for host, seen in _Server.log.items()})


def _run_server(hosts: list[str], ends: Any) -> None:
    asyncio.run(_serve(hosts, ends))


def breaches(seen: list[Seen], limits: HostLimits, reaction_s: float = REACTION_S) -> tuple[int, int]:
    """Return how many requests came too early, and how many were too much at once, by the server's clock alone.

    Where several may run at once, a refusal meets others that are under way, and takes its time to be read: what comes
    within ``reaction_s`` after it isn't counted there.
    """
    reaction_s = 0.0 if limits.concurrency == 1 else reaction_s
    early = crowded = 0
    by_end = sorted(seen, key=lambda one: one.ended)
    ends = [one.ended for one in by_end]
    by_arrival = sorted(seen, key=lambda one: one.came)
    arrivals = [one.came for one in by_arrival]
    free_from: list[float] = []  # after the first so many answers: when the next request may come
    latest = -1.0
    for one in by_end:
        latest = max(latest, one.ended + max(limits.delay_s, min(one.closed_s, limits.max_cooldown_s)))
        free_from.append(latest)
    for one in seen:
        before = bisect.bisect_right(ends, one.came - reaction_s)
        early += before > 0 and one.came < free_from[before - 1]
        # An answer takes far less than two seconds: who came earlier than that doesn't run any more.
        near = by_arrival[bisect.bisect_left(arrivals, one.came - 2.0) : bisect.bisect_right(arrivals, one.came)]
        running = sum(one.came < other.ended for other in near)
        crowded += limits.concurrency is not None and running > limits.concurrency
    return early, crowded


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Give a list that each leg is put into that is logged within this block: as text, as a log file has it.

    Text isn't the garbage collector's affair. A hundred thousand objects were: it held up the crawl for 0.2 to 0.3 s
    each time, and the hosts saw that.
    """
    legs: list[str] = []
    log, kept = logging.getLogger("crawlpool.leg"), logging.Handler()

    def keep(record: logging.LogRecord) -> None:
        fields = vars(record).items()
        legs.append(json.dumps({k: v for k, v in fields if isinstance(v, (str, int, float, type(None)))}))

    kept.emit = keep  # type: ignore[method-assign]
    before = log.level, log.propagate
    log.addHandler(kept)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield legs
    finally:
        log.removeHandler(kept)
        log.setLevel(before[0])
        log.propagate = before[1]


def legs_of(texts: Iterable[str]) -> Iterator[RecordedLeg]:
    """Read the legs back that were recorded."""
    for number, text in enumerate(texts):
        yield RecordedLeg.of(json.loads(text), number)


def main(host_count: int, total: int, transport: str, in_flight: int, reaction_s: float = REACTION_S) -> int:
    """Crawl, ask the server what it saw, and print it; return the number of breaches."""
    hosts = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(host_count)]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_run_server, args=(hosts, theirs), daemon=True)
    server.start()
    assert ours.poll(60), "the server didn't start"
    port = ours.recv()
    # Slow hosts get fewer: all of them shall be busy for about as long.
    weights = [{0: 4, 1: 1, 2: 12, 3: 20, 4: 0.5}[number % len(KINDS)] for number in range(host_count)]
    unit = total / sum(weights)
    begin = time.monotonic()
    limits: dict[str, HostLimits] = {}
    policy = RetryPolicy(attempts=6, backoff_s=0.01, max_retry_after_s=CAP_S, budget=None)
    options: dict[str, Any] = {"threads": 16, "transport": transport, "retry": policy}
    if transport == "curl":
        options["in_flight"] = in_flight
    with SessionPool(**options) as pool:
        urls: list[list[str]] = []
        for number, host in enumerate(hosts):
            limits[host] = KINDS[number % len(KINDS)] or _CRAWL_DELAYED
            pool.site(f"http://{host}:{port}", limits=limits[host])
            urls.append([f"http://{host}:{port}/{n}" for n in range(max(1, round(unit * weights[number])))])
        longest = max(map(len, urls))
        mixed = (mine[n * len(mine) // longest] for n in range(longest) for mine in urls if _is_turn(n, mine, longest))
        report = pool.crawl(mixed, limits=HostLimits(max_cooldown_s=CAP_S)).check()
    took_s = time.monotonic() - begin
    ours.send(None)
    log = {host: sorted((Seen(*one) for one in seen), key=lambda one: one.came) for host, seen in ours.recv().items()}
    server.join(10)
    early = crowded = 0
    for host, seen in log.items():
        held = limits[host]
        if held is _CRAWL_DELAYED:
            held = HostLimits(delay_s=CRAWL_DELAY_S, max_cooldown_s=CAP_S)
        found = breaches(seen, held, reaction_s)
        early, crowded = early + found[0], crowded + found[1]
    asked = sum(map(len, log.values()))
    refused = sum(one.closed_s > 0 for seen in log.values() for one in seen)
    print(
        f"{asked:,} requests to {len(log)} hosts in {took_s:.1f} s ({asked / took_s:,.0f}/s, {transport}): "
        f"{report.ok:,} ok, {refused:,} refusals; {early} too early, {crowded} too much at once"
    )
    return early + crowded + (report.ok != report.inputs)


def _is_turn(n: int, mine: list[str], longest: int) -> bool:
    return n == 0 or n * len(mine) // longest != (n - 1) * len(mine) // longest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--transport", choices=["urllib3", "curl"], default="curl")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--audit", action="store_true")
    given = parser.parse_args()
    with recorded() if given.audit else contextlib.nullcontext([]) as legs:
        wrong = main(given.hosts, given.requests, given.transport, given.in_flight)
    if given.audit:
        found = judge(legs_of(legs))
        print(f"audit: {found.legs:,} legs, {found.hosts} hosts, {found.breach_count} breaches; {found.tallies}")
        wrong += found.breach_count
    sys.exit(1 if wrong else 0)
