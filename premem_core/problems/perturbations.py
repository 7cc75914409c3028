"""Perturbations: training queries changed so that a memorized solution no longer fits.

See docs/method.md, section 5.
"""

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from premem_core.errors import UsageError
from premem_core.problems import rewording
from premem_core.problems.redrawing import draw_new_numbers
from premem_core.records import Example

# The paper's perturbations: a beginning of the response, which is added at the prompt's end.
PREFIXES = {"first": " First", "we-know-that": " We know that"}
USER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

Change = Callable[[Example, Collection[str], random.Random], Example | None]


def _question(change: Callable[[str, Collection[str], random.Random], str | None]) -> Change:
    def changed(example: Example, familiar: Collection[str], rng: random.Random) -> Example | None:
        question = change(example.question, familiar, rng)
        return None if question is None else replace(example, question=question)

    return changed


def _redrawn(example: Example, _: Collection[str], rng: random.Random) -> Example | None:
    redrawn = draw_new_numbers(example.question, example.solution, example.answer, rng)
    if redrawn is None:
        return None
    return with_answer(replace(example, question=redrawn.question), redrawn.answer)


def with_answer(example: Example, answer: str) -> Example:
    r"""The example with another final answer.

    Its solution becomes the answer alone, written as in the former solution: `\boxed{…}` or `####`.
    """
    end = rf"\boxed{{{answer}}}" if r"\boxed" in example.solution else f"#### {answer}"
    return replace(example, solution=end, answer=answer)


# Perturbations that change the question itself; "redraw" changes the answer too.
CHANGES: dict[str, Change] = {
    "rename": _question(rewording.rename_people),
    "swap": _question(rewording.swap_things),
    "reorder": _question(lambda question, _, rng: rewording.reorder_sentences(question, rng)),
    "insert": _question(lambda question, _, rng: rewording.insert_sentence(question, rng)),
    "redraw": _redrawn,
}
KINDS = {
    "first": "answer begins “First”",
    "we-know-that": "answer begins “We know that”",
    "rename": "other people",
    "swap": "other things or units",
    "reorder": "sentences in another order",
    "insert": "an irrelevant sentence",
    "redraw": "other numbers",
}


def perturbation_label(perturbation: str) -> str:
    """The label of a perturbation on pages; for a perturbation of the user, its name."""
    return KINDS.get(perturbation, perturbation)


def check_perturbation(perturbation: str, user_perturbations: Collection[str] = ()) -> None:
    """Check that a perturbation exists; "" is the unchanged query.

    Args:
        user_perturbations: names of perturbations that the user defines.

    Raises:
        UsageError: there is no such perturbation, or a name that the user gave is not allowed.
    """
    by_user = perturbation in user_perturbations
    if by_user and (perturbation in KINDS or not USER_NAME.fullmatch(perturbation)):
        raise UsageError(
            f"'{perturbation}' cannot be the name of a perturbation of your own; use lower-case "
            f"letters, digits and hyphens, and none of the names {', '.join(KINDS)}"
        )
    if perturbation and perturbation not in KINDS and not by_user:
        raise UsageError(
            f"perturbation '{perturbation}' is unknown; choose among: {', '.join(KINDS)}"
        )


def perturb(perturbation: str, examples: Sequence[Example], seed: int = 0) -> list[Example | None]:
    """The examples with perturbed questions; None where the perturbation does not apply.

    The result for an example depends on the seed, its id and its text. Where people or things are
    replaced, it also depends on the people and things in the other examples.
    """
    familiar = rewording.vocabulary(example.question for example in examples)
    change = CHANGES[perturbation]
    return [
        change(example, familiar, random.Random(f"{seed}/{perturbation}/{example.id}"))
        for example in examples
    ]
