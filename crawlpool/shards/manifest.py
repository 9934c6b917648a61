"""The manifest of a sharded job: what was decided when it was made, and holds for every worker and every run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from crawlpool.config import check, is_count, is_seconds
from crawlpool.errors import ConfigError, JobError
from crawlpool.jobs.job import differences
from crawlpool.ledger.schema import NAME as LEDGER
from crawlpool.redact import one_line
from crawlpool.shards import atomic
from crawlpool.shards.hashing import Sharding, check_shards
from crawlpool.shards.layout import MANIFEST, SUFFIXES, is_begun
from crawlpool.suffixes import SuffixList, installed_list

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
#: How long a worker that nothing is heard of keeps its shards.
DEFAULT_LEASE_S = 30.0
#: What helps where it is lost: nothing else in the folder has what stands in it.
_PUT_BACK = "this is the job's manifest: put it back from a copy, as nothing of the job can be read without it"
#: What one run may not have otherwise than the one before.
_FIXED = ("shards", "outputs", "lease_s", "is_shared")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a sharded job is.

    Args:
        job_id: tells this job from every other.
        shards: how many there are.
        part: which part of the job lies in this folder, as (which, of how many), from 1; ``None`` for all of it.
        suffixes_sha256: of ``suffixes.dat``, by which hosts are told apart.
        outputs: what each shard writes, as ``Job.outputs``.
        fixed: what must be the same whenever the job goes on, as ``Job.fixed``; JSON-ready, no credential.
        lease_s: seconds for which nothing is heard of an owner before another may take its shard.
        is_shared: whether the folder lies on a file system of several machines: then ledgers have no write-ahead log.
        created_at: by the wall clock.
        v: the form of the file.

    Raises:
        ConfigError: for a value that can't be.
    """

    job_id: str
    shards: int
    part: tuple[int, int] | None
    suffixes_sha256: str
    outputs: tuple[str, ...]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lease_s: float = DEFAULT_LEASE_S
    is_shared: bool = False
    created_at: float = 0.0
    v: int = VERSION

    def __post_init__(self) -> None:
        check(self.v == VERSION, "v", self.v, f"{VERSION}")
        for name in ("job_id", "suffixes_sha256"):
            value = getattr(self, name)
            check(isinstance(value, str) and value != "", name, value, "a text")
        check_shards(self.shards)
        check_part(self.part, self.shards)
        check(is_seconds(self.lease_s) and self.lease_s >= 1, "lease_s", self.lease_s, "at least 1 second")
        is_texts = not isinstance(self.outputs, str) and all(isinstance(name, str) for name in self.outputs)
        check(is_texts, "outputs", self.outputs, "a sequence of names")
        check(isinstance(self.fixed, dict), "fixed", self.fixed, "values by name")
        check(isinstance(self.is_shared, bool), "is_shared", self.is_shared, "true or false")
        check(is_seconds(self.created_at, zero=True), "created_at", self.created_at, "a time")

    def mine(self) -> range:
        """Return the numbers of the shards that belong to this folder."""
        which, of = self.part or (1, 1)
        return range(which - 1, self.shards, of)

    @property
    def crawl_id(self) -> str:
        """Which crawl this is: the same for all parts of one, and for no other crawl, as far as that can be told.

        A job in one folder has an id that was drawn for it. The parts of a job are made on machines that know nothing
        of each other: what they have in common is what they were begun with. So two crawls that were begun with the
        same options, with inputs that have the same names, can't be told apart when they are cut into as many parts.
        """
        if self.part is None:
            return self.job_id
        begun_with = {"parts": self.part[1], "outputs": self.outputs, "fixed": self.fixed}
        text = json.dumps(begun_with, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()

    @property
    def sharding_id(self) -> str:
        """What two folders must have in common for their targets to belong together: it stands in each segment."""
        return f"{self.shards}:{self.suffixes_sha256[:16]}:{self.crawl_id}"

    def sharding(self, folder: str) -> Sharding:
        """Return which shard each host belongs to, by the list that was frozen.

        Raises:
            JobError: when the list is gone, or isn't what it was.
        """
        return Sharding(self.shards, frozen(folder, self.suffixes_sha256))


def check_part(part: object, shards: int) -> None:
    """Raise ``ConfigError`` unless ``part`` is a part of a job of so many shards, or ``None``."""
    if part is None:
        return
    numbers: tuple[int, ...] = part if isinstance(part, tuple) and all(map(is_count, part)) else ()
    is_good = len(numbers) == 2 and numbers[0] <= numbers[1] <= shards
    rule = "which part of how many, as 2/4; no more parts than shards"
    check(is_good, "part", "/".join(map(str, numbers)) if numbers else part, rule)


def is_sharded(folder: str) -> bool:
    """Tell whether a folder is that of a sharded job, also where its manifest was lost: ``read`` says so then.

    Raises:
        JobError: when the folder has shards that can't be looked into.
    """
    if os.path.isfile(os.path.join(folder, MANIFEST)):
        return True
    return not os.path.lexists(os.path.join(folder, LEDGER)) and is_begun(folder)


def new(folder: str, *, shards: int, created_at: float, **others: Any) -> Manifest:
    """Return the manifest of a job that is about to be made in a folder, with its list of suffixes frozen there.

    Args:
        folder: the job's; it is there.
        shards: how many there are.
        created_at: the wall clock's time.
        others: as ``Manifest`` takes them.

    Raises:
        ConfigError: for a value that can't be.
        SinkError: when the list can't be written.
    """
    check_shards(shards)
    check_part(others.get("part"), shards)
    others.setdefault("part", None)
    return Manifest(secrets.token_hex(8), shards, suffixes_sha256=freeze(folder), created_at=created_at, **others)


def write(folder: str, manifest: Manifest) -> None:
    """Write a job's manifest, whole and for good: from then on the folder is that of a sharded job.

    Raises:
        SinkError: when it can't be written.
    """
    atomic.put_json(os.path.join(folder, MANIFEST), dataclasses.asdict(manifest))


def read(folder: str) -> Manifest:
    """Return a job's manifest.

    Raises:
        JobError: when there is none, or it is damaged, or written by a later crawlpool.
    """
    path = os.path.join(folder, MANIFEST)
    data = atomic.get(path)
    if data is None:
        if is_begun(folder):
            raise JobError(f"{one_line(path)}: is missing, and shards of the job are there; {_PUT_BACK}")
        raise JobError(f"{one_line(folder)}: no job with shards: it has no {MANIFEST}")
    found = atomic.object_in(data)
    if found is None:
        raise JobError(f"{one_line(path)}: is damaged: no JSON object; {_PUT_BACK}")
    version = found.get("v")
    if isinstance(version, int) and version > VERSION:
        raise JobError(
            f"{one_line(path)}: this job was made by a later crawlpool (manifest version {version}, here {VERSION}): "
            "use that one, or a newer"
        )
    try:
        for name in ("part", "outputs"):
            if isinstance(found[name], list):
                found[name] = tuple(found[name])
        return Manifest(**found)
    except (ConfigError, TypeError, KeyError) as error:
        raise JobError(f"{one_line(path)}: is damaged: {one_line(str(error))}; {_PUT_BACK}") from None


def check_same(folder: str, before: Manifest, now: Manifest) -> None:
    """Refuse to go on with a job with other settings than it was begun with.

    Args:
        folder: the job's.
        before: its manifest.
        now: what it would be made with now; ``job_id``, ``created_at`` and the list of suffixes are its own.

    Raises:
        JobError: naming each setting, what it was, and what it is now.
    """
    told = differences(json.loads(json.dumps(_settings(before))), _settings(now))  # as JSON has them
    if before.part != now.part:
        part = f"--shard was {_shard_option(before)}, now {_shard_option(now)}"
        told = f"{part}; {told}" if told else part
    if told:
        raise JobError(f"{one_line(folder)}: the job was begun with other settings: {told}")


def freeze(folder: str) -> str:
    """Write the public suffix list that is in use into a job's folder; return its SHA-256.

    A list that is there already stays: it was put there so that the parts of one job, on several machines, have the
    same one.

    Raises:
        SinkError: when it can't be written.
        JobError: when the one that is there can't be read.
    """
    path = os.path.join(folder, SUFFIXES)
    data = atomic.get(path)
    if data is None:
        data = installed_list()
        atomic.put(path, [data])
    return hashlib.sha256(data).hexdigest()


def frozen(folder: str, sha256: str) -> SuffixList:
    """Return the public suffix list that a job's folder has.

    Raises:
        JobError: when it is gone, or isn't what it was when the job was made.
    """
    path = os.path.join(folder, SUFFIXES)
    data = atomic.get(path)
    if data is None:
        raise JobError(f"{one_line(path)}: the job's file is gone")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise JobError(f"{one_line(path)}: isn't the list that the job was made with: hosts would change their shards")
    return _list_of(data)


@functools.lru_cache(maxsize=4)
def _list_of(data: bytes) -> SuffixList:
    return SuffixList(data)  # once a process: to read it takes 50 ms


def _settings(manifest: Manifest) -> dict[str, Any]:
    return {**manifest.fixed, **{name: getattr(manifest, name) for name in _FIXED}}


def _shard_option(manifest: Manifest) -> str:
    return "not given" if manifest.part is None else f"{manifest.part[0]}/{manifest.part[1]}"
