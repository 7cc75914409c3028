"""Bytes on disk of the log-probabilities and ranks of solutions' tokens, by checkpoint.

python -m benchmarks.token_bytes data/demo/train_1000.jsonl data/demo/runs/*/checkpoint-*
"""

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from premem_core.models.backend import TokenScores
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.template_choice import as_trained, choose_template
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.examples import read_examples
from premem_core.records import Checkpoint
from premem_core.store.shards.shards import TARGETS, column_bytes, write_shard
from premem_core.store.token_scores import rounded

CHUNK = 128  # targets in a shard, as by default


def main(
    data: Path,
    checkpoints: list[Path],
    first: Annotated[int | None, typer.Option(help="Only the first problems.")] = None,
) -> None:
    """Measure the checkpoints' log-probabilities, keep them in shards, and print their sizes."""
    problems = read_examples(data)
    print(
        "| checkpoint | tokens | NLL | rank 0 | float32 | rounded | ranks | texts | error of NLL |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in checkpoints:
        checkpoint = Checkpoint(folder, 0)
        model = TransformersBackend(checkpoint)
        template = choose_template(problems, checkpoint, None)
        template = as_trained(template, problems, checkpoint)
        encoder = make_encoder(template, model.tokenizer, model.end_tokens)
        targets = [encoder.target(example) for example in problems.examples[:first]]
        scores = model.target_scores(targets)
        texts = [model.tokenizer.batch_decode([[t.ids[i]] for i in t.scored]) for t in targets]
        print(f"| {folder.name} | {' | '.join(_row(scores, texts))} |")


def _row(scores: list[TokenScores], texts: list[list[str]]) -> list[str]:
    exact = [of_one.log_probabilities for of_one in scores]
    kept, ranks = [rounded(values) for values in exact], [of_one.ranks for of_one in scores]
    every, tokens = np.concatenate(exact), sum(map(len, exact))
    error = max(abs(a.mean() - b.mean(dtype=float)) for a, b in zip(exact, kept, strict=True))
    sizes = [
        _bytes("log_probabilities", [values.astype(np.float32) for values in exact]),
        _bytes("log_probabilities", kept),
        _bytes("ranks", ranks),
        _bytes("texts", texts),
    ]
    top = np.mean(np.concatenate(ranks) == 0)
    numbers = [f"{tokens:,}", f"{-every.mean():.3f}", f"{top:.1%}"]
    return [*numbers, *(f"{size / tokens:.2f}" for size in sizes), f"{error:.1e}"]


def _bytes(column: str, values: list) -> int:
    """The bytes of a column over all shards."""
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(values), CHUNK):
            rows = [{column: of_one} for of_one in values[start : start + CHUNK]]
            table = pa.Table.from_pylist(rows, schema=TARGETS)
            write_shard(Path(folder), f"{start}.parquet", "r", table)
        return sum(column_bytes(file, [column]) for file in Path(folder).iterdir())


if __name__ == "__main__":
    typer.run(main)
