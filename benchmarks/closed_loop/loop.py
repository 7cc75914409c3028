"""The closed loop on the demo task: whose variants raise test accuracy with the least data.

In each round (docs/method.md, 6; arXiv 2411.07681, section 6) the base model is fine-tuned anew on
the first problems and all that were collected; a strategy chooses seeds among the first problems,
and variants of them are collected, as many as under any other strategy. Strategies differ in the
choice of seeds alone: first problems, the variants' writer, sizes and recipe are the same.
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
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Example, Grade
from premem_core.scoring import extra_passes
from premem_core.scoring.checkpoint import sample_seed
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.training.finetune import finetune_model

FIRST = "first"  # what the fine-tuning on the first problems alone is called
IID = "random"
STRATEGIES = ("premem", IID, "ifd", "words")
TEMPLATE = PromptTemplate()
TEST_SEED = 303
PLANS: dict[str, Plan] = {"premem": "lazy", "ifd": "final"}  # of those that judge by runs
BATCH = 100  # problems that are answered at once


@dataclass(frozen=True, slots=True)
class Result:
    """One fine-tuning: trained on so many problems, variants of so many seeds among them."""

    strategy: str
    seed: int
    round: int
    problems: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The experiment's sizes.

    Attributes:
        seeds: so many times all of it, each with first problems of its own.
        first: problems at first.
        new: problems that a round collects.
        log_log_threshold: t of pre-memorization accuracy; the demo study's optimum.
        share: of the first problems that a strategy without a bound takes for seeds.
        test: problems that test accuracy is measured on, with as many samples as `demo.SAMPLING`.
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
    """Make the experiment in a folder; what an earlier call finished is kept.

    The folder gets the base model, the runs, a store of those that were scored, and a result per
    run.

    Returns:
        One row per strategy, seed and round: the fields of `Result`, and test_accuracy. Round 0,
        the first problems alone, is every strategy's.

    Raises:
        UsageError: the folder holds an experiment with another setting.
    """
    if min(setting.seeds, setting.rounds, setting.first, setting.new, setting.test) < 1:
        raise UsageError("an experiment needs at least 1 seed, round, first, new and test problem")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} is no folder to write to; give another path") from error
    noted, content = folder / "setting.json", json.dumps(asdict(setting), indent=1)
    if noted.exists() and noted.read_text() != content:
        raise UsageError(f"{folder} holds an experiment with another setting; give a new folder")
    noted.write_text(content)
    demo_study.make_once(folder / "base", lambda out: pretraining.pretrain(out, progress=progress))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, demo_study.use_one_thread) as pool:

        def done(under_way: Sequence[Future[str]]) -> None:
            for each in as_completed(under_way):
                progress(each.result())

        seeds = range(setting.seeds)
        done([pool.submit(_first_round, folder, setting, seed) for seed in seeds])
        done([pool.submit(_rounds, folder, setting, s, seed) for s in STRATEGIES for seed in seeds])
    results = [json.loads(file.read_text()) for file in sorted((folder / "results").glob("*.json"))]
    made = pd.DataFrame(results)
    at_first = made[made["strategy"] == FIRST]
    shared = [at_first.assign(strategy=strategy) for strategy in STRATEGIES]
    outcome = pd.concat([*shared, made.drop(at_first.index)], ignore_index=True)
    return outcome.sort_values(["strategy", "seed", "round"], ignore_index=True)


def summary(outcome: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy per strategy and data size, and the half-width of its 90 % interval.

    The seeds are the independent units: Student's t over their means.

    Returns:
        strategy, problems, test_accuracy, half (NaN with one seed), seeds.
    """
    groups = outcome.groupby(["strategy", "problems"], sort=False)["test_accuracy"]
    table = groups.agg(["mean", "std", "count"]).reset_index()
    table["half"] = _half(table.pop("std"), table["count"])
    return table.rename(columns={"mean": "test_accuracy", "count": "seeds"})


def efficiency(outcome: pd.DataFrame) -> pd.DataFrame:
    """How many times as many new problems i.i.d. collection needs for the same test accuracy.

    The accuracy is the highest that both reach; sizes are read off the mean curves, made
    monotone, on straight lines between the rounds. above_iid, half: mean over seeds and rounds of
    test accuracy minus that of i.i.d. collection at the same size, and its 90 % interval by
    Student's t over seeds.

    Returns:
        strategy, at_accuracy, ratio (NaN where the two reach no common accuracy with new
        problems), above_iid, half.
    """
    rows = []
    sizes = sorted(outcome["problems"].unique())
    new = np.array(sizes, dtype=np.float64) - sizes[0]
    tested = {
        str(strategy): of.pivot_table("test_accuracy", "seed", "problems")[sizes].to_numpy()
        for strategy, of in outcome.groupby("strategy")
    }  # (seeds, sizes) each
    iid = tested.pop(IID)
    for strategy, own in tested.items():
        curve, curve_iid = (np.maximum.accumulate(each.mean(axis=0)) for each in (own, iid))
        at = min(curve[-1], curve_iid[-1])
        needs, needs_iid = (_size_at(at, each, new) for each in (curve, curve_iid))
        above = (own - iid)[:, 1:].mean(axis=1)
        half = _half(above.std(ddof=1), len(above)) if len(above) > 1 else np.nan
        ratio = needs_iid / needs if needs > 0 else np.nan
        rows.append((strategy, at, ratio, above.mean(), half))
    return pd.DataFrame(rows, columns=["strategy", "at_accuracy", "ratio", "above_iid", "half"])


def _half(spread: Any, n: Any) -> Any:
    """Half of a mean's 90 % interval by Student's t, of n values with this standard deviation."""
    return stats.t.ppf(0.95, n - 1) * spread / np.sqrt(n)


