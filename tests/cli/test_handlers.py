"""``--handler``: a user's function, found as ``python -m`` finds it, with a job and without."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

import pytest

from crawlpool.cli import main
from crawlpool.cli.handlers import handler_named
from crawlpool.errors import ConfigError
from crawlpool.testing import SiteServer
from tests.cli.command import finish, start

Capture = pytest.CaptureFixture[str]

_MODULE = """
from helper_of_shop import WORD
class Shop:
    @staticmethod
    def handle(result, crawl):
        if result.target.depth == 0:
            crawl.add(result.target.url + "more", parent=result)
        crawl.emit({"seen": result.response.text, "word": WORD})
value = 3
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """Be in a folder with a module; forget it afterwards."""
    (tmp_path / "shop_.py").write_text(_MODULE)
    (tmp_path / "helper_of_shop.py").write_text("WORD = 'w'\n")
    (tmp_path / "broken_.py").write_text("1 / 0\n")
    (tmp_path / "lacking_.py").write_text("import no_such_thing_\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("shop_", "helper_of_shop"):
        sys.modules.pop(name, None)


def test_a_handler_finds_more_and_writes_items(folder: pathlib.Path) -> None:
    """In a job, what it adds and emits is in the ledger and the records; ``resume`` finds it from another folder."""
    with SiteServer(lambda request: request.target.encode()) as server:
        command = ["run", server.url("/"), "--job", "job", "--handler", "shop_:Shop.handle"]
        code, _, err = finish(start(command, cwd=folder))
        assert (code, "1 inputs + 1 found = 2 ok" in err) == (0, True)
        lines = [json.loads(line) for line in (folder / "job" / "results.jsonl").read_text().splitlines()]
        items = [line["item"] for line in lines if "item" in line]
        assert sorted(item["seen"] for item in items) == ["/", "/more"] and items[0]["word"] == "w"
        assert len(lines) == 4
        assert finish(start(["resume", str(folder / "job")], cwd="/"))[0] == 0
        assert server.request_count == 2


def test_a_handler_needs_no_job(folder: pathlib.Path, capfd: Capture) -> None:
    """Items stand among the records."""
    with SiteServer(lambda request: request.target.encode()) as server:
        assert main(["run", server.url("/"), "--handler", "shop_:Shop.handle"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert sorted("item" in line for line in lines) == [False, False, True, True]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("shop_", "MODULE:FUNCTION is needed"),
        ("shop_.py:handle", "there is no such module"),
        ("/etc/x:handle", "MODULE:FUNCTION is needed"),
        ("none_such_:handle", "there is no such module (looked for in the current folder first)"),
        ("none_such_.inner:handle", "there is no such module"),
        ("lacking_:handle", "it imports no_such_thing_, which isn't there"),
        ("broken_:handle", "importing it raised ZeroDivisionError: division by zero"),
        ("shop_:Shop.handel", "shop_ has no 'handel'; is 'handle' meant?"),
        ("shop_:value", "it is int, and no function"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(folder: pathlib.Path, capfd: Capture, given: str, says: str) -> None:
    """Exit code 2, before anything is made or fetched."""
    with pytest.raises(ConfigError) as caught:
        handler_named(given)
    assert says in str(caught.value)
    assert main(["run", "http://127.0.0.1:9/", "--handler", given, "--job", "job"]) == 2
    err = capfd.readouterr().err
    assert says in err and "Traceback" not in err
    assert not (folder / "job").exists()
