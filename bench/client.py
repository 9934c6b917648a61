"""One round of one library, in a process of its own: ``python -m bench.client CONTENDER work.json > report.json``.

Each contender is written as its user would write it (``bench/clients/``). The clock runs from before the first session
or pool is made until all are closed; imports lie outside. A round fails unless every page arrived whole.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from bench.contenders import CONTENDERS, version_of
from bench.work import BadRound, Work

if TYPE_CHECKING:
    from collections.abc import Callable


def peak_bytes() -> int:
    """Return the most memory that this process had.

    ``ru_maxrss`` is not it: on Linux it begins with what the parent had when it forked.
    """
    try:
        for line in pathlib.Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def find(way: str) -> Callable[..., None]:
    """Import the module of a way to fetch, and all that it needs; return its function."""
    module, _, name = way.partition(":")
    function: Callable[..., None] = getattr(importlib.import_module(f"bench.clients.{module}"), name)
    return function


def main() -> None:
    """Do one round and print what it took."""
    contender, work = CONTENDERS[sys.argv[1]], Work.read(sys.argv[2])
    way = find(contender.way)
    options: dict[str, Any] = dict(contender.options)
    work.in_flight = options.pop("in_flight", work.in_flight)
    work.threads = options.pop("threads", work.threads)
    prepare = getattr(sys.modules[way.__module__], "prepare", None)
    if prepare is not None:
        prepare(options.get("transport", contender.slug))
    work.begin()
    cpu_s, start = time.process_time(), time.perf_counter()
    try:
        way(work, **options)
        report = {
            "seconds": time.perf_counter() - start,
            "cpu_s": time.process_time() - cpu_s,
            "peak_bytes": peak_bytes(),
            "version": version_of(contender),
        }
        work.finish()
    except BadRound as error:
        raise SystemExit(str(error)) from None
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
