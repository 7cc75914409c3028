r"""Problem writer: a model writes new problems like the seeds, and every problem is checked.

The model writes a problem like its seed, with a solution. Then it solves the problem several times
without seeing this solution. The problem is kept if it is not similar to a training problem, a test
problem or another new problem, and if most of these solutions have the same answer as the written
one. Otherwise it is written again, up to a number of attempts.

The result depends only on the model's replies, which are stored (`model_endpoint`). So a command
that was stopped can be given again: it continues where it stopped, and gives the same problems.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from premem_core.curation import collection_plan
from premem_core.curation.collection_plan import NewProblem
from premem_core.curation.similar_questions import SIMILARITY, QuestionIndex
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.grading.grader import Grader
from premem_core.model_endpoint import Endpoint, Reply, Request
from premem_core.problems.final_answers import after_hashes, boxed
from premem_core.records import Example, Grade

SOLVE = "Solve this problem step by step. {form}\n\nProblem: {question}"
BOXED = r"Put the final answer in \boxed{}."
# "Problem:" or "Solution:" at the start of a line, in any Markdown. The quantifiers are possessive,
# so that matching a long reply does not take exponential time.
HEAD = re.compile(
    r"^[#*_> \t]*+(problem|solution)[*_ \t]*+:[*_ \t]*+", re.IGNORECASE | re.MULTILINE
)
STATED_ANSWER = re.compile(
    r"^[#*_> \t]*+(?:final[ \t]++)?answer[*_ \t]*+:", re.IGNORECASE | re.MULTILINE
)
THOUGHTS = ("<think>", "</think>")  # a reasoning model puts its thoughts between these
LONGEST = 20_000  # characters of a problem or a solution

Say = Callable[[str], None]  # prints a line
OnProgress = Callable[[int], None]  # called with the number of replies so far


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks that a new problem must pass.

    Attributes:
        solutions: number of independent solutions.
        agreement: more than this share of them must have the written solution's answer.
        attempts: the largest number of attempts to write a problem that passes.
        similarity: two questions with at least this similarity are similar (`QuestionIndex`).
    """

    solutions: int = 5
    agreement: float = 0.5
    attempts: int = 3
    similarity: float = SIMILARITY

    def __post_init__(self) -> None:
        if self.solutions < 1 or self.attempts < 1:
            raise UsageError(
                f"at least 1 independent solution and 1 attempt are needed, not {self.solutions} "
                f"and {self.attempts}"
            )
        if not 0 <= self.agreement < 1:
            raise UsageError(
                f"the agreement is a share, so it must be at least 0 and below 1, not "
                f"{self.agreement}"
            )


@dataclass(slots=True)
class WrittenProblem:
    """A new problem after its last attempt.

    Attributes:
        plan: the problem that was to be written.
        why_not: why the problem is not kept; empty if it is kept.
        attempt: number of the last attempt, from 1.
        agree: how many of the independent solutions have its answer.
        prompt_tokens, completion_tokens: of all its requests, including earlier attempts.
        url: of the endpoint that wrote it.
    """

    plan: NewProblem
    why_not: str = "not written"
    attempt: int = 0
    question: str = ""
    solution: str = ""
    answer: str = ""
    agree: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    url: str = ""

    def add_tokens(self, replies: Iterable[Reply]) -> None:
        """Add the tokens of these replies."""
        for reply in replies:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens


def write_problems(
    planned: Sequence[NewProblem],
    endpoint: Endpoint,
    grader: Grader,
    known: Sequence[tuple[str, str]],
    checks: Checks,
    say: Say,
) -> list[WrittenProblem]:
    """Let the endpoint's model write and solve new problems, and check them.

    Args:
        planned: `collection_plan.new_problems`.
        grader: finds the answers of solutions, and says whether two answers are the same.
        known: names and questions of the problems to which a new one must not be similar.
        say: prints a line about the progress.

    Returns:
        One problem for each of `planned`, in the same order, kept or not.

    Raises:
        EndpointError: the endpoint does not answer. A second call continues there.
        UsageError: a seed has no text.
    """
    if without_text := [new.seed for new in planned if not (new.question and new.solution)]:
        raise UsageError(
            f"the store has no text of the problem '{without_text[0]}', which is needed to write a "
            "new one like it; attach the problems with `import-published --train FILE`"
        )
    names, index = [name for name, _ in known], QuestionIndex(checks.similarity)
    for number, (_, question) in enumerate(known):
        index.add(number, question)
    problems = [WrittenProblem(new) for new in planned]
    for attempt in range(1, checks.attempts + 1):
        rejected = [problem for problem in problems if problem.why_not]
        if not rejected:
            break
        label = f"attempt {attempt} of {checks.attempts}"
        _write(rejected, attempt, endpoint, _progress(say, f"{label}: written", len(rejected)))
        _find_answers(rejected, grader)
        _compare(rejected, index, names, QuestionIndex(checks.similarity))
        passed = [problem for problem in rejected if not problem.why_not]
        solutions = len(passed) * checks.solutions
        on_progress = _progress(say, f"{label}: solutions", solutions)
        _solve(passed, checks, endpoint, grader, on_progress)
        for problem in passed:
            if not problem.why_not:
                index.add(len(names), problem.question)
                names.append(f"new problem {problem.plan.id}")
        kept = sum(not problem.why_not for problem in problems)
        say(f"{label}: {kept:,} of {len(problems):,} new problems are kept")
    return problems


