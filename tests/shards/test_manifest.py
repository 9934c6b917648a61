"""The manifest of a sharded job: it comes back as it was written, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError, JobError
from crawlpool.shards import layout
from crawlpool.shards import manifest as manifests
from crawlpool.shards.manifest import Manifest
from crawlpool.suffixes import installed_list, registrable_domain
from tests.shards.made import made

GOOD = Manifest("0123", 8, (2, 4), "abc", ("results.jsonl",), {"dedupe": True}, 30.0, False, 5.0)


@given(data=st.data())
def test_a_manifest_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """All of it is read as it was written, whatever it holds."""
    folder = tmp_path_factory.mktemp("job", numbered=True)
    shards = data.draw(st.integers(1, 9999))
    of = data.draw(st.integers(1, min(shards, 50)))
    before = Manifest(
        data.draw(st.text(min_size=1)),
        shards,
        data.draw(st.none() | st.integers(1, of).map(lambda which: (which, of))),
        data.draw(st.text(min_size=1)),
        tuple(data.draw(st.lists(st.text()))),
        data.draw(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text())),
        data.draw(st.floats(1, 1e6)),
        data.draw(st.booleans()),
        data.draw(st.floats(0, 1e11)),
    )
    assert not manifests.is_sharded(str(folder))
    manifests.write(str(folder), before)
    assert manifests.is_sharded(str(folder))
    assert manifests.read(str(folder)) == before


@given(shards=st.integers(1, 500), data=st.data())
def test_parts_share_all_shards_among_them(shards: int, data: st.DataObject) -> None:
    """Parts 1/n to n/n together have each shard, and each once; the whole job has all of them."""
    of = data.draw(st.integers(1, shards))
    parts = [dataclasses.replace(GOOD, shards=shards, part=(which, of)).mine() for which in range(1, of + 1)]
    assert sorted(shard for part in parts for shard in part) == list(range(shards))
    assert list(dataclasses.replace(GOOD, shards=shards, part=None).mine()) == list(range(shards))
    assert all(shard % of == number for number, part in enumerate(parts) for shard in part)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shards", 0),
        ("part", (0, 4)),
        ("part", (5, 4)),
        ("part", (1, 9)),
        ("part", (1,)),
        ("part", "1/4"),
        ("lease_s", 0.5),
        ("lease_s", True),
        ("outputs", "results.jsonl"),
        ("outputs", (1,)),
        ("fixed", []),
        ("is_shared", 1),
        ("created_at", -1.0),
        ("created_at", float("nan")),
        ("job_id", ""),
        ("suffixes_sha256", None),
        ("v", 2),
    ],
)
def test_a_value_that_cant_be_is_refused(name: str, value: Any) -> None:
    """The message names the setting, and is one line."""
    with pytest.raises(ConfigError, match=f"^{name}=") as caught:
        dataclasses.replace(GOOD, **{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', "{}", '{"v": 1}', '{"v": 0}', '{"v": "2"}', "[" * 100_000, "\xff", '{"v": 1, "x": 2}'],
)
def test_a_damaged_manifest_is_told(tmp_path: pathlib.Path, text: str) -> None:
    """What is no manifest is told as damaged, in one line that names the file."""
    (tmp_path / "manifest.json").write_text(text, "latin-1")
    with pytest.raises(JobError, match=r"manifest.json: is damaged") as caught:
        manifests.read(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_each_key_of_a_manifest_is_needed(tmp_path: pathlib.Path) -> None:
    """A manifest from which a line was lost that has no default isn't guessed at."""
    made(tmp_path)
    path = tmp_path / "manifest.json"
    whole = json.loads(path.read_bytes())
    for name in ("job_id", "shards", "part", "suffixes_sha256", "outputs"):
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(JobError, match="is damaged"):
            manifests.read(str(tmp_path))


def test_a_later_manifest_is_refused_as_such(tmp_path: pathlib.Path) -> None:
    """Whoever has an old crawlpool is told that, and not that the file is damaged."""
    (tmp_path / "manifest.json").write_text('{"v": 2, "new": 1}')
    with pytest.raises(JobError, match=r"made by a later crawlpool \(manifest version 2, here 1\)"):
        manifests.read(str(tmp_path))
    with pytest.raises(JobError, match=r"no job with shards: it has no manifest\.json"):
        manifests.read(str(tmp_path / "gone"))


def test_a_job_with_other_settings_is_refused_with_what_differs(tmp_path: pathlib.Path) -> None:
    """Each difference is named with both values; the id, the time and the list of suffixes are the job's own."""
    before = made(tmp_path, fixed={"dedupe": True}, part=(1, 2))
    again = manifests.read(str(tmp_path))
    manifests.check_same("DIR", again, dataclasses.replace(before, job_id="x", created_at=9.0, suffixes_sha256="y"))
    other = dataclasses.replace(
        before, shards=16, part=None, outputs=("a.jsonl",), fixed={"dedupe": False}, lease_s=9.0
    )
    with pytest.raises(JobError) as caught:
        manifests.check_same("DIR", again, other)
    assert str(caught.value) == (
        "DIR: the job was begun with other settings: --shard was 1/2, now not given; dedupe was true, now false; "
        'lease_s was 30.0, now 9.0; outputs was ["results.jsonl"], now ["a.jsonl"]; shards was 8, now 16'
    )


