"""Tests of crawlpool.sinks.warc and what it is made of; everything written is read back by warcio."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import pathlib
import sys
import threading
import zlib

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError, SinkError
from crawlpool.models import BodyPlace, Outcome, Result, Target
from crawlpool.sinks import gzipping, warc
from crawlpool.sinks.marks import Mark
from crawlpool.sinks.warc import WarcSink
from crawlpool.sinks.warc_records import REVISIT_PROFILE, RecordIds, captured, hidden, response_and_request, uri_of
from tests.disks import ERRORS, Crash, Faults
from tests.sinks.exchanges import ASKED, OK, Read, answer, check_by_tools, exchanged, read_warc, records_in
from tests.sinks.results import result_of

PAGE = b"<p>a page of some length</p>\n" * 40


def written(folder: pathlib.Path, *results: Result, **options: object) -> list[Read]:
    """Write results without a job; return the records that warcio reads, the first ``warcinfo`` left out."""
    sink = WarcSink(str(folder / "pages.warc.gz"), **options)  # type: ignore[arg-type]
    sink.write_all(results)
    sink.close()
    check_by_tools(folder)
    info, *records = records_in(folder)
    assert info.kind == "warcinfo"
    return records


def test_an_exchange_is_a_response_and_a_request(tmp_path: pathlib.Path) -> None:
    """Both have what WARC 1.1 asks for, the request points at the response, and the blocks are the very bytes."""
    response, request = written(tmp_path, exchanged())
    assert (response.kind, response.status, response.content) == ("response", "200", b"<p>hello</p>")
    assert response.headers == [("Content-Type", "text/html")]
    expected = {
        "warc-type": "response",
        "warc-target-uri": "http://h.example/page",
        "warc-date": "2027-01-15T08:00:00.500Z",
        "warc-ip-address": "192.0.2.7",
        "content-type": "application/http;msgtype=response",
    }
    assert response.fields.items() >= expected.items()
    assert response.fields["warc-payload-digest"].startswith("sha1:")
    assert request.kind == "request"
    assert request.fields["warc-concurrent-to"] == response.fields["warc-record-id"]
    assert request.headers == [("Host", "h.example"), ("Accept", "*/*")]
    assert (request.fields["warc-target-uri"], request.content) == ("http://h.example/page", b"")
    assert response.fields["warc-record-id"] != request.fields["warc-record-id"]
    data = zlib.decompressobj(31)
    rest = (tmp_path / "pages.warc.gz").read_bytes()
    members = []
    while rest:
        data = zlib.decompressobj(31)
        members.append(data.decompress(rest))
        rest = data.unused_data
    assert len(members) == 3, "each record is a gzip member of its own"
    assert b"\r\n\r\n" + OK + b"\r\n<p>hello</p>\r\n\r\n" in members[1]
    assert members[2].endswith(b"\r\n\r\n" + ASKED + b"\r\n\r\n")
    assert (tmp_path / "pages.warc.gz").stat().st_mode & 0o777 == 0o600


def test_redirects_come_first_and_their_time_is_their_own(tmp_path: pathlib.Path) -> None:
    """Each hop has its pair of records, in order, before the answer; the result knows where the answer lies."""
    found = b"HTTP/1.1 302 Found\r\nLocation: /page\r\n\r\n"
    hops = [answer("http://h.example/a", found, b"", started_s=1.0), answer("http://h.example/b", found, b"moved")]
    result = exchanged(history=hops)
    records = written(tmp_path, result)
    assert [record.fields["warc-target-uri"][-2:] for record in records] == ["/a", "/a", "/b", "/b", "ge", "ge"]
    assert [record.status for record in records[::2]] == ["302", "302", "200"]
    assert records[0].fields["warc-date"] == "1970-01-01T00:00:01.000Z"
    (place,) = result.bodies
    data = (tmp_path / place.file).read_bytes()[place.offset : place.offset + place.length]
    (alone,) = read_warc(data)
    assert alone.content == b"<p>hello</p>"
    assert result.record["body"] == [{"file": "pages.warc.gz", "offset": place.offset, "length": place.length}]


@pytest.mark.parametrize("coding", [b"", b"Content-Encoding: gzip\r\n"])
def test_chunks_are_undone_and_codings_are_not(tmp_path: pathlib.Path, coding: bytes) -> None:
    """The header doesn't announce chunks any more, keeps what it said, and has the payload's length."""
    body = gzip.compress(PAGE) if coding else b"5\r\nlooks like a chunk"
    head = OK + coding + b"transfer-encoding : chunked\r\nContent-Length: 7\r\nX: transfer-encoding: chunked\r\n\r\n"
    response, _ = written(tmp_path, exchanged(body=body, head=head))
    assert response.content == (PAGE if coding else body)
    named = dict(response.headers)
    assert named["X-Crawler-Transfer-Encoding"] == "chunked"
    assert named["X-Crawler-Content-Length"] == "7"
    assert named["Content-Length"] == str(len(body))
    assert named["X"] == "transfer-encoding: chunked"


def test_an_answer_to_head_keeps_what_it_announces(tmp_path: pathlib.Path) -> None:
    """It has no payload; its header stays as it came."""
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    response, _ = written(tmp_path, exchanged(body=b"", head=head, method="HEAD"))
    assert dict(response.headers)["Transfer-Encoding"] == "chunked"


def test_a_payload_that_was_stored_before_is_referred_to(tmp_path: pathlib.Path) -> None:
    """The same bytes again are a revisit record with the new header; small ones and empty ones are stored again."""
    urls = [f"http://h.example/{n}" for n in range(2)]
    twice = [exchanged(url, PAGE, started_s=1.0 + n) for n, url in enumerate(urls)]
    small = [exchanged(url, b"tiny") for url in urls]
    records = written(tmp_path, *twice, *small)
    assert [record.kind for record in records[::2]] == ["response", "revisit", "response", "response"]
    first, again = records[0], records[2]
    assert again.fields["warc-profile"] == REVISIT_PROFILE
    assert again.fields["warc-refers-to-target-uri"] == urls[0]
    assert again.fields["warc-refers-to-date"] == first.fields["warc-date"] == "1970-01-01T00:00:01.000Z"
    assert again.fields["warc-payload-digest"] == first.fields["warc-payload-digest"]
    assert (again.status, again.content) == ("200", b"")
    assert again.fields["warc-refers-to-file-offset"] == str(twice[0].bodies[0].offset)


def test_what_was_prepared_is_written_as_what_was_not(tmp_path: pathlib.Path) -> None:
    """Records made ahead are the same but for their IDs; of two with one payload, the one written later refers."""
    pages = [exchanged(f"http://h.example/{name}", PAGE) for name in "abc"]
    sink = WarcSink(str(tmp_path / "pages.warc.gz"))
    for page in pages[:2]:
        sink.prepare(page)
    sink.write_all([pages[1], pages[0], pages[2]])
    sink.close()
    check_by_tools(tmp_path)
    _, *records = records_in(tmp_path)
    assert [record.kind for record in records[::2]] == ["response", "revisit", "revisit"]
    assert [record.fields["warc-target-uri"][-2:] for record in records[::2]] == ["/b", "/a", "/c"]
    assert len({record.fields["warc-record-id"] for record in records}) == 6
    assert [page.bodies[0].file for page in pages] == ["pages.warc.gz"] * 3


def test_what_is_remembered_of_payloads_is_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was met longest ago is forgotten, by number and by bytes; it is stored again then."""
    monkeypatch.setattr(warc, "_MOST_DIGESTS", 2)
    pages = [exchanged(body=PAGE + b"%d" % n) for n in (1, 2, 3, 3, 1)]
    assert [record.kind for record in written(tmp_path, *pages)[::2]] == ["response"] * 3 + ["revisit", "response"]
    monkeypatch.setattr(warc, "_MOST_DIGEST_BYTES", 300)
    sink = WarcSink(str(tmp_path / "b.warc.gz"))
    sink.write_all([exchanged("http://h.example/" + "x" * 500, PAGE)])
    assert not sink._stored
    assert sink._stored_bytes == 0
    sink.close()


