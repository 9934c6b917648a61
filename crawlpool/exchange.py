"""One request sent once, and the same with retries: the whole exchange, body included, under one deadline."""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import time
from typing import TYPE_CHECKING, Any

import requests
from requests.cookies import extract_cookies_to_jar
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from requests.hooks import dispatch_hook
from requests.utils import rewind_body

from crawlpool.config import split_timeout
from crawlpool.cookies import CookieStore
from crawlpool.errors import (
    BlockedAddress,
    Cancelled,
    DeadlineExceeded,
    LeaseLost,
    PoolClosed,
    RequestError,
    causes,
    kind_of,
)
from crawlpool.events import RetryRefused, RetryScheduled, emit, logger, tell
from crawlpool.fence import lost
from crawlpool.redact import redact_url
from crawlpool.retry import Attempt, GiveUp, Retry, RetryPolicy
from crawlpool.shortage import GIVE_UP_S, again_s, is_starved
from crawlpool.transport.base import Exchange
from crawlpool.transport.keeping import keeping, keeps_here
from crawlpool.transport.lifeline import LegEnd
from crawlpool.transport.reach import permit_here
from crawlpool.transport.reading import MOST_REDIRECT_BYTES, has_header, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlpool.clock import Deadline
    from crawlpool.layers import LayeredSession
    from crawlpool.shared import Call

_log = logger("retry")


def send_once(session: LayeredSession, exchange: Exchange) -> requests.Response:
    """Send one request, take its cookies, run its hooks and read its body; no retry, no redirect.

    Raises:
        requests.RequestException: as an adapter does; ``DeadlineExceeded`` when the deadline passed, ``PoolClosed``
            when the pool closed meanwhile.
    """
    if exchange.keeps_wire and not keeps_here():
        with keeping():
            return send_once(session, exchange)
    adapter = session.engine_adapter(exchange)
    if adapter is not None:
        return receive(session, exchange, adapter.perform(exchange))
    request, settings, deadline = exchange.request, exchange.settings, exchange.deadline
    lifeline = session.lifeline
    timeout = settings["timeout"]
    if deadline.is_set:
        timeout = _clipped(timeout, deadline)
    stream = settings["stream"]
    exchange.end = functools.partial(lifeline.abort, exchange)
    lifeline.begin(deadline.at, exchange)
    started = time.perf_counter()
    response: requests.Response | None = None
    named_before = permit_here(exchange.inputs)
    try:
        if exchange.is_aborted:  # looked at after begin(): from here on abort() reaches the socket
            raise Cancelled("the request was aborted", request=request)
        lifeline.fence.check(request)  # here, too: an adapter of the user's doesn't ask
        response = session.get_adapter(request.url).send(  # type: ignore[arg-type]
            request,
            stream=stream,
            timeout=timeout,
            verify=settings["verify"],
            cert=settings["cert"],
            proxies=settings["proxies"],
        )
        response.elapsed = datetime.timedelta(seconds=time.perf_counter() - started)
        response = receive(session, exchange, response, timeout, exchange.accept)
    except Exception as error:
        _discard(response)
        ended = lifeline.end()
        raised = _as_ended(error, ended, deadline, request)
        if raised is error:
            raise
        raise raised from error
    except BaseException:
        _discard(response)
        lifeline.end()
        raise
    finally:
        permit_here(named_before)
    ended = lifeline.end()
    if ended is not None and not stream:
        # The socket was shut under a body that ends with its connection: it looks whole and isn't.
        raise _as_ended(requests.ConnectionError("the connection was shut"), ended, deadline, request)
    return response


def receive(
    session: LayeredSession,
    exchange: Exchange,
    response: requests.Response,
    timeout: Any = None,
    accept: Callable[[requests.Response], None] | None = None,
) -> requests.Response:
    """Do what is to be done with an answer: its hooks, its cookies, and, unless it is streamed, its body.

    Args:
        timeout: what the hooks are told; the exchange's own unless given.
        accept: called before the body is read; an engine has asked already.

    Returns:
        The response, or the one that a hook put in its place.
    """
    request, settings = exchange.request, exchange.settings
    if not exchange.is_quick and request.hooks and request.hooks.get("response"):  # no hook is quick
        told = settings if timeout is None else {**settings, "timeout": timeout}
        named_before = permit_here(exchange.inputs)  # for what a hook sends again: digest auth
        try:
            with keeping() if exchange.keeps_wire else contextlib.nullcontext():
                response = dispatch_hook("response", request.hooks, response, **told)
        finally:
            permit_here(named_before)
    if response.history or has_header(response, "set-cookie") or not isinstance(session.cookies, CookieStore):
        _take_cookies(session, request, response)
    if accept is not None:
        accept(response)
    if exchange.keeps_redirect or session.get_redirect_target(response) is None:
        if not settings["stream"]:
            read_body(response, exchange.max_body_bytes)
    else:
        _read_redirect_body(response, exchange.deadline if settings["stream"] else None)
    return response


