"""The tables of ratios at the end of a run, and the JSON that is kept of it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import ssl
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

    from bench.measure import Measured

NAMES = {
    "unpooled": "requests.get, unpooled",
    "shared_session": "one shared requests.Session, tuned",
    "session_per_thread": "requests.Session per thread",
    "pool_get": "SessionPool.get from 16 threads",
    "pool_map": "SessionPool.map",
}
_HEADINGS = ("", "requests/s", "(min – max)", "× unpooled", "× per thread", "CPU µs/request", "connections", "files")


def lines(measured: Measured) -> Iterable[str]:
    """Yield the table of one workload, a line at a time."""
    workload = measured.workload
    rounds = max(len(one) for one in measured.rounds.values())
    yield (
        f"{workload.name}: {workload.requests:,} requests of 20 kB, 16 at a time, from {measured.server}; "
        f"{f'medians of {rounds} rounds in turn' if rounds > 1 else 'one round'}"
    )
    rows = [_HEADINGS, *(_row(measured, contender) for contender in measured.rounds)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        yield "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )


def _row(measured: Measured, contender: str) -> tuple[str, ...]:
    rounds = measured.rounds[contender]
    rates = [measured.workload.requests / one.seconds for one in rounds]
    files = [one.peak_files for one in rounds if one.peak_files is not None]
    ratios = (
        f"{measured.ratio(contender, base):.2f}" if base in measured.rounds else "–"
        for base in ("unpooled", "session_per_thread")
    )
    return (
        NAMES[contender],
        f"{statistics.median(rates):,.0f}",
        f"({min(rates):,.0f} – {max(rates):,.0f})",
        *ratios,
        f"{measured.cpu_us(contender):,.0f}",
        f"{statistics.median(one.connections for one in rounds):,.0f}",
        f"{max(files):,}" if files else "–",
    )


def keep(all_measured: Iterable[Measured], folder: pathlib.Path) -> pathlib.Path:
    """Write every round of a run as JSON into ``folder``, which git is told to ignore; return the file's path."""
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n", "ascii")
    now = datetime.datetime.now(datetime.timezone.utc)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
    data: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            "processors": os.cpu_count(),
            "openssl": ssl.OPENSSL_VERSION,
            **{name: importlib.metadata.version(name) for name in ("requests", "urllib3")},
        },
        "workloads": [
            {
                "workload": dataclasses.asdict(one.workload),
                "server": one.server,
                "contenders": {
                    contender: {
                        "requests_per_second": one.per_second(contender),
                        "cpu_us_per_request": one.cpu_us(contender),
                        "rounds": [dataclasses.asdict(each) for each in rounds],
                    }
                    for contender, rounds in one.rounds.items()
                },
            }
            for one in all_measured
        ],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    return path
