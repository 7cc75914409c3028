"""A store of planned runs, one of which has a base model whose results are known."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import add_base, set_base_scored
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.shards import (
    CONTINUATIONS,
    SAMPLES,
    TARGETS,
    Kind,
    ShardName,
    write_shard,
)
from tests.helpers import planned


def _put(store: Store, kind: Kind, split: str, schema: pa.Schema, columns: dict[str, Any]) -> None:
    n = len(columns["example"])
    keys = {"run": ["slow"] * n, "step": [0] * n, "split": [split] * n, "perturbation": [""] * n}
    rows = {name: [None] * n for name in schema.names} | keys | columns
    table = pa.table({name: rows[name] for name in schema.names}, schema=schema)
    write_shard(
        store.path / "inbox", str(ShardName(0, split, "", kind, 0, "", "slow")), "slow", table
    )


def with_base(folder: Path, known: int, n: int = 60) -> Store:
    """The planned store, whose run `slow` has a base model that knows some training questions.

    It answers the first half of each split's questions, and one question is too short.
    """
    store = planned.store(folder, "full", n=n)
    for split in ("train", "test"):
        numbers = read_task_examples(store, "toy", split)["example"].tolist()
        drawn = {
            "example": numbers,
            "sample": [0] * n,
            "completion": ["text"] * n,
            "grade": [0] * (n // 2) + [1] * (n // 2),
            "tokens": [5] * n,
            "finished": [True] * n,
        }
        _put(store, "samples", split, SAMPLES, drawn)
        flags = [split == "train" and place < known for place in range(n - 1)]
        _put(
            store,
            "continuations",
            split,
            CONTINUATIONS,
            {"example": numbers, "known": [*flags, None]},
        )
    train = read_task_examples(store, "toy", "train")["example"].tolist()
    _put(
        store, "targets", "train", TARGETS, {"example": train, "nll": [0.75] * n, "tokens": [9] * n}
    )
    add_base(store, "slow", folder / "base")
    commit_inbox(store)
    set_base_scored(store, "slow")
    return store
