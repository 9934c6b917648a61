"""What a job's clerk is handed: results with what their handlers made of them, and rows for the ledger made of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.backlog import pack, unpack
from crawlpool.errors import ConfigError, ErrorKind, HostUnreachable, InputError
from crawlpool.jobs.chain import MARK, HandedOver, chain_of, leg_of_chain
from crawlpool.ledger.store import signed
from crawlpool.ledger.transfer import rank_of
from crawlpool.leg import Leg, host_of
from crawlpool.models import Outcome, Result, Target
from crawlpool.redact import hide, redact_input, redact_url
from crawlpool.seen import digest_of, digest_of_key, normal_form
from crawlpool.settle import first_leg
from crawlpool.source import BadLine

if TYPE_CHECKING:
    from crawlpool.ledger.waiting import Taken
    from crawlpool.leg import Run

#: The values of ``target.state`` and ``result.outcome`` in the ledger; 0 is a target that waits.
STATES: dict[Outcome, int] = {outcome: number for number, outcome in enumerate(Outcome, 1)}
#: Header fields whose values are never written to a job.
SECRET_FIELDS = frozenset({"authorization", "proxy-authorization", "cookie"})
_WITH_LOGIN = "a URL with a login isn't taken into a job, which would keep it on the disk: give --auth for its host"


class Entry(NamedTuple):
    """A result to be kept, with what belongs to it.

    ``leg``, ``result`` and what is said of both are ``None`` for what was added or emitted outside of a handler.
    ``adds`` are rows of targets that were added, ``items`` what was emitted; ``line`` is the record, and ``told`` the
    row of the ledger but for where the record stands. Both are made by who settles: the clerk has enough to do.
    ``handed_over`` is of a target that another shard goes on with; ``result`` is a ``handover.Moved`` then.
    """

    leg: Leg | None
    result: Result | None
    adds: list[Any]
    items: list[Mapping[str, Any]]
    line: bytes = b""
    told: Told | None = None
    handed_over: HandedOver | None = None


class Told(NamedTuple):
    """What a row of the ledger says of a result, but for where its record stands."""

    number: int
    state: int
    head: str
    legs: str

    def row(self, place: tuple[int, int, int]) -> tuple[int, int, str]:
        """Return the row, as ``ledger.store.Batch`` has it.

        Args:
            place: part, offset and length of the record.
        """
        part, offset, length = place
        return self.number, self.state, f"{self.head}{part},{offset},{length},[{self.legs}]"


def row_of_seed(run: Run, seed: object, ordinal: int) -> tuple[Any, ...]:
    """Return the row of a seed, as ``ledger.store.Row`` says; of one that can't be fetched with the reason.

    Args:
        run: the crawl.
        seed: a URL, a target, a bad line; anything else is a failure of its own.
        ordinal: which seed it is, from 1.
    """
    plain = _plain_row(seed, ordinal)
    if plain is not None:
        return plain
    if isinstance(seed, BadLine):
        target = Target("", n=seed.n, input=seed.input)
        return _bad(target, ordinal, seed.error, seed.place)
    leg = first_leg(run, seed)
    if leg.verdict is not None:
        assert leg.verdict.error is not None
        return _bad(leg.target, ordinal, leg.verdict.error, None)
    target = leg.target
    if _has_login(target.url):
        given = target.url if target.input is None else target.input
        shown = Target("", n=target.n, input=hide(redact_input(given, target.url)))
        return _bad(shown, ordinal, InputError(_WITH_LOGIN), None)
    try:
        return _row(target, ordinal, 0)
    except ConfigError as error:
        return _bad(Target("", n=target.n, input=redact_input(target.url, target.url)), ordinal, error, None)


def row_of_added(target: Target) -> tuple[Any, ...]:
    """Return the row of a target that a handler adds.

    Raises:
        ConfigError: when it can't be written as JSON, or holds what must not be on a disk.
    """
    if _has_login(target.url):
        raise ConfigError("url: " + _WITH_LOGIN)
    return _row(target, None, 1)


def leg_of(run: Run, taken: Taken, host: str) -> Leg:
    """Return the leg of a target that comes out of the ledger.

    Args:
        run: the crawl.
        taken: the target.
        host: its host; empty for one that waits for no host.
    """
    if taken.line[0] == MARK:
        leg = leg_of_chain(run, taken.line, host)
        target = leg.target
    else:
        target = target_of_line(taken.line, taken.n)
        leg = Leg(run, target, host or host_of(target.url))
    leg.ordinal = taken.id
    if taken.verdict is not None:
        leg.verdict = _verdict_of(target, json.loads(taken.verdict))
    return leg


def told_of(leg: Leg, result: Result) -> Told:
    """Return what the ledger is told of a result."""
    response, error, reason = result.response, result.error, result.reason
    number, state = leg.ordinal, STATES[result.outcome]
    status = "null" if response is None else response.status_code
    kind = "null" if error is None else f'"{result.error_kind}"'
    why = "null" if reason is None else json.dumps(reason)
    legs = ",".join([note.json for note in leg.trail])
    return Told(number, state, f"[{number},{state},{why},{status},{kind},", legs)


# Nearly all targets are a URL and nothing else. As JSON they would take four times as long, and twice the room.
_GIVEN, _BARE = "=", "-"  # a URL that is its own input line, with the ordinal of that; a URL alone


def _plain_row(seed: object, ordinal: int) -> tuple[Any, ...] | None:
    """Return the row of a seed that is a URL and nothing else; ``None`` for any other."""
    if type(seed) is str:
        url, form = seed, _BARE
    elif type(seed) is Target and seed.n == ordinal and seed.input == seed.url and seed.method == "GET":
        url, form = seed.url, _GIVEN
        if (
            seed.meta is not None
            or seed.headers is not None
            or seed.data is not None
            or seed.params is not None
            or seed.parent is not None
            or type(seed.priority) is not int
            or seed.priority
            or type(seed.depth) is not int
            or seed.depth
        ):
            return None
    else:
        return None
    if not url.isascii() or "@" in url:
        return None
    digest = signed(digest_of_key(f"GET {normal_form(url)}"))
    return (ordinal, host_of(url), 0.0, form + url, None, digest, 0)


def target_of_line(line: str, n: int | None) -> Target:
    """Return the target that a row of the ledger speaks of.

    Args:
        line: what it is.
        n: the ordinal of its input.
    """
    form = line[0]
    if form == "{":
        return unpack(line.encode("ascii"))
    if form == MARK:
        return chain_of(line).target
    target: Target = object.__new__(Target)
    # The defaults of the other fields are attributes of the class.
    given = {"url": line[1:]} if form == _BARE else {"url": line[1:], "n": n, "input": line[1:]}
    object.__setattr__(target, "__dict__", given)
    return target


def host_of_line(line: str, n: int | None) -> str:
    """Return the host for which a target waits, of its line."""
    return host_of(chain_of(line).url if line[0] == MARK else target_of_line(line, n).url)


def _row(target: Target, ordinal: int | None, is_found: int) -> tuple[Any, ...]:
    headers = target.headers
    if headers is not None and (secret := next((name for name in headers if name.lower() in SECRET_FIELDS), None)):
        raise ConfigError(f"headers: {secret} isn't taken into a job, which would keep it on the disk: use pool.site")
    digest = digest_of(target)
    line = pack(target).decode("ascii")
    host = host_of(target.url).encode("utf-8", "backslashreplace").decode()
    return (ordinal, host, rank_of(target.priority), line, None, None if digest is None else signed(digest), is_found)


def _bad(target: Target, ordinal: int, error: BaseException, place: str | None) -> tuple[Any, ...]:
    verdict = json.dumps({"bad": str(error), "place": place})
    return (ordinal, "", 0.0, pack(target).decode("ascii"), verdict, None, 0)


def _verdict_of(target: Target, why: Mapping[str, Any]) -> Result:
    if "duplicate_of" in why:
        return Result(target, Outcome.SKIPPED, "duplicate", duplicate_of=why["duplicate_of"])
    if "skipped" in why:
        return Result(target, Outcome.SKIPPED, why["skipped"])
    if "crashes" in why:
        message = f"the process ended {why['crashes']} times in a row while this was in flight; it isn't tried again"
        return Result(target, Outcome.FAILED, "crashes", HostUnreachable(message, ErrorKind.INTERNAL))
    error = InputError(why["bad"])
    error.place = why["place"]
    return Result(target, Outcome.FAILED, None, error)


def _has_login(url: str) -> bool:
    return "@" in url and redact_url(url) != url
