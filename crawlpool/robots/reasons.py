"""Which line of a robots.txt decides about a URL: for people, after the fact. Pure.

Protego says what is allowed and not why. So each rule of the groups that hold is asked by itself whether it matches;
of those that do the longest counts, and of two as long the one that allows (RFC 9309 2.2.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from crawlpool.robots.rules import READ_BYTES, Robots

_AGENT = re.compile(r"\s*user[- ]?agent\s*:?\s*(.*)", re.IGNORECASE)
_RULE = re.compile(r"\s*(allow|di[as]{1,3}l{1,2}[ao]w)\s*:?\s*(.*)", re.IGNORECASE)
_TOKEN = re.compile(r"[a-zA-Z_-]+")
#: Rules that are asked at most: to ask one takes some 30 microseconds.
_MOST_RULES = 20_000


class Line(NamedTuple):
    """A line of the file: its number, from 1, and its text."""

    number: int
    text: str


class _Rule(NamedTuple):
    line: Line
    is_allow: bool
    pattern: str
    agents: tuple[tuple[Line, str], ...]  # the names of its group


def deciding_lines(body: bytes, token: str, url: str) -> tuple[Line, Line] | None:
    """Return the line that names the crawler, and the rule that decides about a URL.

    Args:
        body: the file as it came.
        token: the crawler's ``product_token``.
        url: of this origin.

    Returns:
        ``None`` where no rule matches: then the URL is allowed.
    """
    rules = _rules_of(body)
    ours = [(rule, agent) for rule in rules for agent, name in rule.agents if token and name == token]
    holding = ours or [(rule, agent) for rule in rules for agent, name in rule.agents if name == "*"]
    # A file may name the crawler without a rule: then those for everybody don't hold.
    if not ours and token and _names(body, token):
        return None
    matching = [(rule, agent) for rule, agent in holding[:_MOST_RULES] if _matches(rule, url)]
    if not matching:
        return None
    rule, agent = max(matching, key=lambda found: (len(found[0].pattern), found[0].is_allow))
    return agent, rule.line


def _rules_of(body: bytes) -> list[_Rule]:
    rules: list[_Rule] = []
    agents: list[tuple[Line, str]] = []
    are_named = False  # whether the line before named one, too
    for line in _lines(body):
        text = line.text.partition("#")[0]
        if (found := _AGENT.fullmatch(text)) is not None:
            agents = [*(agents if are_named else []), (line, _name_of(found[1]))]
            are_named = True
        elif (found := _RULE.fullmatch(text)) is not None:
            is_allow = found[1].lower() == "allow"
            rules.append(_Rule(line, is_allow, found[2].strip(), tuple(agents)))
            are_named = False
    return rules


def _names(body: bytes, token: str) -> bool:
    found = (_AGENT.fullmatch(line.text.partition("#")[0]) for line in _lines(body))
    return any(one is not None and _name_of(one[1]) == token for one in found)


def _lines(body: bytes) -> list[Line]:
    text = body[:READ_BYTES].decode("utf-8-sig", "replace")
    return [Line(number, line) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1)]


def _name_of(text: str) -> str:
    name = text.strip()
    if name.startswith("*"):
        return "*"
    found = _TOKEN.match(name)
    return found[0].lower() if found else ""


def _matches(rule: _Rule, url: str) -> bool:
    if not rule.pattern:
        return False
    # Alone an Allow changes nothing: it is set against a rule that matches everything and is no longer.
    text = f"User-agent: *\n{'Allow' if rule.is_allow else 'Disallow'}: {rule.pattern}\n"
    if rule.is_allow:
        return Robots(f"{text}Disallow: /\n".encode(), "").allows(url)
    return not Robots(text.encode(), "").allows(url)
