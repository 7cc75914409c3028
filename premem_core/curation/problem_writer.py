r"""Seeds → new problems that a model wrote, each with what was checked of it.

A model writes a problem like its seed, with a solution. It is kept when it is unlike every training
and test problem and every other new one, and when most of several solutions that the model gives
without seeing the first come to the same answer. What is not kept is written anew, so many times.

All of it follows from the replies, and those are kept (`endpoint`): the same command goes on where
it was stopped, and in the end gives the same problems.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from premem_core.curation import collection_plan
from premem_core.curation.collection_plan import NewProblem
from premem_core.curation.model_endpoint import Endpoint, Reply, Request
from premem_core.curation.similar_questions import SIMILARITY, QuestionIndex
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.grading.grader import Grader
from premem_core.problems.final_answers import after_hashes, boxed
from premem_core.records import Grade

SOLVE = "Solve this problem step by step. {form}\n\nProblem: {question}"
BOXED = r"Put the final answer in \boxed{}."
# Each word stands first on its line, in whatever Markdown; possessive, for replies run on and on.
HEAD = re.compile(
    r"^[#*_> \t]*+(problem|solution)[*_ \t]*+:[*_ \t]*+", re.IGNORECASE | re.MULTILINE
)
STATED = re.compile(r"^[#*_> \t]*+(?:final[ \t]++)?answer[*_ \t]*+:", re.IGNORECASE | re.MULTILINE)
THOUGHTS = ("<think>", "</think>")  # around what a reasoning model says to itself
LONGEST = 20_000  # characters of a problem or a solution

Tell = Callable[[str], None]
Told = Callable[[int], None]  # so many are answered


@dataclass(frozen=True, slots=True)
class Checks:
    """What a new problem must pass.

    Attributes:
        solutions: so many independent ones are asked for.
        agreement: more than this share of them must come to the written solution's answer.
        attempts: a problem is written so often at most, until one passes.
        similarity: from here on two questions are alike (`Seen`).
    """

    solutions: int = 5
    agreement: float = 0.5
    attempts: int = 3
    similarity: float = SIMILARITY

    def __post_init__(self) -> None:
        if self.solutions < 1 or self.attempts < 1:
            raise UsageError("at least 1 independent solution and 1 attempt are needed")
        if not 0 <= self.agreement < 1:
            raise UsageError(f"the agreement is a share, from 0 to below 1, not {self.agreement}")


@dataclass(slots=True)
class WrittenProblem:
    """A new problem as its last attempt left it.

    Attributes:
        of: what was to be written.
        why_not: why it is not kept; empty: it is.
        attempt: which one this is, from 1.
        agree: so many of the independent solutions come to its answer.
        prompt_tokens, completion_tokens: of all that was asked for it, earlier attempts included.
        url: of the endpoint that wrote it.
    """

    of: NewProblem
    why_not: str = "not written"
    attempt: int = 0
    question: str = ""
    solution: str = ""
    answer: str = ""
    agree: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    url: str = ""

    def pay(self, replies: Iterable[Reply]) -> None:
        """Count what these replies cost."""
        for each in replies:
            self.prompt_tokens += each.prompt_tokens
            self.completion_tokens += each.completion_tokens


def write_problems(
    planned: Sequence[NewProblem],
    endpoint: Endpoint,
    grader: Grader,
    known: Sequence[tuple[str, str]],
    checks: Checks,
    tell: Tell,
) -> list[WrittenProblem]:
    """Have new problems written and checked.

    Args:
        planned: `collection.new_problems`.
        grader: finds the answers of solutions, and says whether two are the same.
        known: what each question that a new one must be unlike is called, and its text.
        tell: told, in words, how far it is.

    Raises:
        EndpointError: the endpoint does not answer. Called again, this goes on there.
        UsageError: a seed has no text.
    """
    if lacking := [each.seed for each in planned if not (each.question and each.solution)]:
        raise UsageError(
            f"the store has no text of '{lacking[0]}' to write a problem like; attach the problems "
            "with `import-published --train FILE`"
        )
    names, seen = [name for name, _ in known], QuestionIndex(checks.similarity)
    for number, (_, question) in enumerate(known):
        seen.add(number, question)
    problems = [WrittenProblem(each) for each in planned]
    for attempt in range(1, checks.attempts + 1):
        waiting = [each for each in problems if each.why_not]
        if not waiting:
            break
        told = f"attempt {attempt} of {checks.attempts}"
        _write(waiting, attempt, endpoint, _progress(tell, f"{told}: written", len(waiting)))
        _find_answers(waiting, grader)
        _compare(waiting, seen, names, QuestionIndex(checks.similarity))
        new = [each for each in waiting if not each.why_not]
        asked = len(new) * checks.solutions
        _solve(new, checks, endpoint, grader, _progress(tell, f"{told}: solutions", asked))
        for each in new:
            if not each.why_not:
                seen.add(len(names), each.question)
                names.append(f"new problem {each.of.id}")
        kept = sum(not each.why_not for each in problems)
        tell(f"{told}: {kept:,} of {len(problems):,} new problems are kept")
    return problems


def write_rows(problems: Sequence[WrittenProblem], model: str, checks: Checks, file: Path) -> None:
    """Write problems with where they come from. JSONL.

    Raises:
        UsageError: the file cannot be written.
    """
    with (
        write_whole(file) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="\n") as out,
    ):
        for each in problems:
            row = {
                "id": each.of.id,
                "question": each.question,
                "solution": each.solution,
                "answer": each.answer,
                "seed": each.of.seed,
                "model": model,
                "endpoint": each.url,
                "attempt": each.attempt,
                "agree": each.agree,
                "solutions": checks.solutions,
                "prompt_tokens": each.prompt_tokens,
                "completion_tokens": each.completion_tokens,
                **({"why_not": each.why_not} if each.why_not else {}),
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write(
    problems: Sequence[WrittenProblem], attempt: int, endpoint: Endpoint, told: Told
) -> None:
    """A question and a solution of each, or why there is none."""
    requests = [
        Request(collection_plan.ask(each.of.question, each.of.solution), f"{each.of.id} {attempt}")
        for each in problems
    ]
    for each, reply in zip(problems, endpoint.ask(requests, told), strict=True):
        each.pay([reply])
        each.attempt, each.agree, each.answer, each.url = attempt, 0, "", reply.url
        each.question, each.solution = _parts(_said(reply))
        if not (re.search(r"\w", each.question) and each.solution):
            each.why_not = "not in the form asked for"
        elif after_hashes(each.question) or boxed(each.question) or STATED.search(each.question):
            each.why_not = "its question states an answer"
        else:
            each.why_not = ""


def _said(reply: Reply) -> str:
    """A reply without what the model said to itself; empty where it came to no end of that."""
    opening, closing = THOUGHTS
    said = reply.content.rpartition(closing)[-1]
    return "" if opening in said else said


def _parts(text: str) -> tuple[str, str]:
    """The problem and the solution of a reply; empty where there is not one of each."""
    heads = list(HEAD.finditer(text))
    if [head[1].lower() for head in heads] != ["problem", "solution"]:
        return "", ""
    problem, solution = heads
    question, told = text[problem.end() : solution.start()].strip(), text[solution.end() :].strip()
    if len(question) > LONGEST or len(told) > LONGEST:
        return "", ""
    lines = told.splitlines()
    last = next((n for n, line in enumerate(lines) if after_hashes(line)), len(lines))
    return question, "\n".join(lines[: last + 1])  # what is said after the answer is not of it


def _find_answers(problems: Sequence[WrittenProblem], grader: Grader) -> None:
    """The answer that each written solution comes to."""
    readable = [each for each in problems if not each.why_not]
    solutions = [each.solution for each in readable]
    for each, found in zip(readable, grader.grade(solutions, solutions), strict=True):
        each.answer = found.extracted or ""
    own = grader.grade(solutions, [_reference(each, grader) for each in readable])
    for each, found in zip(readable, own, strict=True):
        if found.grade is not Grade.CORRECT:
            each.why_not = "its solution has no answer"


def _compare(
    problems: Sequence[WrittenProblem],
    seen: QuestionIndex,
    names: Sequence[str],
    together: QuestionIndex,
) -> None:
    """Which of them say what a known question says, or another of them, kept in `together`."""
    for number, each in enumerate(problems):
        if each.why_not:
            continue
        if found := seen.like(each.question):
            each.why_not = f"like another: {names[found[0]]} (similarity {found[1]:.2f})"
        elif found := together.like(each.question):
            other = problems[found[0]].of.id
            each.why_not = f"like another: new problem {other} (similarity {found[1]:.2f})"
        else:
            together.add(number, each.question)


def _solve(
    problems: Sequence[WrittenProblem],
    checks: Checks,
    endpoint: Endpoint,
    grader: Grader,
    told: Told,
) -> None:
    """How many independent solutions come to the written one's answer."""
    requests = [
        Request(_to_solve(each), f"{each.of.id} {each.attempt} solution {which}")
        for each in problems
        for which in range(checks.solutions)
    ]
    replies = endpoint.ask(requests, told)
    references = [_reference(each, grader) for each in problems for _ in range(checks.solutions)]
    grades = grader.grade([_said(each) for each in replies], references)
    for number, each in enumerate(problems):
        own = slice(number * checks.solutions, (number + 1) * checks.solutions)
        each.pay(replies[own])
        each.agree = sum(found.grade is Grade.CORRECT for found in grades[own])
        if each.agree <= checks.agreement * checks.solutions:
            each.why_not = "disputed"


def _to_solve(problem: WrittenProblem) -> str:
    form = BOXED if r"\boxed" in problem.of.solution else collection_plan.HASHES
    return SOLVE.replace("{form}", form).replace("{question}", problem.question)


def _reference(problem: WrittenProblem, grader: Grader) -> str:
    return problem.answer if grader.grades_against == "answer" else problem.solution


def _progress(tell: Tell, what: str, of: int) -> Told:
    """Says each tenth."""
    tenth = max(1, of // 10)

    def told(n: int) -> None:
        if n % tenth == 0 or n == of:
            tell(f"{what}: {n:,} of {of:,}")

    return told
