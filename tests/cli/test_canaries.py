"""Credentials come out nowhere: every file and stream of crawls that fail in many ways is searched for them."""

from __future__ import annotations

import base64
import gzip
import pathlib
import socket

import pytest

from crawlpool.testing import Answer, Request, SiteServer
from tests.cli.command import Run, runner

pytestmark = pytest.mark.transports()

#: One for each way in which a credential can be given or found.
AUTH, HEADER, BEARER, COOKIE, SET, NETRC, URL, LOCATION, QUERY, PROXY = (
    f"c4n4ry{name}" for name in "auth header bearer cookie set netrc url location query proxy".split()
)


def needles(*secrets: str) -> list[bytes]:
    """Return what to look for: each secret, and the base 64 of Basic auth with the user ``ada``."""
    return [
        form
        for secret in secrets
        for form in (secret.encode(), base64.b64encode(f"ada:{secret}".encode()).rstrip(b"=")[:-1])
    ]


def found_in(data: bytes, *secrets: str) -> list[bytes]:
    """Return the needles that are there."""
    return [needle for needle in needles(*secrets) if needle in data]


def searched(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the contents of all files of a folder, unpacked."""
    files = {}
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            files[str(path.relative_to(folder))] = gzip.decompress(data) if path.suffix == ".gz" else data
    return files


class Site:
    """Pages, failures, and redirects with a login, to another host and to a port where nobody listens."""

    def __init__(self) -> None:
        self.given: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.dead: int = free.getsockname()[1]

    def __call__(self, request: Request) -> Answer:
        self.given.append(repr(request.fields).encode())
        port = request.headers["host"].rpartition(":")[2]
        path = request.path
        if path == "/login":
            return Answer(302, {"Location": f"http://ada:{LOCATION}@127.0.0.1:{port}/there"})
        if path == "/away":
            return Answer(307, {"Location": f"http://ada:{LOCATION}@127.0.0.2:{port}/there?token={QUERY}"})
        if path == "/dead":
            return Answer(302, {"Location": f"http://ada:{LOCATION}@127.0.0.1:{self.dead}/?key={QUERY}"})
        if path == "/junk":
            return Answer(302, {"Location": f"http://ada:{LOCATION}@[bad/"})
        if path == "/busy":
            return Answer(503, {"Retry-After": "0"})
        if path == "/cut":
            return Answer(200, {"Content-Length": "99"}, b"short")
        if path == "/broken":
            return Answer(200, {"Content-Encoding": "gzip"}, b"no gzip")
        if path == "/set":
            return Answer(200, {"Set-Cookie": f"sid={SET}"}, b"x")
        return Answer(404 if path == "/missing" else 200, {"Content-Type": "text/plain"}, b"x")


PATHS = "/ /login /away /dead /junk /busy /cut /broken /set /missing".split()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return runner(capfd)


def given_to(server: SiteServer, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return options with a credential of each kind."""
    monkeypatch.setenv("BEARER", f"Bearer {BEARER}")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    (folder / "netrc").write_text(f"machine 127.0.0.2 login ada password {NETRC}\n")
    (folder / "netrc").chmod(0o600)
    (folder / "in.txt").write_text(f"127.0.0.1\tFALSE\t/\tFALSE\t0\tin\t{COOKIE}\n")
    return [
        *("--auth", f"ada:{AUTH}@127.0.0.1:{server.port}", "--header", f"X-Api-Key: {HEADER}"),
        *("--header", "Authorization: env:BEARER", "--netrc"),
        *("--cookies", f"{folder}/in.txt", "--save-cookies", f"{folder}/out.txt"),
        *("--retries", "1", "--max-retry-after", "0", "--ignore-robots", "--on-block", "record"),
    ]


@pytest.mark.parametrize("tell", [["-v"], ["-vv", "--log-format", "json"]])
def test_a_job_that_fails_in_many_ways_tells_no_credential(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tell: list[str]
) -> None:
    """Ledger, records, WARC, bodies, job.toml, log, table, and what explain, cat, status, verify and audit say."""
    site, job, said = Site(), tmp_path / "job", b""
    outputs = [word for name in ("results.jsonl", "pages.warc.gz", "bodies/", "-") for word in ("-o", name)]
    with SiteServer(site, hosts=("127.0.0.1", "127.0.0.2")) as server:
        urls = [
            *(server.url(path) for path in PATHS),
            server.url("/", host="127.0.0.2"),
            server.url(f"/?token={QUERY}"),
        ]
        options = given_to(server, tmp_path, monkeypatch)
        code, out, err = run("run", *urls, "--job", job, *outputs, "--record-headers", "all", *options, *tell)
        assert code == 4
        said += out.encode() + err.encode()
        for again in ("status", "verify", "audit", "export"):
            said += "".join(map(str, run(again, job))).encode()
        (tmp_path / "log.jsonl").write_text(err)
        run("export", job, "-o", tmp_path / "job" / "table.csv")
        for url in urls:
            said += "".join(map(str, [*run("explain", job, url), *run("cat", job, url, "--headers")])).encode()
    sent = b"".join(site.given)
    assert found_in(sent, HEADER, COOKIE, NETRC, BEARER, SET)  # they were used
    assert not found_in(sent, LOCATION)
    files = searched(job)
    assert {"job.toml", "results.jsonl", "pages.warc.gz", "table.csv"} <= set(files)
    for name, data in {"streams": said, **files}.items():
        # cat shows the header as it is in the job: by then *** stands in it.
        assert found_in(data, AUTH, HEADER, BEARER, COOKIE, NETRC, LOCATION, SET) == [], name
    assert QUERY not in err  # the log; a record has the URL that was asked for
    assert QUERY.encode() in files["results.jsonl"]
    kept = (tmp_path / "out.txt").read_bytes()
    assert found_in(kept, COOKIE, SET) and not found_in(kept, AUTH, HEADER, BEARER, NETRC, LOCATION)


@pytest.mark.parametrize("tell", [["-v"], ["-vv", "--log-format", "json"]])
def test_logins_in_urls_and_proxies_are_told_nowhere(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tell: list[str]
) -> None:
    """Neither of input lines, good and bad, nor of a proxy that fails."""
    site = Site()
    with SiteServer(site, hosts=("127.0.0.1", "127.0.0.2")) as server:
        good = [server.url(path).replace("//", f"//ada:{URL}@") for path in PATHS]
        bad = [f"http://ada:{URL}@bad host/", f"http://ada:{URL}/@h/", f"ada:{URL}@h/x", f"ftp://ada:{URL}@h/"]
        (tmp_path / "urls.txt").write_text("\n".join([*good, *bad]))
        outputs = [word for name in ("r.jsonl", "p.warc.gz", "b/") for word in ("-o", f"{tmp_path}/out/{name}")]
        (tmp_path / "out").mkdir()
        options = ["--retries", "1", "--max-retry-after", "0", "--ignore-robots", "--record-headers", "all"]
        code, out, err = run("run", tmp_path / "urls.txt", *outputs, *options, *tell)
        assert code == 4
    assert found_in(b"".join(site.given), URL)
    dead = f"http://ada:{PROXY}@127.0.0.1:{site.dead}"
    code, more, errors = run("run", "http://h.example/", "--proxy", dead, *options, *tell)
    assert code == 4
    for name, data in {"streams": f"{out}{err}{more}{errors}".encode(), **searched(tmp_path / "out")}.items():
        assert found_in(data, URL, LOCATION, PROXY) == [], name


def test_netrc_is_read_where_that_is_asked_for(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option nobody gets a login of that file; with it the host that stands there does, and no other."""
    site = Site()
    with SiteServer(site, hosts=("127.0.0.1", "127.0.0.2")) as server:
        given_to(server, tmp_path, monkeypatch)
        urls = [server.url("/"), server.url("/", host="127.0.0.2")]
        assert run("run", *urls, "--ignore-robots")[0] == 0
        assert not found_in(b"".join(site.given), NETRC)
        site.given.clear()
        assert run("run", *urls, "--ignore-robots", "--netrc", "--threads", "1")[0] == 0
    assert [bool(found_in(one, NETRC)) for one in sorted(site.given, key=lambda one: b"127.0.0.2" in one)] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [("room", ["token=t1"], ["r1"]), ("default,room", [], ["t1", "r1"]), ("none", ["token=t1", "room=r1"], [])],
)
def test_redact_keys_sets_what_looks_secret(run: Run, words: str, shown: list[str], hidden: list[str]) -> None:
    """Other words, more words, or none; in the log alone."""
    with SiteServer(lambda _: Answer(200, {}, b"x")) as server:
        code, out, err = run("run", server.url("/?token=t1&room=r1"), "-v", "-o", "-", "--redact-keys", words)
    assert code == 0
    assert "token=t1&room=r1" in out
    assert all(one in err for one in shown)
    assert not any(f"={one}" in err for one in hidden)


@pytest.mark.parametrize("words", ["a b", "token,none", "to=ken"])
def test_redact_keys_that_are_no_words_are_a_usage_error(run: Run, words: str) -> None:
    """One line, which names the option."""
    code, _, err = run("run", "http://h.example/", "--redact-keys", words)
    assert (code, "redact-keys" in err) == (2, True)
