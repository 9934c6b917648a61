"""Tests of crawlpool.sinks.warc_reading: what was stored comes back, and what isn't it is refused."""

from __future__ import annotations

import gzip
import pathlib

import pytest

from crawlpool.errors import UndecodableBody, WarcError
from crawlpool.sinks.warc import WarcSink
from crawlpool.sinks.warc_reading import fields_of, read_response
from tests.sinks.exchanges import OK, answer, exchanged

PAGE = b"<p>a page of some length</p>\n" * 40


def test_a_response_comes_back_as_it_was(tmp_path: pathlib.Path) -> None:
    """Status, header, payload as on the wire and content decoded, from a file that is complete or still open."""
    head = b"HTTP/1.1 200 Fine\r\nContent-Encoding: gzip\r\nX: a\r\nx: b\r\n\r\n"
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    other, result = exchanged(), exchanged(body=gzip.compress(PAGE), head=head)
    sink.write_all([other, result])
    (place,) = result.bodies
    for is_open in (True, False):
        if not is_open:
            sink.close()
        for length in (place.length, None):
            found = read_response(str(tmp_path), place.file, place.offset, length)
            assert (found.status, found.reason, found.url) == (200, "Fine", "http://h.example/page")
            assert found.headers == [("Content-Encoding", "gzip"), ("X", "a"), ("x", "b")]
            assert (found.head, gzip.decompress(found.payload), found.content()) == (head, PAGE, PAGE)
            assert (found.date, found.ip, found.is_whole) == ("2027-01-15T08:00:00.500Z", "192.0.2.7", True)


def test_a_revisit_has_its_own_header_and_the_earlier_payload(tmp_path: pathlib.Path) -> None:
    """It is found across files, too."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"), rotate_bytes=400)
    results = [exchanged(body=PAGE), exchanged("http://h.example/b", PAGE, OK + b"X: new\r\n\r\n")]
    sink.write_all(results)
    sink.close()
    (place,) = results[1].bodies
    assert place.file == "p-00002.warc.gz"
    found = read_response(str(tmp_path), place.file, place.offset, place.length)
    assert (found.url, found.content(), found.fields["warc-type"]) == ("http://h.example/b", PAGE, "revisit")
    assert ("X", "new") in found.headers


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200\r\nContent-Type: text/html\r\n\r\n",
    ],
)
def test_headers_of_every_line_end(tmp_path: pathlib.Path, head: bytes) -> None:
    """The payload begins after the first blank line, however lines end; blank lines in it are its own."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    result = exchanged(body=b"a\r\n\r\nb\n\nc", head=head)
    sink.write(result)
    sink.close()
    (place,) = result.bodies
    found = read_response(str(tmp_path), place.file, place.offset)
    assert (found.head, found.payload) == (head, b"a\r\n\r\nb\n\nc")


def test_a_hop_that_was_cut_is_not_whole(tmp_path: pathlib.Path) -> None:
    """It says so; its payload is empty."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    sink.write(exchanged(history=[answer("http://h.example/a", b"HTTP/1.1 302 Found\r\n\r\n", None)]))
    sink.close()
    info = len((tmp_path / "p.warc.gz").read_bytes()) - len(_without_first_member(tmp_path / "p.warc.gz"))
    found = read_response(str(tmp_path), "p.warc.gz", info)
    assert (found.status, found.is_whole, found.payload) == (302, False, b"")


def _without_first_member(path: pathlib.Path) -> bytes:
    import zlib

    engine = zlib.decompressobj(31)
    engine.decompress(path.read_bytes())
    return engine.unused_data


def test_a_changed_byte_is_found_wherever_it_is(tmp_path: pathlib.Path) -> None:
    """Whichever byte of a record is changed, it is refused or still says the same; nothing else comes back."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    result = exchanged(body=PAGE)
    sink.write(result)
    sink.close()
    (place,) = result.bodies
    path = tmp_path / place.file
    data = path.read_bytes()
    stored, refused = read_response(str(tmp_path), place.file, place.offset, place.length), 0
    for at in range(place.offset, place.offset + place.length):
        if 4 <= at - place.offset < 10:  # when it was made, how, and on what: nobody reads that
            continue
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            found = read_response(str(tmp_path), place.file, place.offset, place.length)
        except WarcError:
            refused += 1
        else:  # another way to say the same, as gzip has for what repeats itself
            assert found == stored
    assert refused > place.length * 0.9
    path.write_bytes(data[: place.offset + place.length - 1])
    for length in (place.length, None):
        with pytest.raises(WarcError, match="ends"):
            read_response(str(tmp_path), place.file, place.offset, length)


def test_a_record_that_was_made_anew_is_found_by_its_digest(tmp_path: pathlib.Path) -> None:
    """Whole gzip with another content doesn't pass: the block's digest, and the payload's, are compared."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    result = exchanged(body=PAGE)
    sink.write(result)
    sink.close()
    (place,) = result.bodies
    data = (tmp_path / place.file).read_bytes()[place.offset : place.offset + place.length]
    (tmp_path / "x.warc.gz").write_bytes(gzip.compress(gzip.decompress(data).replace(b"some length", b"sane length")))
    with pytest.raises(WarcError, match="digest of its block differs"):
        read_response(str(tmp_path), "x.warc.gz", 0)


def test_only_responses_of_the_folder_are_read(tmp_path: pathlib.Path) -> None:
    """A request record, a path out of the folder, a missing file and what is no record are refused."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    result = exchanged()
    sink.write(result)
    sink.close()
    (place,) = result.bodies
    with pytest.raises(WarcError, match="request record"):
        read_response(str(tmp_path), place.file, place.offset + place.length)
    with pytest.raises(WarcError, match="warcinfo record"):
        read_response(str(tmp_path), place.file, 0)
    for name in ("../p.warc.gz", "/etc/passwd", "a/b", "..", ""):
        with pytest.raises(WarcError, match="without a path"):
            read_response(str(tmp_path), name, 0)
    with pytest.raises(FileNotFoundError):
        read_response(str(tmp_path), "none.warc.gz", 0)
    for record in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"WARC/1.1\r\nContent-Length: 3\r\n\r\nab\r\n\r\n",
        b"WARC/1.1\r\n\r\n",
    ):
        with pytest.raises(WarcError):
            fields_of(record)


def test_what_can_not_be_decoded_is_said(tmp_path: pathlib.Path) -> None:
    """The payload is there all the same."""
    sink = WarcSink(str(tmp_path / "p.warc.gz"))
    result = exchanged(history=[answer("http://h.example/a", b"HTTP/1.1 302 Found\r\n\r\n", b"")])
    assert result.response is not None
    result.response.kept.head = OK + b"Content-Encoding: gzip\r\n\r\n"  # type: ignore[attr-defined]
    sink.write(result)
    sink.close()
    found = read_response(str(tmp_path), result.bodies[0].file, result.bodies[0].offset)
    assert found.payload == b"<p>hello</p>"
    with pytest.raises(UndecodableBody):
        found.content()
