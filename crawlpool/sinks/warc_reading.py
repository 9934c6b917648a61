"""One response of a WARC file read back: its status, its header as it came, its payload, and its decoded content.

It reads what ``WarcSink`` wrote, at the place that a record's ``body`` tells, and trusts nothing of it: each length is
checked, and each digest can be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote

from crawlpool.decode import decode_body
from crawlpool.errors import WarcError
from crawlpool.sinks.gzipping import BadMember, CutMember, one_member
from crawlpool.sinks.marks import OPEN_SUFFIX
from crawlpool.sinks.warc_records import digest_text
from crawlpool.transport.answer import parse_header

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})(?: ([^\r\n]*))?\r?\n")
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class StoredResponse:
    """A response as it was stored.

    Args:
        url: what was asked, without userinfo and fragment.
        date: when, as WARC-Date has it.
        ip: of the server, or ``None``.
        status: the HTTP status.
        reason: what stands beside it.
        head: the header's bytes, the status line and the blank line included.
        payload: the body as it was on the wire, with chunks undone.
        is_whole: whether the body was whole.
        fields: the WARC record's own header; names in lower case.
    """

    url: str
    date: str
    ip: str | None
    status: int
    reason: str
    head: bytes = dataclasses.field(repr=False)
    payload: bytes = dataclasses.field(repr=False)
    is_whole: bool
    fields: Mapping[str, str] = dataclasses.field(repr=False)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header's fields in order, repeated ones too, by their names as they came."""
        lines = self.head.splitlines(keepends=True)[1:]
        while lines and lines[-1] in (b"\r\n", b"\n"):
            lines.pop()
        return [(str(name), str(value)) for name, value in parse_header(lines).items()]

    def content(self, max_bytes: int | None = None) -> bytes:
        """Return the body with its codings undone: what ``response.content`` was.

        Args:
            max_bytes: how much it may unfold to.

        Raises:
            RequestError: when it can't be decoded, as the transport raised it then.
        """
        coding = ", ".join(value for name, value in self.headers if name.lower() == "content-encoding")
        return decode_body(self.payload, coding, max_bytes=max_bytes) if coding and self.payload else self.payload


def read_response(folder: str, file: str, offset: int, length: int | None = None) -> StoredResponse:
    """Read the response record at a place, following a ``revisit`` to the record that has its payload.

    Args:
        folder: where the files lie.
        file: the file's base name; one that isn't complete yet is found under its ``….open`` name.
        offset: where the record's gzip member begins.
        length: how many bytes it has; ``None`` where that isn't known.

    Raises:
        WarcError: when no such record is there, or it is damaged: its digests are compared.
        OSError: when the file can't be read.
    """
    found = _read_one(folder, file, offset, length)
    if found.fields["warc-type"] != "revisit":
        return found
    other, at = unquote(found.fields.get("warc-refers-to-filename", "")), found.fields.get("warc-refers-to-file-offset")
    if not other or at is None or not at.isdigit():
        raise WarcError(f"{file} at {offset}: it doesn't say where its payload lies")
    first = _read_one(folder, other, int(at), None)
    if first.fields.get("warc-payload-digest") != found.fields.get("warc-payload-digest"):
        raise WarcError(f"{file} at {offset}: what it refers to, {other} at {at}, has another payload")
    return dataclasses.replace(found, payload=first.payload)


def fields_of(record: bytes) -> tuple[dict[str, str], bytes]:
    """Take a WARC record apart: its header's fields, names in lower case, and its block.

    Raises:
        WarcError: when it is none, or its length isn't what it says.
    """
    head, blank, rest = record.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not blank or lines[0] not in (b"WARC/1.1", b"WARC/1.0"):
        raise WarcError("it is no WARC record")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    given = fields.get("content-length", "")
    if not given.isdigit() or rest[int(given) :] != b"\r\n\r\n":
        raise WarcError("its block isn't as long as it says")
    return fields, rest[: int(given)]


def _read_one(folder: str, file: str, offset: int, length: int | None) -> StoredResponse:
    place = f"{file} at {offset}"
    if os.path.basename(file) != file or file in ("", ".", ".."):
        raise WarcError(f"{place}: a file of the output's folder is named without a path")
    try:
        fields, block = fields_of(_record_at(os.path.join(folder, file), offset, length))
    except (BadMember, WarcError) as error:
        raise WarcError(f"{place}: {error}") from error
    kind = fields.get("warc-type")
    if kind not in ("response", "revisit"):
        raise WarcError(f"{place}: it is a {kind} record, and no response")
    head, payload = _divided(block)
    status = _STATUS.match(head)
    if status is None:
        raise WarcError(f"{place}: it has no status line")
    if fields.get("warc-block-digest") != _digest(block):
        raise WarcError(f"{place}: it isn't what was written: the digest of its block differs")
    if kind == "response" and fields.get("warc-payload-digest") not in (None, _digest(payload)):
        raise WarcError(f"{place}: it isn't what was written: the digest of its payload differs")
    return StoredResponse(
        url=fields.get("warc-target-uri", ""),
        date=fields.get("warc-date", ""),
        ip=fields.get("warc-ip-address"),
        status=int(status[1]),
        reason=(status[2] or b"").decode("iso-8859-1").strip(),
        head=head,
        payload=payload,
        is_whole="warc-truncated" not in fields,
        fields=fields,
    )


def _record_at(path: str, offset: int, length: int | None) -> bytes:
    for name in (path, path + OPEN_SUFFIX):
        with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
            return _record_in(file, offset, length)
    with open(path, "rb") as file:  # it has its name since
        return _record_in(file, offset, length)


def _record_in(file: BinaryIO, offset: int, length: int | None) -> bytes:
    file.seek(offset)
    if length is not None:
        data = file.read(length)
        if len(data) < length:
            raise WarcError("the file ends before the record")
        return one_member(data)
    data = b""
    while piece := file.read(max(_CHUNK_BYTES, len(data))):  # twice as much each time, so that large ones end soon
        data += piece
        try:
            return one_member(data)
        except CutMember:
            continue
    raise WarcError("the file ends within the record")


def _divided(block: bytes) -> tuple[bytes, bytes]:
    """Divide a block after the blank line of its header."""
    ends = [found + len(blank) for blank in (b"\r\n\r\n", b"\n\n", b"\n\r\n") if (found := block.find(blank)) >= 0]
    end = min(ends, default=len(block))
    return block[:end], block[end:]


def _digest(data: bytes) -> str:
    return digest_text(hashlib.sha1(data, usedforsecurity=False).digest())
