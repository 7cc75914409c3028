"""A store of the published size, as scoring one of its runs would have left it.

The published runs are imported, all but the longest: that one is committed from shards, with a
completion for each of its published grades, perturbed queries and a second grader's grades.
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
from premem_core.scoring import work_left
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.store.database import Store
from premem_core.store.grades import grades_folder
from premem_core.store.runs import add_run, set_checkpoint_state
from premem_core.store.scores import commit_inbox, read_counts
from premem_core.store.shards import GRADES, SAMPLES, TARGETS, ShardWriter, write_shard


def build(home: Path, source: Path, texts: Path, fewest: bool) -> str:
    """Make the store; the name of the run with completions."""
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
    with tempfile.TemporaryDirectory() as others:
        for folder in source.iterdir():
            if folder.is_dir() and folder.name != longest.name:
                (Path(others) / folder.name).symlink_to(folder.resolve())
        import_published(store, Path(others), train=train, test=test, fewest_samples=fewest)
    commit(store, longest, train, test)
    return longest.name


def commit(store: Store, run: PublishedRun, train: list[Example], test: list[Example]) -> None:
    """Register a run and commit the shards that scoring it would have left."""
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
    rows = {n: at for own in (numbers[: len(trained)], numbers[len(trained) :])
            for at, n in enumerate(own)}  # fmt: skip
    samples = int(run.checkpoints[-1].train.samples[0])
    spec = ScoringSpec(run.name, "gsm8k", sampling=Sampling(samples), perturbations=("first",))
    counts = read_counts(store, run.name)
    board = work_left.find_work_left(spec, [c.step for c in run.checkpoints], queries, counts)
    shelf = ShardWriter(str(store.path), run.name)
    grades = grades_folder(store, run.name, "math")
    grades.mkdir(parents=True)
    last = run.checkpoints[-1].train
    first = replace(last, correct=rng.binomial(last.correct, 0.7), unparsed=last.unparsed // 2)
    for point in run.checkpoints:
        asked = {("train", ""): point.train, ("test", ""): point.test, ("train", "first"): first}
        for chunk in work_left.target_chunks(board, point.step):
            at = [rows[query.number] for query in chunk.queries]
            table = keys(chunk, np.arange(len(at))) | {
                "nll": point.nll[at],
                "tokens": [len(query.example.solution) // 4 for query in chunk.queries],
            }
            shelf.write(chunk.shard, pa.table(table, schema=TARGETS))
        for chunk in work_left.sample_chunks(board, point.step):
            table = drawn(chunk, asked[chunk.split, chunk.perturbation], rows, trained, rng)
            shelf.write(chunk.shard, table)
            write_shard(grades, chunk.shard, run.name, graded_again(table, rng))
    commit_inbox(store)
    for point in run.checkpoints:
        set_checkpoint_state(store, run.name, point.step, "scored", samples=samples)


def keys(chunk: work_left.Chunk, of: np.ndarray) -> dict[str, object]:
    """The columns that every shard begins with; `of`: which query a row is of."""
    names = ("run", "step", "split", "perturbation")
    same = {name: [getattr(chunk, name)] * len(of) for name in names}
    return same | {"example": np.array([query.number for query in chunk.queries])[of]}


def drawn(
    chunk: work_left.Chunk,
    counts: Counts,
    rows: dict[int, int],
    others: list[Example],
    rng: np.random.Generator,
) -> pa.Table:
    """Right completions are the problem's solution, wrong ones that of any other."""
    at = np.array([rows[query.number] for query in chunk.queries])
    samples = counts.samples[at]
    of = np.repeat(np.arange(len(at)), samples)
    nth = np.concatenate([np.arange(n) for n in samples])
    correct = counts.correct[at][of]
    grade = np.select(
        [nth < correct, nth < correct + counts.unparsed[at][of]],
        [Grade.CORRECT, Grade.UNPARSED],
        Grade.INCORRECT,
    )
    own = [chunk.queries[query].example for query in of]
    wrong = [others[n] for n in rng.integers(len(others), size=len(of))]
    said = [a if g == Grade.CORRECT else b for a, b, g in zip(own, wrong, grade, strict=True)]
    table = keys(chunk, of) | {
        "sample": nth,
        "completion": [example.solution for example in said],
        "extracted": [
            None if g == Grade.UNPARSED else example.answer
            for example, g in zip(said, grade, strict=True)
        ],
        "grade": grade,
        "tokens": [len(example.solution) // 4 for example in said],
        "finished": [True] * len(of),
    }
    return pa.table(table, schema=SAMPLES)


def graded_again(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The grades of another grader, which sees one completion in a hundred otherwise."""
    grade = table["grade"].to_numpy()
    other = np.where(grade == Grade.CORRECT, Grade.INCORRECT, Grade.CORRECT)
    table = table.select([name for name in GRADES.names if name != "grade"])
    grade = np.where(rng.random(len(grade)) < 0.01, other, grade)
    return table.append_column("grade", pa.array(grade, pa.int8())).cast(GRADES)