SECRETS = (
    b"Authorization: Basic QUJD\r\nCOOKIE : a=QUJD;\r\n b=QUJD\r\nset-cookie:QUJD\r\nProxy-Authorization: QUJD\r\n"
    b"X-Api-Key: QUJD\r\nLocation: http://user:QUJD@h.example/\r\nX-Cookie: stays\r\nX: y\r\n\r\n"
)


def test_credentials_are_hidden_unless_they_are_asked_for(tmp_path: pathlib.Path) -> None:
    """Logins, cookies, folded lines of them too, and userinfo are ``***``; the names and all else stay."""
    result = exchanged(head=OK + SECRETS, asked=ASKED[:-2] + SECRETS, url="http://user:QUJD@h.example/page#part")
    response, request = written(tmp_path, result)
    data = gzip.decompress((tmp_path / "pages.warc.gz").read_bytes())
    assert b"QUJD" not in data
    assert response.fields["warc-target-uri"] == "http://h.example/page"
    for record in (response, request):
        named = dict(record.headers)
        assert named["Authorization"] == named["COOKIE"] == named["set-cookie"] == named["X-Api-Key"] == "***"
        assert (named["X-Cookie"], named["X"]) == ("stays", "y")
        assert named["Location"] == "http://***@h.example/"
    (tmp_path / "all").mkdir()
    written(tmp_path / "all", result, credentials=True)
    data = gzip.decompress((tmp_path / "all" / "pages.warc.gz").read_bytes())
    assert data.count(SECRETS) == 2
    assert b"WARC-Target-URI: http://h.example/page\r\n" in data


