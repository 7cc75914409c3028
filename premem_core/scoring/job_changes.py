"""Changes of a scoring job: whether it may be resumed or extended with another specification."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from premem_core.errors import JobError
from premem_core.problems.conversations import conversation_json
from premem_core.records import Example, KnownSampling
from premem_core.scoring.job_files import as_json
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.store.sample_imports import SampleImport

# What an extension may change: it adds to a job, or changes how the rest is done.
_MAY_CHANGE = {
    *("plan", "log_log_threshold", "share", "perturb_all", "perturbations", "checkpoints"),
    *("train_data", "test_data", "unseen_data", "chunk_examples", "tokens", "held_out"),
    *("perturb_controls", "rewarded", "score_base"),
}


def check_same(run: str, registered: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a job is resumed with its own specification.

    Args:
        registered: the job's description (`job.json`).
        wanted: the description to resume with.

    Raises:
        JobError: it is resumed with another one; the message names the differences.
    """
    # A job of an earlier version goes on as it began.
    unknown = {"held_out", "perturb_controls", "rewarded"} - registered.keys()
    wanted = {key: value for key, value in wanted.items() if key not in unknown}
    if differing := _differences(registered, wanted):
        raise JobError(
            f"the run '{run}' cannot be resumed with another specification ({differing}); give "
            "the first one again, extend the job with --extend, or choose another name with --run"
        )


def check_extension(
    run: str,
    registered: dict[str, Any],
    wanted: dict[str, Any],
    queries: Iterable[Query] = (),
    examples: Sequence[Example] = (),
) -> None:
    """Check that an extension only adds to a job, so that all existing scores remain valid.

    Args:
        registered: the job's description (`job.json`).
        wanted: the description after the extension.
        queries: the job's queries.
        examples: the problems after the extension; empty if they stay the same.

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
            f"an extension can only add to the job of the run '{run}' ({'; '.join(problems)}); "
            "to score something else, choose another name with --run"
        )


def check_imported(
    spec: ScoringSpec, imports: Sequence[SampleImport], splits: Collection[str]
) -> None:
    """Check that a job draws with the settings of the run's imported completions.

    Both count for the same accuracies, so they should be of one kind.

    Args:
        imports: what was imported into the run.
        splits: the splits that the job samples.

    Raises:
        JobError: a known setting differs, and nobody has allowed that.
    """
    wanted = KnownSampling.of(spec.sampling)
    for one in imports:
        if one.mixed or one.split not in splits:
            continue
        if differing := one.sampling.differences(wanted):
            raise JobError(
                f"the {one.split} completions that were imported from {one.file} were sampled with "
                f"other settings than the job's ({', '.join(differing)}), and an accuracy over "
                "both says little; give the settings of the import, or accept it (--mix-settings)"
            )


def _lacking(registered: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Parts of the job that the extended job would not have."""
    problems = []
    samples, wanted_samples = registered["sampling"]["samples"], wanted["sampling"]["samples"]
    if wanted_samples < samples:
        problems.append(
            f"it has {samples} samples per problem already, more than the {wanted_samples} of this "
            f"request; give --samples {samples}"
        )
    share, same_problems = registered.get("share", 1.0), _same(registered, wanted, "train_data")
    if _same(registered, wanted, "plan") and same_problems and wanted["share"] < share:
        problems.append(f"a share of {share:g} is sampled, but {wanted['share']:g} is requested")
    if registered.get("score_base") and not wanted["score_base"]:
        problems.append("the base model is scored, but not requested (--score-base)")
    has_controls = registered.get("perturb_controls") and registered.get("perturbations")
    if has_controls and not wanted["perturb_controls"]:
        problems.append("the perturbations have controls, but none is wanted (--perturb-controls)")
    if registered.get("unseen_data") and "unseen_data" not in wanted:
        problems.append("problems were held out, but none is given (--held-out)")
    for name in ("checkpoints", "perturbations"):
        if gone := [item for item in registered.get(name, []) if item not in wanted[name]]:
            problems.append(f"{gone[0]} is missing from the {name}")
    return problems


def _same(registered: dict[str, Any], wanted: dict[str, Any], name: str) -> bool:
    return bool(registered.get(name) == wanted.get(name))


def _changed_problems(queries: Iterable[Query], examples: Sequence[Example]) -> list[str]:
    """A message about the first of the job's problems that is missing or has changed."""
    given = {_text(example) for example in examples}
    for query in queries:
        of_job = not query.perturbation and query.split != "unseen"
        if of_job and _text(query.example) not in given:
            return [f"the {query.split} problem '{query.example.id}' is missing or has changed"]
    return []


def _text(example: Example) -> tuple[str | None, ...]:
    conversation = conversation_json(example.conversation)
    return example.id, example.question, example.solution, example.answer, conversation


def _differences(registered: dict[str, Any], wanted: dict[str, Any]) -> str:
    # A field that an older version did not write had the present default value.
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
