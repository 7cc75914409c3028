"""What a job was asked to measure: its `job.json` and `queries.parquet`, and what may change."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core import perturbations
from premem_core.backends import BACKENDS
from premem_core.errors import JobError, UsageError
from premem_core.grading import make_grader
from premem_core.sampling_plan import PLANS
from premem_core.scoring import Query, ScoringSpec
from premem_core.store import Store
from premem_core.types import Example, PromptTemplate, Run, Sampling


def check_spec(spec: ScoringSpec, own: Collection[str] = ()) -> None:
    """Refuse a specification that cannot work, before anything is read or made.

    Args:
        own: names of the user's own perturbations.

    Raises:
        UsageError: the grader, the backend or a perturbation is unknown, or the plan needs a
            threshold.
        JobError: the run's name is empty or too long, or the template has no place for the
            question or the solution.
    """
    if spec.backend not in BACKENDS:
        raise UsageError(
            f"backend '{spec.backend}' is unknown; choose one of: {', '.join(BACKENDS)}"
        )
    make_grader(spec.grader).close()
    for perturbation in spec.perturbations:
        perturbations.check(perturbation, own)
        if spec.perturbations.count(perturbation) > 1:
            raise UsageError(f"perturbation '{perturbation}' is asked for twice; name it once")
    if spec.plan not in PLANS:
        raise UsageError(f"plan '{spec.plan}' is unknown; choose one of: {', '.join(PLANS)}")
    if spec.plan != "full" and spec.log_log_threshold is None:
        raise UsageError(
            f"the {spec.plan} plan needs to know what counts as memorized: give "
            "--log-log-threshold (the paper's for GSM8K is -2.3), or score a run of this task with "
            "test problems in full first"
        )
    if not spec.run.strip(" .") or len(quote(spec.run, safe="")) > 150:
        raise JobError(f"the run's name {spec.run!r} must have 1 to 150 plain characters")
    if not all(spec.template.stop):
        raise JobError("the text that ends a completion is empty; give the template's own end")
    if "{question}" not in spec.template.prompt or "{solution}" not in spec.template.target:
        raise JobError(
            "the prompt template must contain {question} and the target template {solution}"
        )


def describe(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
) -> dict[str, Any]:
    """The content of `job.json`."""
    described = {
        **asdict(spec),
        "task": task,
        "run_path": store.relative(run.path),
        "checkpoints": [checkpoint.step for checkpoint in run.checkpoints],
        "train_data": _digest(train),
        "test_data": _digest(test),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _digest(examples: Sequence[Example]) -> str:
    content = json.dumps([[e.id, e.question, e.solution, e.answer] for e in examples])
    return f"{len(examples)} examples, sha256 {sha256(content.encode()).hexdigest()[:16]}"


def check_same(run: str, was: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume a job with another specification.

    Raises:
        JobError: it differs; the message says in what.
    """
    if differing := _differences(was, wanted):
        raise JobError(
            f"the run '{run}' cannot be resumed with another specification ({differing}); repeat "
            "the first one, ask more of it with --extend, or choose another name with --run"
        )


def check_more(
    run: str,
    was: dict[str, Any],
    wanted: dict[str, Any],
    folder: Path,
    examples: Sequence[Example],
) -> None:
    """Refuse what is not more of the same: it would throw away, or mix, what is scored.

    Args:
        examples: that are asked for; none: as before.

    Raises:
        JobError: something is missing or has changed; the message says what.
    """
    problems = []
    if wanted["sampling"]["samples"] < was["sampling"]["samples"]:
        problems.append(
            f"{was['sampling']['samples']} samples are drawn, {wanted['sampling']['samples']} "
            "asked for"
        )
    for name in ("checkpoints", "perturbations"):
        if gone := [each for each in was.get(name, []) if each not in wanted[name]]:
            problems.append(f"{name} lack {gone[0]}")
    if examples:
        given = {(e.id, e.question, e.solution, e.answer) for e in examples}
        for query in read_queries(folder / "queries.parquet"):
            e = query.example
            if not query.perturbation and (e.id, e.question, e.solution, e.answer) not in given:
                problems.append(f"the {query.split} problem '{e.id}' is missing or has changed")
                break
    may_grow = {
        *("plan", "log_log_threshold", "perturb_all", "perturbations", "checkpoints"),
        *("train_data", "test_data", "chunk_examples"),
    }
    fixed_was, fixed = ({k: v for k, v in d.items() if k not in may_grow} for d in (was, wanted))
    fixed_was["sampling"] = {**was["sampling"], "samples": wanted["sampling"]["samples"]}
    if differing := _differences(fixed_was, fixed):
        problems.append(differing)
    if problems:
        raise JobError(
            f"the run '{run}' can only be asked for more of the same ({'; '.join(problems)}); "
            "choose another name with --run for something else"
        )


def _differences(was: dict[str, Any], wanted: dict[str, Any]) -> str:
    # What an older version did not write had the value that is the default now.
    defaults = json.loads(json.dumps(asdict(ScoringSpec("", ""))))
    flat_was, flat_wanted = _flat({**defaults, **was}), _flat(wanted)
    differing = [key for key in flat_wanted if flat_was.get(key) != flat_wanted[key]]
    return "; ".join(f"{k} was {flat_was.get(k)}, is {flat_wanted[k]}" for k in differing)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def read_spec(job: dict[str, Any]) -> ScoringSpec:
    """The specification in a `job.json`."""
    template = PromptTemplate(**{**job["template"], "stop": tuple(job["template"]["stop"])})
    plain = {name: job[name] for name in ScoringSpec.__slots__ if name in job}
    return ScoringSpec(
        **{
            **plain,
            "template": template,
            "sampling": Sampling(**job["sampling"]),
            "perturbations": tuple(job.get("perturbations", ())),
        }
    )


def write_queries(file: Path, queries: Sequence[Query]) -> None:
    """Keep the queries; the file is there whole or not at all."""
    columns = {
        "number": [q.number for q in queries],
        "split": [q.split for q in queries],
        "perturbation": [q.perturbation for q in queries],
        "id": [q.example.id for q in queries],
        "question": [q.example.question for q in queries],
        "solution": [q.example.solution for q in queries],
        "answer": [q.example.answer for q in queries],
    }
    part = file.with_suffix(".tmp")
    pq.write_table(pa.table(columns), part)
    part.replace(file)


def read_queries(file: Path) -> list[Query]:
    """The queries that `write_queries` kept."""
    return [
        Query(
            row["number"],
            row["split"],
            Example(row["id"], row["question"], row["solution"], row["answer"]),
            row.get("perturbation", ""),
        )
        for row in pq.read_table(file).to_pylist()
    ]
