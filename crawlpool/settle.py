"""From a leg to what is sent, and from what came back to the next leg or the target's one result."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import requests

from crawlpool.clock import Clock, Deadline
from crawlpool.errors import (
    BlockedAddress,
    Cancelled,
    ConfigError,
    CrawlPoolError,
    DeadlineExceeded,
    ErrorKind,
    HostUnreachable,
    InputError,
    NoDescriptors,
    PoolClosed,
    TakenBack,
    kind_of,
)
from crawlpool.events import logger
from crawlpool.exchange import decide, policy_of
from crawlpool.handover import Moved, rejoined
from crawlpool.leg import Leg, host_of
from crawlpool.models import Hop, Outcome, Result, Target
from crawlpool.politeness import AGAIN_S, ANSWERED, BLOCKED, BROKEN, REFUSALS, UNSENT, Came, ExitProxies, is_block
from crawlpool.redact import redact_url
from crawlpool.retry import GiveUp, retry_after_s
from crawlpool.shortage import again_s
from crawlpool.transport.base import Completion, Exchange

if TYPE_CHECKING:
    from crawlpool.leg import Run
    from crawlpool.limits import HostLimits
    from crawlpool.prepare import Plan
    from crawlpool.session import Session

_log = logger("settle")

# A proxy that fails says nothing of the host behind it.
_UNREACHABLE = frozenset({ErrorKind.DNS, ErrorKind.CONNECT})
_PREPARED = ("params", "data", "headers", "cookies", "files", "auth", "hooks", "json")


def begin(leg: Leg, session: Session, plan: Plan | None = None) -> Exchange | Completion:
    """Prepare a leg for its session: return the exchange to start, or the completion of one that isn't to be sent.

    Never raises: what the caller's auth or hooks raise, ``SystemExit`` included, ends the target and not the worker.

    Args:
        plan: the session's, as it is now: plain legs need nothing else.
    """
    run = leg.run
    options = run.options
    nothing: Any = None
    if leg.verdict is not None:
        return Completion(Exchange(nothing, {}, Deadline(None), token=leg), None, None, 0.0)
    clock = session._shared.clock
    if leg.rules is not None and not leg.rules.allows(leg.url):
        leg.verdict = disallowed(leg)
        return Completion(Exchange(nothing, {}, Deadline(None), token=leg), None, None, 0.0)
    leg.started_wall_s = clock.wall()
    try:
        deadline = leg.deadline
        if deadline is None or options.is_deadline_of_leg:
            deadline = leg.deadline = Deadline(options.deadline_s, session._shared.deadline_clock)
        request = leg.request
        given = options.request
        settings = None
        if plan is not None and request is None and not given and leg.is_plain():
            target = leg.target
            request = leg.request = plan.request(target.method, target.url, target.headers)
            settings = plan.settings
            is_hooked = bool(plan.hooks)
        else:
            if request is None:
                request = leg.request = _prepare(leg, session)
                if leg.onward is not None:
                    request = leg.request = rejoined(leg, session, request)
            is_hooked = bool(request.hooks.get("response"))
            if not given:
                settings = session.plain_settings()
        if settings is None:
            settings = session.merge_environment_settings(
                request.url, given.get("proxies") or {}, False, given.get("verify"), given.get("cert")
            )
            settings["timeout"] = given.get("timeout", session.timeout)
            if leg.exit is not None and type(settings["proxies"]) is ExitProxies:
                settings["proxies"] = leg.exit.proxies
        may_be_late = leg.may_be_late
        exchange = Exchange(
            request,
            settings,
            deadline,
            options.max_body_bytes,
            (lambda response: _accept(leg, session, response)) if run.is_choosy else None,
            not options.allow_redirects,
            leg,
            run.is_quick and not is_hooked,
            keeps_wire=options.keeps_wire,
            inputs=leg,
            is_late=functools.partial(leg.is_late, clock) if may_be_late else None,
            has_come=functools.partial(leg.notice, clock) if may_be_late else None,
        )
    except BaseException as error:
        nothing = leg.request
        return Completion(Exchange(nothing, {}, Deadline(None), token=leg), None, _as_request_error(error), 0.0)
    leg.exchange = exchange
    if not run.is_wanted(leg):
        return Completion(exchange, None, Cancelled("the request was given up before it was sent"), 0.0)
    leg.legs += 1
    return exchange


def first_leg(run: Run, given: object, ordinal: int = 0) -> Leg:
    """Return the first leg for what an input gave: of a target, of a URL, or of the failure that anything else is."""
    if isinstance(given, (str, Target)):
        return Leg.first(run, Target.of(given), ordinal)
    error = InputError(f"a target is a URL as text or a Target, and no {type(given).__name__}")
    target = Target("", input=f"<{type(given).__name__}>")
    return Leg.first(run, target, ordinal, Result(target, Outcome.FAILED, None, error))


def conclude(leg: Leg, session: Session, completion: Completion) -> Leg | Result:
    """Decide what a completed leg means: another leg (a retry, a redirect hop), or the target's result.

    Never raises, whatever the caller's retry strategy does.
    """
    if leg.verdict is not None:
        return leg.verdict
    try:
        return _conclude(leg, session, completion)
    except BaseException as error:
        return _failed(leg, completion, error)


def dropped(leg: Leg, reason: str) -> Result:
    """Return the result of a target that was given up before it was done, or whose host is left alone."""
    return leg.unsent(Outcome.SKIPPED, reason)


def waited_out(leg: Leg) -> Result:
    """Return the result of a target that has waited longer than it may."""
    most_s = leg.run.options.max_wait_s
    error = DeadlineExceeded(f"the target waited {leg.waited_s:.1f} s; {most_s} s is what it may")
    return leg.unsent(Outcome.FAILED, None, error)


def given_up(leg: Leg, kind: ErrorKind) -> Result:
    """Return the result of a target whose host could not be reached for long, and isn't asked for it."""
    tried = "this was not tried again" if leg.legs else "this was not tried"
    error = HostUnreachable(f"the host could not be reached for long; {tried} ({kind})", kind)
    return leg.unsent(Outcome.FAILED, "host_unreachable", error)


