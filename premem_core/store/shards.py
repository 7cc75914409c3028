"""Shards: what a worker leaves on a shelf, one Parquet file per finished chunk.

Two kinds, told apart by their columns: sampled and graded completions, or the targets' NLL. The
shelf is a store's inbox, or an fsspec prefix (`s3://bucket/folder`) from which they come there.
"""

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
GRADES = pa.schema(  # another grader's grades of committed completions; never in an inbox
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("perturbation", pa.string()),
        ("example", pa.int64()),
        ("sample", pa.int32()),
        ("extracted", pa.string()),
        ("grade", pa.int8()),
    ]
)


def completions_folder(store: Path, run: str) -> Path:
    """Where a store keeps the committed shards of a run."""
    return store / "completions" / f"run={quote(run, safe='')}"


@dataclass(frozen=True, slots=True)
class ShardWriter:
    """Where a run's finished shards go.

    Args:
        place: a store's folder, or an fsspec URL.
    """

    place: str
    run: str

    @property
    def remote(self) -> bool:
        """True for an fsspec URL."""
        return "://" in self.place

    def write(self, shard: str, table: pa.Table) -> None:
        """Put a finished shard there: whole or not at all."""
        if not self.remote:
            write_shard(Path(self.place) / "inbox", shard, self.run, table)
            return
        files, folder = self._files()
        files.makedirs(folder, exist_ok=True)
        part = f"{folder}/{_part(shard)}"
        with files.open(part, "wb") as handle:
            handle.write(_parquet(table, self.run))
        files.mv(part, f"{folder}/{shard}")

    def read(self, shard: str) -> pa.Table | None:
        """A shard that is there already, committed or not; None where it has to be made."""
        if not self.remote:
            home = Path(self.place)
            for file in (home / "inbox" / shard, completions_folder(home, self.run) / shard):
                try:
                    return pq.ParquetFile(file).read()
                except FileNotFoundError:  # or moved by a commit just now: then it is in the next
                    continue
            return None
        files, folder = self._files()
        if not files.exists(f"{folder}/{shard}"):
            return None
        return pq.ParquetFile(io.BytesIO(files.cat_file(f"{folder}/{shard}"))).read()

    def fetch(self, inbox: Path, known: set[str]) -> None:
        """Bring the shards of a prefix that are not `known` into a store's inbox."""
        files, folder = self._files()
        if not files.exists(folder):
            return
        for file in files.ls(folder, detail=False, refresh=True):
            shard = Path(file).name
            if shard.endswith(".parquet") and shard not in known:
                _write(inbox / shard, files.cat_file(file))

    def sweep(self) -> None:
        """Remove what killed workers left of shards; none must be at work."""
        if not self.remote:
            inbox = Path(self.place) / "inbox"
            for part in inbox.glob(f"*.{quote(self.run, safe='')}.parquet.*.tmp"):
                part.unlink(missing_ok=True)
            return
        files, folder = self._files()
        if files.exists(folder):
            for name in files.ls(folder, detail=False, refresh=True):
                if name.endswith(".tmp"):
                    files.rm(name)

    def _files(self) -> tuple[Any, str]:
        import fsspec

        files, path = fsspec.core.url_to_fs(self.place)
        return files, f"{path.rstrip('/')}/{quote(self.run, safe='')}"


def write_shard(inbox: Path, shard: str, run: str, table: pa.Table) -> None:
    """Put a finished shard into an inbox: whole or not at all, and on disk when this returns."""
    _write(inbox / shard, _parquet(table, run))


def _part(shard: str) -> str:
    # A name of its own: what a dying worker still writes must not meet what its successor writes.
    return f"{shard}.{os.getpid()}-{time.monotonic_ns()}.tmp"


def _parquet(table: pa.Table, run: str) -> bytes:
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"run": run}), content, compression="zstd")
    return content.getvalue()


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(_part(file.name))
    try:
        with part.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:  # a full disk: the part would only take more of it
        part.unlink(missing_ok=True)
        raise
    part.replace(file)


def run_of(file: Path) -> str:
    """The run that a shard belongs to."""
    run: bytes = pq.read_schema(file).metadata[b"run"]
    return run.decode()


def has_targets(file: Path) -> bool:
    """True for a shard of NLLs, False for one of completions."""
    return "nll" in pq.read_schema(file).names
