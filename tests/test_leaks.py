"""The checks of conftest.py, checked: a test that leaks fails, one that doesn't passes."""

from __future__ import annotations

import gc
import os
import pathlib
import socket
import subprocess
import sys
import threading

from tests.leaks import leaked_sockets, leaked_threads, open_sockets

ROOT = pathlib.Path(__file__).resolve().parent.parent

LEAKY = """
import gc, os, socket, threading, warnings
kept = []

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="left").start()

def test_socket():
    kept.append(socket.socket())

def test_exception_in_a_thread():
    def fails():
        raise ValueError("in a thread")
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()

def test_forgotten_socket():
    class Cycle:
        pass
    one = Cycle()
    one.me, one.socket = one, socket.socket()

def test_warning():
    warnings.warn("old", DeprecationWarning)

def test_failed_already():
    kept.append(socket.socket())
    assert False

def test_environment():
    assert "HTTPS_proxy" not in os.environ and "REQUESTS_CA_BUNDLE" not in os.environ

def test_tidy():
    thread = threading.Thread(target=gc.collect)
    thread.start()
"""


def test_a_test_that_leaks_fails_and_a_tidy_one_passes(tmp_path: pathlib.Path) -> None:
    """A thread, a socket, a thread's exception, an unclosed socket in garbage and a warning each fail their test.

    The proxies and CA bundles of the machine are not seen by a test.
    """
    file = tmp_path / "test_leaky.py"
    file.write_text(LEAKY)
    command = [sys.executable, "-m", "pytest", "-c", "setup.cfg", "--rootdir", ".", "-p", "tests.conftest"]
    environment = {**os.environ, "HTTPS_proxy": "http://127.0.0.1:9", "REQUESTS_CA_BUNDLE": "/nowhere"}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-q", "--no-header", str(file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    told = [line.split(" - ")[0].split("::")[-1] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert told == ["test_exception_in_a_thread", "test_warning", "test_failed_already"], done.stdout
    assert [line.split(" - ")[0].split("::")[-1] for line in errors] == [
        "test_thread",
        "test_socket",
        "test_forgotten_socket",
    ], done.stdout
    assert "thread left" in errors[0] and "socket " in errors[1]


def test_a_thread_that_is_about_to_end_is_waited_for() -> None:
    """Only a thread that doesn't end in time is a leak."""
    before = set(threading.enumerate())
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="slow")
    thread.start()
    assert leaked_threads(before, patience_s=0) == [thread]
    go.set()
    assert leaked_threads(before) == []


def test_a_socket_is_found_while_it_is_open() -> None:
    """An open socket is a leak as long as it is referred to; a closed one isn't."""
    before = open_sockets()
    one = socket.socket()
    assert len(leaked_sockets(before)) == 1
    one.close()
    gc.collect()
    assert leaked_sockets(before) == set()
