r"""The grader `code`: a completion's Python program, run together with the tests of its example.

A completion: "```python\ndef add(a, b):\n    return a + b\n```"; a test: `assert add(1, 2) == 3`.
"""

import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from premem_core.errors import UsageError
from premem_core.grading.built_in import sandbox
from premem_core.grading.grader import UNPARSED, AtOnce, Grader, Seconds
from premem_core.records import Example, Grade, Graded

_FENCE = re.compile(
    r"^[ \t]*(`{3,}+|~{3,}+)[ \t]*+([\w+.-]*+)[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = ("", "python", "py", "python3")
_CHECK = re.compile(r"^def check\((\w+)\)", re.MULTILINE)
_CALL = re.compile(r"^check\(", re.MULTILINE)
_LONGEST = 200_000  # characters of a program and of its tests
_MOST_MEMORY = 2**20  # megabytes
_CACHE_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class _Tests:
    tests: str
    entry_point: str = ""
    question: str = ""  # put before a completion that is no Python without it, as in HumanEval


class CodeGrader(Grader):
    """A program passes its tests in a sandbox: no network, one folder, little memory, little time.

    The program is the completion's last fenced block, or the whole completion where it has none.
    The tests are the example's answer: statements with `assert`, a JSON list of them, or
    HumanEval's `def check(candidate)`, which is called with the function that the column
    `entry_point` names, or else with the last one that the program defines. A program that stops
    before its tests is INCORRECT; one that runs out of time or memory is a TIMEOUT; a text without
    a fenced block that is no Python is UNPARSED.

    Args:
        timeout: seconds that a program and its tests may take.
        memory: megabytes that each of its processes may use.
        workers: number of programs that run at a time; None for one for each core.

    Raises:
        UsageError: this machine cannot isolate a program.
    """

    name = "code"
    checked = 20

    def __init__(
        self, *, timeout: Seconds = 10.0, memory: int = 1024, workers: AtOnce | None = None
    ) -> None:
        if not (timeout > 0 and 64 <= memory <= _MOST_MEMORY):
            raise UsageError(
                f"a program needs more than 0 seconds and 64 to {_MOST_MEMORY} megabytes, not "
                f"timeout={timeout:g} and memory={memory}; correct the grader's settings"
            )
        if missing := sandbox.protection():
            raise UsageError(f"the grader 'code' cannot run programs safely here: {missing}")
        self._limits = sandbox.Limits(timeout, memory * 2**20)
        self._workers = workers or min(8, os.cpu_count() or 1)
        self._grades: dict[tuple[str, bool, _Tests], Graded] = {}

    def reference(self, example: Example) -> str:
        """The tests, as JSON with what else running them needs."""
        entry_point = example.metadata.get("entry_point")
        reference = {
            "tests": example.answer,
            "entry_point": entry_point if isinstance(entry_point, str) else "",
            "question": example.question,
        }
        return json.dumps(reference, ensure_ascii=False)

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is what `reference` gives, or the tests alone."""
        asked = [
            (*self._program(completion), _read(reference))
            for completion, reference in zip(completions, references, strict=True)
        ]
        missing = [key for key in dict.fromkeys(asked) if key not in self._grades]
        if len(self._grades) > _CACHE_LIMIT:
            self._grades.clear()
            missing = list(dict.fromkeys(asked))
        with ThreadPoolExecutor(self._workers) as pool:
            results = pool.map(lambda key: self._grade(*key), missing)
            self._grades |= dict(zip(missing, results, strict=True))
        return [self._grades[key] for key in asked]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`: the last fenced block of Python, or none."""
        blocks = [match[3] for match in _FENCE.finditer(text) if match[2].lower() in _PYTHON]
        return blocks[-1:]

    def _program(self, completion: str) -> tuple[str, bool]:
        """The program in a completion, and whether something marks it as one."""
        marked = next(iter(self.answers(completion)), None)
        return (completion, False) if marked is None else (marked, True)

    def _grade(self, code: str, marked: bool, tests: _Tests) -> Graded:
        if not code.strip() or len(code) > _LONGEST:
            return UNPARSED
        prefixes = [tests.question, tests.question + "\n"] if tests.question else []
        outcome = sandbox.run_python(code, _calls(tests), self._limits, prefixes)
        if outcome == "syntax" and not marked:
            return UNPARSED
        grades = {"passed": Grade.CORRECT, "limit": Grade.TIMEOUT}
        return Graded(grades.get(outcome, Grade.INCORRECT), code)


def _read(reference: str) -> _Tests:
    try:
        content = json.loads(reference)
        tests = _Tests(str(content["tests"]), content["entry_point"], content["question"])
    except (ValueError, TypeError, KeyError, RecursionError):
        tests = _Tests(reference)
    return _Tests(_statements(tests.tests)[:_LONGEST], tests.entry_point, tests.question)


def _statements(tests: str) -> str:
    """The tests as statements; MBPP has them as a list."""
    try:
        content = json.loads(tests)
    except (ValueError, RecursionError):
        return tests
    return "\n".join(map(str, content)) if isinstance(content, list) else tests


def _calls(tests: _Tests) -> str:
    """The tests, with a call of HumanEval's `check` where they only define it."""
    if not _CHECK.search(tests.tests) or _CALL.search(tests.tests):
        return tests.tests
    candidate = tests.entry_point if tests.entry_point.isidentifier() else _LAST_FUNCTION
    return f"{tests.tests}\n\ncheck({candidate})\n"


_LAST_FUNCTION = (
    "[f for n, f in list(globals().items()) if n != 'check' and type(f).__name__ == 'function'][-1]"
)
