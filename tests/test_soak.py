"""A short run of the soak: ``tox -e soak`` runs it for ten minutes."""

from __future__ import annotations

import sys

import pytest

from crawlpool.testing.nginx import find_nginx
from crawlpool.transport.curl import library
from tests.soak import soak

pytestmark = [
    pytest.mark.skipif(not find_nginx(), reason="needs nginx"),
    pytest.mark.skipif(not library.is_installed(), reason="needs pycurl"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]


def test_a_soak_leaves_nothing_behind() -> None:
    """After thousands of pages, uploads, errors and streams given up, no descriptor and no thread is left over."""
    seen = soak(2.0)
    assert seen.settled > 500
    assert set(seen.outcomes) == {"ok", "http_error"}
    assert (seen.descriptors, seen.threads) == (0, 0)
    assert seen.drift_bytes < 64 * 2**20  # two seconds tell nothing finer; the long run holds 5 MiB
