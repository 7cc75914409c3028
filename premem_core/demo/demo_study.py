"""The demo: a small but real study that fits two CPU cores.

A tiny Llama is pretrained on arithmetic and on the language of word problems, then fine-tuned on
them in settings that differ in learning rate, length and data size. All of it is made from seeds.
"""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from premem_core.demo import word_problems
from premem_core.demo.pretraining import Progress, pretrain
from premem_core.errors import JobError, StoreError
from premem_core.models import checkpoints
from premem_core.records import Example, Sampling
from premem_core.scoring import job_files, job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.training.finetune import finetune_model

TASK = "demo"
SHIPPED = Path(__file__).parents[2] / "data" / "demo"
SHIPPED_RUN = 0  # whose checkpoints are shipped, small enough to try the upload
SCORED_PROBLEMS = 500  # of each run's training problems, so that all runs answer the same ones
SAMPLING = Sampling(samples=5, temperature=0.8, top_p=0.95, max_new_tokens=128)
PERTURBATIONS = ("first", "we-know-that", "rename", "swap", "redraw")
TEST_PROBLEMS = 300
TRAIN_SEED, TEST_SEED = 101, 202


@dataclass(frozen=True, slots=True)
class Setting:
    """One fine-tuning of the study; `checkpoint_every` counts epochs."""

    learning_rate: float
    epochs: int
    problems: int
    checkpoint_every: int
    batch_size: int = 16

    @property
    def name(self) -> str:
        """Such as lr3e-3_ep24_n500."""
        rate = f"{self.learning_rate:.0e}".replace("e-0", "e-")
        return f"lr{rate}_ep{self.epochs}_n{self.problems}"


# Rate, length and data size all vary, so that no other quantity lines the runs up by accident: from
# hardly trained to every solution known by heart. The longest come first, to keep all cores busy.
SETTINGS = (
    Setting(learning_rate=3e-3, epochs=15, problems=1000, checkpoint_every=3),
    Setting(learning_rate=3e-3, epochs=24, problems=500, checkpoint_every=4),
    Setting(learning_rate=1e-3, epochs=5, problems=1000, checkpoint_every=1),
    Setting(learning_rate=3e-3, epochs=5, problems=2000, checkpoint_every=1),
    Setting(learning_rate=3e-4, epochs=5, problems=500, checkpoint_every=1),
)


def problems() -> tuple[list[Example], list[Example]]:
    """The largest training set, whose beginnings are the smaller ones, and the test set."""
    train = word_problems.make_problems(
        max(setting.problems for setting in SETTINGS), TRAIN_SEED, prefix="train-"
    )
    seen = {example.question for example in train}
    return train, word_problems.make_problems(
        TEST_PROBLEMS, TEST_SEED, exclude=seen, prefix="test-"
    )


def install(store: Path) -> None:
    """Put the shipped study into a new store.

    Raises:
        StoreError: something is there already, or the study is not beside the package.
    """
    if store.exists() and (not store.is_dir() or any(store.iterdir())):
        raise StoreError(f"{store} is there already and not empty; give a new folder with --store")
    if not (SHIPPED / "store" / "premem.duckdb").exists():
        raise StoreError(f"{SHIPPED} holds no demo study; make one with demo --rebuild")
    unfinished = store.with_name(f"{store.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(SHIPPED / "store", unfinished).rename(store)


def rebuild(store: Store, progress: Progress = print) -> None:
    """Make the study from nothing in `store`; what an earlier call finished is kept.

    `<store>/demo/` gets `train_<n>.jsonl` and `test.jsonl` (id, question, and answer: the
    solution, ending in `#### <number>`, as in GSM8K's files), the base model in `base`, and one
    folder per setting in `runs`. Each setting is fine-tuned and scored in a process of its own,
    as many at a time as there are cores.
    """
    work = store.path / "demo"
    work.mkdir(exist_ok=True)
    train, test = problems()
    for size in sorted({setting.problems for setting in SETTINGS}):
        write_jsonl(work / f"train_{size}.jsonl", train[:size])
    write_jsonl(work / "test.jsonl", test)
    made_once(work / "base", lambda out: pretrain(out, progress=progress))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, one_thread) as pool:
        for made in [pool.submit(_finetune_and_score, store.path, setting) for setting in SETTINGS]:
            progress(made.result())


def ship(store: Store, folder: Path) -> None:
    """Copy what `install` needs, the problems and one run's checkpoints to `folder`.

    Raises:
        StoreError: the folder holds something else than a shipped study.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "store").is_dir():
        raise StoreError(f"{folder} holds something else than a demo study; give a new folder")
    work, setting = store.path / "demo", SETTINGS[SHIPPED_RUN]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "store").mkdir(parents=True)
    store.copy_database(folder / "store" / store.database.name)
    shutil.copytree(store.path / "completions", folder / "store" / "completions")
    shutil.copytree(work / "runs" / setting.name, folder / "runs" / setting.name)
    for name in (f"train_{setting.problems}.jsonl", "test.jsonl"):
        shutil.copy(work / name, folder)


def one_thread() -> None:
    """Small models gain nothing from two threads; two processes are twice as fast."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the scoring job's workers


def _finetune_and_score(path: Path, setting: Setting) -> str:
    """In a process of its own: one run's checkpoints, then their scores; what was done."""
    store, (train, test) = Store(path), problems()
    work, started = path / "demo", time.monotonic()
    folder = made_once(work / "runs" / setting.name, _finetuning(work / "base", train, setting))
    made = time.monotonic() - started
    spec = ScoringSpec(
        run=setting.name,
        grader="gsm8k",
        sampling=SAMPLING,
        chunk_examples=SCORED_PROBLEMS,
        perturbations=PERTURBATIONS,
    )
    score(
        store,
        spec,
        folder,
        TASK,
        train[:SCORED_PROBLEMS],
        test,
        trained_on=setting.problems,
        execution=job_files.Execution(weights=True, base=str(path / "demo" / "base")),
    )
    scored = time.monotonic() - started - made
    return f"{setting.name}: fine-tuned in {made:.0f} s, scored in {scored:.0f} s"


def score(
    store: Store,
    spec: ScoringSpec,
    folder: Path,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    trained_on: int | None = None,
    execution: job_files.Execution = job_files.Execution(),
) -> None:
    """Score the run in a folder, or go on with it, in this process and beside others.

    Raises:
        JobError: it does not come to its end.
    """
    jobs.create_job(
        store,
        spec,
        checkpoints.read_run(folder),
        task,
        train,
        test,
        trained_on=trained_on,
        resume=(store.job_folder(spec.run) / "job.json").exists(),
        execution=execution,
    )
    end = job_process.run_job(store, spec.run, queue=False)  # as many at once as there are cores
    if end.state != "done":
        raise JobError(f"{spec.run} could not be scored: {end.message}")


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """One example per line, with the fields id, question and answer of GSM8K's own files."""
    rows = ({"id": e.id, "question": e.question, "answer": e.solution} for e in examples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _finetuning(base: Path, train: Sequence[Example], setting: Setting) -> Callable[[Path], Path]:
    return lambda out: finetune_model(
        base,
        train[: setting.problems],
        out,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        checkpoint_every=setting.checkpoint_every,
    )


def made_once(folder: Path, make: Callable[[Path], Path]) -> Path:
    """`folder`, made under another name and renamed at the end: it is there whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished).rename(folder)
    return folder
