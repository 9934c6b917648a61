"""Every call by which files that must survive a crash are changed, so that a test can make each one fail in turn.

Callers write ``disk.rename(…)``, never ``from crawlpool.disk import rename``: a test that puts another function here
reaches them all. All raise ``OSError`` as ``os`` does, and all may be called from any thread.
"""

from __future__ import annotations

import os
import sys

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: str, *, create: bool = False, exclusive: bool = False) -> int:
    """Open a file to be read and written; return its descriptor.

    Args:
        create: make it, with mode 0600, where there is none.
        exclusive: with ``create``: raise ``FileExistsError`` where there is one, a symbolic link included.
    """
    flags = os.O_RDWR | _FLAGS
    if create:
        flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
    return os.open(path, flags, 0o600)


def write(fd: int, data: bytes | memoryview) -> int:
    """Write what there is room for at the descriptor's place; return how many bytes that were."""
    return os.write(fd, data)


def sync_file(fd: int) -> None:
    """Return when a file's bytes and its length are on the disk. Once this has failed, nothing can be known of them."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there leaves them in the drive's cache
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_folder(path: str) -> None:
    """Return when the names in a folder are on the disk: files made, renamed and removed."""
    if os.name != "posix":
        return  # a folder can't be opened; NTFS keeps names in its journal
    fd = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def cut(fd: int, length: int) -> None:
    """Cut a file to ``length`` bytes."""
    os.ftruncate(fd, length)


def rename(old: str, new: str) -> None:
    """Give a file another name, in one step; a file that had that name is gone."""
    os.replace(old, new)


def link(old: str, new: str) -> None:
    """Give a file a second name; ``FileExistsError`` where somebody has that name."""
    os.link(old, new)


def remove(path: str) -> None:
    """Take a file's name away."""
    os.unlink(path)


def make_folder(path: str) -> None:
    """Make a folder with mode 0700; its parent must be there, and it must not."""
    os.mkdir(path, 0o700)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]
