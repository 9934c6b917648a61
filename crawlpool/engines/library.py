"""``SessionPool.crawl`` of a job of shards: the coordinator and engines that the command has, for a caller's pool."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SYSTEM_CLOCK, Shutdown
from crawlpool.config import check
from crawlpool.engines import guard
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.coordinator import Coordinator, new_run
from crawlpool.engines.naming import DASK, THREADS, engine_named
from crawlpool.errors import ConfigError, EngineError, JobError
from crawlpool.jobs.job import Job, make_folder
from crawlpool.ledger.lock import JobLock
from crawlpool.redact import one_line
from crawlpool.shards import layout, manifest
from crawlpool.shards.hashing import default_shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crawlpool.models import Report, Target
    from crawlpool.sites import Site
    from crawlpool.source import BadLine

_LOOK_S = 0.5
#: Options of ``crawl`` that can't reach workers, or mean nothing there.
_NOT_FOR_SHARDS = ("on_result",)


def crawl_shards(
    pool: Any,
    recipe: Recipe,
    seeds: Iterable[str | Target | BadLine],
    handler: Callable[..., Any] | None,
    job: Job | str | None,
    *,
    engine: str,
    workers: int | None,
    **options: Any,
) -> Report:
    """Run a job of shards to its end; return its books.

    Args:
        pool: the caller's; the threads engine runs on it, workers of others make one like it.
        recipe: how they do that.
        seeds: the input.
        handler: an importable function; ``None`` for none.
        job: the job; its folder's path alone for one that is there, or with shards for the workers.
        engine: as ``engines.base.engine_named`` takes it.
        workers: how many; ``None`` for as many as there are.
        options: as ``new_crawl`` takes them.

    Raises:
        ConfigError: for what can't be.
        EngineError: when the engine can't be brought up, or is lost; the job goes on another time. Also of a script
            that begins the crawl when it is imported, by worker processes, too.
        JobError: when the job is in use, is none, was begun with other settings, or shards of it couldn't go on.
        SinkError: when its folder can't be written to.
    """
    check(job is not None, "job", job, "a Job with shards, which an engine needs")
    if engine == DASK and guard.is_importing():
        guard.leave(job if isinstance(job, str) else job.path)  # type: ignore[union-attr]
    for name in _NOT_FOR_SHARDS:
        check(options.get(name) is None, name, options.get(name), "None: workers of a job of shards can't call it")
    check(not options.pop("sinks", ()), "sinks", "given", "none: each shard of a job writes files of its own")
    wanted = Job(job) if isinstance(job, str) else job
    assert wanted is not None
    make_handler = None if handler is None else functools.partial(_imported, *_name_of(handler))
    made_engine = engine_named(engine)
    make_folder(wanted.path)
    layout.check_root(wanted.path)
    with JobLock(wanted.path):
        fixed = {**wanted.fixed, "dedupe": options.get("dedupe", True), "max_per_host": options.get("max_per_host")}
        _make_manifest(wanted, fixed, workers)
        is_here = engine == THREADS
        spec = EngineSpec(
            folder=os.path.abspath(wanted.path),
            run=new_run(),
            make_pool=(lambda: pool) if is_here else recipe.partial(pool),
            make_handler=(lambda: handler) if is_here and handler is not None else make_handler,
            crawl={name: value for name, value in options.items() if name not in _NOT_FOR_SHARDS},
            job={
                "record_headers": wanted.record_headers,
                "rotate_bytes": wanted.rotate_bytes,
                "keeps_credentials": wanted.keeps_credentials,
            },
            retry=wanted.retry,
            workers=workers,
            shuts_pool=not is_here,
        )
        return _run(Coordinator(made_engine, spec, seeds))


def _run(coordinator: Coordinator) -> Report:
    wait = Shutdown()
    try:
        coordinator.begin()
        while not coordinator.look():
            wait.wait(_LOOK_S)
    except BaseException:  # Ctrl-C: what is under way is finished, and the job goes on another time
        coordinator.drain()
        coordinator.end()
        raise
    progress = coordinator.end()
    troubles = coordinator.troubles()
    if troubles.failed or troubles.given_up:
        shard = min([*troubles.failed, *troubles.given_up])
        why = troubles.failed.get(shard, "it ended its workers again and again")
        count = len(troubles.failed) + len(troubles.given_up)
        raise JobError(f"{count} shards couldn't go on, the others have: shard {shard:04d}: {why}")
    if not coordinator.is_done and troubles.engine is not None:
        raise EngineError(f"{troubles.engine}; the same call goes on with the job")
    report = progress.report
    is_whole = coordinator.is_done and coordinator.is_input_done and not report.pending and not report.on_the_way
    return dataclasses.replace(report, is_complete=is_whole)


def _make_manifest(job: Job, fixed: Mapping[str, Any], workers: int | None) -> None:
    others: dict[str, Any] = {"part": None, "outputs": tuple(job.outputs), "fixed": fixed}
    if not manifest.is_sharded(job.path):
        shards = job.shards if job.shards > 1 else default_shards(workers or os.cpu_count() or 1)
        made = manifest.new(job.path, shards=shards, created_at=SYSTEM_CLOCK.wall(), **others)
        manifest.write(job.path, made)
        return
    before = manifest.read(job.path)
    shards = job.shards if job.shards > 1 else before.shards
    manifest.check_same(job.path, before, dataclasses.replace(before, shards=shards, **others))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a pool was made, so that a worker can make one like it.

    Args:
        make: its class.
        settings: what it was given by name.
    """

    make: Callable[..., Any]
    settings: Mapping[str, Any] = dataclasses.field(repr=False)

    def partial(self, pool: Any) -> Callable[[], Any]:
        """Return what makes a pool like this one: with its cookies of now, its sites, its mounted adapters."""
        settings = {**self.settings, "cookies": pool.cookies.copy(), "headers": dict(pool.headers)}
        sites = tuple(pool._shared.sites.current.values())
        mounts = pool._shared.mounts.current
        return functools.partial(_like, self.make, settings, sites, mounts)


def _like(
    make: Callable[..., Any], settings: Mapping[str, Any], sites: tuple[Site, ...], mounts: tuple[tuple[str, Any], ...]
) -> Any:
    pool = make(**settings)
    for site in sites:
        pool.site(site.origin, headers=site.headers, auth=site.auth, retry=site.retry, limits=site.limits)
    for prefix, factory in mounts:
        pool.mount(prefix, factory)
    return pool


def _name_of(handler: Callable[..., Any]) -> tuple[str, str]:
    module = getattr(handler, "__module__", None) or ""
    name = getattr(handler, "__qualname__", "")
    if module in ("", "__main__") or "<" in name or not name:
        shown = one_line(f"{module}.{name}") if name else one_line(repr(handler))
        raise ConfigError(f"handler {shown}: workers import it: it must be a function of a module, and not of a script")
    return module, name


def _imported(module: str, name: str) -> Callable[..., Any]:
    found: Any = importlib.import_module(module)
    for step in name.split("."):
        found = getattr(found, step)
    return found  # type: ignore[no-any-return]
