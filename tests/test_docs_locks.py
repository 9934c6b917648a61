"""The table of docs/explanation/locks.rst against the sources: no lock is missing, and the fields are there."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import pytest

from tests.house import PACKAGE, ROOT, sources

PAGE = ROOT / "docs" / "explanation" / "locks.rst"
#: What makes a lock, or waits on one.
PRIMITIVES = frozenset({"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"})
LITERAL = re.compile(r"``([^`]+)``")


class Row(NamedTuple):
    """One lock as the table tells of it."""

    file: str
    lock: str
    waited_on: str
    guards: str
    io: str

    @property
    def key(self) -> tuple[str, str]:
        return self.file, self.lock

    @property
    def fields(self) -> set[str]:
        return set(LITERAL.findall(self.guards))


class Made(NamedTuple):
    """One place of the sources where a lock or condition is made."""

    file: str
    owner: str
    attribute: str
    line: int
    is_own: bool
    over: str | None

    @property
    def lock(self) -> str:
        return f"{self.owner}.{self.attribute}" if self.owner else self.attribute


def table(text: str) -> list[Row]:
    """Return the rows of the first table of a page."""
    lines = text.split("\n.. list-table::\n", 1)[1].split("\n")
    block = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        block.append(line)
    rows = []
    for row in re.split(r"^   \* - ", "\n".join(block), flags=re.MULTILINE)[2:]:
        cells = [" ".join(cell.split()) for cell in re.split(r"^     -(?: |$)", row, flags=re.MULTILINE)]
        file, lock = LITERAL.findall(cells[0])
        rows.append(Row(file, lock, *cells[1:]))
    return rows


def primitive(node: ast.AST) -> str | None:
    """Return the name of the primitive that a node names, as ``threading.Lock`` is written here, or ``None``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "threading":
        return node.attr if node.attr in PRIMITIVES else None
    return None


class Finder(ast.NodeVisitor):
    """Finds where a file makes locks, and which attributes it writes under them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.made: list[Made] = []
        self.derived: set[str] = set()  # classes that derive from a primitive
        self.stray: list[int] = []  # lines that name a primitive without giving it a name
        self.written: dict[tuple[str, str], set[str]] = {}  # (class, lock) to the attributes stored under it
        self.stored: set[str] = set()
        self._class = ""
        self._held: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(primitive(base) for base in node.bases):
            self.derived.add(node.name)
        before, self._class = self._class, node.name
        for statement in node.body:
            self.visit(statement)
        self._class = before

    def visit_Assign(self, node: ast.Assign) -> None:
        self._assigned(node.targets[0], node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assigned(node.target, node.value)
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "threading" and any(alias.name in PRIMITIVES for alias in node.names):
            self.stray.append(node.lineno)

    def visit_With(self, node: ast.With) -> None:
        held = [e.attr for item in node.items if isinstance(e := item.context_expr, ast.Attribute) and is_self(e)]
        self._held += held
        self.generic_visit(node)
        del self._held[len(self._held) - len(held) :]

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store):
            self.stored.add(node.attr)
            if is_self(node):
                for lock in self._held:
                    self.written.setdefault((self._class, lock), set()).add(node.attr)
        if primitive(node) and not any(made.line == node.lineno for made in self.made):
            self.stray.append(node.lineno)
        self.generic_visit(node)

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if not isinstance(value, ast.Call) or not primitive(value.func):
            return
        over = value.args[0] if value.args else None
        over_name = over.attr if isinstance(over, ast.Attribute) and is_self(over) else None
        if isinstance(target, ast.Name):
            self.made.append(Made(self.file, self._class, target.id, value.lineno, True, over_name))
        elif isinstance(target, ast.Attribute):
            self.made.append(Made(self.file, self._class, target.attr, value.lineno, is_self(target), over_name))


def is_self(node: ast.Attribute) -> bool:
    """Tell whether an attribute is one of ``self``."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def found() -> list[Finder]:
    """Return what each file of the package has."""
    finders = []
    for path in sources(PACKAGE):
        finder = Finder(path.relative_to(ROOT / PACKAGE).as_posix())
        finder.visit(ast.parse(path.read_text("utf-8"), str(path)))
        finders.append(finder)
    return finders


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return table(PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def finders() -> list[Finder]:
    return found()


def test_each_lock_of_the_sources_has_its_row_and_each_row_its_lock(rows: list[Row], finders: list[Finder]) -> None:
    """The table is complete: no lock is made that it doesn't list, and it lists none that isn't made."""
    made = {(one.file, one.lock) for finder in finders for one in finder.made if one.is_own and one.over is None}
    assert {row.key for row in rows} == made
    assert [row.key for row in rows] == sorted({row.key for row in rows})


def test_each_condition_over_a_lock_stands_in_its_row(rows: list[Row], finders: list[Finder]) -> None:
    """What is waited on under a lock is told beside it; a class derived from a condition is told by its name."""
    by_key = {row.key: row for row in rows}
    for finder in finders:
        for one in finder.made:
            if one.over is not None:
                assert f"``{one.attribute}``" in by_key[finder.file, f"{one.owner}.{one.over}"].waited_on
        for name in finder.derived:
            assert any(f"``{name}``" in row.waited_on for row in rows), name


def test_a_lock_is_never_made_without_a_name(finders: list[Finder]) -> None:
    """Each lock is an attribute or a global, so that it can be found; none is imported by its bare name."""
    stray = [f"{finder.file}:{line}" for finder in finders for line in finder.stray if not is_base(finder, line)]
    assert not stray


def is_base(finder: Finder, line: int) -> bool:
    """Tell whether a line of a file is where a class derives from a primitive."""
    text = (ROOT / PACKAGE / finder.file).read_text("utf-8").splitlines()[line - 1]
    return any(text.startswith(f"class {name}(") for name in finder.derived)


def test_a_lock_made_anew_for_another_object_is_one_of_the_table(rows: list[Row], finders: list[Finder]) -> None:
    """Where a lock is made for an object that isn't self (a copy, a fork's child), it is the lock of a row."""
    names = {row.lock.rpartition(".")[2] for row in rows}
    anew = {one.attribute for finder in finders for one in finder.made if not one.is_own}
    assert anew <= names


def test_each_field_that_the_table_names_exists(rows: list[Row], finders: list[Finder]) -> None:
    """A guarded field is one that its file writes: a field that was renamed can't stay in the table."""
    stored = {finder.file: finder.stored | globals_of(finder.file) for finder in finders}
    assert {row.key: row.fields - stored[row.file] for row in rows if row.fields - stored[row.file]} == {}


def test_what_is_written_under_a_lock_is_a_field_that_it_guards(rows: list[Row], finders: list[Finder]) -> None:
    """Each attribute of self that is assigned within ``with self._lock`` stands in the row of that lock."""
    missing = {}
    for row in rows:
        owner, _, lock = row.lock.rpartition(".")
        finder = next(one for one in finders if one.file == row.file)
        names = {lock, *(one.attribute for one in finder.made if one.over == lock and one.owner == owner)}
        written = set().union(*(finder.written.get((owner, name), set()) for name in names))
        if written - row.fields:
            missing[row.key] = written - row.fields
    assert missing == {}


def test_each_row_says_whether_there_is_io_under_the_lock(rows: list[Row]) -> None:
    """No cell of the table is left empty."""
    assert all(row.waited_on and row.guards and row.io for row in rows)


def globals_of(file: str) -> set[str]:
    """Return the names that a file assigns at its top."""
    tree = ast.parse((ROOT / PACKAGE / file).read_text("utf-8"))
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
