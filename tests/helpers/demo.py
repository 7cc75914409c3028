"""The shipped study as tests use it: as old stores are, and with an imported run beside it."""

from pathlib import Path

import pandas as pd

from premem_core.demo import demo_study
from premem_core.records import Checkpoint, Example, Grade, RunRecord, SampleKey
from premem_core.store.completions import read_completions, samples_shards
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, read_checkpoints, read_runs

RUN = "lr1e-3_ep5_n1000"
STEP = 315
COMPLETIONS = 5 * (500 + 300) * 5


def old_store(folder) -> Store:
    """The shipped study as old stores are: without perturbed queries, not saying who graded it."""
    demo_study.install(folder)
    store = Store(folder)
    for run in read_runs(store)["run"]:
        for shard in samples_shards(store, run):
            if shard.name.split(".")[2]:
                shard.unlink()
    with store.writing() as connection:
        connection.execute("DELETE FROM scores WHERE perturbation <> ''")
        connection.execute("UPDATE runs SET grader = NULL, scored_by = NULL")
    return store


def counts(store: Store) -> pd.DataFrame:
    with store.reading() as connection:
        return connection.execute("SELECT * FROM scores ORDER BY ALL").df()


def completions(store: Store) -> pd.DataFrame:
    return pd.concat(
        read_completions(store, RUN, step, split)
        for step in read_checkpoints(store, RUN)["step"]
        for split in ("train", "test")
    ).reset_index(drop=True)


def imported(store: Store) -> str:
    frame = pd.DataFrame(
        {"step": [1], "split": ["train"], "perturbation": [""], "id": ["0"],
         "samples": [5], "correct": [3], "unparsed": [0], "nll": [0.5], "tokens": [9]}
    )  # fmt: skip
    add_scored_runs(
        store,
        [(RunRecord("import", "t", "published", 1e-3, 1, 8, 1), [Checkpoint(Path("c"), 1)], frame)],
        [("t", "train", [Example("0", "", "", "")])],
    )
    return "import"


def wrong(store: Store, perturbation: str = "") -> SampleKey:
    """The first incorrect completion of an example that is sometimes right."""
    rows = read_completions(store, RUN, STEP, "train", perturbation)
    some = rows.groupby("example")["grade"].transform(lambda g: (g == 0).any())
    row = rows[some & (rows["grade"] == Grade.INCORRECT)].iloc[0]
    return SampleKey(STEP, "train", perturbation, int(row["example"]), int(row["sample"]))
