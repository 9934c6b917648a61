"""Bodies that are small on the wire and large in memory, made as they are sent; and bodies whose coding is broken."""

from __future__ import annotations

import functools
import importlib
import zlib
from typing import TYPE_CHECKING, Any

from crawlpool.config import check, is_count
from crawlpool.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The codings that ``coded`` and ``bomb`` know, by the names that Content-Encoding has.
CODINGS = ("gzip", "deflate", "br", "zstd")
_WBITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_PIECE = bytes(1 << 16)
_BLOCK_BYTES = 1 << 20
_MODULES = {"br": ("brotli", "brotlicffi"), "zstd": ("compression.zstd", "backports.zstd")}


def can_code(coding: str) -> bool:
    """Tell whether a coding can be made here: brotli and zstd are of the extra ``compress``."""
    return coding in _WBITS or _module(coding) is not None


def coded(data: bytes, coding: str) -> bytes:
    """Return ``data`` in a coding.

    Raises:
        MissingExtra: for brotli and zstd where the extra ``compress`` isn't installed.
        ConfigError: for a coding that isn't one of ``CODINGS``.
    """
    check(coding in CODINGS, "coding", coding, f"one of {', '.join(CODINGS)}")
    if coding in _WBITS:
        packer = zlib.compressobj(9, zlib.DEFLATED, _WBITS[coding])
        return packer.compress(data) + packer.flush()
    module = _module(coding)
    if module is None:
        raise MissingExtra(f"the coding {coding}", "compress")
    packed: bytes = module.compress(data, quality=5) if coding == "br" else module.compress(data)
    return packed


def bomb(coding: str = "gzip", size_bytes: int = 1 << 30) -> Iterator[bytes]:
    """Yield the pieces of a body that unfolds to ``size_bytes`` zeros; of gzip and deflate, as they are asked for.

    gzip and deflate reach about 1:1000; brotli and zstd, which are made at once, far more.

    Args:
        coding: one of ``CODINGS``.
        size_bytes: what it unfolds to.

    Raises:
        MissingExtra: as for ``coded``.
    """
    check(is_count(size_bytes), "size_bytes", size_bytes, "a whole number of bytes, 1 or more")
    if coding not in _WBITS:
        yield _zeros(coding, size_bytes)
        return
    check_of = zlib.crc32 if coding == "gzip" else zlib.adler32
    block, count = _zero_block(), size_bytes // _BLOCK_BYTES
    checked = check_of(b"")
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff" if coding == "gzip" else b"\x78\x9c"  # RFC 1952 2.3, RFC 1950 2.2
    for _ in range(count):
        checked = check_of(bytes(_BLOCK_BYTES), checked)
        yield block
    rest = bytes(size_bytes - count * _BLOCK_BYTES)
    last = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    end = last.compress(rest) + last.flush()
    checked = check_of(rest, checked)
    if coding == "gzip":
        yield end + checked.to_bytes(4, "little") + (size_bytes % (1 << 32)).to_bytes(4, "little")
    else:
        yield end + checked.to_bytes(4, "big")


@functools.cache
def _zero_block() -> bytes:
    # Ended by a full flush: it needs nothing of what came before, so that it can be sent again and again.
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(_BLOCK_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)


def nested_bomb(depth: int = 3, size_bytes: int = 1 << 30, coding: str = "gzip") -> Iterator[bytes]:
    """Yield zeros that were packed ``depth`` times: ``Content-Encoding: gzip, gzip, gzip``. The last one is remembered.

    Args:
        depth: how often.
        size_bytes: what it unfolds to in the end.
        coding: gzip or deflate.
    """
    check(is_count(depth), "depth", depth, "a whole number of at least 1")
    yield _nested(depth, size_bytes, coding)


def truncated(data: bytes, coding: str) -> bytes:
    """Return ``data`` in a coding, without its last part: what a decoder that doesn't look takes for whole."""
    whole = coded(data, coding)
    return whole[: len(whole) * 2 // 3]


def corrupt(data: bytes, coding: str) -> bytes:
    """Return ``data`` in a coding, with damage that its format can tell: its checksum, or its structure."""
    whole = bytearray(coded(data, coding))
    if coding == "gzip":
        whole[-8] ^= 0xFF  # of the CRC
    elif coding == "deflate":
        whole[-1] ^= 0xFF  # of the Adler-32
    else:
        whole[: len(whole) // 2] = b"\xff" * (len(whole) // 2)
    return bytes(whole)


@functools.lru_cache(maxsize=2)
def _nested(depth: int, size_bytes: int, coding: str) -> bytes:
    # Nothing of the outermost layer is there before the innermost has seen all its zeros: to make it takes a while.
    pieces = _spread(size_bytes)
    for _ in range(depth):
        pieces = _packed(pieces, coding)
    return b"".join(pieces)


@functools.lru_cache(maxsize=4)
def _zeros(coding: str, size_bytes: int) -> bytes:
    return coded(bytes(size_bytes), coding)


def _spread(size_bytes: int) -> Iterator[bytes]:
    for _ in range(size_bytes // len(_PIECE)):
        yield _PIECE
    if size_bytes % len(_PIECE):
        yield bytes(size_bytes % len(_PIECE))


def _packed(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    packer = zlib.compressobj(6, zlib.DEFLATED, _WBITS[coding])
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()


@functools.cache
def _module(coding: str) -> Any:
    for name in _MODULES[coding]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
