"""``--config FILE``: options by their long names, and tables for single origins. TOML.

And where else an option can stand: the place that a message names, and variables that no option has.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.help import PREFIX, GroupedOption
from crawlpool.cli.options import SECRET
from crawlpool.cli.secrets import BadSecret, header_value, login_of
from crawlpool.cli.values import Seconds, Statuses
from crawlpool.config import is_count
from crawlpool.errors import ConfigError, CrawlPoolError
from crawlpool.limits import DAY_S
from crawlpool.redact import one_line, redact_url
from crawlpool.sites import declared_origin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SITES = "crawlpool.sites"
SITES_AS_WRITTEN = "crawlpool.sites.as_written"
PATH = "crawlpool.config"
_NOT_IN_FILES = frozenset({"config", "help", "version", "overwrite", "retry-failed"})
#: Variables of crawlpool's own benchmarks and tests, which their commands inherit.
_NOT_OPTIONS = (f"{PREFIX}_BENCH_", f"{PREFIX}_TEST_")
_SITE_KEYS = ("auth", "headers", "max-retry-after", "retries", "retry-on")


class ConfigFileError(CrawlPoolError):
    """The config file can't be read; the message names it."""


@dataclasses.dataclass(frozen=True)
class SiteSettings:
    """What holds for one origin.

    Args:
        headers: header fields.
        auth: user and password.
        retry: what its retry policy has other than that of the run.
    """

    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = dataclasses.field(default=None, repr=False)
    retry: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_config(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Put what the file says behind the command line and the environment; the callback of ``--config``.

    Raises:
        ConfigFileError: when the file can't be read.
        click.UsageError: when it isn't TOML, has an unknown key, or a value that can't be; it names file and key.
    """
    if path is None or ctx.resilient_parsing:
        return path
    shown = one_line(path)
    content = _content_of(path, shown)
    sites = content.pop("site", {})
    defaults = defaults_of(ctx, content, shown)
    if not isinstance(sites, dict):
        raise click.UsageError(f'{shown}: site: tables are needed, such as [site."https://example.org"]', ctx)
    ctx.meta[PATH] = shown
    ctx.meta[SITES] = sites_of(ctx, sites, shown)
    ctx.meta[SITES_AS_WRITTEN] = sites
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def defaults_of(ctx: click.Context, content: Mapping[str, Any], shown: str) -> dict[str, Any]:
    """Return options by their long names as click takes them for defaults.

    Args:
        ctx: the command's context.
        content: the options.
        shown: the file, as messages call it.

    Raises:
        click.UsageError: for an unknown name, or a value that can't be.
    """
    options = {_long_name(p): p for p in _params_of_all(ctx) if isinstance(p, click.Option)}
    options.update((_long_name(p), p) for p in ctx.command.params if isinstance(p, click.Option))
    defaults: dict[str, Any] = {}
    for key, value in content.items():
        option = options.get(key)
        if option is None or key in _NOT_IN_FILES or option.name is None:
            near = _near(key.replace("_", "-").lstrip("-"), options)
            raise click.UsageError(f"{shown}: {one_line(key)!r} is no option{near}", ctx)
        # One that only another command has is checked all the same; click reads over it.
        defaults[option.name] = _checked(ctx, option, value, f"{shown}: {key}")
    return defaults


def sites_of(ctx: click.Context, sites: Mapping[str, Any], shown: str) -> dict[str, SiteSettings]:
    """Return the settings of single origins; raises ``click.UsageError`` as ``defaults_of`` does."""
    found: dict[str, SiteSettings] = {}
    for origin, table in sites.items():
        place = f'{shown}: [site."{one_line(redact_url(origin))}"]'
        try:
            key = declared_origin(origin)
        except ConfigError:
            raise click.UsageError(f"{place}: an origin is http://HOST or https://HOST, with its port", ctx) from None
        found[key] = _site(ctx, table, place)
    return found


def _params_of_all(ctx: click.Context) -> list[click.Parameter]:
    """Return the parameters of all commands: one file, and one environment, serves each of them."""
    group = None if ctx.parent is None else ctx.parent.command
    commands = list(group.commands.values()) if isinstance(group, click.Group) else [ctx.command]
    return [param for command in commands for param in command.params]


def _content_of(path: str, shown: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise click.UsageError(f"{shown}: no TOML: {one_line(str(error))}") from None
        reason = getattr(error, "strerror", None) or "no text in UTF-8"
        raise ConfigFileError(f"{shown}: the config file can't be read: {reason}") from None


def _long_name(option: click.Option) -> str:
    return next((name[2:] for name in option.opts if name.startswith("--")), "")


def _near(key: str, known: Collection[str]) -> str:
    import difflib

    found = difflib.get_close_matches(key, known, 1)
    return f"; is {found[0]!r} meant?" if found else ""


def check_variables(ctx: click.Context) -> None:
    """Refuse an environment variable that looks like that of an option and isn't; an empty one counts as not set.

    Raises:
        click.UsageError: naming the variable; its value isn't shown.
    """
    known = {
        param.variable for param in _params_of_all(ctx) if isinstance(param, GroupedOption) and param.allow_from_autoenv
    }
    for name in sorted(os.environ):
        is_ours = name.startswith(f"{PREFIX}_") and not name.startswith(_NOT_OPTIONS)
        if is_ours and name not in known and os.environ[name]:
            raise click.UsageError(f"{one_line(name)}: no option has this variable{_near(name, known)}", ctx)


def place_of(ctx: click.Context, name: str) -> str:
    """Return where the option ``name`` was given, as messages call it: option, variable, or file and key."""
    source = ctx.get_parameter_source(name)
    option = name.replace("_", "-")
    if source is click.core.ParameterSource.DEFAULT_MAP:
        return f"{ctx.meta.get(PATH)}: {option}"
    if source is click.core.ParameterSource.ENVIRONMENT:
        return f"{PREFIX}_{name.upper()}"
    return f"--{option}"


def _checked(ctx: click.Context, option: click.Option, value: Any, place: str) -> Any:
    """Return a value of the file as click takes it, after trying whether it converts."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{place}: true or false is needed", ctx)
        return value
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in values):
        raise click.UsageError(f"{place}: text or a number is needed", ctx)
    if option.multiple:
        value = values
    elif isinstance(value, list):
        value = ",".join(str(one) for one in value)  # what the command line takes with commas between
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as error:
        reason = "this value can't be" if option.name in SECRET else error.message
        raise click.UsageError(f"{place}: {reason}", ctx) from None
    return value


