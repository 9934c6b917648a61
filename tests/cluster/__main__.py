"""Run the proofs of jobs of shards: ``python -m tests.cluster same|storm|all [options]``."""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

from tests.cluster import same, storm


def main(arguments: list[str]) -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("what", choices=("same", "storm", "all"), nargs="?", default="all")
    parser.add_argument("--urls", type=int, default=20_000)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="crawlpool-cluster-") as folder:
        place = given.folder or pathlib.Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        if given.what in ("same", "all"):
            same.main(place, given.urls, given.hosts, given.shards)
        if given.what in ("storm", "all"):
            storm.main(place, storm.Storm(kills=given.kills, seed=given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
