"""What ``crawlpool status`` says of a job of many shards, or of several jobs: what ledgers and workers tell."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import shlex
import time
from typing import TYPE_CHECKING, Any

from crawlpool.cli.job_status import LISTED, OUTCOMES, SHOWN, hosts_of, lines_of_job, next_of, status_of_job
from crawlpool.models import Report
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from crawlpool.engines.notes import RunnerNote
    from crawlpool.jobs.reading import JobReader
    from crawlpool.shards.inputs import InputState
    from crawlpool.shards.parts import Part, Root, Shelf

#: Seconds within which a worker that runs tells of itself once more, and between two looks whether it has.
PATIENCE_S, _LOOK_S = 3.0, 0.05
_SLOWEST = 5
_SUMMED = ("inputs", "found", *OUTCOMES, "pending", "on_its_way", "elsewhere", "queued", "items")


def status_of_jobs(paths: Sequence[str]) -> dict[str, Any]:
    """Return what several jobs have to say together.

    Args:
        paths: of their folders.

    Returns:
        What the status of one has, summed up; ``jobs`` beside it has that of each, with its path as ``job``.

    Raises:
        JobError: when there is no job, or one is damaged.
    """
    from crawlpool.shards.manifest import is_sharded
    from crawlpool.shards.parts import check_apart

    check_apart(paths)
    sharded = [path for path in paths if is_sharded(path)]
    each = [
        {"job": path, **(status_of_shards(path, sharded) if path in sharded else status_of_job(path))} for path in paths
    ]
    if len(each) == 1:
        return {key: value for key, value in each[0].items() if key != "job"}
    return {**merged(each), "jobs": each}


def status_of_shards(path: str, others: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a job of many shards has to say.

    Args:
        path: of its folder.
        others: paths of jobs that are told of, too, its other parts among them.

    Returns:
        What the status of a job has, over all shards. Beside it ``on_its_way``, targets that no shard has taken in yet,
        and ``elsewhere``, those of them that are for shards of other parts; ``refused``, segments that can't be taken
        in, and what helps; ``shards``, how many there are and of each that has targets how it stands; ``runners``, what
        the workers tell of themselves; and ``missing``, of which shards something is gone that they had, and what.

    Raises:
        JobError: when there is no job, or it is damaged.
    """
    from crawlpool.ledger.lock import holder_of
    from crawlpool.shards.inputs import input_state
    from crawlpool.shards.parts import Root, Shelf
    from crawlpool.shards.transit import on_its_way
    from crawlpool.shards.whole import missing_at_rest

    root, shelf = Root(path), Shelf()
    try:
        runners = _runners(path)
        state = input_state(path)
        shards = [_shard(part, shelf) for part in root.parts()]
        moving = on_its_way(root, shelf, [other for other in map(Root, others) if other.belongs_to(root)])
        waiting = _waiting_inboxes(root, shelf)
    finally:
        shelf.close()
    for shard in shards:
        shard.stands = _standing(shard, shard.number in waiting, is_input_done=state.is_done)
    report = Report.merged([shard.report for shard in shards])
    has_it = holder_of(path) is not None or any(one["state"] in ("running", "draining") for one in runners)
    missing = {} if has_it else missing_at_rest(path)
    has_it = has_it or holder_of(path) is not None  # it goes on from just now, and moves things about
    given_up = {shard.number for shard in shards if shard.reason is not None}
    refused = [] if has_it else _refused(root, given_up | moving.unread)
    is_done = state.is_done and not (report.pending or moving.all or moving.unread or refused)
    found: dict[str, Any] = {
        "state": _state_of(
            shards, has_it=has_it, is_done=is_done, is_begun=bool(state.items or shards), is_damaged=bool(missing)
        ),
        "elapsed_s": round(report.elapsed_s, 3),
        "inputs": report.inputs,
        "found": report.found,
        **{name: getattr(report, name) for name in OUTCOMES},
        "pending": report.pending,
        "on_its_way": moving.all,
        "elsewhere": moving.elsewhere,
        "refused": refused,
        "is_input_done": state.is_done,
        "queued": report.pending + moving.all,
        "total": _total(root, state, report, moving.all) if state.is_done else None,
        "items": report.items,
        "kinds": _summed(shard.kinds for shard in shards),
        "statuses": _summed(shard.statuses for shard in shards),
        **_joined([shard.hosts for shard in shards]),
        "slowest": _slowest(runners),
        "runs": [],
        "shards": {
            "count": root.manifest.shards if root.manifest is not None else 0,
            **collections.Counter(shard.stands for shard in shards),
            "each": [shard.fields for shard in shards],
        },
        "runners": [{key: value for key, value in one.items() if key != "slowest"} for one in runners],
        "missing": [{"shard": shard, "what": what} for shard, what in missing.items()],
    }
    found["next"] = next_of(path, found)
    if refused:
        first, more = refused[0], len(refused) - 1
        also = f" (and see to {more:,} more of them)" if more else ""
        found["next"] = f"{first['file']}: {first['remedy']}{also}; and then {found['next']}"
    elif state.is_done and not report.pending and not has_it and moving.all == moving.elsewhere > 0:
        found["next"] = carrying(path)
    return found


