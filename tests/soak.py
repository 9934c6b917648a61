"""The curl transport at full speed for a long time: does memory stay where it is, and is nothing left at the end?

``python -m tests.soak --seconds 600`` (``tox -e soak``) fetches small and large pages, uploads, streams and errors from
nginx on loopback, and prints what it saw. ``tests/test_soak.py`` holds a short run of the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import os
import pathlib
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from crawlpool import SessionPool, Target
from crawlpool.testing.nginx import nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGES = {"small.html": 300, "page.html": 20_000, "large.html": 300_000}
_EXTRA = "location = /gone { return 404; } location = /busy { return 503; } gzip on; gzip_types text/html;"


@dataclasses.dataclass(frozen=True)
class Soaked:
    """What a soak saw.

    Args:
        seconds: how long it ran.
        settled: targets that have their result.
        outcomes: how many ended how.
        early_bytes, late_bytes: the process's resident memory: the most of the second tenth, and of the last tenth.
        descriptors, threads: how many more are open, and run, after the pool was closed than before it was made.
    """

    seconds: float
    settled: int
    outcomes: dict[str, int]
    early_bytes: int
    late_bytes: int
    descriptors: int
    threads: int

    @property
    def drift_bytes(self) -> int:
        """How much memory grew."""
        return self.late_bytes - self.early_bytes


def soak(seconds: float, *, in_flight: int = 64, transport: str = "curl") -> Soaked:
    """Fetch for so many seconds, everything in turn; at most ten million targets."""
    with tempfile.TemporaryDirectory(prefix="crawlpool-soak-") as name:
        root = pathlib.Path(name) / "pages"
        root.mkdir()
        for page, size in _PAGES.items():
            (root / page).write_text("x" * size, "ascii")
        with nginx(root, extra=_EXTRA) as server:
            return _soak(server.url("/"), seconds, in_flight, transport)


def _soak(base: str, seconds: float, in_flight: int, transport: str) -> Soaked:
    descriptors, threads = _descriptors(), threading.active_count()
    outcomes: dict[str, int] = {}
    memory: list[tuple[float, int]] = []
    start = time.monotonic()
    more = {} if transport == "urllib3" else {"in_flight": in_flight}
    with SessionPool(threads=4, transport=transport, retry=False, **more) as pool:  # type: ignore[arg-type]
        for number, result in enumerate(pool.map(_targets(base, start + seconds))):
            outcomes[result.outcome.value] = outcomes.get(result.outcome.value, 0) + 1
            if number % 5000 == 0:
                memory.append((time.monotonic() - start, _resident_bytes()))
                with pool.get(f"{base}large.html", stream=True) as streamed:
                    next(streamed.iter_content(1000))  # and the rest of it is given up
    elapsed = time.monotonic() - start
    gc.collect()
    early = [size for at, size in memory if elapsed * 0.1 <= at < elapsed * 0.2]
    late = [size for at, size in memory if at >= elapsed * 0.9]
    return Soaked(
        round(elapsed, 1),
        sum(outcomes.values()),
        outcomes,
        max(early or [memory[0][1]]),
        max(late or [memory[-1][1]]),
        _descriptors() - descriptors,
        threading.active_count() - threads,
    )


def _targets(base: str, until: float) -> Iterator[Target]:
    kinds = ("small.html", "page.html", "page.html", "gone", "page.html", "large.html", "busy", "page.html")
    for number in itertools.islice(itertools.count(), 10_000_000):
        if time.monotonic() >= until:
            return
        url = f"{base}{kinds[number % len(kinds)]}?{number}"
        yield Target(url, "POST", data=b"x" * 100) if number % 50 == 49 else Target(url)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    """Soak for as long as asked, print what was seen, and end with 1 when memory drifted or something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--transport", default="curl", choices=("curl", "urllib3"))
    given = parser.parse_args()
    seen = soak(given.seconds, in_flight=given.in_flight, transport=given.transport)
    print(
        f"{seen.settled:,} targets in {seen.seconds:,} s ({seen.settled / seen.seconds:,.0f}/s): {seen.outcomes}; "
        f"memory {seen.early_bytes / 2**20:.1f} → {seen.late_bytes / 2**20:.1f} MiB, drift "
        f"{seen.drift_bytes / 2**20:+.1f} MiB; left over: {seen.descriptors} descriptors, {seen.threads} threads"
    )
    sys.exit(int(seen.drift_bytes > 5 * 2**20 or seen.descriptors > 0 or seen.threads > 0))


if __name__ == "__main__":
    main()
