"""The same job by every engine: identical records, balanced books.

By one crawl without shards; by threads; as two parts that share nothing, whose segments are carried over; by Dask with
two workers; begun by threads, killed, and finished by Dask; begun by Dask, killed, and finished by threads.
"""

from __future__ import annotations

import collections
import os
import pathlib
import shutil
import signal
import time
from typing import TYPE_CHECKING

from tests.cluster import command
from tests.cluster.records import as_set, count_of, differences, lines_of
from tests.cluster.site import Site, addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PARTS_ROUNDS = 8


class Same:
    """One job, to be run in several ways.

    Args:
        folder: where the jobs lie.
        urls: how many URLs.
        hosts: on how many hosts.
        shards: into how many shards it is cut.
        say: takes a line of what is found.
        options: further ones, for each of the ways.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        urls: int,
        hosts: int,
        shards: int,
        say: Callable[[str], None],
        options: Sequence[str] = (),
    ) -> None:
        self.options = tuple(options)
        self.folder, self.count, self.shards, self.say = folder, urls, shards, say
        self.site = Site(addresses(hosts), keeps=False)
        self.input = folder / "urls.txt"
        self.want: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Same:
        self.site.__enter__()
        self.input.write_text("\n".join(self.site.urls(self.count)) + "\n")
        return self

    def __exit__(self, *exc: object) -> None:
        self.site.__exit__(None, None, None)

    def job(self, name: str) -> str:
        """Return the folder of a job, which isn't there yet."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return str(path)

    def args(self, job: str, *more: str) -> tuple[str, ...]:
        """Return the command that begins a job."""
        given = ("run", str(self.input), "--job", job, "--allow-net", "127.0.0.0/8", "--progress", "none")
        told = ("--handler", "tests.cluster.site:follow", "--log-format", "json", "--min-free", "0")
        return (*given, *told, *self.options, *more)

    def compare(self, name: str, *jobs: str) -> None:
        """Hold the records of a job, or of the parts of one, against those of the job without shards."""
        found: collections.Counter[str] = collections.Counter()
        for job in jobs:
            found += as_set(lines_of(job))
        told = differences(self.want, found)
        self.say(f"{name}: {sum(found.values()):,} records, {told or 'the same'}")
        assert not told, f"{name}: {told}"

    # The ways ----------------------------------------------------------------------------------------------------

    def plain(self) -> None:
        """By one crawl, without shards: what the others are held against."""
        job = self.job("plain")
        ran = command.run(*self.args(job))
        self.want = as_set(lines_of(job))
        assert sum(self.want.values()) >= self.count
        self.say(f"without shards: {sum(self.want.values()):,} records in {ran.seconds:.1f} s")

    def threads(self) -> None:
        """By the threads of one process."""
        job = self.job("threads")
        self._balanced("threads", command.run(*self.args(job, "--shards", str(self.shards))))
        self.compare("threads", job)

    def parts(self) -> None:
        """As two parts: what belongs to the other one is carried over, and each is resumed, until nothing is left."""
        jobs = [self.job(f"part{number}") for number in (1, 2)]
        for number, job in enumerate(jobs, 1):
            shard = ("--shards", str(self.shards), "--shard", f"{number}/2")
            command.run(*self.args(job, *shard), well=(0, 7, 8))
        for _ in range(_PARTS_ROUNDS):
            if not carry(jobs[0], jobs[1], 1) + carry(jobs[1], jobs[0], 0):
                break
            for job in jobs:
                told = command.run("resume", job, "--progress", "none", "--log-format", "json", well=(0, 7, 8))
        else:
            raise AssertionError("there is always more to be carried over")
        self.compare("two parts", *jobs)
        assert told.code in command.WELL, told.told

    def dask(self) -> None:
        """By Dask, with two workers on this machine."""
        job = self.job("dask")
        process = command.start(*self.args(job, "--shards", str(self.shards), "--engine", "dask", "--workers", "2"))
        ran = command.ended(process, time.monotonic())
        assert ran.code in command.WELL, ran.told[-3000:]
        command.check_gone(process.pid)
        self._balanced("dask", ran)
        self.compare("dask, two workers", job)

    def threads_then_dask(self) -> None:
        """Begun by threads, killed in the middle, and finished by Dask."""
        self._begun_and_finished(("threads",), ("dask", "--workers", "2"))

    def dask_then_threads(self) -> None:
        """Begun by Dask, its client killed in the middle, and finished by threads."""
        self._begun_and_finished(("dask", "--workers", "2"), ("threads",))

    def _begun_and_finished(self, first: tuple[str, ...], second: tuple[str, ...]) -> None:
        name = f"{first[0]}, then {second[0]}"
        job = self.job(name.replace(", ", "-").replace(" ", "-"))
        shards = ("--shards", str(self.shards), "--lease", "4")
        process = command.start(*self.args(job, *shards, "--engine", *first))
        try:
            for _ in looks(120.0):
                if count_of(job) > self.count // 4 or process.poll() is not None:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
            told = process.communicate()[1]
        before = count_of(job)
        assert self.count // 4 < before < sum(self.want.values()), f"killed too late, or too soon: {told[-2000:]}"
        command.check_gone(process.pid)
        again = command.start("resume", job, "--progress", "none", "--log-format", "json", "--engine", *second)
        ran = command.ended(again, time.monotonic())
        assert ran.code in command.WELL, ran.told[-3000:]
        command.check_gone(again.pid)
        self._balanced(name, ran)
        self.compare(f"{name} (killed with {before:,} records)", job)

    def _balanced(self, name: str, ran: command.Ran) -> None:
        books = command.summary(ran)
        ends = sum(books[key] for key in ("ok", "http_error", "failed", "disallowed", "skipped"))
        assert books["inputs"] + books["found"] == ends, f"{name}: {books}"
        assert books["inputs"] == self.count, f"{name}: {books}"
        assert books["pending"] == 0, f"{name}: {books}"
        assert books["moved_in"] == books["moved_out"] > 0, f"{name}: {books}"
        self.say(f"{name}: {ran.seconds:.1f} s, {books['moved_out']:,} handed over, {books['found']:,} found")


def carry(source: str, target: str, remainder: int) -> int:
    """Move the segments that one part has for another one there, as a user does with ``rsync``; return how many.

    Args:
        source: the folder that they lie in.
        target: the folder of the part that they are for.
        remainder: of its shards' numbers by two.
    """
    count = 0
    for inbox in sorted(pathlib.Path(source, "shards").glob("*/inbox")):
        if int(inbox.parent.name) % 2 == remainder:
            there = pathlib.Path(target, "shards", inbox.parent.name, "inbox")
            there.mkdir(parents=True, exist_ok=True)
            for segment in inbox.glob("*.seg"):
                os.replace(segment, there / segment.name)
                count += 1
    return count


def looks(patience_s: float, every_s: float = 0.3) -> Iterator[None]:
    """Yield now and then, for so long."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        yield
        time.sleep(every_s)


def main(folder: pathlib.Path, urls: int, hosts: int, shards: int, say: Callable[[str], None] = print) -> None:
    """Run the job in each way; raise where one has other records."""
    with Same(folder, urls, hosts, shards, say) as same:
        for way in (same.plain, same.threads, same.parts, same.dask, same.threads_then_dask, same.dask_then_threads):
            way()
