"""The gate and addresses: libcurl gets no socket for one that must not be reached, and sends nothing to it."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest
import requests

pytest.importorskip("pycurl")

from crawlpool import BlockedAddress
from crawlpool.clock import Deadline
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl.adapter import CurlAdapter
from crawlpool.transport.curl.faults import COULDNT_CONNECT, fault_of
from crawlpool.transport.curl.gate import ABORT, OK, Connections, Gate
from crawlpool.transport.curl.transfer import Transfer


@pytest.fixture
def adapter() -> Iterator[CurlAdapter]:
    made = CurlAdapter()
    yield made
    made.close()


def gate_of(adapter: CurlAdapter, url: str, **proxies: str) -> tuple[Gate, Transfer]:
    settings = {"stream": False, "timeout": None, "verify": True, "cert": None, "proxies": proxies}
    transfer = adapter.transfer_for(Exchange(requests.Request("GET", url).prepare(), settings, Deadline(None)))
    gate = Gate(Connections(lambda _: None), is_multiplexed=False)
    gate.begin(transfer)
    return gate, transfer


def test_no_socket_is_made_for_a_forbidden_address(adapter: CurlAdapter) -> None:
    """Whatever libcurl has read in the URL: it is judged by what it is going to connect to, and the error says so."""
    gate, transfer = gate_of(adapter, "http://www.example/")
    for ip in ("127.0.0.1", "10.0.0.7", "::1", "::ffff:169.254.169.254", "no address"):
        address = types.SimpleNamespace(family=2, socktype=1, protocol=6, addr=(ip, 80))
        assert gate.open_socket(0, address) == -1
        assert isinstance(transfer.no_socket, BlockedAddress)
    transfer.code = COULDNT_CONNECT
    fault = fault_of(transfer)
    assert fault is not None and kind_of(fault) is ErrorKind.BLOCKED_ADDRESS


def test_nothing_is_sent_to_a_forbidden_address(adapter: CurlAdapter) -> None:
    """A connection that is open already is looked at again before each request; a proxy's is the user's own."""
    gate, transfer = gate_of(adapter, "http://www.example/")
    assert gate.before_send("10.0.0.7", "127.0.0.1", 80, 50_000) == ABORT
    assert isinstance(fault_of(transfer), BlockedAddress) and transfer.sends == 0
    for url, ip, proxies in (
        ("http://www.example/", "8.8.8.8", {}),
        ("http://10.0.0.7/", "10.0.0.7", {}),
        ("http://www.example/", "10.0.0.9", {"http": "http://10.0.0.9:3128"}),
    ):
        gate, transfer = gate_of(adapter, url, **proxies)
        assert gate.before_send(ip, "127.0.0.1", 80, 50_000) == OK
