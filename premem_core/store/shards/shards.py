"""Shards: the Parquet files that hold the results of workers, one per finished piece of work.

There are three kinds: completions with their grades, NLLs of targets with the scores of their
tokens, and a base model's continuations of questions. A worker writes a shard into the store's
inbox, or to an fsspec prefix (`s3://bucket/folder`), from where it is fetched into the inbox later.
"""

import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import StoreError
from premem_core.files import replace_file, sweep_unfinished, unfinished_name

Kind = Literal["samples", "targets", "continuations"]

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
        ("trace_tokens", pa.int32()),  # NULL where the run has no thinking traces
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
        ("trace_nll", pa.float64()),  # NULL where the target has no thinking trace
        ("trace_tokens", pa.int32()),
        ("top_tokens", pa.int32()),  # the tokens of rank 0
        # One entry for each token of the target; NULL where they are not kept.
        ("log_probabilities", pa.list_(pa.float32())),
        ("ranks", pa.list_(pa.int32())),
        ("texts", pa.list_(pa.string())),  # at one checkpoint of a run only: they are always equal
    ]
)
COLUMNS_OF_TOKENS = frozenset(("log_probabilities", "ranks", "texts"))
# The columns that shards of earlier versions lack.
ADDED = frozenset(("trace_tokens", "trace_nll", "top_tokens")) | COLUMNS_OF_TOKENS
CONTINUATIONS = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("example", pa.int64()),
        ("rest", pa.string()),  # of the question; NULL, as in what follows, if it is too short
        ("completion", pa.string()),
        ("known", pa.bool_()),  # whether the completion is the rest
    ]
)
GRADES = pa.schema(  # another grader's grades of committed completions; not written by workers
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


_FLOATS = pa.list_(pa.float32())
_NAME = re.compile(
    r"(?P<step>\d+)\.(?P<split>[^.]*)\.(?P<perturbation>[^.]*)\.(?P<kind>samples|targets|continuations)\."
    r"(?P<block>\d+)(-(?P<digest>[^.]*))?\.(?P<run>.+)\.parquet"
)


@dataclass(frozen=True, slots=True)
class ShardName:
    """The file name of a shard, which says which work is in it.

    Args:
        split: "train" or "test".
        perturbation: the perturbation of the queries; "" for unchanged queries.
        block: the number of the block of queries.
        digest: a digest of the numbers of the queries and samples; "" in the oldest stores.
        run: the run's name, which comes last because it may contain dots.

    >>> name = ShardName.parse("00000315.train.first.samples.00002-5d2675260c60.lr0.001.parquet")
    >>> name.step, name.perturbation, name.kind, name.block, name.run
    (315, 'first', 'samples', 2, 'lr0.001')
    >>> str(name)
    '00000315.train.first.samples.00002-5d2675260c60.lr0.001.parquet'
    """

    step: int
    split: str
    perturbation: str
    kind: Kind
    block: int
    digest: str
    run: str

    def __str__(self) -> str:
        parts = _first_parts(self.step, self.split, self.perturbation, self.kind)
        block = f"{self.block:05d}-{self.digest}" if self.digest else f"{self.block:05d}"
        return ".".join([*map(str, parts), block, quote(self.run, safe=""), "parquet"])

    @classmethod
    def parse(cls, name: str) -> Self:
        """The shard name in a file's name.

        Raises:
            StoreError: this is not the name of a shard.
        """
        match = _NAME.fullmatch(name)
        if not match:
            raise StoreError(
                f"{name!r} is not the name of a shard; expected a name such as "
                "00000315.train..samples.00002-5d2675260c60.RUN.parquet; move this file elsewhere"
            )
        return cls(
            int(match["step"]),
            match["split"],
            unquote(match["perturbation"]),
            cast(Kind, match["kind"]),
            int(match["block"]),
            match["digest"] or "",
            unquote(match["run"]),
        )


def _first_parts(
    step: int | None, split: str | None, perturbation: str | None, kind: str | None
) -> list[str | None]:
    """The first four parts of a shard's name; None stands for any value."""
    return [
        None if step is None else f"{step:08d}",
        split,
        None if perturbation is None else quote(perturbation, safe="").replace(".", "%2E"),
        kind,
    ]


def find_shards(
    folder: Path,
    *,
    step: int | None = None,
    split: str | None = None,
    perturbation: str | None = None,
    kind: Kind | None = None,
) -> list[Path]:
    """The shards in a folder whose names have these parts, in the order of their names."""
    parts = _first_parts(step, split, perturbation, kind)
    pattern = ".".join("*" if part is None else part for part in parts)
    return _beginning_with(parts, folder.glob(f"{pattern}.*.parquet"))


def select_shards(
    files: Iterable[Path],
    *,
    step: int | None = None,
    split: str | None = None,
    perturbation: str | None = None,
    kind: Kind | None = None,
) -> list[Path]:
    """The shards among `files` whose names have these parts, in the order of their names."""
    return _beginning_with(_first_parts(step, split, perturbation, kind), files)


def _beginning_with(parts: list[str | None], files: Iterable[Path]) -> list[Path]:
    # Compared part by part, because the * of a pattern also matches dots, as in the run's name.
    given = [(index, part) for index, part in enumerate(parts) if part is not None]
    selected = [
        file
        for file in files
        if len(name_parts := file.name.split(".", len(parts))) > len(parts)
        and all(name_parts[index] == part for index, part in given)
    ]
    return sorted(selected, key=lambda file: file.name)  # faster than comparing paths


def completions_folder(store: Path, run: str) -> Path:
    """The folder of a run's committed shards in the store."""
    return store / "completions" / f"run={quote(run, safe='')}"


@dataclass(frozen=True, slots=True)
class ShardWriter:
    """Writes the finished shards of a run to a store's inbox or to an fsspec prefix.

    Args:
        place: a store's folder, or an fsspec URL.
    """

    place: str
    run: str

    @property
    def remote(self) -> bool:
        """True if the shards go to an fsspec URL."""
        return "://" in self.place

    def write(self, shard: str, table: pa.Table) -> None:
        """Write a finished shard, whole or not at all."""
        if not self.remote:
            write_shard(Path(self.place) / "inbox", shard, self.run, table)
            return
        files, folder = self._files()
        files.makedirs(folder, exist_ok=True)
        unfinished = f"{folder}/{unfinished_name(shard)}"
        with files.open(unfinished, "wb") as handle:
            handle.write(_parquet(table, self.run))
        files.mv(unfinished, f"{folder}/{shard}")

    def read(self, shard: str) -> pa.Table | None:
        """The rows of a shard that exists, committed or not; None if there is no such shard."""
        if not self.remote:
            home = Path(self.place)
            for file in (home / "inbox" / shard, completions_folder(home, self.run) / shard):
                try:
                    return pq.ParquetFile(file).read()
                except FileNotFoundError:  # a commit may just have moved it to the next folder
                    continue
            return None
        files, folder = self._files()
        if not files.exists(f"{folder}/{shard}"):
            return None
        return pq.ParquetFile(io.BytesIO(files.cat_file(f"{folder}/{shard}"))).read()

    def fetch(self, inbox: Path, known: set[str]) -> None:
        """Copy the shards of the prefix whose names are not in `known` to a store's inbox.

        One that cannot be read is moved to the folder `broken/` of the prefix, with a warning.
        """
        from premem_core.store.shards import broken_shards  # which imports this file

        files, folder = self._files()
        if not files.exists(folder):
            return
        for file in files.ls(folder, detail=False, refresh=True):
            shard = Path(file).name
            if not shard.endswith(".parquet") or shard in known:
                continue
            content = files.cat_file(file)
            if flaw := broken_shards.find_flaw(shard, content):
                aside = f"{folder}/{broken_shards.FOLDER}"
                files.makedirs(aside, exist_ok=True)
                files.mv(file, f"{aside}/{shard}")
                broken_shards.warn_of(file, flaw, aside)
            else:
                replace_file(inbox / shard, content, to_disk=True)

    def sweep(self) -> None:
        """Remove the unfinished shards of killed workers; no worker of the run may be running."""
        if not self.remote:
            sweep_unfinished(Path(self.place) / "inbox", self._is_own)
            return
        files, folder = self._files()
        if files.exists(folder):
            for name in files.ls(folder, detail=False, refresh=True):
                if name.endswith(".tmp"):
                    files.rm(name)

    def _is_own(self, name: str) -> bool:
        try:
            return ShardName.parse(name).run == self.run
        except StoreError:
            return False

    def _files(self) -> tuple[Any, str]:
        import fsspec

        files, path = fsspec.core.url_to_fs(self.place)
        return files, f"{path.rstrip('/')}/{quote(self.run, safe='')}"


def write_shard(inbox: Path, shard: str, run: str, table: pa.Table) -> None:
    """Write a finished shard to an inbox, whole or not at all; it is on disk on return."""
    replace_file(inbox / shard, _parquet(table, run), to_disk=True)


def _parquet(table: pa.Table, run: str) -> bytes:
    content = io.BytesIO()
    # Rounded numbers take the least space when they are split by bytes (docs/measurements.md).
    split = {_leaf(f): "BYTE_STREAM_SPLIT" for f in table.schema if f.type == _FLOATS}
    others = [_leaf(field) for field in table.schema if field.type != _FLOATS]
    pq.write_table(
        table.replace_schema_metadata({"run": run}),
        content,
        compression="zstd",
        use_dictionary=others,
        column_encoding=split or None,
    )
    return content.getvalue()


def _leaf(field: pa.Field) -> str:
    """The name of a column in a Parquet file, which stores a list by its elements."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def run_of(file: Path) -> str:
    """The run that a shard belongs to."""
    run: bytes = pq.read_schema(file).metadata[b"run"]
    return run.decode()


def column_bytes(file: Path, columns: Collection[str]) -> int:
    """The bytes that some columns of a shard take on disk, compressed."""
    group = pq.read_metadata(file).row_group(0)
    found = [group.column(index) for index in range(group.num_columns)]
    return sum(
        column.total_compressed_size
        for column in found
        if column.path_in_schema.partition(".")[0] in columns
    )


def shard_columns(file: Path) -> list[str]:
    """The columns of a shard; one of an earlier version may lack some."""
    names: list[str] = pq.read_schema(file).names
    return names
