"""``job.toml``: what a job was begun with, so that ``crawlpool resume`` can go on with it; and never a credential.

What may be a secret is kept only where it says where the secret is (``@FILE``, ``env:NAME``). What was left out is
named under ``needs``: whoever resumes the job gives it again.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool._version import __version__
from crawlpool.cli.config_file import SITES_AS_WRITTEN
from crawlpool.cli.help import GIVEN, GroupedOption
from crawlpool.cli.secrets import is_elsewhere
from crawlpool.config import proxy_url
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line, redact_input, redact_url
from crawlpool.source import is_url
from crawlpool.source.reader import STDIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import click

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "job.toml"
#: Options that belong to one run and not to the job.
_OF_ONE_RUN = frozenset(
    "config job overwrite retry_failed run_for progress quiet verbose log_format redact_keys control help".split()
)
_PATHS = frozenset({"cookies", "save_cookies", "ca_bundle"})
#: Header fields whose values are no secret.
HARMLESS = frozenset(
    "accept accept-charset accept-encoding accept-language cache-control content-type dnt from origin pragma referer "
    "user-agent x-requested-with".split()
)
_HEAD = """\
# What this job was begun with: 'crawlpool resume' goes on with it. Credentials are never kept; what had to be left out
# is named under needs.
"""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of the options of a run.

    Args:
        inputs: files as absolute paths, URLs, and ``-``.
        folder: where the command was given; handlers are imported from there, too.
        options: by their long names, as they were given.
        sites: the tables of single origins.
        needs: what was left out, each as the option's long name, a space, and of what: the field's name, the host.
        identity: of the job; made when it is written first.
        created_at: when that was.
    """

    inputs: tuple[str, ...]
    folder: str
    options: Mapping[str, Any]
    sites: Mapping[str, Any]
    needs: tuple[str, ...]
    identity: str = ""
    created_at: str = ""


def kept_of(ctx: click.Context, inputs: Sequence[str]) -> Kept:
    """Return what is to be kept of what a command was given on the command line, in variables and its config file."""
    options: dict[str, Any] = {}
    needs: list[str] = []
    given: Mapping[str, Any] = ctx.meta.get(GIVEN, {})
    for param in ctx.command.params:
        name = param.name or ""
        if not isinstance(param, GroupedOption) or name not in given or name in _OF_ONE_RUN:
            continue
        key, value = name.replace("_", "-"), given[name]
        if isinstance(value, (list, tuple)):
            found = [_kept(name, one, needs) for one in value]
            value = [one for one in found if one is not None]
        else:
            value = _kept(name, value, needs)
        if value is not None and value != []:
            options[key] = value
    sites = {origin: _kept_site(origin, table, needs) for origin, table in ctx.meta.get(SITES_AS_WRITTEN, {}).items()}
    return Kept(
        tuple(given if is_url(given) or given == STDIN else os.path.abspath(given) for given in inputs),
        os.getcwd(),
        options,
        {origin: table for origin, table in sites.items() if table},
        tuple(dict.fromkeys(needs)),
    )


def _kept(name: str, value: Any, needs: list[str]) -> Any:
    """Return what is kept of a value; ``None`` where it is left out, which is noted."""
    if not isinstance(value, str):
        return value
    value = value.strip()
    if name == "header":
        field, _, text = value.partition(":")
        if is_elsewhere(text.strip()):
            return f"{field}: {_found_anywhere(text.strip())}"
        is_harmless = field.strip().lower() in HARMLESS and redact_input(text, "") == text
        left_out = None if is_harmless else field.strip()
    elif name in ("auth", "proxy") and is_elsewhere(value):
        return _found_anywhere(value)
    elif name == "auth":
        left_out = value.rpartition("@")[2]
    elif name == "proxy":
        url = proxy_url(value) or ""
        left_out = None if redact_url(url) == url else redact_url(url)
    elif name in _PATHS:
        return os.path.abspath(value)
    else:
        left_out = None if redact_input(value, "") == value else "…"
    if left_out is None:
        return value
    needs.append(f"{name.replace('_', '-')} {left_out}")
    return None


def _kept_site(origin: str, table: Mapping[str, Any], needs: list[str]) -> dict[str, Any]:
    kept = {key: value for key, value in table.items() if key not in ("auth", "headers")}
    shown = redact_url(origin)
    headers = {}
    for name, value in table.get("headers", {}).items():
        if is_elsewhere(value.strip()):
            headers[name] = _found_anywhere(value.strip())
        elif name.lower() in HARMLESS and redact_input(value, "") == value:
            headers[name] = value
        else:
            needs.append(f"site {shown} {name}")
    if headers:
        kept["headers"] = headers
    if "auth" in table and is_elsewhere(table["auth"]):
        kept["auth"] = _found_anywhere(table["auth"])
    elif "auth" in table:
        needs.append(f"site {shown} auth")
    return kept


def _found_anywhere(value: str) -> str:
    """Return ``@FILE`` so that it is the same file from whatever folder; ``env:NAME`` as it is."""
    return f"@{os.path.abspath(os.path.expanduser(value[1:]))}" if value.startswith("@") else value


def write(folder: str, kept: Kept) -> None:
    """Write the file of a job, unless it says the same already. Who writes it has the job.

    Raises:
        SinkError: when it can't be written.
    """
    from crawlpool.cli.toml_writing import toml_of

    try:
        before: Kept | None = read(folder)
    except JobError:  # there is none yet, or it was damaged
        before = None
    if before is not None and dataclasses.replace(before, identity="", created_at="") == kept:
        return
    content: dict[str, Any] = {
        "crawlpool": __version__,
        "id": before.identity if before else uuid.uuid4().hex,
        "created-at": before.created_at if before else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "inputs": list(kept.inputs),
        "folder": kept.folder,
        "needs": list(kept.needs),
        "options": dict(kept.options),
        "site": dict(kept.sites),
    }
    # Names of files need not be UTF-8; Python has their other bytes as surrogates.
    _put(os.path.join(folder, NAME), (_HEAD + toml_of(content)).encode("utf-8", "surrogateescape"))


def _put(path: str, data: bytes) -> None:
    new = f"{path}.new"
    try:
        fd = disk.open_file(new, create=True)
        try:
            disk.cut(fd, 0)
            disk.write_all(fd, data)
            disk.sync_file(fd)
        finally:
            os.close(fd)
        disk.rename(new, path)
        disk.sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error


def read(folder: str) -> Kept:
    """Read the file of a job.

    Raises:
        JobError: when there is none, or it can't be read.
    """
    path = os.path.join(folder, NAME)
    shown = one_line(path)
    try:
        with open(path, "rb") as file:
            content = tomllib.loads(file.read().decode("utf-8", "surrogateescape"))
        return Kept(
            tuple(content["inputs"]),
            str(content["folder"]),
            dict(content.get("options", {})),
            dict(content.get("site", {})),
            tuple(content["needs"]),
            str(content["id"]),
            str(content["created-at"]),
        )
    except FileNotFoundError:
        if not os.path.isdir(folder):
            raise JobError(f"{one_line(folder)}: there is no such job") from None
        raise JobError(
            f"{shown}: there is none: this is no job, or a program began it, which goes on with it"
        ) from None
    except OSError as error:
        raise JobError(f"{shown}: it can't be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        what = one_line(str(error)) if isinstance(error, tomllib.TOMLDecodeError) else "it lacks what it must have"
        raise JobError(f"{shown}: {what}; the command that began the job goes on with it") from None
