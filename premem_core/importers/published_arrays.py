"""Importing the published score arrays (katiekang1998/reasoning_generalization).

The layout (docs/method.md, section 3): a run is a folder
`<task>_orig_<E>epochs_<full|half|quarter>_lr<LR>_bs<B>/`. It holds `subsample_idxs.npy`, the rows
that the run was trained on; a full run without this file was trained on all rows. Each
`checkpoint-<step>/` in it holds

- `train_answer_types<K>_….npy` and `test_answer_types<K>_….npy`: (rows, K) grades, 0 correct,
  1 incorrect, 2 unparsed, 3 timeout;
- `train_perplexities.npy`, and in some runs `train_num_tokens.npy`;
- `train_first_answer_types<K>_….npy` and `train_we_answer_types<K>_….npy` if training queries were
  perturbed; they may cover only the first rows.

Within a row the samples are sorted by likelihood, so their order must not be used. The import
keeps only their counts.
"""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.errors import DataError
from premem_core.importers import array_files
from premem_core.importers.array_files import Folder
from premem_core.importers.trained_rows import describe_wrong_rows
from premem_core.records import Checkpoint, Example, Grade, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, read_runs

RUN_NAME = re.compile(
    r"(?P<task>.+)_orig_(?P<epochs>\d+)epochs_(?P<size>\w+)_lr(?P<lr>[\d.e-]+)_bs(?P<bs>\d+)"
)
PERTURBED = {"first": "first", "we-know-that": "we"}  # perturbation → its label in file names
STEP = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of samples per example of one split at one checkpoint; all (N,)."""

    samples: NDArray[np.int64]
    correct: NDArray[np.int64]
    unparsed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """The arrays of one checkpoint.

    Attributes:
        train, nll, tokens: (N_train,) in the order of `PublishedRun.rows`; the NLL in nats.
        unseen_nll: (U,) in the order of `PublishedRun.unseen`.
        test: (N_test,).
        perturbed: perturbation → the rows of the training file that were sampled with it, and
            their counts.
    """

    step: int
    epoch: float
    train: Counts
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64] | None
    unseen_nll: NDArray[np.float64]
    test: Counts
    perturbed: dict[str, tuple[NDArray[np.int64], Counts]]


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """One published run.

    Attributes:
        rows: the rows of the training file that it was trained on.
        unseen: the other rows, whose perplexities tell what is usual of solutions that a run was
            not trained on; empty where `rows` are probably wrong.
        warning: a sentence if `rows` are probably wrong, otherwise None.
    """

    name: str
    task: str
    learning_rate: float
    epochs: int
    batch_size: int
    rows: NDArray[np.int64]
    unseen: NDArray[np.int64]
    checkpoints: tuple[PublishedCheckpoint, ...]
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The names of the imported runs, and warnings about some of them."""

    runs: list[str]
    warnings: list[str]


def read_published(source: Path, *, fewest_samples: bool = False) -> list[PublishedRun]:
    """Every run below a folder or inside a zip file.

    Args:
        source: the folder or zip that holds the runs' folders, at any depth.
        fewest_samples: of several arrays of one checkpoint, take the smallest (5 samples, as in
            the paper) instead of the largest.

    Raises:
        DataError: there is no run; or an array of a run is missing, has an unexpected shape or
            holds impossible values.
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
) -> Imported:
    """Import the published runs that the store does not have yet. An error leaves it unchanged.

    Args:
        task: the task's name in the store; by default the one in the folders' names.
        train, test: the problems, in the order of the rows of the arrays.
        fewest_samples: as in `read_published`.

    Raises:
        DataError: as `read_published`; or there are not as many problems as rows, or the runs of
            a task have different test sets.
    """
    in_store = set(read_runs(store)["run"])
    runs = read_published(source, fewest_samples=fewest_samples)
    new = [run for run in runs if run.name not in in_store]
    tasks = sorted({run.task for run in runs})
    if len(tasks) > 1 and (task or train or test):
        raise DataError(
            f"{source} holds runs of several tasks ({', '.join(tasks)}); to rename a task or to "
            "give its problems, import its runs from a separate folder"
        )
    examples = []
    for name in tasks:
        n_train, n_test = _row_counts([run for run in runs if run.task == name])
        examples.append((task or name, "train", _named_rows(train, n_train, "train")))
        examples.append((task or name, "test", _named_rows(test, n_test, "test")))
    add_scored_runs(store, [_scored_run(run, task or run.task) for run in new], examples)
    return Imported([run.name for run in new], [run.warning for run in new if run.warning])


def _row_counts(runs: Sequence[PublishedRun]) -> tuple[int, int]:
    """The numbers of train and test rows in the arrays of one task's runs."""
    tests = {len(c.test.samples): run.name for run in runs for c in run.checkpoints}
    if len(tests) > 1:
        (n, first), (m, second), *_ = tests.items()
        raise DataError(
            f"{first} has {n} test rows and {second} has {m}; the runs of a task must share one "
            "test set, in the same order"
        )
    rows = max(int(np.concatenate([run.rows, run.unseen]).max()) + 1 for run in runs)
    return rows, min(tests)


