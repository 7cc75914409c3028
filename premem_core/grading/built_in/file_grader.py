'''The grader `file`: a function of the user's, in a file of the user's.

    def grade(completion: str, reference: str) -> bool | None:
        """True: correct. False: incorrect. None: the completion has no answer."""
        answer = completion.rpartition("=>")[2].strip()
        return answer == reference if answer else None

On the command line it is `--grader mine.py:grade`. A store and a job name it by the file's whole
path and its hash.
'''

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from premem_core.errors import UsageError
from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.records import Example, Graded

_EXAMPLE = "premem_example"  # the key under which a reference holds a whole example
_LONGEST_SHOWN = 200  # characters of a completion that a warning repeats


class FileGrader(Grader):
    """A function of the user's file: True is correct, False incorrect, None unparsed.

    The function gets the completion without its thinking trace, and the final answer of the
    example. If it takes a keyword `example`, it also gets the `Example`, or None where there is
    only a reference (`premem grade`). It runs in this process. If it raises an error or returns
    something else, the completion is UNPARSED, and the first such completion is reported as a
    warning. A rule, if there is one, finds what the function gets of the completion.

    Args:
        path, function: the file, and the function's name in it.
        sha256: the file's hash; None to take the file as it is now.

    Raises:
        UsageError: there is no such file or function, the file has another hash, or running it
            fails.
    """

    name = "file"

    def __init__(self, *, path: str, function: str, sha256: str | None = None) -> None:
        source = _read(path, sha256)
        self._label = f"{path}:{function}"
        self._function = _load(Path(path), source, function)
        self._takes_example = "example" in inspect.signature(self._function).parameters
        self._warned = False

    def reference(self, example: Example) -> str:
        """The final answer; the whole example as JSON if the function takes an example."""
        if not self._takes_example:
            return example.answer
        return json.dumps({_EXAMPLE: {**asdict(example), "metadata": dict(example.metadata)}})

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`, by the user's function."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def _grade(self, completion: str, reference: str) -> Graded:
        found = next(iter(self.answers(completion)), completion)
        answer, example = _read_reference(reference) if self._takes_example else (reference, None)
        more = {"example": example} if self._takes_example else {}
        try:
            result = self._function(found, answer, **more)
            known = result is None or result in (True, False)
        except Exception as error:  # whatever the user's function raises
            return self._without_grade(completion, f"raises {error!r}")
        if not known:
            return self._without_grade(completion, f"returns {result!r}, not True, False or None")
        return UNPARSED if result is None else compared(bool(result), found)

    def _without_grade(self, completion: str, what: str) -> Graded:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._label} {what} for the completion {completion[:_LONGEST_SHOWN]!r}; it "
                "counts as unparsed, as do all others for which this happens",
                stacklevel=2,
            )
        return UNPARSED


def _read_reference(reference: str) -> tuple[str, Example | None]:
    try:
        example = Example(**json.loads(reference)[_EXAMPLE])
    except (ValueError, TypeError, KeyError, RecursionError):
        return reference, None
    return example.answer, example


def identify(path: str, sha256: str | None) -> dict[str, str]:
    """The settings path and sha256 that stand for the file in stores and jobs.

    Args:
        sha256: the hash that the file must have; None to take the file as it is now.

    Raises:
        UsageError: there is no such file.
    """
    whole = str(Path(path).expanduser().resolve())
    return {"path": whole, "sha256": sha256 or hashlib.sha256(_read(whole, None)).hexdigest()}


def _read(path: str, sha256: str | None) -> bytes:
    try:
        source = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the grader's file {path} cannot be read ({error}); check it") from error
    if sha256 is not None and hashlib.sha256(source).hexdigest() != sha256:
        raise UsageError(
            f"the grader's file {path} has changed since this grader was chosen; restore it, or "
            f"grade again with --grader {path}:FUNCTION, which is then another grader"
        )
    return source


def _load(path: Path, source: bytes, function: str) -> Callable[..., Any]:
    """The function, from exactly the source that was hashed."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise UsageError(
            f"the grader's file {path} cannot be run ({error!r}); correct it"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise UsageError(f"the grader's file {path} has no function {function!r}; check its name")
    try:
        parameters = inspect.signature(found).parameters
        inspect.signature(found).bind(
            "", "", **({"example": None} if "example" in parameters else {})
        )
    except TypeError as error:
        raise UsageError(
            f"the function {function!r} of {path} must take two texts, completion and reference "
            f"({error}); correct it"
        ) from error
    return found