def _size_at(accuracy: float, curve: Floats, new: Floats) -> float:
    """The smallest number of new problems at which a rising curve reaches an accuracy."""
    at = int(np.searchsorted(curve, accuracy - 1e-12))
    if at == 0:
        return 0.0
    share = (accuracy - curve[at - 1]) / (curve[at] - curve[at - 1])
    return float(new[at - 1] + share * (new[at] - new[at - 1]))


def _first_round(folder: Path, setting: Setting, seed: int) -> str:
    """Fine-tune on the first problems, and score the run for all strategies."""
    name, first = _name(seed, FIRST, 0), _first(setting, seed)
    result = Result(FIRST, seed, 0, len(first), 0)
    told = _train_and_test(folder, setting, name, first, result)
    _score(folder, setting, seed, name, "lazy")
    return told


def _rounds(folder: Path, setting: Setting, strategy: str, seed: int) -> str:
    """All rounds of a strategy; premem and ifd choose by the run of the round before."""
    last = scored = _name(seed, FIRST, 0)
    first, told = _first(setting, seed), []
    problems = list(first)
    for number in range(1, setting.rounds + 1):
        if strategy in PLANS and number > 1:
            scored = last
            _score(folder, setting, seed, scored, PLANS[strategy])
        store = Store(folder / "store")
        if strategy == "ifd":
            extra_passes.measure_unconditional_nll(store, scored, first, TEMPLATE, "hf")
        chosen = _chosen(store, setting, strategy, seed, scored)
        drawn = random.Random(f"seeds {seed} {number}").choices(chosen, k=setting.new)
        problems += _variants([first[i] for i in drawn], setting, seed, number, problems)
        last = _name(seed, strategy, number)
        result = Result(strategy, seed, number, len(problems), len(chosen))
        told.append(_train_and_test(folder, setting, last, problems, result))
    return "\n".join(told)


def _chosen(store: Store, setting: Setting, strategy: str, seed: int, scored: str) -> list[int]:
    """Places of the first problems that a strategy takes for seeds."""
    task = _task(seed)
    runs = [run for run in run_scores.read_task(store, task) if run.run == scored]
    t = setting.log_log_threshold
    evidence = strategies.read_example_facts(store, task, runs, t)
    bound = strategies.PAPER_BOUND if strategy == "premem" else None
    budget = None if strategy in ("premem", IID) else round(setting.share * setting.first)
    criterion = Criterion(strategy, below=bound)
    recipe = Recipe(task, (scored,), t, (criterion,), budget=budget)
    ids = selection.select(evidence, recipe)["id"]
    return sorted(int(each.rpartition("-")[-1]) for each in ids)


def _variants(
    seeds: Sequence[Example], setting: Setting, seed: int, number: int, known: Sequence[Example]
) -> list[Example]:
    """A new problem like each of the seeds."""
    seen = {each.question for each in [*known, *_test(setting)]}
    new: list[Example] = []
    for place, each in enumerate(seeds):
        [made] = word_problems.variants(
            each, 1, seed * 1_000_003 + number * 10_007 + place, exclude=seen
        )
        new.append(replace(made, id=f"{each.id}-{number}-{place}"))
        seen.add(made.question)
    return new


def _train_and_test(
    folder: Path, setting: Setting, name: str, problems: Sequence[Example], result: Result
) -> str:
    """Fine-tune the base, and measure the last checkpoint's test accuracy; what came out."""
    made = demo_study.make_once(
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
        accuracy = _test_accuracy(checkpoints.read_run(made).checkpoints[-1], _test(setting))
        file.parent.mkdir(exist_ok=True)
        with write_whole(file) as unfinished:
            unfinished.write_text(json.dumps({**asdict(result), "test_accuracy": accuracy}))
    accuracy = json.loads(file.read_text())["test_accuracy"]
    return f"{name}: {len(problems):,} problems, test accuracy {accuracy:.3f}"


def _test_accuracy(checkpoint: Checkpoint, test: Sequence[Example]) -> float:
    sampling = demo_study.SAMPLING
    ordered = sorted(test, key=lambda each: len(each.question))  # little padding
    batches = [
        [
            Request(TEMPLATE.fill(each)[0], sample_seed(0, 0, "test", each.id),
                    range(sampling.samples))
            for each in ordered[start : start + BATCH]
        ]
        for start in range(0, len(ordered), BATCH)
    ]  # fmt: skip
    answers = [each.answer for each in ordered for _ in range(sampling.samples)]
    model = load_backend.load_backend("hf", checkpoint)
    try:
        texts = [
            completion.text
            for batch in model.sample(batches, sampling, TEMPLATE.stop)
            for completions in batch
            for completion in completions
        ]
    finally:
        model.close()
    with graders.make_grader("gsm8k") as grader:
        correct = sum(found.grade is Grade.CORRECT for found in grader.grade(texts, answers))
    return correct / len(texts)


def _score(folder: Path, setting: Setting, seed: int, name: str, plan: Plan) -> None:
    """Score a run on the first problems, into the folder's store."""
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
    demo_study.score(store, spec, run, _task(seed), _first(setting, seed), [])


def _first(setting: Setting, seed: int) -> list[Example]:
    known = {each.question for each in _test(setting)}
    return word_problems.make_problems(
        setting.first, 1_000 + seed, exclude=known, prefix=f"{seed}-"
    )


def _test(setting: Setting) -> list[Example]:
    return word_problems.make_problems(setting.test, TEST_SEED, prefix="test-")


def _task(seed: int) -> str:
    return f"seed-{seed}"


def _name(seed: int, strategy: str, number: int) -> str:
    return f"seed-{seed}-{strategy}-{number}"
