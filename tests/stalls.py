"""Trials of stalls, at random: where an exchange stalls, how it was asked for, over which transport, and the deadline.

``python -m tests.stalls`` makes 1,000 of them, many at once, and tells by how much each kind has overrun its deadline:
by a second at most. After each, the same thread or pool asks for a page that answers at once, and has it at once.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from crawlpool import SessionPool, Target
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing.certificates import temporary_certificates
from crawlpool.transport.curl import library
from tests.stalling import ANSWERS, BODIES, KINDS, Stalls

if TYPE_CHECKING:
    from crawlpool.models import Result

#: What a deadline may be overrun by.
MOST_S = 1.0
#: In each of these ways the request itself is made with a deadline; a stream's ends with its header.
MODES = ("get", "submit", "map", "crawl", "stream", "download")
#: What stalls before the header comes, and what can be fetched by the other ways, too.
_HEADERS = frozenset(ANSWERS)
_TYPES = {ErrorKind.DEADLINE, ErrorKind.TIMEOUT, ErrorKind.PROXY}
_PATIENCE_S = 60.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one trial; ``after_s`` is how long the page took that was asked for next."""

    transport: str
    mode: str
    kind: str
    deadline_s: float
    took_s: float
    after_s: float
    ended_as: str

    @property
    def over_s(self) -> float:
        """By how much the deadline was overrun."""
        return self.took_s - self.deadline_s

    @property
    def may_be_early(self) -> bool:
        """Whether it may end before its deadline: of interim answers urllib3 takes so many and no more."""
        return self.kind in ("interim answers", "continue, for ever")

    @property
    def is_good(self) -> bool:
        """Whether it ended in time, and as what it was."""
        known = _TYPES | {ErrorKind.PROTOCOL} if self.may_be_early else _TYPES
        return self.over_s <= MOST_S and self.ended_as in {kind.value for kind in known}


@contextlib.contextmanager
def pool_over(transport: str, stalls: Stalls, authority: pathlib.Path, threads: int) -> Iterator[SessionPool]:
    """Give a pool whose names are never found; on the way out all that hangs is let go."""
    with SessionPool(
        threads=threads,
        in_flight=threads if transport == "curl" else None,
        transport=transport,
        retry=False,
        trust_env=False,
        timeout=30,
        verify=str(authority),
    ) as pool:
        resolver = pool._shared.resolver
        assert resolver is not None
        resolver._lookup = stalls.lookup
        yield pool


def one(
    pool: SessionPool, stalls: Stalls, transport: str, mode: str, kind: str, deadline_s: float, chance: random.Random
) -> Trial:
    """Make one trial."""
    asked = stalls.ask(kind, chance)
    options: dict[str, Any] = {} if asked.proxies is None else {"proxies": asked.proxies}
    options["deadline"] = deadline_s
    if mode in ("map", "crawl") and deadline_s < 0.5:
        options["timeout"] = (30, 30)  # with and without an option of its own: not every leg is a plain one
    target = Target(asked.url, asked.method, data=asked.data)
    started = time.monotonic()
    error = _ERRORS[mode](pool, target, options)
    took_s = time.monotonic() - started
    started = time.monotonic()
    good = pool.get(stalls.good(), deadline=_PATIENCE_S) if mode not in ("map", "crawl") else _mapped(pool, stalls)
    after_s = time.monotonic() - started
    assert good.content == b"good"
    ended_as = "no error" if error is None else kind_of(error).value
    return Trial(transport, mode, kind, deadline_s, took_s, after_s, ended_as)


def many(trials: int, seed: int, *, at_once: int, transports: Sequence[str], say: Callable[[str], None]) -> list[Trial]:
    """Make so many trials, ``at_once`` of them at the same time over each transport; return what came of them."""
    found: list[Trial] = []
    lock = threading.Lock()  # guards found
    with contextlib.ExitStack() as stack:
        certificates = stack.enter_context(temporary_certificates())
        # Entered last, so left first: what hangs is let go before a pool waits for its threads.
        pools: dict[str, SessionPool] = {}
        stalls = Stalls(certificates)
        for transport in transports:
            pool = pool_over(transport, stalls, certificates.authority, at_once)
            pools[transport] = stack.enter_context(pool)
        stack.enter_context(stalls)
        plans = list(planned(trials, seed, transports))

        def make(number: int, plan: tuple[str, str, str, float]) -> None:
            transport, mode, kind, deadline_s = plan
            trial = one(pools[transport], stalls, transport, mode, kind, deadline_s, random.Random(f"{seed} {number}"))
            with lock:
                found.append(trial)
                count = len(found)
            if count % 200 == 0:
                say(f"{count:,} trials")

        with ThreadPoolExecutor(at_once * len(transports)) as threads:
            for future in [threads.submit(make, number, plan) for number, plan in enumerate(plans)]:
                future.result()
    return found


