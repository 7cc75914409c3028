"""Make a store of the size of the published data, in which one run has completions.

All published runs but the longest are imported. The longest is stored as if it had been scored: it
gets a completion for each published grade, perturbed queries, and grades of a second grader.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.importers.published_arrays import (
    Counts,
    PublishedRun,
    import_published,
    read_published,
)
from premem_core.problems import examples
from premem_core.records import Checkpoint, Example, Grade, RunRecord, Sampling
from premem_core.scoring import chunks, work_left
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.store.database import Store
from premem_core.store.grades import grades_folder
from premem_core.store.runs import add_run, set_checkpoint_state
from premem_core.store.scores import commit_inbox, read_counts
from premem_core.store.shards.shards import (
    ADDED,
    GRADES,
    SAMPLES,
    TARGETS,
    ShardWriter,
    write_shard,
)


def build(home: Path, source: Path, texts: Path, fewest: bool) -> str:
    """Make the store, and return the name of the run with completions."""
    runs = read_published(source, fewest_samples=fewest)
    runs.sort(key=lambda run: (run.learning_rate, run.epochs, len(run.rows)))
    longest = max(runs, key=lambda run: (len(run.checkpoints), len(run.rows)))
    if (home / "premem.duckdb").exists():
        return longest.name
    train, test = (
        [
            replace(example, id=str(row))
            for row, example in enumerate(examples.read_examples(texts / f"{split}.jsonl").examples)
        ]
        for split in ("train", "test")
    )
    store = Store(home)
    with tempfile.TemporaryDirectory() as other_runs:
        for folder in source.iterdir():
            if folder.is_dir() and folder.name != longest.name:
                (Path(other_runs) / folder.name).symlink_to(folder.resolve())
        import_published(store, Path(other_runs), train=train, test=test, fewest_samples=fewest)
    commit(store, longest, train, test)
    return longest.name


def commit(store: Store, run: PublishedRun, train: list[Example], test: list[Example]) -> None:
    """Add a run to the store, with shards like those that scoring it writes."""
    rng = np.random.default_rng(0)
    trained = [train[row] for row in run.rows]
    record = RunRecord(
        run.name, run.task, "scored", run.learning_rate, run.epochs, run.batch_size,
        len(trained), "gsm8k",
    )  # fmt: skip
    points = [Checkpoint(Path(), c.step, c.epoch, run.learning_rate) for c in run.checkpoints]
    numbers = add_run(store, record, points, trained, test)
    splits = ["train"] * len(trained) + ["test"] * len(test)
    queries = [
        Query(number, split, example)  # type: ignore[arg-type]
        for number, split, example in zip(numbers, splits, [*trained, *test], strict=True)
    ]
    row_of = {
        number: row
        for split_numbers in (numbers[: len(trained)], numbers[len(trained) :])
        for row, number in enumerate(split_numbers)
    }
    samples = int(run.checkpoints[-1].train.samples[0])
    spec = ScoringSpec(run.name, "gsm8k", sampling=Sampling(samples), perturbations=("first",))
    counts = read_counts(store, run.name)
    left = work_left.find_work_left(spec, [c.step for c in run.checkpoints], queries, counts)
    writer = ShardWriter(str(store.path), run.name)
    grades = grades_folder(store, run.name, "math")
    grades.mkdir(parents=True)
    last = run.checkpoints[-1].train
    first = replace(last, correct=rng.binomial(last.correct, 0.7), unparsed=last.unparsed // 2)
    for point in run.checkpoints:
        counts_of = {
            ("train", ""): point.train,
            ("test", ""): point.test,
            ("train", "first"): first,
        }
        for chunk in chunks.target_chunks(left, point.step):
            rows = [row_of[query.number] for query in chunk.queries]
            table = key_columns(chunk, np.arange(len(rows))) | {
                "nll": point.nll[rows],
                "tokens": [len(query.example.solution) // 4 for query in chunk.queries],
                **{name: [None] * len(rows) for name in ADDED},
            }
            writer.write(chunk.shard, pa.table(table, schema=TARGETS))
        for chunk in chunks.sample_chunks(left, point.step):
            chunk_counts = counts_of[chunk.split, chunk.perturbation]
            table = make_samples(chunk, chunk_counts, row_of, trained, rng)
            writer.write(chunk.shard, table)
            write_shard(grades, chunk.shard, run.name, grade_again(table, rng))
    commit_inbox(store)
    for point in run.checkpoints:
        set_checkpoint_state(store, run.name, point.step, "scored", samples=samples)


def key_columns(chunk: chunks.Chunk, query_of_row: np.ndarray) -> dict[str, object]:
    """The first columns of every shard.

    Args:
        query_of_row: the position in the chunk of each row's query.
    """
    names = ("run", "step", "split", "perturbation")
    constant = {name: [getattr(chunk, name)] * len(query_of_row) for name in names}
    numbers = np.array([query.number for query in chunk.queries])
    return constant | {"example": numbers[query_of_row]}


def make_samples(
    chunk: chunks.Chunk,
    counts: Counts,
    row_of: dict[int, int],
    examples: list[Example],
    rng: np.random.Generator,
) -> pa.Table:
    """Completions with the published grades.

    A correct completion is the problem's solution, any other is the solution of a random example.

    Args:
        row_of: the row in `counts` of each example number.
    """
    rows = np.array([row_of[query.number] for query in chunk.queries])
    samples = counts.samples[rows]
    query_of_row = np.repeat(np.arange(len(rows)), samples)
    sample = np.concatenate([np.arange(n) for n in samples])
    correct = counts.correct[rows][query_of_row]
    grade = np.select(
        [sample < correct, sample < correct + counts.unparsed[rows][query_of_row]],
        [Grade.CORRECT, Grade.UNPARSED],
        Grade.INCORRECT,
    )
    right = [chunk.queries[query].example for query in query_of_row]
    wrong = [examples[n] for n in rng.integers(len(examples), size=len(query_of_row))]
    sources = [a if g == Grade.CORRECT else b for a, b, g in zip(right, wrong, grade, strict=True)]
    table = key_columns(chunk, query_of_row) | {
        "sample": sample,
        "completion": [example.solution for example in sources],
        "extracted": [
            None if g == Grade.UNPARSED else example.answer
            for example, g in zip(sources, grade, strict=True)
        ],
        "grade": grade,
        "tokens": [len(example.solution) // 4 for example in sources],
        "finished": [True] * len(query_of_row),
        "trace_tokens": [None] * len(query_of_row),
    }
    return pa.table(table, schema=SAMPLES)


def grade_again(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The grades of a second grader, which disagrees on one completion in a hundred."""
    grade = table["grade"].to_numpy()
    other = np.where(grade == Grade.CORRECT, Grade.INCORRECT, Grade.CORRECT)
    table = table.select([name for name in GRADES.names if name != "grade"])
    grade = np.where(rng.random(len(grade)) < 0.01, other, grade)
    return table.append_column("grade", pa.array(grade, pa.int8())).cast(GRADES)