def test_a_header_without_secrets_is_left_alone() -> None:
    """No byte of it changes, odd ones included."""
    head = OK + b"X-Odd:  \xff @ // \r\nA: b//c@d\r\n\r\n"
    assert hidden(head) == head


@given(st.text() | st.text("\r\n\t ab@/:#%é\0", max_size=30), st.text(max_size=20))
def test_no_url_and_no_address_can_end_its_line(path: str, ip: str) -> None:
    """Whatever a URL holds, the target URI is printable ASCII, and a pair of records stays a pair."""
    uri = uri_of("http://h.example/" + path)
    assert uri.isascii()
    assert uri.isprintable()
    assert " " not in uri
    assert "#" not in uri
    (one,) = captured(exchanged("http://h.example/" + path))
    pair = response_and_request(one, RecordIds())
    records = read_warc(b"".join(map(gzip.compress, pair)))
    assert [record.kind for record in records] == ["response", "request"]
    assert records[0].fields["warc-target-uri"] == uri


def test_what_has_no_bytes_has_no_record(tmp_path: pathlib.Path) -> None:
    """A target that failed, and an answer of somebody's own adapter, leave nothing and are no error."""
    failed = Result(Target("http://h/"), Outcome.FAILED, error=requests.ConnectionError("no"))
    own = result_of()
    assert written(tmp_path, failed, own) == []
    assert own.bodies == ()


def test_what_is_not_whole_says_so(tmp_path: pathlib.Path) -> None:
    """A hop whose body was cut, and a request whose body came from a file, are marked as truncated."""
    hop = answer("http://h.example/a", b"HTTP/1.1 302 Found\r\n\r\n", None)
    result = exchanged(history=[hop], method="POST", data=io.BytesIO(b"from a file"))
    records = written(tmp_path, result)
    assert [record.fields.get("warc-truncated") for record in records] == ["unspecified", None, None, "unspecified"]
    assert "warc-payload-digest" not in records[0].fields


