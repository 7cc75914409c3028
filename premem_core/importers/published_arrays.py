"""Published per-checkpoint score arrays (katiekang1998/reasoning_generalization) → records.

Layout (METHOD, section 3): `<task>_orig_<E>epochs_<full|half|quarter>_lr<LR>_bs<B>/`, in it
`subsample_idxs.npy` (the rows trained on) and per `checkpoint-<step>/` the arrays
`train_answer_types<K>_….npy`, `test_answer_types<K>_….npy` (rows × K: 0 correct, 1 incorrect,
2 unparsed) and `train_perplexities.npy`; where training queries were perturbed, also
`train_first_answer_types<K>_….npy` and `train_we_answer_types<K>_….npy`, perhaps of the first rows
only. Within a row the samples are sorted by likelihood, so only their counts are kept: no order
that could be mistaken for exchangeable survives the import.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.errors import DataError
from premem_core.records import Checkpoint, Example, Grade, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, read_runs

RUN_NAME = re.compile(
    r"(?P<task>.+)_orig_(?P<epochs>\d+)epochs_\w+_lr(?P<lr>[\d.e-]+)_bs(?P<bs>\d+)"
)
PERTURBED = {"first": "first", "we-know-that": "we"}  # perturbation → its label in file names
STEP = re.compile(r"checkpoint-(\d+)")

Folder = Path | zipfile.Path


@dataclass(frozen=True, slots=True)
class Counts:
    """Grades of one split of one checkpoint, per example; all (N,)."""

    samples: NDArray[np.int64]
    correct: NDArray[np.int64]
    unparsed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """One checkpoint: train counts and NLL (N_train,) in the order of `rows`, test counts.

    `perturbed`: by perturbation, the training file's rows that were asked under it, and counts.
    """

    step: int
    epoch: float
    train: Counts
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64] | None
    test: Counts
    perturbed: dict[str, tuple[NDArray[np.int64], Counts]]


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """One published run; `rows` are the training file's rows that it was trained on."""

    name: str
    task: str
    learning_rate: float
    epochs: int
    batch_size: int
    rows: NDArray[np.int64]
    checkpoints: tuple[PublishedCheckpoint, ...]


def read_published(source: Path, *, fewest_samples: bool = False) -> list[PublishedRun]:
    """Every run below a folder or inside a zip file.

    Args:
        source: the folder or zip that holds the runs' folders, at any depth.
        fewest_samples: of several arrays of one checkpoint take the smallest (the paper's
            choice: 5 samples) instead of the largest.

    Raises:
        DataError: no run is there, or one of its arrays is missing or has an unexpected shape.
    """
    runs = [_read_run(folder, fewest_samples) for folder in _run_folders(_open(source))]
    if not runs:
        raise DataError(
            f"{source} holds no published run; expected folders named "
            "<task>_orig_<E>epochs_<full|half|quarter>_lr<LR>_bs<B>"
        )
    return sorted(runs, key=lambda run: run.name)


def import_published(
    store: Store,
    source: Path,
    *,
    task: str | None = None,
    train: Sequence[Example] | None = None,
    test: Sequence[Example] | None = None,
    fewest_samples: bool = False,
) -> list[str]:
    """Import the published runs that the store does not have yet, all or none; their names.

    Args:
        task: the task's name in the store; by default the one in the folders' names.
        train, test: the problems' texts, in the order of the arrays' rows.

    Raises:
        DataError: as `read_published`; or the texts do not have as many rows as the arrays, or
            the runs of a task do not share one test set.
    """
    known = set(read_runs(store)["run"])
    runs = read_published(source, fewest_samples=fewest_samples)
    new = [run for run in runs if run.name not in known]
    tasks = sorted({run.task for run in runs})
    if len(tasks) > 1 and (task or train or test):
        raise DataError(
            f"{source} holds runs of several tasks ({', '.join(tasks)}); import each task's runs "
            "from a folder of their own to rename it or to give its texts"
        )
    examples = []
    for name in tasks:
        n_train, n_test = _row_counts([run for run in runs if run.task == name])
        examples.append((task or name, "train", _named_rows(train, n_train, "train")))
        examples.append((task or name, "test", _named_rows(test, n_test, "test")))
    add_scored_runs(store, [_scored_run(run, task or run.task) for run in new], examples)
    return [run.name for run in new]


def _row_counts(runs: Sequence[PublishedRun]) -> tuple[int, int]:
    """How many train and test rows the arrays of one task's runs are about."""
    tests = {len(c.test.samples): run.name for run in runs for c in run.checkpoints}
    if len(tests) > 1:
        (n, one), (m, other), *_ = tests.items()
        raise DataError(
            f"{one} has {n} test rows and {other} has {m}; the runs of a task must share one test "
            "set, in one order"
        )
    return max(int(run.rows.max()) + 1 for run in runs), min(tests)


def _named_rows(texts: Sequence[Example] | None, n: int, split: str) -> list[Example]:
    """The examples of a split, named by their row."""
    if texts is None:
        return [Example(id=str(row), question="", solution="", answer="") for row in range(n)]
    if len(texts) < n or (split == "test" and len(texts) != n):
        raise DataError(
            f"the {split} file has {len(texts)} problems but the arrays have {n} rows; "
            "give the file that the arrays were made from"
        )
    return [replace(example, id=str(row)) for row, example in enumerate(texts)]


