"""What a default run leaves to ``--thorough``, and what it doesn't; and what the workers of a run compile."""

from __future__ import annotations

import os
import sys
import types

import pytest

from tests.over import TRANSPORTS, one_of_them, transports_of
from tests.workers import Shares, keep, modules_of_tests, share_of

ABOVE, EACH, CURL = pytest.mark.above_transports.mark, pytest.mark.transports.mark, pytest.mark.transports("curl").mark


@pytest.mark.parametrize("is_thorough", [False, True])
def test_a_rule_of_the_transports_is_held_over_each(is_thorough: bool) -> None:
    """What is marked so runs over all of them in every run, or over those that are named."""
    assert transports_of("test_it", [EACH], is_thorough=is_thorough) == tuple(TRANSPORTS)
    assert transports_of("test_it", [CURL], is_thorough=is_thorough) == ("curl",)
    assert transports_of("test_it", [pytest.mark.timeout(5).mark], is_thorough=is_thorough) is None


def test_a_rule_above_them_is_held_over_one_and_thoroughly_over_each() -> None:
    """By default one transport, and none is dropped by ``--thorough``."""
    assert transports_of("test_it", [ABOVE], is_thorough=True) == tuple(TRANSPORTS)
    some = transports_of("test_it", [ABOVE], is_thorough=False)
    assert some is not None
    assert len(some) == 1


def test_the_closest_mark_counts() -> None:
    """A test can ask for each transport in a file that lies above them, and the other way round."""
    assert transports_of("test_it", [EACH, ABOVE], is_thorough=False) == tuple(TRANSPORTS)
    assert transports_of("test_it", [CURL, ABOVE], is_thorough=False) == ("curl",)
    some = transports_of("test_it", [ABOVE, EACH], is_thorough=False)
    assert some is not None
    assert len(some) == 1


def test_each_transport_has_its_share_of_the_tests_above() -> None:
    """About half of the tests run over each, the same ones each time; without curl all run over urllib3."""
    names = [f"test_{number}" for number in range(1000)]
    over = [one_of_them(name, has_curl=True) for name in names]
    assert over == [one_of_them(name, has_curl=True) for name in names]
    assert 400 < over.count("curl") < 600
    assert {one_of_them(name, has_curl=False) for name in names} == {"urllib3"}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_workers_compile_each_module_once(count: int) -> None:
    """Together their shares are all modules of tests, this one among them, and no two have the same."""
    modules = modules_of_tests()
    assert __name__ in modules
    shares = [share_of(modules, number, count) for number in range(count)]
    assert sorted(name for share in shares for name in share) == sorted(modules)


def test_what_is_compiled_is_kept_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """By this process and by those that it starts."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    keep()
    assert not sys.dont_write_bytecode
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_a_way_to_deal_tests_that_was_asked_for_is_taken() -> None:
    """Only xdist's default gives way to the workers' own."""
    asked = types.SimpleNamespace(getoption=lambda name: {"dist": "loadfile"}[name])
    assert Shares().pytest_xdist_make_scheduler(asked, None) is None  # type: ignore[arg-type]
