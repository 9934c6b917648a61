"""How the workers of a run of tests share the work: what is compiled is kept, and by one of them; none is left alone.

To rewrite the asserts of all tests takes twice as long as to collect them, and hundreds of tests start the command.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from tests.house import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


def keep() -> None:
    """Have this process, and those that it starts, keep what they compile, whatever the environment says."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def share_of(modules: Sequence[str], number: int, count: int) -> Sequence[str]:
    """Return the modules that worker ``number`` of ``count`` imports first; together the workers import all."""
    return modules[number::count]


def modules_of_tests() -> list[str]:
    """Return the names of all modules of tests, in order."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


class Shares:
    """A plugin for runs by several workers."""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Import this worker's share of a whole run. Collecting finds it imported, and tells what can't be.

        All workers would compile the same modules at the same time: they collect in the same order.
        """
        config = session.config
        worker = getattr(config, "workerinput", None)
        if worker is None or list(config.args) != config.getini("testpaths"):
            return
        number = int(worker["workerid"].removeprefix("gw"))
        for name in share_of(modules_of_tests(), number, worker["workercount"]):
            # A module may skip itself, too, which is no Exception.
            with contextlib.suppress(BaseException):
                importlib.import_module(name)

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Have a worker that is done take half of what another has left, where ``--dist`` says nothing else.

        xdist's own way leaves the slowest tests to one worker at the end, for as long as a minute.
        """
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
