"""A training query changed so that a solution known by heart no longer fits (METHOD, section 5)."""

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from premem_core.errors import UsageError
from premem_core.problems import rewording
from premem_core.problems.prompts import PromptTemplate
from premem_core.problems.redrawing import draw_new_numbers
from premem_core.records import Example

# The paper's: how the response is made to begin, put at the prompt's end.
PREFIXES = {"first": " First", "we-know-that": " We know that"}
OWN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

Change = Callable[[Example, Collection[str], random.Random], Example | None]


def _question(change: Callable[[str, Collection[str], random.Random], str | None]) -> Change:
    def changed(example: Example, familiar: Collection[str], rng: random.Random) -> Example | None:
        question = change(example.question, familiar, rng)
        return None if question is None else replace(example, question=question)

    return changed


def _redrawn(example: Example, _: Collection[str], rng: random.Random) -> Example | None:
    found = draw_new_numbers(example.question, example.solution, example.answer, rng)
    if found is None:
        return None
    return with_answer(replace(example, question=found.question), found.answer)


def with_answer(example: Example, answer: str) -> Example:
    """The example with another final answer, in a solution that states it as the former one did."""
    end = rf"\boxed{{{answer}}}" if r"\boxed" in example.solution else f"#### {answer}"
    return replace(example, solution=end, answer=answer)


# The query itself, told differently; redraw changes the answer too.
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
    """What a perturbation is called on pages; one of the user's own by its name."""
    return KINDS.get(perturbation, perturbation)


def check_perturbation(perturbation: str, own: Collection[str] = ()) -> None:
    """Refuse a perturbation that does not exist; "" is the query as it is.

    Args:
        own: names of the user's own.

    Raises:
        UsageError: there is no such perturbation, or an own one has a name that cannot be one.
    """
    if perturbation in own and (perturbation in KINDS or not OWN_NAME.fullmatch(perturbation)):
        raise UsageError(
            f"'{perturbation}' cannot be the name of a perturbation of your own; give it one of "
            f"small letters, digits and hyphens, other than {', '.join(KINDS)}"
        )
    if perturbation and perturbation not in KINDS and perturbation not in own:
        raise UsageError(
            f"perturbation '{perturbation}' is unknown; choose among: {', '.join(KINDS)}"
        )


def perturb(perturbation: str, examples: Sequence[Example], seed: int = 0) -> list[Example | None]:
    """The examples under a perturbation of the query; None where it does not apply.

    What becomes of an example hangs on the seed, its id and its text, and, where people or things
    are named, on which of them the other examples name.
    """
    familiar = rewording.vocabulary(example.question for example in examples)
    change = CHANGES[perturbation]
    return [
        change(example, familiar, random.Random(f"{seed}/{perturbation}/{example.id}"))
        for example in examples
    ]


def perturbed_prompt(template: PromptTemplate, example: Example, perturbation: str = "") -> str:
    r"""The text that the model continues.

    >>> e = Example(id="1", question="2+2?", solution="4", answer="4")
    >>> perturbed_prompt(PromptTemplate(), e, "we-know-that")
    '2+2?\nAnswer: We know that'
    """
    return template.fill(example)[0] + PREFIXES.get(perturbation, "")
