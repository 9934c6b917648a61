"""The head of the line: the first hundred thousand lines are of one host that takes ten seconds for each answer.

``python -m tests.head_of_line`` crawls the other 99 hosts alone, and then with that host's lines before theirs, and
tells how long they took each time, and how much memory that needed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool import HostLimits, SessionPool
from tests.manyhosts import ManyHosts, addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.models import Result


class Others:
    """Counts the pages of the other hosts, and ends the crawl when all are there. Thread-safe."""

    is_quick = True

    def __init__(self, slow: str, wanted: int) -> None:
        self._slow = slow
        self._lock = threading.Lock()  # guards _left
        self._left = wanted
        self.done = threading.Event()

    def __call__(self, result: Result) -> None:
        if result.is_ok and f"//{self._slow}:" not in result.target.url:
            with self._lock:
                self._left -= 1
                if not self._left:
                    self.done.set()


def seconds(host_count: int, first: int, rest: int, delay_s: float, transport: str) -> float:
    """Return how long the other hosts' pages take.

    Args:
        host_count: hosts in all, of which one is slow.
        first: lines of the slow one, before all others.
        rest: lines of the others, in turn.
        delay_s: between an answer and the next request to a host.
        transport: what moves the bytes.
    """
    slow, *others = addresses(host_count)
    with ManyHosts([slow, *others], {slow: 10.0}) as hosts, pool_over(transport) as pool:

        def lines() -> Iterator[str]:
            for number in range(first):
                yield f"http://{slow}:{hosts.port}/{number}"
            for number in range(rest):
                yield f"http://{others[number % len(others)]}:{hosts.port}/{number}"

        counted = Others(slow, rest)
        crawl = pool.new_crawl(limits=HostLimits(delay_s=delay_s), on_result=counted, robots=False)
        began = time.monotonic()
        thread = threading.Thread(target=crawl.run, args=(lines(),))
        thread.start()
        assert counted.done.wait(600), crawl.progress()
        took_s = time.monotonic() - began
        crawl.stop()
        thread.join()
        return took_s


def pool_over(transport: str) -> SessionPool:
    """Return a pool with room for more than the one request that the slow host always has under way."""
    more: dict[str, Any] = {"in_flight": 64} if transport == "curl" else {}
    return SessionPool(threads=16 if more else 64, transport=transport, **more)


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(host_count: int, first: int, rest: int, delay_s: float, transport: str, rounds: int) -> float:
    """Measure both ways in turn and print it; return how many times as long it took behind the slow host's lines."""
    ratios = []
    for _ in range(rounds):
        alone_s = seconds(host_count, 0, rest, delay_s, transport)
        alone_mib = peak_mib()
        behind_s = seconds(host_count, first, rest, delay_s, transport)
        ratios.append(behind_s / alone_s)
        print(
            f"{rest:,} pages of {host_count - 1} hosts: {alone_s:.1f} s alone, {behind_s:.1f} s behind {first:,} lines "
            f"of a host that takes 10 s: {ratios[-1]:.2f} ×; peak memory {alone_mib:.0f} and {peak_mib():.0f} MiB",
            flush=True,
        )
    return statistics.median(ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--rest", type=int, default=100_000)
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("--transport", choices=["urllib3", "curl"], default="curl")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    sys.exit(main(given.hosts, given.first, given.rest, given.delay, given.transport, given.rounds) > 1.1)
