"""All of it, the long way: ``python -m tests.torture`` (``tox -e torture``), some half an hour on two cores.

Kills at random moments (``storm``) and at every call of the system that changes a job (``syscalls kill``); each of
these calls failing (``syscalls fail``), and each of the disk's and SQLite's in one process (``test_faults``); real
shortages (``shortage``); losses of power (``powercuts``); and the pages of real documentation (``pages``). Each part
can be run alone: ``python -m tests.torture.storm --help``. What needs strace or root is left out, with the reason,
where it can't be had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

from tests.torture import pages, powercuts, shortage, storm, syscalls

PARTS: dict[str, Callable[[str], int]] = {
    "kills at random moments": lambda seed: storm.main(["--kills", "200", "--seed", seed]),
    "kills at every call": lambda seed: syscalls.main(["kill", "--all-outputs"]),
    "every call failing": lambda seed: syscalls.main(["fail"]),
    "faults in a process": lambda seed: _faults(),
    "real shortages": lambda seed: shortage.main(),
    "losses of power": lambda seed: powercuts.main(["--replays", "2000", "--seed", seed]),
    "real pages": lambda seed: pages.main(),
}


def _faults() -> int:
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=600", "tests/torture/test_faults.py"]
    return subprocess.run(command, env={**os.environ, "TORTURE_STEP": "1"}).returncode


def main(arguments: list[str]) -> int:
    """Run all parts, or those named; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}: a word of each that is wanted")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args(arguments)
    failed = []
    for name, part in PARTS.items():
        if options.parts and not any(word in name for word in options.parts):
            continue
        began_s = time.monotonic()
        print(f"== {name}", flush=True)
        if part(options.seed):
            failed.append(name)
        print(f"   {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"wrong: {', '.join(failed)}" if failed else "nothing wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
