"""The JSON of a run: every round of every contender, and on what machine. Plots and the contract can be made of it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

from bench.contenders import CONTENDERS, REPOSITORY, Kind
from bench.measure import Measured, Round
from bench.workloads import Workload
from crawlpool.testing.nginx import find_nginx

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where a run is kept unless ``--json`` names another file.
LATEST = REPOSITORY / ".bench" / "latest.json"
_PYTHON = ("crawlpool", "requests", "urllib3", "pycurl")


def keep(found: Iterable[Measured], path: pathlib.Path) -> None:
    """Write every round of a run as JSON; a folder of its own, which git is told to ignore, is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path == LATEST:
        (path.parent / ".gitignore").write_text("*\n", "ascii")
    now = datetime.datetime.now(datetime.timezone.utc)
    data: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "workloads": [_as_data(one) for one in found],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def load(path: pathlib.Path) -> list[Measured]:
    """Read what ``keep`` wrote."""
    return [_of_data(one) for one in json.loads(path.read_text("utf-8"))["workloads"]]


def machine() -> dict[str, Any]:
    """Tell what decides the figures of a run beside the contenders."""
    versions: dict[str, Any] = {}
    for name in _PYTHON:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    programs = [one.needs for one in CONTENDERS.values() if one.kind is not Kind.LIBRARY]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": os.cpu_count(),
        "openssl": ssl.OPENSSL_VERSION,
        **versions,
        "nginx": _said_by([find_nginx() or "nginx", "-v"]),
        **{name: _said_by([name, "--version"]) for name in programs if name not in ("crawlpool", "scrapy")},
    }


def _said_by(arguments: list[str]) -> str | None:
    """Return the version that a program tells, or ``None`` when there is no such program."""
    try:
        told = subprocess.run(arguments, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    found = re.search(r"\d+\.[\w.+-]+", told.stdout or told.stderr)
    return found[0] if found else None


def _as_data(one: Measured) -> dict[str, Any]:
    return {
        "workload": dataclasses.asdict(one.workload),
        "server": one.server,
        "contenders": {
            contender: {
                "version": one.versions.get(contender),
                "requests_per_second": one.per_second(contender),
                "cpu_us_per_request": one.cpu_us(contender),
                "peak_bytes": one.peak_bytes(contender),
                "rounds": [dataclasses.asdict(each) for each in rounds],
            }
            for contender, rounds in one.rounds.items()
        },
        "absent": one.absent,
        "failed": one.failed,
    }


def _of_data(data: dict[str, Any]) -> Measured:
    contenders = data["contenders"]
    return Measured(
        Workload(**data["workload"]),
        data["server"],
        {name: [Round(**each) for each in one["rounds"]] for name, one in contenders.items()},
        data["absent"],
        data["failed"],
        {name: one["version"] for name, one in contenders.items() if one["version"]},
    )
