"""What holds for every test: nothing leaks out of it, and nothing of the machine decides it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import hypothesis
import pytest

from crawlpool.testing.certificates import Certificates, temporary_certificates
from tests import workers
from tests.faults import LastWords
from tests.leaks import leaked_sockets, leaked_threads, open_sockets
from tests.over import MARKS, TRANSPORTS, transports_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

#: Variables that decide proxies, certificates and options; of both spellings.
MACHINE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NETRC")

_FAILED = pytest.StashKey[bool]()

# Bounded examples keep the suite fast; in CI the same ones each time, so that a red run means the change. How long an
# example takes is the machine's doing, so nothing is judged by it.
hypothesis.settings.register_profile(
    "crawlpool",
    deadline=None,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("crawlpool"), max_examples=1000)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("crawlpool"), derandomize=True)
if os.environ.get("CRAWLPOOL_TEST_PROFILE") == "thorough":
    hypothesis.settings.load_profile("thorough")
else:
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "crawlpool")


@pytest.fixture(scope="session", autouse=True)
def _no_machine_settings() -> Iterator[None]:
    """Take the machine's proxies, CA bundles and crawlpool options out of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in MACHINE_VARIABLES or name.lower().endswith("_proxy") or name.startswith("CRAWLPOOL_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Make an authority and a server's certificate, once: to make keys takes its time."""
    with temporary_certificates() as made:
        yield made


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what ``tox -e thorough`` says."""
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run what holds whatever the transport over each of them, and not over one",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks of tests, keep what is compiled, and have processes that die tell why."""
    for mark in MARKS.values():
        config.addinivalue_line("markers", mark)
    workers.keep()
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(LastWords())
        config.pluginmanager.register(workers.Shares())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once over each transport that its marks name."""
    test, is_thorough = metafunc.definition, metafunc.config.getoption("--thorough")
    names = transports_of(test.name, test.iter_markers(), is_thorough=is_thorough)
    if names is not None:
        metafunc.parametrize("transport", [TRANSPORTS[name] for name in names], indirect=True)


@pytest.fixture(autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the transport that the test runs over the one of every pool and session that names none; return it."""
    name = getattr(request, "param", None)
    if name is None:
        return "urllib3"
    monkeypatch.setenv("CRAWLPOOL_TRANSPORT", name)
    return str(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a socket behind.

    Fixtures of a wider scope are set up before this one, so what they hold doesn't count. A test that failed anyway
    isn't asked: its traceback may hold what it couldn't close.
    """
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield
    if request.node.stash.get(_FAILED, False):
        return
    leaked = [
        *(f"thread {thread.name}" for thread in leaked_threads(threads)),
        *(f"socket {inode}" for inode in leaked_sockets(sockets)),
    ]
    if leaked:
        pytest.fail(f"the test left behind: {', '.join(sorted(leaked))}", pytrace=False)