# The list of suffixes -------------------------------------------------------------------------------------------


def test_the_list_is_kept_as_it_was(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer library with another list changes no host's shard; a list that is there already is the one."""
    manifest = made(tmp_path, None)
    assert (tmp_path / "suffixes.dat").read_bytes() == installed_list()
    monkeypatch.setattr(manifests, "installed_list", lambda: b"com\nexample.com\n")
    manifests.freeze(str(tmp_path))
    assert (tmp_path / "suffixes.dat").read_bytes() == installed_list()
    sharding = manifest.sharding(str(tmp_path))
    assert sharding.shard_of("a.example.com") == sharding.shard_of("b.example.com")
    other = made(tmp_path / "other", None, shards=9999)
    assert other.sharding_id != manifest.sharding_id
    split = other.sharding(str(tmp_path / "other"))
    assert split.shard_of("a.example.com") != split.shard_of("b.example.com")


@given(
    host=st.lists(st.sampled_from("www.example.github.io.co.uk.ck.kawasaki.jp.city".split(".")), max_size=5).map(
        ".".join
    )
)
def test_the_kept_list_gives_the_answers_of_the_librarys(host: str) -> None:
    """Read back from its bytes, the list says of each name what the installed one says."""
    assert KEPT.registrable_domain(host) == registrable_domain(host)


KEPT = manifests.SuffixList(installed_list())


def test_a_list_that_was_changed_or_lost_is_told(tmp_path: pathlib.Path) -> None:
    """With another list hosts would change their shards: the job isn't gone on with."""
    manifest = made(tmp_path)
    path = tmp_path / "suffixes.dat"
    path.write_bytes(path.read_bytes() + b"example\n")
    with pytest.raises(JobError, match=r"suffixes.dat: isn't the list that the job was made with"):
        manifest.sharding(str(tmp_path))
    path.unlink()
    with pytest.raises(JobError, match=r"suffixes.dat: the job's file is gone"):
        manifest.sharding(str(tmp_path))


def test_two_jobs_are_told_apart(tmp_path: pathlib.Path) -> None:
    """Each job in one folder has an id of its own, and its segments are of no other, however alike the two are."""
    one, other = made(tmp_path / "a"), made(tmp_path / "b")
    assert one.job_id != other.job_id
    assert one.sharding_id != other.sharding_id
    assert manifests.read(str(tmp_path / "a")).sharding_id == one.sharding_id


FIXED = {"inputs": ["urls.txt"], "method": None, "dedupe": True, "carry": []}


@pytest.mark.parametrize(
    "changed",
    [
        {"fixed": {**FIXED, "inputs": ["others.txt"]}},
        {"fixed": {**FIXED, "dedupe": False}},
        {"fixed": {}},
        {"outputs": ("pages.warc.gz", "results.jsonl")},
        {"part": (2, 3)},
        {"part": None},
        {"shards": 16},
        {"suffixes": b"com\n"},
    ],
)
def test_the_parts_of_one_crawl_know_each_other_and_no_other(tmp_path: pathlib.Path, changed: dict[str, Any]) -> None:
    """Parts that were made apart by the same command have one identity, and another with any other input or option."""
    one = made(tmp_path / "one", fixed=FIXED, part=(1, 2))
    other = made(tmp_path / "two", fixed=FIXED, part=(2, 2), created_at=9.0, lease_s=60.0, is_shared=True)
    assert one.job_id != other.job_id
    assert manifests.read(str(tmp_path / "two")).sharding_id == one.sharding_id
    foreign = made(tmp_path / "foreign", **{"fixed": FIXED, "part": (2, 2), **changed})
    assert foreign.sharding_id != one.sharding_id


def test_a_manifest_that_was_lost_is_told_as_lost(tmp_path: pathlib.Path) -> None:
    """Where anything of its shards is left the folder is that of a job, which can't be read, and no new one is made."""
    made(tmp_path)
    (tmp_path / "manifest.json").unlink()
    layout.make_inbox(str(tmp_path), 3)
    assert not manifests.is_sharded(str(tmp_path))  # nothing of anybody's is lost
    (tmp_path / "shards" / "0003" / "e0001").mkdir()
    assert manifests.is_sharded(str(tmp_path))
    with pytest.raises(JobError, match=r"manifest\.json: is missing, and shards of the job are there; .* put it back"):
        manifests.read(str(tmp_path))
    (tmp_path / "ledger.sqlite3").touch()
    assert not manifests.is_sharded(str(tmp_path))  # a job without shards, and a folder of the same name


def test_a_manifest_of_the_future_shape_isnt_made(tmp_path: pathlib.Path) -> None:
    """Nothing is written for settings that can't be."""
    with pytest.raises(ConfigError, match=r"part='9/4'"):
        manifests.new(str(tmp_path), shards=8, part=(9, 4), outputs=(), created_at=0.0)
    assert list(tmp_path.iterdir()) == []
