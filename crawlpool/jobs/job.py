"""A job: its folder, who has it, and all that is open of it while a crawl runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.config import check, is_count
from crawlpool.errors import ConfigError, JobError, SinkError
from crawlpool.jobs.again import check_kinds, finish_moves, take_again
from crawlpool.jobs.outputs import RECORDS, JobOutputs, with_records
from crawlpool.ledger import flight as flights
from crawlpool.ledger import lock as locks
from crawlpool.ledger.flight import Flight
from crawlpool.ledger.lock import JobLock
from crawlpool.ledger.schema import NAME as LEDGER
from crawlpool.ledger.store import Batch, Ledger
from crawlpool.ledger.waiting import Waiting
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping, Sequence

    from crawlpool.jobs.entries import Entry
    from crawlpool.ledger.transfer import Transfer

#: After so many crashes in a row with it in flight a target goes last of its host; after so many it is given up.
SUSPECT_AFTER, GIVEN_UP_AFTER = 2, 5
_FLIGHT_SLOTS = 4  # for each request in flight: begun, settled, and in between


@dataclasses.dataclass(frozen=True)
class Job:
    """A durable crawl: where it lies and what it writes. Give it to ``SessionPool.crawl``; the same goes on with it.

    Args:
        path: of its folder, made where there is none. It must be empty, or a job's.
        outputs: what is written: ``*.jsonl`` (records), ``*.warc.gz`` (exchanges), folders that end in ``/`` (bodies).
            A name that isn't absolute is of a file in the folder. Records in the folder are always written:
            ``results.jsonl`` unless others are named.
        record_headers: the names of response headers that the records keep; ``None`` for none.
        rotate_bytes: the size at which a WARC file ends and another one begins; ``None`` for never.
        keeps_credentials: whether WARC records show credentials.
        retry: which failed targets are taken again: kinds of errors, and statuses such as ``503`` and ``5xx``; none of
            them for all that failed. ``None`` for none.
        fixed: what must be the same whenever the job goes on, by name, JSON-ready: it is compared.
        shards: into how many parts it is cut, by registrable domain, so that several workers can share it; only
            ``SessionPool.crawl`` runs a job of more than one.

    Raises:
        ConfigError: for a value that can't be.
    """

    path: str
    outputs: Sequence[str] = (RECORDS,)
    record_headers: Container[str] | None = None
    rotate_bytes: int | None = 1 << 30
    keeps_credentials: bool = False
    retry: Collection[str] | None = None
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shards: int = dataclasses.field(default=1, kw_only=True)

    @property
    def is_shared(self) -> bool:
        """Whether it lies on a file system of several machines: a job of one process doesn't."""
        return False

    def __post_init__(self) -> None:
        check(isinstance(self.path, str) and self.path != "", "path", self.path, "a folder's path")
        check(not isinstance(self.outputs, str), "outputs", self.outputs, "a sequence of names")
        check(is_count(self.shards), "shards", self.shards, "1 or more")
        if self.retry is not None:
            check_kinds(self.retry)
        object.__setattr__(self, "outputs", with_records(self.outputs))

    def open(
        self, *, dedupes: bool = True, max_per_host: int | None = None, in_flight: int = 1, clock: Clock = SYSTEM_CLOCK
    ) -> OpenJob:
        """Open the job to go on with it: from then on nobody else can.

        Args:
            dedupes: whether what was asked for before is skipped.
            max_per_host: targets of one host at most.
            in_flight: requests that may run at once.
            clock: where time comes from.

        Raises:
            ConfigError: for a job of several shards.
            JobError: when another process has it, it is no job, or was made with other settings.
            SinkError: when something of it can't be opened, or isn't what the ledger says.
        """
        if self.shards > 1:
            raise ConfigError("a job of several shards is run by SessionPool.crawl, and by no crawl of one process")
        return OpenJob(self, dedupes, max_per_host, in_flight, clock)


