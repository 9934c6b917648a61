"""``cookies.txt``: what is read, what is refused and with which words, and how the file is written."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.cookies import create_cookie

from crawlpool.cookies import CookieStore
from crawlpool.errors import CookieFileError
from tests.cookies.helpers import NOW_S, contents, posed_time

if TYPE_CHECKING:
    import pathlib
    from http.cookiejar import Cookie

FUTURE = 4_000_000_000
GOOD = f"example.com\tFALSE\t/\tFALSE\t{FUTURE}\tsid\t1\n"


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the path of a cookie file that isn't there yet."""
    return tmp_path / "cookies.txt"


def facts(cookie: Cookie) -> tuple[Any, ...]:
    """Return what the format keeps of a cookie."""
    http_only = cookie.has_nonstandard_attr("HttpOnly")
    where = (cookie.domain, cookie.domain_specified, cookie.path)
    return (*where, cookie.secure, cookie.expires, cookie.discard, cookie.name, cookie.value, http_only)


def written(*cookies: Cookie) -> CookieStore:
    """Return a store with these cookies."""
    store = CookieStore()
    for cookie in cookies:
        store.set_cookie(cookie)
    return store


HOST = ("example.com", False, "/", False)  # domain, domain_specified, path, secure
SESSION = (None, True)  # expires, discard


