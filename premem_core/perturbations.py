"""A training query changed so that a solution known by heart no longer fits (METHOD, section 5)."""

from premem_core.errors import UsageError
from premem_core.types import Example, PromptTemplate

# The paper's: how the response is made to begin, put at the prompt's end.
PREFIXES = {"first": " First", "we-know-that": " We know that"}


def check(perturbation: str) -> None:
    """Refuse a perturbation that does not exist; "" is the query as it is.

    Raises:
        UsageError: there is no such perturbation.
    """
    if perturbation and perturbation not in PREFIXES:
        raise UsageError(
            f"perturbation '{perturbation}' is unknown; choose among: {', '.join(PREFIXES)}"
        )


def prompt(template: PromptTemplate, example: Example, perturbation: str = "") -> str:
    r"""The text that the model continues.

    >>> e = Example(id="1", question="2+2?", solution="4", answer="4")
    >>> prompt(PromptTemplate(), e, "we-know-that")
    '2+2?\nAnswer: We know that'
    """
    return template.fill(example)[0] + (PREFIXES[perturbation] if perturbation else "")
