"""The proof of politeness, in short: ``python -m tests.proof`` is the long one."""

from __future__ import annotations

import pytest

from crawlpool.audit import judge
from crawlpool.findings import Kind
from crawlpool.limits import HostLimits
from tests.proof import Seen, breaches, legs_of, main, recorded

DELAYED, TWO = HostLimits(delay_s=1.0), HostLimits(concurrency=2)


def seen(*spans: tuple[float, float], closed_s: float = 0.0) -> list[Seen]:
    """Return what a server saw: when each request came, and when its answer was ready."""
    return [Seen("/", came, ended, closed_s) for came, ended in spans]


def test_the_judge_knows_a_breach() -> None:
    """What came too early, during a cooldown, or beside too many others is counted; what keeps the limits isn't."""
    assert breaches(seen((0, 1), (2, 3), (4, 5)), DELAYED) == (0, 0)
    assert breaches(seen((0, 1), (1.99, 3)), DELAYED) == (1, 0)
    assert breaches(seen((0, 2), (1, 3)), DELAYED) == (0, 1)
    assert breaches(seen((0, 2), (1, 3), (2, 4)), TWO) == (0, 0)
    assert breaches(seen((0, 2), (1, 3), (1.5, 4)), TWO) == (0, 1)
    assert breaches([*seen((0, 1), closed_s=9.0), *seen((9.5, 10))], TWO) == (1, 0)
    assert breaches([*seen((0, 1), closed_s=9.0), *seen((1.1, 2))], HostLimits()) == (1, 0)
    assert breaches([*seen((0, 1), closed_s=9.0), *seen((10, 11))], TWO) == (0, 0)


@pytest.mark.above_transports
def test_no_host_can_complain(transport: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty hosts with mixed limits that refuse now and then see no request too early and none too many."""
    # Several at once: a busy machine takes its time to read a refusal. One at a time: nothing is excused.
    with recorded() as legs:
        assert main(20, 1500, transport, 32, reaction_s=0.75) == 0
    out = capsys.readouterr().out
    assert "; 0 too early, 0 too much at once" in out
    # The crawler's own log says the same: as many requests, and no breach, whose judge excuses nobody.
    found = judge(legs_of(legs))
    assert (f"{found.legs:,} requests to {found.hosts} hosts" in out, found.without_limits) == (True, 0)
    asked = [found.tallies[kind].asked for kind in (Kind.DELAY, Kind.AT_ONCE, Kind.COOLDOWN)]
    assert (found.breaches, min(asked) > 0) == ([], True)
