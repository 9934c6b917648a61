"""A worker for tests: crawls a shard under a lease, and stops itself right before it sends, or right after it looked.

``python -m tests.shards.stopped SHARD LEASE_S TRANSPORT MOMENT COUNT KILLS URL…``. The moment is ``before`` the look at
the fence of request number ``COUNT``, or ``after`` it: between the look and the sending. At its end it prints how many
results it had.
"""

from __future__ import annotations

import signal
import sys
import threading

from crawlpool import HostLimits, Job, SessionPool
from crawlpool.shards import takeover
from crawlpool.shards.held import Held
from crawlpool.shards.keeper import LeaseKeeper

#: The functions that look at the fence last, right before a request's bytes go.
LAST = frozenset(("before_send", "_send_output"))


def stop_at(pool: SessionPool, moment: str, count: int) -> None:
    """Have this process stopped at a moment of one request."""
    slot = pool._shared.fence
    real, looks = slot.may_send, 0

    def may_send() -> bool:
        nonlocal looks
        frame, callers = sys._getframe(1), set()
        while frame is not None and len(callers) < 3:
            callers.add(frame.f_code.co_name)
            frame = frame.f_back  # type: ignore[assignment]
        looks += bool(callers & LAST)
        is_it = bool(callers & LAST) and looks == count
        if is_it and moment == "before":
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, or it would go on for a while
        said = real()
        if is_it and moment == "after":
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return said

    slot.may_send = may_send


def main(shard: str, lease_s: str, transport: str, moment: str, count: str, kills: str, *urls: str) -> None:
    """Crawl URLs under a lease on a shard."""
    with LeaseKeeper(float(lease_s), kills_stopped=kills == "kills") as keeper:
        held = keeper.claim(shard)
        assert isinstance(held, Held)
        epoch = takeover.enter(held)
        with SessionPool(threads=1, transport=transport, trust_env=False) as pool:
            pool.set_fence(keeper.fence())
            stop_at(pool, moment, int(count))
            report = pool.crawl(urls, job=Job(epoch.path), robots=False, limits=HostLimits(concurrency=1))
        print(report.ok, report.failed, report.pending, "held" if held.is_held() else "lost", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
