"""Imported completions and NLLs as shards, which the store commits like those of a worker."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow as pa

from premem_core.errors import StoreError
from premem_core.importers.samples.parts import Part, Row
from premem_core.importers.samples.sample import ImportedSample
from premem_core.problems.data_files import Split
from premem_core.store.database import Store
from premem_core.store.scores import read_committed_shards, read_counts
from premem_core.store.shards.shards import SAMPLES, TARGETS, Kind, ShardName, write_shard

ROWS = 4096  # of a shard


def are_committed(part: Part, run: str, split: Split, ledger: Collection[str]) -> bool:
    """Whether all shards of a part are in the ledger."""
    sizes: tuple[tuple[Kind, int], ...] = (("samples", len(part.rows)), ("targets", len(part.nlls)))
    return all(
        _name(part, run, split, kind, start) in ledger
        for kind, size in sizes
        for start in range(0, size, ROWS)
    )


def write_shards(
    store: Store, run: str, split: Split, parts: Sequence[Part], numbers: Sequence[int]
) -> None:
    """Write those shards of the parts into the inbox that are not committed yet.

    A completion's number is the next one of its question, after those that the store has.

    Args:
        numbers: the store's numbers of the examples.

    Raises:
        StoreError: the disk is full; what is written stays, and the next call goes on.
    """
    try:
        for name, table in _tables(store, run, split, parts, numbers):
            write_shard(store.path / "inbox", name, run, table)
    except OSError as error:
        raise StoreError(
            f"{store.path} cannot be written ({error.strerror}); free space and import again, "
            "which goes on"
        ) from error


def _tables(
    store: Store, run: str, split: Split, parts: Sequence[Part], numbers: Sequence[int]
) -> Iterator[tuple[str, pa.Table]]:
    ledger, counts = read_committed_shards(store, run), read_counts(store, run)
    counts = counts[(counts["split"] == split) & (counts["perturbation"] == "")]
    pairs = list(zip(counts["step"].tolist(), counts["example"].tolist(), strict=True))
    drawn = Counter(dict(zip(pairs, counts["samples"].tolist(), strict=True)))
    nlls = dict(zip(pairs, counts["nll"].notna(), strict=True))
    measured = {pair for pair, known in nlls.items() if known}
    for part in parts:
        keys = {"run": run, "step": part.step, "split": split, "perturbation": ""}
        for start in range(0, len(part.rows), ROWS):
            name = _name(part, run, split, "samples", start)
            if name not in ledger:
                rows = part.rows[start : start + ROWS]
                yield name, _samples(part.step, rows, numbers, drawn, keys)
        new = [(numbers[example], sample) for example, sample in part.nlls.items()]
        for start in range(0, len(new), ROWS):
            name = _name(part, run, split, "targets", start)
            if name not in ledger:
                chunk = [one for one in new[start : start + ROWS]
                         if (part.step, one[0]) not in measured]  # fmt: skip
                measured |= {(part.step, example) for example, _ in chunk}
                yield name, _targets(chunk, keys)


def _name(part: Part, run: str, split: Split, kind: Kind, start: int) -> str:
    digest = f"import-{part.file.sha256[:12]}"
    return str(ShardName(part.step, split, "", kind, start // ROWS, digest, run))


def _samples(
    step: int,
    rows: Sequence[Row],
    numbers: Sequence[int],
    drawn: Counter[tuple[int, int]],
    keys: Mapping[str, object],
) -> pa.Table:
    columns = []
    for row in rows:
        assert row.graded is not None
        example = numbers[row.example]
        columns.append(
            {
                **keys,
                "example": example,
                "sample": drawn[step, example],
                "completion": row.sample.completion,
                "extracted": row.graded.extracted,
                "grade": int(row.graded.grade),
                "tokens": row.sample.tokens,
                "finished": row.sample.finished,
            }
        )
        drawn[step, example] += 1
    return pa.Table.from_pylist(columns, schema=SAMPLES)


def _targets(nlls: Sequence[tuple[int, ImportedSample]], keys: Mapping[str, object]) -> pa.Table:
    rows = [
        {**keys, "example": example, "nll": sample.nll, "tokens": sample.target_tokens}
        for example, sample in nlls
    ]
    return pa.Table.from_pylist(rows, schema=TARGETS)
