"""The pytest plugin: offline mode and a fault server as fixtures, for whole suites by one line of configuration.

pytest finds it by itself where crawlpool is installed. Nothing else in crawlpool needs pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.testing.faultserver import FaultServer
    from crawlpool.testing.offline import Offline

MARK = "crawl_offline"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which all tests are offline."""
    parser.addini(MARK, "crawlpool: run every test offline, as with the mark of this name", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(is_on=True, *, sites=None, loopback=False, check=True): pools made in the test see the scripted sites "
        "and nothing else; check=False lets requests fail that have no answer",
    )


@pytest.fixture
def crawl_offline(request: pytest.FixtureRequest) -> Iterator[Offline]:
    """A scripted network: pools made in the test see its sites and nothing else, and their waits take no time.

    At the end the test fails for requests that had no answer, unless ``forgive`` was called or the mark says
    ``check=False``, and for what functions of the sites raised.
    """
    from crawlpool.testing.offline import Offline

    given = _given(request.node)
    with Offline(given.get("sites"), loopback=given.get("loopback", False)) as web:
        yield web
    if given.get("check", True):
        try:
            web.assert_all_scripted()
        except AssertionError as error:
            pytest.fail(str(error), pytrace=False)
        for raised in web.errors:
            raise raised


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server on loopback with each fault at its own path, such as ``/short_length``; not offline by itself."""
    from crawlpool.testing.faultserver import FaultServer

    with FaultServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _crawl_offline(request: pytest.FixtureRequest) -> None:
    """Go offline where the mark or the configuration says so, though the test doesn't ask for the fixture."""
    if _is_on(request):
        request.getfixturevalue(MARK)


def _is_on(request: pytest.FixtureRequest) -> bool:
    mark = request.node.get_closest_marker(MARK)
    if mark is None:
        return bool(request.config.getini(MARK))
    return bool(mark.args[0]) if mark.args else True


def _given(node: Any) -> dict[str, Any]:
    mark = node.get_closest_marker(MARK)
    return {} if mark is None else dict(mark.kwargs)
