"""Shards that cannot be read: they are set aside, named, and their work counts as not done.

A file may be broken because a disk was full, a copy ended early, or another program wrote it. It is
moved to the store's folder `broken/` and never deleted, because what is left of it may be of use.
"""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import PrememWarning, StoreError
from premem_core.store.shards.shards import ADDED, CONTINUATIONS, SAMPLES, TARGETS, ShardName

FOLDER = "broken"
CUT = "it is empty or cut off"
_MAGIC = b"PAR1"  # the first and the last bytes of a Parquet file


def find_flaw(name: str, shard: Path | bytes) -> str | None:
    """What is wrong with a shard, as a phrase; None if it can be committed.

    All of it is read, so that damage in the middle is found too.

    Args:
        name: its file name.
        shard: the file, or its content.

    Raises:
        OSError: the file cannot be opened, which says nothing about its content.
    """
    try:
        ShardName.parse(name)
        if _ends_are_missing(io.BytesIO(shard) if isinstance(shard, bytes) else shard.open("rb")):
            return CUT
        with pq.ParquetFile(io.BytesIO(shard) if isinstance(shard, bytes) else shard) as file:
            return _flaw_of_schema(file.schema_arrow) or _flaw_of_rows(file)
    except StoreError:
        return "its name is not that of a shard"
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return (str(error).splitlines() or ["it cannot be read"])[0].rstrip(".")


def is_cut(file: Path) -> bool:
    """Whether a Parquet file lacks its beginning or its end; only these few bytes are read."""
    return _ends_are_missing(file.open("rb"))


def _ends_are_missing(opened: BinaryIO) -> bool:
    with opened as handle:
        start = handle.read(len(_MAGIC))
        size = handle.seek(0, io.SEEK_END)
        handle.seek(max(0, size - len(_MAGIC)))
        return size <= 2 * len(_MAGIC) or start != _MAGIC or handle.read() != _MAGIC


def readable(shards: Iterable[Path]) -> list[Path]:
    """The committed shards that are not cut; a warning names each that is, and it stays there."""
    whole = []
    for file in shards:
        if is_cut(file):
            warnings.warn(
                f"the shard {file} is left out, because {CUT}; resume the job of its run, which "
                "does its work again",
                PrememWarning,
                stacklevel=3,
            )
        else:
            whole.append(file)
    return whole


def set_aside(store: Path, file: Path, flaw: str) -> None:
    """Move a broken shard to the folder `broken/` of its store, and warn in one sentence."""
    folder = store / FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / file.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{file.name}.{number}"
    file.replace(target)
    warn_of(file, flaw, str(target))


def warn_of(file: Path | str, flaw: str, moved_to: str) -> None:
    """Warn that a broken shard was moved."""
    warnings.warn(
        f"the shard {file} cannot be used ({flaw}); it was moved to {moved_to}, and its work "
        "counts as not done: resume the job of its run to do it again",
        PrememWarning,
        stacklevel=2,
    )


def _flaw_of_schema(schema: pa.Schema) -> str | None:
    if b"run" not in (schema.metadata or {}):
        return "it does not say to which run it belongs"
    kind = SAMPLES
    if "nll" in schema.names:
        kind = TARGETS
    elif "known" in schema.names:
        kind = CONTINUATIONS
    for field in kind:
        if field.name not in schema.names and field.name not in ADDED:
            return f"it lacks the column {field.name!r}"
    for field in schema:
        if field.name not in kind.names:
            return f"it has the column {field.name!r}, which is none of a shard's"
        if field.type != kind.field(field.name).type:
            return f"its column {field.name!r} is {field.type}, not {kind.field(field.name).type}"
    return None


def _flaw_of_rows(file: pq.ParquetFile) -> str | None:
    run = file.schema_arrow.metadata[b"run"].decode()
    runs = set(file.read()["run"].to_pylist())
    return None if runs <= {run} else f"it has rows of other runs than {run!r}"
