"""Closed loop on the demo task: which strategy raises test accuracy with the least data?

In each round (docs/method.md, section 6; arXiv 2411.07681, section 6), the base model is fine-tuned
on the first problems and on all problems collected so far. A strategy chooses some of the first
problems, and variants of these are collected. Strategies differ only in this choice: the first
problems, the generator of variants, the sizes and the training settings are the same.
"""

import json
import multiprocessing
import os
import random
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from premem_core.analysis import run_scores
from premem_core.curation import selection, strategies
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.demo import demo_study, pretraining, word_problems
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.grading import graders
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import checkpoints, load_backend
from premem_core.models.backend import Request
from premem_core.models.encoding.encoder import make_encoder
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Example, Grade
from premem_core.scoring import extra_passes
from premem_core.scoring.checkpoint import sample_seed
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.training.finetune import finetune_model

FIRST = "first"  # stands in place of a strategy for the fine-tuning on the first problems alone
IID = "random"
STRATEGIES = ("premem", IID, "ifd", "words")
TEMPLATE = PromptTemplate()
TEST_SEED = 303
# Sampling plans of the strategies that need a scored run.
PLANS: dict[str, Plan] = {"premem": "lazy", "ifd": "final"}
BATCH = 100  # problems in one batch of the model


@dataclass(frozen=True, slots=True)
class Result:
    """One fine-tuning.

    Attributes:
        problems: number of problems that the model was fine-tuned on.
        chosen: number of first problems that the strategy chose.
    """

    strategy: str
    seed: int
    round: int
    problems: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The sizes and training settings of the experiment.

    Attributes:
        seeds: number of repetitions, each with another random seed and other first problems.
        rounds: number of rounds of collecting.
        first: number of first problems.
        new: number of problems that a round collects.
        test: number of test problems, answered with `demo_study.SAMPLING`.
        log_log_threshold: t of pre-memorization accuracy; the demo study's best threshold.
        share: the share of the first problems that a strategy without a bound chooses.
    """

    seeds: int = 3
    rounds: int = 3
    first: int = 400
    new: int = 150
    test: int = 500
    learning_rate: float = 3e-3
    epochs: int = 10
    checkpoint_every: int = 2
    batch_size: int = 16
    log_log_threshold: float = -2.13
    share: float = 0.5


def run(folder: Path, setting: Setting, progress: pretraining.OnProgress = print) -> pd.DataFrame:
    """Run the experiment in a folder. A second call continues an unfinished experiment.

    The folder gets the base model, the runs, a store with the scored runs, and one result file per
    run.

    Returns:
        The fields of `Result` and test_accuracy, one row per strategy, seed and round. Round 0 is
        the fine-tuning on the first problems alone, which is the same for all strategies.

    Raises:
        UsageError: a size is below 1, the folder cannot be written, or it has an experiment with
            another setting.
    """
    if min(setting.seeds, setting.rounds, setting.first, setting.new, setting.test) < 1:
        raise UsageError("an experiment needs at least 1 seed, round, first, new and test problem")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made or written to; give another path"
        ) from error
    setting_file, content = folder / "setting.json", json.dumps(asdict(setting), indent=1)
    if setting_file.exists() and setting_file.read_text() != content:
        raise UsageError(f"{folder} has an experiment with another setting; give a new folder")
    setting_file.write_text(content)
    demo_study.make_once(folder / "base", lambda out: pretraining.pretrain(out, progress=progress))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, demo_study.use_one_thread) as pool:

        def wait(futures: Sequence[Future[str]]) -> None:
            for future in as_completed(futures):
                progress(future.result())

        seeds = range(setting.seeds)
        wait([pool.submit(_first_round, folder, setting, seed) for seed in seeds])
        wait([pool.submit(_rounds, folder, setting, s, seed) for s in STRATEGIES for seed in seeds])
    files = sorted((folder / "results").glob("*.json"))
    results = pd.DataFrame([json.loads(file.read_text()) for file in files])
    first_round = results[results["strategy"] == FIRST]
    shared = [first_round.assign(strategy=strategy) for strategy in STRATEGIES]
    outcome = pd.concat([*shared, results.drop(first_round.index)], ignore_index=True)
    return outcome.sort_values(["strategy", "seed", "round"], ignore_index=True)


def summary(outcome: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy per strategy and data size, and the half-width of its 90 % interval.

    The interval is by Student's t over seeds, because only the seeds are independent.

    Returns:
        strategy, problems, test_accuracy, half (NaN with one seed), seeds.
    """
    groups = outcome.groupby(["strategy", "problems"], sort=False)["test_accuracy"]
    table = groups.agg(["mean", "std", "count"]).reset_index()
    table["half"] = _half(table.pop("std"), table["count"])
    return table.rename(columns={"mean": "test_accuracy", "count": "seeds"})