def disallowed(leg: Leg) -> Result:
    """Return the result of a target that its origin's robots.txt forbids."""
    leg.robots = "disallowed"
    return leg.unsent(Outcome.DISALLOWED, "robots")


def came_of(leg: Leg, completion: Completion, clock: Clock) -> Came:
    """Return what came of a leg as far as it concerns its host."""
    if leg.verdict is not None or leg.exchange is None or leg.passage.is_failure:
        return UNSENT  # what one of several proxies failed says nothing of the host
    came = came_from(completion.response, completion.error, leg.seat.limits, clock.wall())
    leg.is_blocked = came.is_block
    return came


def refusal_from(response: requests.Response, wall_s: float, *, is_block: bool = False) -> Came | None:
    """Return what an answer means for its host if it is a refusal, else ``None``; asks no code of the user's.

    Args:
        response: the answer.
        wall_s: the time, for a ``Retry-After`` that is a date.
        is_block: whether it also says that the host doesn't want us.
    """
    if response.status_code not in REFUSALS:
        return None
    return Came.refused(retry_after_s(response.headers.get("retry-after"), wall_s), is_block=is_block)


def came_from(
    response: requests.Response | None, error: BaseException | None, limits: HostLimits, wall_s: float
) -> Came:
    """Return what an answer, or the error in its place, means for a host that has limits; never raises.

    Args:
        response, error: one of them.
        limits: the host's, which may bring a judge of blocks.
        wall_s: the time, for a ``Retry-After`` that is a date.
    """
    if error is None:
        assert response is not None
        is_blocked = _is_blocked(limits, response)
        return refusal_from(response, wall_s, is_block=is_blocked) or (BLOCKED if is_blocked else ANSWERED)
    if isinstance(error, (NoDescriptors, TakenBack)):
        return UNSENT
    if isinstance(error, (Cancelled, PoolClosed)) or not isinstance(error, Exception):
        return BROKEN
    if isinstance(error, BlockedAddress):
        return UNSENT  # it says nothing of the host, and the host knows nothing of it
    kind = kind_of(error)
    if kind in _UNREACHABLE or isinstance(error, requests.ConnectTimeout):
        return Came.unreachable(kind)
    return BROKEN


def excused(leg: Leg, now: float) -> Leg:
    """Return the leg that follows on one that failed, and that isn't to be counted: our own network is gone."""
    assert leg.request is not None
    if leg.request._body_position is not None:
        requests.utils.rewind_body(leg.request)
    again = leg.next(leg.request, leg.attempt, now + AGAIN_S)
    again.excuses = leg.excuses + 1
    return again


def starved(leg: Leg, now: float) -> Leg:
    """Return the leg that follows on one for which no descriptor was left: the same, uncounted, in a moment."""
    again = unsent(leg, now + again_s(leg.starved))
    again.starved = leg.starved + 1
    return again


def unsent(leg: Leg, not_before: float) -> Leg:
    """Return the leg that follows on one that wasn't sent after all: the same, uncounted."""
    assert leg.request is not None
    if leg.request._body_position is not None:
        requests.utils.rewind_body(leg.request)
    again = leg.next(leg.request, leg.attempt, not_before)
    again.legs, again.kind = leg.legs - 1, leg.kind
    return again


def _is_blocked(limits: HostLimits, response: requests.Response) -> bool:
    if is_block(response.status_code, response.headers):
        return True
    judge = limits.is_block
    try:
        return judge is not None and bool(judge(response))
    except Exception as error:  # a user's code; what it can't judge is no block
        _log.error("is_block failed", url=redact_url(response.url), exc_info=error)
        return False


