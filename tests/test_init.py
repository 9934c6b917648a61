"""The package: what it says it has, it has, and importing it does nothing else."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import requests

import crawlpool
from tests.house import ROOT


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT).stdout


def test_every_public_name_is_there() -> None:
    """Each name of ``__all__`` can be imported, and the list is in order, so that a missing one is seen."""
    for name in crawlpool.__all__:
        assert hasattr(crawlpool, name), name
    assert sorted(crawlpool.__all__) == crawlpool.__all__
    assert len(set(crawlpool.__all__)) == len(crawlpool.__all__)


def test_every_error_is_one_of_crawlpools() -> None:
    """Every public exception derives from ``CrawlPoolError``; those about a request from requests' own root, too."""
    errors = [thing for name in crawlpool.__all__ if isinstance(thing := getattr(crawlpool, name), type)]
    for error in errors:
        if issubclass(error, BaseException):
            assert issubclass(error, crawlpool.CrawlPoolError), error
    assert issubclass(crawlpool.DownloadMismatch, requests.RequestException)
    assert issubclass(crawlpool.DeadlineExceeded, requests.Timeout)


def test_the_version_is_a_version() -> None:
    """``__version__`` is numbers and dots, with at most a suffix."""
    assert crawlpool.__version__.split(".")[0].isdigit()


def test_importing_is_quiet() -> None:
    """Importing starts no thread, configures no logging, and loads neither the command nor the tests' tools."""
    code = (
        "import sys, threading, logging; import crawlpool;"
        "assert threading.active_count() == 1; assert not logging.getLogger().handlers;"
        "print([m for m in ('click', 'crawlpool.cli', 'crawlpool.testing', 'pytest') if m in sys.modules])"
    )
    assert run(code) == "[]\n"


def test_a_library_configures_no_structlog() -> None:
    """structlog's global configuration is the application's: a pool that logs leaves it alone."""
    code = "import structlog, crawlpool; crawlpool.SessionPool().close(); print(structlog.is_configured())"
    assert run(code) == "False\n"


def test_a_pool_that_was_never_closed_lets_the_interpreter_end() -> None:
    """Threads of a pool that nobody closed don't keep the process alive."""
    code = (
        "import crawlpool; from crawlpool.testing import SiteServer\n"
        "with SiteServer({'/': b'x'}) as server:\n"
        "    pool = crawlpool.SessionPool()\n"
        "    print(pool.submit('GET', server.url('/')).result().text)\n"
    )
    assert run(code) == "x\n"


def test_each_public_name_has_its_home() -> None:
    """What is imported for type checkers is what is imported at run time, from the same module."""
    tree = ast.parse(pathlib.Path(crawlpool.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (f"{node.module}", one.name) for node in block.body if isinstance(node, ast.ImportFrom) for one in node.names
    }
    assert typed == {(f"crawlpool.{home}", name) for name, home in crawlpool._HOME_OF.items()}
    assert {*crawlpool.__all__} == {*crawlpool._HOME_OF, "__version__"}


def test_the_command_is_there_before_anything_slow() -> None:
    """Ctrl-C is in the command's hands before requests and structlog are imported."""
    assert run("import sys, crawlpool.cli; print([m for m in ('requests', 'structlog') if m in sys.modules])") == "[]\n"
