"""A strike at every call of the system that changes a job: ``python -m tests.torture.syscalls``.

A tiny crawl is run once for each of the calls that its threads make to the job's files. Each time one of them, in its
turn, kills the process or fails with an error, once or from then on. A process that isn't killed has to end with exit
code 3 and one line, or with all done where the call didn't matter; and the same command without the fault has to
complete the job with nothing lost, doubled or torn. ``--sample N`` strikes at that many of them only.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import pathlib
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

from tests.torture.nursery import Nursery
from tests.torture.process import DONE, Setup
from tests.torture.site import CountingServer
from tests.torture.tracer import CALLS, THREADS, Struck, paths_of, run_struck, why_not

PAGES = 8
IN_FLIGHT = 4
FILES = 3
KILL = "KILL"


@dataclasses.dataclass(frozen=True)
class Strike:
    """One call of one thread, and what becomes of it.

    Args:
        who: the thread.
        call: its name.
        nth: its ordinal among the thread's calls of that name, from 1.
        what: an error's name, or ``KILL``.
        stays: whether all calls of that name that come after it fail, too.
    """

    who: str
    call: str
    nth: int
    what: str
    stays: bool = False

    def __str__(self) -> str:
        return f"{self.who}'s {self.call} {self.nth}{' and on' if self.stays else ''}: {self.what}"

    @property
    def injection(self) -> str:
        """What strace is told."""
        what = f"signal={self.what}" if self.what == KILL else f"error={self.what}"
        return f"inject={self.call}:{what}:when={self.nth}{'+' if self.stays else ''}"


@dataclasses.dataclass(frozen=True)
class Yard:
    """Where crawls are struck at: their processes, their server, and further arguments of theirs."""

    nursery: Nursery
    server: CountingServer
    more: tuple[str, ...] = ()

    def setup_in(self, folder: pathlib.Path) -> Setup:
        """Return the tiny crawl, in a folder that is made."""
        folder.mkdir(parents=True)
        more = ("--in-flight", str(IN_FLIGHT), *self.more)
        return Setup(self.nursery, self.server.world(PAGES), folder, handles=True, more=more)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a strike: whether it struck, with which exit code, and what is wrong."""

    strike: Strike
    is_struck: bool
    code: int
    wrong: tuple[str, ...]


def strikes(setup: Setup, *, kills: bool) -> list[Strike]:
    """Return every strike there is, learnt from a run that isn't struck at."""
    found = []
    for who in THREADS:
        calls = ["-e", f"trace={','.join(CALLS)}"]
        trace = _cleared(setup, who, *calls).trace
        for call, count in collections.Counter(re.findall(r"^(\w+)\(", trace, re.MULTILINE)).items():
            for nth in range(1, count + 1):
                if kills:
                    found.append(Strike(who, call, nth, KILL))
                else:
                    found += [Strike(who, call, nth, what, stays) for what in CALLS[call] for stays in (False, True)]
    return found


def struck_at(yard: Yard, folder: pathlib.Path, strike: Strike) -> Outcome:
    """Strike at a crawl in a new folder; have it completed; return what came of it."""
    setup = yard.setup_in(folder)
    ended = run_struck(setup, strike.who, *paths_of(setup), "-e", f"trace={strike.call}", "-e", strike.injection)
    wrong = [] if strike.what == KILL else _wrong_with(ended)
    wrong += [f"afterwards: {one}" for one in setup.finish()]
    return Outcome(strike, ended.is_struck, ended.code, tuple(wrong))


def _wrong_with(ended: Struck) -> list[str]:
    lines = ended.said.splitlines()
    if ended.code == FILES and len(lines) == 1 and lines[0].startswith("crawlpool: "):
        return []
    if ended.code == DONE and not lines:
        return []
    return [f"exit code {ended.code}: {' … '.join(lines[:1] + lines[1:][-2:])}"]


def _cleared(setup: Setup, who: str, *how: str) -> Struck:
    ended = run_struck(setup, who, *paths_of(setup), *how)
    assert (ended.code, ended.said) == (DONE, ""), (ended.code, ended.said)
    shutil.rmtree(setup.job)
    return ended


def torture(chosen: Iterable[Strike], yard: Yard, base: pathlib.Path) -> Iterator[Outcome]:
    """Strike at a crawl once for each; yield what came of it."""
    for number, strike in enumerate(chosen):
        folder = base / str(number)
        outcome = struck_at(yard, folder, strike)
        if not outcome.wrong:
            shutil.rmtree(folder)
        yield outcome


def told(outcomes: Sequence[Outcome]) -> str:
    """Return what came of it in words."""
    codes = collections.Counter(outcome.code for outcome in outcomes)
    wrong = sum(len(outcome.wrong) for outcome in outcomes)
    missed = sum(not outcome.is_struck for outcome in outcomes)
    first = f"{len(outcomes)} strikes, {missed} of them at calls that didn't come, exit codes {dict(codes)}"
    return f"{first}, {wrong} wrong"


def main(arguments: list[str]) -> int:
    """Strike at every call, or a sample of them, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "fail"))
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a part of what the strike is called")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder in which what went wrong stays to be looked at")
    options = parser.parse_args(arguments)
    if why_not():
        print(f"skipped: {why_not()}")
        return 0
    with contextlib.ExitStack() as stack:
        yard = Yard(stack.enter_context(Nursery()), stack.enter_context(CountingServer()))
        base = options.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crawlpool-")))
        all_of_them = strikes(yard.setup_in(base / "first"), kills=options.what == "kill")
        chosen = [one for one in all_of_them if options.only is None or options.only in str(one)]
        if options.sample is not None:
            chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
        print(f"{len(all_of_them)} strikes are possible, {len(chosen)} are made", flush=True)
        outcomes = []
        for outcome in torture(chosen, yard, base):
            outcomes.append(outcome)
            for one in outcome.wrong:
                print(f"{outcome.strike}: {one}", flush=True)
    print(told(outcomes))
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
