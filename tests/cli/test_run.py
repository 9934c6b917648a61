"""``crawlpool run``, in this process against a real server: records, exit codes, and what each option does."""

from __future__ import annotations

import pathlib
import threading

import pytest

from crawlpool.cli import main
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.testing.routes import Route
from tests.cli.command import PATIENCE_S, records_of

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.above_transports


@pytest.mark.parametrize(
    ("paths", "options", "code"),
    [
        (["/a", "/b"], [], 0),
        (["/a", "/missing"], [], 8),
        (["/a", "/missing", "/cut"], [], 4),
        (["/a", "/missing", "/cut"], ["--max-failures", "2"], 0),
        (["/a", "/missing", "/cut"], ["--max-failures", "70%"], 0),
        (["/a", "/missing", "/cut"], ["--max-failures", "60%"], 4),
        (["/a", "/missing"], ["--max-failures", "0"], 4),
        (["/a", "/b"], ["--max-failures", "0"], 0),
    ],
)
def test_the_exit_code_says_the_worst(paths: list[str], options: list[str], code: int, capfd: Capture) -> None:
    """0 when all went well, 8 for HTTP errors, 4 for failures; within --max-failures both are well, beyond it 4."""
    routes: dict[str, Route] = {
        "/a": b"a",
        "/b": b"b",
        "/cut": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    }
    with SiteServer(routes) as server:
        assert main(["run", *map(server.url, paths), "--retries", "0", *options]) == code
    out, err = capfd.readouterr()
    assert [record["input"] for record in records_of(out)] == [server.url(path) for path in paths]
    ends = {record["outcome"] for record in records_of(out)}
    expected = {"/a": "ok", "/b": "ok", "/missing": "http_error", "/cut": "failed"}
    assert ends == {expected[path] for path in paths}
    assert f"{len(paths)} inputs + 0 found = " in err


