"""``job.toml``: what is kept of the options, what never is, and how ``resume`` takes it up again."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import disk
from crawlpool.cli import main
from crawlpool.cli.job_file import Kept, read, write
from crawlpool.cli.toml_writing import toml_of
from crawlpool.errors import JobError, SinkError
from crawlpool.testing import Request, SiteServer
from tests.cli.command import environment, finish, start

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Capture = pytest.CaptureFixture[str]
SECRET = "s3cr3t-C4N4RY"
KEPT = Kept(("/in/urls.txt", "-"), "/here", {"threads": "4", "header": ["A: env:B"]}, {}, ("header X",))

_TEXT = st.text(st.characters(codec="utf-8"))
_NUMBER = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
_PLAIN = st.one_of(_TEXT, st.booleans(), _NUMBER, st.lists(_TEXT))
_TABLE = st.dictionaries(_TEXT, _PLAIN, max_size=4)


@given(st.dictionaries(_TEXT, st.one_of(_PLAIN, _TABLE), max_size=5))
def test_what_is_written_is_read_back(content: dict[str, Any]) -> None:
    """Whatever texts, numbers and tables: Python's own reader of TOML gives the same again."""
    assert tomllib.loads(toml_of(content)) == content


def test_tables_of_tables_and_of_lists_are_written() -> None:
    """An origin's table, with a table in it; what no settings file holds is refused."""
    content = {
        "a": 1,
        "site": {"https://h": {"retries": 0, "headers": {"X-A": 'v"\\\x7f'}}, "http://i": {"auth": "@f"}},
    }
    assert tomllib.loads(toml_of(content)) == content
    with pytest.raises(TypeError):
        toml_of({"a": None})


