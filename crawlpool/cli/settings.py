"""From the options as they were given to the settings of a run, each combination checked."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

import click

from crawlpool._version import __version__
from crawlpool.address import AddressRules
from crawlpool.cli.config_file import SITES, SiteSettings, place_of
from crawlpool.cli.pace import Pace, pace_of
from crawlpool.cli.scale import Scale, scale_of
from crawlpool.cli.secrets import BadSecret, auth_of, header_of, header_value, proxies_of
from crawlpool.cli.transport import Transport, transport_of
from crawlpool.errors import ConfigError, MissingExtra
from crawlpool.redact import one_line, redact_url
from crawlpool.redactor import SECRET_WORDS, Redactor
from crawlpool.retry import RetryPolicy
from crawlpool.sinks import is_destination
from crawlpool.sites import origin_of
from crawlpool.source.settings import SourceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlpool.cli.exits import FailureBound
    from crawlpool.cli.job_file import Kept

ALL = "all"
#: What a job leaves free on the disk, unless told otherwise.
JOB_MIN_FREE_BYTES = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What one run was told, ready for use; times in seconds, sizes in bytes, ``None`` for no limit."""

    inputs: tuple[str, ...]
    source: SourceSettings
    dedupes: bool
    transport: Transport
    pace: Pace
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    sites: Mapping[str, SiteSettings] = dataclasses.field(repr=False)
    proxies: tuple[str, ...] = dataclasses.field(repr=False)
    netrc: bool
    cookies: str | None
    save_cookies: str | None
    resolve: Mapping[tuple[str, int], str]
    addresses: AddressRules
    ca_bundle: str | None
    insecure: bool
    connect_timeout_s: float | None
    read_timeout_s: float | None
    max_time_s: float | None
    max_wait_s: float | None
    max_size_bytes: int | None
    max_redirects: int
    content_types: tuple[str, ...] | None
    max_per_host: int | None
    run_for_s: float | None
    retry: RetryPolicy
    outputs: tuple[str, ...]
    record_headers: tuple[str, ...] | None
    rotate_bytes: int | None
    warc_credentials: bool
    progress: str
    is_quiet: bool
    verbosity: int
    log_format: str
    redact_keys: frozenset[str]
    control: str | None
    job: str | None
    kept: Kept | None
    overwrites: bool
    retry_failed: tuple[str, ...] | None
    handler: str | None
    handler_folder: str | None
    grace_s: float
    min_free_bytes: int | None
    bound: FailureBound | None
    scale: Scale
    #: What the job needs that wasn't given again, as there seems to be nothing left to need it for.
    lacks: tuple[str, ...] = ()


def settings_of(ctx: click.Context, given: Mapping[str, Any]) -> RunSettings:
    """Return the settings that the options make.

    Args:
        ctx: the command's context.
        given: the options by their names.

    Raises:
        click.UsageError: when something is missing, or doesn't go together; no message repeats a secret.
        SecretFileError: when a file with a secret can't be read.
    """
    source = source_of(ctx, given)
    if given["insecure"] and given["ca_bundle"]:
        raise click.UsageError("--insecure and --ca-bundle contradict each other", ctx)
    for name in ("overwrite", "retry_failed"):
        if given["job"] is None and given[name] not in (None, False):
            raise click.UsageError(f"{place_of(ctx, name)} needs --job", ctx)
    if given["overwrite"] and given["retry_failed"] is not None:
        raise click.UsageError("--overwrite and --retry-failed contradict each other", ctx)
    if given["quiet"] and given["verbose"]:
        raise click.UsageError("--quiet and --verbose contradict each other", ctx)
    try:
        retry = RetryPolicy(attempts=given["retries"] + 1, max_retry_after_s=given["max_retry_after"])
        if given["retry_on"] is not None:
            retry = dataclasses.replace(retry, statuses=given["retry_on"])
    except ConfigError as error:
        raise click.UsageError(one_line(str(error)), ctx) from None
    transport = transport_of(ctx, given)
    return RunSettings(
        inputs=tuple(given["inputs"]),
        source=source,
        dedupes=given["duplicates"] == "skip",
        transport=transport,
        pace=pace_of(ctx, given),
        headers=_headers(ctx, given),
        sites=_sites(ctx, given),
        proxies=_proxies(ctx, given["proxy"], transport),
        netrc=given["netrc"],
        cookies=given["cookies"],
        save_cookies=given["save_cookies"],
        resolve={(host, port): address for host, port, address in given["resolve"]},
        addresses=AddressRules(given["private"], given["allow_net"]),
        ca_bundle=given["ca_bundle"],
        insecure=given["insecure"],
        connect_timeout_s=given["connect_timeout"],
        read_timeout_s=given["read_timeout"],
        max_time_s=given["max_time"],
        max_wait_s=given["max_wait"],
        max_size_bytes=given["max_size"],
        max_redirects=given["max_redirects"],
        content_types=given["content_type"],
        max_per_host=given["max_per_host"],
        run_for_s=given["run_for"],
        retry=retry,
        outputs=_outputs(ctx, given["output"]),
        record_headers=given["record_headers"],
        rotate_bytes=given["rotate"],
        warc_credentials=given["warc_credentials"],
        progress=given["progress"],
        is_quiet=given["quiet"],
        verbosity=given["verbose"],
        log_format=given["log_format"],
        redact_keys=_redact_keys(ctx, given["redact_keys"]),
        control=_control(ctx, given["control"]),
        job=None if given["job"] is None else given["job"].rstrip("/") or given["job"],
        kept=None,
        overwrites=given["overwrite"],
        retry_failed=given["retry_failed"],
        handler=given["handler"],
        handler_folder=given.get("handler_folder"),
        grace_s=given["grace"],
        min_free_bytes=_min_free(ctx, given),
        bound=given["max_failures"],
        scale=scale_of(ctx, given),
    )


