"""The libcurl transport: one I/O thread per pool moves the bytes of all its sessions. Needs the extra ``curl``."""

from __future__ import annotations

import importlib
from typing import Any

from crawlpool.errors import ConfigError, MissingExtra

#: pycurl 7.45.4 is the first whose libcurl has no known flaw that a crawler meets, and has PREREQFUNCTION.
NEEDS = ("PREREQFUNCTION", "MAXAGE_CONN", "M_SOCKETFUNCTION")


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
    return pycurl
