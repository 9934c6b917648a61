"""A pytest plugin for requests' own tests: another Session class, outcomes written down, and no way out of loopback.

Loaded by ``run.py`` with ``-p plugin`` from this folder, because a package named ``tests`` is in requests' distribution
already. It replaces the class before any conftest or test is imported, so ``from requests import Session`` gets ours.
"""

from __future__ import annotations

import errno
import importlib
import ipaddress
import json
import socket
import sys
from typing import Any

import pytest
import requests
import requests.api
import requests.sessions

_OUTCOMES = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that ``run.py`` gives."""
    group = parser.getgroup("requests' own suite")
    group.addoption("--session-class", metavar="MODULE:NAME", help="the class to put in place of requests.Session")
    group.addoption("--outcomes", metavar="FILE", help="write each test's outcome there, as JSON")
    group.addoption("--loopback-only", action="store_true", help="refuse lookups of names and connects elsewhere")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Put the class in place, as early as a plugin can."""
    options = early_config.known_args_namespace
    if options.session_class:
        module, _, name = options.session_class.partition(":")
        session_class = getattr(importlib.import_module(module), name)
        # requests.session() and requests.api look the name up in requests.sessions when they are called.
        requests.Session = requests.sessions.Session = session_class  # type: ignore[misc]
    if options.loopback_only:
        sys.addaudithook(_refuse_elsewhere)


def pytest_configure(config: pytest.Config) -> None:
    """Make the place for the outcomes."""
    config.stash[_OUTCOMES] = {}


class _Recorder:
    """Notes what became of each test; the worst phase counts."""

    def __init__(self, outcomes: dict[str, dict[str, str]]) -> None:
        self._outcomes = outcomes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase of one test."""
        expected_to_fail = hasattr(report, "wasxfail")
        if report.failed:
            outcome = "failed" if report.when == "call" else "error"
        elif report.skipped:
            outcome = "xfailed" if expected_to_fail else "skipped"
        elif report.when != "call":
            return
        else:
            outcome = "xpassed" if expected_to_fail else "passed"
        self._outcomes[report.nodeid] = {"outcome": outcome, "why": _why(report) if report.failed else ""}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be imported."""
        if report.failed:
            self._outcomes[f"{report.nodeid} (collection)"] = {"outcome": "error", "why": _why(report)}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start to note outcomes."""
    session.config.pluginmanager.register(_Recorder(session.config.stash[_OUTCOMES]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes, and which class was under test: the one that sessions were made of at the end, too."""
    path = session.config.getoption("--outcomes")
    if path:
        used = {type(requests.session()), type(requests.Session()), requests.sessions.Session}
        names = sorted(f"{one.__module__}.{one.__qualname__}" for one in used)
        with open(path, "w", encoding="utf-8") as file:
            found = {"session": ", ".join(names), "transport": _transport(), "tests": session.config.stash[_OUTCOMES]}
            json.dump(found, file)


def _transport() -> str | None:
    """Return the name of the transport of a new session; ``None`` for a session that has none."""
    with requests.Session() as session:
        shared: Any = getattr(session, "_shared", None)
        return None if shared is None else str(shared.settings.transport)


def _why(report: Any) -> str:
    """Return the last line of what a report says of a failure."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr)
    return " ".join(text.split())[:300]


def _refuse_elsewhere(event: str, arguments: tuple[Any, ...]) -> None:
    """Answer as a machine without a network would, before anything is sent (an audit hook)."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise OSError(errno.ENETUNREACH, "not a loopback address; this run stays on loopback")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
        if host and not (_is_address(host) or _text(host) == "localhost"):
            raise socket.gaierror(socket.EAI_AGAIN, "not looked up; this run stays on loopback")


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host


def _is_address(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return True


def _is_loopback(host: str | bytes) -> bool:
    return _text(host) == "localhost" or (_is_address(host) and ipaddress.ip_address(_text(host)).is_loopback)
