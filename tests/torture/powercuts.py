"""Losses of power at every point of a run: ``python -m tests.torture.powercuts --replays 2000``.

A few crawls are recorded: one from its start to its end, one that goes on with a job that was killed, and the same with
WARC files that rotate. After each prefix of what one of them wrote the disk holds what ``powerloss`` lets it hold; then the
job is opened by the code that goes on with it. What was acknowledged before, by the copy on standard output or as
committed, must be there, exactly once, and nothing may be torn. Some of them are then run to their end.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from crawlpool.errors import CrawlPoolError
from crawlpool.jobs.job import Job
from tests.torture.nursery import Nursery
from tests.torture.powerloss import RECORDING, Disk, Event, events_of
from tests.torture.process import RECORDS, Setup, wrong_in_ledger
from tests.torture.site import CountingServer, World
from tests.torture.tracer import run_struck, why_not

STDOUT = "stdout"
WARC = ("-o", RECORDS, "-o", "pages.warc.gz", "--rotate", "4096")


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a run did to the files, from what was there before.

    Args:
        name: of the recording.
        setup: the crawl, which is complete now.
        before: a copy of its folder as it was.
        events: the calls.
        fixed: the settings of the job, as its ledger has them.
    """

    name: str
    setup: Setup
    before: pathlib.Path
    events: tuple[Event, ...]
    fixed: dict[str, Any]


def record(setup: Setup, name: str) -> Recording:
    """Run a crawl to its end and write down what it does."""
    assert setup.input.exists()
    before = setup.folder.with_name(setup.folder.name + "-before")
    shutil.copytree(setup.folder, before, ignore=shutil.ignore_patterns("control"))  # a killed run's socket
    out = os.open(setup.folder / STDOUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        ended = run_struck(setup, "main", *RECORDING, follows=True, stdout=out)
    finally:
        os.close(out)
    assert not (wrong := setup.wrong()), (ended.code, ended.said, wrong)
    with contextlib.closing(sqlite3.connect(setup.job / "ledger.sqlite3")) as database:
        fixed = json.loads(database.execute("SELECT value FROM job WHERE key = 'fixed'").fetchone()[0])
    return Recording(name, setup, before, tuple(events_of(ended.trace, setup.folder)), fixed)


def recordings(nursery: Nursery, server: CountingServer, base: pathlib.Path, pages: int) -> Iterator[Recording]:
    """Record the crawls."""
    for name, more in (("records", ()), ("WARC", WARC)):
        for is_killed in (False, True):
            folder = base / f"{name}-{is_killed}"
            folder.mkdir()
            setup = Setup(nursery, server.world(pages), folder, handles=True, more=("--in-flight", "4", *more))
            if is_killed:
                child = setup.start()
                server.call_at(server.total + pages // 2, child.kill)
                child.end()
            yield record(setup, f"{name}{', after a kill' if is_killed else ''}")


def replay(recording: Recording, chance: random.Random, count: int, into: pathlib.Path, each: int = 50) -> Iterator[str]:
    """Lose power so many times; yield what is wrong, or nothing.

    Args:
        recording: what was written.
        chance: decides when, and what is left.
        count: how often.
        into: a folder for what is left; what is wrong stays in it.
        each: each of so many is run to its end.
    """
    points = collections.Counter(chance.randrange(len(recording.events) + 1) for _ in range(count))
    disk = _disk_of(recording)
    told, number = b"", 0
    for point in range(len(recording.events) + 1):
        for _ in range(points[point]):
            number += 1
            place = into / f"{recording.setup.folder.name}-{number}"
            disk.lose(place, chance)
            wrong = list(_wrong_after(recording, place, told))
            if not wrong and number % each == 0:
                (place / STDOUT).unlink(missing_ok=True)
                shutil.copy(recording.setup.input, place)
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


def _disk_of(recording: Recording) -> Disk:
    """Return the disk as it was before; paths are those of the recording."""
    now = recording.setup.folder.with_name("now")
    recording.setup.folder.rename(now)
    recording.before.rename(recording.setup.folder)
    try:
        return Disk(recording.setup.folder)
    finally:
        recording.setup.folder.rename(recording.before)
        now.rename(recording.setup.folder)


def _wrong_after(recording: Recording, place: pathlib.Path, told: bytes) -> Iterator[str]:
    """Open a job as it is after a loss of power; yield what is wrong with it."""
    job = place / "job"
    # What stdout got is a copy: its last line may have come in part when the power went.
    acknowledged = [json.loads(line) for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
    if not job.exists():
        if acknowledged:
            yield f"the job is lost, and {len(acknowledged)} records with it"
        return
    own = dict(recording.fixed)
    outputs, dedupes, most = own.pop("outputs"), own.pop("dedupe"), own.pop("max_per_host")
    rotate = 4096 if recording.name.startswith("WARC") else None
    try:
        opened = Job(str(job), outputs=outputs, fixed=own, rotate_bytes=rotate).open(dedupes=dedupes, max_per_host=most)
    except CrawlPoolError as error:
        yield f"it can't be opened: {error}"
        return
    opened.close()
    path = next((one for one in (job / RECORDS, job / f"{RECORDS}.open") if one.exists()), None)
    if path is None:
        yield "its records are gone"
        return
    records = path.read_bytes()
    try:
        there = collections.Counter(_key_of(json.loads(line)) for line in records.splitlines())
    except ValueError:
        yield "a record is torn"
        return
    yield from wrong_in_ledger(job, records, is_complete=False)
    yield from (f"doubled: {key}" for key, number in there.items() if number > 1)
    yield from (f"lost: {key}" for key in map(_key_of, acknowledged) if key not in there)


def _key_of(record: dict[str, Any]) -> str:
    if "item" in record:
        return f"item {record['item']}"
    return f"line {record['n']}" if record["n"] is not None else f"found {record['url']}"


def main(arguments: list[str]) -> int:
    """Record, replay, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pages", type=int, default=30)
    options = parser.parse_args(arguments)
    if why_not():
        print(f"skipped: {why_not()}")
        return 0
    chance, wrong = random.Random(options.seed), 0
    with CountingServer() as server, Nursery() as nursery:
        base = pathlib.Path(tempfile.mkdtemp(prefix="crawlpool-power-"))
        for recording in recordings(nursery, server, base, options.pages):
            count = options.replays // 4
            print(f"{recording.name}: {len(recording.events)} calls, {count} losses of power", flush=True)
            for one in replay(recording, chance, count, base):
                print(one, flush=True)
                wrong += 1
    print(f"{options.replays} losses of power, {wrong} wrong")
    if not wrong:
        shutil.rmtree(base)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
