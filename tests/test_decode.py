"""Tests of crawlpool.decode: what each encoding, cut, damage and label becomes."""

import functools
import gzip
import importlib
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import decode
from crawlpool.decode import Decoder, decode_body, supported
from crawlpool.errors import BodyTooLarge, TruncatedBody, UndecodableBody

PAGE = b"".join(b"<p>paragraph %d of %d</p>\n" % (n, n * n) for n in range(700))
BROTLIS = ("brotli", "brotlicffi")
ZSTDS = ("compression.zstd", "backports.zstd", "zstandard")


def zlibbed(data, wbits=15):
    squeeze = zlib.compressobj(wbits=wbits)
    return squeeze.compress(data) + squeeze.flush()


ENCODERS = {
    "gzip": ("gzip", functools.partial(gzip.compress, mtime=0)),
    "deflate-zlib": ("deflate", zlibbed),
    "deflate-raw": ("deflate", functools.partial(zlibbed, wbits=-15)),
    "deflate-stored": ("deflate", lambda data: _stored(data)),
    **{name: ("br", lambda data: _any_of(*BROTLIS).compress(data)) for name in BROTLIS},
    **{name: ("zstd", lambda data: _any_zstd(data)) for name in ZSTDS},
}


def _stored(data):
    squeeze = zlib.compressobj(0, wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def _any_of(*names):
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip(f"none of {', '.join(names)} is installed")


def _any_zstd(data):
    module = _any_of(*ZSTDS)
    if module.__name__ == "zstandard":
        return module.ZstdCompressor(write_checksum=True).compress(data)
    return module.compress(data, options={module.CompressionParameter.checksum_flag: 1})


@pytest.fixture(params=ENCODERS)
def encoded(request, monkeypatch):
    """Each way to encode, as (Content-Encoding, encoder), decoded by each library that is installed for it."""
    only(request.param, monkeypatch)
    return ENCODERS[request.param]


def only(library, monkeypatch):
    """Let the decoder find no other library for br and zstd than the one named; skip where it isn't installed."""
    if library in BROTLIS + ZSTDS:
        pytest.importorskip(library, reason=f"{library} is not installed")
        real = decode._module
        monkeypatch.setattr(decode, "_module", lambda name: real(name) if name == library else None)
        # The very functions behind the caches: what they find here must not stay.
        monkeypatch.setattr(decode, "_brotli", functools.cache(decode._brotli.__wrapped__))
        monkeypatch.setattr(decode, "_zstd", functools.cache(decode._zstd.__wrapped__))


def in_parts(data, encoding, size, max_bytes=None):
    decoder = Decoder(encoding, max_bytes)
    parts = [decoder.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*parts, decoder.finish()])


@pytest.mark.parametrize("content", [b"", b"x", PAGE, bytes(1_000_000)], ids=["empty", "byte", "page", "zeros"])
@pytest.mark.parametrize("size", [1, 7, 5000, 10**9])
def test_what_was_encoded_comes_back(encoded, content, size):
    """Each encoding is undone, in whatever parts the body comes, and whole."""
    encoding, encode = encoded
    body = encode(content)
    assert decode_body(body, encoding) == content
    assert in_parts(body, encoding, size) == content


