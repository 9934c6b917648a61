"""Secrets: where they may come from, and that they come out nowhere."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool.cli import main
from crawlpool.cli.secrets import BadSecret, SecretFileError, auth_of, header_of, login_of, proxies_of, resolve
from crawlpool.redact import one_line
from crawlpool.testing import Answer, Request, SiteServer

Capture = pytest.CaptureFixture[str]
SECRET = "s3cr3t"


def test_a_value_can_lie_in_a_file_or_a_variable(tmp_path: pathlib.Path) -> None:
    """@FILE gives the file's one line, env:NAME the variable; anything else is the value itself."""
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfvalue of a file\r\n")
    assert resolve(f"@{tmp_path / 'f'}") == "value of a file"
    assert resolve("env:TOKEN", {"TOKEN": "t"}) == "t"
    for plain in ("env:", "env:a-b", "env:me@host", "@", "plain", "en:v"):
        assert resolve(plain, {}) == plain


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * 70_000])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: pathlib.Path, content: bytes) -> None:
    """It must hold one line of text; the message names the file and not the content."""
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(SecretFileError, match="one line of UTF-8") as caught:
        resolve(f"@{tmp_path / 'f'}")
    assert "lines" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named() -> None:
    """A missing variable is an error, not an empty password."""
    with pytest.raises(BadSecret, match="NOPE is not set or empty"):
        resolve("env:NOPE", {"NOPE": ""})


def test_what_is_given_is_taken_apart() -> None:
    """The host begins after the last @, the password after the first colon; a header's value may hold colons."""
    assert auth_of("u:p:q@r@host:81") == ("host:81", ("u", "p:q@r"))
    assert login_of("u:") == ("u", "")
    assert header_of("X-A:b: c") == ("X-A", "b: c")
    assert proxies_of("host:3128") == ["http://host:3128"]
    assert proxies_of("socks5h://u:p@host:1") == ["socks5h://u:p@host:1"]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
@example("@")
@example("X: @")
@example("env:")
@example("X: env:")
@example(":@")
def test_no_message_repeats_what_was_given(noise: str) -> None:
    """Whatever is wrong with a header, a login or a proxy, its error shows nothing but the file or variable named."""
    text = f"{noise}{SECRET}"
    for read in (header_of, auth_of, login_of, proxies_of):
        value = text.partition(":")[2].strip() if read is header_of else text
        try:
            read(text)
        except SecretFileError as error:
            assert value.startswith("@")
            assert SECRET not in str(error).removeprefix(f"{one_line(value[1:])}: ")
        except BadSecret as error:
            name = value.removeprefix("env:")
            assert SECRET not in str(error) or str(error) == f"the environment variable {name} is not set or empty"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--auth", f"user:{SECRET}"],
        ["--auth", f"{SECRET}@host"],
        ["--auth", f"user:{SECRET}@ho st"],
        ["--auth", f"user:{SECRET}@ho/st"],
        ["--header", SECRET],
        ["--header", f"A: {SECRET}\n"],
        ["--header", f"A: {SECRET}\nB: x"],
        ["--header", f"A: {SECRET}\u20ac"],
        ["--header", f"{SECRET} x: y"],
        ["--proxy", f"ftp://user:{SECRET}@host"],
        ["--proxy", f"http://user:{SECRET}@host:99999"],
        ["--proxy", f"http://user:{SECRET}@ho st"],
        ["--proxxy", f"http://user:{SECRET}@host"],
        [f"--insecure={SECRET}"],
    ],
)
def test_a_malformed_secret_is_not_repeated(
    tmp_path: pathlib.Path, capfd: Capture, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, in the environment and in a file: the usage error names the place, never the value."""
    with SiteServer({"/": b"x"}) as server:
        code = main(["run", server.url("/"), *arguments])
        out, err = capfd.readouterr()
        assert code == (0 if arguments[1:] == [f"A: {SECRET}\n"] else 2)
        assert SECRET not in out + err
        if len(arguments) == 2 and arguments[0] != "--proxxy" and code:
            name, value = arguments[0][2:], arguments[1]
            monkeypatch.setenv(f"CRAWLPOOL_{name.upper()}", value)
            if "\n" not in value:  # there it separates headers
                assert main(["run", server.url("/")]) == 2
                err = capfd.readouterr().err
                assert SECRET not in err and f"CRAWLPOOL_{name.upper()}: " in err
            monkeypatch.delenv(f"CRAWLPOOL_{name.upper()}")
            config = tmp_path / "c.toml"
            escaped = value.replace("\n", "\\n")
            config.write_text(f'{name} = "{escaped}"\n', "utf-8")
            assert main(["run", server.url("/"), "--config", str(config)]) == 2
            err = capfd.readouterr().err
            assert SECRET not in err and f"{config}: {name}: " in err


@pytest.mark.parametrize("arguments", [[f"user:{SECRET}@host"], ["run", f"user:{SECRET}@host/x"]])
def test_a_login_in_the_wrong_place_is_not_repeated(capfd: Capture, arguments: list[str]) -> None:
    """Neither when it is taken for a command, nor for a file."""
    assert main(arguments) in (2, 3)
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_come_out_nowhere(capfd: Capture, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything told (-vv), over retries, redirects, failures and a dead proxy, no credential is shown."""

    def answers(request: Request) -> Answer:
        if request.path == "/away":
            return Answer(302, {"Location": f"http://u2:{SECRET}@127.0.0.1:{request.headers['host'][10:]}/there"})
        return Answer(503 if request.path == "/busy" else 200, {"Retry-After": "0"}, b"x")

    monkeypatch.setenv("TOKEN", f"Bearer {SECRET}")
    tell = ["-vv", "--log-format", log_format, "--retries", "1", "--max-retry-after", "0"]
    with SiteServer(answers) as server:
        home = f"127.0.0.1:{server.port}"
        urls = [server.url("/"), server.url("/busy"), server.url("/away"), f"http://u:{SECRET}@{home}/in-url"]
        assert main(["run", *urls, "--auth", f"u:{SECRET}@{home}", "--header", "X-Token: env:TOKEN", *tell]) == 8
        assert server.requests[0].headers["x-token"] == f"Bearer {SECRET}"
        assert any("authorization" in request.headers for request in server.requests)
    dead = f"http://u:{SECRET}@127.0.0.1:9"
    assert main(["run", "http://far.example/", "--proxy", dead, *tell]) == 4
    out, err = capfd.readouterr()
    assert SECRET not in out + err
    assert "dTpzM2NyM3Q" not in out + err  # the same as Basic auth has it
    assert len(err.splitlines()) >= 8


def test_a_netrc_file_is_not_read(tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawler sends nobody's netrc password to a host that stands in its input."""
    (tmp_path / "netrc").write_text(f"default login u password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/")]) == 0
        assert "authorization" not in server.requests[0].headers