def _scored_run(run: PublishedRun, task: str) -> tuple[RunRecord, list[Checkpoint], pd.DataFrame]:
    record = RunRecord(
        run=run.name,
        task=task,
        source="published",
        learning_rate=run.learning_rate,
        epochs=run.epochs,
        batch_size=run.batch_size,
        train_examples=len(run.rows),
    )
    checkpoints = [Checkpoint(Path(), c.step, c.epoch, run.learning_rate) for c in run.checkpoints]
    frames = []
    for c in run.checkpoints:
        frames.append(_frame(c.step, "train", run.rows, c.train, c.nll, c.tokens))
        frames.append(_frame(c.step, "test", np.arange(len(c.test.samples)), c.test))
        for name, (rows, counts) in c.perturbed.items():
            frames.append(_frame(c.step, "train", rows, counts, perturbation=name))
    return record, checkpoints, pd.concat(frames, ignore_index=True)


def _frame(
    step: int,
    split: str,
    rows: NDArray[np.int64],
    counts: Counts,
    nll: NDArray[np.float64] | None = None,
    tokens: NDArray[np.int64] | None = None,
    perturbation: str = "",
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": step,
            "split": split,
            "perturbation": perturbation,
            "id": rows.astype(str),
            "samples": counts.samples,
            "correct": counts.correct,
            "unparsed": counts.unparsed,
            "nll": np.nan if nll is None else nll,
            "tokens": pd.array([pd.NA] * len(rows) if tokens is None else tokens, dtype="Int32"),
        }
    )


def _open(source: Path) -> Folder:
    source = Path(source)
    if source.is_dir():
        return source
    if not source.exists():
        raise DataError(f"{source} does not exist; give a folder or a zip file")
    try:
        return zipfile.Path(zipfile.ZipFile(source))
    except zipfile.BadZipFile as error:
        raise DataError(f"{source} is neither a folder nor a whole zip file") from error


def _run_folders(folder: Folder) -> Iterable[Folder]:
    for child in folder.iterdir():
        if child.is_dir():
            if RUN_NAME.fullmatch(child.name):
                yield child
            else:
                yield from _run_folders(child)


def _read_run(folder: Folder, fewest_samples: bool) -> PublishedRun:
    name = RUN_NAME.fullmatch(folder.name)
    assert name is not None
    rows = _load(folder / "subsample_idxs.npy")
    steps = {int(m[1]): c for c in folder.iterdir() if (m := STEP.fullmatch(c.name))}
    if not steps:
        raise DataError(f"{folder} holds no checkpoint-<step> folder; copy the run again")
    batch_size = int(name["bs"])
    checkpoints = tuple(
        _read_checkpoint(
            steps[step], step, round(step * batch_size / len(rows)), rows, fewest_samples
        )
        for step in sorted(steps)
    )
    return PublishedRun(
        name=folder.name,
        task=name["task"],
        learning_rate=float(name["lr"]),
        epochs=int(name["epochs"]),
        batch_size=batch_size,
        rows=rows,
        checkpoints=checkpoints,
    )


def _read_checkpoint(
    folder: Folder, step: int, epoch: float, rows: NDArray[np.int64], fewest_samples: bool
) -> PublishedCheckpoint:
    perplexities = _load(folder / "train_perplexities.npy")
    tokens_file = folder / "train_num_tokens.npy"
    grades, test = (_load(_answer_types(folder, s, fewest_samples)) for s in ("train", "test"))
    asked = {
        name: _load(file)
        for name, label in PERTURBED.items()
        if (file := _find_answer_types(folder, f"train_{label}", fewest_samples))
    }
    for label, array in (("train_answer_types", grades), ("train_perplexities", perplexities)):
        if len(array) <= rows.max():
            raise DataError(
                f"{folder}: {label} has {len(array)} rows, but subsample_idxs names row "
                f"{rows.max()}; the arrays of a run must belong together"
            )
    return PublishedCheckpoint(
        step=step,
        epoch=epoch,
        train=_count(grades[rows]),
        nll=np.log(perplexities[rows]),
        tokens=_load(tokens_file)[rows] if tokens_file.exists() else None,
        test=_count(test),
        perturbed={
            name: (known := rows[rows < len(own)], _count(own[known]))
            for name, own in asked.items()
        },
    )


def _answer_types(folder: Folder, split: str, fewest: bool) -> Folder:
    found = _find_answer_types(folder, split, fewest)
    if found is None:
        raise DataError(f"{folder} holds no {split}_answer_types<K>_seed<S>.npy; copy it again")
    return found


def _find_answer_types(folder: Folder, split: str, fewest: bool) -> Folder | None:
    pattern = re.compile(rf"{split}_answer_types(\d+)_seed\d+(_temp[\d.]+)?\.npy")
    found = {int(m[1]): file for file in folder.iterdir() if (m := pattern.fullmatch(file.name))}
    return found[min(found) if fewest else max(found)] if found else None


def _count(grades: NDArray[np.int64]) -> Counts:
    return Counts(
        samples=np.full(len(grades), grades.shape[1]),
        correct=(grades == Grade.CORRECT).sum(axis=1),
        unparsed=(grades == Grade.UNPARSED).sum(axis=1),
    )


def _load(file: Folder) -> NDArray:
    try:
        array: NDArray = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a readable .npy array ({error}); copy it again") from error
    return array
