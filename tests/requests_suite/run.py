"""requests' own tests with crawlpool's Session in place of ``requests.Session``: the measure of how true it is to it.

``tox -e requests-suite``, or ``python tests/requests_suite/run.py`` where crawlpool, pytest, pytest-httpbin,
pytest-mock, trustme and PySocks are installed. It

1. downloads the source distribution of the installed requests with pip, and unpacks it into a temporary folder;
2. runs its tests twice, each time in a process of its own: plain, and with crawlpool's class (``plugin.py``);
3. prints the counts of both and each test whose outcome differs. Those run again, alone, to tell flaky from different.

Some of these tests dial 10.255.255.1 or look up names. So each run has a network namespace of its own that nothing
can leave (``netns.py``). Where none can be made, an audit hook refuses every lookup and connect that isn't loopback,
and the tests of ``NEED_A_MUTE_ADDRESS`` are left out, which it says.

Exit codes: 0 no difference, 1 some test differs, 2 the tests could not be run.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from typing import Any

import netns  # beside this script

HERE = pathlib.Path(__file__).resolve().parent
SESSION_CLASS = "crawlpool.session:Session"
NEEDED = {"pytest": "pytest", "pytest_httpbin": "pytest-httpbin", "pytest_mock": "pytest-mock", "trustme": "trustme",
          "socks": "PySocks", "crawlpool": "crawlpool"}  # fmt: skip
#: Two tests of two parametrisations each; they want a connect to 10.255.255.1 to time out.
NEED_A_MUTE_ADDRESS = (
    "tests/test_requests.py::TestTimeout::test_connect_timeout",
    "tests/test_requests.py::TestTimeout::test_total_timeout_connect",
)
ORDER = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
#: Not a difference: the test is expected to fail and free not to.
SAME_ENOUGH = ({"xfailed", "xpassed"},)

#: Tests that look into urllib3's own objects, by the start of their names, and what holds instead.
EXPLAINED = {
    "curl": {
        "tests/test_requests.py::TestPreparingURLs::test_different_connection_pool_for_tls_settings_":
            "counts urllib3's pools; that no TLS setting uses another's connection: tests/transport/test_tls.py",
        "tests/test_lowlevel.py::test_use_proxy_from_environment[":
            "wants the SOCKS proxy dialled before the name behind it is looked up; libcurl does both at once",
    }
}  # fmt: skip

Outcomes = dict[str, dict[str, str]]


class CannotRun(Exception):
    """The tests could not be run; the message says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run both, print the comparison, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sdist", type=pathlib.Path, help="requests' source distribution (default: pip downloads it)")
    parser.add_argument("--timeout", type=float, default=400, metavar="SECONDS", help="bound of each run (%(default)g)")
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="only tests that match, as in pytest")
    parser.add_argument("--session-class", default=SESSION_CLASS, metavar="MODULE:NAME", help="default: %(default)s")
    parser.add_argument("--transport", default="urllib3", choices=("urllib3", "curl"), help="default: %(default)s")
    parser.add_argument("--no-namespace", action="store_true", help="do as where no network namespace can be made")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write both runs' outcomes there")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="requests-suite-") as folder:
            return compare(pathlib.Path(folder), options)
    except CannotRun as error:
        print(f"requests-suite: {error}", file=sys.stderr)
        return 2


def compare(folder: pathlib.Path, options: argparse.Namespace) -> int:
    """Do it all in ``folder``."""
    lacking = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if lacking:
        raise CannotRun(f"not installed: {', '.join(lacking)}")
    module, _, name = options.session_class.partition(":")
    try:
        getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CannotRun(f"--session-class {options.session_class}: {error}") from error
    version = importlib.metadata.version("requests")
    suite = unpack(options.sdist or download(version, folder), version, folder)
    prefix = None if options.no_namespace else netns.prefix()
    if prefix is None and options.transport == "curl":
        raise CannotRun("--transport curl: only a network namespace holds libcurl's connects, and here is none")
    runner = Runner(suite, folder, prefix, options)
    print(f"requests {version} on Python {sys.version.split()[0]}; {runner.where}", flush=True)
    selection = ["-k", options.k] if options.k else []
    plain, ours = runner.both(["tests", *selection])
    if options.json:
        options.json.write_text(json.dumps({"plain": plain, "crawlpool": ours}, indent=1), encoding="utf-8")
    print_counts(plain, ours)
    different = differing(plain["tests"], ours["tests"])
    again = [name for name in different if name in plain["tests"] and name in ours["tests"]]
    for name in different:
        print_difference(name, plain["tests"].get(name), ours["tests"].get(name))
    flaky: set[str] = set()
    if again:
        plain_again, ours_again = runner.both(again)
        flaky = set(again) - set(differing(plain_again["tests"], ours_again["tests"]))
    for name in sorted(flaky):
        print(f"flaky, the same when run alone: {name}")
    explained = {name: why for name in different if (why := explanation(name, options.transport)) is not None}
    for name, why in explained.items():
        print(f"explained: {name}: {why}")
    left = len(set(different) - flaky - set(explained))
    beside = "".join(f", {len(some)} {word}" for some, word in ((explained, "explained"), (flaky, "flaky")) if some)
    print(f"{left} of {len(plain['tests'])} tests differ without a reason{beside}")
    return 1 if left else 0