def _prepare(leg: Leg, session: Session) -> requests.PreparedRequest:
    target, given = leg.target, leg.run.options.request
    parts: dict[str, Any] = {name: given.get(name) for name in _PREPARED}
    if target.headers:
        parts["headers"] = {**(parts["headers"] or {}), **target.headers}
    if target.data is not None:
        parts["data"] = target.data
    if target.params is not None:
        parts["params"] = target.params
    parts["data"] = parts["data"] or {}
    parts["params"] = parts["params"] or {}
    request = session._prepare(target.method, target.url, **parts)
    if not (request.url or "").startswith(("http://", "https://")):
        raise requests.exceptions.InvalidSchema(f"only http and https can be fetched, not {redact_url(target.url)!r}")
    return request


def _accept(leg: Leg, session: Session, response: requests.Response) -> None:
    # A body that nobody will see is read without being judged: a redirect's, and one that is retried.
    if session.get_redirect_target(response) is None and response.status_code < 400:
        leg.run.accept(leg, response)


def _conclude(leg: Leg, session: Session, completion: Completion) -> Leg | Result:
    response, error, exchange = completion.response, completion.error, completion.exchange
    if error is not None and (leg.exchange is None or not isinstance(error, Exception)):
        return _failed(leg, completion, error)  # it was never sent, or isn't to be sent again
    shared, options = session._shared, leg.run.options
    if options.keeps_wire and response is not None:
        kept = getattr(response, "kept", None)  # a mock's has none
        if kept is not None:
            kept.started_s = leg.started_wall_s
    policy = options.retry or policy_of(session, exchange.request.url)
    if error is not None or policy.asks_every_response or policy.is_failure(response.status_code):  # type: ignore[union-attr]
        waited_s = leg.waited_s
        decision = decide(
            session,
            policy,
            exchange.request,
            response,
            error,
            leg.attempt,
            Deadline(None) if options.is_deadline_of_leg else exchange.deadline,
            waited_s + completion.elapsed_s,
            waited_s,
        )
        if not isinstance(decision, GiveUp):
            too_long = options.max_wait_s is not None and waited_s + decision.delay_s > options.max_wait_s
            if not too_long:
                if response is not None:
                    response.close()
                if exchange.request._body_position is not None:
                    requests.utils.rewind_body(exchange.request)
                return leg.next(exchange.request, leg.attempt + 1, shared.clock.monotonic() + decision.delay_s)
    if error is not None:
        return _failed(leg, completion, error)
    assert response is not None
    status = response.status_code
    if status < 300:
        return _answered(leg, completion, Outcome.OK)
    if options.allow_redirects and session.get_redirect_target(response) is not None:
        limit = session.max_redirects if options.max_redirects is None else options.max_redirects
        if len(leg.hops) >= limit:
            error = requests.TooManyRedirects(f"Exceeded {limit} redirects.", response=response)
            return _failed(leg, completion, error)
        response.history = list(leg.history)
        hop = session.next_hop(response, exchange)
        if hop is not None:
            if not (hop.url or "").startswith(("http://", "https://")):
                raise requests.exceptions.InvalidSchema(
                    f"a redirect led to {redact_url(hop.url or '')!r}; only http and https can be fetched"
                )
            again = leg.next(hop, 1, 0.0)
            again.host, again.avoided = host_of(hop.url or ""), ()
            again.hops = (*leg.hops, Hop(redact_url(response.url), response.status_code))
            again.history = (*leg.history, response)
            if options.owns is not None and not options.owns(again.host):
                return Moved.of(leg, again, completion)
            return again
    return _answered(leg, completion, Outcome.HTTP_ERROR if status >= 400 else Outcome.OK)


def _answered(leg: Leg, completion: Completion, outcome: Outcome) -> Result:
    response: Any = completion.response
    response.history = list(leg.history)
    return Result.answered(
        leg.target,
        outcome,
        response,
        leg.hops,
        leg.legs,
        leg.started_wall_s,
        completion.elapsed_s,
        leg.waited_s,
    )


def _failed(leg: Leg, completion: Completion, error: BaseException) -> Result:
    return Result(
        target=leg.target,
        outcome=Outcome.FAILED,
        reason="cancelled" if isinstance(error, (Cancelled, PoolClosed)) else None,
        error=error,
        response=completion.response,
        redirects=leg.hops,
        attempts=leg.legs,
        started_at_s=leg.started_wall_s,
        elapsed_s=completion.elapsed_s if leg.legs else None,
        waited_s=leg.waited_s,
    )


def _as_request_error(error: BaseException) -> BaseException:
    """Return an error of preparing as requests says it; its parsers let bare ValueErrors through."""
    if isinstance(error, (requests.RequestException, CrawlPoolError)) and not isinstance(error, ConfigError):
        return error
    if isinstance(error, (ValueError, TypeError)):
        return requests.exceptions.InvalidURL(f"the request can't be prepared: {error}")
    return error