def test_beyond_max_failures_the_run_drains(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """As soon as more failed than is borne, nothing further is begun: the rest of the input has no request."""
    urls = tmp_path / "urls.txt"
    with SiteServer({}) as server:
        urls.write_text("".join(f"{server.url(f'/{n}')}\n" for n in range(5000)))
        code = main(["run", str(urls), "--threads", "2", "--max-failures", "10", "-o", str(tmp_path / "o.jsonl")])
        assert server.request_count < 2500
    assert code == 4
    records = records_of(tmp_path / "o.jsonl")
    assert sum(record["outcome"] == "http_error" for record in records) > 10
    assert {record["reason"] for record in records if record["outcome"] == "skipped"} <= {"interrupted"}
    assert "stopped by --max-failures" in capfd.readouterr().err


def test_the_start_says_what_holds_and_the_end_what_happened(capfd: Capture, transport: str) -> None:
    """One line at the start; at the end the books, the errors by kind and status, and what may be done."""
    with SiteServer({"/a": b"a"}) as server:
        main(["run", server.url("/a"), server.url("/b"), "nonsense://x", "--threads", "3", "--per-host", "2"])
    err = capfd.readouterr().err
    first = err.splitlines()[0]
    says = f"3 threads, 3 in flight, transport {transport}; at most 2 at once per host; 3 retries; output to standard"
    assert says in first
    assert "3 inputs + 0 found = 1 ok + 1 http_error + 1 failed + 0 disallowed + 0 skipped" in err
    assert "HTTP errors: 404 ×1" in err
    assert "errors: invalid_url ×1" in err
    assert 'look for "outcome":"failed"' in err
    assert "exit code 4" in err


def test_quiet_tells_nothing_but_errors(capfd: Capture) -> None:
    """With -q a run that ends well says nothing on stderr, and bad lines are in their records only."""
    with SiteServer({"/a": b"a"}) as server:
        assert main(["run", server.url("/a"), "bad://x", "-q"]) == 4
    out, err = capfd.readouterr()
    assert (len(records_of(out)), err) == (2, "")


def test_headers_go_out_as_told(capfd: Capture) -> None:
    """The User-Agent names crawlpool or what is given, and the contact; --header and --method hold for each request."""
    with SiteServer(lambda request: b"x") as server:
        main(["run", server.url("/1"), "--contact", "me@site.example"])
        main(["run", server.url("/2"), "--user-agent", "bot/2", "--header", "X-A: b c", "--header", "Accept: text/*"])
        main(["run", server.url("/3"), "--method", "head", "--header", "user-agent: mine"])
        first, second, third = server.requests
    assert first.headers["user-agent"].startswith("crawlpool/")
    assert first.headers["user-agent"].endswith(" (+me@site.example)")
    assert second.headers["user-agent"] == "bot/2"
    assert (second.headers["x-a"], second.headers["accept"]) == ("b c", "text/*")
    assert (third.method, third.headers["user-agent"]) == ("HEAD", "mine")


def test_auth_goes_to_its_host_only(capfd: Capture) -> None:
    """--auth is sent to the one host and port, and not to where a redirect leads."""
    with SiteServer(lambda request: b"x") as other:
        with SiteServer({"/": b"x", "/away": Answer(302, {"Location": other.url("/there")})}) as server:
            home = f"127.0.0.1:{server.port}"
            main(["run", server.url("/"), server.url("/away"), other.url("/here"), "--auth", f"me:p@ss:w@{home}"])
            assert {request.headers["authorization"] for request in server.requests} == {"Basic bWU6cEBzczp3"}
        assert [request.headers.get("authorization") for request in other.requests] == [None, None]


def test_cookies_are_read_sent_and_saved(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """--cookies brings a cookie along; --save-cookies writes it and what the server has set, for the owner only."""
    (tmp_path / "in.txt").write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\told\t1\n")
    with SiteServer(lambda request: Answer(200, {"Set-Cookie": "new=2"}, b"x")) as server:
        arguments = ["--cookies", str(tmp_path / "in.txt"), "--save-cookies", str(tmp_path / "out.txt")]
        assert main(["run", server.url("/"), *arguments]) == 0
        assert server.requests[0].headers["cookie"] == "old=1"
    saved = (tmp_path / "out.txt").read_text()
    assert "\told\t1" in saved and "\tnew\t2" in saved
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o600


def test_a_proxy_gets_the_requests_and_its_login(capfd: Capture) -> None:
    """--proxy gets whole URLs and the credentials of its URL; the record names it without them."""
    with SiteServer(lambda request: request.target.encode()) as proxy:
        url = f"http://us:er%40@127.0.0.1:{proxy.port}"
        assert main(["run", "http://far.example/x", "--proxy", url]) == 0
        robots, request = proxy.requests
    assert robots.target == "http://far.example/robots.txt"
    assert request.target == "http://far.example/x"
    assert request.headers["proxy-authorization"] == "Basic dXM6ZXJA"
    out, err = capfd.readouterr()
    assert records_of(out)[0]["proxy"].rstrip("/") == f"http://127.0.0.1:{proxy.port}"
    assert "us:er" not in out + err and "%40" not in out + err


def test_a_name_can_be_given_an_address(capfd: Capture) -> None:
    """--resolve leads a name and port to an address; the Host header and the record keep the name."""
    with SiteServer(lambda request: request.headers["host"].encode()) as server:
        url = server.url("/", host="pages.example")
        assert main(["run", url, "--resolve", f"pages.example:{server.port}:127.0.0.1"]) == 0
        assert server.requests[0].headers["host"] == f"pages.example:{server.port}"
    record = records_of(capfd.readouterr().out)[0]
    assert (record["final_url"], record["ip"]) == (url, "127.0.0.1")


def test_limits_end_what_is_too_much(capfd: Capture) -> None:
    """Size, redirects, time, type of content, and URLs of one host: each limit has its kind or reason in the record."""
    routes: dict[str, Route] = {
        "/big": b"x" * 2048,
        "/loop": Answer(302, {"Location": "/loop"}),
        "/pdf": Answer(200, {"Content-Type": "application/pdf"}, b"x"),
        "/ok": Answer(200, {"Content-Type": "text/html; charset=x"}, b"x" * 1024),
        "/more": b"x",
    }
    limits = ["--max-size", "1k", "--max-redirects", "3", "--content-type", "text/html,text/x", "--max-per-host", "4"]

    def found() -> list[tuple[str, str | None]]:
        records = records_of(capfd.readouterr().out)
        return [(record["outcome"], record["reason"] or (record["error"] or {}).get("kind")) for record in records]

    with SiteServer({**routes, "/slow": Answer(200, {}, b"x", delay_s=30)}) as server:
        assert main(["run", *(server.url(path) for path in routes), *limits, "--retries", "0"]) == 4
        assert found() == [
            ("failed", "too_large"),
            ("failed", "redirect"),
            ("failed", "content_type"),
            ("ok", None),
            ("skipped", "max_per_host"),
        ]
        # By itself: on a busy machine others might be late for it, too.
        assert main(["run", server.url("/slow"), "--max-time", "0.3", "--retries", "0"]) == 4
        assert found() == [("failed", "deadline")]


def test_retries_are_as_told(capfd: Capture) -> None:
    """--retries counts further tries, --retry-on says of which statuses; --retries 0 asks once."""

    def answers(request: Request) -> Answer:
        return Answer(418 if request.path == "/tea" else 503, {"Retry-After": "0"})

    with SiteServer(answers) as server:
        main(["run", server.url("/"), "--retries", "0"])
        main(["run", server.url("/tea"), "--retries", "2", "--retry-on", "418", "--max-retry-after", "0"])
        main(["run", server.url("/"), "--retries", "2", "--retry-on", "418"])
        assert [request.path for request in server.requests] == ["/", "/tea", "/tea", "/tea", "/"]


def test_columns_come_along_and_headers_are_kept(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """--carry brings fields of a CSV file as meta; --record-headers keeps the named headers, 'all' keeps all."""
    table = tmp_path / "in.csv"
    with SiteServer(lambda request: Answer(200, {"ETag": '"1"', "X-Other": "y"}, b"x")) as server:
        table.write_text(f"sku,link\n7,{server.url('/')}\n")
        arguments = ["run", str(table), "--input-format", "csv", "--url-field", "link", "--carry", "sku"]
        assert main([*arguments, "--record-headers", "ETag,Nope"]) == 0
        assert main([*arguments, "--record-headers", "all"]) == 0
    some, every = (record for record in records_of(capfd.readouterr().out))
    assert (some["meta"], some["headers"]) == ({"sku": "7"}, {"etag": '"1"'})
    assert every["headers"]["x-other"] == "y" and every["headers"]["etag"] == '"1"'


def test_several_outputs_get_the_same_records(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """-o can be repeated: each destination gets every record."""
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), "-o", "-", "-o", str(tmp_path / "a.jsonl")]) == 0
    assert (tmp_path / "a.jsonl").read_text("utf-8") == capfd.readouterr().out


def test_hosts_are_asked_one_at_a_time_when_told(capfd: Capture) -> None:
    """--per-host 1, given, holds for loopback hosts, too; not given, they have no limit."""
    inside, most = 0, 0
    lock = threading.Lock()  # guards inside and most
    both = threading.Barrier(2)

    def answers(request: Request) -> bytes:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        if request.path == "/together":
            both.wait(PATIENCE_S)
        else:
            server.shutdown.wait(0.01)  # long enough for another one to come in, were it sent
        with lock:
            inside -= 1
        return b"x"

    with SiteServer(answers) as server:
        assert main(["run", *(server.url(f"/{n}") for n in range(8)), "--per-host", "1"]) == 0
        assert most == 1
        assert main(["run", server.url("/together"), server.url("/together?2"), "--threads", "2"]) == 0