def source_of(ctx: click.Context, given: Mapping[str, Any]) -> SourceSettings:
    """Return how the input is to be read; a command need not have ``--carry`` and ``--method``.

    Raises:
        click.UsageError: when there is no input, or something doesn't go together.
    """
    carry = given.get("carry") or ()
    if not given["inputs"]:
        raise click.UsageError("no input: give a file, URLs, or - for standard input", ctx)
    if carry and given["input_format"] == "lines":
        raise click.UsageError("--carry needs --input-format jsonl or csv: plain lines have no fields", ctx)
    try:
        return SourceSettings(
            input_format=given["input_format"],
            url_field=given["url_field"],
            carry=carry,
            default_scheme=given["default_scheme"],
            method=given.get("method", SourceSettings.method),
        )
    except ConfigError as error:
        raise click.UsageError(one_line(str(error)), ctx) from None


def _secret(ctx: click.Context, name: str, read: Callable[[str], Any], value: str) -> Any:
    """Return what ``read`` makes of the value of an option; its errors name the option and where it stood."""
    try:
        return read(value)
    except BadSecret as error:
        raise click.UsageError(f"{place_of(ctx, name)}: {error}", ctx) from None


def _proxies(ctx: click.Context, given: tuple[str, ...], transport: Transport) -> tuple[str, ...]:
    urls: list[str] = [url for value in given for url in _secret(ctx, "proxy", proxies_of, value)]
    for place, url in enumerate(urls):
        # libcurl speaks SOCKS itself.
        if url.startswith("socks") and transport.name == "urllib3" and importlib.util.find_spec("socks") is None:
            missing = MissingExtra("a SOCKS proxy with the urllib3 transport", "socks")
            raise click.UsageError(f"{place_of(ctx, 'proxy')}: {missing}", ctx)
        if url in urls[:place]:
            raise click.UsageError(f"{place_of(ctx, 'proxy')}: {one_line(redact_url(url))} is there twice", ctx)
    return tuple(urls)


def _headers(ctx: click.Context, given: Mapping[str, Any]) -> dict[str, str]:
    agent = given["user_agent"] or f"crawlpool/{__version__}"
    if given["contact"]:
        agent = f"{agent} (+{given['contact']})"
    try:
        headers = {"User-Agent": header_value("User-Agent", agent)}
    except BadSecret as error:
        raise click.UsageError(f"--user-agent, --contact: {error}", ctx) from None
    for text in given["header"]:
        name, value = _secret(ctx, "header", header_of, text)
        if name.lower() == "user-agent":
            headers.pop("User-Agent", None)
        headers[name] = value
    return headers


def _sites(ctx: click.Context, given: Mapping[str, Any]) -> dict[str, SiteSettings]:
    sites: dict[str, SiteSettings] = dict(ctx.meta.get(SITES, {}))
    for text in given["auth"]:
        host, login = _secret(ctx, "auth", auth_of, text)
        for scheme in ("https", "http"):
            try:
                origin = origin_of(f"{scheme}://{host}")
            except ConfigError:
                raise click.UsageError("--auth: the part after the last '@' is no host", ctx) from None
            sites[origin] = dataclasses.replace(sites.get(origin, SiteSettings()), auth=login)
    return sites


def _outputs(ctx: click.Context, outputs: tuple[str, ...]) -> tuple[str, ...]:
    for output in outputs:
        if not is_destination(output):
            raise click.UsageError(
                f"--output {one_line(output)!r}: records go to '-' (standard output) or a file that ends in .jsonl, "
                "exchanges to one that ends in .warc.gz, bodies to a folder that ends in /",
                ctx,
            )
        if outputs.count(output) > 1:
            raise click.UsageError(f"--output {one_line(output)!r} is there twice", ctx)
    return outputs


def _min_free(ctx: click.Context, given: Mapping[str, Any]) -> int | None:
    is_default = ctx.get_parameter_source("min_free") is click.core.ParameterSource.DEFAULT
    found: int | None = given["min_free"]
    return JOB_MIN_FREE_BYTES if is_default and given["job"] is not None else found


def _redact_keys(ctx: click.Context, given: tuple[str, ...] | None) -> frozenset[str]:
    words = {word.lower() for word in given or ("default",)}
    if "none" in words and len(words) > 1:
        raise click.UsageError(f"{place_of(ctx, 'redact_keys')}: 'none' stands alone", ctx)
    keys = (words - {"default", "none"}) | (SECRET_WORDS if "default" in words else set())
    try:
        return Redactor(keys).keys
    except ConfigError as error:
        raise click.UsageError(f"{place_of(ctx, 'redact_keys')}: {one_line(str(error))}", ctx) from None


def _control(ctx: click.Context, path: str | None) -> str | None:
    if path == "":
        raise click.UsageError(f"{place_of(ctx, 'control')}: a path is needed", ctx)
    return path
