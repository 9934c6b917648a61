"""The gate and what came too late: nothing goes out to a host that has refused since it was taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

pytest.importorskip("pycurl")

from crawlpool.clock import Deadline
from crawlpool.errors import TakenBack
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl.adapter import CurlAdapter
from crawlpool.transport.curl.gate import ABORT, OK, Connections, Gate
from crawlpool.transport.curl.poller import Poller


@pytest.fixture
def adapter() -> Iterator[CurlAdapter]:
    """Give an adapter by itself."""
    made = CurlAdapter()
    yield made
    made.close()


def transfer_of(adapter: CurlAdapter, url: str) -> Any:
    """Return the transfer of a request, not yet begun."""
    settings: dict[str, Any] = {"stream": False, "timeout": None, "verify": True, "cert": None, "proxies": {}}
    return adapter.transfer_for(Exchange(requests.Request("GET", url).prepare(), settings, Deadline(None)))


def test_what_is_late_does_not_go_out(adapter: CurlAdapter) -> None:
    """A request that is too late by the moment at which it was last seen what had come is taken back, unsent."""
    poller = Poller()
    try:
        gate, transfer = Gate(Connections(poller.forget, poller=poller), is_multiplexed=False), None
        for looked_at, verdict in ((5.0, OK), (3.0, ABORT)):
            transfer = transfer_of(adapter, "http://127.0.0.1/")
            transfer.exchange.is_late = lambda at: at < 4
            poller.looked_at = looked_at
            gate.begin(transfer)
            assert gate.before_send("127.0.0.1", "127.0.0.1", 80, 50_000) == verdict
        assert transfer is not None and isinstance(transfer.error, TakenBack)
    finally:
        poller.close()
