"""Ctrl-C while the main thread waits for libcurl: it comes at once, and the process ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.transport.curl import library
from tests.cli.command import environment, finish
from tests.gates import PATIENCE_S, Gate, until
from tests.house import ROOT

pytestmark = [
    pytest.mark.skipif(not library.is_installed(), reason="needs pycurl"),
    pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process"),
]

_PROGRAM = """
import itertools, signal, sys, threading
from crawlpool import SessionPool
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
url = sys.argv[1]
pool = SessionPool(transport="curl", retry=False, trust_env=False, timeout=None, deadline=None, threads=2)
try:
    with pool:
        pool.get(url + "ready")
        {call}
    print("came to an end")
except KeyboardInterrupt:
    left = [one.name for one in threading.enumerate() if one.name.startswith("crawlpool")]
    print("interrupted", pool.is_closed, pool.statistics().connections_open, left)
"""

CALLS = {
    "header": 'pool.get(url + "held")',
    "header of a stream": 'pool.get(url + "held", stream=True)',
    "body of a stream": 'pool.get(url + "part", stream=True).content',
    "body": 'pool.get(url + "part")',
    "upload": 'pool.post(url + "held", data=itertools.repeat(b"x" * 1000))',
    "future": 'pool.submit("GET", url + "held").result()',
    "map": 'list(pool.map([url + "held"] * 10))',
    "crawl": 'pool.crawl([url + "held"] * 10)',
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_ends_the_wait(call: str) -> None:
    """``KeyboardInterrupt`` comes out of the call, the pool closes, nothing is left or printed, the exit is clean."""
    with Gate() as gate:
        arrived = threading.Event()

        def body(request: Request) -> Iterator[bytes]:
            yield b"part"
            arrived.set()
            yield gate(request)

        def part(request: Request) -> Answer:
            return Answer(200, {"Content-Length": "100"}, body(request))

        def held(request: Request) -> bytes:
            arrived.set()
            return gate(request)

        with SiteServer({"/ready": b"x", "/part": part, "/held": held}) as server, gate:
            code = _PROGRAM.replace("{call}", CALLS[call])
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", code, server.url("/")],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=ROOT,
                env=environment(),
            )
            if call == "upload":  # its request is never whole
                until(lambda: server.connections == 2)
            else:
                assert arrived.wait(PATIENCE_S), process.communicate()
            process.send_signal(signal.SIGINT)
            code_out = finish(process)
            held = gate.held
            gate.open()
    assert code_out == (0, "interrupted True 0 []\n", "")
    assert held or call == "upload", "the answer came first"


def test_an_interrupt_of_one_call_leaves_the_pool_whole() -> None:
    """Who catches it goes on with the same pool: the interrupted transfer is gone, with its connection."""
    program = """
import signal, sys
from crawlpool import SessionPool
signal.signal(signal.SIGINT, signal.default_int_handler)
url = sys.argv[1]
with SessionPool(transport="curl", retry=False, trust_env=False, timeout=None, deadline=None) as pool:
    try:
        pool.get(url + "held")
    except KeyboardInterrupt:
        print(pool.get(url + "ready").text)
        print(pool.submit("GET", url + "ready").result().text)
"""
    with Gate() as gate, SiteServer({"/ready": b"on", "/held": gate}) as server, gate:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, server.url("/")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        gate.wait_for()
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert ended == (0, "on\non\n", "")
