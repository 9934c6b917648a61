"""The pytest plugin, by tests of a user's: run by pytest within pytest."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

CRAWLER = """
from crawlpool import SessionPool

def titles(urls):
    with SessionPool() as pool:
        return [str(result.error) if result.response is None else result.response.text for result in pool.map(urls)]
"""


def run(pytester: pytest.Pytester, tests: str, *options: str, ini: str = "") -> pytest.RunResult:
    """Run a user's tests beside a small crawler."""
    pytester.makepyfile(crawler=CRAWLER, test_it=f"import pytest\nfrom crawler import titles\n{tests}")
    pytester.makeini(f"[pytest]\n{ini}")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)


def test_a_fixture_scripts_the_network(pytester: pytest.Pytester) -> None:
    """Sites are added in the test, or stand in the mark; a fault server is there, too."""
    tests = """
def test_added(crawl_offline):
    crawl_offline.add("https://a.example/", b"one")
    assert titles(["https://a.example/"]) == ["one"]
    crawl_offline.assert_asked("https://a.example/", times=1)

@pytest.mark.crawl_offline(sites={"https://b.example": {"/": b"two"}})
def test_marked():
    assert titles(["https://b.example/"]) == ["two"]

def test_faults(fault_server):
    assert titles([fault_server.url("/sliced")])
"""
    run(pytester, tests, "--strict-markers").assert_outcomes(passed=3)


def test_an_unscripted_request_fails_the_test(pytester: pytest.Pytester) -> None:
    """At its end, with the URL, though the crawler took the failure for a result; unless it is forgiven."""
    tests = """
def test_missing(crawl_offline):
    assert "no answer" in titles(["https://a.example/missing"])[0]

def test_forgiven(crawl_offline):
    titles(["https://a.example/missing"])
    crawl_offline.forgive()

@pytest.mark.crawl_offline(check=False)
def test_unchecked():
    titles(["https://a.example/missing"])

def test_broken(crawl_offline):
    crawl_offline.add("https://a.example", lambda request: 1 / 0)
    titles(["https://a.example/"])
"""
    result = run(pytester, tests)
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(["*asked for, and not scripted:*", "*GET https://a.example/missing*"])
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_what_was_not_scripted_is_told_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to take it back, and without a second exception that says the same."""
    for name in ("CI", "BUILD_NUMBER"):  # there pytest's summary shows each message whole once more
        monkeypatch.delenv(name, raising=False)
    tests = """
def test_missing(crawl_offline):
    titles(["https://a.example/missing"])
"""
    result = run(pytester, tests)
    result.assert_outcomes(passed=1, errors=1)
    said = result.stdout.str()
    assert said.count("GET https://a.example/missing") == said.count("crawl_offline.forgive()") == 1
    assert "During handling" not in said


def test_what_a_test_expects_is_forgiven_by_the_fixture(pytester: pytest.Pytester) -> None:
    """An Unscripted that the test itself has caught is refused all the same, also in a suite that is offline."""
    tests = """
import crawlpool

def fetch():
    with crawlpool.SessionPool() as pool, pytest.raises(crawlpool.Unscripted):
        pool.get("https://a.example/")

def test_expected(crawl_offline):
    fetch()
    crawl_offline.forgive()

def test_not_forgiven():
    fetch()
"""
    result = run(pytester, tests, ini="crawl_offline = true\n")
    result.assert_outcomes(passed=2, errors=1)


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("(site={})", "unknown argument 'site'; known are sites, loopback, check"),
        ("(sites={}, chek=False)", "unknown argument 'chek'; known are sites, loopback, check"),
        ("(False, chek=False)", "unknown argument 'chek'"),
        ("('https://shop.example')", "crawl_offline('https://shop.example'): True or False is needed"),
        ("({})", "sites are given by name"),
        ("(True, False)", "one argument without a name at most"),
        ("(True, is_on=False)", "one argument without a name at most"),
        ("(check=0)", "check=0: True or False is needed"),
        ("(loopback='no')", "loopback='no': True or False is needed"),
        ("(sites='https://shop.example')", "sites='https://shop.example': a dict"),
    ],
)
def test_a_mistake_in_the_mark_fails_the_test(pytester: pytest.Pytester, mark: str, said: str) -> None:
    """What nobody reads would be a test that checks less than it says."""
    result = run(pytester, f"@pytest.mark.crawl_offline{mark}\ndef test_it():\n    pass\n")
    result.assert_outcomes(errors=1)
    assert said in result.stdout.str()


def test_a_mark_may_say_it_by_name(pytester: pytest.Pytester) -> None:
    """``is_on=False`` takes a test out, as its signature has it."""
    tests = """
from crawlpool.transport.stage import current_stage

@pytest.mark.crawl_offline(is_on=False)
def test_out():
    assert current_stage() is None

@pytest.mark.crawl_offline(is_on=True)
def test_in():
    assert current_stage() is not None
"""
    run(pytester, tests, ini="crawl_offline = true\n").assert_outcomes(passed=2)


def test_a_line_of_configuration_takes_a_suite_offline(pytester: pytest.Pytester) -> None:
    """Every test, over workers of pytest-xdist as well; a mark takes one out."""
    tests = """
from crawlpool.testing import SiteServer

@pytest.mark.parametrize("number", range(4))
def test_off(number, crawl_offline):
    crawl_offline.add("https://a.example/", str(number))
    assert titles(["https://a.example/"]) == [str(number)]

@pytest.mark.crawl_offline(check=False)
def test_off_without_asking():
    assert "no answer" in titles(["https://a.example/"])[0]

@pytest.mark.crawl_offline(False)
def test_on():
    with SiteServer({"/": b"real"}) as server:
        assert titles([server.url()]) == ["real"]
"""
    run(pytester, tests, "-n", "2", ini="crawl_offline = true\n").assert_outcomes(passed=6)


def test_what_pytest_imports_in_every_run_is_little() -> None:
    """The plugin alone brings none of crawlpool's machinery along; and crawlpool needs no pytest."""
    names = "('requests', 'urllib3', 'crawlpool.sessionpool', 'crawlpool.testing.server')"
    for code, said in (
        (f"import crawlpool.testing.plugin, sys; print([m for m in {names} if m in sys.modules])", "[]"),
        ("import sys; from crawlpool.testing import Offline, FAULTS; print('pytest' in sys.modules)", "False"),
    ):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said
