"""Run a command in a network that nothing leaves: only loopback, and one address that never answers.

``unshare --net -- python netns.py COMMAND…`` brings the new namespace's loopback up, gives it 10.255.255.1 and fills
the accept queue of a listener there, so that the kernel drops every further SYN: a connect to it times out, as four
of requests' tests want. No kernel module is needed. Name lookups fail at once, for there is no route.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

MUTE_ADDRESS = "10.255.255.1"
_PROBE_S = 20


def prefix() -> list[str] | None:
    """Return the words to put before a command so that it runs in such a network; ``None`` where that can't be made.

    It is tried, not guessed: containers often have the tools and not the right.
    """
    if not (sys.platform == "linux" and shutil.which("unshare") and shutil.which("ip")):
        return None
    here = [sys.executable, os.path.abspath(__file__)]
    for unshare in (["unshare", "--net", "--"], ["unshare", "--user", "--map-root-user", "--net", "--"]):
        probe = [*unshare, *here, sys.executable, "-c", ""]
        try:
            done = subprocess.run(probe, capture_output=True, timeout=_PROBE_S, check=False)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return [*unshare, *here]
    return None


def _mute_listener() -> list[socket.socket]:
    """Listen on the mute address and fill the queue; return the sockets, which must stay open."""
    listener = socket.socket()
    listener.bind((MUTE_ADDRESS, 80))
    listener.listen(0)
    held = [listener]
    for _ in range(16):
        filler = socket.socket()
        filler.settimeout(0.3)
        held.append(filler)
        try:
            filler.connect((MUTE_ADDRESS, 80))
        except TimeoutError:
            return held
    raise SystemExit(f"netns.py: {MUTE_ADDRESS} still accepts connections after {len(held)}")


def main(command: list[str]) -> int:
    """Set the namespace up, run the command in it, return its exit code."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", f"{MUTE_ADDRESS}/32", "dev", "lo"], check=True)
    held = _mute_listener()
    try:
        return subprocess.call(command)
    finally:
        for one in held:
            one.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
