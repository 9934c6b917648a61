"""Network namespaces: the hosts and the scheduler in one, each worker in another with an address of its own.

Nothing in them leads out: they are joined by a bridge in the first one, and have no route to anywhere else. Needs root,
and ``ip``; where that isn't there the proofs run on loopback, and say so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys

_NET = "10.77"


def can_be_made() -> bool:
    """Tell whether namespaces can be made here."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"cptry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made


def enter(name: str) -> None:
    """Have this process be in a namespace from now on; before it has any socket."""
    fd = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
    try:
        # os.setns is there from Python 3.12 on only.
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
            raise OSError(ctypes.get_errno(), f"setns: {name}")
    finally:
        os.close(fd)


class Nets:
    """One namespace for the hosts, and as many as there are workers, as long as the block lasts.

    Args:
        hosts: how many hosts there are.
        workers: how many workers there may be at a time.
    """

    def __init__(self, hosts: int, workers: int) -> None:
        self._mark = f"cp{os.getpid() % 100_000}"
        #: The namespace of the hosts, the scheduler and the command.
        self.hub = f"{self._mark}h"
        #: Of each worker its namespace and its address.
        self.places = [(f"{self._mark}w{number}", f"{_NET}.1.{number + 1}") for number in range(workers)]
        self.hub_address = f"{_NET}.0.1"
        self.hosts = [f"{_NET}.{2 + number // 250}.{1 + number % 250}" for number in range(hosts)]

    def __enter__(self) -> Nets:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        for name in (self.hub, *(place for place, _ in self.places)):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "br0", "up")
        _ip("-n", self.hub, "addr", "add", f"{self.hub_address}/16", "dev", "br0")
        batch = "".join(f"addr add {host}/32 dev br0\n" for host in self.hosts)
        subprocess.run(["ip", "-n", self.hub, "-batch", "-"], input=batch, text=True, check=True, capture_output=True)
        for number, (name, address) in enumerate(self.places):
            ours, theirs = f"v{number}", "eth0"
            peer = ("peer", "name", theirs, "netns", name)
            _ip("-n", self.hub, "link", "add", ours, "type", "veth", *peer)
            _ip("-n", self.hub, "link", "set", ours, "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"{address}/16", "dev", theirs)
            _ip("-n", name, "link", "set", theirs, "up")

    def __exit__(self, *exc: object) -> None:
        for name in (self.hub, *(place for place, _ in self.places)):
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)
