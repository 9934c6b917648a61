"""Real servers on loopback for tests: yours and crawlpool's own.

``SiteServer`` needs nothing but Python. ``crawlpool.testing.nginx`` runs an nginx, ``crawlpool.testing.certificates``
makes certificates for both, and ``python -m crawlpool.testing.demo`` shows a crawl.
"""

from __future__ import annotations

from crawlpool.testing.http1 import Answer, Request
from crawlpool.testing.server import SiteServer, loopback_hosts

__all__ = ["Answer", "Request", "SiteServer", "loopback_hosts"]
