"""The graders by name: those that Premem brings, those of installed packages, and a user's own."""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from premem_core.errors import UsageError
from premem_core.grading import permissions
from premem_core.grading.built_in import file_grader
from premem_core.grading.built_in.choice_grader import ChoiceGrader
from premem_core.grading.built_in.code_grader import CodeGrader
from premem_core.grading.built_in.exact_grader import ExactGrader
from premem_core.grading.built_in.gsm8k_grader import Gsm8kGrader
from premem_core.grading.built_in.json_grader import JsonGrader
from premem_core.grading.built_in.judge_grader import JudgeGrader
from premem_core.grading.built_in.math_grader import MathGrader
from premem_core.grading.built_in.number_grader import NumberGrader
from premem_core.grading.built_in.paper_grader import PaperGrader
from premem_core.grading.grader import Grader
from premem_core.grading.grader_texts import parse_grader, write_grader
from premem_core.problems.fields import AnswerRule
from premem_core.problems.thinking import ThinkingMarks

GROUP = "premem.graders"  # of entry points: each makes a grader from its settings

# Anyone may choose one of these, on a page too: they need no settings and no permission.
GRADERS = ("gsm8k", "math", "paper", "choice", "exact", "number", "json", "code")

_MAKERS: dict[str, Callable[..., Grader]] = {
    "gsm8k": Gsm8kGrader,
    "math": MathGrader,
    "paper": PaperGrader,
    "choice": ChoiceGrader,
    "exact": ExactGrader,
    "number": NumberGrader,
    "json": JsonGrader,
    "code": CodeGrader,
    "judge": JudgeGrader,
    "file": file_grader.FileGrader,
}
# These run a user's code, or send a user's key to an address that the text names.
_NEED_PERMISSION = ("judge", "file")


def make_grader(text: str, *, allow_code: bool = False) -> Grader:
    """A new grader.

    Args:
        text: its name and settings, as `grader_texts` describes them.
        allow_code: whether the text comes from the person who runs this process, by a command.
            Then the grader may run a function of the person's file, or send the person's key to an
            endpoint, and that is remembered: a job may make the same grader without being asked.

    Raises:
        UsageError: there is no such grader or setting, the grader needs a permission that it does
            not have, or this machine cannot run it safely.
    """
    name, settings = parse_grader(text)
    maker = _maker(name)
    arguments = _arguments(name, maker, settings)
    if name in _NEED_PERMISSION and not allow_code and not permissions.is_allowed(text):
        raise UsageError(
            f"the grader {name!r} runs code or sends a key, so only the command line may choose "
            f"it; give `premem grade --grader '{text}'` once as the user who runs this, or choose "
            f"another grader"
        )
    grader = maker(**arguments)
    if "rule" in settings:
        grader.rule = _rule(settings["rule"])
    if "marks" in settings:
        grader.marks = ThinkingMarks.parse(settings["marks"])
    if name in _NEED_PERMISSION and allow_code:
        permissions.allow(canonical_grader(text))
    return grader


def check_grader(text: str) -> None:
    """Check that there is such a grader and that it has these settings, without making it.

    Raises:
        UsageError: there is not.
    """
    name, settings = parse_grader(text)
    _arguments(name, _maker(name), settings)


def canonical_grader(text: str) -> str:
    """The text that stands for this grader in stores and jobs.

    A user's file is named by its whole path and its hash, so that a job never runs another one.

    Raises:
        UsageError: there is no such grader or setting, or no such file.
    """
    name, settings = parse_grader(text)
    check_grader(text)
    if name == "file":
        settings |= file_grader.identify(settings.get("path", ""), settings.get("sha256"))
    return write_grader(name, settings)


def describe_graders() -> dict[str, str]:
    """What each grader does, by name, and its settings; also those of installed packages."""
    found = {}
    for name, maker in _MAKERS.items():
        about = (inspect.getdoc(maker) or "").partition("\n")[0]
        settings = ", ".join(_parameters(maker))
        found[name] = f"{about} Settings: {settings}." if settings else about
    packages = {point.name: f"From {point.value}." for point in _entry_points().values()}
    return packages | found


def _maker(name: str) -> Callable[..., Grader]:
    if name in _MAKERS:
        return _MAKERS[name]
    points = _entry_points()
    if name not in points:
        raise UsageError(
            f"There is no grader {name!r}; choose one of {', '.join([*_MAKERS, *points])}, or "
            "FILE.py:function."
        )
    try:
        return points[name].load()
    except Exception as error:  # whatever the package raises
        raise UsageError(
            f"the grader {name!r} of {points[name].value} cannot be loaded ({error!r}); reinstall "
            "that package, or choose another grader"
        ) from error


def _entry_points() -> dict[str, EntryPoint]:
    points = entry_points(group=GROUP)
    return {point.name: point for point in points if point.name not in _MAKERS}


def _arguments(
    name: str, maker: Callable[..., Grader], settings: Mapping[str, str]
) -> dict[str, Any]:
    """The settings as the grader's arguments, with the types that it declares."""
    own = {n: text for n, text in settings.items() if n not in ("rule", "marks")}
    known = _parameters(maker)
    for setting in own:
        if setting not in known:
            raise UsageError(
                f"the grader {name!r} has no setting {setting!r}; it has "
                f"{', '.join([*known, 'rule', 'marks'])}"
            )
    missing = [n for n, p in known.items() if p.default is p.empty and n not in own]
    if missing:
        raise UsageError(
            f"the grader {name!r} needs the setting {missing[0]!r}; write it as "
            f"{name}?{'&'.join(f'{n}=…' for n in missing)}"
        )
    if "rule" in settings:
        _rule(settings["rule"])
    if "marks" in settings:
        ThinkingMarks.parse(settings["marks"])
    return {n: _converted(name, n, text, known[n].annotation) for n, text in own.items()}


def _parameters(maker: Callable[..., Grader]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker, include_extras=True)
    parameters = inspect.signature(maker).parameters.values()
    return {p.name: p.replace(annotation=hints.get(p.name, str)) for p in parameters}


def _converted(grader: str, setting: str, text: str, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UsageError(
            f"the setting {setting!r} of the grader {grader!r} cannot be {text!r} ({reason}); "
            "correct it"
        ) from None


def _rule(text: str) -> AnswerRule:
    rule = AnswerRule.parse(text)
    if rule.kind == "field":
        raise UsageError(
            f"the rule {text!r} is about a column, and a completion has none; give a grader "
            "hash, boxed or regex:PATTERN"
        )
    return rule
