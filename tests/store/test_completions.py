"""Completions, read from their shards in place."""

import pyarrow as pa

from premem_core.store.completions import read_agreement
from premem_core.store.database import Store
from premem_core.store.scores import commit_inbox
from premem_core.store.shards import SAMPLES, write_shard
from tests.helpers.stores import register


def test_agreement_is_the_share_of_the_most_common_answer(tmp_path):
    store = Store(tmp_path)
    register(store)
    answers = {
        (10, 1): ["7", "7", "8", None],  # no answer agrees with none
        (10, 2): [None, None, None, "8"],
        (10, 3): [None, None, None, None],
        (20, 1): ["7", "8", "9", "9"],
    }
    for (step, example), extracted in answers.items():
        for split, perturbation, given in (
            ("test", "", extracted),
            ("test", "first", ["5"] * 4),
            ("train", "", ["6"] * 4),
        ):
            rows = pa.table(
                {
                    "run": ["r"] * 4, "step": [step] * 4, "split": [split] * 4,
                    "perturbation": [perturbation] * 4, "example": [example] * 4,
                    "sample": range(4), "completion": [""] * 4, "extracted": given,
                    "grade": [0] * 4, "tokens": [5] * 4, "finished": [True] * 4,
                },
                schema=SAMPLES,
            )  # fmt: skip
            name = f"{step:08d}.{split}.{perturbation}.samples.{example}.r.parquet"
            write_shard(tmp_path / "inbox", name, "r", rows)
    commit_inbox(store)
    assert read_agreement(store, "r", "test").to_numpy().tolist() == [
        [10, 1, 0.5],
        [10, 2, 0.25],
        [10, 3, 0],
        [20, 1, 0.5],
    ]
    assert set(read_agreement(store, "r", "train")["agreement"]) == {1.0}
    assert read_agreement(store, "imported", "test").empty
