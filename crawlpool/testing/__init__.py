"""Real servers on loopback for tests: yours and crawlpool's own.

``SiteServer`` needs nothing but Python. ``FaultServer`` does what the hostile internet does, ``Offline`` is a scripted
network for whole crawlers. ``crawlpool.testing.nginx`` runs an nginx, ``crawlpool.testing.certificates`` makes
certificates, and ``python -m crawlpool.testing.demo`` shows a crawl.
"""

from __future__ import annotations

from crawlpool.testing.catalog import FAULTS
from crawlpool.testing.faults import Fault, in_turn
from crawlpool.testing.faultserver import FaultServer, serve
from crawlpool.testing.http1 import Answer, Request
from crawlpool.testing.offline import Offline
from crawlpool.testing.server import SiteServer, loopback_hosts
from crawlpool.testing.steps import Script, script

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
