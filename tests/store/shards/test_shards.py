"""Names of shards: made up and taken apart in one place, whatever a run is called."""

import ast
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.errors import StoreError
from premem_core.store.shards.shards import (
    TARGETS,
    ShardName,
    ShardWriter,
    find_shards,
    select_shards,
)
from tests.helpers.paths import ROOT

NAME = ShardName(315, "train", "first", "samples", 2, "5d2675260c60", "lr1e-3")
EMPTY = pa.table({name: [] for name in TARGETS.names}, schema=TARGETS)
# Runs that are called like the parts of a name that stand before theirs.
NASTY = ("a.train..samples.b", "00000010.test..targets.00000-x.c.parquet", "b", "a.b", "…/%2E*[x]")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    step=st.integers(0, 10**9),
    split=st.sampled_from(["train", "test"]),
    perturbation=texts,
    kind=st.sampled_from(["samples", "targets"]),
    block=st.integers(0, 10**6),
    digest=st.text("0123456789abcdef", max_size=12),
    run=texts.filter(len),
)
def test_a_name_taken_apart_is_what_it_was_made_of(**parts):
    name = ShardName(**parts)
    assert ShardName.parse(str(name)) == name
    assert Path(str(name)).name == str(name)  # a file in a folder, not a path


def test_names_are_those_that_stores_hold_already():
    assert str(NAME) == "00000315.train.first.samples.00002-5d2675260c60.lr1e-3.parquet"
    oldest = ShardName.parse("00000063.test..targets.00000.lr1e-3_ep5.parquet")
    assert (oldest.split, oldest.kind, oldest.digest) == ("test", "targets", "")
    assert str(oldest) == "00000063.test..targets.00000.lr1e-3_ep5.parquet"


@pytest.mark.parametrize(
    "name",
    ["notes.parquet", "00000315.train..samples.00002-5d26.r.csv", "x.train..samples.0.r.parquet",
     "00000315.train..grades.00002-5d26.r.parquet", "00000315.train..samples.00002-5d26.parquet"],
)  # fmt: skip
def test_what_is_no_shards_name_is_refused_in_one_sentence(name):
    with pytest.raises(StoreError, match="is not the name of a shard"):
        ShardName.parse(name)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Every kind of shard of runs with nasty names, and a file that is none."""
    for run in NASTY:
        for step in (10, 20):
            for split, perturbation in (("train", ""), ("test", ""), ("train", "first")):
                for kind in ("samples", "targets"):
                    name = ShardName(step, split, perturbation, kind, 0, "d", run)
                    (tmp_path / str(name)).touch()
    (tmp_path / "notes.parquet").touch()
    return tmp_path


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"step": 10},
        {"kind": "samples"},
        {"split": "train", "perturbation": "", "kind": "samples"},
        {"step": 20, "split": "test", "perturbation": "", "kind": "targets"},
    ],
)
def test_shards_are_found_by_the_parts_of_their_names_and_by_nothing_else(folder, wanted):
    shards = [file for file in folder.iterdir() if file.name != "notes.parquet"]
    expected = sorted(
        file
        for file in shards
        if all(getattr(ShardName.parse(file.name), key) == part for key, part in wanted.items())
    )
    assert expected
    assert find_shards(folder, **wanted) == expected
    assert select_shards(folder.iterdir(), **wanted) == expected


def test_a_sweep_removes_what_a_killed_worker_left_of_its_own_runs_shards_only(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    left = {run: str(ShardName(10, "train", "", "targets", 0, "d", run)) for run in NASTY}
    for shard in left.values():
        (inbox / f"{shard}.0a1b2c3d.tmp").touch()
        (inbox / f"{shard}.4711-123456789.tmp").touch()  # as earlier versions called it
    (inbox / "half.tmp").touch()
    writer = ShardWriter(str(tmp_path), "b")
    writer.write(left["b"], EMPTY)
    writer.sweep()
    kept = {file.name for file in inbox.iterdir()}
    assert kept == {left["b"], "half.tmp"} | {
        f"{left[run]}.{end}"
        for run in NASTY
        if run != "b"
        for end in ("0a1b2c3d.tmp", "4711-123456789.tmp")
    }


def test_the_longest_names_of_run_and_perturbation_can_be_written(tmp_path):
    (tmp_path / "inbox").mkdir()
    run = "é" * 25  # 150 characters as a file name has them
    shard = str(ShardName(12345678, "train", "p" * 40, "samples", 12345, "0" * 12, run))
    writer = ShardWriter(str(tmp_path), run)
    writer.write(shard, EMPTY)
    assert writer.read(shard).num_rows == 0


def test_no_other_file_knows_how_the_parts_of_a_name_are_joined():
    joined = re.compile(r"\.(samples|targets)\.|\.\.(samples|targets)|\.train\.\.|08d")
    for file in [*(ROOT / "premem_core").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        texts = [
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]  # those of one line: a docstring may show such a name
        found = [text for text in texts if "\n" not in text and joined.search(text)]
        assert bool(found) == (file.name == "shards.py"), (file, found)
