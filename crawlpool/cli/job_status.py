"""What ``crawlpool status`` says of a job that nobody can be asked about: what its ledger has."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any

from crawlpool.clock import iso_utc
from crawlpool.observe.pace import duration
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crawlpool.jobs.reading import JobReader, JobRun

#: Hosts shown of each sort; ``--json`` has all that are listed.
SHOWN = 20
LISTED = 1000
_COUNTED = 100_000
OUTCOMES = ("ok", "http_error", "failed", "disallowed", "skipped")
_STATES = {
    "new": "nothing was begun",
    "running": "a run goes on, which doesn't answer here",
    "complete": "complete",
    "interrupted": "interrupted",
    "damaged": "not whole: something is gone of what was done",
    "broken_off": "broken off: the process ended without a word; nothing of what is done is lost",
}


def status_of_job(path: str) -> dict[str, Any]:
    """Return what the ledger of a job has to say.

    Args:
        path: of its folder.

    Returns:
        What the status of a run has, as far as it makes sense; with ``state``, ``pending``, ``is_input_done``,
        ``items``, ``runs``, ``kinds``, ``statuses`` and ``next``: what to do, or ``None``.

    Raises:
        JobError: when there is no job, or it is damaged.
    """
    from crawlpool.jobs.reading import JobReader
    from crawlpool.ledger.lock import holder_of

    with JobReader(path) as job:
        has_it = holder_of(path) is not None
        report, runs = job.report, job.runs
        books = job.ledger.value("books") or {}
        state = _state_of(runs, has_it)
        is_done = job.is_input_done
        found: dict[str, Any] = {
            "state": state,
            "elapsed_s": round(report.elapsed_s, 3),
            "inputs": report.inputs,
            "found": report.found,
            **{name: getattr(report, name) for name in OUTCOMES},
            "pending": report.pending,
            "is_input_done": is_done,
            "queued": report.pending,
            "total": report.inputs + report.found if is_done else None,
            "items": report.items,
            "kinds": books.get("kinds", {}),
            "statuses": books.get("statuses", {}),
            **hosts_of(job),
            "runs": [_run(run) for run in runs],
        }
    found["next"] = next_of(path, found)
    return found


def _state_of(runs: Sequence[JobRun], has_it: bool) -> str:
    if has_it:
        return "running"
    if not runs:
        return "new"
    return "broken_off" if runs[-1].ended_at_s is None else runs[-1].ending or "interrupted"


def _run(run: JobRun) -> dict[str, Any]:
    ended = None if run.ended_at_s is None else iso_utc(run.ended_at_s)
    return {"n": run.n, "began_at": iso_utc(run.began_at_s), "ended_at": ended, "ending": run.ending}


def hosts_of(job: JobReader) -> dict[str, Any]:
    """Return the hosts that aren't asked as the others are, by sort."""
    from crawlpool.jobs.explaining import said_of

    found: dict[str, list[Any]] = {"held": [], "skipped_hosts": [], "delays": [], "resting": []}
    now = time.time()
    for host in job.ledger.hosts():
        said = said_of(host.orders) or {}
        by = "operator" if said.get("order") == "hold" else "blocks" if host.is_blocked else None
        if by is not None:
            waiting = job.ledger.count_waiting(host.name, _COUNTED)
            found["held"].append({"host": host.name, "by": by, "waiting": waiting})
        if said.get("order") == "skip":
            found["skipped_hosts"].append(host.name)
        if said.get("delay_s") is not None:
            found["delays"].append({"host": host.name, "delay_s": said["delay_s"]})
        if host.cooled_until is not None and host.cooled_until > now:
            found["resting"].append({"host": host.name, "for_s": round(host.cooled_until - now, 3)})
    found["resting"].sort(key=lambda one: -one["for_s"])
    return {sort: hosts[:LISTED] for sort, hosts in found.items()}


