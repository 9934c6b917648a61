"""Tests of crawlpool.decode: caps, and bodies made to break them."""

import functools
import gzip
import importlib
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import decode
from crawlpool.decode import Decoder, decode_body
from crawlpool.errors import BodyTooLarge, UndecodableBody

MIB = 1024 * 1024
CAP = 4 * MIB


@functools.cache
def zeros(name, size=64 * MIB):
    """Return many zeros, encoded; skip without the library."""
    if name == "gzip":
        return gzip.compress(bytes(size))
    if name in ("deflate", "raw"):
        squeeze = zlib.compressobj(wbits=15 if name == "deflate" else -15)
        return squeeze.compress(bytes(size)) + squeeze.flush()
    if name == "members":
        return gzip.compress(bytes(MIB)) * (size // MIB)
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "zstandard":
        return module.ZstdCompressor().compress(bytes(size))
    if name.startswith("brotli"):
        return module.compress(bytes(size), quality=1)  # the best takes seconds
    return module.compress(bytes(size))


BOMBS = {
    "gzip": "gzip",
    "members": "gzip",
    "deflate": "deflate",
    "raw": "deflate",
    "brotli": "br",
    "brotlicffi": "br",
    "compression.zstd": "zstd",
    "backports.zstd": "zstd",
    "zstandard": "zstd",
}


@pytest.fixture(params=BOMBS)
def bomb(request, monkeypatch):
    """Each bomb as (Content-Encoding, body), with the one library that is under test."""
    name = request.param
    body = zeros(name)
    if BOMBS[name] in ("br", "zstd"):
        module = importlib.import_module(name)
        monkeypatch.setattr(decode, "_module", lambda wanted: module if wanted == name else None)
        monkeypatch.setattr(decode, "_brotli", functools.cache(decode._brotli.__wrapped__))
        monkeypatch.setattr(decode, "_zstd", functools.cache(decode._zstd.__wrapped__))
    return BOMBS[name], body


def peak_of(call):
    """Return the most bytes that Python had allocated during ``call``, which must raise BodyTooLarge."""
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match=f"max_body_bytes={CAP} "):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_takes_at_most_twice_its_cap(bomb):
    """A body that unfolds to 16 times the cap ends at the cap, and memory with it, whole or in parts."""
    encoding, body = bomb
    assert peak_of(lambda: decode_body(body, encoding, max_bytes=CAP)) <= 2 * CAP

    def stream():
        decoder = Decoder(encoding, CAP)
        for start in range(0, len(body), 1000):
            decoder.feed(body[start : start + 1000])

    assert peak_of(stream) <= 2 * CAP


def test_the_cap_is_exact(bomb):
    """A body of exactly the cap passes; one byte less of cap refuses it."""
    encoding, body = bomb
    size = 64 * MIB
    assert len(decode_body(body, encoding, max_bytes=size)) == size
    with pytest.raises(BodyTooLarge):
        decode_body(body, encoding, max_bytes=size - 1)


@given(st.binary(max_size=400), st.integers(0, 450), st.integers(1, 50))
@pytest.mark.parametrize("level", [0, 9])
def test_any_cap_is_exact(level, content, cap, size):
    """For any content, cap and cut: at most the cap passes, and the page is whole or refused."""
    decoder = Decoder("gzip", cap)
    body = gzip.compress(content, level)
    try:
        got = b"".join(decoder.feed(body[start : start + size]) for start in range(0, len(body), size))
        decoder.finish()
    except BodyTooLarge:
        assert len(content) > cap
    else:
        assert got == content and len(content) <= cap
    if len(content) <= cap:
        assert decode_body(body, "gzip", max_bytes=cap) == content
    else:
        with pytest.raises(BodyTooLarge):
            decode_body(body, "gzip", max_bytes=cap)


def test_a_bomb_in_a_bomb_takes_no_more():
    """A gzip in a gzip is moved on in pieces: what lies between isn't held."""
    body = gzip.compress(zeros("gzip", 1024 * MIB // 4))
    assert len(body) < 2000
    assert peak_of(lambda: decode_body(body, "gzip, gzip", max_bytes=CAP)) <= 2 * CAP


def test_a_bomb_that_yields_nothing_is_refused_too():
    """Millions of empty members inside a member give no byte to count; the layer between has its cap as well."""
    body = gzip.compress(gzip.compress(b"") * 100_000)
    assert decode_body(body, "gzip, gzip", max_bytes=CAP) == b""
    with pytest.raises(BodyTooLarge, match="max_body_bytes=1000 "):
        decode_body(body, "gzip, gzip", max_bytes=1000)


def test_the_layer_between_may_be_a_little_larger():
    """Content that doesn't compress is larger while it is compressed; the cap is on the content."""
    content = bytes(range(256)) * 4
    body = gzip.compress(gzip.compress(content, 0), 0)
    assert decode_body(body, "gzip, gzip", max_bytes=len(content)) == content


def test_many_members_cost_in_proportion():
    """What follows a member isn't copied for each: ten times the members take about ten times as long."""

    def cost(count):
        body = gzip.compress(b"") * count
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            assert decode_body(body, "gzip") == b""
            best = min(best, time.process_time() - start)
        return best

    assert cost(40_000) < 4 * 10 * cost(4000)


@pytest.mark.parametrize("name", ["compression.zstd", "backports.zstd", "zstandard"])
def test_zstd_with_a_huge_window_is_refused(name, monkeypatch):
    """A frame that wants more than 8 MiB of window is no Content-Encoding (RFC 9659), whatever it holds."""
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "zstandard":
        squeeze = module.ZstdCompressor(
            compression_params=module.ZstdCompressionParameters(
                window_log=27, enable_ldm=True, write_content_size=False
            )
        ).compressobj()
        body = squeeze.compress(bytes(MIB)) + squeeze.flush()
    else:
        squeeze = module.ZstdCompressor(options={module.CompressionParameter.window_log: 27})
        body = squeeze.compress(bytes(MIB)) + squeeze.flush()
    monkeypatch.setattr(decode, "_module", lambda wanted: module if wanted == name else None)
    monkeypatch.setattr(decode, "_zstd", functools.cache(decode._zstd.__wrapped__))
    with pytest.raises(UndecodableBody, match="zstd"):
        decode_body(body, "zstd", max_bytes=CAP)
