"""What a crawl is made of: targets, outcomes, results."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from crawlpool.errors import ConfigError, CrawlPoolError, ErrorKind, TargetSkipped, kind_of
from crawlpool.record import record_of
from crawlpool.redact import redact_input, redact_text, redact_url
from crawlpool.wire import Timings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests


class Outcome(str, enum.Enum):
    """How a target ended, once and for all."""

    OK = "ok"
    HTTP_ERROR = "http_error"
    FAILED = "failed"
    DISALLOWED = "disallowed"
    SKIPPED = "skipped"

    def __str__(self) -> str:
        return self.value


_set = object.__setattr__  # what sets a field of a frozen dataclass


@dataclasses.dataclass(frozen=True, init=False)
class Target:
    """One URL to fetch; it ends in one outcome.

    Args:
        url: an absolute http or https URL.
        method: the HTTP method; upper-cased.
        headers: headers of this target alone, over the pool's.
        data: a body as requests takes it (bytes, text, form mapping).
        params: query parameters as requests takes them.
        meta: anything of the caller's that shall come back with the result. In a crawl it must be JSON.
        priority: higher goes first among the targets of one host.
        depth: how many links lie between a seed and this target.
        parent: the URL whose handler added this one.
        n: the ordinal of the input line, from 1.
        input: the input line as it was given; the URL where there was no line.

    Raises:
        ConfigError: when ``url`` or ``method`` is no text or empty, or ``priority`` no number. That the URL can be
            fetched is found when it is prepared: a bad one ends as a ``failed`` result, not as an exception here.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    data: Any = None
    params: Any = None
    meta: Any = None
    priority: int = 0
    depth: int = 0
    parent: str | None = None
    n: int | None = None
    input: str | None = None

    # Most targets are a URL and nothing else, and there are millions of them. The defaults are attributes of the class:
    # only what differs is set, which takes half the time, and less memory.
    def __init__(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        params: Any = None,
        meta: Any = None,
        priority: int = 0,
        depth: int = 0,
        parent: str | None = None,
        n: int | None = None,
        input: str | None = None,
    ) -> None:
        if not isinstance(url, str):
            raise ConfigError(f"url={url!r}: a target's URL is text")
        if not isinstance(method, str) or not method:
            raise ConfigError(f"method={method!r}: a target's method is a word such as GET")
        if not isinstance(priority, (int, float)) or priority != priority:
            raise ConfigError(f"priority={priority!r}: a target's priority is a number")
        _set(self, "url", url)
        if method != "GET":
            _set(self, "method", method.upper())
        if headers is not None:
            _set(self, "headers", headers)
        if data is not None:
            _set(self, "data", data)
        if params is not None:
            _set(self, "params", params)
        if meta is not None:
            _set(self, "meta", meta)
        if priority:
            _set(self, "priority", priority)
        if depth:
            _set(self, "depth", depth)
        if parent is not None:
            _set(self, "parent", parent)
        if n is not None:
            _set(self, "n", n)
        if input is not None:
            _set(self, "input", input)

    def __repr__(self) -> str:
        """Show what isn't a default; of headers the names, of a body that there is one, and no login in a URL."""
        shown = [repr(redact_url(self.url))]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value is None or value == field.default:
                continue
            if field.name == "headers":
                value = sorted(str(name) for name in value)
            elif isinstance(value, str):
                value = redact_input(value, self.url if field.name == "input" else "")
            shown.append(f"{field.name}={'…' if field.name in ('data', 'params') else repr(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def of(cls, value: str | Target) -> Target:
        """Return ``value`` if it is a target, or the target of a plain URL."""
        return value if isinstance(value, Target) else cls(value)


@dataclasses.dataclass(frozen=True)
class Hop:
    """One redirect that was followed: the URL that answered, and its status."""

    url: str
    status: int


@dataclasses.dataclass(frozen=True)
class BodyPlace:
    """Where a body was kept: a file of an output, and which bytes of it; a WARC record, or the body itself.

    Args:
        file: relative to the folder of the job, or of the output.
        offset: where it begins, in bytes.
        length: how many bytes it has; of a WARC record as they lie there, compressed.
    """

    file: str
    offset: int
    length: int


@dataclasses.dataclass(frozen=True)
class Result:
    """How one target ended.

    Args:
        target: what was asked for, the very object.
        outcome: how it ended.
        reason: why, in a word, where the outcome alone doesn't say.
        error: the exception that ended it, when it is ``failed``.
        response: the last answer, when there was one. Its body has been read.
        redirects: the redirects followed, in order.
        attempts: the legs that were sent.
        started_at_s: when the last leg began, seconds since 1970.
        elapsed_s: what the last leg took.
        waited_s: time spent waiting in the frontier and in back-off.
        robots: what robots.txt said of it: ``allowed``, ``disallowed``, ``unreachable``, or ``ignored`` where it wasn't
            asked on purpose; ``None`` where it doesn't count.
        duplicate_of: the ordinal of the input, from 1, that asked for the same before; ``None`` where there was none,
            or a handler had added it.
        is_blocked: whether the answer says that the host doesn't want us: 401, 403, 429, a challenge for browsers, or
            what ``HostLimits.is_block`` tells. Judged for hosts that have limits.
        bodies: where sinks that keep bodies have put this one; noted by them.
    """

    target: Target
    outcome: Outcome
    reason: str | None = None
    error: BaseException | None = None
    response: requests.Response | None = None
    redirects: tuple[Hop, ...] = ()
    attempts: int = 0
    started_at_s: float | None = None
    elapsed_s: float | None = None
    waited_s: float | None = None
    robots: str | None = None
    duplicate_of: int | None = None
    is_blocked: bool = False
    bodies: tuple[BodyPlace, ...] = ()
    _packed = None, ()  # what a sink has made of it and not written yet, and which sink: no field, nobody else's

    @property
    def is_ok(self) -> bool:
        """Whether the target answered with success."""
        return self.outcome is Outcome.OK

    @property
    def error_kind(self) -> ErrorKind | None:
        """The kind of ``error``, or ``None``."""
        return kind_of(self.error) if self.error is not None else None

    @property
    def timings(self) -> Timings | None:
        """What the last leg spent its time on; ``None`` where there was no answer, or the transport doesn't tell."""
        wire = getattr(self.response, "wire", None)
        return Timings.of(wire.timings) if wire is not None and wire.timings else None

    @property
    def record(self) -> dict[str, Any]:
        """The record of this result as a new dict, JSON-ready; see ``crawlpool.record``."""
        return record_of(self)

    @classmethod
    def answered(
        cls,
        target: Target,
        outcome: Outcome,
        response: requests.Response,
        redirects: tuple[Hop, ...],
        attempts: int,
        started_at_s: float | None,
        elapsed_s: float,
        waited_s: float,
    ) -> Result:
        """Return the result of a target that was answered: what ``Result(...)`` does, in a third of the time."""
        result = object.__new__(cls)
        # The defaults of the other fields are attributes of the class.
        fields = {
            "target": target,
            "outcome": outcome,
            "response": response,
            "redirects": redirects,
            "attempts": attempts,
            "started_at_s": started_at_s,
            "elapsed_s": elapsed_s,
            "waited_s": waited_s,
        }
        object.__setattr__(result, "__dict__", fields)
        return result

    def note(self, name: str, value: Any) -> None:
        """Set a field; only by who made the result and has shown it to nobody yet."""
        object.__setattr__(self, name, value)

    def unwrap(self) -> requests.Response:
        """Return the response of an ``ok`` target.

        Raises:
            requests.HTTPError: when the outcome is ``http_error``; its text has no userinfo.
            BaseException: the very error of a ``failed`` target.
            TargetSkipped: when it was skipped or disallowed.
        """
        if self.error is not None:
            raise self.error
        if self.response is not None:
            try:
                self.response.raise_for_status()
            except OSError as error:  # an HTTPError, whose text has the whole URL
                error.args = tuple(redact_text(arg) if isinstance(arg, str) else arg for arg in error.args)
                raise
            return self.response
        raise TargetSkipped(f"{self.outcome}: {self.reason or 'no reason given'}")


@dataclasses.dataclass(frozen=True)
class Report:
    """The balanced books of one crawl: ``inputs + found = ok + http_error + failed + disallowed + skipped + pending``.

    Those of one shard have two more: ``inputs + found + moved_in = all outcomes + moved_out + pending``.

    Args:
        inputs: targets taken from the seeds, bad lines included.
        found: targets that handlers added.
        ok, http_error, failed, disallowed, skipped: how many ended so.
        body_bytes: decoded bytes of all bodies.
        legs: requests sent for targets, retries and redirects included.
        robots_legs: requests sent for robots.txt.
        retries: how many of the legs were retries.
        elapsed_s: wall-clock time of the crawl.
        is_complete: whether all the input was read and nothing was dropped by a stop.
        items: what handlers emitted.
        pending: of a job that was not finished: targets that wait for its next run. Its other numbers are of all its
            runs together.
        moved_in: of a shard: targets whose redirects led here from another shard.
        moved_out: of a shard: targets whose redirects led to another shard, where they have their outcomes.
    """

    inputs: int = 0
    found: int = 0
    ok: int = 0
    http_error: int = 0
    failed: int = 0
    disallowed: int = 0
    skipped: int = 0
    body_bytes: int = 0
    legs: int = 0
    robots_legs: int = 0
    retries: int = 0
    elapsed_s: float = 0.0
    is_complete: bool = True
    items: int = 0
    pending: int = 0
    moved_in: int = 0
    moved_out: int = 0

    @property
    def settled(self) -> int:
        """Targets that have an outcome."""
        return self.ok + self.http_error + self.failed + self.disallowed + self.skipped

    @property
    def is_balanced(self) -> bool:
        """Whether each target that came in has an outcome, waits for a job's next run, or was handed over."""
        return self.inputs + self.found + self.moved_in == self.settled + self.pending + self.moved_out

    @property
    def on_the_way(self) -> int:
        """How many targets shards have handed over that no other has taken in yet; in the books of all, merged."""
        return self.moved_out - self.moved_in

    @classmethod
    def merged(cls, reports: Iterable[Report]) -> Report:
        """Return the books of several shards, or jobs, as one.

        Args:
            reports: theirs. Numbers are added up, ``elapsed_s`` is the longest; it is complete where each is, and
                nothing is on its way between them. They balance where each does, with what is ``on_the_way``.
        """
        each = list(reports)
        counts = [field.name for field in dataclasses.fields(cls) if field.name not in ("elapsed_s", "is_complete")]
        found = cls(
            **{name: sum(getattr(one, name) for one in each) for name in counts},
            elapsed_s=max((one.elapsed_s for one in each), default=0.0),
            is_complete=all(one.is_complete for one in each),
        )
        return dataclasses.replace(found, is_complete=False) if found.on_the_way else found

    def check(self) -> Report:
        """Return the report itself.

        Raises:
            CrawlPoolError: when the books don't balance, which is a fault of crawlpool.
        """
        if not self.is_balanced:
            begins = f"{self.inputs} + {self.found}{_more(self.moved_in)}"
            ends = f"{self.settled}{_more(self.pending)}{_more(self.moved_out)}"
            raise CrawlPoolError(f"the books don't balance: {begins} != {ends}")
        return self


def _more(count: int) -> str:
    return f" + {count}" if count else ""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """A snapshot of a pool, taken at one moment for each number and not at one moment for all.

    Args:
        sessions: sessions that live now.
        sessions_made: sessions made so far.
        connections_open: sockets open now.
        connections_opened: sockets opened so far.
        requests: calls and targets begun, retries and redirects not counted.
        retries: retries granted so far.
        threads: worker threads that live now.
        queued: targets that wait for a worker.
        proxies_rested: of several proxies those that had to rest: without credentials, and how often; ``None`` where
            there are not several.
    """

    sessions: int
    sessions_made: int
    connections_open: int
    connections_opened: int
    requests: int
    retries: int
    threads: int = 0
    queued: int = 0
    proxies_rested: Mapping[str, int] | None = None
