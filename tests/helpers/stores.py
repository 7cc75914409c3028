"""Stores that tests fill directly."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_run, add_scored_runs, set_checkpoint_state
from premem_core.store.shards.shards import ADDED, SAMPLES, TARGETS, ShardName, write_shard

# Shards of earlier versions lack the columns that were added since.
EARLIER_SAMPLES, EARLIER_TARGETS = (
    pa.schema([field for field in schema if field.name not in ADDED])
    for schema in (SAMPLES, TARGETS)
)


def register(store: Store, run: str = "r", n: int = 4) -> list[int]:
    """Add a run of task "t" with one checkpoint, step 10, that waits; the examples' numbers."""
    return add_run(
        store,
        RunRecord(run, "t", "scored", 1e-3, 2, 8, n),
        [Checkpoint(Path("c"), 10, 1.0)],
        [Example(str(i), f"q{i}", "s", "a") for i in range(n)],
        [],
    )


def samples_shard(
    store: Store, run: str, numbers: Sequence[int], index: int, grade: int = 0
) -> str:
    """Put one graded completion of each example into the inbox; the name of the shard."""
    name = f"00000010.train..samples.{index:05d}.{run}.parquet"
    n = len(numbers)
    columns = {
        "run": [run] * n, "step": [10] * n, "split": ["train"] * n, "perturbation": [""] * n,
        "example": numbers, "sample": [index] * n, "completion": ["$3*4=12$ <script>"] * n,
        "extracted": [None] * n, "grade": [grade] * n, "tokens": [5] * n, "finished": [True] * n,
        "trace_tokens": [None] * n,
    }  # fmt: skip
    write_shard(store.path / "inbox", name, run, pa.table(columns, schema=SAMPLES))
    return name


def write_samples(
    folder: Path,
    run: str,
    example: int,
    grades: Sequence[int],
    answers: Sequence[str | None] | None = None,
    *,
    step: int = 10,
    split: str = "train",
    perturbation: str = "",
    schema: pa.Schema = SAMPLES,
) -> Path:
    """Write one example's samples as a shard into a folder; the shard.

    Args:
        grades: of the samples, in their order.
        answers: the extracted answers; None: none in any sample.
        schema: `shards.GRADES` for the grades of another grader.
    """
    n = len(grades)
    columns = {
        "run": [run] * n, "step": [step] * n, "split": [split] * n,
        "perturbation": [perturbation] * n, "example": [example] * n, "sample": range(n),
        "completion": [f"text {sample}" for sample in range(n)],
        "extracted": answers or [None] * n, "grade": grades, "tokens": [5] * n,
        "finished": [True] * n, "trace_tokens": [None] * n,
    }  # fmt: skip
    rows = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    name = ShardName(step, split, perturbation, "samples", example, "", run)
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder, str(name), run, rows)
    return folder / str(name)


def write_targets(
    store: Store,
    run: str,
    step: int,
    rows: Sequence[dict[str, object]],
    split: str = "train",
    schema: pa.Schema = TARGETS,
) -> Path:
    """Put a shard of targets into the inbox; the shard.

    Args:
        rows: the columns that differ from an NLL of 0.5 and two tokens, with the example.
    """
    target = {"run": run, "step": step, "split": split, "perturbation": "", "nll": 0.5, "tokens": 2}
    table = pa.Table.from_pylist([target | row for row in rows], schema=schema)
    name = ShardName(step, split, "", "targets", int(str(rows[0]["example"])), "", run)
    write_shard(store.path / "inbox", str(name), run, table)
    return store.path / "inbox" / str(name)


def scored(folder: Path, *data: Sequence[Example]) -> Store:
    """A store with tasks t0, t1 …, each with a scored run of these training examples."""
    home, runs, examples = Store(folder), [], []
    for number, each in enumerate(data):
        n = len(each)
        measured = {"split": "train", "perturbation": "", "samples": 5, "correct": 2, "unparsed": 0}
        frame = pd.DataFrame(
            {"step": 10, **measured, "id": [e.id for e in each], "nll": 0.5,
             "tokens": pd.array([pd.NA] * n, dtype="Int32")}
        )  # fmt: skip
        record = RunRecord(f"r{number}", f"t{number}", "scored", 1e-5, 1, 1, n)
        runs.append((record, [Checkpoint(Path(), 10, 1.0, 1e-5)], frame))
        examples.append((f"t{number}", "train", list(each)))
    add_scored_runs(home, runs, examples)
    for number in range(len(data)):
        set_checkpoint_state(home, f"r{number}", 10, "scored", samples=5)
    return home
