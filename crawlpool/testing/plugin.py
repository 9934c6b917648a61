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
#: What its mark takes by name.
_OPTIONS = ("sites", "loopback", "check")
_FORGIVE = "(where that was meant, also within pytest.raises: call crawl_offline.forgive(), or mark it check=False)"


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

    _, given = _marked(request.node)
    with Offline(given.get("sites"), loopback=given.get("loopback", False)) as web:
        yield web
    if given.get("check", True):
        missing = ""
        try:
            web.assert_all_scripted()
        except AssertionError as error:
            missing = str(error)
        if missing:  # told here, where no other exception is under way that pytest would show with the same text
            pytest.fail(f"{missing}\n{_FORGIVE}", pytrace=False)
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
    is_on, _ = _marked(request.node)
    return bool(request.config.getini(MARK)) if is_on is None else is_on


def _marked(node: Any) -> tuple[bool | None, dict[str, Any]]:
    """Return whether the mark of a test says that it is offline, and its other arguments; ``None`` without a mark.

    A mistake in the mark fails the test: what nobody reads would be a test that checks less than it says.
    """
    mark = node.get_closest_marker(MARK)
    if mark is None:
        return None, {}
    given = dict(mark.kwargs)
    wrong = [name for name in given if name not in (*_OPTIONS, "is_on")]
    if wrong:
        pytest.fail(f"{MARK}: unknown argument {wrong[0]!r}; known are {', '.join(_OPTIONS)}", pytrace=False)
    if len(mark.args) + ("is_on" in given) > 1:
        pytest.fail(f"{MARK}: one argument without a name at most: True or False", pytrace=False)
    is_on: Any = mark.args[0] if mark.args else given.pop("is_on", True)
    if not isinstance(is_on, bool):
        told = f"{MARK}({is_on!r}): True or False is needed there; sites are given by name: sites={{…}}"
        pytest.fail(told, pytrace=False)
    for name in ("loopback", "check"):
        if not isinstance(given.get(name, True), bool):
            pytest.fail(f"{MARK}: {name}={given[name]!r}: True or False is needed", pytrace=False)
    return is_on, given