def planned(trials: int, seed: int, transports: Sequence[str]) -> Iterator[tuple[str, str, str, float]]:
    """Yield transport, mode, kind and deadline of each trial: every kind in turn, the rest by chance."""
    chance = random.Random(seed)
    for number in range(trials):
        kind = KINDS[number % len(KINDS)]
        modes = MODES if kind in _HEADERS else [mode for mode in MODES if mode != "stream"]
        if kind in ("upload isn't read", "file isn't read"):
            modes = ["get", "submit", "map", "crawl"]
        if kind == "compressed body stops":
            modes = [mode for mode in modes if mode != "download"]
        yield transports[number // len(KINDS) % len(transports)], chance.choice(modes), kind, chance.uniform(0.2, 1.0)


def table(trials: Iterable[Trial]) -> str:
    """Return what was found, in lines: for each transport and mode, then for each kind, by how much it was overrun."""
    groups: dict[str, list[float]] = collections.defaultdict(list)
    for trial in trials:
        groups[f"all over {trial.transport}"].append(trial.over_s)
        groups[f"  {trial.transport} {trial.mode}"].append(trial.over_s)
        groups[f"{trial.kind} ({trial.transport})"].append(trial.over_s)
    lines = [f"{'':48}{'trials':>7}{'median':>9}{'95 %':>9}{'most':>9}   seconds over the deadline"]
    for name, overs in sorted(groups.items()):
        overs.sort()
        middle, high = overs[len(overs) // 2], overs[min(len(overs) - 1, len(overs) * 95 // 100)]
        lines.append(f"{name:48}{len(overs):7,}{middle:9.3f}{high:9.3f}{overs[-1]:9.3f}")
    return "\n".join(lines)


def _got(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    return _raised(lambda: pool.request(target.method, target.url, data=target.data, **options))


def _streamed(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    return _raised(lambda: pool.request(target.method, target.url, stream=True, **options))


def _submitted(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    return pool.submit(target.method, target.url, data=target.data, **options).exception(_PATIENCE_S)


def _downloaded(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    with tempfile.TemporaryDirectory() as folder:
        return _raised(lambda: pool.download(target.url, os.path.join(folder, "file"), **options))


def _map(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    return next(iter(list(pool.map([target], **options)))).error


def _mapped(pool: SessionPool, stalls: Stalls) -> Any:
    return next(iter(list(pool.map([stalls.good()])))).unwrap()


def _crawled(pool: SessionPool, target: Target, options: dict[str, Any]) -> BaseException | None:
    results: list[Result] = []
    pool.crawl([target], lambda result, _: results.append(result), robots=False, **options)
    return results[0].error


def _raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


_ERRORS: dict[str, Callable[[SessionPool, Target, dict[str, Any]], BaseException | None]] = {
    "get": _got,
    "submit": _submitted,
    "map": _map,
    "crawl": _crawled,
    "stream": _streamed,
    "download": _downloaded,
}
assert set(_ERRORS) == set(MODES) and set(BODIES) <= set(KINDS)


def main() -> None:
    """Make the trials, print how they went, and end with 1 when one was late or ended as something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--at-once", type=int, default=6, help="over each transport")
    given = parser.parse_args()
    transports = ["urllib3", *(["curl"] if library.is_installed() else [])]
    print(f"--seed {given.seed}", flush=True)
    started = time.monotonic()
    trials = many(given.count, given.seed, at_once=given.at_once, transports=transports, say=print)
    bad = [trial for trial in trials if not trial.is_good]
    print(table(trials))
    after = sorted(trial.after_s for trial in trials)
    print(f"the next page: median {after[len(after) // 2]:.3f} s, most {after[-1]:.3f} s")
    print(f"{len(trials):,} trials in {time.monotonic() - started:.0f} s; {len(bad)} not as they should be")
    for trial in bad:
        print(f"  {trial}")
    sys.exit(1 if bad or len(trials) != given.count else 0)


if __name__ == "__main__":
    main()
