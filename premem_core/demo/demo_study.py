"""The demo: a small but real study that two CPU cores can make.

A tiny Llama is pretrained on arithmetic and on the language of word problems. Then it is fine-tuned
on such problems in settings that differ in learning rate, length and data size. Everything is made
from random seeds.
"""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from premem_core import installation
from premem_core.demo import word_problems
from premem_core.demo.pretraining import OnProgress, pretrain
from premem_core.errors import JobError, StoreError
from premem_core.files import write_whole
from premem_core.models import checkpoints
from premem_core.records import Example, Sampling
from premem_core.scoring import job_files, job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.training.finetune import finetune_model

TASK = "demo"
SHIPPED = installation.FILES / "data" / "demo"
SHIPPED_RUN = 0  # the setting whose checkpoints are shipped, for trying the upload
SCORED_PROBLEMS = 500  # the first training problems, which all runs were trained on
SAMPLING = Sampling(samples=5, temperature=0.8, top_p=0.95, max_new_tokens=128)
PERTURBATIONS = ("first", "we-know-that", "rename", "swap", "redraw")
SPEC = ScoringSpec(  # of every run, but for its name
    run="",
    grader="gsm8k",
    sampling=SAMPLING,
    chunk_examples=SCORED_PROBLEMS,
    perturbations=PERTURBATIONS,
    perturb_controls=True,
    held_out=True,
)
TEST_PROBLEMS = 300
UNSEEN_PROBLEMS = 1000  # of which only perplexities are measured
TRAIN_SEED, TEST_SEED, UNSEEN_SEED = 101, 202, 303


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of one fine-tuning run of the study; `checkpoint_every` counts epochs."""

    learning_rate: float
    epochs: int
    problems: int
    checkpoint_every: int
    batch_size: int = 16

    @property
    def name(self) -> str:
        """The run's name, such as lr3e-3_ep24_n500."""
        rate = f"{self.learning_rate:.0e}".replace("e-0", "e-")
        return f"lr{rate}_ep{self.epochs}_n{self.problems}"


# Learning rate, length and data size all vary, so that none of them alone explains the results. The
# runs range from hardly trained to fully memorized. The longest come first, to keep all cores busy.
SETTINGS = (
    Setting(learning_rate=3e-3, epochs=15, problems=1000, checkpoint_every=3),
    Setting(learning_rate=3e-3, epochs=24, problems=500, checkpoint_every=4),
    Setting(learning_rate=1e-3, epochs=5, problems=1000, checkpoint_every=1),
    Setting(learning_rate=3e-3, epochs=5, problems=2000, checkpoint_every=1),
    Setting(learning_rate=3e-4, epochs=5, problems=500, checkpoint_every=1),
)


def problems() -> tuple[list[Example], list[Example]]:
    """The largest training set and the test set; a smaller training set is its first problems."""
    train = word_problems.make_problems(
        max(setting.problems for setting in SETTINGS), TRAIN_SEED, prefix="train-"
    )
    seen = {example.question for example in train}
    return train, word_problems.make_problems(
        TEST_PROBLEMS, TEST_SEED, exclude=seen, prefix="test-"
    )


def unseen_problems() -> list[Example]:
    """Problems that are in neither set, and that no run is trained on."""
    seen = {example.question for examples in problems() for example in examples}
    return word_problems.make_problems(UNSEEN_PROBLEMS, UNSEEN_SEED, exclude=seen, prefix="unseen-")


