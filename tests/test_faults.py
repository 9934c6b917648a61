"""A test process that dies tells how and where, in the summary of the run."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.faults import how_it_ended
from tests.house import ROOT

_PATIENCE_S = 50.0  # for a run of tests with a worker of its own: three interpreters

CONFTEST = """
from tests.faults import LastWords

def pytest_configure(config):
    config.pluginmanager.register(LastWords())
"""

DEADLY = """
import os, signal

def test_before(): pass

def test_deadly():
    os.kill(os.getpid(), signal.{signal})
"""


def run(folder: pathlib.Path, name: str) -> str:
    """Run tests one of which kills its process; return what is printed."""
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    (folder / "test_it.py").write_text(DEADLY.format(signal=name), "utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "1", "--max-worker-restart=0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    assert ran.returncode != 0
    return ran.stdout


@pytest.mark.skipif(os.name != "posix", reason="kills a process by signals")
def test_a_segmentation_fault_shows_where_it_was(tmp_path: pathlib.Path) -> None:
    """The traceback of the process that died stands in the summary."""
    printed = run(tmp_path, "SIGSEGV")
    assert "gw0: killed by SIGSEGV" in printed
    assert "Fatal Python error: Segmentation fault" in printed
    assert "in test_deadly" in printed


@pytest.mark.skipif(os.name != "posix", reason="kills a process by signals")
def test_a_kill_is_named(tmp_path: pathlib.Path) -> None:
    """Where the process could say nothing any more, the signal is said."""
    assert "gw0: killed by SIGKILL" in run(tmp_path, "SIGKILL")


def test_exit_codes_in_words() -> None:
    """A signal has its name, a code its number."""
    assert how_it_ended(130) == "it exited with 130"
    assert how_it_ended(-signal.SIGTERM) == "killed by SIGTERM"
    assert how_it_ended(-250) == "killed by signal 250"
    assert how_it_ended(None) == "its exit code isn't known"