class OpenJob:
    """A job while a crawl runs. Made by ``Job.open``.

    The clerk alone uses ``ledger``, ``waiting`` and ``outputs``, from its start to its end.
    """

    #: What crawls it, for jobs that have a kind of crawl of their own.
    crawl_class: Any = None
    #: What log lines about it carry, as ``events.carry`` takes it; ``None`` for nothing.
    log_fields: Mapping[str, Any] | None = None

    def __init__(self, job: Job, dedupes: bool, max_per_host: int | None, in_flight: int, clock: Clock) -> None:
        self.job = job
        self._clock = clock
        self._came = 0  # rows that the transaction under way has added
        self._is_closed = False
        make_folder(job.path)
        check_folder(job.path)
        with contextlib.ExitStack() as opened:
            opened.enter_context(JobLock(job.path))
            path = os.path.join(job.path, LEDGER)
            self.ledger = Ledger(path, dedupes=dedupes, max_per_host=max_per_host, is_shared=job.is_shared)
            opened.callback(self.ledger.close)
            self._check_fixed({"outputs": list(job.outputs), "dedupe": dedupes, "max_per_host": max_per_host})
            path = os.path.join(job.path, flights.NAME)
            self.flight = Flight(path, _FLIGHT_SLOTS * in_flight)
            opened.callback(lambda: self.flight.close(is_clean=False))
            finish_moves(job.path, self.ledger)
            #: How many failed targets were taken again.
            self.again = 0 if job.retry is None else take_again(job.path, job.outputs, self.ledger, job.retry)
            self._position = json.loads(self.ledger.value("position") or "{}")
            self.books: dict[str, Any] = json.loads(self.ledger.value("books") or "{}")
            self.is_input_done: bool = self._position.get("is_done", False)
            if not self.ledger.begin_run(clock.wall(), clock.monotonic()):
                self.ledger.crashed(self.flight.left, SUSPECT_AFTER, GIVEN_UP_AFTER)
            self.waiting = Waiting(self.ledger, self.ledger.count_waiting())
            self.outputs = JobOutputs(
                job.path,
                job.outputs,
                self.ledger.marks(),
                run=self.ledger.run,
                headers=job.record_headers,
                rotate_bytes=job.rotate_bytes,
                keeps_credentials=job.keeps_credentials,
            )
            opened.callback(self.outputs.close)
            self._opened = opened.pop_all()

    @property
    def run(self) -> int:
        """The ordinal of the run."""
        return self.ledger.run

    @property
    def items_read(self) -> int:
        """How many items of the input are in the ledger."""
        return int(self._position.get("items", 0))

    @property
    def input_digest(self) -> str | None:
        """The digest of these items, as ``Clerk`` counts it; ``None`` of none."""
        digest: str | None = self._position.get("digest")
        return digest

    # The clerk's side --------------------------------------------------------------------------------------------

    def share_out(self, rows: list[Any], transfer: Transfer) -> list[Any]:
        """Return which rows of added targets are this job's; those of other shards go into the transfer."""
        return rows

    def check_may_commit(self) -> None:
        """Raise where nothing may be committed any more; asked right before it is done."""

    def came(self, count: int) -> None:
        """Take it that the transaction under way adds so many targets."""
        self._came = count

    def committed(self, kept: Sequence[Entry], incoming: Sequence[Any]) -> None:
        """Take it that results and targets are committed."""
        ended = [entry.leg.ordinal for entry in kept if entry.leg is not None]
        for target in ended:
            self.waiting.settled(target)
        self.flight.ended(ended)
        count, self._came = self._came, 0
        if count:
            self.waiting.came({"" if row[4] is not None else row[1] for row in incoming} | {""}, count)

    # The end -----------------------------------------------------------------------------------------------------

    def end(self, ending: str, last: Batch, *, is_complete: bool) -> None:
        """Note how the run ended; of a job that is complete the outputs get their names.

        Args:
            ending: in a word.
            last: what is committed with that.
            is_complete: whether nothing is left to be fetched.

        Raises:
            SinkError: when that can't be written.
        """
        last.marks = self.outputs.complete() if is_complete else {}
        self.ledger.commit(last)
        self.outputs.committed(last.marks)
        self.ledger.end_run(self._clock.wall(), ending)
        self.flight.close(is_clean=True)

    def close(self) -> None:
        """Let go of everything. May be called again; the run that wasn't ended counts as broken off."""
        if not self._is_closed:
            self._is_closed = True
            self._opened.close()

    def _check_fixed(self, own: Mapping[str, Any]) -> None:
        now = {**own, **self.job.fixed}
        known = self.ledger.value("fixed")
        if known is None:
            self.ledger.commit(Batch(values={"fixed": json.dumps(now)}))
            return
        told = differences(json.loads(known), now)
        if told:
            raise JobError(f"{one_line(self.job.path)}: the job was begun with other settings: {told}")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return which settings aren't what they were, in words; nothing where all are.

    Args:
        before: settings by name, as JSON has them.
        now: the same as they are now, JSON-ready.
    """
    now = json.loads(json.dumps(now))
    other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {_shown(before.get(name))}, now {_shown(now.get(name))}" for name in other)


def make_folder(path: str) -> None:
    """Make a job's folder where there is none; its parents must be there.

    Raises:
        SinkError: when it can't be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise JobError(f"{one_line(path)}: is a file; a job is a folder") from None
    except OSError as error:
        reason = "its parent folder does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise SinkError(f"{one_line(path)}: {reason or error}") from error
    if os.path.lexists(os.path.join(path, LEDGER)):
        return
    # Nothing in a folder outlives a loss of power whose own name doesn't. Done until there is a ledger, not only when
    # the folder is made: the process that made it may have been killed before it came to this.
    parent = os.path.dirname(os.path.abspath(path))
    try:
        with contextlib.suppress(PermissionError):  # a folder that one may write to and not read
            disk.sync_folder(parent)
    except OSError as error:
        raise SinkError(f"{one_line(parent)}: {error.strerror or error}") from error


def check_folder(path: str) -> None:
    """Refuse a folder that has files and is no job: nothing of anybody's is to be mixed up with one.

    Raises:
        JobError: naming the folder and a file.
        SinkError: when it can't be read.
    """
    ours = {locks.NAME, flights.NAME, "job.toml", "control", "origin.json"}  # the last is of an epoch of a shard
    ours |= {f"{LEDGER}-{end}" for end in ("journal", "wal", "shm")}  # a loss of power may take the ledger's name alone
    try:
        names = os.listdir(path)
    except OSError as error:
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error
    if LEDGER not in names and (others := sorted(set(names) - ours)):
        raise JobError(f"{one_line(path)}: has other files ({one_line(others[0])}) and is no job; give a new folder")


def _shown(value: object) -> str:
    return one_line("nothing" if value is None else json.dumps(value))