@given(content=st.binary(max_size=3000), data=st.data())
@pytest.mark.parametrize("name", ["gzip", "deflate-zlib", "deflate-raw"])
def test_any_content_in_any_parts(name, content, data):
    """Cut at any places, a body decodes to the same content, under a cap of its exact size too."""
    encoding, encode = ENCODERS[name]
    body = encode(content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    decoder = Decoder(encoding, len(content))
    parts = [decoder.feed(body[a:b]) for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert b"".join([*parts, decoder.finish()]) == content


@pytest.mark.parametrize("piece", [1, 64])
def test_output_that_fills_a_piece_isnt_left_behind(encoded, piece, monkeypatch):
    """A decoder may use up its input while output waits inside it; all of that is fetched."""
    monkeypatch.setattr(decode, "PIECE_BYTES", piece)
    encoding, encode = encoded
    for size in range(1, 400, 3):
        assert decode_body(encode(bytes(size)), encoding) == bytes(size)
        assert in_parts(encode(bytes(size)), encoding, 1) == bytes(size)


def test_a_cut_body_is_truncated_wherever_it_is_cut(encoded):
    """A stream that stops before its end is an error at every byte, never a shorter page."""
    encoding, encode = encoded
    body = encode(PAGE[:1500])
    for cut in range(1, len(body)):
        with pytest.raises(TruncatedBody):
            decode_body(body[:cut], encoding)
        with pytest.raises(TruncatedBody):
            in_parts(body[:cut], encoding, 100)


def test_a_flipped_byte_in_gzip_never_changes_the_page():
    """With any one byte damaged, one member or two, the result is the page or an error."""
    page = PAGE[:600]
    for body in (gzip.compress(page, mtime=0), gzip.compress(page[:599]) + gzip.compress(page[599:])):
        for place in range(len(body)):
            for flip in (0x01, 0x80, 0xFF, body[place]):
                damaged = bytearray(body)
                damaged[place] ^= flip
                try:
                    assert decode_body(bytes(damaged), "gzip") == page
                except (UndecodableBody, TruncatedBody):
                    continue


@pytest.mark.parametrize("name", ["deflate-zlib", *ZSTDS])
def test_a_flipped_byte_under_a_checksum_never_changes_the_page(name, monkeypatch):
    """The Adler-32 of zlib and the checksum of zstd protect the page, too."""
    only(name, monkeypatch)
    encoding, encode = ENCODERS[name]
    page, draw = PAGE[:600], random.Random(5)
    body = encode(page)
    for place in range(len(body)):
        damaged = bytearray(body)
        damaged[place] ^= draw.randrange(1, 256)
        try:
            assert decode_body(bytes(damaged), encoding) == page
        except (UndecodableBody, TruncatedBody):
            continue


def test_a_wrong_checksum_is_undecodable():
    """All of the page came, and its CRC says that it isn't the page."""
    body = bytearray(gzip.compress(PAGE))
    body[-8] ^= 1
    with pytest.raises(UndecodableBody, match="gzip"):
        decode_body(bytes(body), "gzip")


def test_members_of_gzip_are_one_body():
    """Concatenated members, empty ones and padding between and after them are one page (RFC 1952 2.2)."""
    body = gzip.compress(b"one ") + gzip.compress(b"") + bytes(700) + gzip.compress(b"two") + bytes(20_000)
    assert decode_body(body, "gzip") == b"one two"
    assert in_parts(body, "gzip", 1) == b"one two"
    with pytest.raises(TruncatedBody):
        decode_body(gzip.compress(b"one") + gzip.compress(b"two")[:-1], "gzip")


@pytest.mark.parametrize("name", ZSTDS)
def test_frames_of_zstd_are_one_body(name, monkeypatch):
    """Concatenated frames, skippable ones among them, are one page (RFC 8878 3)."""
    only(name, monkeypatch)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    body = _any_zstd(b"one ") + skippable + _any_zstd(b"two")
    assert decode_body(body, "zstd") == in_parts(body, "zstd", 1) == b"one two"


@pytest.mark.parametrize("name", ["gzip", "deflate-zlib", "deflate-raw"])
def test_a_few_stray_bytes_are_ignored(name):
    """A script's line feed after the page does no harm; what could be a damaged member is an error."""
    encoding, encode = ENCODERS[name]
    assert decode_body(encode(PAGE) + b"\r\n", encoding) == PAGE
    assert in_parts(encode(PAGE) + bytes(3) + b"<!-- x -->", encoding, 1) == PAGE
    for size in (1, 10**6):
        with pytest.raises(UndecodableBody, match="follows its end"):
            in_parts(encode(PAGE) + b"\r\n" * 10, encoding, size)


def test_data_after_brotli_is_undecodable(monkeypatch):
    """Brotli has neither padding nor members; that doesn't depend on how the body was cut."""
    for name in BROTLIS:
        with monkeypatch.context() as patch:
            only(name, patch)
            body = _any_of(name).compress(PAGE) + b"\n"
            for size in (1, 10**6):
                with pytest.raises(UndecodableBody):
                    in_parts(body, "br", size)


def test_plain_text_is_not_what_its_label_says(encoded):
    """A page that claims an encoding and has none is an error, as it is for requests."""
    encoding, _ = encoded
    with pytest.raises(UndecodableBody, match=f"is not the {encoding} that"):
        decode_body(b"<html><body>" + PAGE, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, deflate", "identity", None])
def test_an_empty_body_stays_empty(encoding):
    """Answers to HEAD, 204 and 304 carry labels without bodies."""
    assert decode_body(b"", encoding) == in_parts(b"", encoding, 1) == b""


@pytest.mark.parametrize("encoding", [None, "", " ", "identity", "Identity, identity", "utf-8", "gzip, aes128gcm"])
def test_what_isnt_known_is_left_as_it_is(encoding):
    """Without an encoding, or with one on the outside that nobody here knows, the body passes through."""
    assert Decoder(encoding).is_identity
    assert decode_body(b"\x1f\x8b as it is", encoding) == b"\x1f\x8b as it is"
    with pytest.raises(BodyTooLarge, match="max_body_bytes=3"):
        decode_body(b"four", encoding, max_bytes=3)


def test_encodings_are_undone_from_the_last():
    """A list is undone in reverse, whatever its case and blanks; it stops at the first one that isn't known."""
    body = zlibbed(gzip.compress(PAGE))
    assert decode_body(body, " X-GZIP ,identity,, Deflate") == PAGE
    assert Decoder("gzip, deflate").encodings == ("deflate", "gzip")
    assert decode_body(zlibbed(b"packed"), "compress, deflate") == b"packed"
    with pytest.raises(TruncatedBody, match="gzip"):
        decode_body(zlibbed(gzip.compress(PAGE)[:-1]), "gzip, deflate")


def test_more_than_five_encodings_are_refused():
    """Five encodings are undone; a sixth is an attack."""
    body = PAGE
    for _ in range(5):
        body = gzip.compress(body)
    assert decode_body(body, ", ".join(["gzip"] * 5)) == PAGE
    with pytest.raises(UndecodableBody, match="6 encodings"):
        decode_body(gzip.compress(body), ", ".join(["gzip"] * 6))


def test_libraries_that_are_missing_leave_the_body(monkeypatch):
    """Without a library for br or zstd, it isn't asked for, and a body that has it all the same is left."""
    only_nothing = functools.partial(monkeypatch.setattr, decode)
    only_nothing("_module", lambda name: None)
    only_nothing("_brotli", functools.cache(decode._brotli.__wrapped__))
    only_nothing("_zstd", functools.cache(decode._zstd.__wrapped__))
    assert supported() == ("gzip", "deflate")
    assert decode_body(b"packed", "br") == decode_body(b"packed", "zstd") == b"packed"


def test_a_brotli_without_limits_is_as_good_as_none(monkeypatch):
    """A library that can't limit its output would let a bomb through, so that it isn't used."""

    class Old:
        class Decompressor:
            def process(self, data):
                return data

    monkeypatch.setattr(decode, "_module", lambda name: Old if name == "brotli" else None)
    monkeypatch.setattr(decode, "_brotli", functools.cache(decode._brotli.__wrapped__))
    assert "br" not in supported()


def test_what_can_be_undone_is_named_for_accept_encoding(monkeypatch):
    """Each installed library brings its encoding."""
    for name in BROTLIS + ZSTDS:
        with monkeypatch.context() as patch:
            try:
                importlib.import_module(name)
            except ImportError:
                continue
            only(name, patch)
            assert supported() == ("gzip", "deflate", "br" if name in BROTLIS else "zstd")