def next_of(path: str, found: Mapping[str, Any]) -> str | None:
    """Return what may be done now with a job; ``None`` where nothing has to be."""
    if found["state"] == "running":
        return None
    if found["state"] == "damaged":
        return f"crawlpool verify {one_line(shlex.quote(path))}"
    has_command = os.path.exists(os.path.join(path, "job.toml"))
    where = one_line(shlex.quote(path))
    resume = f"crawlpool resume {where}" if has_command else None
    if found["state"] != "complete":
        held = [one for one in found["held"] if one["by"] == "operator" and one["waiting"]]
        if (
            resume is not None
            and held
            and "shards" not in found
            and sum(one["waiting"] for one in held) == found["pending"]
        ):
            resume = f"crawlpool host {where} {shlex.quote(held[0]['host'])} --release, and then {resume}"
        return resume or "begin the same crawl with this job again: it goes on where it was"
    if found["failed"]:
        return None if resume is None else f"{resume} --retry-failed"
    return None


def lines_of_job(found: Mapping[str, Any], more: Iterable[str] = ()) -> Iterator[str]:
    """Yield the status of a job as lines of text; ``more`` are further ones, which go before those of its hosts."""
    ends = {name: found[name] for name in OUTCOMES}
    done = ", ".join(f"{count:,} {name}" for name, count in ends.items())
    total = "" if found["total"] is None else f" of {found['total']:,}"
    is_one = "shards" not in found and "jobs" not in found
    state = (
        found["state"] if found["state"] == "running" and not is_one else _STATES.get(found["state"], found["state"])
    )
    yield f"{state}: {sum(ends.values()):,}{total} URLs done: {done}"
    if found["state"] != "complete":
        rest = "" if found["is_input_done"] else "; the input isn't read to its end"
        yield f"{found['pending']:,} wait for {'their turn' if found['state'] == 'running' else 'the next run'}{rest}"
    if found["items"]:
        yield f"{found['items']:,} items"
    causes = {**found["kinds"], **found["statuses"]}
    if causes:
        often = sorted(causes.items(), key=lambda cause: -cause[1])[:5]
        yield f"failures: {', '.join(f'{count:,} {one_line(str(cause), 40)}' for cause, count in often)}"
    yield from more
    yield from hosts_lines(found)
    runs = found["runs"]
    for run in runs[-3:]:
        end = f"to {run['ended_at']}, {run['ending']}" if run["ended_at"] else "and no end of it is known"
        if run is runs[-1] and found["state"] == "running":
            end = "and goes on"
        yield f"run {run['n']} of {len(runs)}: from {run['began_at']} {end}"
    yield f"{'all runs together took' if is_one else 'what took longest of it ran for'} {duration(found['elapsed_s'])}"
    if found["next"] is not None:
        yield f"next: {found['next']}"


def hosts_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each sort of hosts that aren't asked as the others are."""
    operator = [f"{one['host']} ({one['waiting']:,} waiting)" for one in found["held"] if one["by"] == "operator"]
    blocked = [one["host"] for one in found["held"] if one["by"] == "blocks"]
    delays = [f"{one['host']} {one['delay_s']:g} s" for one in found["delays"]]
    resting = [f"{one['host']} {duration(one['for_s'])}" for one in found["resting"]]
    for what, hosts in (
        ("held by the operator", operator),
        ("held, as they don't want us", blocked),
        ("skipped by the operator", found["skipped_hosts"]),
        ("with a delay of their own", delays),
        ("given up, as they can't be reached", found.get("given_up", ())),
        ("resting longest", resting),
        ("slowest", [f"{one['host']} {one['mean_s']:.2f} s" for one in found.get("slowest", ())[:3]]),
    ):
        if hosts:
            yield f"hosts {what}: {_some([one_line(host) for host in hosts])}"


def _some(hosts: Sequence[str]) -> str:
    more = f", and {len(hosts) - SHOWN:,} more" if len(hosts) > SHOWN else ""
    return ", ".join(hosts[:SHOWN]) + more