@pytest.mark.parametrize("data", [b"a=b", "a=é"])
def test_a_request_has_its_body(tmp_path: pathlib.Path, data: bytes | str) -> None:
    """What was posted stands behind the request's header."""
    _, request = written(tmp_path, exchanged(method="POST", data=data, asked=b"POST / HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert request.content == (data.encode() if isinstance(data, str) else data)


def test_files_rotate_and_each_begins_with_its_own_name(tmp_path: pathlib.Path) -> None:
    """No file is longer than it may be, each has a ``warcinfo`` record of its own, and a pair is never divided."""
    sink = WarcSink(str(tmp_path / "pages.warc.gz"), rotate_bytes=2000)
    results = [exchanged(body=PAGE + b"%d" % n) for n in range(12)]
    sink.write_all(results)
    assert sink.responses == 12
    sink.close()
    sink.close()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 2
    for path in paths:
        info, *records = read_warc(path.read_bytes())
        assert info.fields["warc-filename"] == path.name
        assert b"conformsTo" in info.content
        assert [record.kind for record in records] == ["response", "request"] * (len(records) // 2)
        assert path.stat().st_size <= 2000
    for result in results:
        (place,) = result.bodies
        file = (tmp_path / place.file).read_bytes()
        assert read_warc(file[place.offset : place.offset + place.length])[0].kind == "response"


def test_without_a_job_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path: pathlib.Path) -> None:
    """It is replaced at ``close``; meanwhile the new one is called ``.open``, and holds what was written."""
    written(tmp_path, exchanged())
    sink = WarcSink(str(tmp_path / "pages.warc.gz"))
    sink.write(exchanged(body=b"other"))
    assert read_warc((tmp_path / "pages.warc.gz").read_bytes())[1].content == b"<p>hello</p>"
    assert read_warc((tmp_path / "pages.warc.gz.open").read_bytes())[1].content == b"other"
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["pages.warc.gz"]
    assert records_in(tmp_path)[1].content == b"other"


def test_an_item_must_be_json_and_is_not_written(tmp_path: pathlib.Path) -> None:
    """As with other sinks a handler's fault is told at once."""
    sink = WarcSink(str(tmp_path / "pages.warc.gz"))
    sink.emit({"a": 1})
    with pytest.raises(ConfigError):
        sink.emit({"a": object()})
    sink.close()
    assert len(records_in(tmp_path)) == 1
    with pytest.raises(SinkError, match="closed"):
        sink.write(exchanged())


def test_many_threads_write_at_once(tmp_path: pathlib.Path) -> None:
    """Each record is whole and where its result says, whoever wrote it."""
    sink = WarcSink(str(tmp_path / "pages.warc.gz"), rotate_bytes=20_000)
    mine = [[exchanged(body=PAGE + b"%d %d" % (n, m)) for m in range(30)] for n in range(4)]
    threads = [threading.Thread(target=sink.write_all, args=(results,)) for results in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert sink.responses == 120
    records_in(tmp_path)
    for result in itertools.chain(*mine):
        (place,) = result.bodies
        data = (tmp_path / place.file).read_bytes()[place.offset : place.offset + place.length]
        assert result.response is not None
        assert read_warc(data)[0].content == result.response.content


@pytest.mark.parametrize("is_installed", [True, False])
def test_gzip_is_made_with_and_without_isal(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    """Either way it is one member that any gzip reads."""
    if not is_installed:
        monkeypatch.setitem(sys.modules, "isal", None)
    compress = gzipping.compressor()
    assert (compress is gzipping._with_zlib) is not is_installed
    assert gzip.decompress(compress(PAGE)) == PAGE
    assert gzip.decompress(compress(b"")) == b""


def test_a_member_is_read_whole_or_not_at_all() -> None:
    """One that is cut, damaged or larger than it may be is refused; what follows it doesn't matter."""
    member = gzip.compress(PAGE)
    assert gzipping.one_member(member + b"more", len(PAGE)) == PAGE
    with pytest.raises(gzipping.CutMember):
        gzipping.one_member(member[:-1])
    with pytest.raises(gzipping.BadMember, match="more than"):
        gzipping.one_member(member, len(PAGE) - 1)
    with pytest.raises(gzipping.BadMember, match="damaged"):
        gzipping.one_member(b"no gzip")


# -- in a job ----------------------------------------------------------------------------------------------------------


class Job:
    """What a job does with a WARC output, and what its ledger has of it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.mark, self.responses = folder, Mark(), 0
        self.committed: list[tuple[bytes, BodyPlace]] = []

    def live(self, numbers: range, *, is_last: bool) -> None:
        """Open the files, write a page for each number in groups of two, commit each group, complete the last time."""
        path = str(self.folder / "p.warc.gz")
        sink = WarcSink(path, rotate_bytes=1200, mark=self.mark, responses=self.responses)
        try:
            for group in itertools.zip_longest(*[iter(numbers)] * 2):
                results = [exchanged(body=PAGE + b"%d" % (n % 3)) for n in group if n is not None]
                sink.write_all(results)
                self._commit(sink, sink.sync(), results)
            if is_last:
                self._commit(sink, sink.complete(), [])
        finally:
            sink.close()

    def _commit(self, sink: WarcSink, mark: Mark, results: list[Result]) -> None:
        self.mark, self.responses = mark, sink.responses
        self.committed += [(r.response.content, r.bodies[0]) for r in results if r.response is not None]
        sink.committed(mark)

    def check(self) -> None:
        """Hold that the files are whole, hold what was committed, and nothing else."""
        records = records_in(self.folder)
        answers = [record for record in records if record.kind in ("response", "revisit")]
        assert len(answers) == self.responses == len(self.committed)
        for record, (content, place) in zip(answers, self.committed, strict=True):
            assert record.content in (content, b"")
            data = (self.folder / place.file).read_bytes()[place.offset : place.offset + place.length]
            assert read_warc(data)[0].fields == record.fields


def test_after_a_crash_at_any_call_the_files_are_whole(tmp_path: pathlib.Path) -> None:
    """Whichever call of the disk the process ended at: as many responses as the ledger has, and none is torn."""
    for at in itertools.count(1, 3):
        folder = tmp_path / str(at)
        folder.mkdir()
        job, faults = Job(folder), Faults(at, half=True)
        with faults.installed(), contextlib.suppress(Crash):
            job.live(range(6), is_last=True)
        job.live(range(6, 9), is_last=True)
        job.check()
        if at > len(faults.calls):
            return


def test_after_a_failure_every_call_fails_and_the_next_start_goes_on(tmp_path: pathlib.Path) -> None:
    """A full disk at any call is a ``SinkError``; opened anew at the mark all is whole."""
    for at in itertools.count(1, 5):
        folder = tmp_path / str(at)
        folder.mkdir()
        job, probe = Job(folder), Faults(at)
        with probe.installed(), contextlib.suppress(Crash):
            Job(folder).live(range(4), is_last=True)
        if len(probe.calls) < at:
            return
        for path in folder.iterdir():
            path.unlink()
        with Faults(at, ERRORS[probe.calls[-1]][0], half=True).installed(), pytest.raises(SinkError, match=r"p\.warc"):
            job.live(range(4), is_last=True)
        job.live(range(4, 6), is_last=True)
        job.check()