def download(version: str, folder: pathlib.Path) -> pathlib.Path:
    """Have pip fetch the source distribution; it may build in isolation to read the metadata, as it does for anyone."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-binary", "requests", "--dest", str(folder), f"requests=={version}"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRun("pip download took more than 300 s") from error
    found = sorted(folder.glob("requests-*.tar.gz"))
    if done.returncode or not found:
        raise CannotRun(f"pip download of requests {version} failed:\n{done.stderr.strip()}")
    return found[0]


def unpack(sdist: pathlib.Path, version: str, folder: pathlib.Path) -> pathlib.Path:
    """Unpack the distribution; return the folder that holds ``tests``."""
    if not sdist.is_file():
        raise CannotRun(f"{sdist}: no such file")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # CPython 3.10 and 3.11 before the filter was backported
            archive.extractall(folder)
    suite = folder / f"requests-{version}"
    if not (suite / "tests" / "test_requests.py").is_file():
        raise CannotRun(f"{sdist}: holds no requests-{version}/tests")
    return suite


class Runner:
    """Runs the tests, plain and with our class."""

    def __init__(self, suite: pathlib.Path, folder: pathlib.Path, prefix: list[str] | None, options: Any) -> None:
        """Note where the tests and the outcomes lie, and what makes a network for a command."""
        self._suite = suite
        self._folder = folder
        self._prefix = prefix
        self._timeout_s = options.timeout
        self._session_class = options.session_class
        self._transport = options.transport
        self.where = "each run in a network namespace of its own"
        if prefix is None:
            self.where = f"no network namespace here: loopback only, without {', '.join(NEED_A_MUTE_ADDRESS)}"

    def both(self, arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run plain and ours; side by side where each has a network of its own, for the time goes by in sleeps."""
        results: dict[str, Any] = {}

        def run(name: str, session_class: str | None) -> None:
            try:
                results[name] = self._run(name, session_class, arguments)
            except CannotRun as error:
                results[name] = error

        runs = (("plain", None), ("crawlpool", self._session_class))
        threads = [threading.Thread(target=run, args=one) for one in runs]
        for thread in threads:
            thread.start()
            if self._prefix is None:
                thread.join()
        for thread in threads:
            thread.join()
        for name, result in results.items():
            if isinstance(result, CannotRun):
                raise CannotRun(f"{name}: {result}")
        return results["plain"], results["crawlpool"]

    def _run(self, name: str, session_class: str | None, arguments: list[str]) -> dict[str, Any]:
        outcomes = self._folder / f"{name}.json"
        outcomes.unlink(missing_ok=True)
        command = [*(self._prefix or []), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
        command += ["-p", "plugin", "--outcomes", str(outcomes), *arguments]
        if session_class:
            command += ["--session-class", session_class]
        if self._prefix is None:
            command += ["--loopback-only", *(f"--deselect={one}" for one in NEED_A_MUTE_ADDRESS)]
        log = self._folder / f"{name}.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(command, cwd=self._suite, env=self._environment(), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
            try:
                process.wait(self._timeout_s)
            except subprocess.TimeoutExpired as error:
                raise CannotRun(f"more than {self._timeout_s:g} s; the end of its output:\n{_tail(log)}") from error
            finally:
                _end(process)
        if not outcomes.is_file():
            raise CannotRun(f"pytest ended with {process.returncode} and no outcomes:\n{_tail(log)}")
        loaded: dict[str, Any] = json.loads(outcomes.read_text(encoding="utf-8"))
        if session_class and loaded["session"] != session_class.replace(":", "."):
            raise CannotRun(f"sessions were {loaded['session']}, not only {session_class}")
        if session_class and loaded["transport"] != self._transport:
            raise CannotRun(f"the transport was {loaded['transport']}, not {self._transport}")
        return loaded

    def _environment(self) -> dict[str, str]:
        """The tests' environment: ours, this folder on the path for the plugin, and the transport."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        paths = [str(HERE), *filter(None, [kept.get("PYTHONPATH")])]
        ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, **ours, "CRAWLPOOL_TRANSPORT": self._transport}


def differing(plain: Outcomes, ours: Outcomes) -> list[str]:
    """Return the tests whose outcome differs, one that ran only once included."""
    found = []
    for name in sorted({*plain, *ours}):
        outcomes = {plain.get(name, {}).get("outcome", "not run"), ours.get(name, {}).get("outcome", "not run")}
        if len(outcomes) > 1 and outcomes not in SAME_ENOUGH:
            found.append(name)
    return found


def explanation(name: str, transport: str) -> str | None:
    """Return why a test can't but differ over a transport; ``None`` where nobody has said."""
    reasons = EXPLAINED.get(transport, {})
    return next((why for start, why in reasons.items() if name.startswith(start)), None)


def print_counts(plain: dict[str, Any], ours: dict[str, Any]) -> None:
    """Print a line of counts for each run."""
    for label, result in (("plain requests", plain), ("crawlpool", ours)):
        counts = collections.Counter(test["outcome"] for test in result["tests"].values())
        shown = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome])
        print(f"{label:14}  {shown}  ({result['session']})", flush=True)


def print_difference(name: str, plain: dict[str, str] | None, ours: dict[str, str] | None) -> None:
    """Print one test whose outcome differs, and why it failed."""
    shown = [(one or {"outcome": "not run", "why": ""}) for one in (plain, ours)]
    print(f"DIFFERS: {name}: plain {shown[0]['outcome']}, crawlpool {shown[1]['outcome']}", flush=True)
    for label, one in zip(("plain", "crawlpool"), shown, strict=True):
        if one["why"]:
            print(f"    {label}: {one['why']}")


def _tail(log: pathlib.Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


def _end(process: subprocess.Popen[Any]) -> None:
    """End the run and what it started; nothing is left behind."""
    if process.poll() is None and hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
