"""A control socket: made where nothing is lost by it, found by its owner alone, and each way to miss it has a line."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
from collections.abc import Iterator

import pytest

from crawlpool.cli import control, control_place
from crawlpool.cli.control import LONGEST_PATH, ControlError, Refused, ask, line_of, said_in
from crawlpool.cli.control_place import listening_at
from tests.gates import Threads


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path short enough wherever the tests' own folder lies."""
    monkeypatch.chdir(tmp_path)
    return "control"


def dead_socket(path: str) -> None:
    """Leave a socket behind as a process that was killed does."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()


def answering(path: str, *pieces: bytes) -> Iterator[None]:
    """Answer one client with these bytes."""
    with socket.socket(socket.AF_UNIX) as listening, Threads() as threads:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                for piece in pieces:
                    connection.sendall(piece)

        threads.start(serve)
        yield


def test_the_socket_is_its_owners_alone_and_gone_afterwards(place: str) -> None:
    """Mode 0600, whatever the umask; the folder is as before at the end, also after an exception."""
    before = os.umask(0)
    try:
        with pytest.raises(KeyError), listening_at(place):
            assert stat.S_IMODE(os.lstat(place).st_mode) == 0o600
            assert os.listdir(".") == [place]
            raise KeyError
    finally:
        os.umask(before)
    assert os.listdir(".") == []


def test_without_a_path_there_is_none() -> None:
    """Who asks for no control socket pays nothing for it."""
    with listening_at(None) as listening:
        assert listening is None


def test_a_dead_socket_is_replaced(place: str) -> None:
    """A run that was killed leaves one behind; the next one may have its place."""
    dead_socket(place)
    with listening_at(place) as listening:
        assert listening is not None
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
    assert os.listdir(".") == []


def test_nothing_else_is_ever_replaced(place: str) -> None:
    """A file, a folder, a link, a socket that somebody listens on: each has a line that says so, and stays."""
    pathlib.Path(place).write_text("precious")
    with pytest.raises(ControlError, match="control: there is something else, which is no socket; it was left alone"):
        with listening_at(place):
            pass
    assert pathlib.Path(place).read_text() == "precious"
    pathlib.Path("link").symlink_to(place)
    os.mkdir("folder")
    for path in ("link", "folder"):
        with pytest.raises(ControlError, match="which is no socket"), listening_at(path):
            pass
    with listening_at("live"):
        with pytest.raises(ControlError, match="live: another run listens there"), listening_at("live"):
            pass
        assert stat.S_ISSOCK(os.lstat("live").st_mode)
    assert sorted(os.listdir(".")) == ["control", "folder", "link"]


def test_a_place_that_another_run_takes_in_between_is_its(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs find the same dead socket: the one that was quicker keeps its own, and the other says so."""
    dead_socket(place)
    with socket.socket(socket.AF_UNIX) as quicker:
        is_alive = control_place._is_alive

        def look(path: str) -> bool:
            was_alive = is_alive(path)
            if not was_alive and path == place:
                os.unlink(path)
                quicker.bind(path)
                quicker.listen()
            return was_alive

        monkeypatch.setattr(control_place, "_is_alive", look)
        with pytest.raises(ControlError, match="another run listens there"), listening_at(place):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
    assert os.listdir(".") == [place]


def test_what_another_run_has_made_there_meanwhile_is_not_removed(place: str) -> None:
    """At its end a run takes away what it has made, and nothing else."""
    with listening_at(place):
        os.unlink(place)
        dead_socket(place)
    assert os.listdir(".") == [place]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere/control", "nowhere/control: can't be made: its folder does not exist"),
        ("x" * (LONGEST_PATH + 1), f"too long for a Unix socket: {LONGEST_PATH + 1} bytes, and {LONGEST_PATH} are"),
        ("/proc/control", "/proc/control: can't be made: "),
        ("nul\0nul", "nul\\x00nul: can't be made: "),
    ],
)
def test_where_none_can_be_made_it_says_why(place: str, path: str, says: str) -> None:
    """One line that names the path."""
    with pytest.raises(ControlError) as caught, listening_at(path):
        pass
    assert says in str(caught.value)


def test_a_folder_that_may_not_be_written_to(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as that, though a process of root's could write there."""
    monkeypatch.setattr(control_place.os, "access", lambda *_: False)

    def refuse(self: socket.socket, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ControlError, match="no permission to write in its folder"), listening_at(place):
        pass


def test_a_system_without_unix_sockets_says_so(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both who would make one and who would ask."""
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ControlError, match="needs Unix sockets"), listening_at(place):
        pass
    with pytest.raises(ControlError, match="needs Unix sockets"):
        ask(place, {})


def test_a_run_is_asked_by_its_socket_or_by_the_folder_that_has_it(place: str) -> None:
    """``CONTROL`` may be a folder with a socket of that name."""
    for path in (place, "."):
        with Threads():
            for _ in answering(place, b'{"v":1,', b'"ok":true,"x":3}\n'):
                assert ask(path, {"do": "status"})["x"] == 3
        os.unlink(place)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"", ControlError, "control: no whole answer came; the run has probably ended"),
        (b'{"v":1,"ok":true}', ControlError, "no whole answer"),
        (b"nonsense\n", ControlError, "control: no JSON object came"),
        (b"[1]\n", ControlError, "no JSON object"),
        (b'{"v":2,"ok":true}\n', ControlError, "control: it speaks version 2 of the protocol, and this 1"),
        (b'{"v":1,"ok":false,"error":"no \\u001b[31m"}\n', ControlError, "control: no \\x1b[31m"),
        (b'{"v":1,"ok":false,"is_usage":true,"error":"host=3"}\n', Refused, "host=3"),
    ],
)
def test_an_answer_that_is_none(place: str, answer: bytes, error: type[Exception], says: str) -> None:
    """Each has its line; control characters in it are escaped."""
    for _ in answering(place, answer):
        with pytest.raises(error) as caught:
            ask(place, {"do": "status"})
    assert says in str(caught.value)


def test_who_does_not_answer_is_not_waited_for(place: str) -> None:
    """The bound is on all of it: somebody who drips an answer doesn't keep us."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        with pytest.raises(ControlError, match=r"control: no answer within 0\.05 s"):
            ask(place, {"do": "status"}, 0.05)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing", "nothing: there is no such job, and no such socket"),
        (".", ".: no job runs there, and it has no control socket"),
        ("dead", "dead: nobody listens there"),
        ("file", "file: it is no socket"),
        ("x" * 200, "too long for a Unix socket"),
    ],
)
def test_where_nobody_listens(place: str, path: str, says: str) -> None:
    """No socket, a dead one, a file, a folder without one, a name that is too long."""
    dead_socket("dead")
    pathlib.Path("file").write_text("")
    with pytest.raises(ControlError) as caught:
        ask(path, {})
    assert says in str(caught.value)


def test_lines_have_a_version() -> None:
    """What is said comes out as it went in, on one line in ASCII."""
    line = line_of({"host": "b\u00fccher\n"})
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert said_in(line) == {"v": control.VERSION, "host": "b\u00fccher\n"}
