"""Input as the world has it: each line its record or a clear error with file and line, and the rest goes on."""

from __future__ import annotations

import pathlib

import pytest

from crawlpool.cli import main
from crawlpool.testing import SiteServer
from tests.cli.command import records_of

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.above_transports


def test_every_kind_of_bad_line_is_told_and_the_rest_goes_on(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """BOM, CRLF, comments, NUL, bad bytes, IDN, spaces, fragment, userinfo and 10 MB in one line."""
    with SiteServer(lambda request: request.target.encode()) as server:
        port, home = server.port, server.url("")
        lines = [
            b"\xef\xbb\xbf" + f"{home}/first".encode(),
            b"",
            b"# a comment",
            f"{home}/crlf\r".encode(),
            b"nonsense",
            f"{home}/nul\0nul".encode(),
            f"{home}/bytes\xff".encode("latin-1"),
            f"http://b\u00fccher.example:{port}/idn".encode(),
            f"{home}/two words".encode(),
            f"{home}/page#part".encode(),
            f"http://user:secret@127.0.0.1:{port}/login".encode(),
            f"{home}/".encode() + b"x" * 10_000_000,
            b"http://user:secret@/nohost",
            f"{home}/last".encode(),
        ]
        urls = tmp_path / "urls.txt"
        urls.write_bytes(b"\n".join(lines))
        address = f"xn--bcher-kva.example:{port}:127.0.0.1"
        assert main(["run", str(urls), "--resolve", address, "--retries", "0"]) == 4
        asked = {request.target: request for request in server.requests}
    out, err = capfd.readouterr()
    records = {record["n"]: record for record in records_of(out)}
    assert sorted(records) == list(range(1, 13))
    fetched = {n: record["final_url"] for n, record in records.items() if record["outcome"] == "ok"}
    assert fetched == {
        1: f"{home}/first",
        2: f"{home}/crlf",
        6: f"http://xn--bcher-kva.example:{port}/idn",
        7: f"{home}/two%20words",
        8: f"{home}/page",
        9: f"{home}/login",
        12: f"{home}/last",
    }
    del asked["/robots.txt"]  # of the one host that isn't on loopback by its name
    assert set(asked) == {"/first", "/crlf", "/idn", "/two%20words", "/page", "/login", "/last"}
    assert asked["/login"].headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    for n, line in {3: 5, 4: 6, 5: 7, 10: 12, 11: 13}.items():
        assert records[n]["error"]["kind"] == "invalid_url"
        assert records[n]["error"]["message"].startswith(f"{urls}:{line}: ")
        assert f"{urls}:{line}: " in err
    assert "secret" not in out + err
    assert len(out) < 30_000
    assert "12 inputs + 0 found = 7 ok + 0 http_error + 5 failed" in err


def test_bad_lines_beyond_ten_are_told_in_records_only(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A file that is no list of URLs doesn't fill the screen; each of its lines has a record all the same."""
    urls = tmp_path / "urls.txt"
    urls.write_text("nonsense\n" * 500)
    assert main(["run", str(urls)]) == 4
    out, err = capfd.readouterr()
    assert len(records_of(out)) == 500
    assert err.count(f"{urls}:") == 10
    assert "further bad lines are told in their records only" in err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.txt", None, "no such file"),
        ("wide.txt", "http://h/\n".encode("utf-16"), "UTF-16"),
        ("packed.txt.gz", b"http://h/\n", "no gzip data"),
    ],
)
def test_an_input_that_cannot_be_read_ends_with_3(
    tmp_path: pathlib.Path, capfd: Capture, name: str, content: bytes | None, says: str
) -> None:
    """A missing or unreadable input is found before anything is fetched; one line names it; no output is touched."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    output = tmp_path / "kept.jsonl"
    output.write_text("old")
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), str(path), "-o", str(output)]) == 3
        assert server.request_count == 0
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(path) in err and says in err
    assert output.read_text() == "old"


def test_an_input_that_breaks_in_the_middle_ends_with_3(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """What was read of a gzip file that ends too early is settled; the summary comes, and the exit code is 3."""
    import gzip

    with SiteServer(lambda request: b"x") as server:
        lines = "".join(f"{server.url(f'/{n}')}\n" for n in range(3000)).encode()
        packed = gzip.compress(lines, mtime=0)
        path = tmp_path / "urls.gz"
        path.write_bytes(packed[: len(packed) // 2])
        assert main(["run", str(path), "--threads", "4", "-o", str(tmp_path / "o.jsonl")]) == 3
    err = capfd.readouterr().err
    assert f"{path}: the gzip data ends too early" in err
    assert "inputs + 0 found = " in err
    assert records_of(tmp_path / "o.jsonl")
    assert "Traceback" not in err


def test_an_output_that_is_an_input_is_refused(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Opening an output cuts it to nothing: it can't be the file that is read, by whatever name."""
    path = tmp_path / "urls.jsonl"
    path.write_text('{"url": "http://127.0.0.1:9/"}\n')
    (tmp_path / "link.jsonl").symlink_to(path)
    for output in (path, tmp_path / "link.jsonl"):
        assert main(["run", str(path), "--input-format", "jsonl", "-o", str(output)]) == 2
        assert "is the same file as" in capfd.readouterr().err
    assert path.read_text().startswith("{")
