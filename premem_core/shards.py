"""Shards: what a worker leaves in a store's inbox, one Parquet file per finished chunk.

Two kinds, told apart by their columns: sampled and graded completions, or the targets' NLL.
"""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SAMPLES = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("perturbation", pa.string()),
        ("example", pa.int64()),
        ("sample", pa.int32()),
        ("completion", pa.string()),
        ("extracted", pa.string()),
        ("grade", pa.int8()),
        ("tokens", pa.int32()),
        ("finished", pa.bool_()),
    ]
)
TARGETS = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("perturbation", pa.string()),
        ("example", pa.int64()),
        ("nll", pa.float64()),
        ("tokens", pa.int32()),
    ]
)


def write_shard(inbox: Path, name: str, run: str, table: pa.Table) -> None:
    """Put a finished shard into an inbox: whole or not at all, and on disk when this returns."""
    file = inbox / f"{name}.parquet"
    part = file.with_suffix(".tmp")
    with part.open("wb") as handle:
        pq.write_table(table.replace_schema_metadata({"run": run}), handle, compression="zstd")
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(file)


def run_of(file: Path) -> str:
    """The run that a shard belongs to."""
    run: bytes = pq.read_schema(file).metadata[b"run"]
    return run.decode()


def has_targets(file: Path) -> bool:
    """True for a shard of NLLs, False for one of completions."""
    return "nll" in pq.read_schema(file).names
