"""What a run answers to those who ask it through its control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.errors import ConfigError
from crawlpool.observe.pace import Meter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.books import Progress
    from crawlpool.control import HostsNow
    from crawlpool.crawl import Crawl
    from crawlpool.observe.pace import Pace
    from crawlpool.steering import HostStanding


class Desk:
    """Answers requests about one crawl; in one thread.

    Args:
        crawl: the crawl.
        total: how many targets there will be; ``None`` where nobody knows.
        done: how many had their outcome before, in earlier runs of a job.
    """

    def __init__(self, crawl: Crawl, total: int | None, done: int = 0) -> None:
        self._crawl = crawl
        self._meter = Meter(total, done=done)

    def look(self) -> None:
        """Look how far the crawl is; now and then, so that the rate is one of late."""
        self._meter.read(self._crawl.progress())

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request."""
        action, host = request.get("do"), request.get("host")
        crawl = self._crawl
        try:
            if action == "status":
                progress = crawl.progress()
                pace = self._meter.read(progress)
                return {"ok": True, "status": status_of(progress, pace, crawl.hosts_told(), crawl.hosts_now())}
            if action == "delay":
                return {"ok": True, "host": fields_of(crawl.set_delay(host, request.get("delay_s")))}  # type: ignore[arg-type]
            if action in ("hold", "release", "skip"):
                return {"ok": True, "host": fields_of(getattr(crawl, action)(host))}
        except ConfigError as error:
            return {"ok": False, "is_usage": True, "error": str(error)}
        return {"ok": False, "is_usage": True, "error": "it asks for nothing that is known here"}


def fields_of(standing: HostStanding) -> dict[str, Any]:
    """Return how a host stands, as fields."""
    return {
        "host": standing.host,
        "is_held": standing.is_held,
        "is_skipped": standing.is_skipped,
        "delay_s": standing.delay_s,
        "waiting": standing.waiting,
        "is_known": standing.is_known,
        "has_more": standing.waiting >= standing.COUNTED,
    }


def status_of(progress: Progress, pace: Pace, told: Sequence[HostStanding], now: HostsNow) -> dict[str, Any]:
    """Return how far a crawl is, and which hosts it doesn't ask as it asks the others.

    Args:
        progress: the last snapshot of the crawl.
        pace: what was made of it.
        told: the hosts of which an operator has said something.
        now: the hosts that are left alone, or wait longest.
    """
    report = progress.report
    operator = {one.host: one for one in told}
    held = [{"host": one.host, "by": "operator", "waiting": one.waiting} for one in told if one.is_held]
    blocked = [host for host in now.blocked if not (host in operator and operator[host].is_held)]
    return {
        "elapsed_s": round(report.elapsed_s, 3),
        "inputs": report.inputs,
        "found": report.found,
        "ok": report.ok,
        "http_error": report.http_error,
        "failed": report.failed,
        "disallowed": report.disallowed,
        "skipped": report.skipped,
        "queued": progress.queued,
        "running": progress.running,
        "rate": round(pace.rate, 3),
        "total": pace.total,
        "eta_s": None if pace.eta_s is None else round(pace.eta_s, 3),
        "held": held + [{"host": host, "by": "blocks", "waiting": 0} for host in blocked],
        "skipped_hosts": [one.host for one in told if one.is_skipped],
        "delays": [{"host": one.host, "delay_s": one.delay_s} for one in told if one.delay_s is not None],
        "given_up": list(now.given_up),
        "resting": [{"host": host, "for_s": round(seconds, 3)} for host, seconds in now.resting],
        "slowest": [{"host": one.host, "mean_s": round(one.mean_s, 3)} for one in progress.slowest],
    }