def write_rows(problems: Sequence[WrittenProblem], model: str, checks: Checks, file: Path) -> None:
    """Write problems as JSONL, one line per problem, with the model, tokens and results of checks.

    Raises:
        UsageError: the file cannot be written.
    """
    with (
        write_whole(file) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="\n") as out,
    ):
        for problem in problems:
            row = {
                "id": problem.plan.id,
                "question": problem.question,
                "solution": problem.solution,
                "answer": problem.answer,
                "seed": problem.plan.seed,
                "model": model,
                "endpoint": problem.url,
                "attempt": problem.attempt,
                "agree": problem.agree,
                "solutions": checks.solutions,
                "prompt_tokens": problem.prompt_tokens,
                "completion_tokens": problem.completion_tokens,
                **({"why_not": problem.why_not} if problem.why_not else {}),
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write(
    problems: Sequence[WrittenProblem],
    attempt: int,
    endpoint: Endpoint,
    on_progress: OnProgress,
) -> None:
    """Let the model write a question and a solution of each problem; set `why_not` if it fails."""
    requests = [
        Request(
            collection_plan.writing_prompt(problem.plan.question, problem.plan.solution),
            f"{problem.plan.id} {attempt}",
        )
        for problem in problems
    ]
    for problem, reply in zip(problems, endpoint.ask(requests, on_progress), strict=True):
        problem.add_tokens([reply])
        problem.attempt, problem.agree, problem.answer = attempt, 0, ""
        problem.url = reply.url
        problem.question, problem.solution = _split_reply(_without_thoughts(reply))
        if not (re.search(r"\w", problem.question) and problem.solution):
            problem.why_not = "not in the form asked for"
        elif _states_answer(problem.question):
            problem.why_not = "its question states an answer"
        else:
            problem.why_not = ""


def _states_answer(question: str) -> bool:
    return bool(after_hashes(question) or boxed(question) or STATED_ANSWER.search(question))


def _without_thoughts(reply: Reply) -> str:
    """The reply without the model's thoughts; empty if the thoughts do not end."""
    opening, closing = THOUGHTS
    text = reply.content.rpartition(closing)[-1]
    return "" if opening in text else text


def _split_reply(text: str) -> tuple[str, str]:
    """The problem and the solution of a reply; empty if it does not have exactly one of both."""
    heads = list(HEAD.finditer(text))
    if [head[1].lower() for head in heads] != ["problem", "solution"]:
        return "", ""
    problem, solution = heads
    question = text[problem.end() : solution.start()].strip()
    answer = text[solution.end() :].strip()
    if len(question) > LONGEST or len(answer) > LONGEST:
        return "", ""
    lines = answer.splitlines()
    last = next((n for n, line in enumerate(lines) if after_hashes(line)), len(lines))
    return question, "\n".join(lines[: last + 1])  # text after the final answer is dropped


def _find_answers(problems: Sequence[WrittenProblem], grader: Grader) -> None:
    """Set the final answer of each written solution, or `why_not` if it has none."""
    written = [problem for problem in problems if not problem.why_not]
    solutions = [problem.solution for problem in written]
    for problem, graded in zip(written, grader.grade(solutions, solutions), strict=True):
        problem.answer = graded.extracted or ""
    grades = grader.grade(solutions, [_reference(problem, grader) for problem in written])
    for problem, graded in zip(written, grades, strict=True):
        if graded.grade is not Grade.CORRECT:
            problem.why_not = "its solution has no answer"


def _compare(
    problems: Sequence[WrittenProblem],
    known: QuestionIndex,
    names: Sequence[str],
    new: QuestionIndex,
) -> None:
    """Set `why_not` of problems that are similar to a known question or to an earlier new one.

    Args:
        known: the known questions.
        names: of the known questions.
        new: an empty index, which gets the questions that are not similar to another.
    """
    for number, problem in enumerate(problems):
        if problem.why_not:
            continue
        if match := known.most_similar(problem.question):
            name = names[match[0]]
        elif match := new.most_similar(problem.question):
            name = f"new problem {problems[match[0]].plan.id}"
        else:
            new.add(number, problem.question)
            continue
        problem.why_not = f"like another: {name} (similarity {match[1]:.2f})"


def _solve(
    problems: Sequence[WrittenProblem],
    checks: Checks,
    endpoint: Endpoint,
    grader: Grader,
    on_progress: OnProgress,
) -> None:
    """Let the model solve the problems independently, and set `why_not` where too few agree."""
    requests = [
        Request(_solving_prompt(problem), f"{problem.plan.id} {problem.attempt} solution {number}")
        for problem in problems
        for number in range(checks.solutions)
    ]
    replies = endpoint.ask(requests, on_progress)
    references = [
        _reference(problem, grader) for problem in problems for _ in range(checks.solutions)
    ]
    grades = grader.grade([_without_thoughts(reply) for reply in replies], references)
    for number, problem in enumerate(problems):
        solutions = slice(number * checks.solutions, (number + 1) * checks.solutions)
        problem.add_tokens(replies[solutions])
        problem.agree = sum(graded.grade is Grade.CORRECT for graded in grades[solutions])
        if problem.agree <= checks.agreement * checks.solutions:
            problem.why_not = "disputed"


def _solving_prompt(problem: WrittenProblem) -> str:
    form = BOXED if r"\boxed" in problem.plan.solution else collection_plan.HASHES
    return SOLVE.replace("{form}", form).replace("{question}", problem.question)


def _reference(problem: WrittenProblem, grader: Grader) -> str:
    plan = problem.plan
    return grader.reference(Example(plan.id, problem.question, problem.solution, problem.answer))


def _progress(say: Say, label: str, total: int) -> OnProgress:
    """A function that prints a line at every tenth of the total."""
    tenth = max(1, total // 10)

    def on_progress(done: int) -> None:
        if done % tenth == 0 or done == total:
            say(f"{label}: {done:,} of {total:,}")

    return on_progress