@pytest.mark.parametrize(
    "line, expected",
    [
        (f"example.com\tFALSE\t/\tFALSE\t{FUTURE}\ta\t1", (*HOST, FUTURE, False, "a", "1", False)),
        ("example.com\tFALSE\t/\tFALSE\t0\ta\t1", (*HOST, *SESSION, "a", "1", False)),
        ("example.com\tFALSE\t/\tFALSE\t\ta\t1", (*HOST, *SESSION, "a", "1", False)),
        ("example.com\tFALSE\t\tFALSE\t0\ta\t1", (*HOST, *SESSION, "a", "1", False)),
        (".example.com\tFALSE\t/\tFALSE\t0\ta\t1", (*HOST, *SESSION, "a", "1", False)),
        ("example.com\tFALSE\t/\tFALSE\t0\ta\t", (*HOST, *SESSION, "a", "", False)),
        ("example.com\tFALSE\t/\tFALSE\t0\ta", (*HOST, *SESSION, "a", "", False)),
        ("example.com\tFALSE\t/\tFALSE\t0\t\tbare", (*HOST, *SESSION, "", "bare", False)),
        (
            f"example.com\tFALSE\t/\tFALSE\t{FUTURE}.75\ta\tx=y; z\x85\xe9 #",
            (*HOST, FUTURE, False, "a", "x=y; z\x85\xe9 #", False),
        ),
        (
            "#HttpOnly_.example.com\tTRUE\t/p\tTRUE\t0\ta\t1",
            (".example.com", True, "/p", True, *SESSION, "a", "1", True),
        ),
        (
            "example.com\tTRUE\t/\tfalse\t0\ta\t1",
            (".example.com", True, "/", False, *SESSION, "a", "1", False),
        ),
        (
            "localhost\tFALSE\t/\tFALSE\t0\ta\t1",
            ("localhost", False, "/", False, *SESSION, "a", "1", False),
        ),
        (
            ".localhost\tTRUE\t/\tFALSE\t0\ta\t1",
            ("localhost", False, "/", False, *SESSION, "a", "1", False),
        ),
        ("127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t1", ("127.0.0.1", False, "/", False, *SESSION, "a", "1", False)),
        ("#AnyHost_\tFALSE\t/\tFALSE\t0\ta\t1", ("", False, "/", False, *SESSION, "a", "1", False)),
        ("#AnyHost_#HttpOnly_\tFALSE\t/\tFALSE\t0\ta\t1", ("", False, "/", False, *SESSION, "a", "1", True)),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_line_is_read(file: pathlib.Path, line: str, end: str, expected: tuple[Any, ...]) -> None:
    """Each form of a line that curl, browsers' extensions and crawlpool write is read, with any line end."""
    file.write_bytes((line + end).encode("latin-1"))
    assert [facts(cookie) for cookie in CookieStore.load(file)] == [expected]


def test_comments_blank_lines_mark_and_expired_cookies_are_passed_over(file: pathlib.Path) -> None:
    """A byte order mark, comments, blank lines and expired cookies are no cookies and no errors."""
    text = "# Netscape HTTP Cookie File\r\n# a\tb\r\n\r\n  \n#\nexample.com\tFALSE\t/\tFALSE\t1\told\t1\n" + GOOD
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    store = CookieStore.load(str(file))
    assert store.get_dict() == {"sid": "1"}
    file.write_bytes(b"")
    assert CookieStore.load(file).is_empty


def test_cookies_of_public_suffixes_are_left_out_and_told(file: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file's cookies for all of a public suffix are left out, with one warning; a host's own stay."""
    lines = [
        ".co.uk\tTRUE\t/\tFALSE\t0\tsuper\ts3cret-login-token",
        "github.io\tFALSE\t/\tFALSE\t0\town\t1",
        ".user.github.io\tTRUE\t/\tFALSE\t0\tshared\t2",
        ".github.io\tTRUE\t/\tFALSE\t0\tsuper\t3",
    ]
    file.write_text("\n".join(lines))
    assert CookieStore.load(file).get_dict() == {"own": "1", "shared": "2"}
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name == "crawlpool.cookies"
    assert (record.__dict__["cookies"], record.__dict__["line"]) == (2, 1)
    assert SECRET not in str(record.__dict__)


def test_value_with_quotes_goes_out_as_it_came(file: pathlib.Path) -> None:
    """Escaped quotes, which requests doesn't show, are written and read back: the header is the same after it."""
    store = CookieStore()
    store.take(['q="a\\"b"'], "http://example.com/")
    store.save(file)
    assert CookieStore.load(file).header_for("http://example.com/") == store.header_for("http://example.com/")
    assert store.header_for("http://example.com/") == 'q="a\\"b"'


SECRET = "s3cret-login-token"


@pytest.mark.parametrize(
    "line, message",
    [
        (f"example.com FALSE / FALSE 0 sid {SECRET}", "a cookie has 7 fields split by tabs, this line has 1"),
        (f"example.com\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}\tx", "a cookie has 7 fields split by tabs, this line has 8"),
        (
            f"example.com\tFALSE\t/\tFALSE\t{SECRET}\tsid\tx",
            "field 5, the expiry, is not a number",
        ),
        (
            f"example.com\tFALSE\t/\tFALSE\t-1\tsid\t{SECRET}",
            "field 5, the expiry, is not a number",
        ),
        (f"example.com\tFALSE\t/\tFALSE\t{'9' * 5000}\tsid\t{SECRET}", "field 5, the expiry, is not a number"),
        (f"example.com\t{SECRET}\t/\tFALSE\t0\tsid\tx", "field 2, the subdomains flag, is neither TRUE nor FALSE"),
        (f"example.com\tFALSE\t/\t{SECRET}\t0\tsid\tx", "field 4, the secure flag, is neither TRUE nor FALSE"),
        (f"\tFALSE\t/\tFALSE\t0\tsid\t{SECRET}", "field 1, the domain, is empty"),
        ("example.com\tFALSE\t/\tFALSE\t0\t\t", "fields 6 and 7, name and value, are both empty"),
        (f"Set-Cookie: sid={SECRET}; Path=/", "a cookie has 7 fields split by tabs, this line has 1"),
        (f"SQLite format 3\0{SECRET}", "a cookie has 7 fields split by tabs, this line has 1"),
    ],
)
def test_malformed_line_is_named_and_not_quoted(file: pathlib.Path, line: str, message: str) -> None:
    """A line that is no cookie raises with file, line number and reason; no part of it is in the error."""
    file.write_text(f"# Netscape HTTP Cookie File\n{GOOD}{line}\n")
    with pytest.raises(CookieFileError) as caught:
        CookieStore.load(file)
    assert str(caught.value).startswith(f"{file}, line 3: {message}")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_unreadable_file_is_named(tmp_path: pathlib.Path) -> None:
    """A file or folder that can't be read or written raises with its name and the system's reason."""
    with pytest.raises(CookieFileError, match=r"missing\.txt: can't be read: No such file"):
        CookieStore.load(tmp_path / "missing.txt")
    with pytest.raises(CookieFileError, match=r"can't be read: Is a directory"):
        CookieStore.load(tmp_path)
    with pytest.raises(CookieFileError, match=r"c\.txt: can't be written: No such file"):
        written().save(tmp_path / "nowhere" / "c.txt")


def test_file_is_written_as_curl_writes_it(file: pathlib.Path) -> None:
    """The lines are those of the format: prefix, flags, 0 for a session cookie, the stored order."""
    store = written(
        create_cookie("sid", "1", domain="example.com", rest={}),  # requests sends it to subdomains, too
        create_cookie("all", "2", domain=".example.com", path="/p", secure=True, expires=FUTURE, discard=False),
        create_cookie("old", "3", domain="example.com", expires=5),
        create_cookie("any", "4", rest={}),
        create_cookie("l", "5", domain="localhost.local", rest={"httponly": None}),
        create_cookie("i", "6", domain="127.0.0.1", rest={}),
    )
    store.take(["own=7"], "http://intranet.local/")
    store.save(file)
    header, lines = file.read_text().split("\n\n")
    assert header.splitlines()[0] == "# Netscape HTTP Cookie File"
    assert all(line.startswith("#") for line in header.splitlines())
    assert lines.splitlines() == [
        ".example.com\tTRUE\t/\tFALSE\t0\tsid\t1",
        f"#HttpOnly_.example.com\tTRUE\t/p\tTRUE\t{FUTURE}\tall\t2",
        "#AnyHost_\tFALSE\t/\tFALSE\t0\tany\t4",
        "#HttpOnly_localhost\tFALSE\t/\tFALSE\t0\tl\t5",
        "127.0.0.1\tFALSE\t/\tFALSE\t0\ti\t6",
        "intranet.local\tFALSE\t/\tFALSE\t0\town\t7",
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"value": f"{SECRET}\n"}, "its value has a tab, a line break or a NUL in it"),
        ({"value": f"{SECRET}\r"}, "its value has a tab, a line break or a NUL in it"),
        ({"value": f"a\t{SECRET}"}, "its value has a tab, a line break or a NUL in it"),
        ({"value": f"{SECRET}\0"}, "its value has a tab, a line break or a NUL in it"),
        ({"value": f"{SECRET}\u2713"}, "its value has a character outside Latin-1 in it"),
        ({"path": "/\t"}, "its path has a tab, a line break or a NUL in it"),
        ({"domain": "exa\tmple.com"}, "its domain has a tab, a line break or a NUL in it"),
        ({"domain": "#example.com"}, "its domain begins with #"),
        ({"name": "a\nb"}, "its name has a tab, a line break or a NUL in it"),
        ({"name": "", "value": ""}, "it has neither name nor value"),
        ({"domain": "."}, "its domain is empty"),
    ],
)
def test_cookie_that_can_not_be_written_is_named(file: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    """A cookie that the format can't hold raises, naming the cookie and not its value; the old file stays."""
    file.write_text(GOOD)
    cookie = create_cookie("sid", SECRET, domain="example.com")
    vars(cookie).update(changes)
    with pytest.raises(CookieFileError) as caught:
        written(create_cookie("first", "1", domain="example.com"), cookie).save(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: cookie ") and text.endswith(f"can't be written: {message}")
    assert ascii(cookie.name) in text and "\n" not in text and SECRET not in text
    assert file.read_text() == GOOD
    assert os.listdir(file.parent) == ["cookies.txt"]


def test_only_the_owner_can_ever_read_the_file(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has mode 0600 when its first byte is written, and at the end, whatever umask and old file say."""
    file.write_text(GOOD)
    file.chmod(0o644)
    modes, before = [], os.umask(0)
    replace = os.replace

    def observed(source: str, target: str) -> None:
        modes.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", observed)
    monkeypatch.setattr(os, "fsync", lambda handle: modes.append(stat.S_IMODE(os.fstat(handle).st_mode)))
    try:
        written(create_cookie("a", "1", domain="example.com")).save(file)
    finally:
        os.umask(before)
    assert modes[:2] == [0o600, 0o600]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """When writing fails the old file is there, whole, and no temporary file is left."""
    file.write_text(GOOD)

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(CookieFileError, match="can't be written: No space left on device"):
        written(create_cookie("a", "1", domain="example.com")).save(file)
    assert file.read_text() == GOOD
    assert os.listdir(file.parent) == ["cookies.txt"]


def test_symbolic_link_stays_one(tmp_path: pathlib.Path) -> None:
    """Saving through a symbolic link replaces its target, not the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "cookies.txt"
    link.symlink_to(tmp_path / "real" / "jar.txt")
    written(create_cookie("a", "1", domain="example.com")).save(link)
    assert link.is_symlink()
    assert CookieStore.load(tmp_path / "real" / "jar.txt").get_dict() == {"a": "1"}


field = st.text(st.characters(max_codepoint=255, exclude_characters="\t\n\r\0"), max_size=12)
domains = st.sampled_from(["", "example.com", ".example.com", "127.0.0.1", "localhost", "web.local", "a.b.local"])


def host_only(cookie: Cookie) -> Cookie:
    """Return ``cookie`` as a server sets it: without a dot before its domain it is one host's."""
    cookie.domain_specified = cookie.domain.startswith(".")
    return cookie


made = st.builds(
    lambda name, value, domain, path, secure, expires, rest: create_cookie(
        name, value, domain=domain, path="/" + path, secure=secure, expires=expires, discard=expires is None, rest=rest
    ),
    field.filter(bool),
    field,
    domains,
    field,
    st.booleans(),
    st.one_of(st.none(), st.integers(int(NOW_S) + 1, 10**17)),
    st.sampled_from([{}, {"HttpOnly": None}]),
).map(host_only)


@given(st.lists(made, max_size=8), st.sampled_from([None, "bare"]))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, given: Any, bare: str | None) -> None:
    """Every cookie that can be written comes back the same, in the same order, and nothing else does."""
    if bare:
        given = [*given, host_only(create_cookie("", bare, domain="example.com", rest={}))]
    path = tmp_path_factory.getbasetemp() / "round-trip.txt"
    with posed_time():
        store = written(*given)
        store.save(path)
        again = CookieStore.load(path)
        assert [facts(cookie) for cookie in again] == [facts(cookie) for cookie in store]
        again.save(path)
        assert contents(CookieStore.load(path)) == contents(again)
