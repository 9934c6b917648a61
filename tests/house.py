"""What the sources of the project say about themselves: modules, imports, docstrings. Read, never imported."""

from __future__ import annotations

import ast
import functools
import pathlib
from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "crawlpool"


def sources(folder: str) -> list[pathlib.Path]:
    """Return the Python files below a folder of the project, in order."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: pathlib.Path, root: pathlib.Path = ROOT) -> str:
    """Return the dotted name of a file: ``crawlpool.cookies`` for ``crawlpool/cookies/__init__.py``."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules(root: pathlib.Path = ROOT) -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by dotted name."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return {module_name(path, root): ast.parse(path.read_text("utf-8"), str(path)) for path in paths}


def is_package(name: str, root: pathlib.Path = ROOT) -> bool:
    """Tell whether a module is a folder."""
    return (root / name.replace(".", "/") / "__init__.py").exists()


def names_imported(tree: ast.Module, name: str, *, package: bool) -> Iterator[str]:
    """Yield every dotted name that a module imports, wherever in it: in functions and under TYPE_CHECKING, too.

    ``from a import b`` gives ``a.b``, which is a module or a thing in one. Relative imports are made absolute.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                kept = parts[: len(parts) - node.level + (1 if package else 0)]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def arrows(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Return, for each module of the package, the modules of the package that it imports."""
    trees = modules(root)
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found[name] = set()
        for imported in names_imported(tree, name, package=is_package(name, root)):
            target = imported
            while target and target not in trees:
                target = target.rpartition(".")[0]
            if target and target != name:
                found[name].add(target)
    return found


def room(name: str) -> str:
    """Return the room of a module: ``cookies`` for ``crawlpool.cookies.store``; empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one cycle in order, the first one again at the end; empty when there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(node: str) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            path.append(node)
            for target in sorted(graph.get(node, ())):
                if found := visit(target):
                    return found
            path.pop()
            done.add(node)
        return []

    for start in sorted(graph):
        if found := visit(start):
            return found
    return []


def undocumented(tree: ast.Module) -> list[str]:
    """Return the public things without a docstring: the module, its classes and functions, their public methods.

    A method that overrides one inherits its docstring; which ones do can't be read here, so methods of classes with
    bases are left to the linter. Overloads have their docstring on the implementation.
    """
    found = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not _is_overload(node):
            found.append(node.name)
        if isinstance(node, ast.ClassDef) and not node.bases:
            found += [
                f"{node.name}.{part.name}"
                for part in node.body
                if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))
                and not part.name.startswith("_")
                and not ast.get_docstring(part)
                and not _is_overload(part)
            ]
    return found


def each_test(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the test functions of a test file, those in classes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node


def environment_writes(tree: ast.Module) -> list[int]:
    """Return the lines that change ``os.environ`` in any way."""
    lines = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes = node.func.attr in {"update", "setdefault", "pop", "popitem", "clear"} and _is_environ(
                node.func.value
            )
            if changes or node.func.attr in {"putenv", "unsetenv"}:
                lines.append(node.lineno)
        for target in targets:
            if _is_environ(target) or (isinstance(target, ast.Subscript) and _is_environ(target.value)):
                lines.append(node.lineno)
    return lines


def _is_environ(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in {"environ", "environb"}
    return isinstance(node, ast.Name) and node.id in {"environ", "environb"}


def _is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = (d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in node.decorator_list)
    return any(name in {"overload", "setter", "deleter"} for name in names)
