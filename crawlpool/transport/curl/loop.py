"""The I/O thread: it alone touches libcurl's multi handle, and each easy handle that is in it."""

from __future__ import annotations

import collections
import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S
from crawlpool.errors import PoolClosed
from crawlpool.events import logger
from crawlpool.transport.curl.budget import MemoryBudget
from crawlpool.transport.curl.gate import Connections, is_planted, let_go
from crawlpool.transport.curl.handle import Handle
from crawlpool.transport.curl.header import early_response
from crawlpool.transport.curl.limits import Limits
from crawlpool.transport.curl.naming import Naming
from crawlpool.transport.curl.orders import Orders
from crawlpool.transport.curl.poller import LONG_S, Poller
from crawlpool.transport.lifeline import LegEnd

if TYPE_CHECKING:
    from crawlpool.transport.curl.library import EngineSettings
    from crawlpool.transport.curl.transfer import Inbox, Transfer
    from crawlpool.transport.resolver import Resolver

_log = logger("curl")
_SPARE_HANDLES = 64
_LEAST_BATCH, _MOST_BATCH = 8, 64  # ended transfers that are handed over in one go, if so many have ended
_QUICK_BYTES = 128 * 1024


class Loop(Orders):
    """One multi handle and the thread that it lives in.

    What ``Orders`` has is anybody's, as are ``retire``, ``descriptors`` and ``transfers``; the rest is the thread's.
    """

    def __init__(self, pycurl: Any, settings: EngineSettings, resolver: Resolver) -> None:
        self._pycurl = pycurl
        multi = self._multi = pycurl.CurlMulti()  # first: where it can't be made, nothing is to be closed
        self._poller = Poller()
        super().__init__(self._poller.wake)
        self.connections = Connections(self._poller.forget, settings.reach, settings.fence, self._poller)
        self._to_call: Any = None  # by this thread, as soon as it may begin transfers
        self._lingers = False  # whether it was closed with transfers that may come to their end
        # Held while libcurl is called, and by a thread that forks: the child must not get a half-done call.
        self.turn = threading.Lock()
        self._running: dict[Transfer, Handle] = {}
        self._naming = Naming(resolver, settings.reach, lambda *found: self.command("resolved", *found))
        self._spare: list[Handle] = []
        budget = settings.memory_budget_bytes
        self._of_handles = (pycurl, self.connections, settings.http, self._header_came, budget is not None)
        self._ended: list[Transfer] = []
        self._limits = Limits()
        self._budget = None if budget is None else MemoryBudget(budget, pycurl.WRITEFUNC_PAUSE)
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._poller.watch)
        multi.setopt(pycurl.M_MAXCONNECTS, settings.connections)
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX if settings.http == "2" else pycurl.PIPE_NOTHING)
        self._thread = threading.Thread(target=self._run, name="crawlpool-io", daemon=True)
        self._thread.start()

    def retire(self) -> bool:
        """Have the thread end with the last of the transfers that run; return whether there are any."""
        told = threading.Event()
        if not self.is_current_thread() and self._tell([("retire", None, told)]):
            while not told.wait(LOOK_S):
                pass
        return self._lingers

    def descriptors(self) -> list[int]:
        """Return the descriptors that a forked child must not touch."""
        ours = [one.reused.fileno() for one in self._running if one.reused is not None]
        return [*self.connections.descriptors(), *self._poller.own_descriptors(), *ours]

    def transfers(self) -> list[Transfer]:
        """Return the running transfers; by who has the ``turn``."""
        return list(self._running)

    # The I/O thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn_once():
                pass
        except BaseException:  # a fault of ours; nobody may wait for ever because of it
            _log.exception("the I/O thread failed")
        finally:
            self._shut()

    def _turn_once(self) -> bool:
        if self._running and time.monotonic() - self._poller.asked_at > LONG_S:  # what has come is taken in first
            self._act(self._poller.wait(0.0))
        with self._lock:
            commands, self._commands = self._commands, collections.deque()
            if self._is_stopping or (self._lingers and not self._running):
                self._commands = commands
                return False
        multi = self._multi
        with self.turn:
            self._obey_all(commands)
            if self._budget is not None:
                self._resume_within_budget(self._budget)
            wait_ms = multi.timeout()
            if wait_ms == 0:
                multi.socket_action(self._pycurl.SOCKET_TIMEOUT, 0)
                self._reap()
                if self.connections.just_reused:
                    self._refuse_planted()
                wait_ms = multi.timeout()
            if time.monotonic() >= self._limits.look_at:
                self._look_at_limits()
        call, self._to_call = self._to_call, None
        if call is not None:
            call()  # not within the turn: it begins transfers
        if self._ended:
            # What else has come by now goes along: to hand over few at a time costs more than the handing over waits.
            batch = min(max(len(self._running) // 2, _LEAST_BATCH), _MOST_BATCH)
            while len(self._ended) < batch and self._act(self._poller.wait(0.0)):
                pass
            self._deliver()
            return True
        wait_s = None if wait_ms < 0 else wait_ms / 1000
        if self._limits.look_at != math.inf:
            left_s = max(self._limits.look_at - time.monotonic(), 0.0)
            wait_s = left_s if wait_s is None else min(wait_s, left_s)
        with self._lock:
            self._is_asleep = True  # before the look: see the lock
            if self._commands or self._is_stopping or wait_s == 0.0:
                wait_s, self._is_asleep = 0.0, False
        ready = self._poller.wait(wait_s)
        with self._lock:
            self._is_asleep = False  # who tells it something now needn't wake it: that is a system call
        self._act(ready)
        return True

    def _act(self, ready: list[tuple[int, int]]) -> bool:
        """Have libcurl read and write what can be; return whether there was anything."""
        if ready:
            with self.turn:
                act = self._multi.socket_action
                for fd, events in ready:
                    act(fd, events)
                self._reap()
                if self.connections.just_reused:
                    self._refuse_planted()
        self._poller.looked_at = self._poller.asked_at
        return bool(ready)

    def _obey_all(self, commands: collections.deque[tuple[str, Any, Any]]) -> None:
        # In a frame of its own that forgets each: a transfer knows its engine, and a thread that sleeps with one in its
        # hands would keep a session that its user dropped, and so itself, alive.
        try:
            while commands:
                self._obey(*commands[0])
                commands.popleft()
        except BaseException:  # a fault of ours: what is left ends with the thread
            self._commands.extendleft(reversed(commands))
            raise

    def _obey(self, what: str, transfer: Transfer, argument: Any) -> None:
        if what == "begin":
            now = time.monotonic()
            for transfer in argument:
                self._begin(transfer, now)
        elif what == "retire":
            self._lingers = bool(self._running or self._naming.waiting)
            argument.set()
        elif what == "resolved":
            self._resolved(transfer, argument)
        elif what == "call":
            self._to_call = argument
        elif what == "release":
            if self._budget is not None:
                self._budget.release(transfer)
                self._resume_within_budget(self._budget)
        elif transfer.is_ended:
            if self._budget is not None and what == "end":  # nobody is going to take its body
                self._budget.release(transfer)
        elif what == "end":
            self._stop_one(transfer, argument)
        elif what == "resume":
            self._unpause(transfer)

    # Beginning ---------------------------------------------------------------------------------------------------

    def _begin(self, transfer: Transfer, now: float) -> None:
        if transfer.exchange.is_aborted:
            if not transfer.is_ended:  # else it was aborted before it was handed over, and that order came first
                self._stop_one(transfer, LegEnd.CANCELLED)
            return
        try:
            is_known = self._naming.has_addresses(transfer, now)
        except Exception as error:
            transfer.error = error
            self._end(transfer)
            return
        if is_known:
            self._add(transfer, now)
        else:
            self._limits.watch(transfer, now)

    def _resolved(self, transfer: Transfer, found: Any) -> None:
        if self._naming.take(transfer, found):
            if transfer.error is not None:
                self._end(transfer)
            else:
                self._add(transfer, time.monotonic())

    def _add(self, transfer: Transfer, now: float) -> None:
        handle = self._spare.pop() if self._spare else Handle(*self._of_handles)
        try:
            handle.arm(transfer, now)
            if self._budget is not None and transfer.stream is None:
                self._budget.begin(transfer)
                writer = self._budget.writer(transfer, handle.take)
                handle.take_body_by(writer)
            self._multi.add_handle(handle.curl)
        except Exception as error:
            transfer.error = error
            handle.forget()
            self._spare.append(handle)
            self._end(transfer)
            return
        self._running[transfer] = handle
        if transfer.stream is not None:
            transfer.ender = self  # which may outlive its engine's use of it: see retire
        self._limits.watch(transfer, now)

    # Ending ------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        multi = self._multi
        while True:
            waiting, good, bad = multi.info_read()
            for curl in good:
                self._came_to_end(curl.owner, 0, "")
            for curl, code, message in bad:
                self._came_to_end(curl.owner, code, message)
            if not waiting:
                return

    def _came_to_end(self, handle: Handle, code: int, message: str) -> None:
        self._multi.remove_handle(handle.curl)
        transfer = handle.gate.transfer
        if transfer is None:
            return
        transfer.code, transfer.message = (0, "") if transfer.is_bare else (code, message)
        handle.finish(transfer)
        self._spare.append(handle)
        self._running.pop(transfer, None)  # not before: were there a fault of ours above, its waiter would not be told
        if transfer.reused is not None and is_planted(transfer, transfer.reused):
            transfer.reused.shut()
            transfer.is_poisoned = True
        if transfer.is_poisoned and transfer.error is None and not transfer.is_fresh:
            self._begin_afresh(transfer)
        else:
            self._end(transfer)

    def _begin_afresh(self, transfer: Transfer) -> None:
        """Give a transfer a new connection; over the one that it had it got nothing that is an answer to it."""
        transfer.is_fresh, transfer.is_poisoned, transfer.sends = True, False, 0
        transfer.head, transfer.body, transfer.has_header = (), (), False
        let_go(transfer)
        if self._budget is not None:
            self._budget.release(transfer)
            self._budget.ended(transfer)
        self._add(transfer, time.monotonic())

    def _refuse_planted(self) -> None:
        """Part from connections whose answer was there before the request."""
        connections = self.connections
        for transfer in connections.just_reused:
            handle = self._running.get(transfer)
            reused = transfer.reused
            if handle is None or reused is None or len(handle.head) <= transfer.head_start:
                continue
            if not reused.has_read_less_than(1):
                continue
            reused.shut()
            del self._running[transfer]
            self._multi.remove_handle(handle.curl)
            handle.finish(transfer)
            self._spare.append(handle)
            self._begin_afresh(transfer)
        connections.just_reused.clear()

    def _stop_one(self, transfer: Transfer, why: LegEnd) -> None:
        transfer.stopped = why
        handle = self._running.pop(transfer, None)
        if handle is not None:
            self._multi.remove_handle(handle.curl)
            transfer.code = self._pycurl.E_ABORTED_BY_CALLBACK
            handle.finish(transfer)
            self._spare.append(handle)
        self._naming.waiting.discard(transfer)
        self._end(transfer)

    def _end(self, transfer: Transfer) -> None:
        transfer.is_ended = True
        if transfer.reused is not None:
            let_go(transfer)
        if self._budget is not None:
            self._budget.ended(transfer)
            if transfer.stopped is not None:  # nobody is going to take its body
                self._budget.release(transfer)
        if transfer.stream is not None:
            transfer.stream.end()
        if transfer.upload is not None:
            transfer.upload.end()
        self._ended.append(transfer)

    def _deliver(self) -> None:
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        boxes: dict[Inbox, list[Transfer]] = {}
        for transfer in ended:
            box = transfer.inbox
            if box is None:
                transfer.notify()
            else:
                if transfer.is_quick and (len(transfer.body) > 8 or transfer.error is not None):
                    transfer.is_quick = sum(map(len, transfer.body)) < _QUICK_BYTES
                boxes.setdefault(box, []).append(transfer)
        for box, mine in boxes.items():
            box.deliver(mine)

    def _refuse(self, transfers: list[Transfer]) -> None:
        for transfer in transfers:
            if not transfer.is_ended and transfer not in self._running:
                transfer.error = PoolClosed("the session pool is closed")
                self._end(transfer)

    # Along the way -----------------------------------------------------------------------------------------------

    def _header_came(self, transfer: Transfer) -> bool:
        """Show the header to whoever wants it before the body; in a callback of libcurl, so nothing may get out."""
        reused = transfer.reused
        if reused is not None and transfer in self.connections.just_reused and reused.has_read_less_than(1):
            transfer.has_header, transfer.is_poisoned = False, True
            return False
        try:
            if transfer.exchange.accept is not None and transfer.stream is None:
                transfer.exchange.accept(early_response(transfer))
        except BaseException as error:
            transfer.error = error
            return False
        if transfer.stream is not None:
            transfer.deadline_at = math.inf  # how long the reader takes is its own business
            transfer.notify()
        return True

    def _unpause(self, transfer: Transfer) -> None:
        handle = self._running.get(transfer)
        if handle is not None:
            transfer.is_paused = False
            transfer.seen_at = time.monotonic()
            with contextlib.suppress(self._pycurl.error):
                handle.curl.pause(self._pycurl.PAUSE_CONT)

    def _resume_within_budget(self, budget: MemoryBudget) -> None:
        for transfer in budget.to_resume():
            self._unpause(transfer)

    def _look_at_limits(self) -> None:
        now = time.monotonic()
        for transfer in self._limits.exceeded(self._naming.waiting, self._running, now):
            self._stop_one(transfer, LegEnd.DEADLINE)
        if self._budget is not None:
            self._budget.look(now)
            self._resume_within_budget(self._budget)
        is_idle = not self._running and not self._naming.waiting
        while is_idle and len(self._spare) > _SPARE_HANDLES:  # while it is busy, as many as ran at once will again
            self._spare.pop().close()
        self._limits.plan(is_idle=is_idle, now=now)

    def _shut(self) -> None:
        """End what is left as closed, and give everything back; the last thing that the thread does."""
        with self._lock:
            self._is_stopping = True
            commands, self._commands = self._commands, collections.deque()
        with self.turn:
            for what, _, argument in commands:
                if what == "begin":
                    self._refuse(argument)
                elif what == "retire":
                    argument.set()
            for transfer in [*self._running, *self._naming.waiting]:
                transfer.error = transfer.error or PoolClosed("the session pool was closed during the request")
                self._stop_one(transfer, LegEnd.CLOSED)
            for handle in self._spare:
                handle.close()
            self._multi.close()
        self._deliver()
        self._poller.close()
        self._naming.close()
