"""Shards for tests of taking over: claimed, crawled, and looked at."""

from __future__ import annotations

import os
import pathlib
import shutil

from crawlpool import open_job
from crawlpool.jobs.verify import verify
from crawlpool.shards import takeover
from crawlpool.shards.held import Held
from crawlpool.shards.keeper import LeaseKeeper

LEDGER = "ledger.sqlite3"
#: The folder of a crawl, made once for the tests of a file.
SITE: list[pathlib.Path] = []


def claim(keeper: LeaseKeeper, shard: pathlib.Path) -> Held:
    held = keeper.claim(str(shard))
    assert isinstance(held, Held)
    return held


def names(folder: str | pathlib.Path) -> list[str]:
    """Return the files in a folder, those of its folders included."""
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, files in os.walk(folder) for name in files)


def flaws(path: str | pathlib.Path) -> list[str]:
    """Return what is wrong with a job."""
    with open_job(str(path)) as job:
        return [str(one) for one in verify(job).flaws]


def crawled(keeper: LeaseKeeper, shard: pathlib.Path) -> Held:
    """Claim a shard, have a site crawled in its first epoch, and keep it held."""
    held = claim(keeper, shard)
    epoch = takeover.enter(held)
    shutil.copytree(SITE[0], epoch.path, dirs_exist_ok=True)
    return held
