"""What became of one URL of a job, and why: each request, each wait, each decision, as data that JSON can say."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from crawlpool.clock import iso_utc
from crawlpool.errors import JobError
from crawlpool.jobs.records import notes_of
from crawlpool.ledger.lock import holder_of
from crawlpool.ledger.schema import HANDED_OVER
from crawlpool.redact import redact_url
from crawlpool.robots.reasons import deciding_lines

if TYPE_CHECKING:
    from crawlpool.jobs.reading import JobReader
    from crawlpool.ledger.reading import Settled, TargetRow
    from crawlpool.models import Target
    from crawlpool.trail import LegNote

#: By which name the crawler goes, where a job doesn't say: that of ``crawlpool``'s own User-Agent.
_TOKEN = "crawlpool"
_COUNTED = 100_000


def explained(job: JobReader, url: str) -> dict[str, Any] | None:
    """Return what became of a URL.

    Args:
        job: open to be read.
        url: as it was asked for, in whatever spelling.

    Returns:
        ``None`` where the job doesn't have it. Else ``target``, what was asked for; ``state``, ``settled`` or
        ``waiting``; ``record`` and ``place``, what its record says and where it stands; ``legs``, the requests;
        ``robots``, what robots.txt said; ``waiting``, what it waits for.

    Raises:
        JobError: when the job is damaged.
    """
    number = job.find(url)
    return None if number is None else explained_of(job, number)


def explained_of(job: JobReader, number: int) -> dict[str, Any] | None:
    """Return what became of a target; ``None`` where there is none.

    Of one that was handed over to another shard, whose ``state`` is ``handed_over``, only what it has in this one: it
    has ``legs``, and no ``record``.

    Raises:
        JobError: when the job is damaged.
    """
    row = job.ledger.target(number)
    if row is None:
        return None
    target = job.target_of(row)
    settled = job.ledger.settled_of(number)
    has_gone = row.state == HANDED_OVER
    with_legs = job.ledger.settled_of(number, is_handed_over=True) if has_gone else settled
    record = None if settled is None else job.record_at(settled)
    robots = None if record is None else record.get("robots")
    waits = settled is None and not has_gone
    return {
        "target": _target(row, target),
        "state": "handed_over" if has_gone else "waiting" if waits else "settled",
        "record": record,
        "place": None if settled is None else _place(job, settled),
        "legs": [] if with_legs is None else [_leg(note, target) for note in notes_of(with_legs.legs)],
        "robots": robots_of(job, target, robots) if robots or settled is None else None,
        "waiting": _waiting(job, row) if waits else None,
    }


def _target(row: TargetRow, target: Target) -> dict[str, Any]:
    return {
        "id": row.id,
        "n": target.n,
        "ordinal": row.n,
        "url": redact_url(target.url),
        "method": target.method,
        "host": row.host or None,
        "depth": target.depth,
        "parent": None if target.parent is None else redact_url(target.parent),
        "priority": target.priority,
        "crashes": row.crashes,
    }


def _place(job: JobReader, settled: Settled) -> dict[str, Any]:
    return {"file": job.files.name(settled.part), "offset": settled.offset, "length": settled.length}


def _leg(note: LegNote, target: Target) -> dict[str, Any]:
    timings = note.timings
    return {
        "kind": note.kind,
        "url": redact_url(target.url) if note.url is None else note.url,
        "started_at": None if note.started_at_s is None else iso_utc(note.started_at_s),
        "waited_s": round(note.waited_s, 6),
        "waits": _waits(note),
        "took_s": round(max(note.end_s - note.start_s, 0.0), 6),
        "how": note.how,
        "status": note.status,
        "error": None if note.error is None else {"kind": note.error[0], "message": note.error[1]},
        "retry_after_s": note.retry_after_s,
        "ip": note.ip,
        "proxy": note.proxy,
        "delay_s": note.delay_s,
        "per_host": note.per_host,
        "first_byte_s": None if timings is None else timings[3],
    }


def _waits(note: LegNote) -> list[dict[str, Any]]:
    """Return what a leg waited for, in order, and how long for each: the whole comes to ``waited_s``."""
    if note.queued_s is None or note.start_s <= note.queued_s:
        return []
    found, at = [], note.queued_s
    for why, until in (("back_off", note.not_before_s), ("host_rested", note.rested_s), ("turn", note.start_s)):
        end = at if until is None else min(until, note.start_s)
        if end - at >= 0.0005:
            found.append({"why": why, "for_s": round(end - at, 6)})
            at = end
    return found


def robots_of(job: JobReader, target: Target, verdict: str | None) -> dict[str, Any] | None:
    """Return what is known of an origin's robots.txt, with the lines by which it allows or disallows."""
    scheme, _, rest = target.url.partition("://")
    origin = f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"
    kept = job.ledger.robots_of(origin)
    found: dict[str, Any] = {"origin": redact_url(origin), "verdict": verdict, "how": None, "lines": []}
    if kept is None:
        return found if verdict else None
    found |= {"how": kept.how, "status": kept.status, "run": kept.run, "at": iso_utc(kept.at)}
    token = job.ledger.value("robots_token")
    if kept.text and verdict in ("allowed", "disallowed", None):
        lines = deciding_lines(kept.text, token if isinstance(token, str) else _TOKEN, target.url)
        found["lines"] = [{"line": line.number, "text": line.text} for line in lines or ()]
    return found


def _waiting(job: JobReader, row: TargetRow) -> dict[str, Any]:
    """Return what a target waits for that isn't settled."""
    state = job.ledger.host(row.host or "")
    rests_s = 0.0 if state.cooled_until is None else state.cooled_until - time.time()
    return {
        "before": job.ledger.count_before(row, _COUNTED),
        "is_running": holder_of(job.path) is not None,
        "host_rests_s": round(max(rests_s, 0.0), 3),
        "is_host_blocked": bool(state.is_blocked),
        "orders": said_of(state.orders),
    }


def said_of(orders: str | None) -> dict[str, Any] | None:
    """Return what an operator has said of a host, of its JSON; ``None`` for nothing.

    Raises:
        JobError: when it is none.
    """
    if orders is None:
        return None
    try:
        said = json.loads(orders)
        return {"order": str(said["order"]), "delay_s": said["delay_s"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise JobError("the ledger is damaged: what was said of a host can't be read") from None
