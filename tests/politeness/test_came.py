"""When an answer says that a host does not want us, and when a host is blocked."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, BLOCKED, BROKEN, Came, Host, is_block
from crawlpool.politeness.host import BLOCKS, LAST

LIMITS = HostLimits()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, False),
        (404, {}, False),
        (503, {}, False),
        (401, {}, True),
        (403, {}, True),
        (429, {}, True),
        (503, {"cf-mitigated": " Challenge "}, True),
        (503, {"cf-mitigated": "other"}, False),
        (202, {"x-amzn-waf-action": "challenge"}, True),
        (405, {"x-amzn-waf-action": "captcha"}, True),
    ],
)
def test_what_is_a_block(status: int, headers: Mapping[str, str], expected: bool) -> None:
    """Three statuses, and the fields by which networks tell of a challenge; 404 and 503 speak of something else."""
    assert is_block(status, headers) is expected


@given(st.lists(st.booleans(), max_size=60))
def test_eighteen_of_the_last_twenty(answers: list[bool]) -> None:
    """Only the last ones count, and fewer than so many answers are never enough."""
    host = Host("h")
    for number, answer in enumerate(answers, 1):
        answered(host, BLOCKED if answer else ANSWERED)
        assert host.is_blocked == (sum(answers[max(0, number - LAST) : number]) >= BLOCKS)


def answered(host: Host, *came: Came) -> None:
    """Have a host answer."""
    for one in came:
        host.start()
        host.end(one, LIMITS, 10.0)


def test_a_host_is_blocked_by_its_answers_alone() -> None:
    """Broken transfers say nothing; a 429 is a block and a refusal; it is remembered as long as it is so."""
    host = Host("h")
    answered(host, *[BLOCKED, BROKEN] * 17)
    assert not host.is_blocked
    answered(host, Came.refused(0.0, is_block=True))
    assert host.is_blocked
    assert not host.is_forgettable(math.inf)
    answered(host, *[ANSWERED] * 3)
    assert not host.is_blocked
