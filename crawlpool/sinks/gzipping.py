"""Gzip members, each made in one go, as fast as can be had; the interpreter is free for others meanwhile.

Of 20 kB of HTML ISA-L (the extra ``crawlpool[warc]``) makes a member in 50 µs, zlib at level 1 in 150 µs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

_GZIP = 31  # as zlib calls it: a window of 32 KiB, with the header of gzip
_ISAL_LEVEL, _ZLIB_LEVEL = 1, 1
_SHORT_BYTES = 2048  # up to there ISA-L's level 0 makes members as small as level 1, in a fifth of the time


def compressor() -> Callable[[bytes], bytes]:
    """Return the function that makes a gzip member of bytes; it may be called by many threads at once."""
    try:
        from isal import igzip_lib
    except ImportError:
        return _with_zlib
    make: Any = igzip_lib.compress
    form, memory, window = igzip_lib.COMP_GZIP, igzip_lib.MEM_LEVEL_DEFAULT, igzip_lib.MAX_HIST_BITS

    def compress(data: bytes) -> bytes:
        member: bytes = make(data, 0 if len(data) < _SHORT_BYTES else _ISAL_LEVEL, form, memory, window)
        return member

    return compress


def _with_zlib(data: bytes) -> bytes:
    # zlib.compress itself takes wbits only from Python 3.11 on. At level 6 a page takes four times as long, and becomes
    # an eighth smaller.
    engine = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _GZIP)
    return engine.compress(data) + engine.flush()


class BadMember(ValueError):
    """Bytes that are no whole gzip member, or one that unfolds to more than it may."""


class CutMember(BadMember):
    """Bytes that a gzip member begins with, and doesn't end in."""


def one_member(data: bytes, max_bytes: int | None = None) -> bytes:
    """Return what the gzip member holds that ``data`` begins with.

    Args:
        max_bytes: how much it may unfold to.

    Raises:
        CutMember: when it goes on beyond ``data``.
        BadMember: when it is damaged or too large.
    """
    engine = zlib.decompressobj(_GZIP)
    try:
        content = engine.decompress(data, 0 if max_bytes is None else max_bytes + 1)
    except zlib.error as error:
        raise BadMember(f"the gzip member is damaged: {error}") from error
    if max_bytes is not None and len(content) > max_bytes:
        raise BadMember(f"the gzip member holds more than {max_bytes:,} bytes")
    if not engine.eof:
        raise CutMember("the gzip member is cut")
    return content
