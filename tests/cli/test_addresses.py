"""``--private`` and ``--allow-net``."""

from __future__ import annotations

import json
import pathlib

import pytest

from crawlpool.testing import Answer, SiteServer
from tests.cli.command import records_of, runner
from tests.notations import FRONT, canary

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.transports("urllib3")


def test_an_input_line_permits_its_host_and_no_redirect(capfd: Capture, tmp_path: pathlib.Path) -> None:
    """Out of the box; the record says which address it was and what permits it, and the run ends with 4."""
    run = runner(capfd)
    with canary() as bird, SiteServer({"/": Answer(302, {"Location": bird.url("/x")})}, hosts=FRONT) as front:
        code, out, _ = run("run", front.url("/"), "--retries", "3")
        (record,) = records_of(out)
        assert (code, record["error"]["kind"], record["attempts"], bird.connections) == (4, "blocked_address", 2, 0)
        assert "127.0.0.2 is a loopback address, and not permitted:" in record["error"]["message"]
        assert run("run", front.url("/"), bird.url("/"))[0] == 0
        assert run("run", front.url("/"), "--allow-net", "127.0.0.2", "--allow-net", "10.0.0.0/8")[0] == 0
        assert run("run", front.url("/"), "--private", "allow")[0] == 0
        code, out, _ = run("run", front.url("/"), bird.url("/"), "--private", "deny")
        assert code == 4 and {record["error"]["kind"] for record in records_of(out)} == {"blocked_address"}
        config = tmp_path / "c.toml"
        config.write_text('private = "deny"\nallow-net = ["127.0.0.0/8"]\n')
        assert run("run", front.url("/"), "--config", config)[0] == 0


def test_what_helps_is_told_where_it_helps(capfd: Capture) -> None:
    """A blocked address has its remedy; lines are to be corrected only where they are wrong: a Location isn't one."""
    run = runner(capfd)
    with canary() as bird:
        site = {"/in": Answer(302, {"Location": bird.url("/x")}), "/bad": Answer(302, {"Location": "http://[::1/"})}
        with SiteServer(site, hosts=FRONT) as front:
            _, out, err = run("run", front.url("/in"), front.url("/bad"), "-o", "-")
        assert {record["error"]["kind"] for record in records_of(out)} == {"blocked_address", "invalid_url"}
        assert "next: blocked_address: " in err and "--allow-net NET" in err
        assert "correct the lines" not in err
        assert "next: invalid_url: correct the lines" in run("run", "http://[::1/", "-o", "-")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--private", "never"], "'never'"),
        (["--allow-net", "10.0.0.1/8"], "'10.0.0.1/8' is no network: did you mean 10.0.0.0/8?"),
        (["--allow-net", "intranet.example"], "'intranet.example' is no network"),
    ],
)
def test_bad_values_are_usage_errors(arguments: list[str], says: str, capfd: Capture) -> None:
    """Exit code 2, and a message that names the value."""
    code, out, err = runner(capfd)("run", "http://127.0.0.1:1/", *arguments)
    assert (code, out) == (2, "") and says in err and "Traceback" not in err


def test_a_job_goes_on_with_its_rules(capfd: Capture, tmp_path: pathlib.Path) -> None:
    """Both options are kept in ``job.toml``, and ``resume`` holds them."""
    run, job = runner(capfd), tmp_path / "job"
    with canary() as bird:
        url = bird.url("/")
        assert run("run", url, "--private", "deny", "--allow-net", "127.0.0.8/29", "--job", job)[0] == 4
        kept = (job / "job.toml").read_text()
        assert 'private = "deny"' in kept and '"127.0.0.8/29"' in kept
        assert run("resume", job, "--retry-failed")[0] == 4
        assert bird.connections == 0
        assert run("resume", job, "--retry-failed", "--allow-net", "127.0.0.0/8")[0] == 0
    records = [json.loads(line) for line in (job / "results.jsonl").read_text().splitlines()]
    assert [record["outcome"] for record in records] == ["ok"]
