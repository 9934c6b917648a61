"""Folders of sharded jobs, made for tests."""

from __future__ import annotations

import pathlib
from typing import Any

from crawlpool.shards import manifest as manifests
from crawlpool.shards.manifest import Manifest

#: A list of suffixes that is soon written and read.
FEW_SUFFIXES = b"com\norg\nexample\nco.uk\nuk\n"


def made(folder: pathlib.Path, suffixes: bytes | None = FEW_SUFFIXES, **others: Any) -> Manifest:
    """Make a job's folder, with its manifest; return that.

    Args:
        folder: where.
        suffixes: the list that lies there already; ``None`` for none.
        others: as ``Manifest`` takes them.
    """
    folder.mkdir(exist_ok=True)
    if suffixes is not None:
        (folder / "suffixes.dat").write_bytes(suffixes)
    settings: dict[str, Any] = {"shards": 8, "outputs": ("results.jsonl",), "created_at": 5.0, **others}
    manifest = manifests.new(str(folder), **settings)
    manifests.write(str(folder), manifest)
    return manifest
