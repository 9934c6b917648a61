"""``python -m tests.fault_table``: each fault × transport × mode, as it ends, and plain requests beside it.

It prints rows of a list table (reStructuredText). What is wrong is marked, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool import SessionPool, Target
from crawlpool.errors import kind_of
from crawlpool.testing import FAULTS, serve
from crawlpool.testing.bombs import can_code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.testing.faults import Fault
    from crawlpool.testing.faultserver import Served

TRANSPORTS, MODES = ("urllib3", "curl"), ("get", "crawl")
DEADLINE_S, PATIENCE_S, PLAIN_TIMEOUT_S, PLAIN_KILL_S = 1.0, 20.0, 3.0, 5.0
CAP_BYTES = 8 * 1024 * 1024

# In a process of its own: what never ends is killed. A body without end would fill the machine's memory.
_PLAIN = f"""
import json, resource, sys, time
import requests
url, options, method, upload, asks, pause_s = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
session = requests.Session()
session.trust_env = False
said = "?"
for number in range(asks):
    time.sleep(pause_s if number else 0)
    try:
        body = b"x" * upload if upload else None
        response = session.request(method, url, data=body, timeout={PLAIN_TIMEOUT_S}, **options)
        said = f"{{response.status_code}}, {{len(response.content)}} bytes"
    except BaseException as error:
        said = type(error).__name__
print(said)
"""


class Row(NamedTuple):
    """How one client met one fault."""

    fault: Fault
    client: str
    said: str
    seconds: float
    is_met: bool


def measure(fault: Fault, transport: str, mode: str, deadline_s: float | None = None) -> Row:
    """Meet a fault by crawlpool, once, without retries.

    Args:
        fault: which.
        transport: ``urllib3`` or ``curl``.
        mode: ``get``, or ``crawl`` for a target of a crawl.
        deadline_s: of each request; by itself a second for what has no end, and plenty for the rest.
    """
    limit_s = deadline_s or (DEADLINE_S if fault.is_endless else PATIENCE_S)
    with serve(fault) as served:
        options: Any = {**served.options, "transport": transport, "retry": False, "trust_env": False}
        with SessionPool(threads=1, deadline=limit_s, max_body_bytes=CAP_BYTES, **options) as pool:
            outcome, kind, body = "", None, None
            seconds = 0.0
            for number in range(fault.asks):
                time.sleep(fault.pause_s if number else 0.0)
                began = time.perf_counter()
                outcome, kind, body = (_by_get if mode == "get" else _by_crawl)(pool, served)
                seconds = time.perf_counter() - began
        said = outcome if kind is None else f"{outcome}: {kind}"
        return Row(fault, f"{transport} {mode}", said, seconds, fault.is_met(outcome, kind, body))


def _by_get(pool: SessionPool, served: Served) -> tuple[str, str | None, bytes | None]:
    fault = served.fault
    try:
        data = b"x" * fault.upload_bytes if fault.upload_bytes else None
        response = pool.request(fault.method, served.url, data=data)
    except Exception as error:
        return "failed", str(kind_of(error)), None
    return ("ok" if response.ok else "http_error"), None, response.content


def _by_crawl(pool: SessionPool, served: Served) -> tuple[str, str | None, bytes | None]:
    fault = served.fault
    ended: list[tuple[str, str | None, bytes | None]] = []

    def handler(result: Any, crawl: Any) -> None:
        kind = None if result.error is None else str(kind_of(result.error))
        ended.append((str(result.outcome), kind, None if result.response is None else result.response.content))

    data = b"x" * fault.upload_bytes if fault.upload_bytes else None
    options: Any = {"dedupe": False, "robots": False, "max_body_bytes": CAP_BYTES}
    pool.crawl([Target(served.url, fault.method, data=data)], handler, **options)
    return ended[0]


def measure_plain(fault: Fault) -> Row:
    """Meet a fault by plain requests, with a timeout, in a process that is killed when it doesn't end."""
    with serve(fault) as served:
        asked = [served.url, served.options, fault.method, fault.upload_bytes, fault.asks, fault.pause_s]
        began = time.perf_counter()
        try:
            command = [sys.executable, "-c", _PLAIN, json.dumps(asked)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PLAIN_KILL_S)
            said = done.stdout.strip() or "crashes"
        except subprocess.TimeoutExpired:
            said = "hangs"
        return Row(fault, "requests", said, time.perf_counter() - began, True)


def rows(faults: Iterable[Fault], transports: Iterable[str] = TRANSPORTS, *, plain: bool = True) -> Iterable[list[Row]]:
    """Yield, for each fault, how each client met it."""
    for fault in faults:
        if fault.coding is not None and not can_code(fault.coding):
            continue
        met = [measure(fault, transport, mode) for transport in transports for mode in MODES]
        yield [*met, measure_plain(fault)] if plain else met


def as_rst(met: list[Row]) -> str:
    """Return a row of a list table."""
    fault = met[0].fault
    cells = [f"``{fault.name}``: {fault.about}", fault.expected]
    cells += [f"{'' if row.is_met else '**wrong** '}{row.said}, {row.seconds:.1f} s" for row in met]
    return "\n".join(f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(cells))


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 1 when a client of ours ended otherwise than it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="the faults; all of them unless given")
    parser.add_argument("--no-plain", action="store_true", help="leave plain requests out")
    parser.add_argument("--write", metavar="FILE", help="write the table to a file, and to stderr what is wrong in it")
    options = parser.parse_args(argv)
    chosen = [FAULTS[name] for name in options.names] or list(FAULTS.values())
    headings = ["fault", "right is", *(f"{t}, {m}" for t in TRANSPORTS for m in MODES)]
    headings += [] if options.no_plain else ["plain requests"]
    wrong, clients = [], 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(options.write, "w", encoding="utf-8")) if options.write else sys.stdout
        print(".. list-table::\n   :header-rows: 1\n   :widths: 28 12 12 12 12 12 12\n", file=out)
        print("\n".join(f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(headings)), file=out)
        for met in rows(chosen, plain=not options.no_plain):
            print(as_rst(met), file=out, flush=True)
            wrong += [row for row in met if not row.is_met]
            clients += len(met)
    for row in wrong:
        print(f"wrong: {row.fault.name}, {row.client}: {row.said}", file=sys.stderr)
    print(f"{len(chosen)} faults, {clients} rows, {len(wrong)} wrong", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
