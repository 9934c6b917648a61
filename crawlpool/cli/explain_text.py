"""What ``crawlpool explain`` says of a URL, in lines for eyes. Nothing in them can move a terminal's cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KINDS = {
    "first": "asked for",
    "retry": "tried again",
    "redirect": "redirected to",
    "again": "asked once more, uncounted, as our own network or a proxy had failed:",
}
_WAITS = {
    "back_off": "its back-off after the attempt before",
    "host_rested": "its host, which rested after a refusal",
}
_ROBOTS = {
    "none": "there was none, so everything is allowed",
    "unreachable": "it couldn't be had, as its server has trouble, so nothing is allowed for now",
    "lost": "its host couldn't be reached",
    "unasked": "it wasn't asked for in the end",
}
_REASONS = {
    "duplicate": "another input line asked for the same",
    "robots": "its host's robots.txt forbids it",
    "max_per_host": "its host has had its share",
    "held": "its host is left alone",
    "host_skipped": "an operator said that its host is to be skipped",
    "host_unreachable": "its host couldn't be reached for so long that what waited for it was given up",
    "robots_unreachable": "its host's robots.txt couldn't be had in time",
    "crashes": "the process ended again and again while it was in flight",
    "max_wait": "it had waited as long as it might",
}


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``explained`` found as lines of text."""
    target, record = found["target"], found["record"]
    yield f"{_method(target)}{one_line(target['url'] or (record or {}).get('input') or '')}: {_verdict(found)}"
    entry = target["ordinal"] if target["n"] is None else target["n"]
    if entry is not None:
        yield f"  it is entry {entry:,} of the input{_as_given(target, record)}"
    elif target["parent"] is not None:
        yield f"  it was found in {one_line(target['parent'])}, {target['depth']} links from the input"
    shards = found.get("shards") or ()
    if len(shards) > 1:
        yield f"  its redirects led it from shard to shard: {', '.join(map(str, shards))}"
    yield from _robots(found["robots"])
    for leg in found["legs"]:
        yield from _leg(leg)
    if record is not None:
        yield from _end(record, found["place"])
    if found["waiting"] is not None:
        yield from _waiting(found["waiting"], target)


def _verdict(found: Mapping[str, Any]) -> str:
    record = found["record"]
    if record is None:
        return "on its way to another shard" if found.get("state") == "on_its_way" else "not done yet"
    status = "" if record["status"] is None else f", {record['status']}"
    count = record["attempts"]
    after = f" after {count} request{'' if count == 1 else 's'}" if count else ", nothing was sent"
    return f"{record['outcome']}{status}{after} (run {record['run']})"


def _method(target: Mapping[str, Any]) -> str:
    return "" if target["method"] == "GET" else f"{one_line(target['method'], 20)} "


def _as_given(target: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    given = None if record is None else record["input"]
    return "" if given in (None, target["url"]) else f", given as {one_line(str(given))}"


def _robots(robots: Mapping[str, Any] | None) -> Iterator[str]:
    if robots is None:
        return
    origin, verdict = one_line(robots["origin"]), robots["verdict"]
    when = f", asked for at {robots['at']} in run {robots['run']}" if robots["how"] else ""
    if verdict == "ignored":
        yield f"  robots.txt of {origin}: wasn't asked, on purpose"
        return
    if robots["how"] in _ROBOTS:
        said = _ROBOTS[robots["how"]]
    elif robots["lines"]:
        agent, rule = robots["lines"]
        by = f"line {rule['line']} ({one_line(rule['text'].strip(), 100)})"
        said = f"{verdict or 'says'} by {by}, for line {agent['line']} ({one_line(agent['text'].strip(), 100)})"
    else:
        said = f"{verdict or 'allowed'}" + (
            ", as no rule of it matches" if robots["how"] and verdict == "allowed" else ""
        )
    yield f"  robots.txt of {origin}: {said}{when}"


def _leg(leg: Mapping[str, Any]) -> Iterator[str]:
    for wait in leg["waits"]:
        yield f"    waited {_seconds(wait['for_s'])} for {_WAITS.get(wait['why']) or _turn(leg)}"
    when = leg["started_at"] or ""
    by = "" if leg["proxy"] is None else f" by the proxy {one_line(leg['proxy'])}"
    at = "" if leg["ip"] is None else f" ({leg['ip']})"
    asked = f"{_KINDS.get(leg['kind'], leg['kind'])} {one_line(leg['url'])}{at}{by}"
    yield f"  {when}  {asked}: {_answer(leg)} in {_seconds(leg['took_s'])}"


def _answer(leg: Mapping[str, Any]) -> str:
    said = [] if leg["status"] is None else [str(leg["status"])]
    if leg["how"] == "refused":
        named = leg["retry_after_s"]
        said.append("which asks to be left alone" + ("" if named is None else f" for {_seconds(named)}"))
    if leg["error"] is not None:
        said.append(f"{leg['error']['kind']}: {one_line(leg['error']['message'])}")
    return ", ".join(said) or "no answer"


def _turn(leg: Mapping[str, Any]) -> str:
    if leg["delay_s"]:
        return f"its host's turn, one at a time and {_seconds(leg['delay_s'])} after the last"
    if leg["per_host"] is not None:
        return f"its host's turn, {leg['per_host']} at once"
    return "its turn"


def _end(record: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[str]:
    reason, error = record["reason"], record["error"]
    if record["duplicate_of"] is not None:
        yield f"  it asks for the same as entry {record['duplicate_of']:,} of the input"
    elif reason is not None:
        yield f"  {one_line(reason)}: {_REASONS.get(reason, 'that is why it ended so')}"
    if error is not None:
        yield f"  it failed by {error['kind']}: {one_line(error['message'])}"
    if record["blocked"]:
        yield "  the answer says that the host doesn't want us"
    if record["bytes"] is not None:
        kind = "" if record["content_type"] is None else f" of {one_line(record['content_type'], 80)}"
        yield f"  body: {record['bytes']:,} bytes{kind}; SHA-256 {record['sha256']}"
    for kept in record["body"]:
        folder = f"{place['folder']}/" if "folder" in place else ""
        yield f"  kept in {folder}{one_line(kept['file'])} at {kept['offset']:,}, {kept['length']:,} bytes"
    yield f"  its record stands in {place['file']} at {place['offset']:,}"


def _waiting(waiting: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[str]:
    host, said = one_line(target["host"] or ""), waiting["orders"] or {}
    if said.get("order") == "hold":
        yield f"  an operator holds its host {host}: crawlpool host JOB {host} --release lets it go on"
    if said.get("order") == "skip":
        yield f"  an operator skips its host {host}: it will end as skipped"
    if said.get("delay_s") is not None:
        yield f"  its host has a delay of its own: {said['delay_s']:g} s"
    if waiting["is_host_blocked"]:
        yield f"  its host {host} doesn't want us and is left alone: crawlpool host JOB {host} --release tries it again"
    if waiting["host_rests_s"]:
        yield f"  its host rests after a refusal, for {_seconds(waiting['host_rests_s'])} from now"
    if target["crashes"]:
        times = "once" if target["crashes"] == 1 else f"{target['crashes']} times in a row"
        yield f"  it was in flight {times} when the process ended"
    before = waiting["before"]
    yield f"  {before:,} of its host go{'es' if before == 1 else ''} before it"
    if not waiting["is_running"]:
        yield "  nobody runs the job: it waits for the next run"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:,.1f} s"
