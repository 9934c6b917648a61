"""``crawlpool resume``: the options of a job, those that are given now over them, and what has to be given again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.config_file import PATH, SITES, SiteSettings, defaults_of, sites_of
from crawlpool.cli.help import GIVEN
from crawlpool.cli.job import is_complete
from crawlpool.cli.job_file import NAME, Kept, read
from crawlpool.cli.scale import check_manifest
from crawlpool.cli.secrets import BadSecret, auth_of, proxies_of
from crawlpool.errors import ConfigError
from crawlpool.redact import one_line, redact_url
from crawlpool.sites import declared_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

KEPT, LACKS = "crawlpool.kept", "crawlpool.lacks"
_AGAIN = "a job keeps no credentials (but @FILE and env:NAME); give again:"
#: Options of which what the job has stays beside what is given now.
_ADDED = ("header", "auth", "proxy")
_SAID = {
    "header": "--header '{}: VALUE'",
    "auth": "--auth 'USER:PASS@{}'",
    "proxy": "--proxy '{}', with USER:PASS@ before its host",
    "site": '--config FILE, with [site."{}"] and its {}',
}


class NeedsAgain(click.UsageError):
    """What a job needs, and doesn't keep, wasn't given again; ``lines`` names each."""

    def __init__(self, lines: list[str], ctx: click.Context) -> None:
        super().__init__(_AGAIN, ctx)
        self.lines = [f"  {line}" for line in lines]


def job_argument() -> click.Argument:
    """Return the argument ``JOB``: its options stand behind all that is given now."""
    return click.Argument(["job"], metavar="JOB", type=click.Path(), is_eager=True, callback=_read_job)


def _read_job(ctx: click.Context, param: click.Parameter, path: str) -> str:
    if ctx.resilient_parsing:
        return path
    path = path.rstrip("/") or path
    check_manifest(path)
    kept = read(path)
    shown = f"{one_line(path)}/{NAME}"
    options = {key: value for key, value in kept.options.items() if key not in _ADDED}
    # The config file may have been read already: it counts over this.
    ctx.default_map = {**defaults_of(ctx, options, shown), **(ctx.default_map or {})}
    ctx.meta.setdefault(PATH, shown)
    ctx.meta[KEPT] = kept
    return path


def resumed(ctx: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run that goes on with a job.

    Args:
        ctx: the command's context.
        given: the options by their names, the job's own among them where none were given.

    Raises:
        click.UsageError: when what the job needs isn't given, one line for each.
    """
    kept: Kept = ctx.meta[KEPT]
    found = {**given, "overwrite": False, "inputs": given["inputs"] or kept.inputs, "handler_folder": kept.folder}
    for name in _ADDED:
        found[name] = _merged(name, tuple(kept.options.get(name, ())), given, kept)
    _merge_sites(ctx, kept, one_line(given["job"]))
    missing = [need for need in kept.needs if not _is_met(ctx, need, found)]
    if missing:
        said = [_said(need) for need in missing]
        if given["retry_failed"] is not None or not is_complete(given["job"]):
            raise NeedsAgain(said, ctx)
        ctx.meta[LACKS] = tuple(said)
    return found


def check_nothing_lacks(lacks: Sequence[str]) -> None:
    """Refuse to go on with a job without what it needs, where something is left after all.

    Raises:
        ConfigError: when something is lacking.
    """
    if lacks:
        raise ConfigError(f"{_AGAIN} {', '.join(lacks)}")


def _merged(name: str, of_job: tuple[str, ...], given: Mapping[str, Any], kept: Kept) -> tuple[str, ...]:
    now = tuple(given[name])
    if name == "header":
        named = {_field(text) for text in now}
        of_job = tuple(text for text in of_job if _field(text) not in named)
    elif name == "auth":
        hosts = {_host(text) for text in now}
        of_job = tuple(text for text in of_job if _host(text) not in hosts)
    elif now and not any(need.startswith("proxy ") for need in kept.needs):
        of_job = ()  # other proxies, and not those that had to be left out
    return of_job + now


def _merge_sites(ctx: click.Context, kept: Kept, shown: str) -> None:
    sites: dict[str, SiteSettings] = sites_of(ctx, kept.sites, f"{shown}/{NAME}")
    for origin, now in ctx.meta.get(SITES, {}).items():
        before = sites.get(origin, SiteSettings())
        sites[origin] = SiteSettings(
            {**before.headers, **now.headers}, now.auth or before.auth, {**before.retry, **now.retry}
        )
    ctx.meta[SITES] = sites


def _is_met(ctx: click.Context, need: str, found: Mapping[str, Any]) -> bool:
    name, _, what = need.partition(" ")
    if name == "site":
        origin, _, part = what.rpartition(" ")
        site = _site_of(ctx.meta[SITES], origin)
        if part == "auth":
            return site.auth is not None
        return part.lower() in {field.lower() for field in site.headers}
    if name == "header":
        return what.lower() in {_field(text) for text in found["header"]}
    if name == "auth":
        return what in {_host(text) for text in found["auth"]}
    if name == "proxy":
        return what in set(_proxies(found["proxy"]))
    return name.replace("-", "_") in ctx.meta.get(GIVEN, {})


def _site_of(sites: Mapping[str, SiteSettings], origin: str) -> SiteSettings:
    try:
        return sites.get(declared_origin(origin), SiteSettings())
    except ConfigError:
        return SiteSettings()


def _field(text: str) -> str:
    return text.partition(":")[0].strip().lower()


def _host(text: str) -> str:
    found = _quietly(auth_of, text)
    return found[0] if found is not None else ""


def _proxies(given: Iterable[str]) -> list[str]:
    return [redact_url(url) for text in given for url in _quietly(proxies_of, text) or ()]


def _quietly(read_it: Callable[[str], Any], text: str) -> Any:
    """Return what is read of a value; ``None`` of a bad one, which is refused when it is used."""
    try:
        return read_it(text)
    except BadSecret:
        return None


def _said(need: str) -> str:
    name, _, what = need.partition(" ")
    said = _SAID.get(name, f"--{name} {{}}")
    return one_line(said.format(*what.rsplit(" ", 1)) if name == "site" else said.format(what))
