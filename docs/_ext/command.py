"""The command's own words in the documentation: its help as it prints it, and a look at every option that is named.

``.. command-output:: run --help`` runs ``crawlpool run --help`` when the documentation is built. And each long option
in a console block must be one that the help of its command knows; one in an inline literal such as
``--threads 16``, one of any command's.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_COLUMNS = "100"
_TIMEOUT_S = 60
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMANDS = ("run", "resume", "plan", "audit", "host", "status", "explain", "cat", "export", "verify")
_OURS = re.compile(rf"(?m)^\$ .*\bcrawlpool ({'|'.join(_COMMANDS)})\b.*(?:\n> .*)*")
_ANY = "/".join(_COMMANDS)

_log = logging.getLogger(__name__)


@functools.cache
def output_of(arguments: str) -> str:
    """Return what ``crawlpool`` prints on standard output for some arguments.

    Raises:
        RuntimeError: when it ends with another exit code than 0.
    """
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    ended = subprocess.run(
        [sys.executable, "-m", "crawlpool", *arguments.split()],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": _COLUMNS, "NO_COLOR": "1", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"crawlpool {arguments} ended with {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return ended.stdout


class CommandOutput(SphinxDirective):
    """What the command prints."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the command line and its output as one block."""
        try:
            text = output_of(self.arguments[0])
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            raise self.error(str(error)) from error
        shown = f"$ crawlpool {self.arguments[0]}\n{text}".rstrip()
        return [nodes.literal_block(shown, shown, language="console")]


def _look_at_options(app: Sphinx, doctree: nodes.document) -> None:
    named: list[tuple[nodes.Node, str, str]] = []
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") == "console" and "--help" not in block.astext():
            for ours in _OURS.finditer(block.astext()):
                named.extend((block, ours[1], option) for option in _OPTION.findall(ours[0]))
    for literal in doctree.findall(nodes.literal):
        if literal.astext().startswith("--"):
            named.extend((literal, _ANY, option) for option in _OPTION.findall(literal.astext()))
    if not named:
        return
    try:
        known = {name: set(_OPTION.findall(output_of(f"{name} --help"))) for name in _COMMANDS}
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        _log.warning("the options can't be looked at: %s", error, location=named[0][0])
        return
    known[_ANY] = set().union(*known.values())
    for node, command, option in named:
        if option not in known[command]:
            _log.warning("crawlpool %s has no option %s", command, option, location=node)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the directive and the check."""
    app.add_directive("command-output", CommandOutput)
    app.connect("doctree-read", _look_at_options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
