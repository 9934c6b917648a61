"""Real servers on loopback for tests: yours and crawlpool's own.

``SiteServer`` needs nothing but Python. ``FaultServer`` does what the hostile internet does, ``Offline`` is a scripted
network for whole crawlers. ``crawlpool.testing.nginx`` runs an nginx, ``crawlpool.testing.certificates`` makes
certificates, and ``python -m crawlpool.testing.demo`` shows a crawl.

What it has is imported when it is first asked for: pytest imports the plugin in every run, also where no test crawls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawlpool.testing.catalog import FAULTS
    from crawlpool.testing.faults import Fault, in_turn
    from crawlpool.testing.faultserver import FaultServer, serve
    from crawlpool.testing.http1 import Answer, Request
    from crawlpool.testing.offline import Offline
    from crawlpool.testing.server import SiteServer, loopback_hosts
    from crawlpool.testing.steps import Script, script

#: Where each public name is at home.
_HOME_OF = {
    "FAULTS": "catalog",
    "Answer": "http1",
    "Fault": "faults",
    "FaultServer": "faultserver",
    "Offline": "offline",
    "Request": "http1",
    "Script": "steps",
    "SiteServer": "server",
    "in_turn": "faults",
    "loopback_hosts": "server",
    "script": "steps",
    "serve": "faultserver",
}

__all__ = [
    "FAULTS",
    "Answer",
    "Fault",
    "FaultServer",
    "Offline",
    "Request",
    "Script",
    "SiteServer",
    "in_turn",
    "loopback_hosts",
    "script",
    "serve",
]


def __getattr__(name: str) -> Any:
    """Return a public name; from the second time on it is simply there (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'crawlpool.testing' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"crawlpool.testing.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
