"""Names to addresses: a bounded resolver of our own, whose slow names don't stall the others.

libcurl has at most 20 threads for this and no setting for it; a few slow names stall every transfer. And the addresses
must be known before the connection is made, so that they can be checked.
"""

from __future__ import annotations

import collections
import contextlib
import encodings.idna  # noqa: F401  # else the first name would bring it, perhaps when no file can be opened any more
import ipaddress
import math
import queue
import socket
import threading
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from crawlpool.clock import SYSTEM_CLOCK
from crawlpool.config import check, is_count, is_seconds
from crawlpool.errors import PoolClosed
from crawlpool.events import logger
from crawlpool.shortage import SHORT, shortage_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crawlpool.clock import Clock

#: What an ask is answered with.
Answered: TypeAlias = "tuple[str, ...] | BaseException"
_Error = TypeVar("_Error", bound=OSError)
_Entry: TypeAlias = "tuple[tuple[str, ...] | socket.gaierror, float]"  # and the moment until which it holds

MAX_ADDRESSES = 8
IDLE_S = 10.0
_MAX_NAME_CHARS = 253  # RFC 1035, 2.3.4: 255 bytes as sent, two of which are not text

_log = logger("resolver")


class Resolver:
    """Looks names up in a few threads of its own, and keeps what it found.

    What was cached is what is connected to: whoever checks an address and then connects must use the addresses of one
    answer, and not ask again (DNS rebinding). Addresses are kept by name; the port decides nothing but an override.

    Args:
        threads: how many names may be looked up at once. Threads start as they are needed and end after 10 s idle.
        ttl_s: seconds for which addresses are kept. This is our number: ``getaddrinfo`` doesn't tell the record's own.
        failure_ttl_s: seconds for which a failure is kept.
        max_names: how many names are kept; above it the oldest is forgotten.
        overrides: addresses, or names to look up instead, by (host, port). They always win; one leads to no other.
        clock: where the time of the cache comes from.
        lookup: takes a name and a port and returns addresses as text; ``socket.getaddrinfo`` unless given.

    Raises:
        ConfigError: for a number that can't be.

    Thread-safe.
    """

    def __init__(
        self,
        *,
        threads: int = 8,
        ttl_s: float = 60.0,
        failure_ttl_s: float = 1.0,
        max_names: int = 10_000,
        overrides: Mapping[tuple[str, int], str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        lookup: Callable[[str, int], Sequence[str]] | None = None,
    ) -> None:
        check(is_count(threads), "threads", threads, "a whole number of at least 1")
        check(is_count(max_names), "max_names", max_names, "a whole number of at least 1")
        check(is_seconds(ttl_s, zero=True), "ttl_s", ttl_s, "a number of seconds")
        check(is_seconds(failure_ttl_s, zero=True), "failure_ttl_s", failure_ttl_s, "a number of seconds")
        self._size, self._max_names = threads, max_names
        self._ttl_s, self._failure_ttl_s = ttl_s, failure_ttl_s
        self._overrides = {(_plain(host), port): _plain(to) for (host, port), to in (overrides or {}).items()}
        self._now = clock.monotonic
        self._lookup = lookup or _system_lookup
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        # Guards _names, _asked, _queue, _threads, _busy, _made and _is_closed. _names and _is_closed are read without.
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # something is queued, or the resolver was closed
        self._names: dict[str, _Entry] = {}  # in the order in which they came
        self._asked: dict[str, list[Callable[[Answered], None]]] = {}  # queued and looked up, with who waits for it
        self._queue: collections.deque[tuple[str, int]] = collections.deque()
        self._threads: set[threading.Thread] = set()
        self._busy: set[threading.Thread] = set()  # those of _threads that look up or tell
        self._made = 0

    def cached(self, host: str, port: int) -> tuple[str, ...] | None:
        """Return what is known without waiting; ``None`` when the name must be looked up.

        Args:
            host: a name, or an IP address as a URL has it, with or without brackets.
            port: it matters to overrides only.

        Returns:
            Up to 8 addresses as text, in the order of ``getaddrinfo``.

        Raises:
            socket.gaierror: when the name failed less than ``failure_ttl_s`` ago, or can't be one.

        Thread-safe.
        """
        known = self._known(host, port)
        if known is None or isinstance(known, tuple):
            return known
        raise _fresh(known)

    def ask(self, host: str, port: int, answered: Callable[[Answered], None]) -> None:
        """Have ``answered`` called with the addresses or with the error. Never blocks.

        Asks for a name that is being looked up share that lookup. While all threads are busy, asks wait in order.

        Args:
            host: as for ``cached``.
            port: as for ``cached``.
            answered: called once, under no lock: at once when the answer is known, otherwise in a thread of the
                resolver. While it runs no other name is looked up in that thread. What it raises is logged. It gets
                addresses, a ``socket.gaierror``, or ``PoolClosed`` when the resolver was closed before the answer
                came. What else a ``lookup`` raises is handed on and not kept, as is an ``OSError`` of there being no
            descriptor left.

        Thread-safe.
        """
        known: Answered | None = PoolClosed("the session pool is closed") if self._is_closed else None
        known = known or self._known(host, port) or self._join(self._target(host, port), port, answered)
        if known is not None:
            _tell(host, answered, known)

    def resolve(self, host: str, port: int, timeout_s: float | None) -> tuple[str, ...]:
        """Return the addresses; wait for them if need be.

        Must not be called in what ``ask`` calls: the thread that would have to look the name up is the one that waits.

        Args:
            host: as for ``cached``.
            port: as for ``cached``.
            timeout_s: seconds to wait at most; ``None`` waits as long as the lookup takes.

        Raises:
            socket.gaierror: when the name can't be resolved.
            TimeoutError: when the answer didn't come in time. The lookup goes on, and what it finds is kept.
            PoolClosed: when the resolver is closed, or was while this waited.

        Thread-safe.
        """
        box: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        answered = box.put
        self.ask(host, port, answered)
        try:
            answer = box.get(timeout=None if timeout_s is None else min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))
        except queue.Empty:
            self._give_up(self._target(host, port), answered)
            raise TimeoutError(f"{host}: no address within {timeout_s} s") from None
        except BaseException:  # Ctrl-C, for one
            self._give_up(self._target(host, port), answered)
            raise
        if isinstance(answer, tuple):
            return answer
        try:
            raise answer
        finally:
            del answer  # its traceback has this frame: without this the two would keep each other

    def close(self) -> None:
        """Answer what waits with ``PoolClosed`` and end the threads; may be called again, and from any thread.

        A lookup under way isn't waited for: nothing can interrupt ``getaddrinfo``. Its thread is a daemon and ends
        after it. Threads that do nothing have ended when this returns.
        """
        with self._lock:
            self._is_closed = True
            unanswered, self._asked = self._asked, {}
            self._queue.clear()
            self._names = {}
            idle = self._threads - self._busy
            self._work.notify_all()
        for host, waiting in unanswered.items():
            for answered in waiting:
                _tell(host, answered, PoolClosed("the session pool was closed before the name was resolved"))
        for thread in idle:
            thread.join()

    def _reset_after_fork(self) -> None:
        """In a forked child: no thread, no ask and no name of the parent's; what was asked is the parent's affair."""
        self._begin()

    def _target(self, host: str, port: int) -> str:
        """Return the name to look up, as the cache has it."""
        plain = _plain(host)
        return self._overrides.get((plain, port), plain)

    def _known(self, host: str, port: int) -> tuple[str, ...] | socket.gaierror | None:
        if self._overrides:
            host = self._target(host, port)
        # As a URL has it the name is in the cache's form already; a dict read is safe beside a write.
        entry = self._names.get(host) or self._known_otherwise(host)
        return None if entry is None or entry[1] <= self._now() else entry[0]

    def _known_otherwise(self, host: str) -> _Entry | None:
        """Find what ``_names`` doesn't have as written: another spelling, an IP address, what can't be a name."""
        plain = _plain(host)
        # CPython hands a name with a NUL to the system as far as the NUL: another name than was checked.
        if not plain or plain.endswith(".") or len(plain) > _MAX_NAME_CHARS or "\0" in plain:
            return socket.gaierror(socket.EAI_NONAME, "no host name: empty, too long, or with a NUL"), math.inf
        address = _literal(plain)
        if address is None:
            return self._names.get(plain)
        entry = (address,), math.inf
        with self._lock:
            self._keep(host, entry)  # as written, so that the next time is one look into the dict
        return entry

    def _keep(self, name: str, entry: _Entry) -> None:
        """Put an entry into the cache. The lock is held."""
        self._names.pop(name, None)  # so that it is the newest
        if len(self._names) >= self._max_names:
            del self._names[next(iter(self._names))]
        self._names[name] = entry

    def _join(self, name: str, port: int, answered: Callable[[Answered], None]) -> Answered | None:
        """Queue a lookup or join the one there is; return the answer instead if it came meanwhile."""
        now = self._now()
        with self._lock:
            if self._is_closed:
                return PoolClosed("the session pool is closed")
            entry = self._names.get(name)
            if entry is not None and entry[1] > now:
                return entry[0]
            waiting = self._asked.get(name)
            if waiting is None:
                # In this order: should Ctrl-C come between the two, a lookup is done for nobody, and no ask hangs.
                self._queue.append((name, port))
                waiting = self._asked[name] = []
            waiting.append(answered)
            try:
                self._ensure_thread()
            except RuntimeError as error:  # the system has no thread left, and there is none of ours either
                waiting.remove(answered)
                return error.with_traceback(None)
        return None

    def _ensure_thread(self) -> None:
        """See that somebody takes what is queued. The lock is held."""
        self._work.notify()
        if len(self._queue) <= len(self._threads) - len(self._busy) or len(self._threads) >= self._size:
            return
        self._made += 1
        thread = threading.Thread(target=self._run, name=f"crawlpool-resolver-{self._made}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException as error:
            self._threads.discard(thread)
            if not self._threads or not isinstance(error, RuntimeError):
                raise

    def _give_up(self, name: str, answered: Callable[[Answered], None]) -> None:
        """Forget an ask; where nobody else waits for the name and it isn't being looked up, it never will be."""
        with self._lock, contextlib.suppress(ValueError):  # the answer came after all
            self._asked.get(name, []).remove(answered)

    def _run(self) -> None:
        thread = threading.current_thread()
        while (work := self._take(thread)) is not None:
            self._serve(*work)

    def _take(self, thread: threading.Thread) -> tuple[str, int] | None:
        """Wait for a name to look up; ``None`` when the thread shall end, of which it is told by then."""
        with self._work:
            self._busy.discard(thread)
            while not self._is_closed:
                while self._queue:
                    name, port = self._queue.popleft()
                    if self._asked.get(name):
                        self._busy.add(thread)
                        return name, port
                    self._asked.pop(name, None)  # all who asked gave up
                if not self._work.wait(IDLE_S) and not self._queue:
                    break
            self._threads.discard(thread)
            return None

    def _serve(self, name: str, port: int) -> None:
        """Look a name up and tell it. A method of its own, so that an idle thread holds on to nobody's callback."""
        found = self._look_up(name, port)
        until = self._now() + (self._ttl_s if isinstance(found, tuple) else self._failure_ttl_s)
        with self._lock:
            waiting = self._asked.pop(name, [])
            if isinstance(found, (tuple, socket.gaierror)) and not self._is_closed:
                self._keep(name, (found, until))
        for answered in waiting:
            _tell(name, answered, found)

    def _look_up(self, name: str, port: int) -> Answered:
        try:
            name.encode("idna")  # as getaddrinfo does, whose error for it is no OSError
            addresses = tuple(dict.fromkeys(self._lookup(name, port)))
        except socket.gaierror as error:
            # For want of a descriptor the system can't read its own files, and says that there is no such name.
            return shortage_now() or _fresh(error)
        except UnicodeError:
            return socket.gaierror(socket.EAI_NONAME, "no host name: a label is empty, too long or can't be written")
        except OSError as error:
            if error.errno in SHORT:
                return error.with_traceback(None)
            return socket.gaierror(socket.EAI_FAIL, error.strerror or str(error))
        except BaseException as error:
            return error
        return addresses[:MAX_ADDRESSES] or socket.gaierror(socket.EAI_NONAME, "the name has no address")


def _tell(host: str, answered: Callable[[Answered], None], answer: Answered) -> None:
    """Call back. What that raises would end the resolver's thread, or keep others from their answers."""
    try:
        answered(_fresh(answer) if isinstance(answer, OSError) else answer)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # Ctrl-C, which comes only there
        _log.exception("a callback failed to take an answer", host=host)


def _fresh(error: _Error) -> _Error:
    """Return a copy: an exception that is raised in several threads would gather the frames of all."""
    return type(error)(*error.args)


def _plain(host: str) -> str:
    """Return a host as the cache has it: no brackets, lower case, without the dot of the root."""
    return host.strip("[]").removesuffix(".").lower()


def _literal(host: str) -> str | None:
    """Return an IP address in its usual spelling; ``None`` for a name."""
    if ":" not in host and not host[-1].isdigit():  # a cheap no for nearly every name
        return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _system_lookup(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    return [str(address[0]) for family, *_, address in found if family in (socket.AF_INET, socket.AF_INET6)]
