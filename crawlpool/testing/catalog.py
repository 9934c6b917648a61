"""The named faults: each with what a correct client says of it. ``FAULTS`` has them all, by name."""

from __future__ import annotations

import difflib
import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from crawlpool.testing.bombs import bomb, corrupt, nested_bomb, truncated
from crawlpool.testing.faults import Fault, cookie_bomb, redirect_chain, redirect_loop, redirect_maze
from crawlpool.testing.http1 import Answer
from crawlpool.testing.steps import Close, Hold, Read, Reset, Script, Send, Wait, drip, head, script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crawlpool.testing.http1 import Request

#: The body of faults whose answer is whole, in the end.
BODY = b"<p>The whole page, and nothing but the page."
#: What bombs unfold to.
BOMB_BYTES = 64 * 1024 * 1024
_OUTCOMES = ("ok", "http_error", "failed")
_CHUNKED = ("Transfer-Encoding", "chunked")
_WHOLE = head(length=len(BODY)) + BODY
_EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted"
_TEXT = b" ".join(b"line %d of a page that is worth packing" % number for number in range(400))


def _fault(name: str, about: str, *says: str, steps: tuple[Any, ...] | None = None, **more: Any) -> Fault:
    outcomes = {word for word in says if word in _OUTCOMES}
    kinds = frozenset(says) - outcomes
    if kinds:
        outcomes.add("failed")
    if steps is not None:
        more["route"] = script(*steps)
    return Fault(name, about, frozenset(outcomes), kinds, **more)


def _packed(coding: str, pieces: Any) -> Any:
    def answer(request: Request) -> Script:
        return script(head(200, ("Content-Encoding", coding), _CHUNKED), Send(lambda: _chunks(pieces())))

    return answer


def _chunks(pieces: Any) -> Iterator[bytes]:
    for piece in (pieces,) if isinstance(pieces, bytes) else pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _time() -> Iterator[Fault]:
    late = ("deadline", "timeout")
    endless: dict[str, Any] = {"is_endless": True}
    start = b"HTTP/1.1 200 OK\r\nX-Slow: "
    yield _fault("late_header", "the first byte comes after 0.1 s", "ok", steps=(Wait(0.1), _WHOLE), body=BODY)
    sliced = (Send(_WHOLE, piece_bytes=1),)
    yield _fault("sliced", "each byte is sent by itself", "ok", steps=sliced, body=BODY)
    narrow = (Send(_WHOLE, bytes_per_s=2000),)
    yield _fault("narrow", "2,000 bytes a second", "ok", steps=narrow, body=BODY)
    yield _fault("header_stall", "the request is read, and nothing comes", *late, steps=(Hold(),), **endless)
    yield _fault("header_drip", "a header line without end, byte by byte", *late, steps=(start, drip()), **endless)
    half = start[:-1] + b" x\r\n"
    yield _fault("header_cut_stall", "half the header, then nothing", *late, steps=(half, Hold()), **endless)
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    said = (*late, "protocol", "too_large")
    yield _fault("interim_drip", "102 after 102 without end", *said, steps=(drip(interim, 0.02),), **endless)
    yield _fault("interim_flood", "the same, as fast as it is read", *said, steps=(drip(interim, 0),), **endless)
    long = head(length=1000)
    yield _fault("body_stall", "half the body, then nothing", *late, steps=(long, BODY, Hold()), **endless)
    yield _fault("body_drip", "the body byte by byte", *late, steps=(head(length=10**6), drip()), **endless)
    chunked = head(200, _CHUNKED)
    yield _fault("chunk_drip", "chunk by chunk without end", *late, steps=(chunked, drip(b"1\r\nx\r\n")), **endless)
    said = (*late, "protocol", "truncated")
    yield _fault("chunk_size_drip", "a chunk size without end", *said, steps=(chunked, drip(b"0")), **endless)
    trailer = (chunked + b"0\r\n", drip(b"X: y\r\n", 0.02))
    # The body is whole by then: a client that doesn't wait for the trailer is right, too.
    yield _fault("trailer_drip", "trailer after trailer without end", "ok", *said, steps=trailer, body=b"", **endless)
    hold: dict[str, Any] = {"place": "opening", "opening": script(Hold()), "route": BODY}
    yield _fault("mute", "the connection is taken, and nothing is read or said", *late, **hold, **endless)
    upload: dict[str, Any] = {
        "method": "POST",
        "upload_bytes": 64 * 1024 * 1024,
        "place": "opening",
        "opening": script(Hold()),
    }
    yield _fault("never_reads", "a body is sent, and never read", *late, route=BODY, **upload, **endless)


