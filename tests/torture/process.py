"""The crawl of ``tests.torture.crawler`` as a process: started, looked at when it ends, and its job judged."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sqlite3
from typing import Any

from tests.torture.nursery import Child, Nursery
from tests.torture.site import World, wrong_with

#: How the crawl of a world ends that has all: 404s, and a line that is no URL.
DONE = 4
RECORDS = "results.jsonl"


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is crawled, and how.

    Args:
        nursery: where its processes come from.
        world: the input and what comes of it.
        folder: where input and job lie.
        handles: whether there is a handler that emits and adds.
        more: further arguments of the crawler.
    """

    nursery: Nursery
    world: World
    folder: pathlib.Path
    handles: bool = False
    more: tuple[str, ...] = ()

    @property
    def job(self) -> pathlib.Path:
        """The job's folder."""
        return self.folder / "job"

    @property
    def input(self) -> pathlib.Path:
        """The input, which is written when it is first asked for."""
        path = self.folder / "input.txt"
        return path if path.exists() else self.world.write(path)

    def start(self, *more: str, **how: Any) -> Child:
        """Start the crawl, or go on with it; ``more`` are further arguments, ``how`` as ``Nursery.start`` has it."""
        handler = ["--handler"] if self.handles else []
        return self.nursery.start([str(self.job), str(self.input), *handler, *self.more, *more], **how)

    def run(self, *more: str, **how: Any) -> tuple[int, str]:
        """Run it to its end; return the exit code and what it said on standard error."""
        return self.start(*more, **how).end()

    def finish(self) -> list[str]:
        """Run it to its end, however often it was broken off; return what is wrong then."""
        code, said = self.run()
        wrong = [] if (code, said) == (DONE, "") else [f"exit code {code}, not {DONE}: {said}"]
        return wrong + self.wrong()

    def records(self) -> list[dict[str, Any]]:
        """Return the records and items of the job, which is to be complete."""
        return [json.loads(line) for line in (self.job / RECORDS).read_bytes().splitlines()]

    def wrong(self) -> list[str]:
        """Return what is wrong with the job, which is to be complete."""
        path = self.job / RECORDS
        if not path.exists():
            return [f"no {RECORDS}; there is {sorted(os.listdir(self.job)) if self.job.exists() else 'no job'}"]
        records = path.read_bytes()
        return wrong_with(self.world, records, handles=self.handles) + wrong_in_ledger(self.job, records)


def wrong_in_ledger(job: pathlib.Path, records: bytes, *, is_complete: bool = True) -> list[str]:
    """Return what the ledger says otherwise than the records, and where its books don't balance.

    Args:
        job: the folder.
        records: those that count.
        is_complete: whether nothing may be left to do.
    """
    database = sqlite3.connect(f"file:{job / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        if (verdict := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            return [f"the ledger is damaged: {verdict}"]
        wrong = []
        targets = dict(database.execute("SELECT id, state FROM target"))
        results = database.execute("SELECT id, outcome, part, offset, length FROM result ORDER BY offset").fetchall()
        books = json.loads(dict(database.execute("SELECT key, value FROM job")).get("books", "{}"))
        marks = {name: json.loads(mark) for name, mark in database.execute("SELECT name, mark FROM sink")}
    finally:
        database.close()
    settled = {number for number, state in targets.items() if state}
    if is_complete and len(settled) != len(targets):
        wrong.append(f"{len(targets) - len(settled)} targets wait")
    if settled != {row[0] for row in results}:
        wrong.append("other targets are settled than have results")
    end = 0
    for number, outcome, part, offset, length in results:
        line = records[offset : offset + length]
        if part != 1 or offset < end or not line.endswith(b"\n") or line.count(b"\n") != 1:
            wrong.append(f"target {number}: no line at {part}:{offset}+{length}")
            continue
        end = offset + length
        record = json.loads(line)
        if outcome != targets[number] or "item" in record:
            wrong.append(f"target {number}: another record: {line[:80]!r}")
    if sum(b'"item":' not in line for line in records.splitlines()) != len(results):
        wrong.append("there are other records than results")
    if books or targets:
        ended_ = sum(books["ended"].values())
        if books["inputs"] + books["found"] != len(targets) or ended_ != len(results):
            wrong.append(f"the books don't balance: {books} of {len(targets)} targets and {len(results)} results")
        if books["items"] != len(records.splitlines()) - len(results):
            wrong.append(f"the books have {books['items']} items")
    if is_complete and (not marks[RECORDS]["is_complete"] or marks[RECORDS]["length"] != len(records)):
        wrong.append(f"{len(records)} bytes of records, but {marks[RECORDS]} counts")
    return wrong
