"""Taking a shard over: which folder its new owner works in, and how that is made of what the former one left.

A former owner that gave the shard up has closed all files: the same folder goes on. Of any other it can't be known that
it is dead: it may be stopped, and write on when it wakes. So its folder is left to it, and what counts is copied to a
new one, of which it knows nothing; whatever it writes to the old one is never read again.

The new folder is made under another name, synced, and given its own; then the tenure names it. It has the number of the
tenure, which nobody else has: a claimer that was stopped half-way and wakes up can take no name that a later one needs.
For the same reason nothing is removed but what is older than the folder that a tenure names; so what a claimer leaves
that ends half-way goes later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line
from crawlpool.shards import atomic, layout
from crawlpool.shards.copying import Copier

if TYPE_CHECKING:
    from crawlpool.shards.held import Held

_UNDER, _GONE = ".e-", ".gone-"  # how the names of folders begin that are being made, and removed


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The folder in which a shard's owner works.

    Args:
        path: of the folder.
        number: of the epoch.
        origin: the epoch that it was copied from; ``None`` where it is the first, or goes on.
    """

    path: str
    number: int
    origin: int | None = None


def enter(held: Held, *, is_shared: bool = False) -> Epoch:
    """Return the folder for a shard that was just claimed, made of what the former owner left; its tenure names it.

    Args:
        held: the claim.
        is_shared: whether the folder lies on a network file system, where a ledger must not use a write-ahead log.

    Raises:
        JobError: when the lease ended meanwhile, or what the former owner left is damaged.
        SinkError: when the new folder can't be written.

    Folders of epochs before the one that this begins with are removed; that one isn't: who reads the job may be in it.
    After an error the shard is still held: release it with the reason, or abandon it; the next owner makes a copy all
    the same. May be called by any thread; copies as much as the ledger and the open files hold.
    """
    shard = held.folder
    there = epochs_there(shard)
    former = held.epoch
    if held.is_former_damaged:
        former = max(there, default=0)  # who has made the highest had copied it whole, named or not
    if former and former not in there:  # whoever began anew here would lose all of it, and nobody would know
        missing = os.path.join(shard, layout.epoch_name(former))
        raise JobError(f"{one_line(missing)}: is missing, and its tenure names it")
    if held.is_former_released and former:
        _clear(held, former)
        held.check()  # else a later owner may have removed it, after a copy of its own: nobody is to make it anew
        return Epoch(os.path.join(shard, layout.epoch_name(former)), former)
    origin = former or None
    number = max(held.number, *(one + 1 for one in there), former + 1)
    _clear(held, former)
    path = os.path.join(shard, layout.epoch_name(number))
    _made(held, origin, path, is_shared=is_shared)
    held.use(number)
    return Epoch(path, number, origin)


def epochs_there(shard_folder: str) -> list[int]:
    """Return the numbers of the epochs that have folders, in order.

    Raises:
        SinkError: when the shard's folder can't be read.
    """
    try:
        names = os.listdir(shard_folder)
    except OSError as error:
        raise SinkError(f"{one_line(shard_folder)}: {error.strerror or error}") from error
    return sorted(number for name in names if (number := layout.epoch_of(name)) is not None)


def _made(held: Held, origin: int | None, path: str, *, is_shared: bool) -> None:
    """Make an epoch's folder under its name, of what counts of another one, or empty."""
    shard = held.folder
    under = os.path.join(shard, f"{_UNDER}{held.number}-{secrets.token_hex(4)}")
    try:
        disk.make_folder(under)
        batches: dict[str, int] = {}
        if origin is not None:
            copier = Copier(os.path.join(shard, layout.epoch_name(origin)), under, held.check)
            known = copier.ledger(is_shared=is_shared)
            copier.outputs(known)
            copier.small()
            copier.sync()
            batches = dict(known.batches)
        told = {"v": 1, "from": origin, "batch": batches.get(str(origin), 0), "batches": batches}
        atomic.put_json(os.path.join(under, layout.ORIGIN), told)
        disk.sync_folder(under)
        held.check()
        disk.rename(under, path)
        disk.sync_folder(shard)
    except OSError as error:
        shutil.rmtree(under, ignore_errors=True)
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"{one_line(error.filename or path)}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(under, ignore_errors=True)
        raise


def _clear(held: Held, in_use: int) -> None:
    """Remove folders of earlier epochs, and what earlier claimers left half made. Never one that may be in use by now.

    That needs no lease, and may be done by a claimer that was stopped in the midst of it, whatever others have done
    since: numbers of epochs only go up, and nobody who came later works in, or copies, one below ``in_use``.

    Args:
        held: the claim, which may have ended.
        in_use: the epoch that it was made with, or made.
    """
    shard = held.folder
    with contextlib.suppress(OSError):
        for name in os.listdir(shard):
            path, epoch = os.path.join(shard, name), layout.epoch_of(name)
            if epoch is not None and epoch < in_use:
                gone = os.path.join(shard, f"{_GONE}{name}-{secrets.token_hex(4)}")
                with contextlib.suppress(OSError):
                    disk.rename(path, gone)  # at once, so that nobody takes half of it for a folder
                    path = gone
            elif not (name.startswith(_GONE) or _is_older(name, held.number)):
                continue
            shutil.rmtree(path, ignore_errors=True)


def _is_older(name: str, tenure: int) -> bool:
    """Tell whether a folder was being made under a tenure before this one."""
    number = name.removeprefix(_UNDER).partition("-")[0]
    return name.startswith(_UNDER) and number.isdigit() and int(number) < tenure
