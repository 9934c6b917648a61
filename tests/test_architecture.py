"""The shape of the house: who may import whom, how long a file is, and what no file may do."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterable

import pytest

from tests.house import (
    PACKAGE,
    ROOT,
    arrows,
    cycle,
    each_test,
    environment_writes,
    module_name,
    modules,
    names_imported,
    room,
    sources,
    undocumented,
)

#: The floors of DESIGN 4, lowest first. Imports go from a higher floor to a lower one.
FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(words.split())
    for words in (
        "_version errors clock config disk escape fence limits models record redact redactor events robots_tag trail "
        "wire",
        "address cookies retry decode politeness robots digests shortage suffixes",
        "transport environment",
        "session pool defaults headers exchange sites download fork pool_options prepare shared layers verbs lane "
        "auth redirects fencing",
        "source backlog clearance detour lines schedule rooms turnstile frontier sinks worker intake crawl "
        "leg settle books runs attend seen plan evidence audit turns names idlers findings control steering later "
        "owing stock ledger tidings handover",
        "jobs",
        "shards",
        "engines",
        "sessionpool",
        "observe testing cli",
        "__main__",
    )
)

#: Within a floor an import goes in one direction only, and each such arrow stands here.
ARROWS: dict[str, set[str]] = {
    # floor 0
    "config": {"errors"},
    "events": {"redactor"},
    "fence": {"clock", "errors"},
    "limits": {"config"},
    "models": {"errors", "record", "redact", "wire"},
    "record": {"clock", "errors", "escape", "redact", "robots_tag", "wire"},
    "redactor": {"config", "escape", "redact"},
    "trail": {"wire"},
    # floor 1
    "cookies": {"suffixes"},
    # floor 3
    "download": {"exchange", "layers", "shared"},
    "exchange": {"layers", "shared"},
    "fencing": {"shared", "verbs"},
    "layers": {"defaults", "prepare", "shared"},
    "pool_options": {"verbs"},
    "pool": {"defaults", "download", "fencing", "fork", "prepare", "session", "shared", "sites"},
    "redirects": {"auth", "layers"},
    "session": {"auth", "exchange", "lane", "layers", "prepare", "redirects", "shared"},
    "shared": {"defaults", "sites"},
    "sites": {"prepare"},
    # floor 4
    "attend": {"leg", "settle"},
    "audit": {"findings"},
    "books": {"leg"},
    "clearance": {"leg"},
    "control": {"leg", "schedule"},
    "crawl": {"books", "clearance", "intake", "leg", "seen", "settle", "sinks", "source", "steering", "worker"},
    "detour": {"leg"},
    "evidence": {"leg", "settle"},
    "frontier": {"control", "idlers", "leg", "names", "owing", "rooms", "schedule", "tidings", "turnstile"},
    "handover": {"leg"},
    "idlers": {"rooms", "schedule"},
    "intake": {"backlog", "frontier", "leg", "seen", "settle", "source", "stock", "worker"},
    "ledger": {"sinks"},
    "names": {"leg"},
    "owing": {"leg"},
    "rooms": {"leg", "schedule"},
    "runs": {"leg", "settle", "worker"},
    "lines": {"clearance", "leg", "settle"},
    "later": {"leg"},
    "tidings": {"idlers", "leg", "schedule"},
    "schedule": {"detour", "later", "leg", "lines", "settle", "turns"},
    "seen": {"leg"},
    "settle": {"handover", "leg"},
    "stock": {"leg", "lines", "worker"},
    "steering": {"books", "control", "intake", "leg", "source", "worker"},
    "turns": {"leg", "lines"},
    "turnstile": {"detour", "evidence", "leg", "names", "rooms", "schedule", "settle"},
    "worker": {"attend", "detour", "evidence", "frontier", "leg", "names", "settle"},
    # floor 8
    "cli": {"observe"},
    "testing": {"cli"},
}

LONGEST, SHORTEST = 400, 60
#: Files that are whole with less than 60 lines: nothing could be put beside what stands there.
SHORT = {
    f"{PACKAGE}.__main__",
    f"{PACKAGE}._version",
    f"{PACKAGE}.cli.answer",
    f"{PACKAGE}.cookies.dates",
    f"{PACKAGE}.engines.naming",
    f"{PACKAGE}.engines.preload",
    f"{PACKAGE}.politeness.window",
    f"{PACKAGE}.retry.retry_after",
}

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "bench",
    "crawlpool",
    "docs",
    "setup.cfg",
    "setup.py",
    "tests",
    "tox.ini",
}
#: What tools leave behind; none of it is in the repository.
GENERATED = {
    ".bench",
    ".benchmarks",
    ".coverage",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".venv",
    "build",
    "dist",
    "htmlcov",
    "__pycache__",
}

#: Formats that run code when they are read.
UNSAFE_FORMATS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def floor(name: str) -> int:
    """Return the floor of a room; the package itself is above all."""
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), len(FLOORS))


def relative(path: pathlib.Path) -> str:
    """Return a path as people write it."""
    return path.relative_to(ROOT).as_posix()


def nothing(wrong: Iterable[str]) -> None:
    """Fail with one line for each thing that is wrong."""
    lines = sorted(wrong)
    assert not lines, "\n  " + "\n  ".join(lines)


def test_every_module_is_on_a_floor() -> None:
    """A new module has to be given its floor here."""
    strangers = {name for name in modules() if name != PACKAGE and floor(room(name)) == len(FLOORS)}
    nothing(strangers)


def test_imports_go_down_or_along_a_listed_arrow() -> None:
    """No module imports from a higher floor; within a floor only along the arrows that are listed."""
    wrong = []
    for name, imported in arrows().items():
        for target in imported:
            here, there = room(name), room(target)
            if here == there or floor(here) > floor(there) or there in ARROWS.get(here, ()):
                continue
            wrong.append(f"{name} (floor {floor(here)}) imports {target} (floor {floor(there)})")
    nothing(wrong)


def test_listed_arrows_lie_within_a_floor_and_are_used() -> None:
    """An arrow that leads to another floor, or that nothing uses any more, is taken off the list."""
    used = {(room(name), room(target)) for name, imported in arrows().items() for target in imported}
    listed = {(here, there) for here, targets in ARROWS.items() for there in targets}
    nothing(f"{here} → {there} leads to another floor" for here, there in listed if floor(here) != floor(there))
    nothing(f"{here} → {there} is not used" for here, there in listed - used)


def test_rooms_and_modules_have_no_cycles() -> None:
    """Neither rooms nor modules import each other in a circle, type-checking imports included."""
    by_module = arrows()
    by_room: dict[str, set[str]] = {}
    for name, imported in by_module.items():
        by_room.setdefault(room(name), set()).update(room(target) for target in imported)
    assert cycle({name: targets - {name} for name, targets in by_room.items()}) == []
    assert cycle(by_module) == []


def test_files_are_of_a_size_to_be_read() -> None:
    """A file has at most 400 lines, and a module of the package at least 60; one that grows past is two rooms."""
    wrong = []
    for folder in (PACKAGE, "tests", "bench"):
        for path in sources(folder):
            count = len(path.read_text("utf-8").splitlines())
            may_be_short = folder != PACKAGE or path.name == "__init__.py" or module_name(path) in SHORT
            if count > LONGEST or (count < SHORTEST and not may_be_short):
                wrong.append(f"{relative(path)}: {count} lines")
    nothing(wrong)


def test_files_said_to_be_short_are() -> None:
    """A file that has grown is taken off the list of short ones."""
    lengths = {module_name(path): len(path.read_text("utf-8").splitlines()) for path in sources(PACKAGE)}
    assert {name for name in SHORT if lengths.get(name, SHORTEST) >= SHORTEST} == set()


def test_nothing_unpickles() -> None:
    """No format that runs code when it is read: not in a file, not between processes."""
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules().items()
        for imported in names_imported(tree, name, package=False)
        if imported.split(".")[0] in UNSAFE_FORMATS
    ]
    nothing(wrong)


def test_the_environment_is_never_written() -> None:
    """``os.environ`` belongs to the whole process and is not safe to change while threads run."""
    wrong = [f"{name}:{line}" for name, tree in modules().items() for line in environment_writes(tree)]
    nothing(wrong)


def test_everything_public_has_a_docstring() -> None:
    """Each public module, class, function and method says what it is."""
    wrong = [f"{name}: {thing}" for name, tree in modules().items() for thing in undocumented(tree)]
    nothing(wrong)


def test_every_test_says_its_rule() -> None:
    """The docstring of a test is the rule that it holds."""
    wrong = []
    for path in sources("tests"):
        tree = ast.parse(path.read_text("utf-8"))
        if path.name.startswith("test_"):
            wrong += [f"{relative(path)}: {t.name}" for t in each_test(tree) if not ast.get_docstring(t)]
            wrong += [] if ast.get_docstring(tree) else [f"{relative(path)}: the file"]
    nothing(wrong)


def test_the_top_level_is_as_agreed() -> None:
    """Beside what tools generate there is nothing at the top but the agreed entries, and all of them are there."""
    present = {path.name for path in ROOT.iterdir() if not path.name.endswith(".egg-info")}
    assert present - GENERATED - {".git"} == TOP_LEVEL


def test_what_tools_generate_is_ignored() -> None:
    """Each generated entry stands in .gitignore, so that none is ever committed."""
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {name for name in GENERATED if name not in lines and f"{name}/" not in lines} == set()


@pytest.fixture
def other_house(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a small package with imports of every form."""
    package = tmp_path / PACKAGE
    (package / "cookies").mkdir(parents=True)
    (package / "__init__.py").write_text("from .pool import Pool\n")
    (package / "errors.py").write_text("def f():\n    from crawlpool import pool\n")
    (package / "pool.py").write_text(
        "from typing import TYPE_CHECKING\nimport crawlpool.errors\nif TYPE_CHECKING:\n    from .cookies import Store\n"
    )
    (package / "cookies" / "__init__.py").write_text("from . import store\nfrom .store import Store\n")
    (package / "cookies" / "store.py").write_text("from .. import errors\nimport pickle\nclass Store: ...\n")
    return tmp_path


