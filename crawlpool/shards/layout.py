"""Where everything of a sharded job lies: each name is made and taken apart here, and nowhere else.

DIR/
  job.toml  manifest.json  suffixes.dat  input.json  lock
  runners/NAME.json  runners/NAME.stop
  shards/0007/
    tenure-00000003          who has the shard, or had it last
    e0002/                   the epoch folder: a job folder, as that of a job without shards
    inbox/input-00000001.seg
"""

from __future__ import annotations

import contextlib
import os
import re

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

MANIFEST = "manifest.json"
SUFFIXES = "suffixes.dat"
INPUT = "input.json"
RUNNERS = "runners"
SHARDS = "shards"
INBOX = "inbox"
#: In an epoch folder: where it came from.
ORIGIN = "origin.json"
#: The coordinator's file among those of the runners.
COORDINATOR = "coordinator"

#: How the names of segments begin that come from other shards.
_CARRIED = "from-"
_OURS = frozenset({MANIFEST, SUFFIXES, INPUT, RUNNERS, SHARDS, "job.toml", "lock", "control"})
_SHARD = re.compile(r"[0-9]{4,}")
_EPOCH = re.compile(r"e([0-9]{4,})")
_TENURE = re.compile(r"tenure-([0-9]{8,})")


def shard_name(shard: int) -> str:
    """Return the name of a shard's folder: ``0007``."""
    return f"{shard:04d}"


def shard_folder(root: str, shard: int) -> str:
    """Return the path of a shard's folder.

    Args:
        root: the job's folder.
        shard: its number, from 0.
    """
    return os.path.join(root, SHARDS, shard_name(shard))


def inbox_folder(root: str, shard: int) -> str:
    """Return the path of the folder in which the segments for a shard lie."""
    return os.path.join(root, SHARDS, shard_name(shard), INBOX)


def shards_there(root: str) -> list[int]:
    """Return the numbers of the shards that have a folder, in their order; one without has never had a target.

    Raises:
        JobError: when the job's folder can't be read.
    """
    found = (name for name in _listed(os.path.join(root, SHARDS)) if _SHARD.fullmatch(name))
    return sorted(int(name) for name in found if shard_name(int(name)) == name)


def is_begun(root: str) -> bool:
    """Tell whether anything of a job's shards lies in a folder. Segments that were carried there alone are nothing yet.

    Raises:
        JobError: when it can't be looked into.
    """
    if not os.path.isdir(os.path.join(root, SHARDS)):
        return False
    if os.path.lexists(os.path.join(root, INPUT)):
        return True
    for shard in shards_there(root):
        if set(_listed(shard_folder(root, shard))) - {INBOX}:
            return True
        if not all(name.lstrip(".").startswith(_CARRIED) for name in _listed(inbox_folder(root, shard))):
            return True
    return False


def epoch_name(epoch: int) -> str:
    """Return the name of an epoch's folder: ``e0002``."""
    return f"e{epoch:04d}"


def epoch_folder(root: str, shard: int, epoch: int) -> str:
    """Return the path of an epoch's folder."""
    return os.path.join(root, SHARDS, shard_name(shard), epoch_name(epoch))


def epoch_of(name: str) -> int | None:
    """Return the epoch whose folder has that name; ``None`` for another name."""
    return _number(_EPOCH, name, epoch_name)


def tenure_name(number: int) -> str:
    """Return the name of a tenure's file: ``tenure-00000003``."""
    return f"tenure-{number:08d}"


def tenure_of(name: str) -> int | None:
    """Return the number of the tenure whose file has that name; ``None`` for another name."""
    return _number(_TENURE, name, tenure_name)


def tenures_there(folder: str) -> list[int]:
    """Return the numbers of the tenures whose files are in a shard's folder, in their order.

    Raises:
        JobError: when the folder can't be read; of none that is there there are none.
    """
    return sorted(number for name in _listed(folder) if (number := tenure_of(name)) is not None)


def runners_folder(root: str) -> str:
    """Return the path of the folder in which the workers tell of themselves."""
    return os.path.join(root, RUNNERS)


def runner_file(root: str, name: str) -> str:
    """Return the path of what a worker tells of itself; ``COORDINATOR`` is the name of who watches."""
    return os.path.join(root, RUNNERS, f"{name}.json")


def runner_stop(root: str, name: str) -> str:
    """Return the path of the file by which a worker is told to drain or to stop."""
    return os.path.join(root, RUNNERS, f"{name}.stop")


def within_job(folder: str) -> str:
    """Return where an epoch's folder lies in its job's: ``shards/0007/e0002``; empty for any other folder."""
    names = os.path.abspath(folder).split(os.sep)[-3:]
    is_epoch = names[0] == SHARDS and _SHARD.fullmatch(names[1]) is not None and epoch_of(names[2]) is not None
    return "/".join(names) if is_epoch else ""


def make_inbox(root: str, shard: int) -> str:
    """Make a shard's folder with its inbox where there are none, so that they are on the disk; return the inbox's path.

    Raises:
        SinkError: when they can't be made.
    """
    path = inbox_folder(root, shard)
    if not os.path.isdir(path):
        for folder in (os.path.join(root, SHARDS), shard_folder(root, shard), path):
            make_folder(folder)
    return path


def make_folder(path: str) -> None:
    """Make a folder where there is none, so that its name is on the disk.

    Raises:
        SinkError: when it can't be made.
    """
    try:
        with contextlib.suppress(FileExistsError):
            disk.make_folder(path)
        # Also where it was there: who made it may have been killed before its name was on the disk.
        disk.sync_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error


def check_root(root: str) -> None:
    """Refuse a folder that has other files than a sharded job's, an unsharded job included.

    Args:
        root: the folder; it is there.

    Raises:
        JobError: naming the folder and a file.
        SinkError: when it can't be read.
    """
    try:
        names = os.listdir(root)
    except OSError as error:
        raise SinkError(f"{one_line(root)}: {error.strerror or error}") from error
    others = sorted(name for name in names if name not in _OURS and name.lstrip(".") not in _OURS)
    if MANIFEST not in names and others:
        what = "is a job without shards" if "ledger.sqlite3" in names else f"has other files ({one_line(others[0])})"
        raise JobError(f"{one_line(root)}: {what}; give a new folder for a job with shards")


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JobError(f"{one_line(path)}: {error.strerror or error}") from error


def _number(pattern: re.Pattern[str], name: str, named: object) -> int | None:
    found = pattern.fullmatch(name)
    if found is None:
        return None
    number = int(found[1])
    return number if named(number) == name else None  # type: ignore[operator]
