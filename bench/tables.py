"""The tables of ratios at the end of a run: one for each workload."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.contenders import CONTENDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.measure import Measured

#: Whom the others are compared with, where they take part: the first two of these.
BASES = {"session_per_thread": "× per thread", "aiohttp": "× aiohttp", "wget2": "× wget2", "scrapy": "× Scrapy"}
MIB = 1024 * 1024


def lines(measured: Measured) -> Iterator[str]:
    """Yield the table of one workload, a line at a time; below it who is missing, and why."""
    workload = measured.workload
    rounds = max((len(one) for one in measured.rounds.values()), default=0)
    yield f"[{workload.slug}] {workload.name}"
    yield (
        f"{workload.requests:,} requests, {workload.in_flight:,} at a time, from {measured.server}; "
        f"{f'medians of {rounds} rounds in turn' if rounds > 1 else 'one round'}"
    )
    bases = [base for base in BASES if base in measured.rounds][:2]
    headings = ("", "requests/s", "(min – max)", *(BASES[base] for base in bases), "CPU µs", "MiB", "conns", "files")
    yield from layout([headings, *(_row(measured, contender, bases) for contender in measured.rounds)])
    for reason in dict.fromkeys(measured.absent.values()):
        names = [CONTENDERS[one].label for one, its in measured.absent.items() if its == reason]
        yield f"  left out: {'; '.join(names)}: {reason}"
    for contender, reason in measured.failed.items():
        yield f"  FAILED: {CONTENDERS[contender].label}: {reason.splitlines()[-1]}"


def layout(rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows as lines whose columns stand below each other: the first to the left, the others to the right.

    Args:
        rows: the cells.
        notes: what stands behind each row, as long as it may be.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, note in zip(rows, notes or [""] * len(rows), strict=True):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells, note]).rstrip()


def _row(measured: Measured, contender: str, bases: Iterable[str]) -> tuple[str, ...]:
    rounds = measured.rounds[contender]
    rates = [one.per_second for one in rounds]
    files = [one.peak_files for one in rounds if one.peak_files is not None]
    return (
        CONTENDERS[contender].label,
        f"{statistics.median(rates):,.0f}",
        f"({min(rates):,.0f} – {max(rates):,.0f})",
        *(f"{measured.ratio(contender, base):.2f}" for base in bases),
        f"{measured.cpu_us(contender):,.0f}",
        f"{measured.peak_bytes(contender) / MIB:,.0f}",
        f"{statistics.median(one.connections for one in rounds):,.0f}",
        f"{max(files):,}" if files else "–",
    )
