"""How one process speaks to a run of another: a line of JSON over a Unix socket, and a line that answers it.

A request is ``{"v": 1, "do": "hold", "host": "example.org"}``; ``do`` may be ``hold``, ``release``, ``skip``, ``delay``
(with ``delay_s``) or ``status`` (without a host). The answer has ``ok``; where that is false, ``error`` says why and
``is_usage`` whether the request was to blame. Each connection has one request.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from typing import Any

from crawlpool.errors import CrawlPoolError
from crawlpool.redact import one_line

#: The version of what is said here; each line has it.
VERSION = 1
#: The socket's name in a folder that is given in its place.
NAME = "control"
#: The longest request, in bytes with its line end, and the longest answer.
LONGEST_REQUEST, LONGEST_ANSWER = 4096, 4 * 1024 * 1024
#: Seconds that an answer may take, and that a client may take over its request.
PATIENCE_S = 5.0
#: The longest path that every system takes for a Unix socket, in bytes.
LONGEST_PATH = 103


class ControlError(CrawlPoolError):
    """A control socket can't be made, or nobody answers there; the message names it."""


class Refused(CrawlPoolError):
    """A run doesn't do what it was asked for, as the request makes no sense to it."""


def line_of(said: dict[str, Any]) -> bytes:
    """Return what is said as a line, with the version."""
    return json.dumps({"v": VERSION, **said}, separators=(",", ":")).encode("ascii") + b"\n"


def said_in(line: bytes) -> dict[str, Any]:
    """Return what a line says.

    Raises:
        ControlError: when it is no object in JSON, or of another version.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ControlError("no JSON object came")
    if said.get("v") != VERSION:
        raise ControlError(f"it speaks version {one_line(str(said.get('v')), 20)} of the protocol, and this {VERSION}")
    return said


def check_supported() -> None:
    """Raise ``ControlError`` where there are no Unix sockets."""
    if not hasattr(socket, "AF_UNIX"):
        raise ControlError("a control socket needs Unix sockets, which this system or Python doesn't have")


def check_length(path: str) -> None:
    """Raise ``ControlError`` for a path that is too long for a Unix socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise ControlError(
            f"{one_line(path)}: too long for a Unix socket: {length} bytes, and {LONGEST_PATH} are the most; "
            "give a shorter path, or a relative one"
        )


def ask(control: str, request: dict[str, Any], patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Ask a run, and return its answer.

    Args:
        control: the path of its socket, or of a folder that has one named ``control``.
        request: what it is asked for.
        patience_s: seconds that all of it may take.

    Raises:
        ControlError: when there is no socket, nobody listens there, or no answer comes in time.
        Refused: when the run makes nothing of the request.
    """
    check_supported()
    path = os.path.join(control, NAME) if os.path.isdir(control) else control
    check_length(path)
    shown = one_line(path)
    ends_at = time.monotonic() + patience_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience_s)
            connection.connect(path)
            connection.sendall(line_of(request))
            line = _line_from(connection, ends_at)
    except TimeoutError:
        raise ControlError(f"{shown}: no answer within {patience_s:g} s; the run is very busy, or stopped") from None
    except FileNotFoundError:
        if path != control:
            raise ControlError(f"{one_line(control)}: no job runs there, and it has no control socket") from None
        made = f"a run makes one with --job {shown} or with --control {shown}"
        raise ControlError(f"{shown}: there is no such job, and no such socket; {made}") from None
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ControlError(f"{shown}: it is no socket; a run makes one with --control") from None
        raise ControlError(f"{shown}: nobody listens there: the run has ended, or it is no control socket") from None
    except OSError as error:
        raise ControlError(f"{shown}: can't be asked: {error.strerror or error}") from None
    if not line.endswith(b"\n"):
        raise ControlError(f"{shown}: no whole answer came; the run has probably ended")
    try:
        answer = said_in(line)
    except ControlError as error:
        raise ControlError(f"{shown}: {error}") from None
    if not answer.get("ok"):
        said = one_line(str(answer.get("error")))
        raise Refused(said) if answer.get("is_usage") else ControlError(f"{shown}: {said}")
    return answer


def _line_from(connection: socket.socket, ends_at: float) -> bytes:
    """Return what comes up to a line end or the end; no more than the longest answer."""
    got = bytearray()
    while not got.endswith(b"\n") and len(got) <= LONGEST_ANSWER:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(65_536)
        if not piece:
            break
        got += piece
    return bytes(got)
