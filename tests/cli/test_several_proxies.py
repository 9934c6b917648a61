"""``--proxy`` several times: where the proxies may stand, what is told of them, and how a run without any ends."""

from __future__ import annotations

import json
import pathlib

import pytest

from crawlpool.cli import main
from crawlpool.cli.secrets import BadSecret, SecretFileError, proxies_of
from crawlpool.politeness import exits
from crawlpool.testing import Answer, SiteServer
from tests.cli.command import records_of

Capture = pytest.CaptureFixture[str]
SECRET = "s3cr3t"
URLS = [f"http://www.site{number}.example/" for number in range(30)]


@pytest.fixture
def proxies(request: pytest.FixtureRequest) -> list[str]:
    """Return the URLs, with logins, of two proxies that answer by themselves."""
    servers = [SiteServer(lambda _: Answer(200, {}, b"page")).start() for _ in range(2)]
    for server in servers:
        request.addfinalizer(server.stop)
    return [f"http://u{number}:{SECRET}@127.0.0.1:{server.port}" for number, server in enumerate(servers)]


def bare(url: str) -> str:
    return url.replace(url[7 : url.index("@") + 1], "")


@pytest.mark.parametrize("place", ["options", "file", "variable", "config"])
def test_several_proxies_may_stand_anywhere(
    place: str, proxies: list[str], tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, in a file of several lines, in the variable, in the config file; no login is told."""
    arguments = [f"--proxy={url}" for url in proxies]
    if place == "file":
        (tmp_path / "p.txt").write_text("# ours\n\n" + "\n".join(proxies) + "\n", "utf-8")
        arguments = ["--proxy", f"@{tmp_path / 'p.txt'}"]
    elif place == "variable":
        arguments = []
        monkeypatch.setenv("CRAWLPOOL_PROXY", "\n".join(proxies))
    elif place == "config":
        (tmp_path / "c.toml").write_text(f"proxy = {json.dumps(proxies)}\n", "utf-8")
        arguments = ["--config", str(tmp_path / "c.toml")]
    assert main(["run", *URLS, *arguments, "--ignore-robots", "-vv", "--log-format", "json"]) == 0
    out, err = capfd.readouterr()
    assert {record["proxy"].rstrip("/") for record in records_of(out)} == {bare(url) for url in proxies}
    assert SECRET not in out + err
    started = next(line for line in map(json.loads, err.splitlines()) if line["event"] == "started")
    assert started["proxies"] == 2
    assert "by 2 proxies, one for each host" in started["message"]


def test_one_that_fails_is_named_at_the_end(proxies: list[str], capfd: Capture) -> None:
    """Every page comes by the other; a line tells of the rest, and so does the summary. No login is told."""
    gone = f"http://u:{SECRET}@127.0.0.1:9"
    assert main(["run", *URLS, "--proxy", proxies[0], "--proxy", gone, "--ignore-robots", "-vv"]) == 0
    out, err = capfd.readouterr()
    assert {record["proxy"].rstrip("/") for record in records_of(out)} == {bare(proxies[0])}
    assert "proxy rests" in err
    assert "proxies that failed, and rested: http://127.0.0.1:9 ×1" in err
    assert SECRET not in out + err


def test_when_none_is_there_the_run_ends_with_4(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each URL failed, of kind proxy, after the ordinary attempts and so many waits; no login is told."""
    monkeypatch.setattr(exits, "REST_S", 0.0)
    gone = [f"--proxy=http://u:{SECRET}@127.0.0.1:{port}" for port in (7, 9, 11)]
    assert main(["run", *URLS[:4], *gone, "--ignore-robots", "--retries", "1", "-vv"]) == 4
    out, err = capfd.readouterr()
    records = records_of(out)
    assert [(record["outcome"], record["error"]["kind"]) for record in records] == [("failed", "proxy")] * 4
    assert max(record["attempts"] for record in records) <= 2 + 3 * (exits.TRIES + 1)
    assert SECRET not in out + err
    assert "dTpzM2NyM3Q" not in out + err


def test_the_same_proxy_twice_is_refused(proxies: list[str], capfd: Capture) -> None:
    """Named without its login; the same address with another login is another one."""
    assert main(["run", URLS[0], "--proxy", proxies[0], "--proxy", proxies[0]]) == 2
    out, err = capfd.readouterr()
    assert f"--proxy: {bare(proxies[0])} is there twice" in err
    assert SECRET not in out + err
    other = proxies[0].replace("u0:", "u9:")
    assert main(["run", URLS[0], "--proxy", proxies[0], "--proxy", other, "--ignore-robots"]) == 0


def test_a_bad_line_of_a_file_is_named_by_its_number(tmp_path: pathlib.Path) -> None:
    """And not shown; a file without any is an error, too."""
    file = tmp_path / "p.txt"
    file.write_text(f"# mine\nhost:1\nftp://u:{SECRET}@host\n", "utf-8")
    with pytest.raises(BadSecret, match=r"p.txt, line 3: a proxy is") as caught:
        proxies_of(f"@{file}")
    assert SECRET not in str(caught.value)
    for content in (b"# none\n", b"\n", b"\xff\n"):
        file.write_bytes(content)
        with pytest.raises(SecretFileError, match=r"p.txt: "):
            proxies_of(f"@{file}")
