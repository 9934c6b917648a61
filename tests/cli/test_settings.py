"""Where settings come from: the command line over the environment over the config file; and what is refused."""

from __future__ import annotations

import pathlib

import pytest

from crawlpool.cli import main
from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import records_of

Capture = pytest.CaptureFixture[str]


def refused(capfd: Capture, *arguments: str) -> str:
    """Return what a command says that is refused for its usage; nothing may go to stdout."""
    assert main(["run", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_command_line_over_environment_over_file(
    tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest source counts, for each option on its own."""
    config = tmp_path / "c.toml"
    config.write_text('user-agent = "file"\ncontact = "file"\nthreads = 3\nheader = ["A: 1", "B: 2"]\nquiet = false\n')
    monkeypatch.setenv("CRAWLPOOL_CONTACT", "environment")
    monkeypatch.setenv("CRAWLPOOL_USER_AGENT", "environment")
    with SiteServer(lambda request: b"x") as server:
        assert main(["run", server.url("/"), "--config", str(config), "--user-agent", "line"]) == 0
        headers = server.requests[0].headers
    assert headers["user-agent"] == "line (+environment)"
    assert (headers["a"], headers["b"]) == ("1", "2")
    assert " 3 threads" in capfd.readouterr().err


def test_variables_hold_several_values(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several headers in one variable stand on lines of their own; a flag is 1."""
    monkeypatch.setenv("CRAWLPOOL_HEADER", "A: one two\nB: 2")
    monkeypatch.setenv("CRAWLPOOL_QUIET", "1")
    with SiteServer(lambda request: b"x") as server:
        assert main(["run", server.url("/")]) == 0
        headers = server.requests[0].headers
    assert (headers["a"], headers["b"]) == ("one two", "2")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CRAWLPOOL_THREADS", "many", "Invalid value for CRAWLPOOL_THREADS: 'many' is not a valid integer"),
        ("CRAWLPOOL_THREADS", "0", "Invalid value for CRAWLPOOL_THREADS: 0 is not in the range"),
        ("CRAWLPOOL_TRANSPORT", "pigeon", "Invalid value for CRAWLPOOL_TRANSPORT: 'pigeon' is not one of"),
        ("CRAWLPOOL_MAX_SIZE", "much", "Invalid value for CRAWLPOOL_MAX_SIZE: 'much' is no size"),
        ("CRAWLPOOL_QUIET", "maybe", "Invalid value for CRAWLPOOL_QUIET: 'maybe' is not a valid boolean"),
    ],
)
def test_a_mistake_in_a_variable_is_told_with_its_name(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """The variable is blamed, not the option that nobody gave; the command line's own value is the option's."""
    monkeypatch.setenv(variable, value)
    err = refused(capfd, "http://127.0.0.1:9/")
    assert f"crawlpool: {says}" in err and "'--" not in err
    monkeypatch.setenv(variable, "")
    assert "Invalid value for '--threads'" in refused(capfd, "http://127.0.0.1:9/", "--threads", "x")


def test_a_variable_that_no_option_has_is_refused(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped variable is named, with the one that may be meant; its value isn't shown. Empty is not set."""
    monkeypatch.setenv("CRAWLPOOL_THREDS", "s3cr3t")
    err = refused(capfd, "http://127.0.0.1:9/")
    assert "crawlpool: CRAWLPOOL_THREDS: no option has this variable; is 'CRAWLPOOL_THREADS' meant?" in err
    assert "s3cr3t" not in err
    assert main(["run", "--help"]) == 0
    monkeypatch.setenv("CRAWLPOOL_THREDS", "")
    monkeypatch.setenv("CRAWLPOOL_BENCH_NIQUESTS", "python")
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/")]) == 0


def test_tables_of_a_site_hold_for_that_origin(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Headers, auth and retries of [site] are for the one origin; --auth is over the file's."""

    def answers(request: Request) -> Answer:
        return Answer(503 if request.path == "/busy" else 200, {"Retry-After": "0"}, b"x")

    with SiteServer(answers) as server, SiteServer(answers) as other:
        config = tmp_path / "c.toml"
        config.write_text(
            f'retries = 0\n[site."{server.url("")}"]\nauth = "me:pw"\nretries = 1\nheaders = {{X-Key = "k"}}\n'
            f'[site."{other.url("")}"]\nauth = "file:pw"\n'
        )
        urls = [server.url("/"), server.url("/busy"), other.url("/"), other.url("/busy")]
        main(["run", *urls, "--config", str(config), "--auth", f"line:pw@127.0.0.1:{other.port}"])
        assert sorted(request.path for request in server.requests) == ["/", "/busy", "/busy"]
        assert {(r.headers["authorization"], r.headers["x-key"]) for r in server.requests} == {("Basic bWU6cHc=", "k")}
        assert sorted(request.path for request in other.requests) == ["/", "/busy"]
        assert {r.headers["authorization"] for r in other.requests} == {"Basic bGluZTpwdw=="}
        assert not any("x-key" in r.headers for r in other.requests)
    assert len(records_of(capfd.readouterr().out)) == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("threds = 3", "'threds' is no option; is 'threads' meant?"),
        ("threads = 'many'", "threads: 'many' is not a valid integer"),
        ("threads = 0", "threads: 0 is not in the range"),
        ("insecure = 'yes'", "insecure: true or false is needed"),
        ("threads = true", "threads: text or a number is needed"),
        ("max-size = '3 apples'", "max-size: '3 apples' is no size"),
        ("config = 'x'", "'config' is no option"),
        ("threads = ", "no TOML: "),
        ("[site.x]", "an origin is http://HOST"),
        ("[site.'http://h']\nhaeders = {}", "'haeders' is none of auth, headers"),
        ("[site.'http://h']\nauth = 'x'", "a login is USER:PASS"),
        ("[site.'http://h']\nretries = -1", "retries: a whole number is needed"),
        ("site = 3", "site: tables are needed"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_file_and_key(
    tmp_path: pathlib.Path, capfd: Capture, content: str, says: str
) -> None:
    """An unknown key or a bad value is a usage error that names the file, the key and the value."""
    config = tmp_path / "c.toml"
    config.write_text(content)
    err = refused(capfd, "http://127.0.0.1:9/", "--config", str(config))
    assert f"{config}: " in err
    assert says in err


def test_a_config_file_that_cannot_be_read_ends_with_3(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """It is trouble with a file, told in one line."""
    path = tmp_path / "no.toml"
    assert main(["run", "http://127.0.0.1:9/", "--config", str(path)]) == 3
    assert capfd.readouterr().err == f"crawlpool: {path}: the config file can't be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no input"),
        (["-", "-"], "'-' is there twice"),
        (["u", "--proxy", ""], "a proxy is http://HOST:PORT"),
        (["u", "--control", ""], "--control: a path is needed"),
        (["u", "--threads", "0"], "'--threads'"),
        (["u", "--carry", "a"], "--carry needs --input-format"),
        (["u", "--insecure", "--ca-bundle", "x"], "contradict"),
        (["u", "-q", "-v"], "contradict"),
        (["u", "-o", "a.txt"], "ends in .jsonl, exchanges to one that ends in .warc.gz, bodies to a folder"),
        (["u", "--rotate", "much"], "'much' is no size"),
        (["u", "-o", "-", "-o", "-"], "twice"),
        (["u", "--max-time", "nan"], "'nan' is no number of seconds"),
        (["u", "--delay", "86401"], "'86401' is more than 86400 seconds"),
        (["u", "--max-retry-after", "1e9"], "'1e9' is more than 86400 seconds"),
        (["u", "--max-size", "much"], "'much' is no size"),
        (["u", "--retry-on", "9xx9"], "'9xx9' is no list of statuses"),
        (["u", "--resolve", "h:99999:127.0.0.1"], "is not HOST:PORT:ADDRESS"),
        (["u", "--resolve", "h:80:nowhere"], "is not HOST:PORT:ADDRESS"),
        (["u", "--max-failures", "101%"], "neither a number"),
        (["u", "--method", "GET /"], "method='GET /'"),
        (["u", "--jobb", "x"], "No such option"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(capfd: Capture, arguments: list[str], says: str) -> None:
    """A value that can't be is named; nothing is fetched; options of later versions don't exist."""
    assert says in refused(capfd, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cookies", "{}/none.txt"], "none.txt: can't be read"),
        (["--save-cookies", "{}/none/c.txt"], "its folder does not exist"),
        (["--save-cookies", "{}"], "it is a directory"),
        (["--ca-bundle", "{}/none.pem"], "the CA bundle can't be read"),
        (["--ca-bundle", "{}/text.pem"], "holds no PEM certificates"),
        (["--header", "X: @{}/none"], "the secret can't be read"),
        (["-o", "{}/none/o.jsonl"], "its folder does not exist"),
    ],
)
def test_trouble_with_files_is_found_before_anything_is_fetched(
    tmp_path: pathlib.Path, capfd: Capture, arguments: list[str], says: str
) -> None:
    """Cookies, CA bundle, secrets and outputs are tried at the start: exit code 3, one line, no request."""
    (tmp_path / "text.pem").write_text("no certificate")
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), *(word.format(tmp_path) for word in arguments)]) == 3
        assert server.request_count == 0
    err = capfd.readouterr().err
    assert says in err
    assert err.count("\n") == 1
