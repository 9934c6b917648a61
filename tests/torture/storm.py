"""The kill storm: ``python -m tests.torture.storm --kills 200 --seed 1``.

A crawl of some 300 URLs is killed (``SIGKILL``) at a random moment and begun again with the same command, until it is
complete; then another one begins, until there were so many kills. Moments are spread over the start, by the clock; over
the middle, by what the server has answered; and over the end, by the clock again from the last answer. At the end
nothing may be lost, doubled or torn, the ledger and its books must say the same as the records, and the server must
have seen no more than twice what may be in flight of further requests for each kill.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import pathlib
import random
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator

from tests.cli.command import PATIENCE_S
from tests.torture.nursery import Nursery
from tests.torture.opened import settings_of, wrong_when_opened
from tests.torture.process import DONE, Setup
from tests.torture.site import CountingServer

IN_FLIGHT = 8
#: Further options of each second crawl.
WARC = ("-o", "results.jsonl", "-o", "pages.warc.gz", "--rotate", "20k")
#: How long a start and an end take, about.
START_S, END_S = 0.2, 0.15


@dataclasses.dataclass
class Storm:
    """What came of a storm."""

    kills: int = 0
    crawls: int = 0
    looks: int = 0  # at a job that was opened after a kill
    further: int = 0  # requests, beyond what it takes without a crash
    wrong: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        each = self.further / max(self.kills, 1)
        crawls = f"{self.kills} kills, {self.crawls} crawls, {self.looks} looks at one"
        told = f"{crawls}, {self.further} further requests ({each:.1f} a kill), {len(self.wrong)} wrong"
        return "\n".join([told, *self.wrong])


def storm(kills: int, seed: int, *, pages: int = 270, folder: pathlib.Path | None = None) -> Storm:
    """Kill crawls so many times; return what came of it."""
    chance, found = random.Random(seed), Storm()
    with CountingServer() as server, Nursery() as nursery, _folder(folder) as base:
        while found.kills < kills:
            number = found.crawls = found.crawls + 1
            place = base / str(number)
            place.mkdir()
            more = ("--transport", "curl" if number % 2 else "urllib3", "--in-flight", str(IN_FLIGHT))
            if number % 2 == 0:
                more += WARC
            setup = Setup(nursery, server.world(pages, number), place, handles=number % 3 != 0, more=more)
            before, killed, wrong = server.total, 0, list[str]()
            while found.kills + killed < kills and _is_killed(setup, server, before, chance):
                killed += 1
                # Now and then it is looked at as the next start finds it. To open it counts as a start that was killed.
                if number % 2 == 0 and chance.random() < 0.5 and _has_settings(setup):
                    found.looks += 1
                    wrong += wrong_when_opened(setup.job, settings_of(setup.job), b"")
            wrong += setup.finish()
            if number % 2 == 0:
                wrong += wrong_when_opened(setup.job, settings_of(setup.job), b"")
            needed = setup.world.requests[setup.handles]
            further = server.total - before - needed
            if not 0 <= further <= 2 * IN_FLIGHT * killed:
                wrong.append(f"{further} further requests after {killed} kills with {IN_FLIGHT} in flight")
            found.kills += killed
            found.further += further
            found.wrong += [f"crawl {number} (seed {seed}), after {killed} kills: {one}" for one in wrong]
    return found


def _has_settings(setup: Setup) -> bool:
    try:
        return bool(settings_of(setup.job))
    except (sqlite3.Error, TypeError):  # it was killed before they were written
        return False


def _is_killed(setup: Setup, server: CountingServer, before: int, chance: random.Random) -> bool:
    """Begin or go on, and kill it; return whether it was killed before its end."""
    process = setup.start()
    needed = setup.world.requests[setup.handles]
    left = max(needed - (server.total - before), 1)
    when, is_killed_at_start = threading.Event(), chance.random() < 0.3
    if is_killed_at_start:
        process.ended_within(chance.uniform(0, START_S))
    else:
        # Beyond what is left: at the end. Few at a time, so that there are some kills to each crawl.
        count = min(chance.randrange(1, left + 20), chance.randrange(1, 120))
        is_end = count >= left
        server.call_at(server.total + min(count, left), process.kill if not is_end else when.set)
        if is_end:
            while not when.wait(0.01) and process.ended_within(0) is None:
                pass
            process.ended_within(chance.uniform(0, END_S))
        else:
            process.ended_within(PATIENCE_S)
    server.call_at(1 << 62, lambda: None)
    process.kill()
    code, said = process.end()
    if code == -signal.SIGKILL:
        return True
    if code != DONE or said:
        raise AssertionError(f"the crawl ended by itself: {code}: {said}")
    return False


@contextlib.contextmanager
def _folder(given: pathlib.Path | None) -> Iterator[pathlib.Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="crawlpool-storm-") as name:
        yield pathlib.Path(name)


def main(arguments: list[str]) -> int:
    """Run a storm and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path, help="a folder in which everything stays to be looked at")
    options = parser.parse_args(arguments)
    found = storm(options.kills, options.seed, folder=options.keep)
    print(found)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