def efficiency(outcome: pd.DataFrame) -> pd.DataFrame:
    """The data efficiency of every strategy, compared with i.i.d. collection.

    Returns:
        One row per strategy. at_accuracy is the highest test accuracy that the strategy and i.i.d.
        collection both reach. ratio is the number of new problems that i.i.d. collection needs for
        it ÷ the number that the strategy needs, NaN if the strategy needs none. Numbers come from
        the mean curves, made monotone, with straight lines between the rounds. above_iid is the
        test accuracy minus that of i.i.d. collection at the same size, mean over seeds and rounds,
        and half is half of its 90 % interval by Student's t over seeds.
    """
    rows = []
    sizes = sorted(outcome["problems"].unique())
    new = np.array(sizes, dtype=np.float64) - sizes[0]
    tested = {
        str(strategy): rows_of.pivot_table("test_accuracy", "seed", "problems")[sizes].to_numpy()
        for strategy, rows_of in outcome.groupby("strategy")
    }  # arrays (seeds, sizes)
    iid = tested.pop(IID)
    for strategy, accuracies in tested.items():
        curve, curve_iid = (
            np.maximum.accumulate(values.mean(axis=0)) for values in (accuracies, iid)
        )
        common = min(curve[-1], curve_iid[-1])
        needs, needs_iid = (_size_at(common, values, new) for values in (curve, curve_iid))
        above = (accuracies - iid)[:, 1:].mean(axis=1)
        half = _half(above.std(ddof=1), len(above)) if len(above) > 1 else np.nan
        ratio = needs_iid / needs if needs > 0 else np.nan
        rows.append((strategy, common, ratio, above.mean(), half))
    return pd.DataFrame(rows, columns=["strategy", "at_accuracy", "ratio", "above_iid", "half"])


def _half(spread: Any, n: Any) -> Any:
    """Half of a mean's 90 % interval by Student's t.

    Args:
        spread: standard deviation of the values.
        n: number of values.
    """
    return stats.t.ppf(0.95, n - 1) * spread / np.sqrt(n)


def _size_at(accuracy: float, curve: Floats, new: Floats) -> float:
    """The smallest number of new problems at which a rising curve reaches an accuracy."""
    after = int(np.searchsorted(curve, accuracy - 1e-12))
    if after == 0:
        return 0.0
    share = (accuracy - curve[after - 1]) / (curve[after] - curve[after - 1])
    return float(new[after - 1] + share * (new[after] - new[after - 1]))


def _first_round(folder: Path, setting: Setting, seed: int) -> str:
    """Fine-tune on the first problems, score the run, and return a line about the result."""
    name, first = _name(seed, FIRST, 0), _first_problems(setting, seed)
    result = Result(FIRST, seed, 0, len(first), 0)
    line = _train_and_test(folder, setting, name, first, result)
    _score(folder, setting, seed, name, "lazy")
    return line


def _rounds(folder: Path, setting: Setting, strategy: str, seed: int) -> str:
    """Do all rounds of a strategy, and return a line per round.

    Strategies in PLANS choose by the run of the round before, the others by the first run.
    """
    last = scored = _name(seed, FIRST, 0)
    first, lines = _first_problems(setting, seed), []
    problems = list(first)
    for number in range(1, setting.rounds + 1):
        if strategy in PLANS and number > 1:
            scored = last
            _score(folder, setting, seed, scored, PLANS[strategy])
        store = Store(folder / "store")
        if strategy == "ifd":
            extra_passes.measure_unconditional_nll(store, scored, first, TEMPLATE, "hf")
        chosen = _choose(store, setting, strategy, seed, scored)
        drawn = random.Random(f"seeds {seed} {number}").choices(chosen, k=setting.new)
        problems += _variants([first[i] for i in drawn], setting, seed, number, problems)
        last = _name(seed, strategy, number)
        result = Result(strategy, seed, number, len(problems), len(chosen))
        lines.append(_train_and_test(folder, setting, last, problems, result))
    return "\n".join(lines)


