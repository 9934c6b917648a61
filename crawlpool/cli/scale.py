"""What the options say of scale: which engine, how many shards, which part; and what shards can't have."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.config_file import place_of
from crawlpool.engines.naming import THREADS, check_name
from crawlpool.errors import ConfigError, MissingExtra
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

STDOUT = "-"
_MANIFEST, _SHARDS = "manifest.json", "shards"  # as shards.layout has them, which takes its time to import


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a run is.

    Args:
        engine: ``threads``, ``dask`` or ``dask://…``.
        shards: how many a new job has; ``None`` where nothing was said.
        part: which part of how many; ``None`` for all.
        workers: worker processes; ``None`` for as many as there are.
        lease_s: seconds for a new job's leases; ``None`` where nothing was said.
        is_shared: whether a new job's folder lies on a file system of several machines.
    """

    engine: str = THREADS
    shards: int | None = None
    part: tuple[int, int] | None = None
    workers: int | None = None
    lease_s: float | None = None
    is_shared: bool = False

    @property
    def is_dask(self) -> bool:
        """Whether workers are processes of Dask."""
        return self.engine != THREADS

    @property
    def joins(self) -> bool:
        """Whether they are those of a cluster that runs."""
        return "://" in self.engine

    @property
    def is_asked_for(self) -> bool:
        """Whether a new job would be one of shards."""
        return self.is_dask or self.part is not None or (self.shards or 1) > 1

    @property
    def runners(self) -> int | None:
        """How many processes work; ``None`` where only the cluster knows."""
        if not self.is_dask:
            return 1
        if self.workers is not None or self.joins:
            return self.workers
        return cores()

    @property
    def count(self) -> int:
        """How many shards a new job has."""
        if self.shards is not None:
            return self.shards
        from crawlpool.shards.hashing import default_shards

        # Each part is made by itself, and must come to the same number.
        return default_shards(self.part[1] if self.part is not None else self.runners or cores())


def scale_of(ctx: click.Context, given: Mapping[str, Any]) -> Scale:
    """Return what the options make.

    Args:
        ctx: the command's context.
        given: the options by their names.

    Raises:
        click.UsageError: when something is missing, or doesn't go together.
    """
    try:
        check_name(given["engine"])
    except ConfigError as error:
        raise click.UsageError(f"{place_of(ctx, 'engine')}: {error}", ctx) from None
    if given["engine"] != THREADS and importlib.util.find_spec("distributed") is None:
        raise click.UsageError(f"{place_of(ctx, 'engine')}: {MissingExtra('the dask engine', 'dask')}", ctx)
    scale = Scale(
        given["engine"], given["shards"], given["shard"], given["workers"], given["lease"], given["shared_disk"]
    )
    if given["job"] is None:
        for name in ("shards", "shard", "workers", "lease", "shared_disk"):
            if given[name] not in (None, False):
                raise click.UsageError(f"{place_of(ctx, name)} needs --job", ctx)
        if scale.is_dask:
            raise click.UsageError(f"{place_of(ctx, 'engine')} {one_line(scale.engine)} needs --job", ctx)
    is_typed = ctx.get_parameter_source("workers") is click.core.ParameterSource.COMMANDLINE
    if scale.workers is not None and not scale.is_dask:
        if is_typed and scale.workers > 1:
            raise click.UsageError("--workers needs --engine dask: threads are one process (see --threads)", ctx)
        scale = dataclasses.replace(scale, workers=None)
    if scale.part is not None and scale.shards is not None and scale.part[1] > scale.shards:
        raise click.UsageError(
            f"{place_of(ctx, 'shard')}: of {scale.shards} shards there are no {scale.part[1]} parts", ctx
        )
    if given["rate"] is not None and scale.joins and scale.workers is None:
        raise click.UsageError(
            f"{place_of(ctx, 'rate')} is shared out among the workers: --workers says how many there shall be of "
            f"{one_line(scale.engine)}",
            ctx,
        )
    return scale


def is_sharded(job: str | None, scale: Scale, *, is_new: bool) -> bool:
    """Tell whether a run is one of a job of shards: as it was made, or as it is to be.

    Args:
        job: the job's folder; ``None`` for none.
        scale: what was asked for.
        is_new: whether what is there goes.

    Raises:
        ConfigError: when a job without shards is asked to have some, or what only such a job has.
    """
    if job is None:
        return False
    if not is_new:
        if os.path.isfile(os.path.join(job, _MANIFEST)) or _has_lost_its_manifest(job):
            return True
        if scale.is_asked_for and os.path.lexists(os.path.join(job, "ledger.sqlite3")):
            raise ConfigError(
                f"{one_line(job)}: the job has no shards, and can't be given any: --engine threads goes on with it"
            )
    if scale.is_shared and not scale.is_asked_for:
        raise ConfigError("--shared-disk is for jobs of shards: --shards, --shard or --engine dask makes one")
    return scale.is_asked_for


def _has_lost_its_manifest(job: str) -> bool:
    if not os.path.isdir(os.path.join(job, _SHARDS)):
        return False
    from crawlpool.shards.manifest import is_sharded as is_known

    return is_known(job)


def check_manifest(job: str) -> None:
    """See that a job of shards has what says what it is; of any other folder nothing is said.

    Raises:
        JobError: when its manifest is missing or damaged.
    """
    if os.path.isdir(os.path.join(job, _SHARDS)):
        from crawlpool.shards import manifest

        if manifest.is_sharded(job):
            manifest.read(job)


def check_sharded(outputs: tuple[str, ...], save_cookies: str | None, control: str | None) -> None:
    """Refuse what a job of shards can't have.

    Raises:
        ConfigError: naming the option, and what does instead.
    """
    for output in outputs:
        if output == STDOUT or os.path.isabs(output):
            raise ConfigError(
                f"--output {one_line(output)!r}: a job of shards writes into its folder, each shard its own files; "
                "'crawlpool export' makes one of them"
            )
    if save_cookies is not None:
        raise ConfigError("--save-cookies: the workers of a job of shards have each their own cookies, saved by nobody")
    if control is not None:
        raise ConfigError("--control: a job of shards has none; 'crawlpool status --watch' tells how far it is")


def cores() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
