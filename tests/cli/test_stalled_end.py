"""Who reads the output stops reading, or a handler never returns: memory stays, and the command has its end."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from crawlpool.testing import SiteServer
from tests.cli.command import environment, finish, records_of, start, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pipes and /proc as Linux has them")

LINES = 3000


def _resident_bytes(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.above_transports
def test_a_pipe_that_nobody_reads_stalls_reading_and_not_memory(transport: str, tmp_path: pathlib.Path) -> None:
    """The input is read no further, no deadline fires, and all goes on when somebody reads: each URL has its record."""
    import fcntl

    with SiteServer(lambda request: b"x" * 2000, remember=False) as server:
        given = tmp_path / "urls.txt"
        given.write_text("".join(f"{server.url(f'/{number}')}\n" for number in range(LINES)))
        arguments = ["run", str(given), "-o", "-", "--transport", transport, "--max-time", "1", "--progress", "none"]
        process = start(
            [*arguments, "-q", "--ignore-robots", "--in-flight", "8", "--retries", "0"], stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        seen = [-1]

        def stands_still() -> bool:
            before, now = seen[0], server.request_count
            seen[0] = now
            time.sleep(0.4)
            return now == before > 0

        wait_until(stands_still, "nothing was asked for any more", process)
        asked, resident = server.request_count, _resident_bytes(process.pid)
        assert 0 < asked < LINES
        time.sleep(1.2)  # longer than a leg may take
        assert server.request_count == asked
        assert _resident_bytes(process.pid) - resident < 4 << 20
        code, out, err = finish(process)
    assert (code, err) == (0, "")
    assert [record["outcome"] for record in records_of(out)] == ["ok"] * LINES


_HANGS = """
import pathlib, time
def handle(result, crawl):
    if result.target.url.endswith("/hang"):
        pathlib.Path("hangs").touch()
        time.sleep(3600)
"""


@pytest.mark.above_transports
def test_a_handler_that_hangs_is_waited_for_as_long_as_grace_says(transport: str, tmp_path: pathlib.Path) -> None:
    """After one Ctrl-C and that time the command ends with 7 by itself, and the job goes on with what was left."""
    (tmp_path / "hanging.py").write_text(_HANGS)
    (tmp_path / "good.py").write_text("def handle(result, crawl):\n    pass\n")
    with SiteServer({"/a": b"a", "/hang": b"h", "/z": b"z"}) as server:
        (tmp_path / "urls.txt").write_text("".join(f"{server.url(path)}\n" for path in ("/a", "/hang", "/z")))
        common = ["--job", "job", "--transport", transport, "--progress", "none", "--min-free", "0"]
        arguments = ["run", "urls.txt", *common, "--threads", "2", "--grace", "0.2", "--handler", "hanging:handle"]
        # How long it is waited for whether a thread hangs is another matter.
        before = "import crawlpool.cli.signals\ncrawlpool.cli.signals.HANG_S = 0.3\n"
        process = start(arguments, before=before, cwd=tmp_path, stdin=subprocess.DEVNULL)
        wait_until((tmp_path / "hangs").exists, "the handler hangs", process)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
        assert code == 7, err
        again = ["resume", "job", "--handler", "good:handle", "--progress", "none"]
        code, _, err = finish(start(again, cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL))
        assert code == 0, err
    records = records_of(tmp_path / "job" / "results.jsonl")
    assert [(record["n"], record["outcome"]) for record in records] == [(1, "ok"), (2, "ok"), (3, "ok")]