def _truth() -> Iterator[Fault]:
    whole = len(BODY)
    yield _fault("short_length", "the body ends before its length", "truncated", steps=(head(length=whole + 9), BODY))
    reset: tuple[Any, ...] = (head(length=whole + 9), BODY, Wait(0.05), Reset())
    yield _fault("reset_in_body", "reset in the middle of the body", "truncated", "connect", steps=reset)
    yield _fault("reset", "reset in place of an answer", "connect", "protocol", steps=(Reset(),))
    yield _fault("hang_up", "closed in place of an answer", "connect", "protocol", steps=(Close(),))
    cut = (b"HTTP/1.1 200 OK\r\nContent-Len",)
    yield _fault("header_cut", "closed in the middle of the header", "protocol", steps=cut)
    reset = (b"HTTP/1.1 200 OK\r\nContent-Len", Wait(0.05), Reset())
    yield _fault("header_reset", "reset in the middle of the header", "protocol", "connect", steps=reset)
    chunked = head(200, _CHUNKED)
    first = b"5\r\nfirst\r\n"
    yield _fault("chunked_cut", "closed between two chunks", "truncated", steps=(chunked, first))
    yield _fault("chunk_cut", "closed in the middle of a chunk", "truncated", steps=(chunked, b"50\r\nfirst"))
    yield _fault("last_chunk_cut", "closed after the last chunk's size", "truncated", "ok", "protocol", steps=(
        chunked, first + b"0\r\n"), body=b"first")  # fmt: skip
    bad = ("truncated", "protocol", "too_large")
    for name, about, line in (
        ("chunk_size_bad", "a chunk size that is no number", b"zz\r\nfirst\r\n0\r\n\r\n"),
        ("chunk_size_negative", "a negative chunk size", b"-5\r\nfirst\r\n0\r\n\r\n"),
        ("chunk_size_huge", "a chunk size of 2 to the 71", b"fff" + b"f" * 15 + b"\r\nfirst\r\n0\r\n\r\n"),
        ("chunk_end_bad", "a chunk that is longer than its size", b"3\r\nfirst\r\n0\r\n\r\n"),
    ):
        yield _fault(name, about, *bad, steps=(chunked, line))
    for coding in ("gzip", "deflate", "br", "zstd"):
        route = _packed(coding, lambda coding=coding: truncated(_TEXT, coding))
        about = f"{coding} without its end"
        yield _fault(f"{coding}_cut", about, "truncated", "decode", route=route, coding=coding)
        route = _packed(coding, lambda coding=coding: corrupt(_TEXT, coding))
        yield _fault(f"{coding}_corrupt", f"damaged {coding}", "decode", "truncated", route=route, coding=coding)
    until = (head(200, ("Connection", "close")), BODY)
    yield _fault("until_close", "the body ends with the connection", "ok", steps=until, body=BODY, is_unverified=True)
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    yield _fault("early_hints", "103, then the answer", "ok", steps=(early, _WHOLE), body=BODY)
    surplus = Script((Send(_WHOLE + _EVIL),), goes_on=True)
    yield _fault("surplus", "another answer right behind the body", "ok", route=surplus, body=BODY, asks=2)
    planted = Script((Send(_WHOLE), Wait(0.02), Send(_EVIL)), goes_on=True)
    yield _fault(
        "planted", "another answer on the idle connection", "ok", route=planted, body=BODY, asks=2, pause_s=0.2
    )


