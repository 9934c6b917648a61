"""Whoever runs a shard may be killed at any moment: nothing is lost, and nothing is there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.shards.doomed import HOSTS, KILLED, POINTS, SHARDS, broken_off
from tests.shards.web import Fleet, Web, alike, whole

if TYPE_CHECKING:
    import pathlib


def test_a_job_outlives_a_kill_at_every_point(tmp_path: pathlib.Path) -> None:
    """Killed at each point of import, commit, publishing and taking over in turn, a job has each record once."""
    with Web(HOSTS) as web:
        seeds = web.seeds((302,))
        expected, report, _ = whole(web, tmp_path / "one", seeds)
        ends = broken_off(web, tmp_path / "many", seeds, [(point, 1) for point in POINTS])
        assert dict(zip(POINTS, ends, strict=False)) == dict.fromkeys(POINTS, KILLED)
        assert ends[-1] == 0
        fleet = Fleet(tmp_path / "many", SHARDS)
        assert alike(fleet.records()) == expected
        books = fleet.report()
        assert (books.inputs, books.found, books.settled) == (report.inputs, report.found, report.settled)
        assert books.is_balanced and books.is_complete and not books.on_the_way