def _named_rows(texts: Sequence[Example] | None, n: int, split: str) -> list[Example]:
    """The examples of a split, with the number of their row as their id."""
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
        none = Counts(*(np.zeros_like(run.unseen) for _ in range(3)))
        frames.append(_frame(c.step, "unseen", run.unseen, none, c.unseen_nll))
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
    steps = {int(m[1]): c for c in folder.iterdir() if (m := STEP.fullmatch(c.name))}
    if not steps:
        raise DataError(f"{folder} holds no checkpoint-<step> folder; copy the run again")
    perplexities = {
        step: array_files.read_perplexities(steps[step] / "train_perplexities.npy")
        for step in sorted(steps)
    }
    last = max(steps)
    rows = _trained_rows(folder, name["size"], len(perplexities[last]))
    for step, of_step in perplexities.items():
        _check_trained(steps[step], of_step, rows, len(perplexities[last]))
    batch_size = int(name["bs"])
    warning = describe_wrong_rows(folder.name, last, np.log(perplexities[last]), rows)
    measured = np.flatnonzero(~np.isnan(perplexities[last]))
    unseen = np.setdiff1d(measured, rows) if warning is None else np.empty(0, dtype=np.int64)
    checkpoints = tuple(
        _read_checkpoint(
            steps[step],
            step,
            round(step * batch_size / len(rows)),
            of_step,
            rows,
            unseen,
            fewest_samples,
        )
        for step, of_step in perplexities.items()
    )
    return PublishedRun(
        name=folder.name,
        task=name["task"],
        learning_rate=float(name["lr"]),
        epochs=int(name["epochs"]),
        batch_size=batch_size,
        rows=rows,
        unseen=unseen,
        checkpoints=checkpoints,
        warning=warning,
    )


def _trained_rows(folder: Folder, size: str, n: int) -> NDArray[np.int64]:
    """The rows that a run was trained on, from its file or, for a full run, all n rows."""
    file = folder / "subsample_idxs.npy"
    if not file.exists():
        if size == "full":
            return np.arange(n)
        raise DataError(
            f"{folder} holds no subsample_idxs.npy, so it is unknown which rows this {size} run "
            "was trained on; only a full run can be imported without this file: copy it too"
        )
    rows = array_files.read_row_numbers(file)
    if rows.max() >= n:
        raise DataError(
            f"{file} names row {rows.max()}, but train_perplexities has {n} rows, numbered from 0; "
            "the arrays of a run must belong together"
        )
    return rows


def _check_trained(
    folder: Folder, perplexities: NDArray[np.float64], rows: NDArray[np.int64], n: int
) -> None:
    """Check that a checkpoint has n perplexities, and one for every row that was trained on."""
    _check_length(folder, "train_perplexities", perplexities, n)
    if (unknown := rows[np.isnan(perplexities[rows])]).size:
        raise DataError(
            f"{folder}: train_perplexities holds nan in row {unknown[0]}, which the run was "
            f"trained on ({len(unknown)} such rows); a trained row needs its perplexity at every "
            "checkpoint"
        )


def _check_length(folder: Folder, label: str, array: NDArray, n: int) -> None:
    if len(array) != n:
        raise DataError(
            f"{folder}: {label} has {len(array)} rows, but train_perplexities of the run's last "
            f"checkpoint has {n}; the arrays of a run must belong together"
        )


def _read_checkpoint(
    folder: Folder,
    step: int,
    epoch: float,
    perplexities: NDArray[np.float64],
    rows: NDArray[np.int64],
    unseen: NDArray[np.int64],
    fewest_samples: bool,
) -> PublishedCheckpoint:
    grades, test = (
        array_files.read_grades(_answer_types(folder, split, fewest_samples))
        for split in ("train", "test")
    )
    _check_length(folder, "train_answer_types", grades, len(perplexities))
    tokens_file = folder / "train_num_tokens.npy"
    tokens = array_files.read_token_counts(tokens_file) if tokens_file.exists() else None
    if tokens is not None:
        _check_length(folder, "train_num_tokens", tokens, len(perplexities))
    perturbed = {
        name: array_files.read_grades(file)
        for name, label in PERTURBED.items()
        if (file := _find_answer_types(folder, f"train_{label}", fewest_samples))
    }
    return PublishedCheckpoint(
        step=step,
        epoch=epoch,
        train=_count(grades[rows]),
        nll=np.log(perplexities[rows]),
        tokens=None if tokens is None else tokens[rows],
        unseen_nll=np.log(perplexities[unseen]),
        test=_count(test),
        perturbed={
            name: (sampled := rows[rows < len(of_rows)], _count(of_rows[sampled]))
            for name, of_rows in perturbed.items()
        },
    )


def _answer_types(folder: Folder, split: str, fewest: bool) -> Folder:
    file = _find_answer_types(folder, split, fewest)
    if file is None:
        raise DataError(f"{folder} holds no {split}_answer_types<K>_seed<S>.npy; copy it again")
    return file


def _find_answer_types(folder: Folder, split: str, fewest: bool) -> Folder | None:
    pattern = re.compile(rf"{split}_answer_types(\d+)_seed\d+(_temp[\d.]+)?\.npy")
    files = {int(m[1]): file for file in folder.iterdir() if (m := pattern.fullmatch(file.name))}
    return files[min(files) if fewest else max(files)] if files else None


def _count(grades: NDArray[np.int64]) -> Counts:
    return Counts(
        samples=np.full(len(grades), grades.shape[1]),
        correct=(grades == Grade.CORRECT).sum(axis=1),
        unparsed=(grades == Grade.UNPARSED).sum(axis=1),
    )
