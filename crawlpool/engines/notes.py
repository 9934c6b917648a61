"""What runners tell of themselves, and what the coordinator tells them: small files, replaced about once a second.

``runners/NAME.json`` is a runner's, ``runners/coordinator.json`` the coordinator's. None is synced, and nothing that
must be right hangs on them: a runner that reads nothing new for long drains, and one that isn't read of is shown as
stale. No clocks of two machines are compared: whether a file is fresh is told by how long ago, by the reader's own
clock, its counter changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from crawlpool.books import HostTimes, Progress
from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.models import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "runners"
COORDINATOR = "coordinator"
#: What a coordinator tells runners to do.
RUN, DRAIN, STOP = "run", "drain", "stop"
#: How often each writes its own.
EVERY_S = 1.0
_REPORT = tuple(field.name for field in dataclasses.fields(Report))
_MOST_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class RunnerNote:
    """What a runner tells of itself.

    Args:
        name: its name, and the file's.
        run: which run of the command it belongs to.
        counter: one more each time.
        state: ``running``, ``draining`` or ``ended``.
        host: the machine's name.
        pid: its process.
        shards: of the shards that it has open, how far each is: as ``saved_progress`` has it.
        released: of the last shards that it let go of, the same.
        failed: why shards could not go on, in one line each.
        given_up: shards that it left alone, as they ended their owners too often.
        trouble: why the runner itself ended early; ``None`` where it didn't.
        pace: targets settled a second, of late.
        rss_bytes: the memory of its process; 0 where that can't be told.
    """

    name: str
    run: str
    counter: int = 0
    state: str = "running"
    host: str = ""
    pid: int = 0
    shards: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    released: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    failed: Mapping[int, str] = dataclasses.field(default_factory=dict)
    given_up: tuple[int, ...] = ()
    trouble: str | None = None
    pace: float = 0.0
    rss_bytes: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.state == "ended"


@dataclasses.dataclass(frozen=True)
class Word:
    """What the coordinator tells all runners.

    Args:
        run: which run of the command it is of: runners of another one drain.
        counter: one more each time.
        order: ``run``, ``drain`` or ``stop``.
    """

    run: str
    counter: int = 0
    order: str = RUN


def make_folder(job: str) -> str:
    """Make the folder of these files in a job's; return its path."""
    path = os.path.join(job, FOLDER)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    return path


def write_note(job: str, note: RunnerNote) -> None:
    """Write what a runner tells; a disk that is full, or gone, is somebody else's to tell of."""
    # Not asdict, which copies all that is in it: that takes ten times as long as to write it.
    _write(_path(job, note.name), {field.name: getattr(note, field.name) for field in dataclasses.fields(note)})


def write_word(job: str, word: Word) -> None:
    """Write what the coordinator tells; as ``write_note``."""
    _write(_path(job, COORDINATOR), dataclasses.asdict(word))


def read_word(job: str) -> Word | None:
    """Read what the coordinator tells; ``None`` where nothing can be read."""
    found = _read(_path(job, COORDINATOR))
    try:
        return None if found is None else Word(str(found["run"]), int(found["counter"]), str(found["order"]))
    except (KeyError, TypeError, ValueError):
        return None


def read_note(job: str, name: str) -> RunnerNote | None:
    """Read what a runner tells; ``None`` where nothing can be read."""
    found = _read(_path(job, name))
    if found is None:
        return None
    try:
        known = {field.name: found[field.name] for field in dataclasses.fields(RunnerNote) if field.name in found}
        for key in ("shards", "released", "failed"):
            known[key] = {int(number): value for number, value in known.get(key, {}).items()}
        known["given_up"] = tuple(int(number) for number in known.get("given_up", ()))
        return RunnerNote(**known)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def names(job: str) -> list[str]:
    """Return the names of the runners that have a file."""
    try:
        found = os.listdir(os.path.join(job, FOLDER))
    except OSError:
        return []
    ends = ".json"
    return sorted(n[: -len(ends)] for n in found if n.endswith(ends) and n[0] != "." and n != COORDINATOR + ends)


def forget_others(job: str, run: str) -> None:
    """Remove the files of runners of earlier runs. Who does it has the job."""
    for name in names(job):
        note = read_note(job, name)
        if note is None or note.run != run:
            with contextlib.suppress(OSError):
                os.unlink(_path(job, name))


class Freshness:
    """How long ago things last changed, by this process's own clock. Belongs to one thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}

    def age_s(self, name: str, mark: object) -> float:
        """Return for how many seconds something has had the same mark; 0 when it is new.

        Args:
            name: of the thing.
            mark: what changes when it does.
        """
        now = self._clock.monotonic()
        before = self._seen.get(name)
        if before is None or before[0] != mark:
            self._seen[name] = (mark, now)
            return 0.0
        return now - before[1]

    def forget_all_but(self, kept: set[str]) -> None:
        """Forget what isn't there any more."""
        for name in self._seen.keys() - kept:
            del self._seen[name]


def saved_progress(progress: Progress) -> dict[str, Any]:
    """Return how far a crawl is, as JSON has it."""
    return {
        "report": {name: getattr(progress.report, name) for name in _REPORT},
        "queued": progress.queued,
        "running": progress.running,
        "slowest": [list(dataclasses.astuple(host)) for host in progress.slowest],
        "kinds": dict(progress.kinds),
        "statuses": {str(status): count for status, count in progress.statuses.items()},
        "left_alone": {reason: dict(hosts) for reason, hosts in progress.left_alone.items()},
    }


def progress_of(saved: Mapping[str, Any]) -> Progress:
    """Return what ``saved_progress`` has given; what another version knows more or less of is left out.

    Raises:
        ValueError, TypeError, KeyError: for anything else.
    """
    report = {name: saved["report"][name] for name in _REPORT if name in saved["report"]}
    return Progress(
        Report(**report),
        int(saved.get("queued", 0)),
        int(saved.get("running", 0)),
        tuple(HostTimes(host, answers, mean) for host, answers, mean in saved.get("slowest", ())),
        dict(saved.get("kinds", {})),
        {int(status): count for status, count in saved.get("statuses", {}).items()},
        {reason: dict(hosts) for reason, hosts in saved.get("left_alone", {}).items()},
    )


def _path(job: str, name: str) -> str:
    return os.path.join(job, FOLDER, f"{name}.json")


def _write(path: str, found: Mapping[str, Any]) -> None:
    folder, name = os.path.split(path)
    new = os.path.join(folder, f".{name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(json.dumps(found).encode())
            os.replace(new, path)
        except OSError:
            os.unlink(new)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
