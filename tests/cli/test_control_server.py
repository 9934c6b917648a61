"""The server of a control socket: few clients, short lines, and none that keeps it from the others."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crawlpool.cli import control_server
from crawlpool.cli.control import LONGEST_REQUEST, ask
from crawlpool.cli.control_place import listening_at
from crawlpool.cli.control_server import MOST_CLIENTS, ControlServer, is_of_other_user
from tests.gates import PATIENCE_S

PLACE = "control"


@contextlib.contextmanager
def serving(answer: Any = lambda request: {"ok": True, "said": request}) -> Iterator[None]:
    """Serve within this block."""
    with listening_at(PLACE) as listening:
        assert listening is not None
        with ControlServer(listening, answer):
            yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def connected() -> socket.socket:
    """Return a connection."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE_S)
    client.connect(PLACE)
    return client


def read_all(client: socket.socket) -> Any:
    """Return what the server says before it closes the connection; ``None`` for nothing."""
    with client:
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65_536):
                got += piece
    return json.loads(got) if got else None


def test_a_request_is_answered_in_the_thread_of_that_name() -> None:
    """One line in, one line out; and the thread is gone with its block."""
    with serving(lambda request: {"ok": True, "thread": threading.current_thread().name}):
        assert ask(PLACE, {"do": "x"})["thread"] == "crawlpool-control"
        assert any(thread.name == "crawlpool-control" for thread in threading.enumerate())
    assert not any(thread.name == "crawlpool-control" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"nonsense\n", "no JSON object came"),
        (b'{"v":99}\n', "it speaks version 99 of the protocol, and this 1"),
        (b"x" * LONGEST_REQUEST, f"a request is one line of less than {LONGEST_REQUEST} bytes"),
        (b"[" * (LONGEST_REQUEST - 1) + b"\n", "no JSON object came"),
        (b"\xff\xfe\n", "no JSON object came"),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes, says: str) -> None:
    """Each has an answer that says why; the next client is served as ever."""
    with serving():
        client = connected()
        client.sendall(sent)
        assert read_all(client) == {"v": 1, "ok": False, "error": says}
        assert ask(PLACE, {"do": "x"})["ok"]


def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has so long for its request and no longer; one that leaves at once is no trouble."""
    monkeypatch.setattr(control_server, "PATIENCE_S", 0.0)
    with serving():
        client = connected()
        assert read_all(client) is None
        connected().close()


def test_there_are_few_clients_at_once_and_the_others_wait() -> None:
    """However many connect, so many are looked at; the next one has its turn when one of them is done."""
    with serving():
        idle = [connected() for _ in range(MOST_CLIENTS)]
        late = connected()
        late.sendall(b'{"v":1}\n')
        late.settimeout(0.05)
        with pytest.raises(TimeoutError):
            late.recv(1)
        idle.pop().close()
        late.settimeout(PATIENCE_S)
        assert read_all(late)["ok"]
        for client in idle:
            client.close()


def test_an_answer_that_fails_costs_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What raises is logged and told as a fault; the thread goes on."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "fail":
            raise ValueError("a fault")
        return {"ok": True}

    with serving(answer):
        client = connected()
        client.sendall(b'{"v":1,"do":"fail"}\n')
        assert read_all(client)["error"] == "a fault of crawlpool: see its log"
        assert ask(PLACE, {"do": "x"})["ok"]
    assert "the control socket failed" in caplog.text


def test_a_long_answer_comes_whole_to_who_reads_slowly() -> None:
    """What a socket doesn't take at once is sent when it does; others are served meanwhile."""
    with serving(lambda request: {"ok": True, "text": "x" * int(request["do"])}):
        slow = connected()
        slow.sendall(b'{"v":1,"do":"3000000"}\n')
        assert ask(PLACE, {"do": "3"})["text"] == "xxx"
        assert len(read_all(slow)["text"]) == 3_000_000


def test_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode of the socket keeps others out; where the system tells who it is, that is looked at, too."""
    with serving():
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        assert read_all(connected()) == {"v": 1, "ok": False, "error": "the run is another user's"}
        monkeypatch.undo()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not is_of_other_user(ours)
        monkeypatch.setattr(control_server, "_CREDENTIALS", struct.Struct("q" * 9))
        assert not is_of_other_user(ours)
        monkeypatch.delattr(socket, "SO_PEERCRED")
        assert not is_of_other_user(ours)


def test_it_ends_with_clients_that_have_said_nothing() -> None:
    """The run doesn't wait for them."""
    with serving():
        clients = [connected(), connected()]
        clients[1].sendall(b'{"v":1')
    for client in clients:
        assert read_all(client) is None


def test_it_looks_now_and_then() -> None:
    """The rate of a run is one of late, though nobody asks for long."""
    looked = threading.Semaphore(0)
    with listening_at(PLACE) as listening:
        assert listening is not None
        with ControlServer(listening, lambda request: {}, looked.release):
            assert looked.acquire(timeout=PATIENCE_S)
            assert looked.acquire(timeout=PATIENCE_S)