def test_the_file_of_a_job_keeps_its_identity(tmp_path: pathlib.Path) -> None:
    """It is written anew where an option has changed, under the same id; else not at all. Its mode is 0600."""
    write(str(tmp_path), KEPT)
    path = tmp_path / "job.toml"
    first, made = read(str(tmp_path)), path.stat()
    assert (first.inputs, first.options, first.needs) == (KEPT.inputs, KEPT.options, KEPT.needs)
    assert first.identity and first.created_at.endswith("Z")
    write(str(tmp_path), KEPT)
    assert path.stat().st_ino == made.st_ino
    write(str(tmp_path), Kept(KEPT.inputs, KEPT.folder, {"threads": "8"}, {}, ()))
    again = read(str(tmp_path))
    assert (again.identity, again.created_at, again.options) == (first.identity, first.created_at, {"threads": "8"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["job.toml"]


def test_names_that_are_no_text_come_through(tmp_path: pathlib.Path) -> None:
    """A file's name is bytes: those that aren't UTF-8 are kept all the same."""
    kept = Kept((os.fsdecode(b"/in/\xff.txt"),), "/here", {}, {}, ())
    write(str(tmp_path), kept)
    assert read(str(tmp_path)).inputs == kept.inputs


@pytest.mark.parametrize("name", ["open_file", "write", "sync_file", "rename", "sync_folder"])
def test_a_disk_that_fails_leaves_the_file_as_it_was(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each call that may fail: one clear error, and what was there is there, whole."""
    write(str(tmp_path), KEPT)
    before = (tmp_path / "job.toml").read_bytes()

    def fail(*given: Any, **more: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(disk, name, fail)
        with pytest.raises(SinkError, match=r"job\.toml: No space left"):
            write(str(tmp_path), Kept((), "/there", {}, {}, ()))
    if name != "sync_folder":
        assert (tmp_path / "job.toml").read_bytes() == before
    write(str(tmp_path), KEPT)
    assert read(str(tmp_path)).inputs == KEPT.inputs


@pytest.mark.parametrize("content", [b"", b"inputs = [", b"\xff", b"inputs = 3\nfolder = '/'\nneeds = []\nid = ''"])
def test_a_damaged_file_is_told(tmp_path: pathlib.Path, content: bytes) -> None:
    """It is named in one line, and so is what goes on without it."""
    (tmp_path / "job.toml").write_bytes(content)
    with pytest.raises(JobError, match=r"job\.toml: .*the command that began the job goes on with it"):
        read(str(tmp_path))
    with pytest.raises(JobError, match="there is no such job"):
        read(str(tmp_path / "none"))


def all_bytes_in(folder: pathlib.Path) -> bytes:
    """Return the content of all files of a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_credential_is_in_a_job(tmp_path: pathlib.Path) -> None:
    """Whatever way it came: not in a file of the job, not in what is said at -vv; what is no secret is kept."""
    job = tmp_path / "job"
    with SiteServer(lambda request: b"x") as server:
        home = f"127.0.0.1:{server.port}"
        (tmp_path / "secret").write_text(SECRET)
        config = tmp_path / "c.toml"
        config.write_text(
            f'header = ["X-Of-File: {SECRET}"]\ncontact = "me@example.org"\n[site."http://{home}"]\n'
            f'auth = "u:{SECRET}"\nheaders = {{ "X-Site" = "{SECRET}", "Accept" = "a/b", "X-Env" = "env:TOKEN" }}\n'
        )
        urls = [server.url("/a"), server.url("/b")]
        (tmp_path / "urls.txt").write_text("\n".join([*urls, f"http://u:{SECRET}@{home}/c", f"u:{SECRET}@{home}/d"]))
        told = ["-vv", "--log-format", "json", "--retries", "0"]
        process = start(
            ["run", "urls.txt", "--job", "job", "--config", "c.toml", "--auth", f"v:{SECRET}@far.example", *told,
             "--proxy", f"http://p:{SECRET}@{home}", "--header", "Referer: http://r/",
             "--header", f"Authorization: Bearer {SECRET}", "--header", "X-There: @secret"],
            cwd=tmp_path, env=environment(TOKEN=SECRET, CRAWLPOOL_MAX_REDIRECTS="3"),
        )  # fmt: skip
        code, out, err = finish(process)
        assert code == 4  # the lines with logins are refused
        headers = server.requests[0].headers
        assert headers["x-there"] == SECRET and SECRET in headers["authorization"] + headers["x-env"]
        assert SECRET.encode() not in all_bytes_in(job)
        assert SECRET not in out + err
        kept = read(str(job))
        assert kept.inputs == (str(tmp_path / "urls.txt"),)
        assert kept.options["header"] == ["Referer: http://r/", f"X-There: @{tmp_path / 'secret'}"]
        assert kept.options["contact"] == "me@example.org" and kept.options["max-redirects"] == "3"
        assert kept.sites == {f"http://{home}": {"headers": {"Accept": "a/b", "X-Env": "env:TOKEN"}}}
        assert set(kept.needs) == {
            "header Authorization", "auth far.example", f"proxy http://{home}", f"site http://{home} X-Site",
            f"site http://{home} auth",
        }  # fmt: skip


def test_resume_wants_what_was_left_out_again(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Each on a line of its own, by option; given again it goes on, with what was kept beside."""
    with SiteServer(lambda request: b"x") as server:
        home, job = f"127.0.0.1:{server.port}", str(tmp_path / "job")
        headers = ["--header", f"Authorization: Bearer {SECRET}", "--header", "Accept: a/b"]
        run = ["run", server.url("/a"), server.url("/b"), "--job", job, "--threads", "1"]
        logins = ["--auth", f"u:{SECRET}@far.example", "--proxy", f"http://u:{SECRET}@{home}"]
        assert main([*run, *headers, *logins, "-q", "--run-for", "0.000001"]) == 7
        assert main(["resume", job]) == 2
        lines = [line.strip() for line in capfd.readouterr().err.splitlines()]
        assert lines[2:] == [
            "crawlpool: a job keeps no credentials (but @FILE and env:NAME); give again:",
            "--header 'Authorization: VALUE'",
            "--auth 'USER:PASS@far.example'",
            f"--proxy 'http://{home}', with USER:PASS@ before its host",
        ]
        again = [*headers[:2], "--auth", f"w:{SECRET}@far.example", "--proxy", f"http://w:{SECRET}@{home}"]
        assert main(["resume", f"{job}/", *again]) == 0
        assert main(["resume", job]) == 0  # complete: nothing is fetched, and nothing needed
        assert main(["resume", job, "--retry-failed"]) == 2


def test_what_is_given_now_counts_over_the_job(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Option by option; of headers, those of the same name; the rest is as the job has it."""
    seen: list[Request] = []

    def answer(request: Request) -> bytes:
        seen.append(request)
        return b"x"

    with SiteServer(answer) as server:
        (tmp_path / "in").write_text(f"{server.url('/a')}\n{server.url('/b')}\n")
        job = str(tmp_path / "job")
        run = ["run", str(tmp_path / "in"), "--job", job, "--user-agent", "one", "--header", "Accept: a/a"]
        assert main([*run, "--header", "Referer: http://r/", "--run-for", "0.000001", "--threads", "3"]) == 7
        (tmp_path / "c.toml").write_text('user-agent = "two"\n')
        told = ["--header", "accept: b/b", "--config", str(tmp_path / "c.toml")]
        assert main(["resume", job, *told]) == 0
    headers = seen[-1].headers
    assert (headers["accept"], headers["referer"], headers["user-agent"]) == ("b/b", "http://r/", "two")
    assert " 3 threads" in capfd.readouterr().err
    assert read(job).options["user-agent"] == "one"  # what is given for one run doesn't stay


@pytest.mark.parametrize(
    "login", [f"u:{SECRET}", f"u:{SECRET} ", f"u: {SECRET}ä", f"u:?{SECRET}", f"u:/{SECRET}", f"u:a#{SECRET}"]
)
def test_an_input_with_a_login_makes_no_job(login: str, tmp_path: pathlib.Path, capfd: Capture) -> None:
    """The URL would stand in the ledger: it is refused as a mistake of usage, and not shown, however it is written."""
    assert main(["run", f"http://{login}@127.0.0.1:9/", "--job", str(tmp_path / "job")]) == 2
    err = capfd.readouterr().err
    assert SECRET not in err and "a URL with a login isn't taken into a job" in err
    assert not (tmp_path / "job").exists()
