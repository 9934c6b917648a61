"""When an answer says that a host does not want us, and when a host is blocked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.politeness import Blocks, is_block
from crawlpool.politeness.blocks import BLOCKS, LAST


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
    blocks = Blocks()
    for number, answer in enumerate(answers, 1):
        blocks.note("h", is_block=answer)
        assert blocks.has("h") == (sum(answers[max(0, number - LAST) : number]) >= BLOCKS)
        assert not blocks.has("other")
        assert bool(blocks.last) == any(answers[max(0, number - LAST) : number])