def _site(ctx: click.Context, table: Any, place: str) -> SiteSettings:
    if not isinstance(table, dict):
        raise click.UsageError(f"{place}: a table is needed", ctx)
    for key in table:
        if key not in _SITE_KEYS:
            raise click.UsageError(f"{place}: {one_line(key)!r} is none of {', '.join(_SITE_KEYS)}", ctx)
    headers, auth = table.get("headers", {}), table.get("auth")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise click.UsageError(f"{place}: headers: a table of text is needed", ctx)
    if auth is not None and not isinstance(auth, str):
        raise click.UsageError(f"{place}: auth: a text USER:PASS is needed", ctx)
    try:
        fields = {name: header_value(name, value) for name, value in headers.items()}
        login = None if auth is None else login_of(auth)
    except BadSecret as error:
        raise click.UsageError(f"{place}: {error}", ctx) from None
    return SiteSettings(fields, login, _retry(ctx, table, place))


def _retry(ctx: click.Context, table: dict[str, Any], place: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if "retries" in table:
        if not is_count(table["retries"], 0):
            raise click.UsageError(f"{place}: retries: a whole number is needed, 0 or more", ctx)
        given["attempts"] = table["retries"] + 1
    for key, name, kind in (
        ("retry-on", "statuses", Statuses()),
        ("max-retry-after", "max_retry_after_s", Seconds(zero=True, most=DAY_S)),
    ):
        if key in table:
            try:
                given[name] = kind.convert(table[key], None, ctx)
            except click.BadParameter as error:
                raise click.UsageError(f"{place}: {key}: {error.message}", ctx) from None
    return given
