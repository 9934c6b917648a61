"""What ``crawlpool audit`` says of what it found: a few lines for eyes, or the fields of one JSON object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.findings import Kind
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlpool.audit import Allowed
    from crawlpool.findings import Breach, Findings, Request

_RULES = {
    Kind.DELAY: ("delay", "starts with a delay"),
    Kind.AT_ONCE: ("at once", "starts that needed a place"),
    Kind.COOLDOWN: ("cooldown", "starts after a refusal"),
    Kind.ADDRESS_DELAY: ("address", "starts with a delay at an address"),
    Kind.ADDRESS_AT_ONCE: ("address", "starts that needed a place at an address"),
}


def as_text(found: Findings, broken: int, allowed: Allowed | None, requests: Sequence[Request]) -> Iterator[str]:
    """Yield the lines that tell of the findings.

    Args:
        found: by the judge.
        broken: lines of the logs that could not be read.
        allowed: the limits that were given in place of those that held.
        requests: those to list.
    """
    yield _verdict(found, allowed)
    for kind, (name, what) in _RULES.items():
        tally = found.tallies[kind]
        if tally.asked:
            tightest = f"; the tightest by {tally.slack_s:.6f} s: {one_line(tally.host)}, {tally.place}"
            yield f"  {name:<9} {tally.asked:,} {what}{tightest if tally.host else ''}"
    if found.without_limits:
        yield f"  {_count(found.without_limits, 'request')} to hosts without limits: not judged"
    if broken:
        yield f"  {_count(broken, 'broken line')}: what stood there was not judged"
    for breach in found.breaches:
        yield _told(breach)
    more = found.breach_count - len(found.breaches)
    if more:
        yield f"and {more:,} more"
    yield from _listed(requests)


def fields_of(
    found: Findings, broken: int, allowed: Allowed | None, requests: Sequence[Request] | None
) -> dict[str, Any]:
    """Return the same as fields; ``requests`` is ``None`` where none were asked for."""
    fields: dict[str, Any] = {
        "breach_count": found.breach_count,
        "requests": found.legs,
        "judged": found.judged,
        "without_limits": found.without_limits,
        "hosts": found.hosts,
        "runs": found.runs,
        "broken_lines": broken,
        "judged_by": None if allowed is None else {"delay_s": allowed.delay_s, "per_host": allowed.per_host},
        "rules": {
            kind.value: {
                "asked": tally.asked,
                "tightest_s": _rounded(tally.slack_s),
                "host": tally.host or None,
                "place": tally.place or None,
            }
            for kind, tally in found.tallies.items()
        },
        "breaches": [
            {
                "kind": breach.kind.value,
                "host": breach.host,
                "url": breach.url,
                "place": breach.place,
                "by_s": _rounded(breach.by_s),
                "allowed": breach.allowed,
                "other": {"url": breach.other_url, "place": breach.other_place},
            }
            for breach in found.breaches
        ],
    }
    if requests is not None:
        fields["evidence"] = [
            {**one._asdict(), "gap_s": None if one.gap_s is None else _rounded(one.gap_s)} for one in requests
        ]
    return fields


def _verdict(found: Findings, allowed: Allowed | None) -> str:
    runs = "" if found.runs == 1 else f", {found.runs:,} runs"
    seen = f"{_count(found.legs, 'request')}, {_count(found.hosts, 'host')}{runs}"
    by = "" if allowed is None else f" (judged by {_limits(allowed)})"
    if found.breach_count:
        many = "1 breach" if found.breach_count == 1 else f"{found.breach_count:,} breaches"
        return f"{many}: {seen}{by}"
    if not found.judged:
        return f"nothing to judge: {seen}, none of them with limits"
    return f"no breach: {seen}; none was asked faster, or more at once, than allowed{by}"


def _limits(allowed: Allowed) -> str:
    return f"--delay {allowed.delay_s:g}" if allowed.delay_s else f"--per-host {allowed.per_host}"


def _told(breach: Breach) -> str:
    url, other = one_line(breach.url), f"{one_line(breach.other_url)} ({breach.other_place})"
    where = f"{breach.place}: {one_line(breach.host)}:"
    if breach.kind in (Kind.DELAY, Kind.ADDRESS_DELAY):
        why = f"the delay of {breach.allowed:g} s after the end of {other}"
        return f"{where} too early by {breach.by_s:.6f} s: {url} did not wait for {why}"
    if breach.kind in (Kind.AT_ONCE, Kind.ADDRESS_AT_ONCE):
        why = f"{other}, which ended so much later; {breach.allowed:g} at once are allowed"
        return f"{where} too many at once for {breach.by_s:.6f} s: {url} did not wait for the end of {why}"
    why = f"the {breach.allowed:g} s after the refusal of {other}"
    return f"{where} too early by {breach.by_s:.6f} s after a refusal: {url} did not wait for {why}"


def _listed(requests: Sequence[Request]) -> Iterator[str]:
    """Yield a line for each request; times are seconds from the start of the first one of its run."""
    run, begin = 0, 0.0
    for one in requests:
        if one.run != run:
            run, begin = one.run, one.start_s
            yield f"run {run}: seconds from the first request to this host"
            yield f"{'start':>14} {'end':>14} {'gap':>12}  status  url"
        gap = "-" if one.gap_s is None else f"{one.gap_s:.6f}"
        status = "-" if one.status is None else one.status
        start_s, end_s = one.start_s - begin, one.end_s - begin
        yield f"{start_s:>14.6f} {end_s:>14.6f} {gap:>12}  {status:>6}  {one_line(one.url)} ({one.place})"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _rounded(seconds: float) -> float | None:
    return None if math.isinf(seconds) else round(seconds, 6)
