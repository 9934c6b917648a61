"""``crawlpool status``: how far a run is, and which hosts it doesn't ask as the others, in text and as JSON."""

from __future__ import annotations

import json
import pathlib
import threading

import pytest

from crawlpool import HostLimits, SessionPool
from crawlpool.cli import control, main, status
from crawlpool.cli.control_place import listening_at
from crawlpool.cli.control_server import ControlServer
from crawlpool.cli.desk import Desk
from crawlpool.cli.job_status import SHOWN
from crawlpool.cli.status import lines_of
from crawlpool.politeness.blocks import BLOCKS
from crawlpool.testing import SiteServer, loopback_hosts
from tests.gates import Gate, Threads

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_tells_how_far_it_is(capfd: Capture) -> None:
    """Books, what waits and runs, the rate; hosts held, skipped and slowed down, by whom; from the folder, too."""
    first, second, third = loopback_hosts(3)
    with Gate() as gate, SiteServer({"/": gate, "/ok": b"x"}, hosts=[first, second, third]) as server:
        with SessionPool(threads=2) as pool, Threads() as threads, listening_at("control") as listening:
            assert listening is not None
            crawl = pool.new_crawl(limits=HostLimits(concurrency=1), robots=False)
            crawl.hold(second)
            crawl.skip(third)
            crawl.set_delay(first, 0)
            for _ in range(BLOCKS):
                crawl.group.blocks.note("blocks.example", is_block=True)
            done = threading.Event()
            urls = [server.url("/", first), server.url("/ok", second), server.url("/ok", third)]
            threads.start(lambda: (crawl.run(urls), done.set()))
            gate.wait_for(1)
            desk = Desk(crawl, 3)
            with ControlServer(listening, desk.answer, desk.look):
                while crawl.progress().report.skipped < 1:
                    pass
                assert main(["status", "control", "--json"]) == 0
                found = json.loads(capfd.readouterr().out)
                assert main(["status", "."]) == 0
                text = capfd.readouterr().out
            gate.open()
    assert {name: found[name] for name in ("inputs", "ok", "skipped", "queued", "running", "total")} == {
        "inputs": 3, "ok": 0, "skipped": 1, "queued": 1, "running": 1, "total": 3,
    }  # fmt: skip
    assert found["held"] == [
        {"host": second, "by": "operator", "waiting": 1},
        {"host": "blocks.example", "by": "blocks", "waiting": 0},
    ]
    assert found["skipped_hosts"] == [third]
    assert found["delays"] == [{"host": first, "delay_s": 0}]
    assert "1 of 3 URLs done: 0 ok, 0 http_error, 0 failed, 0 disallowed, 1 skipped\n1 waiting, 1 under way; " in text
    assert (
        f"hosts held by the operator: {second} (1 waiting)\nhosts held, as they don't want us: blocks.example\n" in text
    )
    assert f"hosts skipped by the operator: {third}\nhosts with a delay of their own: {first} 0 s\n" in text


def test_watching_ends_with_the_run(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again and again, with --json one object a line; a run that ends is no error, one that never was is."""
    answers = iter([{"n": 1}, {"n": 2}])

    def ask(path: str, request: object) -> object:
        try:
            return {"ok": True, "status": next(answers)}
        except StopIteration:
            raise control.ControlError("control: gone") from None

    monkeypatch.setattr(control, "ask", ask)
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    assert main(["status", "control", "--watch", "--json"]) == 0
    assert capfd.readouterr().out == '{"n": 1}\n{"n": 2}\n'
    assert main(["status", "control", "--watch", "--json"]) == 3
    assert capfd.readouterr().err == "crawlpool: control: gone\n"


def test_where_nobody_listens_the_exit_code_is_3(capfd: Capture) -> None:
    """One line says so."""
    assert main(["status", "nowhere"]) == 3
    made = "a run makes one with --job nowhere or with --control nowhere"
    said = f"crawlpool: nowhere: there is no such job, and no such socket; {made}\n"
    assert capfd.readouterr().err == said


def test_a_request_that_means_nothing_is_told() -> None:
    """Another program may speak to a run; it hears what it did wrong."""
    with SessionPool() as pool:
        desk = Desk(pool.new_crawl(), None)
        for request in ({}, {"do": "dance"}, {"do": ["hold"]}, {"do": "__init__", "host": "h"}):
            assert desk.answer(request)["error"] == "it asks for nothing that is known here"
        for request in ({"do": "hold"}, {"do": "hold", "host": 3}, {"do": "delay", "host": "h", "delay_s": "x"}):
            answer = desk.answer(request)
            assert (answer["ok"], answer["is_usage"]) == (False, True)


def test_what_is_not_so_is_not_told() -> None:
    """Sorts of hosts without any have no line; of many some are shown, and how many more there are."""
    found = {
        "elapsed_s": 2.0, "ok": 1, "http_error": 0, "failed": 0, "disallowed": 0, "skipped": 0, "queued": 0,
        "running": 0, "rate": 0.5, "total": None, "eta_s": 90.0, "held": [], "skipped_hosts": [], "delays": [],
        "given_up": [f"h{n}" for n in range(SHOWN + 5)], "resting": [{"host": "r", "for_s": 61.0}],
        "slowest": [],
    }  # fmt: skip
    first, second, given_up, resting = lines_of(found)
    assert first == "running for 2.0 s: 1 URLs done: 1 ok, 0 http_error, 0 failed, 0 disallowed, 0 skipped"
    assert second == "0 waiting, 0 under way; 0.5 URLs/s; about 1 min 30 s left"
    assert given_up.startswith("hosts given up, as they can't be reached: h0, h1, ")
    assert given_up.endswith(f"h{SHOWN - 1}, and 5 more")
    assert resting == "hosts resting longest: r 1 min 01 s"
