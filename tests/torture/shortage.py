"""Real shortages: a full disk, few descriptors, sockets that can't be had: ``python -m tests.torture.shortage``.

Each time the crawl has to end by itself, with exit code 3 and one line or with all done; and the same command without
the shortage has to complete the job with nothing lost, doubled or torn.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.torture.nursery import Nursery
from tests.torture.process import DONE, Setup
from tests.torture.site import CountingServer
from tests.torture.syscalls import FILES, Yard
from tests.torture.tracer import run_struck
from tests.torture.tracer import why_not as why_not_traced

PAGES = 40
#: Sizes in KiB of the disk that is too small; a whole crawl takes some 300.
SIZES = (16, 32, 64, 96, 128, 160, 192, 224, 256)
ENOUGH = 4096
#: How many descriptors there may be from when the job is opened: from the least with which a crawl begins to enough.
#: The command asks for more than that before it begins; a program that holds many of its own comes to it all the same.
DESCRIPTORS = {"urllib3": range(15, 40), "curl": range(20, 44)}


@functools.cache
def why_no_disk() -> str | None:
    """Return why no small disk can be made here; ``None`` where it can."""
    if not sys.platform.startswith("linux"):
        return "tmpfs is of Linux"
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "only root may mount a disk"
    with tempfile.TemporaryDirectory(prefix="crawlpool-disk-") as folder:
        try:
            with _disk(pathlib.Path(folder), 64):
                return None
        except subprocess.CalledProcessError as error:
            return f"no disk can be mounted here: {error.stderr.decode().strip()}"


@contextlib.contextmanager
def _disk(folder: pathlib.Path, kib: int) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={kib}k", "crawlpool", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def wrong_with_end(code: int, said: str) -> list[str]:
    """Return what is wrong with how a process ended that was short of something."""
    lines = said.splitlines()
    if code == FILES and len(lines) == 1 and lines[0].startswith("crawlpool: "):
        return []
    return [] if (code, said) == (DONE, "") else [f"exit code {code}: {' … '.join(lines[:1] + lines[1:][-2:])}"]


def on_a_full_disk(yard: Yard, base: pathlib.Path, kib: int, *more: str) -> list[str]:
    """Crawl to a disk that is too small, make it larger, go on; return what is wrong."""
    setup = _setup(yard, base / f"disk-{kib}", *more)
    setup.job.mkdir()
    with _disk(setup.job, kib):
        code, said = setup.run()
        wrong = wrong_with_end(code, said)
        if code == DONE:
            wrong.append(f"{kib} KiB were enough: nothing is shown by that")
        _mount("-o", f"remount,size={ENOUGH}k", str(setup.job))
        return [f"a disk of {kib} KiB: {one}" for one in (*wrong, *(f"afterwards: {one}" for one in setup.finish()))]


def with_few_descriptors(yard: Yard, base: pathlib.Path, most: int, transport: str) -> list[str]:
    """Crawl with so many descriptors, then with enough; return what is wrong."""
    setup = _setup(yard, base / f"descriptors-{most}-{transport}", "--transport", transport)
    code, said = setup.run("--open-files", str(most))
    wrong = [*wrong_with_end(code, said), *_wrong_afterwards(setup)]
    return [f"{most} descriptors: {one}" for one in wrong]


def without_sockets(yard: Yard, base: pathlib.Path, nth: int, transport: str) -> list[str]:
    """Crawl while each thread's nth socket can't be had, and none after it; then go on; return what is wrong."""
    setup = _setup(yard, base / f"sockets-{nth}-{transport}", "--transport", transport)
    injection = f"inject=socket:error=EMFILE:when={nth}+"
    ended = run_struck(setup, "feeder", "-e", "trace=socket", "-e", injection, follows=True)
    wrong = [*wrong_with_end(ended.code, ended.said), *_wrong_afterwards(setup)]
    return [f"no socket from the {nth}th on: {one}" for one in wrong]


def _wrong_afterwards(setup: Setup) -> list[str]:
    """Go on, and take the URLs again that couldn't be asked for; return what is wrong then."""
    code, said = setup.run()
    if (code, said) != (DONE, ""):
        return [f"afterwards: exit code {code}: {said}"]
    before = setup.records()
    by_kind = collections.Counter((record.get("error") or {}).get("kind") for record in before)
    if by_kind["connect"]:
        again = setup.run("--retry-failed=connect")
        if again != (DONE, ""):
            return [f"taken again: exit code {again[0]}: {again[1]}"]
    return [f"afterwards: {one}" for one in setup.finish()]


def _setup(yard: Yard, folder: pathlib.Path, *more: str) -> Setup:
    folder.mkdir(parents=True)
    arguments = ("--in-flight", "4", *more)
    setup = Setup(yard.nursery, yard.server.world(PAGES), folder, handles=True, more=arguments)
    assert setup.input.exists()
    return setup


def main() -> int:
    """Go through all shortages and tell what came of them."""
    wrong: list[str] = []
    with CountingServer() as server, Nursery() as nursery, tempfile.TemporaryDirectory() as name:
        yard, base = Yard(nursery, server), pathlib.Path(name)
        for transport in ("urllib3", "curl"):
            for most in DESCRIPTORS[transport]:
                wrong += with_few_descriptors(yard, base, most, transport)
            print(f"{transport}: {len(DESCRIPTORS[transport])} limits of descriptors", flush=True)
            if why_not_traced() is None:
                for nth in (1, 2, 3):
                    wrong += without_sockets(yard, base, nth, transport)
        if why_no_disk() is None:
            for kib in SIZES:
                wrong += on_a_full_disk(yard, base, kib)
            print(f"{len(SIZES)} small disks", flush=True)
        else:
            print(f"no small disk: {why_no_disk()}", flush=True)
    print(*wrong, f"{len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
