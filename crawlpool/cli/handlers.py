"""``--handler MODULE:FUNCTION``: a user's function, imported as ``python -m`` would."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from crawlpool.errors import ConfigError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def handler_named(given: str, folder: str | None = None) -> Callable[..., Any]:
    """Return a handler.

    The current folder comes first in ``sys.path``, from then on: what the module imports later is found, too.

    Args:
        given: ``module:function``; either may have dots.
        folder: where a job was begun, if not here; it comes second.

    Raises:
        ConfigError: when there is none, in one line that says why.
    """
    place = f"--handler {one_line(given)!r}"
    module_name, _, name = given.partition(":")
    if not _NAME.fullmatch(module_name) or not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: MODULE:FUNCTION is needed, such as shop:handle for the function handle of shop.py")
    for one in (folder, os.getcwd()):
        if one is not None and one not in sys.path:
            sys.path.insert(0, one)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        what = (
            "there is no such module"
            if _is_part(error.name, module_name)
            else f"it imports {error.name}, which isn't there"
        )
        raise ConfigError(f"{place}: {what} (looked for in the current folder first)") from error
    except Exception as error:
        raise ConfigError(f"{place}: importing it raised {one_line(f'{type(error).__name__}: {error}')}") from error
    for step in name.split("."):
        if not hasattr(found, step):
            near = difflib.get_close_matches(step, dir(found), 1)
            hint = f"; is {near[0]!r} meant?" if near else ""
            raise ConfigError(f"{place}: {module_name} has no {step!r}{hint}")
        found = getattr(found, step)
    if not callable(found):
        raise ConfigError(f"{place}: it is {type(found).__name__}, and no function of a result and the crawl")
    return found  # type: ignore[no-any-return]


def _is_part(name: str | None, module_name: str) -> bool:
    return name is not None and (module_name == name or module_name.startswith(f"{name}."))
