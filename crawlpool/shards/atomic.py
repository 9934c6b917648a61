"""Small files that are there whole or not at all, after a crash, too: written beside, synced, and renamed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How the names of files begin that are being written: nobody reads them.
TEMPORARY = "."
_MOST_BYTES = 1 << 28  # of a small file; what is longer is none of ours


def put(path: str, pieces: Iterable[bytes], *, is_synced: bool = True) -> None:
    """Write a file under a temporary name and give it its own: whoever reads it finds the old one whole, or the new.

    Args:
        path: of the file; one that is there is replaced.
        pieces: its bytes.
        is_synced: whether it is on the disk, with its name, when this returns.

    Raises:
        SinkError: when it can't be written; what was there is there still.

    One writer at a time for each path: the temporary name is always the same, so that a killed writer's is used again.
    """
    folder, name = os.path.split(path)
    beside = os.path.join(folder, TEMPORARY + name)
    try:
        fd = disk.open_file(beside, create=True)
        try:
            disk.cut(fd, 0)
            for piece in pieces:
                disk.write_all(fd, piece)
            if is_synced:
                disk.sync_file(fd)
        finally:
            os.close(fd)
        disk.rename(beside, path)
        if is_synced:
            disk.sync_folder(folder or ".")
    except OSError as error:
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error


def put_json(path: str, value: Any, *, is_synced: bool = True) -> None:
    """Write a value as JSON, as ``put`` does.

    Raises:
        SinkError: when it can't be written.
    """
    put(path, [json.dumps(value, separators=(",", ":")).encode("ascii"), b"\n"], is_synced=is_synced)


def get(path: str) -> bytes | None:
    """Return the bytes of a small file; ``None`` where there is none.

    Raises:
        JobError: when it can't be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(f"{one_line(path)}: {error.strerror or error}") from error
    if len(data) > _MOST_BYTES:
        raise JobError(f"{one_line(path)}: is longer than any such file is")
    return data


def get_json(path: str) -> dict[str, Any] | None:
    """Return the JSON object in a small file; ``None`` where there is no file.

    Raises:
        JobError: when it can't be read, or is damaged.
    """
    data = get(path)
    if data is None:
        return None
    value = object_in(data)
    if value is None:
        raise JobError(f"{one_line(path)}: is damaged: no JSON object")
    return value


def object_in(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object that bytes are; ``None`` where they are none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
