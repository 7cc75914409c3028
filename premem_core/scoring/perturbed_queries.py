"""Perturbed queries: the problems of a job in another form, as they are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from premem_core.errors import JobError
from premem_core.problems import perturbations
from premem_core.records import Example
from premem_core.scoring.spec import Query, ScoringSpec, Split
from premem_core.store.database import Store
from premem_core.store.examples import add_perturbed_examples, read_perturbed_examples

# By split and name of one of the user's own perturbations, the examples under it.
UserPerturbations = Mapping[tuple[Split, str], Sequence[Example]]


def perturbed_queries(
    store: Store,
    task: str,
    spec: ScoringSpec,
    queries: Sequence[Query],
    user_perturbations: UserPerturbations,
) -> list[Query]:
    """The training queries under each perturbation that changes their text, where it applies.

    With `ScoringSpec.perturb_controls`, also the test queries. A text that is already in the store
    does not change, because it may have completions.

    Args:
        queries: the unperturbed queries.

    Raises:
        JobError: the store has another text for an example that the user perturbed.
    """
    found = []
    for split in spec.perturbed_splits:
        originals = {query.example.id: query for query in queries if query.split == split}
        for name in spec.perturbations:
            if name in perturbations.PREFIXES:  # the text stays, only the prompt gets longer
                continue
            by_user = user_perturbations.get((split, name), ())
            examples = _perturbed_examples(name, originals, spec.sampling.seed, by_user)
            if by_user:
                _check_same_texts(store, task, name, originals, examples)
            numbers = [originals[example.id].number for example in examples]
            add_perturbed_examples(store, name, numbers, examples)
            found += _kept_queries(store, task, name, originals)
    return found


def _perturbed_examples(
    name: str, originals: Mapping[str, Query], seed: int, by_user: Sequence[Example]
) -> list[Example]:
    """The examples under one perturbation, given by the user or made here."""
    made: Sequence[Example | None] = by_user
    if name in perturbations.CHANGES:
        made = perturbations.perturb(name, [q.example for q in originals.values()], seed)
    by_id = {e.id: e for e in made if e is not None and e.id in originals}
    return list(by_id.values())


def _check_same_texts(
    store: Store,
    task: str,
    name: str,
    originals: Mapping[str, Query],
    examples: Sequence[Example],
) -> None:
    by_number = {originals[example.id].number: example for example in examples}
    for row in read_perturbed_examples(store, task, name).to_dict("records"):
        example = by_number.get(row["example"])
        if example and (example.question, example.answer) != (row["question"], row["answer"]):
            raise JobError(
                f"the perturbation '{name}' of the problem '{example.id}' is in {store.path} with "
                "another text or answer; give this perturbation another name"
            )


def _kept_queries(
    store: Store, task: str, name: str, originals: Mapping[str, Query]
) -> list[Query]:
    """The queries under one perturbation, with the texts that the store has."""
    by_number = {query.number: query for query in originals.values()}
    found = []
    for row in read_perturbed_examples(store, task, name).to_dict("records"):
        if query := by_number.get(row["example"]):
            texts = {key: row[key] for key in ("question", "solution", "answer")}
            example = replace(query.example, **texts)
            found.append(replace(query, example=example, perturbation=name))
    return found
