"""What ``crawlpool plan`` writes: a short table and a few sentences, or the same facts as one JSON object."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.cli.plan_shards import facts_of as shards_of
from crawlpool.cli.plan_shards import sentences_of
from crawlpool.observe.pace import duration
from crawlpool.plan import Decides
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from crawlpool.cli.pace import Pace
    from crawlpool.plan import Part, Plan
    from crawlpool.shards.shares import Shares

#: Wide enough for any table; nothing is cut to the width of a terminal.
_COLUMNS = 200
_LONGEST_HOST = 60
#: So many hosts that decide are named.
_NAMED = 3
#: What gets faster by less than this isn't worth a word: it shows as the same duration.
_FASTER = 0.99
#: The most that --in-flight takes.
_MOST_IN_FLIGHT = 100_000


class LeftOut(NamedTuple):
    """What stands in the input and isn't in a plan: lines that are no targets, and that ask for the same again."""

    bad_lines: int = 0
    duplicates: int = 0


def text_of(plan: Plan, pace: Pace, left_out: LeftOut, shares: Shares | None = None) -> str:
    """Return the plan for eyes.

    Args:
        plan: the plan.
        pace: how hard hosts would be asked.
        left_out: what isn't in it.
        shares: how its URLs fall into shards; ``None`` to say nothing of that.
    """
    sentences = [_whole(plan)]
    if plan.decides is not Decides.NOTHING:
        sentences += [_least(plan), _reason(plan, pace), _in_flight(plan)]
    if shares is not None:
        sentences += sentences_of(shares, plan.whole.urls)
    if left_out.duplicates:
        sentences.append(f"{number_of(left_out.duplicates, 'line')} more ask for the same again, and would be skipped.")
    if left_out.bad_lines:
        sentences.append(f"{number_of(left_out.bad_lines, 'line')} can't be fetched, and would be recorded as failed.")
    table = _table(plan) if plan.top else ""
    return "\n".join([*([table] if table else []), *sentences])


def facts_of(plan: Plan, left_out: LeftOut, shares: Shares | None = None) -> dict[str, Any]:
    """Return the same as values that JSON has; times in seconds, shares as fractions of 1."""
    terms, urls = plan.terms, plan.whole.urls
    return {
        "v": 1,
        "urls": urls,
        "bad_lines": left_out.bad_lines,
        "duplicates": left_out.duplicates,
        "hosts": plan.whole.hosts,
        "requests": plan.whole.requests,
        "assumed": {
            "answer_s": terms.answer_s,
            "in_flight": terms.in_flight,
            "delay_s": terms.limits.delay_s,
            "per_host": terms.limits.concurrency,
            "rate": terms.rate,
            "loopback_exempt": terms.limits.loopback_exempt,
            "ignore_robots": not terms.robots,
        },
        "total_s": _rounded(plan.total_s),
        "decides": plan.decides.value,
        "bounds": {
            "hosts_s": _rounded(plan.hosts_s),
            "rate_s": _rounded(plan.rate_s),
            "in_flight_s": _rounded(plan.in_flight_s),
        },
        "deciding": _part(plan.deciding, urls),
        "rest": {**_part(plan.rest, urls), "total_s": _rounded(plan.rest_s)},
        "most": _part(plan.most, urls),
        "in_flight_doubled": {"in_flight": 2 * terms.in_flight, "total_s": _rounded(plan.doubled_s)},
        "in_flight_enough": {"in_flight": plan.enough, "total_s": _rounded(plan.least_s)},
        "top": [
            {
                "host": host.host,
                "urls": host.urls,
                "share": _share(host.urls, urls),
                "requests": host.requests,
                "demanded_s": _rounded(host.demanded_s),
                "waits_s": _rounded(host.waits_s),
            }
            for host in plan.top
        ],
        "sharded": shards_of(shares, urls),
    }


def document_of(plan: Plan, left_out: LeftOut, shares: Shares | None = None) -> str:
    """Return ``facts_of`` as one line of JSON."""
    return json.dumps(facts_of(plan, left_out, shares))


def _part(part: Part, urls: int) -> dict[str, Any]:
    return {"hosts": part.hosts, "urls": part.urls, "share": _share(part.urls, urls)}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _percent(part: int, whole: int) -> str:
    """Return a share; 100 % is told of all alone, and 0 of none."""
    tenths = round(1000 * part / whole)
    if part and not tenths:
        return "<0.1 %"
    return ">99.9 %" if part < whole and tenths == 1000 else f"{tenths / 10:.1f} %"


