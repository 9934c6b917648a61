"""What an engine starts from: pycurl, looked at before it is used, and the settings that are fixed for its life.

pycurl is an extra, and a build of it may lack what libcurl could do. Both are told here, in words for the user, so that
nobody else has to look.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import TYPE_CHECKING, Any

from crawlpool.errors import ConfigError, MissingExtra
from crawlpool.fence import FenceSlot
from crawlpool.transport.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What this transport is built on. PREREQFUNCTION is the youngest: pycurl 7.45.7.
NEEDS = ("PREREQFUNCTION", "MAXAGE_CONN", "M_SOCKETFUNCTION")
#: libcurl 8.4 is the first that holds MAXFILESIZE for a body whose length nobody said.
OLDEST_LIBCURL = (8, 4)


def is_installed() -> bool:
    """Tell whether pycurl is there and can do what this transport needs."""
    try:
        require()
    except (MissingExtra, ConfigError):
        return False
    return True


def require() -> Any:
    """Return the module ``pycurl``.

    Raises:
        MissingExtra: when it isn't installed.
        ConfigError: when it is too old, or was built without what this transport needs.
    """
    try:
        pycurl = importlib.import_module("pycurl")
    except ImportError as error:
        raise MissingExtra("transport='curl'", "curl") from error
    lacking = [name for name in NEEDS if not hasattr(pycurl, name)]
    if lacking:
        raise ConfigError(f"transport='curl': {pycurl.version} lacks {', '.join(lacking)}; install a newer pycurl")
    if libcurl_version(pycurl.version) < OLDEST_LIBCURL:  # a pycurl that was built on the system's own
        raise ConfigError(f"transport='curl': {pycurl.version} is too old; install a wheel of pycurl, or libcurl 8.4")
    return pycurl


def libcurl_version(text: str) -> tuple[int, int]:
    """Return the version that ``pycurl.version`` names: ``PycURL/7.49.0 libcurl/8.23.0 OpenSSL/…`` is (8, 23)."""
    found = re.search(r"libcurl/(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """What is fixed for the life of an engine.

    Args:
        http: ``"1.1"`` or ``"2"``.
        connections: open connections kept at most, running and idle ones together.
        memory_budget_bytes: bytes of bodies that all transfers may hold together; ``None`` for any number.
        resolve: addresses to connect to instead of asking DNS, by (host, port).
        reach: the rules of addresses.
        fence: what is asked before each send.
    """

    http: str = "1.1"
    connections: int = 256
    memory_budget_bytes: int | None = None
    resolve: Mapping[tuple[str, int], str] = dataclasses.field(default_factory=dict)
    reach: Reach = dataclasses.field(default_factory=Reach)
    fence: FenceSlot = dataclasses.field(default_factory=FenceSlot, compare=False)
