"""Whether the bodies of a job are those that its records tell of: each digest compared, each WARC record read."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

from crawlpool.errors import JobError, WarcError
from crawlpool.jobs.again import MOVES
from crawlpool.jobs.bodies import KeptAt
from crawlpool.jobs.expected import BodyAt
from crawlpool.redact import one_line, redact_url
from crawlpool.sinks.gzipping import BadMember
from crawlpool.sinks.warc_reading import fields_of
from crawlpool.sinks.warc_records import digest_text, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.jobs.expected import Expected, Flaws, RecordAt
    from crawlpool.jobs.files import PartFiles
    from crawlpool.jobs.reading import JobReader
    from crawlpool.sinks.marks import Mark

_GZIP = 31
# What no digest covers but the ledger's of the last part: time, effort and system, of which we write none, or little.
_HEAD_BYTES, _HOW_FAR, _SYSTEMS = 10, (0, 2, 4), (3, 10, 11, 19, 255)
# What is left over of a piece is copied for each member in it: small pieces have few.
_PIECE_BYTES = 64 * 1024
_RESPONSES = ("response", "revisit")
_ANSWERED = ("ok", "http_error")


class BodiesCheck:
    """Compares bodies with the records that tell of them.

    Args:
        job: open to be read.
        flaws: takes what is wrong.
        expected: where responses should lie.

    Not thread-safe.
    """

    def __init__(self, job: JobReader, flaws: Flaws, expected: Expected) -> None:
        self._job = job
        self._flaws = flaws
        self._expected = expected
        self._hops = 0  # redirects before the responses that records tell of
        self._loose_hops = 0  # redirects before what has no response of its own, or failed
        #: Responses in WARC files, redirects included; and bodies that are what their records say.
        self.responses = self.bodies = 0

    def check(self, fields: dict[str, Any], want: RecordAt, name: str) -> None:
        """Take a record: look at its body where that has a file of its own, or note where its response should lie.

        Args:
            fields: of the record.
            want: where it stands.
            name: of the file in which it does.
        """
        hops = max(len(fields.get("redirects") or ()) - want.elsewhere, 0)
        try:
            places = list(self._job.bodies.places(fields))
        except JobError as error:
            self._flaws.add(name, f"target {want.id}: {error}", want.offset)
            return
        # What failed on the way may have an answer, and yet not those of its redirects.
        is_answer = fields["outcome"] in _ANSWERED and any(place.is_warc for place in places)
        if not is_answer:
            self._loose_hops += hops
        for place in places:
            if not place.is_warc:
                self._compare(place, fields.get("sha256"), fields.get("bytes"), want.id)
                continue
            self._hops += hops if is_answer else 0
            url = fields.get("final_url")
            at = BodyAt(place.file, place.offset, place.length, want.id, url, fields.get("sha256"), fields.get("bytes"))
            if not self._expected.add_body(at):
                what = f"the response of target {want.id} should lie there, which is the place of another one"
                self._flaws.add(one_line(place.file), what, place.offset)

    def handed_over(self, hops: int) -> None:
        """Take a target that another shard goes on with: what it was answered here lies in WARC files, and no more.

        Args:
            hops: redirects that it was answered.
        """
        self._hops += hops

    def check_warc(self, output: str, mark: Mark) -> None:
        """Look at all WARC records of an output, in order.

        Args:
            output: its name.
            mark: what counts of it.

        Raises:
            JobError: when a file can't be read.
        """
        files = self._job.files_of(output)
        found = claimed = 0
        try:
            for part in range(1, mark.part + 1):
                until = mark.length if part == mark.part else files.size(part)
                for is_claimed in self._responses(files, part, until):
                    found += 1
                    claimed += is_claimed
        finally:
            files.close()
        self.responses += found
        least, most = claimed + self._hops, claimed + self._hops + self._loose_hops
        if self._job.ledger.value(MOVES) is not None:
            most = found  # targets were taken again, and what they were answered before is there, too
        if not least <= found <= most and not self._flaws.count:  # else it follows from that
            what = f"{found:,} responses are there, and the records tell of {least:,}"
            self._flaws.add(one_line(output), what)

    def _responses(self, files: PartFiles, part: int, until: int) -> Iterator[bool]:
        """Yield for each response of a file whether a record tells of it."""
        name = files.name(part)
        wanted = self._expected.bodies(name)
        want = next(wanted, None)
        at = 0
        try:
            for offset, length, data in members(files, part, until):
                at = offset
                while want is not None and want.offset < offset:
                    self._miss(want, "no record begins there")
                    want = next(wanted, None)
                kind = self._kind_of(name, offset, data)
                if kind in _RESPONSES:
                    is_claimed = want is not None and want.offset == offset
                    if is_claimed and want is not None:
                        self._check_response(want, length, data)
                        want = next(wanted, None)
                    yield is_claimed
                at = offset + length
        except BadMember as error:
            self._flaws.add(name, f"{error}; what follows wasn't looked at", at)
            return
        while want is not None:
            if want.offset < until:
                self._miss(want, "no record begins there")
            elif until == files.size(part):
                self._miss(want, "the file ends before")
            want = next(wanted, None)

    def _kind_of(self, name: str, offset: int, data: bytes) -> str | None:
        """Return what sort of record it is, having compared its digest; ``None`` for none."""
        try:
            fields, block = fields_of(data)
        except WarcError as error:
            self._flaws.add(name, one_line(str(error)), offset)
            return None
        digest = fields.get("warc-block-digest")
        if digest != digest_text(hashlib.sha1(block, usedforsecurity=False).digest()):
            self._flaws.add(name, "it isn't what was written: the digest of its block differs", offset)
        if offset == 0 and fields.get("warc-type") != "warcinfo":
            self._flaws.add(name, "the file doesn't begin with a warcinfo record", offset)
        return fields.get("warc-type")

    def _check_response(self, want: BodyAt, length: int, data: bytes) -> None:
        file = one_line(want.file)
        if length != want.length:
            what = f"the record has {length:,} bytes, and {want.length:,} should be there"
            self._flaws.add(file, f"{what} for target {want.id}", want.offset)
            return
        fields, _ = fields_of(data)
        uri = fields.get("warc-target-uri", "")
        if want.url is not None and uri != uri_of(redact_url(want.url)):
            what = f"its URI is {one_line(uri, 100)}, and target {want.id} was answered by {one_line(want.url, 100)}"
            self._flaws.add(file, what, want.offset)
            return
        if want.sha256 is not None:
            at = next(self._job.bodies.places({"body": [want._asdict()]}))
            self._compare(at, want.sha256, want.size, want.id)

    def _compare(self, place: KeptAt, sha256: str | None, size: int | None, target: int) -> None:
        try:
            content = self._job.bodies.content_at(place, {"bytes": size})
        except JobError as error:
            self._flaws.add(one_line(place.file), f"the body of target {target}: {error}", place.offset)
            return
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            what = f"the body of target {target} isn't what its record says: the digest differs"
            self._flaws.add(one_line(place.file), what, place.offset)
            return
        self.bodies += 1

    def _miss(self, want: BodyAt, why: str) -> None:
        what = f"the response of target {want.id} should lie there: {why}"
        self._flaws.add(one_line(want.file), what, want.offset)


def members(files: PartFiles, part: int, until: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, length and content of each gzip member of a file, up to ``until``.

    Raises:
        BadMember: when one is damaged, or cut.
    """
    begin = at = 0  # where the member begins, and up to where bytes were given to the engine
    engine, content, head = zlib.decompressobj(_GZIP), list[bytes](), b""
    for piece in files.pieces(part, until, _PIECE_BYTES):
        data = piece
        while data:
            try:
                content.append(engine.decompress(data))
            except zlib.error as error:
                raise BadMember(f"the gzip member is damaged: {error}") from error
            head += data[: _HEAD_BYTES - len(head)]
            at += len(data) - len(engine.unused_data)
            data = engine.unused_data
            if engine.eof:
                if head[4:8] != bytes(4) or head[8] not in _HOW_FAR or head[9] not in _SYSTEMS:
                    raise BadMember("the head of the gzip member isn't one that is written here")
                yield begin, at - begin, b"".join(content)
                begin, engine, content, head = at, zlib.decompressobj(_GZIP), [], b""
    if at > begin:
        raise BadMember("the gzip member is cut")
