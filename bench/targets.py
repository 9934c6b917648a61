"""What a run must show: each target, its aim, and what was measured.

``python -m bench.targets [FILE]`` prints it for a run that was kept. Nothing is asserted here: a figure of a shared
machine is read, not tested. Ratios are medians of rounds, each against its neighbour.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING

from bench.tables import MIB, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bench.measure import Measured


@dataclasses.dataclass(frozen=True)
class Target:
    """One line of the contract.

    Args:
        workload: on which workload.
        what: in words.
        ours: whose figure counts: the fastest of these.
        base: against whom: the fastest of these; nobody for a plain figure.
        of: which figure of a round: ``per_second``, ``cpu_us``, or ``peak_bytes``.
        bound: at least this, or at most where the figure is a cost.
        aim: what it should rather be; ``None`` for no more than the bound.
    """

    workload: str
    what: str
    ours: tuple[str, ...]
    base: tuple[str, ...]
    bound: float
    aim: float | None = None
    of: str = "per_second"

    @property
    def is_cost(self) -> bool:
        """Whether less is better."""
        return self.of != "per_second"

    def measure(self, found: Measured) -> float | None:
        """Return the figure of a run; ``None`` when somebody is missing."""
        ours, base = _fastest(found, self.ours), _fastest(found, self.base)
        if ours is None or (self.base and base is None):
            return None
        if base is None:
            return found.peak_bytes(ours)
        return found.ratio(ours, base, self.of)

    def verdict(self, value: float) -> str:
        """Return in a word or two whether the value is good."""

        def reaches(bound: float) -> bool:
            return value <= bound if self.is_cost else value >= bound

        if not reaches(self.bound):
            return "MISSED"
        return "met, and the aim" if self.aim is not None and reaches(self.aim) else "met"


_BEST = ("map_curl", "map_curl_best")
_AIOHTTP = ("aiohttp", "aiohttp_64")
_BARE = ("pycurl_multi", "pycurl_multi_64")
_PER_THREAD = ("session_per_thread",)

TARGETS: tuple[Target, ...] = (
    Target("one-http", "map, best threads × in flight: × aiohttp's best", _BEST, _AIOHTTP, 2.0, 3.0),
    Target("one-http", "map, best threads × in flight: × Session per thread", _BEST, _PER_THREAD, 12.0),
    Target("one-http", "map, best: CPU per request, × bare pycurl multi", _BEST, _BARE, 2.2, 1.7, "cpu_us"),
    Target("one-http", "map, 16 threads, 16 in flight: × aiohttp", ("map_curl",), ("aiohttp",), 1.5, 2.0),
    Target("one-http", "get from 16 threads, curl: × Session per thread", ("get_curl",), _PER_THREAD, 5.0),
    Target("one-http", "get from 16 threads, urllib3: × Session per thread", ("get_urllib3",), _PER_THREAD, 1.8, 2.2),
    Target("one-http", "get from 16 threads, urllib3: × unpooled", ("get_urllib3",), ("unpooled",), 2.0),
    Target("latency-1000", "map, 16 threads: × aiohttp", ("map_curl",), ("aiohttp",), 2.0),
    Target("latency-1000", "map, 16 threads: memory, × aiohttp", ("map_curl",), ("aiohttp",), 1.5, None, "peak_bytes"),
    Target("https-100", "map, 16 in flight: × aiohttp", ("map_curl",), ("aiohttp",), 3.0, 4.0),
    Target("https-100", "map, 16 in flight: × Session per thread", ("map_curl",), _PER_THREAD, 40.0),
    Target("https-100", "get, urllib3: × Session per thread", ("get_urllib3",), _PER_THREAD, 6.0),
    Target("commands", "crawlpool run: × wget2", ("run_curl",), ("wget2",), 1.3),
    Target("commands", "crawlpool run: × curl --parallel", ("run_curl",), ("curl_parallel",), 3.0),
    Target("commands", "crawlpool run: × Scrapy", ("run_curl",), ("scrapy",), 20.0),
    Target("commands", "crawlpool run: × aria2", ("run_curl",), ("aria2",), 10.0),
    Target("ten-thousand", "map: completes; memory in MiB", ("map_curl",), (), 300 * MIB, None, "peak_bytes"),
)


def lines(found: Iterable[Measured], targets: Sequence[Target] = TARGETS) -> Iterator[str]:
    """Yield the table: what it must show, what was measured, and whether that is enough."""
    by_slug = {one.workload.slug: one for one in found}
    rows: list[Sequence[str]] = [("what it must show", "target", "aim", "measured", "")]
    rows += (_row(target, by_slug) for target in targets)
    yield from layout([row[:-1] for row in rows], [row[-1] for row in rows])


def _row(target: Target, by_slug: Mapping[str, Measured]) -> tuple[str, ...]:
    sign, scale = ("≤" if target.is_cost else "≥"), (1 if target.base else MIB)
    measured = by_slug.get(target.workload)
    value = target.measure(measured) if measured is not None else None
    return (
        f"{target.workload}: {target.what}",
        f"{sign} {target.bound / scale:g}",
        f"{sign} {target.aim / scale:g}" if target.aim is not None else "",
        f"{value / scale:.2f}" if value is not None else "–",
        target.verdict(value) if value is not None else _why_not(target, measured),
    )


def _why_not(target: Target, measured: Measured | None) -> str:
    if measured is None:
        return "not measured"
    groups = (names for names in (target.ours, target.base) if not any(measured.rounds.get(one) for one in names))
    missing = [one for names in groups for one in names]
    failed = [one for one in missing if one in measured.failed]
    if failed:
        return f"FAILED: {', '.join(failed)}"
    return f"not measured: without {', '.join(missing)}"


def _fastest(found: Measured, contenders: Sequence[str]) -> str | None:
    there = [one for one in contenders if found.rounds.get(one)]
    return max(there, key=found.per_second, default=None)


def main() -> None:
    """Print the table of a run that was kept."""
    from bench import results

    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else results.LATEST
    print("\n".join(lines(results.load(path))))


if __name__ == "__main__":
    main()