def test_imports_of_every_form_are_seen(other_house: pathlib.Path) -> None:
    """Relative imports, those in functions and those for type checking count; a circle through them is found."""
    found = arrows(other_house)
    assert found == {
        "crawlpool": {"crawlpool.pool"},
        "crawlpool.errors": {"crawlpool.pool"},
        "crawlpool.pool": {"crawlpool.errors", "crawlpool.cookies"},
        "crawlpool.cookies": {"crawlpool.cookies.store"},
        "crawlpool.cookies.store": {"crawlpool.errors"},
    }
    circle = ["crawlpool.pool", "crawlpool.cookies", "crawlpool.cookies.store", "crawlpool.errors", "crawlpool.pool"]
    assert cycle(found) == circle
    assert undocumented(modules(other_house)["crawlpool.cookies.store"]) == ["the module", "Store"]


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['A'] = 'b'",
        "del environ['A']",
        "os.environ.setdefault('A', 'b')",
        "os.environ |= {}",
        "os.putenv('A', 'b')",
        "os.environ = {}",
    ],
)
def test_each_way_to_write_the_environment_is_seen(line: str) -> None:
    """Assignment, deletion, the dict's methods and putenv are found; reading is not."""
    assert environment_writes(ast.parse(f"x = os.environ['A']\ny = os.environ.get('A')\n{line}\n")) == [3]
