"""An operator's word about a host of a job that doesn't run: written to the ledger, where the next run finds it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from crawlpool.errors import ConfigError, JobError
from crawlpool.ledger.lock import JobLock
from crawlpool.ledger.schema import NAME, open_to_write, transaction, trouble_told
from crawlpool.politeness import NOTHING, Order, Told
from crawlpool.redact import one_line
from crawlpool.steering import HostStanding, host_named

if TYPE_CHECKING:
    import sqlite3

_ORDERS = {"hold": Order.HOLD, "release": Order.GO, "skip": Order.SKIP}
_KEEP = """
INSERT INTO host_state (name, orders) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET orders = excluded.orders
"""


def order_host(path: str, host: str, action: str, delay_s: float | None = None) -> HostStanding:
    """Say something about a host of a job that doesn't run.

    Args:
        path: of the job's folder; there is a job.
        host: its name or address, without a port.
        action: ``hold``, ``release``, ``skip`` or ``delay``, as ``Crawl`` has them.
        delay_s: with ``delay``: the seconds, or ``None`` for the run's own limits.

    Returns:
        How the host stands now.

    Raises:
        ConfigError: when it is no host's name, or the delay can't be.
        JobError: when a run has the job, or it is damaged.
        SinkError: when it can't be written.
    """
    name = host_named(host)
    ledger = os.path.join(path, NAME)
    with JobLock(path), trouble_told(ledger):
        database = open_to_write(ledger)
        try:
            told = _told(database, name, path)
            told = told.delayed(delay_s) if action == "delay" else told.ordered(_ORDERS[action])
            with transaction(database):
                database.execute(_KEEP, (name, None if told.is_nothing else json.dumps(told.fields)))
                if action == "release":  # whatever holds it: no refusal and no block counts any more
                    let_go = "UPDATE host_state SET cooled_until = NULL, is_blocked = 0 WHERE name = ?"
                    database.execute(let_go, (name,))
            return _standing(database, name, told)
        finally:
            database.close()


def _told(database: sqlite3.Connection, name: str, path: str) -> Told:
    row = database.execute("SELECT orders FROM host_state WHERE name = ?", (name,)).fetchone()
    if row is None or row[0] is None:
        return NOTHING
    try:
        fields: Any = json.loads(row[0])
        return Told.of(fields)
    except (ValueError, TypeError, RecursionError, ConfigError):
        raise JobError(f"{one_line(path)}: the ledger is damaged: what was said of {name} can't be read") from None


def _standing(database: sqlite3.Connection, name: str, told: Told) -> HostStanding:
    number = database.execute("SELECT id FROM host WHERE name = ?", (name,)).fetchone()
    waiting = 0
    if number is not None:
        query = "SELECT 1 FROM target WHERE state = 0 AND host = ? LIMIT ?"
        given = (number[0], HostStanding.COUNTED)
        waiting = int(database.execute(f"SELECT count(*) FROM ({query})", given).fetchone()[0])
    return HostStanding(name, told.is_held, told.is_skipped, told.delay_s, waiting, number is not None)
