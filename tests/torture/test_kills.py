"""A job that is killed, at random and at the calls that change it, in short: ``tox -e torture`` is the long one."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator

import pytest

from crawlpool.jobs.job import GIVEN_UP_AFTER
from tests.torture.crawler import DEADLY
from tests.torture.nursery import Nursery
from tests.torture.process import Setup
from tests.torture.site import CountingServer, Line, World
from tests.torture.storm import storm
from tests.torture.syscalls import Yard, strikes, told, torture
from tests.torture.tracer import why_not

KILLS, SAMPLE = 20, 12


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    """A server and a nursery."""
    with CountingServer() as server, Nursery() as nursery:
        yield Yard(nursery, server)


@pytest.mark.timeout(180)
def test_a_storm_of_kills_loses_nothing(tmp_path: pathlib.Path) -> None:
    """After 20 kills at random moments nothing is lost, doubled or torn, and few requests were made again."""
    found = storm(KILLS, seed=4, folder=tmp_path)
    assert (found.kills, found.wrong) == (KILLS, [])


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [True, False], ids=["killed", "failing"])
def test_a_strike_at_a_call_of_the_system_loses_nothing(kills: bool, yard: Yard, tmp_path: pathlib.Path) -> None:
    """Killed at a call, or with one that fails: it ends with one line and 3, or is complete; and goes on afterwards."""
    possible = strikes(yard.setup_in(tmp_path / "first"), kills=kills)
    outcomes = list(torture(random.Random(kills).sample(possible, SAMPLE), yard, tmp_path))
    assert not (wrong := [f"{one.strike}: {what}" for one in outcomes for what in one.wrong]), "\n".join(wrong)
    assert any(one.is_struck for one in outcomes), told(outcomes)


def test_a_page_that_kills_is_given_up(yard: Yard, tmp_path: pathlib.Path) -> None:
    """After so many crashes in a row with it in flight it has failed, and what was in flight beside it hasn't."""
    deadly = yard.server.url(f"{DEADLY}1")
    lines = [Line(yard.server.url(f"/page/{number}", host), "ok", 200) for number, host in _pages(yard.server, 12)]
    lines.insert(3, Line(deadly, "failed", reason="crashes"))
    items = frozenset(line.text for line in lines if line.outcome == "ok")
    setup = Setup(yard.nursery, World(tuple(lines), frozenset(), items, {}), tmp_path, handles=True)
    codes = [setup.run()[0] for _ in range(GIVEN_UP_AFTER)]
    assert codes == [86] * GIVEN_UP_AFTER
    assert setup.run()[0] != 86
    assert setup.wrong() == []


def _pages(server: CountingServer, count: int) -> list[tuple[int, str]]:
    numbers = [number for number in range(100) if number % 7]  # without links
    return [(number, server.hosts[number % len(server.hosts)]) for number in numbers[:count]]
