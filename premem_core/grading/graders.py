"""The graders by name."""

from collections.abc import Callable

from premem_core.errors import UsageError
from premem_core.grading.grader import Grader
from premem_core.grading.gsm8k_grader import Gsm8kGrader
from premem_core.grading.math_grader import MathGrader
from premem_core.grading.paper_grader import PaperGrader

_MAKERS: dict[str, Callable[[], Grader]] = {
    "gsm8k": Gsm8kGrader,
    "math": MathGrader,
    "paper": PaperGrader,
}
GRADERS = tuple(_MAKERS)


def make_grader(name: str) -> Grader:
    """A new grader with this name.

    Raises:
        UsageError: there is no such grader.
    """
    try:
        return _MAKERS[name]()
    except KeyError:
        raise UsageError(
            f"There is no grader {name!r}; choose one of {', '.join(GRADERS)}."
        ) from None