def carrying(path: str) -> str:
    """Return what is to be done with the segments that lie in a part of a job, and are for other parts.

    Args:
        path: of the part's folder.
    """
    files = f"{one_line(shlex.quote(path))}/shards/*/inbox/from-*.seg"
    return f"move or copy {files} to the same place in the parts that they are for, unless that was done; resume these"


def _refused(root: Root, shards: Collection[int]) -> list[dict[str, str]]:
    if root.manifest is None or not shards:
        return []
    from crawlpool.shards.refused import refused_in

    found = itertools.islice(refused_in(root.path, root.manifest, shards), LISTED)
    return [{"file": one.path, "why": one.why, "remedy": one.remedy} for one in found]


def _total(root: Root, state: InputState, report: Report, on_its_way: int) -> int:
    """Return how many targets there will be, as far as is known; of a part of a job what comes from others, too."""
    assert root.manifest is not None
    if root.manifest.part is not None:
        return report.settled + report.pending + on_its_way
    return sum(state.rows_of(shard) for shard in root.manifest.mine()) + report.found


@dataclasses.dataclass
class _Shard:
    """A shard as it stands: ``done``, ``waiting``, ``held``, ``broken_off``, or ``new`` where nobody has had it."""

    number: int
    stands: str
    owner: str | None = None
    epoch: int = 0
    tenure: int = 0
    reason: str | None = None
    report: Report = dataclasses.field(default_factory=Report)
    kinds: dict[str, int] = dataclasses.field(default_factory=dict)
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)
    hosts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        settled = {"settled": self.report.settled, "pending": self.report.pending}
        return {
            "shard": self.number,
            "state": self.stands,
            "owner": self.owner,
            "epoch": self.epoch,
            "tenure": self.tenure,
            **settled,
            "moved_in": self.report.moved_in,
            "moved_out": self.report.moved_out,
            "reason": self.reason,
        }


def _shard(part: Part, shelf: Shelf) -> _Shard:
    tenure = part.tenure()
    if tenure is None:
        return _Shard(part.shard or 0, "new")
    stands = "released" if tenure.is_released else "broken_off" if tenure.owner.is_dead() else "held"
    found = _Shard(part.shard or 0, stands, str(tenure.owner), tenure.epoch, tenure.number, tenure.reason)

    def look(reader: JobReader) -> _Shard:
        books = reader.ledger.value("books") or {}
        return dataclasses.replace(
            found,
            report=reader.report,
            kinds=books.get("kinds", {}),
            statuses=books.get("statuses", {}),
            hosts=hosts_of(reader),
        )

    return shelf.look(part, look, found)


def _waiting_inboxes(root: Root, shelf: Shelf) -> set[int]:
    from crawlpool.shards.transit import waiting_segments

    return {shard for shard, _, _ in waiting_segments(root, shelf)}


def _standing(shard: _Shard, has_segments: bool, *, is_input_done: bool) -> str:
    if shard.stands != "released":
        return shard.stands
    return "waiting" if shard.report.pending or has_segments or not is_input_done else "done"


def _state_of(shards: Sequence[_Shard], *, has_it: bool, is_done: bool, is_begun: bool, is_damaged: bool) -> str:
    if has_it:
        return "running"
    if is_damaged:
        return "damaged"
    if is_done:
        return "complete"
    if any(shard.stands in ("broken_off", "held") for shard in shards):
        return "broken_off"
    return "interrupted" if is_begun else "new"


# What workers tell ----------------------------------------------------------------------------------------------------


def _runners(path: str) -> list[dict[str, Any]]:
    """Return what the workers of the last run tell; of one that tells nothing more ``state`` is ``silent``."""
    from crawlpool.engines import notes

    word = notes.read_word(path)
    found = {name: note for name in notes.names(path) if (note := notes.read_note(path, name)) is not None}
    if word is not None:
        found = {name: note for name, note in found.items() if note.run == word.run}
    silent = {name for name, note in found.items() if not note.has_ended}
    until = time.monotonic() + PATIENCE_S
    while silent and time.monotonic() < until:
        time.sleep(_LOOK_S)
        for name in tuple(silent):
            note = notes.read_note(path, name)
            if note is None or note.has_ended or note.counter != found[name].counter:
                silent.discard(name)
                found[name] = note or found[name]
    return [_runner(note, is_silent=name in silent) for name, note in sorted(found.items())]


def _runner(note: RunnerNote, *, is_silent: bool) -> dict[str, Any]:
    slowest: list[Any] = []
    for saved in note.shards.values():
        slowest += saved.get("slowest") or ()
    return {
        "name": note.name,
        "state": "silent" if is_silent else note.state,
        "host": note.host,
        "pid": note.pid,
        "shards": sorted(note.shards),
        "rate": round(note.pace, 1),
        "rss_bytes": note.rss_bytes,
        "failed": {str(shard): why for shard, why in note.failed.items()},
        "given_up": list(note.given_up),
        "trouble": note.trouble,
        "slowest": slowest,
    }


