"""The command on a real terminal: short lines instead of JSON, a bar below them, and Ctrl-C from the keyboard."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest

from crawlpool.testing import Answer, SiteServer
from tests.cli.command import NO_LAST_RESORT, PATIENCE_S, environment, finish, records_of, start, wait_until
from tests.gates import Gate

#: Makes standard input the process's controlling terminal, so that Ctrl-C on it becomes a signal.
_TAKE_TERMINAL = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
#: Colours and the cursor: what the command itself sends to a terminal.
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Give the two ends of a pseudo-terminal: ours, and the command's, which the test is to close."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def seen_on(ours: int, until: str | None = None) -> str:
    """Return what the terminal shows until a text comes, or until the other end is closed."""
    shown = b""
    ends_at = time.monotonic() + PATIENCE_S
    while until is None or until.encode() not in shown:
        ready, _, _ = select.select([ours], [], [], max(ends_at - time.monotonic(), 0))
        assert ready, f"the terminal showed only {shown!r}"
        try:
            shown += os.read(ours, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            break
    return shown.decode()


def test_people_get_short_lines_and_a_bar() -> None:
    """On a terminal records are lines for eyes, the bar is drawn below them and gone at the end."""
    with Gate() as gate, SiteServer({"/a": b"x" * 1500, "/slow": gate}) as server, gate, terminal() as (ours, theirs):
        urls = [server.url("/a"), server.url("/missing"), server.url("/slow")]
        # A wide terminal, as the bar's line is cut to fit.
        env = environment(TERM="xterm", COLUMNS="150")
        process = start(["run", *urls], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        shown = seen_on(ours, "2/3 (66 %)")  # drawn while the third is under way
        gate.open()
        shown += seen_on(ours)
        assert finish(process)[0] == 8
    plain = ESCAPE.sub("", shown)
    assert re.search(rf"200 +1\.5 kB +\d+\.\d\d s  {re.escape(urls[0])}", plain)
    assert re.search(rf"404 .* {re.escape(urls[1])}", plain)
    assert '{"v"' not in plain
    assert "2/3 (66 %)" in plain and "1 HTTP errors" in plain and "1 in flight" in plain
    assert plain.index("2/3 (66 %)") < plain.index(urls[2])
    assert "output to the terminal, short lines" in plain
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


@pytest.mark.parametrize("kind", ["none", "lines"])
def test_progress_can_do_without_a_bar(kind: str, tmp_path: pathlib.Path) -> None:
    """--progress none and lines draw nothing, and move no cursor, on a terminal, too; -o - asks for JSON there."""
    with SiteServer({"/a": b"x"}) as server, terminal() as (ours, theirs):
        process = start(
            ["run", server.url("/a"), "-o", "-", "--progress", kind, "-o", str(tmp_path / "o.jsonl")],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"),
        )  # fmt: skip
        os.close(theirs)
        shown = seen_on(ours)
        assert finish(process)[0] == 0
    assert "\x1b" not in shown
    assert '{"v":1,' in shown
    assert len(records_of(tmp_path / "o.jsonl")) == 1


def test_ctrl_c_on_the_keyboard_drains_and_the_second_stops() -> None:
    """As the terminal sends it: to the whole group; the bar is taken away, the cursor given back; exit code 7."""
    with SiteServer(lambda request: Answer(200, {}, b"x", delay_s=60)) as server, terminal() as (ours, theirs):
        process = start(
            ["run", *(server.url(f"/{n}") for n in range(4))], before=_TAKE_TERMINAL + NO_LAST_RESORT,
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        wait_until(lambda: server.request_count == 4, "requests are under way", process)
        os.write(ours, b"\x03")
        shown = seen_on(ours, "press Ctrl-C again")
        os.write(ours, b"\x03")
        shown += seen_on(ours)
        assert finish(process)[0] == 7
    assert "4 skipped" in shown
    assert "Traceback" not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