def install(store: Path) -> None:
    """Copy the shipped study into a new store.

    Raises:
        StoreError: `store` exists and is not an empty folder, or this installation has no study.
    """
    if store.exists() and (not store.is_dir() or any(store.iterdir())):
        raise StoreError(f"{store} already exists and is not empty; give a new folder with --store")
    if not (SHIPPED / "store" / "premem.duckdb").exists():
        raise StoreError(f"{SHIPPED} holds no demo study; make one with demo --rebuild")
    unfinished = store.with_name(f"{store.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(SHIPPED / "store", unfinished).rename(store)


def rebuild(store: Store, progress: OnProgress = print, spec: ScoringSpec = SPEC) -> None:
    """Make the whole study in `store`; parts that an earlier call finished are kept.

    `<store>/demo/` gets the problems in `train_<n>.jsonl`, `test.jsonl` and `unseen.jsonl`, the
    base model in `base`, and one folder per setting in `runs`. Each setting is fine-tuned and
    scored in a separate process; as many processes run at a time as there are cores.
    """
    work = store.path / "demo"
    work.mkdir(exist_ok=True)
    train, test = problems()
    for size in sorted({setting.problems for setting in SETTINGS}):
        write_jsonl(work / f"train_{size}.jsonl", train[:size])
    write_jsonl(work / "test.jsonl", test)
    write_jsonl(work / "unseen.jsonl", unseen_problems())
    make_once(work / "base", lambda out: pretrain(out, progress=progress))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, use_one_thread) as pool:
        submitted = [
            pool.submit(_finetune_and_score, store.path, setting, replace(spec, run=setting.name))
            for setting in SETTINGS
        ]
        for made in submitted:
            progress(made.result())


def ship(store: Store, folder: Path) -> None:
    """Copy the files that `install` needs, the problems and one run's checkpoints to `folder`.

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
    without_base = shutil.ignore_patterns("README.md")  # it names the base, which is not shipped
    run = work / "runs" / setting.name
    shutil.copytree(run, folder / "runs" / setting.name, ignore=without_base)
    for name in (f"train_{setting.problems}.jsonl", "test.jsonl", "unseen.jsonl"):
        shutil.copy(work / name, folder)


def use_one_thread() -> None:
    """Limit this process to one thread.

    A small model gains nothing from a second thread, but a second process doubles the speed.
    """
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the scoring job's workers


def _finetune_and_score(path: Path, setting: Setting, spec: ScoringSpec) -> str:
    """Fine-tune and score one setting; return a line that says how long it took."""
    store, (train, test) = Store(path), problems()
    work, started = path / "demo", time.monotonic()
    folder = make_once(work / "runs" / setting.name, _finetuning(work / "base", train, setting))
    made = time.monotonic() - started
    score(
        store,
        spec,
        folder,
        TASK,
        train[:SCORED_PROBLEMS],
        test,
        trained_on=setting.problems,
        unseen=unseen_problems(),
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
    unseen: Sequence[Example] = (),
    execution: job_files.Execution = job_files.Execution(),
) -> None:
    """Score the run in a folder in this process, or resume its job; other jobs may run meanwhile.

    Raises:
        JobError: the job failed.
    """
    jobs.create_job(
        store,
        spec,
        checkpoints.read_run(folder),
        task,
        train,
        test,
        trained_on=trained_on,
        unseen=unseen,
        resume=JobFolder.of(store, spec.run).holds_job,
        execution=execution,
    )
    end = job_process.run_job(store, spec.run, queue=False)  # as many at once as there are cores
    if end.state != "done":
        raise JobError(f"{spec.run} could not be scored: {end.message}")


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """Write one example per line, with the fields id, question and answer as in GSM8K's files.

    `answer` is the solution, which ends in `#### <number>`.
    """
    rows = ({"id": e.id, "question": e.question, "answer": e.solution} for e in examples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _finetuning(base: Path, train: Sequence[Example], setting: Setting) -> Callable[[Path], Path]:
    """A function that fine-tunes `base` by a setting and writes the run into a folder."""
    return lambda out: finetune_model(
        base,
        train[: setting.problems],
        out,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        checkpoint_every=setting.checkpoint_every,
    )


def make_once(folder: Path, make: Callable[[Path], Path]) -> Path:
    """Return `folder`; if it does not exist, `make` it first, whole or not at all."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(folder) as unfinished:
            make(unfinished)
    return folder