def _slowest(runners: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in runners:
        for row in one["slowest"]:
            host, answers, mean_s = row
            found.append({"host": str(host), "mean_s": round(float(mean_s), 3), "answers": int(answers)})
    return sorted(found, key=_mean)[:_SLOWEST]


def _mean(host: Mapping[str, Any]) -> float:
    return -float(host["mean_s"])


# Sums -----------------------------------------------------------------------------------------------------------------


def merged(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the status of several jobs as one: counts added up, hosts of all, and the state that asks for most."""
    states = [one["state"] for one in each]
    order = ("running", "damaged", "broken_off", "interrupted", "new", "complete")
    sums = {name: sum(one.get(name, 0) for one in each) for name in _SUMMED}
    totals = [one["total"] for one in each]
    return {
        "state": min(states, key=lambda state: order.index(state) if state in order else 0),
        "elapsed_s": max(one["elapsed_s"] for one in each),
        **sums,
        "is_input_done": all(one["is_input_done"] for one in each),
        "total": None if None in totals else sum(totals),
        "kinds": _summed(one["kinds"] for one in each),
        "statuses": _summed(one["statuses"] for one in each),
        **_joined(each),
        "slowest": sorted((one for job in each for one in job.get("slowest", ())), key=_mean)[:_SLOWEST],
        "runs": [],
        "missing": [{"job": one["job"], **flaw} for one in each for flaw in one.get("missing", ())],
        "next": None,
    }


def _summed(counts: Any) -> dict[str, int]:
    found: collections.Counter[str] = collections.Counter()
    for one in counts:
        found.update(one)
    return dict(found)


def _joined(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the hosts of each sort of all of them: each lies in one."""
    sorts = ("held", "skipped_hosts", "delays", "resting")
    found = {sort: [host for one in each for host in one.get(sort, ())][:LISTED] for sort in sorts}
    found["resting"].sort(key=lambda one: -one["for_s"])
    return found


# For eyes -------------------------------------------------------------------------------------------------------------


def lines_of_jobs(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the status of a job of many shards, or of several jobs, as lines of text."""
    return lines_of_job(found, _lines_of_shards(found))


def _lines_of_shards(found: Mapping[str, Any]) -> Iterator[str]:
    for job in found.get("jobs", ()):
        done = sum(job[name] for name in OUTCOMES)
        total = "" if job["total"] is None else f" of {job['total']:,}"
        yield f"{one_line(job['job'])}: {job['state']}, {done:,}{total} URLs done"
    for flaw in found.get("missing", ()):
        where = f"{one_line(flaw['job'])}: " if "job" in flaw else ""
        yield f"{where}shard {flaw['shard']:04d} isn't whole: {one_line(flaw['what'])}"
    if found.get("on_its_way"):
        elsewhere = f", {found['elsewhere']:,} of them to shards of other parts" if found["elsewhere"] else ""
        yield f"{found['on_its_way']:,} on their way to a shard{elsewhere}"
    shards = found.get("shards")
    if shards is not None:
        yield f"shards: {', '.join(_counts_of(shards))}"
        for one in shards["each"]:
            if one["reason"] is not None:
                yield f"shard {one['shard']} was given up: {one_line(one['reason'])}"
    told = [one["reason"] or "" for one in shards["each"]] if shards is not None else []
    for one in found.get("refused", ())[:SHOWN]:
        if not any(os.path.basename(one["file"]) in reason for reason in told):
            yield f"not taken in: {one['why']}"
    for one in found.get("runners", ()):
        if found["state"] == "complete" and one["state"] == "silent":
            continue  # it was ended before it could tell, and nothing is missing
        yield from _lines_of_runner(one)


def _counts_of(shards: Mapping[str, Any]) -> Iterator[str]:
    words = {"broken_off": "broken off", "new": "not begun"}
    for state in ("held", "waiting", "new", "broken_off", "done"):
        if shards.get(state):
            yield f"{shards[state]:,} {words.get(state, state)}"
    yield f"{len(shards['each']):,} of {shards['count']:,} have targets"


def _lines_of_runner(one: Mapping[str, Any]) -> Iterator[str]:
    state = "tells nothing of itself any more" if one["state"] == "silent" else one["state"]
    numbers = [str(number) for number in one["shards"][:8]] + ["…"] * (len(one["shards"]) > 8)
    has = f", shard{'' if len(one['shards']) == 1 else 's'} {' '.join(numbers)}" if numbers else ""
    pace = f", {one['rate']:.1f} URLs/s" if one["state"] == "running" else ""
    yield one_line(f"worker {one['name']} (process {one['pid']} on {one['host']}): {state}{has}{pace}")
    if one["trouble"] is not None:
        yield f"  it ended early: {one_line(one['trouble'])}"
    for shard, why in one["failed"].items():
        yield f"  shard {shard} could not go on: {one_line(why)}"
    for shard in one["given_up"]:
        yield f"  shard {shard} is left alone: it ended its owners again and again"