def _protocol() -> Iterator[Fault]:
    say, whole = ("protocol",), len(BODY)
    known = ("Content-Length", str(whole))
    for name, about, fields in (
        ("two_lengths", "two lengths that differ", (known, ("Content-Length", "7"))),
        ("length_negative", "a negative length", (("Content-Length", "-5"),)),
        ("length_garbage", "a length that is no number", (("Content-Length", "some"),)),
        ("length_and_chunks", "a length beside chunks", (known, _CHUNKED)),
        ("chunked_twice", "chunked, chunked", (("Transfer-Encoding", "chunked, chunked"),)),
    ):
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (whole, BODY) if "chunk" in name else BODY
        yield _fault(name, about, *say, steps=(head(200, *fields), body))
    for name, about, line in (
        ("bare_cr", "a bare CR in a header", b"X-A: one\rX-B: two"),
        ("nul", "a NUL in a header", b"X-A: o\0ne"),
        ("space_before_colon", "a space before a header's colon", b"X-A : one"),
        ("no_colon", "a header line without a colon", b"X-A one"),
        ("many_headers", "150 header lines", b"\r\n".join(b"X-%d: x" % n for n in range(150))),
        ("large_headers", "280 KiB of header lines", b"\r\n".join(b"X-%d: %b" % (n, b"x" * 4000) for n in range(72))),
    ):
        answer = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (line, whole, BODY)
        yield _fault(name, about, *say, steps=(answer,))
    flood = (b"HTTP/1.1 200 OK\r\n", Send(lambda: (b"X-%d: x\r\n" % n for n in itertools.count()), is_endless=True))
    said = (*say, "too_large", "deadline")
    yield _fault("header_flood", "header lines without end", *said, steps=flood, is_endless=True)
    yield _fault("http09", "a body without a header, as in HTTP/0.9", *say, steps=(BODY,))
    yield _fault("status_1000", "the status 1000", *say, steps=(_WHOLE.replace(b"200", b"1000", 1),))
    yield _fault("status_text", "a status that is no number", *say, steps=(_WHOLE.replace(b"200", b"2x0", 1),))
    yield _fault("version_3", "HTTP/3.7 on a plain connection", *say, steps=(_WHOLE.replace(b"1.1", b"3.7", 1),))
    yield _fault("binary", "bytes that are no HTTP", *say, "connect", steps=(bytes(range(128, 256)) * 4,))


def _size() -> Iterator[Fault]:
    much = BOMB_BYTES
    for coding in ("gzip", "deflate", "br", "zstd"):
        route = _packed(coding, lambda coding=coding: bomb(coding, much))
        yield _fault(
            f"{coding}_bomb", f"{coding} of {much >> 20} MiB of zeros", "too_large", route=route, coding=coding
        )
    route = _packed("gzip, gzip, gzip", lambda: nested_bomb(3, much))
    yield _fault("nested_bomb", "the same, packed three times", "too_large", "decode", route=route)
    twelve = _packed(", ".join(["gzip"] * 12), lambda: nested_bomb(12, 1000))
    yield _fault("many_codings", "a body packed twelve times", "decode", "protocol", "too_large", route=twelve)
    plenty = (head(200, ("Connection", "close")), drip(bytes(1 << 16), 0))
    yield _fault("endless_body", "a body without end", "too_large", "deadline", steps=plenty, is_endless=True)
    huge = (head(length=10**15), drip(bytes(1 << 16), 0))
    yield _fault(
        "huge_length", "a length of a petabyte, and the bytes", "too_large", "deadline", steps=huge, is_endless=True
    )
    away = head(302, ("Location", "/redirect_body?end"), ("Connection", "close"), reason="Found")
    endless = script(away, drip(bytes(1 << 16), 0))
    led = lambda request: BODY if request.query else endless  # noqa: E731
    yield _fault(
        "redirect_body",
        "a redirect whose body has no end",
        "ok",
        "too_large",
        "deadline",
        route=led,
        body=BODY,
        is_endless=True,
    )
    yield _fault("cookie_bomb", "60 cookies of 900 bytes", "ok", route=cookie_bomb(), body=b"cookies")


