"""Shards that cannot be read are set aside and named, and the rest is counted."""

import shutil
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from premem_core.errors import PrememWarning
from premem_core.grading.hand_grades import set_grade
from premem_core.records import Grade, SampleKey
from premem_core.store.checkpoint_measures import read_continuations
from premem_core.store.completions import (
    read_agreement,
    read_answer_votes,
    read_completions,
    read_example_completions,
    samples_shards,
)
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints, set_checkpoint_state
from premem_core.store.scores import commit_inbox, read_committed_shards, read_counts
from premem_core.store.shards.committed_shards import withdraw_broken
from premem_core.store.shards.shards import (
    CONTINUATIONS,
    TARGETS,
    ShardName,
    ShardWriter,
    completions_folder,
    write_shard,
)
from tests.helpers import stores
from tests.helpers.stores import register, samples_shard

NAME = "00000010.train..samples.00009.r.parquet"


def cut(content: bytes) -> bytes:
    return content[:-4]


def empty(content: bytes) -> bytes:
    return b""


def damaged(content: bytes) -> bytes:
    """Whole at both ends; the pages with the rows are overwritten."""
    return content[:4] + b"\xff" * 900 + content[904:]


def broken_footer(content: bytes) -> bytes:
    return content[:-300] + b"\xff" * 290 + content[-10:]


def changed(change):
    """The content of a shard after a change of its table."""

    def apply(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(pa.BufferReader(content))), sink)
        return sink.getvalue().to_pybytes()

    return apply


