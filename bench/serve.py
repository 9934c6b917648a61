"""The bundled server in a process of its own, for machines without nginx: ``python -m bench.serve < settings.json``.

Prints a line with its port; then answers each line on stdin with the number of connections accepted so far, and ends
with stdin.
"""

from __future__ import annotations

import json
import pathlib
import ssl
import sys

from crawlpool.testing import SiteServer


def main() -> None:
    """Serve until stdin ends."""
    settings = json.loads(sys.stdin.readline())
    tls = None
    if settings["chain"]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(settings["chain"], settings["key"])
    # From memory: what is measured is the client.
    site = {f"/{path.name}": path.read_bytes() for path in pathlib.Path(settings["root"]).iterdir()}
    with SiteServer(site, hosts=settings["hosts"], tls=tls, remember=False) as server:
        print(server.port, flush=True)
        for _ in sys.stdin:
            print(server.connections, flush=True)


if __name__ == "__main__":
    main()