def _redirects() -> Iterator[Fault]:
    say = "redirect"
    yield _fault("redirect_self", "a redirect to itself", say, route=redirect_loop())
    yield _fault("redirect_circle", "a circle of three redirects", say, route=redirect_loop(3))
    yield _fault("redirect_chain", "100 redirects, then a page", say, route=redirect_chain(100))
    yield _fault("redirect_maze", "redirects without end, each to another URL", say, route=redirect_maze())
    hosts = redirect_maze(("localhost", "127.0.0.1"))
    yield _fault("redirect_hosts", "the same, from host to host", say, "blocked_address", route=hosts)
    for name, about, there in (
        ("redirect_scheme", "a redirect to a file", "file:///etc/hostname"),
        ("redirect_nowhere", "a redirect to what is no URL", "http://[::1"),
    ):
        answer = Answer(302, {"Location": there})
        yield _fault(name, about, say, "invalid_url", "protocol", route=answer)
    latin = (head(302, ("Location", "/redirect_latin?caf\xe9"), reason="Found", length=0),)
    page = lambda request: BODY if request.query else script(*latin)  # noqa: E731
    yield _fault("redirect_latin", "a redirect in Latin-1", "ok", say, "invalid_url", "protocol", route=page)


def _tls() -> Iterator[Fault]:
    for flavour, about in (
        ("expired", "a certificate that has expired"),
        ("not_yet", "a certificate that isn't valid yet"),
        ("wrong_name", "a certificate of another name"),
        ("self_signed", "a certificate signed by itself"),
        ("wrong_authority", "a certificate of an authority that nobody trusts"),
    ):
        yield _fault(f"tls_{flavour}", about, "tls", place="tls", certificate=flavour, route=BODY)
    late = ("deadline", "timeout")
    record = b"\x16\x03\x03\x3f\x00"  # of a handshake, and long
    for name, about, says, opening in (
        ("tls_stall", "nothing is said to the hello", late, (Read(), Hold())),
        ("tls_drip", "the handshake byte by byte", (*late, "tls"), (Read(), record, drip(b"\2"))),
        ("tls_reset", "reset in the handshake", ("tls", "connect"), (Read(), Reset())),
        ("tls_hang_up", "closed in the handshake", ("tls", "connect"), (Read(), Close())),
        ("tls_plain", "plain HTTP in place of TLS", ("tls", "connect", "protocol"), (Read(), _WHOLE, Wait(0.05))),
    ):
        more: dict[str, Any] = {"certificate": "good", "opening": script(*opening), "is_endless": late[0] in says}
        yield _fault(name, about, *says, place="tls", route=BODY, **more)
    good: dict[str, Any] = {"place": "tls", "certificate": "good"}
    yield _fault(
        "tls_no_goodbye", "cut without a word after a whole body", "ok", steps=(_WHOLE, Close()), body=BODY, **good
    )
    cut = (head(length=len(BODY) + 9), BODY, Close())
    yield _fault("tls_cut", "cut without a word in the body", "truncated", "tls", steps=cut, **good)


def _ways() -> Iterator[Fault]:
    late = ("deadline", "timeout", "proxy")
    mute, noise = script(Hold()), script(b"\0\1\2\3 no\r\n\r\n")
    for name, about, says, certificate, route in (
        ("proxy_mute", "a proxy that takes the request and says nothing", late, None, mute),
        ("proxy_tunnel_mute", "a proxy that says nothing to CONNECT", late, "good", mute),
        ("proxy_refuses", "a proxy that refuses CONNECT", ("proxy",), "good", Answer(403)),
        ("proxy_garbage", "no HTTP in answer to CONNECT", ("proxy", "protocol", "connect"), "good", noise),
    ):
        more: dict[str, Any] = {"certificate": certificate, "is_endless": route is mute}
        yield _fault(name, about, *says, place="proxy", route=route, **more)
    full = ("deadline", "timeout", "connect")
    yield _fault("listen_full", "no place for another connection", *full, place="listener", is_endless=True)
    yield _fault("listen_none", "nobody listens", "connect", place="listener")


class _Faults(dict[str, Fault]):
    def __missing__(self, name: object) -> Fault:
        near = difflib.get_close_matches(str(name), self, 3, 0.5)
        told = f"near it: {', '.join(near)}" if near else "list(FAULTS) has the names"
        raise KeyError(f"no fault is named {name!r}; {told}")


#: All faults by name, in the order of a table: time, truth, protocol, size, redirects, TLS, proxies and listeners.
FAULTS: Mapping[str, Fault] = MappingProxyType(
    _Faults(
        (fault.name, fault) for group in (_time, _truth, _protocol, _size, _redirects, _tls, _ways) for fault in group()
    )
)
