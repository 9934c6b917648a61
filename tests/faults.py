"""What a test process that died can still tell: how it ended, and where each of its threads was.

xdist itself says no more than that a worker "crashed", and what a dying process prints is far above the summary.
"""

from __future__ import annotations

import faulthandler
import pathlib
import signal
import tempfile
from typing import Any

import pytest

_LONGEST = 12_000  # characters of one process's last words
_FILE = pytest.StashKey[Any]()
_FOLDER = pytest.StashKey["tempfile.TemporaryDirectory[str]"]()
_DEATHS = pytest.StashKey[list[str]]()


class LastWords:
    """A plugin: each worker's faults go to a file that the summary shows when the worker dies."""

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write; in the process that starts it."""
        stash = node.config.stash
        if _FOLDER not in stash:
            stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="crawlpool-faults-")
        node.workerinput["faults"] = str(pathlib.Path(stash[_FOLDER].name) / node.gateway.id)

    @pytest.hookimpl(trylast=True)  # pytest's own plugin points them at stderr first
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Write faults there; in the worker."""
        path = getattr(session.config, "workerinput", {}).get("faults")
        if path is not None:
            file = session.config.stash[_FILE] = open(path, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
            faulthandler.enable(file)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let go of the file before it is closed."""
        file = session.config.stash.get(_FILE, None)
        if file is not None:
            faulthandler.disable()
            file.close()

    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Keep what is known of a worker that died; in the process that started it."""
        if not error:
            return
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)
        code = None if process is None else process.wait(timeout=10)
        words = pathlib.Path(node.workerinput["faults"])
        text = words.read_text("utf-8", "replace")[:_LONGEST] if words.is_file() else ""
        node.config.stash.setdefault(_DEATHS, []).append(f"{node.gateway.id}: {how_it_ended(code)}\n{text}")

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Show it where it is looked for."""
        for death in config.stash.get(_DEATHS, []):
            terminalreporter.section("a test process died")
            terminalreporter.write_line(death)


def how_it_ended(code: int | None) -> str:
    """Say an exit code in words; a negative one is a signal's number."""
    if code is None:
        return "its exit code isn't known"
    if code >= 0:
        return f"it exited with {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {name}" + (" (by hand, or for want of memory)" if name == "SIGKILL" else "")