def _choose(store: Store, setting: Setting, strategy: str, seed: int, scored: str) -> list[int]:
    """Positions of the first problems that a strategy chooses."""
    task = _task(seed)
    runs = [run for run in run_scores.read_task(store, task) if run.run == scored]
    t = setting.log_log_threshold
    facts = strategies.read_example_facts(store, task, runs, t)
    bound = strategies.PAPER_BOUND if strategy == "premem" else None
    budget = None if strategy in ("premem", IID) else round(setting.share * setting.first)
    criterion = Criterion(strategy, below=bound)
    recipe = Recipe(task, (scored,), t, (criterion,), budget=budget)
    ids = selection.select(facts, recipe)["id"]
    return sorted(int(example.rpartition("-")[-1]) for example in ids)


def _variants(
    originals: Sequence[Example],
    setting: Setting,
    seed: int,
    number: int,
    known: Sequence[Example],
) -> list[Example]:
    """One new problem like each of the originals, in round `number`."""
    questions = {problem.question for problem in [*known, *_test_problems(setting)]}
    variants: list[Example] = []
    for position, original in enumerate(originals):
        [variant] = word_problems.variants(
            original, 1, seed * 1_000_003 + number * 10_007 + position, exclude=questions
        )
        variants.append(replace(variant, id=f"{original.id}-{number}-{position}"))
        questions.add(variant.question)
    return variants


def _train_and_test(
    folder: Path, setting: Setting, name: str, problems: Sequence[Example], result: Result
) -> str:
    """Fine-tune the base model, measure the last checkpoint's test accuracy, and return a line."""
    run_folder = demo_study.make_once(
        folder / "runs" / name,
        lambda out: finetune_model(
            folder / "base",
            problems,
            out,
            learning_rate=setting.learning_rate,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            checkpoint_every=setting.checkpoint_every,
            seed=result.seed,
        ),
    )
    file = folder / "results" / f"{name}.json"
    if not file.exists():
        last = checkpoints.read_run(run_folder).checkpoints[-1]
        accuracy = _test_accuracy(last, _test_problems(setting))
        file.parent.mkdir(exist_ok=True)
        with write_whole(file) as unfinished:
            unfinished.write_text(json.dumps({**asdict(result), "test_accuracy": accuracy}))
    accuracy = json.loads(file.read_text())["test_accuracy"]
    return f"{name}: {len(problems):,} problems, test accuracy {accuracy:.3f}"


def _test_accuracy(checkpoint: Checkpoint, test: Sequence[Example]) -> float:
    sampling = demo_study.SAMPLING
    ordered = sorted(test, key=lambda problem: len(problem.question))  # for little padding
    answers = [problem.answer for problem in ordered for _ in range(sampling.samples)]
    model = load_backend.load_backend("hf", checkpoint)
    encoder = make_encoder(TEMPLATE, model.tokenizer, model.end_tokens)
    batches = [
        [
            Request(
                encoder.prompt(problem),
                sample_seed(0, 0, "test", problem.id),
                range(sampling.samples),
            )
            for problem in ordered[start : start + BATCH]
        ]
        for start in range(0, len(ordered), BATCH)
    ]
    try:
        texts = [
            completion.text
            for batch in model.sample(batches, sampling, encoder.ending)
            for completions in batch
            for completion in completions
        ]
    finally:
        model.close()
    with graders.make_grader("gsm8k") as grader:
        correct = sum(graded.grade is Grade.CORRECT for graded in grader.grade(texts, answers))
    return correct / len(texts)


def _score(folder: Path, setting: Setting, seed: int, name: str, plan: Plan) -> None:
    """Score a run on the first problems, and add it to the folder's store."""
    store = Store(folder / "store")
    spec = ScoringSpec(
        run=name,
        grader="gsm8k",
        sampling=demo_study.SAMPLING,
        chunk_examples=setting.first,
        plan=plan,
        log_log_threshold=setting.log_log_threshold,
    )
    run = folder / "runs" / name
    demo_study.score(store, spec, run, _task(seed), _first_problems(setting, seed), [])


def _first_problems(setting: Setting, seed: int) -> list[Example]:
    test_questions = {problem.question for problem in _test_problems(setting)}
    return word_problems.make_problems(
        setting.first, 1_000 + seed, exclude=test_questions, prefix=f"{seed}-"
    )


def _test_problems(setting: Setting) -> list[Example]:
    return word_problems.make_problems(setting.test, TEST_SEED, prefix="test-")


def _task(seed: int) -> str:
    return f"seed-{seed}"


def _name(seed: int, strategy: str, number: int) -> str:
    return f"seed-{seed}-{strategy}-{number}"
