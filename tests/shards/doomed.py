"""Shards run by processes that end in the middle of it, each at a point that was posed; others go on with them.

``python -m tests.shards.doomed`` is the long form: each point by itself, at its first occurrence and at later ones.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.jobs.crawl import JobCrawl
from crawlpool.ledger import transfer
from crawlpool.shards import segments
from crawlpool.shards.held import Held
from crawlpool.shards.inbox import Arrived, Inbox
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.opened import OpenShard
from crawlpool.shards.outbox import _Told
from tests.shards.web import OPTIONS, Fleet, Web, alike, new_pool, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARDS, HOSTS = 8, 4
#: How a process ends at its point.
KILLED = 77
PATIENCE_S = 120


def _before(owner: Any, name: str, is_it: Callable[..., bool]) -> tuple[Any, str, bool, Callable[..., bool]]:
    return owner, name, True, is_it


def _after(owner: Any, name: str, is_it: Callable[..., bool]) -> tuple[Any, str, bool, Callable[..., bool]]:
    return owner, name, False, is_it


def _always(*given: Any, **named: Any) -> bool:
    return True


def _numbers(told: Any, *given: Any) -> bool:
    return not told._published


def _forgets(told: Any, *given: Any) -> bool:
    return bool(told._published)


def _of(start: str) -> Callable[..., bool]:
    return lambda source, *rest: os.path.basename(os.fspath(source)).startswith(start)


#: Where a process may end: whose function, before or after it, and by which of its calls.
POINTS: dict[str, tuple[Any, str, bool, Callable[..., bool]]] = {
    "import: rows read, nothing committed": _before(Arrived, "fill", _always),
    "import: committed, the file still there": _before(Arrived, "done", _always),
    "import: the file removed": _after(Inbox, "_remove", _always),
    "commit: outputs synced, the ledger not": _before(OpenShard, "check_may_commit", _always),
    "commit: in the middle of a transaction that hands over": _after(
        transfer, "write", lambda database, run, said: bool(said.handed_over)
    ),
    "commit: handed over, nobody told": _before(
        JobCrawl, "_committed", lambda crawl, entries, has_come: any(entry.handed_over for entry in entries)
    ),
    "publish: nothing numbered": _before(_Told, "fill", _numbers),
    "publish: numbered": _before(_Told, "done", _numbers),
    "publish: the segment written and without its name": _before(disk, "rename", _of(".from-")),
    "publish: the segment has its name": _after(disk, "rename", _of(".from-")),
    "publish: a segment written": _after(segments, "write", _always),
    "publish: before its rows are forgotten": _before(_Told, "fill", _forgets),
    "publish: its rows forgotten": _before(_Told, "done", _forgets),
    "take-over: the copy made and without its name": _before(disk, "rename", _of(".e-")),
    "take-over: the copy has its name": _before(Held, "use", _always),
    "end: nothing said of it": _before(OpenShard, "end", _always),
    "end: said": _after(OpenShard, "end", _always),
}


def pose(point: str, nth: int) -> None:
    """Have this process end at a point, by that many calls."""
    owner, name, is_before, is_it = POINTS[point]
    original, left = getattr(owner, name), [nth]

    def doomed(*given: Any, **named: Any) -> Any:
        ends = is_it(*given, **named)
        left[0] -= ends
        if is_before and ends and not left[0]:
            os._exit(KILLED)
        found = original(*given, **named)
        if ends and not left[0]:
            os._exit(KILLED)
        return found

    setattr(owner, name, doomed)


def _crawl(root: str, port: int, point: str | None, nth: int) -> None:
    """Run shards until nothing is left to do, or the end comes."""
    if point is not None:
        pose(point, nth)
    web = Web(HOSTS)
    web.server.port = port
    with LeaseKeeper() as keeper, new_pool(web) as pool:
        Fleet(root, SHARDS, keeper=keeper).run(pool, **OPTIONS)


def _one_after_another(root: str, port: int, points: Sequence[tuple[str, int]]) -> list[int]:
    """Have a process for each point, and one more to end it; return how they ended."""
    found = []
    for point, nth in [*points, (None, 0)]:
        child = os.fork()  # nothing runs here beside this thread
        if not child:
            code = 1
            try:
                _crawl(root, port, point, nth)
                code = 0
            except BaseException as error:
                print(f"{point}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return found


def broken_off(web: Web, root: pathlib.Path, seeds: Sequence[Any], points: Sequence[tuple[str, int]]) -> list[int]:
    """Crawl an input with a process that ends at each point in turn, and one that ends it; return how they ended."""
    Fleet(root, SHARDS).feed(seeds)
    given = json.dumps([str(root), web.server.port, list(points)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.shards.doomed", given], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(json.loads(done.stdout))


def main() -> int:
    """Try each point by itself, in a job of its own; return 1 where a record was lost or doubled."""
    code = 0
    with Web(HOSTS) as web, tempfile.TemporaryDirectory() as folder:
        seeds, there = web.seeds((302, 307)), pathlib.Path(folder)
        expected, _, _ = whole(web, there / "one", seeds)
        for number, point in enumerate(POINTS):
            for nth in (1, 2, 5):
                root = there / f"{number}-{nth}"
                first = [("commit: handed over, nobody told", 1)] if point.startswith("take-over") else []
                ends = broken_off(web, root, seeds, [*first, (point, nth)])
                fleet = Fleet(root, SHARDS)
                got, books = alike(fleet.records()), fleet.report()
                is_whole = got == expected and books.is_complete and books.is_balanced
                code = code if is_whole else 1
                print(f"{'ok' if is_whole else 'WRONG'} {point}, {nth}: ended with {ends}", flush=True)
    return code


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_one_after_another(*json.loads(sys.argv[1]))))
    else:
        sys.exit(main())