def number_of(number: int, word: str) -> str:
    """Return ``1 host`` or ``12,345 hosts``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


# The table ------------------------------------------------------------------------------------------------------


def _table(plan: Plan) -> str:
    from rich.console import Console  # here: rich takes 50 ms to import
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_edge=False)
    table.add_column("host", no_wrap=True)
    for name in ("URLs", "share", "alone"):
        table.add_column(name, justify="right", no_wrap=True)
    whole, shown = plan.whole, sum(host.urls for host in plan.top)
    rows = [
        (one_line(host.host, _LONGEST_HOST), host.urls, _percent(host.urls, whole.urls), duration(host.demanded_s))
        for host in plan.top
    ]
    others = whole.hosts - len(plan.top)
    if others:
        urls = whole.urls - shown
        rows.append((number_of(others, "other host"), urls, _percent(urls, whole.urls), ""))
    for name, urls, share, alone in rows:
        table.add_row(Text(name), Text(f"{urls:,}"), Text(share), Text(alone))
    file = io.StringIO()
    # Nothing of the terminal or the environment: the same text everywhere.
    Console(file=file, width=_COLUMNS, color_system=None, force_terminal=False, _environ={}).print(table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


# The sentences --------------------------------------------------------------------------------------------------


def _whole(plan: Plan) -> str:
    whole, most = plan.whole, plan.most
    if not whole.urls:
        return "There is no URL in this input: nothing to fetch."
    text = f"{number_of(whole.urls, 'URL')} of {number_of(whole.hosts, 'host')}"
    robots = whole.requests - whole.urls
    if robots:
        text += ", and its robots.txt" if whole.hosts == 1 else f", and {robots:,} robots.txt"
    # Half of the hosts with most of the URLs are no few.
    if 2 * most.hosts < whole.hosts:
        verb = "holds" if most.hosts == 1 else "hold"
        text += f"; {most.hosts:,} of these hosts {verb} {_percent(most.urls, whole.urls)} of the URLs"
    return f"{text}."


def _least(plan: Plan) -> str:
    has_robots = plan.whole.requests > plan.whole.urls
    crawl_delay = ", and no robots.txt has a Crawl-delay, which nobody knows before" if has_robots else ""
    return (
        f"A run takes at least {duration(plan.total_s)}, if an answer takes {plan.terms.answer_s:g} s, which is an "
        f"assumption (--answer-time){crawl_delay}."
    )


def _reason(plan: Plan, pace: Pace) -> str:
    if plan.decides is Decides.RATE:
        return (
            f"--rate {pace.rate:g}/s decides that; the slowest host alone would take {duration(plan.hosts_s)}, "
            f"the requests with {plan.terms.in_flight:,} in flight {duration(plan.in_flight_s)}."
        )
    if plan.decides is Decides.IN_FLIGHT:
        return (
            f"The requests in flight decide that, {plan.terms.in_flight:,} at once; the slowest host alone would take "
            f"{duration(plan.hosts_s)}."
        )
    deciding, rest = plan.deciding, plan.rest
    text = f"{_deciding(plan)} that: {dataclasses.replace(pace, rate=None)}"
    slowest = plan.top[0] if plan.top else None
    if slowest is not None and slowest.waits_s:
        name = one_line(slowest.host, _LONGEST_HOST)
        text += f"; the delay alone takes {duration(slowest.waits_s)} for {name}, however fast it answers"
    text += "."
    if rest.hosts:
        them = "it" if deciding.hosts == 1 else "them"
        others = "host" if rest.hosts == 1 else number_of(rest.hosts, "host")
        text += f"\nWithout {them} the other {others} would be done in {duration(plan.rest_s)}."
    return text


def _deciding(plan: Plan) -> str:
    """Return who decides, with the verb."""
    deciding = plan.deciding
    names = [one_line(host.host, _LONGEST_HOST) for host in plan.top[: deciding.hosts]]
    if deciding.hosts == 1:
        return f"{names[0] if names else 'One host'} decides"
    if deciding.hosts <= _NAMED and len(names) == deciding.hosts:
        return f"{', '.join(names[:-1])} and {names[-1]} decide"
    return f"{deciding.hosts:,} of the hosts decide" if plan.rest.hosts else "The hosts decide"


def _in_flight(plan: Plan) -> str:
    """Return what more requests at once would bring, or wouldn't."""
    now = plan.terms.in_flight
    if plan.least_s > plan.total_s * _FASTER:
        verb = "is" if plan.enough == 1 else "are"
        enough = f"; {plan.enough:,} {verb} enough" if plan.enough < now else ""
        return f"More in flight than {now:,} (--in-flight, --threads) would bring nothing{enough}."
    text = f"With {2 * now:,} in flight (--in-flight, --threads) it would be {duration(plan.doubled_s)}"
    if plan.enough > _MOST_IN_FLIGHT:
        return f"{text}, and so on: as many as this machine bears are of use."
    return f"{text}; from {plan.enough:,} on more bring nothing, and it is {duration(plan.least_s)}."
