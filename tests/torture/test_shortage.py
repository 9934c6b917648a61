"""Real shortages, and real pages, in short: ``tox -e torture`` is the long one."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.torture.nursery import Nursery
from tests.torture.pages import documentation, wrong_with_pages
from tests.torture.shortage import on_a_full_disk, why_no_disk, with_few_descriptors, without_sockets
from tests.torture.site import CountingServer
from tests.torture.syscalls import Yard
from tests.torture.tracer import why_not

pytestmark = pytest.mark.timeout(170)


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    """A server and a nursery."""
    with CountingServer() as server, Nursery() as nursery:
        yield Yard(nursery, server)


@pytest.mark.skipif(why_no_disk() is not None, reason=str(why_no_disk()))
@pytest.mark.parametrize("kib", [32, 128])
def test_a_disk_that_fills_up_stops_the_crawl_and_no_more(kib: int, yard: Yard, tmp_path: pathlib.Path) -> None:
    """It ends with one line and 3; with more room the same command completes the job."""
    assert on_a_full_disk(yard, tmp_path, kib) == []


@pytest.mark.transports()
def test_few_descriptors_harm_no_job(transport: str, yard: Yard, tmp_path: pathlib.Path) -> None:
    """The crawl ends by itself, and the same command with enough of them completes the job."""
    assert with_few_descriptors(yard, tmp_path, 22, transport) == []


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.transports()
def test_sockets_that_cannot_be_had_harm_no_job(transport: str, yard: Yard, tmp_path: pathlib.Path) -> None:
    """URLs that couldn't be asked for have failed; ``--retry-failed`` takes them again, and nothing is lost."""
    assert without_sockets(yard, tmp_path, 2, transport) == []


@pytest.mark.skipif(documentation() is None, reason="python3-doc of Debian is not installed")
def test_real_pages_survive_kills_byte_for_byte(tmp_path: pathlib.Path) -> None:
    """Killed three times, and gone on with in a copy of its folder: WARC files and job give each page as it is."""
    root = documentation()
    assert root is not None
    assert wrong_with_pages(root, tmp_path, most=120) == []
