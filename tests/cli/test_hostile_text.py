"""What a server says can't take hold of the terminal of whoever looks at it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import PATIENCE_S, environment, start
from tests.cli.test_terminal import ESCAPE, seen_on, terminal

#: As Latin-1, the way in which header bytes are read: an escape, C1, DEL, and U+202E and U+2028 as their UTF-8 bytes.
NASTY = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7f" + "\u202egnp\u2028\u2066".encode().decode("latin-1")


def site(request: Request) -> Answer:
    """Answer with hostile text in each place that a server has."""
    if request.path == "/robots.txt":
        return Answer(200, {"Content-Type": NASTY}, "User-agent: *\nDisallow: /secret # \x1b[2J\u202e\n".encode())
    if request.path == "/away":
        return Answer(302, {"Location": f"/page{NASTY}", "X-Odd": NASTY})
    if request.path == "/junk":
        return Answer(302, {"Location": f"http://[{NASTY}/"})
    if request.path == "/raw":
        return Answer(raw=f"HTTP/1.1 200 {NASTY}\r\nContent-Length: 1\r\nX-Odd: {NASTY}\r\n\r\nx".encode("latin-1"))
    if request.path == "/coded":
        return Answer(200, {"Content-Encoding": NASTY}, b"x")
    return Answer(200, {"Content-Type": NASTY, "X-Odd": NASTY, "ETag": NASTY}, b"body \x1b[2J")


PATHS = "/page /away /junk /raw /coded /secret".split()


def forbidden(shown: str) -> list[str]:
    """Return what must not be there, but for line ends and tabs."""
    return re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", shown)


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command on a terminal; return its exit code and what the terminal got, without our own colours."""
    with terminal() as (ours, theirs):
        env = environment(TERM="xterm", COLUMNS="200")
        process = start(list(arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        shown = seen_on(ours)
        code = process.wait(PATIENCE_S)
    return code, ESCAPE.sub("", shown).replace("\r", "")


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[pathlib.Path, str, list[str]]]:
    """Crawl the site on a terminal, into a job that keeps everything; give its folder, what was shown, and the URLs."""
    job = tmp_path_factory.mktemp("hostile") / "job"
    with SiteServer(site) as server:
        urls = [server.url(path) for path in PATHS]
        outputs = [word for name in ("results.jsonl", "pages.warc.gz", "-") for word in ("-o", name)]
        code, shown = on_terminal(
            "run",
            *urls,
            "--job",
            str(job),
            *outputs,
            "--record-headers",
            "all",
            "--retries",
            "0",
            "-vv",
            "--per-host",
            "8",  # with limits of its own a loopback host is asked for its robots.txt
        )
        assert code == 4
        yield job, shown, urls


def test_a_run_on_a_terminal_obeys_no_server(crawled: tuple[pathlib.Path, str, list[str]]) -> None:
    """Neither by its lines, nor its log with -vv, nor its bar."""
    _, shown, urls = crawled
    assert all(url in shown for url in urls)
    assert "owned" in shown  # it is told, and harmless
    assert forbidden(shown) == []


def test_short_lines_on_a_terminal_obey_no_server() -> None:
    """What people see without any option."""
    with SiteServer(site) as server:
        code, shown = on_terminal("run", *(server.url(path) for path in PATHS), "--retries", "0")
    assert code == 4
    assert forbidden(shown) == []


def test_records_are_harmless_where_somebody_looks_at_them(crawled: tuple[pathlib.Path, str, list[str]]) -> None:
    """The file's lines have escapes, and a reader gets what the server sent."""
    text = (crawled[0] / "results.jsonl").read_text("utf-8")
    assert forbidden(text) == []
    records = {record["url"].rpartition("/")[2]: record for record in map(json.loads, text.splitlines())}
    assert records["page"]["content_type"] == NASTY
    assert records["page"]["headers"]["x-odd"] == NASTY


@pytest.mark.parametrize("command", [["explain"], ["cat", "--headers"]])
def test_looking_at_one_url_obeys_no_server(crawled: tuple[pathlib.Path, str, list[str]], command: list[str]) -> None:
    """Robots.txt, errors, redirects and headers on a terminal; through a pipe a header is byte for byte as it came."""
    job, _, urls = crawled
    code, shown = on_terminal(command[0], str(job), urls[0], *command[1:])
    assert code == 0
    assert "owned" in shown
    assert forbidden(shown) == []
    if command[0] == "cat":
        piped = subprocess.run(
            [sys.executable, "-m", "crawlpool", "cat", str(job), urls[0], "--headers"],
            env=environment(), capture_output=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert f"X-Odd: {NASTY}\r\n".encode("latin-1") in piped.stdout
    else:
        _, forbidden_one = on_terminal("explain", str(job), urls[-1])
        assert "Disallow: /secret" in forbidden_one and forbidden(forbidden_one) == []


def test_a_body_with_controls_is_not_written_to_a_terminal(crawled: tuple[pathlib.Path, str, list[str]]) -> None:
    """It is refused in one line."""
    code, shown = on_terminal("cat", str(crawled[0]), crawled[2][0])
    assert code == 3
    assert "control characters" in shown and forbidden(shown) == []


def test_what_a_job_exports_is_harmless(crawled: tuple[pathlib.Path, str, list[str]]) -> None:
    """On a terminal, too."""
    _, shown = on_terminal("export", str(crawled[0]))
    assert shown and forbidden(shown) == []