def send_with_retries(
    session: LayeredSession, request: requests.PreparedRequest, call: Call, settings: dict[str, Any]
) -> requests.Response:
    """Send a request until it succeeds, its policy gives up, or the call's deadline is near.

    Returns:
        The response; the last one when status retries are used up.

    Raises:
        requests.RequestException: the last error, when retries are used up or make no sense.
        PoolClosed: when the pool closes during a back-off.
    """
    shared = session._shared
    exchange = Exchange(
        request, settings, call.deadline, call.max_body_bytes, call.accept, not call.follows, inputs=call
    )
    if call.deadline.is_past():
        raise DeadlineExceeded("the deadline passed before the request could be sent", request=request)
    policy = call.retry or policy_of(session, request.url)
    if not call.is_counted:  # a redirect's hops are part of the call that was counted
        call.is_counted = True
        shared.budget.deposit()
    number, waited_s, started_at, tries = 1, 0.0, shared.clock.monotonic(), 0
    while True:
        error: Exception | None = None
        response: requests.Response | None = None
        try:
            response = _send_in_turn(session, exchange)
        except Exception as caught:
            error = caught
        if error is not None and is_starved(error, request):
            _wait_for_descriptor(session, exchange, error, tries, shared.clock.monotonic() - started_at)
            tries += 1
            continue
        if shared.shortage.is_on:
            shared.shortage.passed()
        if response is not None and not policy.asks_every_response and not policy.is_failure(response.status_code):
            return response
        elapsed_s = shared.clock.monotonic() - started_at
        decision = decide(session, policy, request, response, error, number, call.deadline, elapsed_s, waited_s)
        if isinstance(decision, GiveUp):
            if error is not None:
                raise error
            return response  # type: ignore[return-value]
        if response is not None:
            response.close()
        if shared.shutdown.wait(decision.delay_s):
            raise PoolClosed("the session pool is closed")
        if request._body_position is not None:
            rewind_body(request)
        number, waited_s = number + 1, waited_s + decision.delay_s


def _wait_for_descriptor(
    session: LayeredSession, exchange: Exchange, error: Exception, tries: int, waited_s: float
) -> None:
    """Wait until a request that had no descriptor is to be tried again: nothing was sent, nobody is to blame.

    Raises:
        DeadlineExceeded: when the deadline is over.
        NoDescriptors: in place of it for a call that has no deadline; and for one whose body can't be read again.
        PoolClosed: when the pool was closed meanwhile.
    """
    shared, deadline, request = session._shared, exchange.deadline, exchange.request
    if shared.shortage.met():
        tell(_log, "shortage", "")
    if not can_resend(request) or (not deadline.is_set and waited_s >= GIVE_UP_S):
        raise error
    left_s = deadline.remaining_s()
    if left_s > 0 and shared.shutdown.wait(min(again_s(tries), left_s)):
        raise PoolClosed("the session pool is closed")
    if deadline.is_past():
        raise DeadlineExceeded("the deadline passed, and no file descriptor was free", request=request) from error
    if request._body_position is not None:
        rewind_body(request)


def _send_in_turn(session: LayeredSession, exchange: Exchange) -> requests.Response:
    turnstile = session._shared.turnstile
    if turnstile is None or session.is_working:
        return send_once(session, exchange)
    turn = None
    while (turn := turnstile.enter(exchange, turn)) is not None:
        request = exchange.request
        try:
            response = send_once(session, exchange)
        except BaseException as error:
            if not turnstile.leave(turn, exchange, None, error) or not can_resend(request):
                raise
        else:
            if not turnstile.leave(turn, exchange, response, None) or not can_resend(request):
                return response
            response.close()
        if request._body_position is not None:
            rewind_body(request)
    return send_once(session, exchange)


def decide(
    session: LayeredSession,
    policy: RetryPolicy,
    request: requests.PreparedRequest,
    response: requests.Response | None,
    error: Exception | None,
    number: int,
    deadline: Deadline,
    elapsed_s: float = 0.0,
    waited_s: float = 0.0,
) -> Retry | GiveUp:
    """Ask the policy what to do after a failure, and log what it says; return its ``Retry`` or ``GiveUp``."""
    shared = session._shared
    if session.retries_by_itself(request.url):  # type: ignore[arg-type]
        return GiveUp("not_transient")  # it has asked its own strategy; the mount logged that it does
    attempt = Attempt(
        number=number,
        method=request.method or "",
        response=response,
        error=error,
        elapsed_s=elapsed_s,
        waited_s=waited_s,
        can_resend=can_resend(request),
    )
    decision = policy.decide(attempt, deadline, shared.budget, shared.clock)
    if policy.is_never or (isinstance(decision, GiveUp) and decision.reason == "not_transient"):
        return decision
    cause = f"status {response.status_code}" if response is not None else str(kind_of(error or Exception()))
    url = redact_url(request.url or "")
    if isinstance(decision, GiveUp):
        if number > 1 or decision.reason != "attempts":
            emit(_log, "info", RetryRefused(url, request.method or "", number, decision.reason, cause))
    else:
        emit(_log, "info", RetryScheduled(url, request.method or "", number, round(decision.delay_s, 3), cause))
    return decision


