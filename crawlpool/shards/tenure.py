"""A tenure's file: who owns a shard now, which folder of it is in use, and how it was left.

Each ownership of a shard is a file ``tenure-00000003`` in the shard's folder, the next number each time. It is made
whole or not at all, and only by one: under another name first, then by ``link``, which fails where the name is taken,
on network file systems, too. The file with the highest number says who owns the shard; whoever made it does, and nobody
else ever writes to it.

Its owner writes it again in its place, always as many bytes or more: a new file by the same name could be hidden from
others by what a network file system remembers of the folder. So a reader may find it half written, and tells so by a
digest: it looks again. A file that stays so is that of an owner who lost its power; nothing but its bytes is looked at
then, as of any other, and whether they change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from typing import Any

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line
from crawlpool.shards.layout import tenure_name, tenure_of, tenures_there
from crawlpool.shards.owner import Owner

_LEAST_BYTES, _MOST_BYTES = 1024, 1 << 20  # a page of any disk holds the least: it is nearly never seen half written
_DIGEST_BYTES = 16
_LOOKS = 3
_NO_LINKS = frozenset((errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK))
_UNDER = ".tenure-"  # how the names of those begin that are being made


@dataclasses.dataclass(frozen=True)
class Tenure:
    """One ownership of a shard, as its file has it.

    Args:
        number: of the tenure; the highest of a shard counts.
        owner: who has, or had it.
        epoch: the number of the folder in use; 0 while there is none yet.
        is_sole: whether nobody but its owner can write to that folder: not while it is still that of a former owner who
            didn't give it up.
        counter: goes up with each refresh.
        is_released: whether its owner gave it up by itself, with all files closed.
        pending: targets that were left then, ``None`` where nobody counted them.
        is_input_done: whether all of the input was partitioned, and had come in, then.
        report: the shard's books, as who ran it gave them; JSON-ready.
        reason: why it was given up before its end, ``None`` where that needs no word.
    """

    number: int
    owner: Owner
    epoch: int = 0
    is_sole: bool = dataclasses.field(default=False, kw_only=True)
    counter: int = 0
    is_released: bool = False
    pending: int | None = None
    is_input_done: bool = False
    report: Mapping[str, Any] | None = None
    reason: str | None = None

    def to_bytes(self) -> bytes:
        """Return what its file holds."""
        text = json.dumps(
            {
                "v": 1,
                "owner": dataclasses.asdict(self.owner),
                "epoch": self.epoch,
                "is_sole": self.is_sole,
                "counter": self.counter,
                "state": "released" if self.is_released else "held",
                "pending": self.pending,
                "is_input_done": self.is_input_done,
                "report": self.report,
                "reason": self.reason,
            },
            ensure_ascii=True,
            separators=(",", ":"),
        ).encode()
        return b"%b %b\n" % (_digest_of(text), text.ljust(_LEAST_BYTES))

    @classmethod
    def from_bytes(cls, number: int, content: bytes) -> Tenure | None:
        """Return the tenure of a file's bytes; ``None`` where they are half written, or no tenure's at all."""
        digest, _, rest = content.partition(b" ")
        text = rest.partition(b"\n")[0].rstrip(b" ")
        if digest != _digest_of(text):
            return None
        try:
            told = json.loads(text)
            return cls(
                number=number,
                owner=Owner(**told["owner"]),
                epoch=told["epoch"],
                is_sole=told["is_sole"],
                counter=told["counter"],
                is_released=told["state"] == "released",
                pending=told["pending"],
                is_input_done=told["is_input_done"],
                report=told["report"],
                reason=told["reason"],
            )
        except (ValueError, TypeError, KeyError):
            return None


def content_of(shard_folder: str, number: int) -> bytes | None:
    """Return the bytes of a tenure's file, ``None`` where it is gone.

    Raises:
        SinkError: when it can't be read.
    """
    try:
        # Opened each time: by that a network file system asks its server whether the file was changed.
        fd = os.open(os.path.join(shard_folder, tenure_name(number)), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _trouble(shard_folder, error) from error
    try:
        return os.read(fd, _MOST_BYTES)
    except OSError as error:
        raise _trouble(shard_folder, error) from error
    finally:
        os.close(fd)


def newest(shard_folder: str) -> Tenure | None:
    """Return the tenure that counts, ``None`` of a shard that nobody has had. Locks nothing; anybody may ask.

    Raises:
        JobError: when its file is damaged, and not only half written, or can't be looked for.
        SinkError: when it can't be read.
    """
    for _ in range(_LOOKS):
        there = tenures_there(shard_folder)
        if not there:
            return None
        content = content_of(shard_folder, there[-1])
        if content is not None:  # else a later owner has removed it meanwhile
            tenure = Tenure.from_bytes(there[-1], content)
            if tenure is not None:
                return tenure
    raise JobError(f"{one_line(os.path.join(shard_folder, tenure_name(there[-1])))}: is damaged, or no tenure's file")


def make(shard_folder: str, tenure: Tenure) -> bool:
    """Begin a tenure: make its file, whole and synced; return whether nobody else had made it before.

    Args:
        shard_folder: the shard's; it must be there.
        tenure: what to write. Its number is one more than that of the one before.

    Raises:
        SinkError: when it can't be written.
    """
    path = os.path.join(shard_folder, tenure_name(tenure.number))
    under = os.path.join(shard_folder, f".{tenure_name(tenure.number)}-{secrets.token_hex(8)}")
    try:
        fd = disk.open_file(under, create=True, exclusive=True)
        try:
            try:
                disk.write_all(fd, tenure.to_bytes())
                disk.sync_file(fd)
            finally:
                os.close(fd)
            is_made = _linked(under, path)
        finally:
            with contextlib.suppress(OSError):
                disk.remove(under)
        disk.sync_folder(shard_folder)
    except OSError as error:
        raise _trouble(path, error) from error
    return is_made


def open_file(shard_folder: str, number: int) -> int:
    """Return a descriptor of a tenure's file, for ``rewrite``.

    Raises:
        SinkError: when it can't be opened.
    """
    path = os.path.join(shard_folder, tenure_name(number))
    try:
        return disk.open_file(path)
    except OSError as error:
        raise _trouble(path, error) from error


def rewrite(fd: int, tenure: Tenure) -> None:
    """Write a tenure again into its open file, and return when that is on the disk.

    Raises:
        OSError: when it can't be written.
    """
    data = tenure.to_bytes()
    os.lseek(fd, 0, os.SEEK_SET)
    disk.write_all(fd, data)
    disk.sync_file(fd)


def remove_before(shard_folder: str, number: int) -> None:
    """Remove the files of earlier tenures, and what half-made ones left; nothing is said of what can't be removed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(shard_folder):
            of = tenure_of(name)
            if of is None and name.startswith(_UNDER):
                of = tenure_of(name[1:].rpartition("-")[0])
            if of is not None and of < number:
                with contextlib.suppress(OSError):
                    disk.remove(os.path.join(shard_folder, name))


def _linked(under: str, path: str) -> bool:
    try:
        disk.link(under, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _made_at_once(under, path)  # a file system without links: the exclusive making of a name is all it has
    # An answer of a network file system may be lost after the deed was done, and the second try fail: the count tells.
    return os.stat(under).st_nlink == 2


def _made_at_once(under: str, path: str) -> bool:
    try:
        fd = disk.open_file(path, create=True, exclusive=True)
    except FileExistsError:
        return False
    try:
        with open(under, "rb") as source:
            disk.write_all(fd, source.read())
        disk.sync_file(fd)
    finally:
        os.close(fd)
    return True


def _digest_of(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest().encode()


def _trouble(path: str, error: OSError) -> SinkError:
    return SinkError(f"{one_line(path)}: {error.strerror or error}")