def without_run(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({})


def foreign(table: pa.Table) -> pa.Table:
    return table.append_column("loss", pa.array([0.5] * len(table)))


def lacking(table: pa.Table) -> pa.Table:
    return table.drop_columns(["grade"])


def texts(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("grade")
    return table.set_column(at, "grade", pa.array(["yes"] * len(table)))


def of_others(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({"run": "s"})


@pytest.fixture
def store(tmp_path) -> Store:
    """A shard that waits, after one that is committed."""
    store = Store(tmp_path)
    numbers = register(store)
    samples_shard(store, "r", numbers, 0)
    commit_inbox(store)
    samples_shard(store, "r", numbers, 1)
    return store


def sound(store: Store) -> bytes:
    return (store.path / "inbox" / "00000010.train..samples.00001.r.parquet").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (cut, "it is empty or cut off"),
        (empty, "it is empty or cut off"),
        (damaged, ""),
        (broken_footer, ""),
        (changed(without_run), "it does not say to which run it belongs"),
        (changed(foreign), "it has the column 'loss', which is none of a shard's"),
        (changed(lacking), "it lacks the column 'grade'"),
        (changed(texts), "its column 'grade' is string, not int8"),
        (changed(of_others), "it has rows of other runs than 's'"),
    ],
)
def test_a_broken_shard_in_the_inbox_is_set_aside_and_the_rest_is_counted(store, spoil, flaw):
    content = spoil(sound(store))
    (store.path / "inbox" / NAME).write_bytes(content)
    with pytest.warns(PrememWarning) as warned:
        assert commit_inbox(store) == 1
    [sentence] = [str(warning.message) for warning in warned]
    assert NAME in sentence
    assert flaw in sentence
    assert "resume the job of its run" in sentence
    assert (store.path / "broken" / NAME).read_bytes() == content
    assert not list((store.path / "inbox").iterdir())
    assert read_counts(store, "r")["samples"].tolist() == [2] * 4
    assert NAME not in read_committed_shards(store, "r")


def test_a_file_that_is_no_shard_is_set_aside(store):
    shutil.copy(store.path / "inbox" / "00000010.train..samples.00001.r.parquet",
                store.path / "inbox" / "mine.parquet")  # fmt: skip
    with pytest.warns(PrememWarning, match="its name is not that of a shard"):
        assert commit_inbox(store) == 1
    assert read_counts(store, "r")["samples"].tolist() == [2] * 4


def test_a_second_broken_shard_of_a_name_does_not_replace_the_first(store):
    for content in (b"one", b"two"):
        (store.path / "inbox" / NAME).write_bytes(content)
        with pytest.warns(PrememWarning):
            commit_inbox(store)
    kept = sorted(file.read_bytes() for file in (store.path / "broken").iterdir())
    assert kept == [b"one", b"two"]


def test_nothing_but_broken_shards_changes_no_version(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "inbox" / NAME).write_bytes(b"")
    version = store.version()
    with pytest.warns(PrememWarning):
        assert commit_inbox(store) == 0
    assert store.version() == version


def test_a_broken_copy_of_a_committed_shard_does_not_replace_it(store):
    commit_inbox(store)
    name = "00000010.train..samples.00001.r.parquet"
    before = (completions_folder(store.path, "r") / name).read_bytes()
    (store.path / "inbox" / name).write_bytes(before[:60])
    with pytest.warns(PrememWarning):
        commit_inbox(store)
    assert (completions_folder(store.path, "r") / name).read_bytes() == before
    assert read_counts(store, "r")["samples"].tolist() == [2] * 4


def spoil_committed(store: Store, name: str) -> None:
    file = completions_folder(store.path, "r") / name
    file.write_bytes(file.read_bytes()[:100])


@pytest.fixture
def committed(store) -> Store:
    """Perplexities, two samples of each example, and a grade that was set by hand."""
    columns = {
        "run": ["r"] * 4, "step": [10] * 4, "split": ["train"] * 4, "perturbation": [""] * 4,
        "example": range(1, 5), "nll": [0.1, 0.2, 0.3, 0.4], "tokens": [7] * 4,
        "trace_nll": [None] * 4, "trace_tokens": [0] * 4, "top_tokens": [6] * 4,
        "log_probabilities": [None] * 4, "ranks": [None] * 4, "texts": [None] * 4,
    }  # fmt: skip
    write_shard(store.path / "inbox", "00000010.train..targets.00000.r.parquet", "r",
                pa.table(columns, schema=TARGETS))  # fmt: skip
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored", samples=2)
    set_grade(store, "r", SampleKey(10, "train", "", 1, 0), Grade.INCORRECT, "seen")
    return store


def test_a_committed_shard_that_was_cut_is_not_counted_any_more(committed):
    assert read_counts(committed, "r").sort_values("example")["correct"].tolist() == [1, 2, 2, 2]
    spoil_committed(committed, "00000010.train..samples.00001.r.parquet")
    with pytest.warns(PrememWarning, match=r"samples\.00001.* is empty or cut off"):
        assert withdraw_broken(committed, "r") == 1
    counts = read_counts(committed, "r").sort_values("example")
    assert counts["samples"].tolist() == [1] * 4
    assert counts["correct"].tolist() == [0, 1, 1, 1]
    assert counts["nll"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert read_checkpoints(committed, "r")["state"].tolist() == ["waiting"]
    assert len(read_committed_shards(committed, "r")) == 2
    assert len(list((committed.path / "broken").iterdir())) == 1
    assert withdraw_broken(committed, "r") == 0
    samples_shard(committed, "r", range(1, 5), 1)  # drawn again
    commit_inbox(committed)
    assert read_counts(committed, "r")["samples"].tolist() == [2] * 4


def test_perplexities_that_are_lost_are_unknown(committed):
    spoil_committed(committed, "00000010.train..targets.00000.r.parquet")
    with pytest.warns(PrememWarning):
        withdraw_broken(committed, "r")
    counts = read_counts(committed, "r")
    assert counts["nll"].isna().all()
    assert counts["samples"].tolist() == [2] * 4


def test_a_grade_is_set_by_hand_beside_a_committed_shard_that_was_cut(committed):
    spoil_committed(committed, "00000010.train..samples.00001.r.parquet")
    with pytest.warns(PrememWarning):
        set_grade(committed, "r", SampleKey(10, "train", "", 2, 0), Grade.INCORRECT, "seen")
    assert sorted(read_counts(committed, "r")["correct"]) == [0, 0, 1, 1]


def test_completions_beside_a_committed_shard_that_was_cut_can_be_read(committed):
    spoil_committed(committed, "00000010.train..samples.00001.r.parquet")
    reads: list[Callable[[], pd.DataFrame]] = [
        lambda: read_completions(committed, "r", 10, "train"),
        lambda: read_example_completions(committed, "r", "train", 1),
        lambda: read_agreement(committed, "r", "train"),
        lambda: read_answer_votes(committed, "r", samples_shards(committed, "r")),
    ]
    for read in reads:
        with pytest.warns(
            PrememWarning, match=r"samples\.00001.* is left out, because it is empty"
        ):
            rows = read()
        if "example" in rows:
            assert rows["example"].tolist() == [1, 2, 3, 4]
        assert len(rows) == (1 if "override" in rows else 4)
    assert read_counts(committed, "r")["samples"].tolist() == [2] * 4  # until something is changed


def test_a_broken_shard_of_a_prefix_is_set_aside_there(store, tmp_path):
    prefix = tmp_path / "prefix"
    folder = prefix / "r"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"PAR1")
    good = "00000010.train..samples.00001.r.parquet"
    (store.path / "inbox" / good).rename(folder / good)
    writer = ShardWriter(f"file://{prefix}", "r")
    with pytest.warns(PrememWarning, match="it is empty or cut off"):
        writer.fetch(store.path / "inbox", set())
    assert (folder / "broken" / NAME).read_bytes() == b"PAR1"
    assert [file.name for file in (store.path / "inbox").iterdir()] == [good]
    writer.fetch(store.path / "inbox", {good})  # it is not found again


def test_a_cut_shard_of_perturbed_questions_takes_no_continuation_back(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    row = {"run": "r", "step": 0, "split": "train", "rest": "rest", "completion": "", "known": True}
    table = pa.Table.from_pylist([row | {"example": n} for n in numbers], schema=CONTINUATIONS)
    name = str(ShardName(0, "train", "", "continuations", 0, "", "r"))
    write_shard(store.path / "inbox", name, "r", table)
    cut = stores.write_samples(
        store.path / "inbox", "r", numbers[0], [0], step=0, perturbation="first"
    )
    commit_inbox(store)
    (completions_folder(store.path, "r") / cut.name).write_bytes(b"PAR1")
    with pytest.warns(PrememWarning, match="cut off"):
        assert withdraw_broken(store, "r") == 1
    assert read_continuations(store, "r")["example"].tolist() == numbers