@contextlib.contextmanager
def bounded(session: LayeredSession, response: requests.Response, deadline: Deadline) -> Iterator[None]:
    """Hold the reading of a streamed response to a deadline, and to the life of the pool, in the session's thread.

    Raises:
        DeadlineExceeded: in place of what the reading raised, when the deadline passed.
        PoolClosed: in the same way, when the pool was closed; also when the body looks whole then.
    """
    lifeline, request = session.lifeline, response.request
    lifeline.enter()
    try:
        lifeline.begin(deadline.at, response)
        hold = getattr(response.raw, "hold_to", None)
        if hold is not None:  # its bytes come through an engine, which ends it at the deadline
            hold(deadline.at)
        key = getattr(getattr(response.raw, "_connection", None), "_key", None)
        try:
            if key is not None:  # a mock's answer has no socket
                lifeline.use(key)
            yield
        except Exception as error:
            raised = _as_ended(error, lifeline.end(), deadline, request)
            if raised is error:
                raise
            raise raised from error
        except BaseException:
            lifeline.end()
            raise
        ended = lifeline.end()
        if ended is not None:
            raise _as_ended(requests.ConnectionError("the connection was shut"), ended, deadline, request)
    finally:
        if lifeline.leave():
            session.close()


def can_resend(request: requests.PreparedRequest) -> bool:
    """Tell whether the request's body can be sent again: bytes can, a file that seeks can, a generator can't."""
    body = request.body
    if body is None or isinstance(body, (bytes, str)):
        return True
    return isinstance(request._body_position, int) and hasattr(body, "seek")


def policy_of(session: LayeredSession, url: Any) -> RetryPolicy:
    """Return the retry policy for ``url``: its site's, or the pool's."""
    site = session._shared.sites.of(url) if session._shared.sites.current else None
    own = None if site is None else RetryPolicy.given(site.retry)
    return own or session._shared.retry


def _take_cookies(session: LayeredSession, request: requests.PreparedRequest, response: requests.Response) -> None:
    jar = session.cookies
    for one in response.history:  # a hook that sent again: digest auth
        extract_cookies_to_jar(jar, one.request, one.raw)
    if "set-cookie" in response.headers or not isinstance(jar, CookieStore):
        extract_cookies_to_jar(jar, request, response.raw)


def _discard(response: requests.Response | None) -> None:
    """Close an answer that its caller will never see; what is left of it is still on its connection."""
    if response is not None:
        connection = getattr(response.raw, "_connection", None)
        if connection is not None:
            connection.close()
        response.close()


def _read_redirect_body(response: requests.Response, stream_deadline: Deadline | None) -> None:
    # Nobody looks at it; a broken one must not keep the redirect from being followed. requests does the same. Of a
    # stream it would read it without end.
    hold = None if stream_deadline is None else getattr(response.raw, "hold_to", None)
    if hold is not None and stream_deadline is not None:  # the deadline was for the header alone
        hold(stream_deadline.at)
    try:
        read_body(response, MOST_REDIRECT_BYTES)
    except (ChunkedEncodingError, ContentDecodingError, RequestError):
        response._content = b""
        response._content_consumed = True


def _clipped(timeout: Any, deadline: Deadline) -> tuple[float, float]:
    left = max(deadline.remaining_s(), 0.001)
    connect_s, read_s = split_timeout(timeout)
    return (
        left if connect_s is None else min(connect_s, left),
        left if read_s is None else min(read_s, left),
    )


_CLOSE_S = 0.01  # a wait for what is left of the time may end a little before it is over
_HELD_BACK = (BlockedAddress, LeaseLost)
_MAY_BE_LATE = (requests.Timeout, requests.ConnectionError, ChunkedEncodingError)


def _as_ended(error: Exception, ended: LegEnd | None, deadline: Deadline, request: Any) -> Exception:
    """Return what an error really means: the pool closed, the request was aborted, or its deadline passed."""
    if not isinstance(error, _HELD_BACK):  # by an adapter of the user's: urllib3 has wrapped it
        error = next((one for one in causes(error) if isinstance(one, _HELD_BACK)), error)
    if isinstance(error, _HELD_BACK):
        error.request = request
        return error
    if ended is LegEnd.CLOSED:
        return error if isinstance(error, PoolClosed) else PoolClosed("the session pool was closed during the request")
    if ended is LegEnd.LEASE:
        return lost(request)
    if ended is LegEnd.CANCELLED:
        return Cancelled("the request was aborted", request=request)
    is_late = ended is LegEnd.DEADLINE
    if not is_late and deadline.at != math.inf and isinstance(error, _MAY_BE_LATE):
        is_late = deadline.remaining_s() < _CLOSE_S
    if is_late and not isinstance(error, DeadlineExceeded):
        return DeadlineExceeded("the deadline passed before the answer's last byte", request=request)
    return error
