"""Losses of power at every point of a run: ``python -m tests.torture.powercuts --replays 2000``.

Crawls are recorded: with records alone, with WARC files that rotate, with bodies; from their start to their end, or
killed at some call and gone on with. After each prefix of what one of them wrote the disk holds what ``powerloss`` lets
it hold; then the job is opened by the code that goes on with it. What was acknowledged before, by the copy on standard
output, must be there, exactly once, and nothing may be torn. Some of them are then run to their end.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import os
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.torture.nursery import Nursery
from tests.torture.opened import settings_of, wrong_when_opened
from tests.torture.powerloss import RECORDING, Disk, Event, events_of
from tests.torture.process import RECORDS, Setup
from tests.torture.site import CountingServer
from tests.torture.syscalls import Yard
from tests.torture.tracer import run_struck, why_not

STDOUT = "stdout"
#: What is recorded: outputs, and at which call the first run is killed, if it is; the next one goes on then.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "records": (),
    "WARC": ("-o", RECORDS, "-o", "pages.warc.gz", "--rotate", "4k"),
    "bodies": ("-o", RECORDS, "-o", "deep/er/copy.jsonl", "-o", "bodies/"),
}
KILLS = ("", *(f"fsync:signal=KILL:when={nth}" for nth in range(1, 8)))
KILLS += tuple(f"pwrite64:signal=KILL:when={nth}" for nth in (20, 60))


@dataclasses.dataclass(frozen=True)
class Recording:
    """What one or two runs did to the files.

    Args:
        name: of the recording.
        setup: the crawl, which is complete now.
        events: the calls.
        settings: the settings of the job, as its ledger has them.
    """

    name: str
    setup: Setup
    events: tuple[Event, ...]
    settings: dict[str, Any]


def record(setup: Setup, name: str, kill: str = "") -> Recording:
    """Run a crawl to its end and write down what it does; killed at a call first, and then gone on with."""
    assert setup.input.exists()
    out = os.open(setup.folder / STDOUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    events: list[Event] = []
    try:
        for injection in (f"inject={kill}", "") if kill else ("",):
            how = ["-e", injection] if injection else []
            ended = run_struck(setup, "main", *RECORDING, *how, follows=True, stdout=out)
            events += events_of(ended.trace, setup.folder)
    finally:
        os.close(out)
    assert not (wrong := setup.wrong()), (ended.code, ended.said, wrong)
    return Recording(name, setup, tuple(events), settings_of(setup.job))


def recordings(yard: Yard, base: pathlib.Path, pages: int, chance: random.Random) -> Iterator[Recording]:
    """Record crawls without end, each kind of them now and then."""
    for number in itertools.count():
        name, more = chance.choice(list(OUTPUTS.items()))
        kill = chance.choice(KILLS)
        folder = base / str(number)
        folder.mkdir()
        setup = Setup(yard.nursery, yard.server.world(pages), folder, handles=True, more=("--in-flight", "4", *more))
        yield record(setup, f"{name}, killed at {kill}" if kill else name, kill)


def replay(
    recording: Recording, chance: random.Random, count: int, into: pathlib.Path, each: int = 50
) -> Iterator[str]:
    """Lose power so many times; yield what is wrong, or nothing.

    Args:
        recording: what was written.
        chance: decides when, and what is left.
        count: how often.
        into: a folder for what is left; what is wrong stays in it.
        each: each of so many is run to its end.
    """
    points = collections.Counter(chance.randrange(len(recording.events) + 1) for _ in range(count))
    disk = Disk(recording.setup.folder)
    told, number = b"", 0
    for point in range(len(recording.events) + 1):
        for _ in range(points[point]):
            number += 1
            place = into / f"{recording.setup.folder.name}-{number}"
            disk.lose(place, chance)
            wrong = list(wrong_when_opened(place / "job", recording.settings, told))
            if not wrong and number % each == 0:
                wrong = dataclasses.replace(recording.setup, folder=place).finish()
            yield from (f"{recording.name}, after {point} calls (in {place}): {one}" for one in wrong)
            if not wrong:
                shutil.rmtree(place)
        if point < len(recording.events):
            event = recording.events[point]
            if event.path == str(recording.setup.folder / STDOUT):
                told += event.data
            else:
                disk.see(event)


def main(arguments: list[str]) -> int:
    """Record, replay, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pages", type=int, default=30)
    parser.add_argument("--each", type=int, default=100, help="losses of power in each recording")
    options = parser.parse_args(arguments)
    if why_not():
        print(f"skipped: {why_not()}")
        return 0
    chance, wrong, done = random.Random(options.seed), 0, 0
    base = pathlib.Path(tempfile.mkdtemp(prefix="crawlpool-power-"))
    with CountingServer() as server, Nursery() as nursery:
        for recording in recordings(Yard(nursery, server), base, options.pages, chance):
            count = min(options.each, options.replays - done)
            print(f"{recording.name}: {len(recording.events)} calls, {count} losses of power", flush=True)
            told = list(replay(recording, chance, count, base))
            print(
                "\n".join([*told[:3], *([f"… and {len(told) - 3} more"] if told[3:] else [])]), end="\n" if told else ""
            )
            wrong += len(told)
            done += count
            if done == options.replays:
                break
    print(f"{done} losses of power, {wrong} wrong")
    if not wrong:
        shutil.rmtree(base)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
