"""The directive ``facts``: a table whose rows are what the code has, with the meanings that the page gives.

The rows, their order and the values beside them are read from the code when the documentation is built. A row without
a meaning, or a meaning without a row, is an error: the table can't drift from the code. Its content is a field list::

    .. facts:: record

       :v: The version of the schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx


def _record() -> dict[str, str]:
    from crawlpool.record import EMPTY

    return {key: json.dumps(value) for key, value in EMPTY.items()}


def _pool() -> dict[str, str]:
    from crawlpool import SessionPool
    from crawlpool.pool import BlockingPool

    return {**_defaults_of(BlockingPool), **_defaults_of(SessionPool)}


def _defaults_of(function: Any) -> dict[str, str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: repr(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _fields_of(name: str) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        import crawlpool

        return {field.name: _shown(field.default) for field in dataclasses.fields(getattr(crawlpool, name))}

    return read


def _shown(value: Any) -> str:
    if isinstance(value, frozenset):
        return ", ".join(str(one) for one in sorted(value))
    return repr(value)


def _values_of(name: str) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        import crawlpool

        return {member.value: "" for member in getattr(crawlpool, name)}

    return read


def _exit_codes(name: str) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        from crawlpool.cli import exits

        return {str(int(code)): meaning for code, meaning in getattr(exits, name)}

    return read


def _plan() -> dict[str, str]:
    from crawlpool.cli.plan_text import LeftOut, facts_of
    from crawlpool.plan import plan_of

    return dict.fromkeys(facts_of(plan_of({}), LeftOut()), "")


def _status() -> dict[str, str]:
    from crawlpool.books import Books
    from crawlpool.cli.desk import status_of
    from crawlpool.clock import SYSTEM_CLOCK
    from crawlpool.control import HostsNow
    from crawlpool.observe.pace import Meter

    progress = Books(SYSTEM_CLOCK).progress(0, 0)
    return dict.fromkeys(status_of(progress, Meter().read(progress), (), HostsNow()), "")


def _leg_ended() -> dict[str, str]:
    from crawlpool.events import LegEnded

    return {field.name: "" for field in dataclasses.fields(LegEnded)}


#: What a page may ask for: how to read it, and the heads of the columns.
SOURCES: dict[str, tuple[Callable[[], dict[str, str]], tuple[str, str]]] = {
    "record": (_record, ("key", "when unknown")),
    "pool": (_pool, ("argument", "default")),
    "retry": (_fields_of("RetryPolicy"), ("field", "default")),
    "limits": (_fields_of("HostLimits"), ("field", "default")),
    "source": (_fields_of("SourceSettings"), ("field", "default")),
    "kinds": (_values_of("ErrorKind"), ("kind", "")),
    "outcomes": (_values_of("Outcome"), ("outcome", "")),
    "leg_ended": (_leg_ended, ("field", "")),
    "exits": (_exit_codes("MEANINGS"), ("code", "meaning")),
    "plan_exits": (_exit_codes("PLAN_MEANINGS"), ("code", "meaning")),
    "plan": (_plan, ("key", "")),
    "status": (_status, ("key", "")),
}


class Facts(SphinxDirective):
    """A table of what the code has."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        if self.arguments[0] not in SOURCES:
            raise self.error(f"facts: there is no {self.arguments[0]!r}, only {', '.join(SOURCES)}")
        read, heads = SOURCES[self.arguments[0]]
        facts = read()
        meanings = self._meanings()
        if not self.content:
            return [_table(heads, [[nodes.literal(text=k), nodes.Text(v)] for k, v in facts.items()])]
        missing, unknown = facts.keys() - meanings.keys(), meanings.keys() - facts.keys()
        if missing or unknown:
            wrong = [f"no meaning for {name}" for name in sorted(missing)]
            wrong += [f"the code has no {name}" for name in sorted(unknown)]
            raise self.error(f"facts {self.arguments[0]}: {'; '.join(wrong)}")
        rows = []
        for name, value in facts.items():
            cells: list[Any] = [nodes.literal(text=name)]
            if heads[1]:
                cells.append(nodes.literal(text=value))
            rows.append([*cells, meanings[name]])
        return [_table((*filter(None, heads), "meaning"), rows)]

    def _meanings(self) -> dict[str, list[nodes.Node]]:
        holder = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, holder)
        found: dict[str, list[nodes.Node]] = {}
        for field in holder.findall(nodes.field):
            name, body = field.children
            found[name.astext()] = list(body.children)  # type: ignore[attr-defined]
        return found


class ErrorTree(SphinxDirective):
    """crawlpool's exceptions, each below the class that it derives from, with the classes of others behind it."""

    def run(self) -> list[nodes.Node]:
        """Return the tree."""
        import crawlpool
        from crawlpool import CrawlPoolError

        for name in crawlpool.__all__:  # they are imported when they are asked for
            getattr(crawlpool, name)
        text = "\n".join(_branch(CrawlPoolError, 0))
        return [nodes.literal_block(text, text, language="text")]


def _branch(cls: type[Exception], depth: int) -> list[str]:
    import crawlpool

    others = [base.__name__ for base in cls.__bases__ if not base.__module__.startswith("crawlpool") and depth]
    lines = [f"{'    ' * depth}{cls.__name__}{f'   (also {chr(44).join(others)})' if others else ''}"]
    for below in sorted(cls.__subclasses__(), key=lambda one: one.__name__):
        if below.__name__ in crawlpool.__all__:
            lines += _branch(below, depth + 1)
    return lines


def _table(heads: tuple[str, ...], rows: list[list[Any]]) -> nodes.table:
    # What tells one row from another is short; the meaning takes the room.
    widths = [14] * (len(heads) - 1) + [60]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(heads))
    head = nodes.thead("", _row([nodes.Text(text) for text in heads]))
    group += [head, nodes.tbody("", *(_row(row) for row in rows))]
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: list[Any]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        inside = cell if isinstance(cell, list) else [nodes.paragraph("", "", cell)]
        row += nodes.entry("", *inside)
    return row


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the directives."""
    app.add_directive("facts", Facts)
    app.add_directive("error-tree", ErrorTree)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
