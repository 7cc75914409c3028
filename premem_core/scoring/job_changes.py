"""Changes of a scoring job: whether it may be resumed or extended with another specification."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from premem_core.errors import JobError
from premem_core.records import Example
from premem_core.scoring.job_files import as_json
from premem_core.scoring.spec import Query, ScoringSpec

# What an extension may change: it asks for more, or for the rest in another way.
_MAY_CHANGE = {
    *("plan", "log_log_threshold", "perturb_all", "perturbations", "checkpoints"),
    *("train_data", "test_data", "chunk_examples"),
}


def check_same(run: str, registered: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume a job with another specification.

    Args:
        registered: the job's description (`job.json`).
        wanted: the description to resume with.

    Raises:
        JobError: it differs; the message says in what.
    """
    if differing := _differences(registered, wanted):
        raise JobError(
            f"the run '{run}' cannot be resumed with another specification ({differing}); repeat "
            "the first one, ask more of it with --extend, or choose another name with --run"
        )


def check_extension(
    run: str,
    registered: dict[str, Any],
    wanted: dict[str, Any],
    queries: Iterable[Query] = (),
    examples: Sequence[Example] = (),
) -> None:
    """Refuse what is not more of the same: it would throw away, or mix, what is scored.

    Args:
        registered: the job's description (`job.json`).
        wanted: the description to go on with.
        queries: the job's.
        examples: the problems to go on with; none: those of the job.

    Raises:
        JobError: something is missing or has changed; the message says what.
    """
    problems = _lacking(registered, wanted)
    if examples:
        problems += _changed_problems(queries, examples)
    before, after = (
        {key: value for key, value in description.items() if key not in _MAY_CHANGE}
        for description in (registered, wanted)
    )
    before["sampling"] = {**registered["sampling"], "samples": wanted["sampling"]["samples"]}
    if differing := _differences(before, after):
        problems.append(differing)
    if problems:
        raise JobError(
            f"the run '{run}' can only be asked for more of the same ({'; '.join(problems)}); "
            "choose another name with --run for something else"
        )


def _lacking(registered: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What the job has and is no longer wanted."""
    problems = []
    samples, wanted_samples = registered["sampling"]["samples"], wanted["sampling"]["samples"]
    if wanted_samples < samples:
        problems.append(f"{samples} samples are drawn, {wanted_samples} asked for")
    for name in ("checkpoints", "perturbations"):
        if gone := [item for item in registered.get(name, []) if item not in wanted[name]]:
            problems.append(f"{name} lack {gone[0]}")
    return problems


def _changed_problems(queries: Iterable[Query], examples: Sequence[Example]) -> list[str]:
    """The first of the job's problems that is not among the examples as it was."""
    given = {_text(example) for example in examples}
    for query in queries:
        if not query.perturbation and _text(query.example) not in given:
            return [f"the {query.split} problem '{query.example.id}' is missing or has changed"]
    return []


def _text(example: Example) -> tuple[str, str, str, str]:
    return example.id, example.question, example.solution, example.answer


def _differences(registered: dict[str, Any], wanted: dict[str, Any]) -> str:
    # What an older version did not write had the value that is the default now.
    defaults = as_json(asdict(ScoringSpec("", "")))
    before, after = _flat({**defaults, **registered}), _flat(wanted)
    differing = [key for key in after if before.get(key) != after[key]]
    return "; ".join(f"{key} was {before.get(key)}, is {after[key]}" for key in differing)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
