r"""Grades answers to mathematics problems with math-verify, in worker processes that can be killed.

An answer from MATH's train set: `… so the domain is $\boxed{(-\infty,2)\cup(2,\infty)}$.`
math-verify's own time limits turn a hang into a silent "not equal", and do not interrupt long
integer arithmetic; here the worker is killed instead and the pair recorded as TIMEOUT.
"""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as PairTimeout
from functools import lru_cache
from multiprocessing import get_context
from typing import Any, Literal

import psutil
from pebble import ProcessExpired, ProcessPool

from premem_core.grading.grader import Grader
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed, unwrapped
from premem_core.records import Grade, Graded

_CHUNK = 32
_CACHE_LIMIT = 200_000
_WORKER_MEMORY = 4 * 2**30

_Pair = tuple[str, str]  # gold first: math-verify's comparison is not symmetric


class MathGrader(Grader):
    r"""Symbolic equivalence: `\frac12` and `0.5`, sets in any order, intervals, matrices, units.

    The answer is the last `\boxed{…}`, else what follows "The answer is", else what follows
    `####`; a completion without any of them is UNPARSED. TIMEOUT: the pair was not settled
    within `timeout` seconds, or within a worker's memory.

    Workers are started on first use by spawning, so a script that grades needs the usual
    `if __name__ == "__main__"`.
    """

    name = "math"
    grades_against: Literal["answer", "solution"] = "answer"

    def __init__(self, *, timeout: float = 5.0, workers: int | None = None) -> None:
        self._timeout = timeout
        self._workers = workers or min(8, os.cpu_count() or 1)
        self._pool: ProcessPool | None = None
        self._grades: dict[_Pair, Grade] = {}

    def grade(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """See `Grader.grade`; a reference is a bare answer or a whole solution."""
        answers = [final_answer(completion) for completion in completions]
        golds = [final_answer(reference) or unwrapped(reference) for reference in references]
        pairs = list(zip(golds, answers, strict=True))
        grades = self._settle({(gold, answer) for gold, answer in pairs if answer is not None})
        return [
            Graded(Grade.UNPARSED, None) if answer is None else Graded(grades[gold, answer], answer)
            for gold, answer in pairs
        ]

    def close(self) -> None:
        """Kill the workers; a later `grade` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _settle(self, pairs: set[_Pair]) -> dict[_Pair, Grade]:
        settled = {pair: self._grades[pair] for pair in pairs & self._grades.keys()}
        settled |= {pair: Grade.CORRECT for pair in pairs if pair[0] == pair[1]}
        settled |= self._verified(sorted(pairs - settled.keys()), _CHUNK)
        if len(self._grades) > _CACHE_LIMIT:
            self._grades.clear()
        self._grades |= settled
        return settled

    def _verified(self, pairs: list[_Pair], chunk_size: int) -> dict[_Pair, Grade]:
        verified: dict[_Pair, Grade] = {}
        unsettled = []
        chunks = [pairs[i : i + chunk_size] for i in range(0, len(pairs), chunk_size)]
        for chunk, grades in self._graded_chunks(chunks):
            if grades is not None:
                verified |= dict(zip(chunk, grades, strict=True))
            elif len(chunk) == 1:
                verified[chunk[0]] = Grade.TIMEOUT
            else:
                unsettled += chunk
        # One hung pair takes its chunk with it; alone, it takes only itself.
        return verified | self._verified(unsettled, 1) if unsettled else verified

    def _graded_chunks(
        self, chunks: list[list[_Pair]]
    ) -> Iterator[tuple[list[_Pair], list[Grade] | None]]:
        """Each chunk with its grades; None when its worker had to be killed, or died."""
        scheduled = [
            (
                chunk,
                self._started_pool().schedule(
                    _grade_pairs, [chunk, self._timeout], timeout=self._timeout
                ),
            )
            for chunk in chunks
        ]
        for chunk, future in scheduled:
            try:
                yield chunk, future.result()
            except (PairTimeout, ProcessExpired):
                yield chunk, None

    def _started_pool(self) -> ProcessPool:
        if self._pool is None:
            # Spawned, not forked: the parent may hold CUDA and threads.
            self._pool = ProcessPool(
                max_workers=self._workers,
                initializer=_prepare_worker,
                context=get_context("spawn"),
            )
        return self._pool


def final_answer(text: str) -> str | None:
    r"""The final answer that a text states, or None.

    >>> final_answer(r"So $x=\boxed{5}$."), final_answer("We get 5 and then 6.")
    ('5', None)
    """
    if boxes := boxed(text):
        return boxes[-1]
    if sentences := after_answer_is(text):
        return sentences[-1]
    # The first: a completion that runs on past its answer goes to another question.
    return next(map(unwrapped, after_hashes(text)), "") or None


def _prepare_worker() -> None:
    """Import and limit once per worker, so that no pair's time is spent on it."""
    # It warns that its own time limits are off; ours replace them.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    _grade_pair(r"\frac{1}{2}", "0.5")
    try:
        import resource
    except ImportError:  # not on Windows
        return
    # On top of what is mapped already: libraries reserve address space by the number of cores.
    soft = psutil.Process().memory_info().vms + _WORKER_MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _grade_pairs(pairs: list[_Pair], timeout: float) -> list[Grade]:
    # The parent kills a hung worker; the kernel does it where the parent itself was killed.
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows
    alarm(int(timeout) + 10)
    try:
        return [_grade_pair(gold, answer) for gold, answer in pairs]
    finally:
        alarm(0)


def _grade_pair(gold: str, answer: str) -> Grade:
    from math_verify import verify

    try:
        parsed = _parsed(gold), _parsed(answer)
        try:
            equal = verify(*parsed, timeout_seconds=None, raise_on_error=True)
        except MemoryError:
            raise
        except Exception:
            # One reading of the answer cannot be compared; another one still may be.
            equal = verify(*parsed, timeout_seconds=None)
    except MemoryError:
        return Grade.TIMEOUT
    except Exception:  # whatever sympy makes of junk, it is not this answer
        return Grade.INCORRECT
    return Grade.CORRECT if equal else Grade.INCORRECT


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # In a box and LaTeX only: math-verify's other extractors settle for any number in the text.
    return parse(
        f"\\boxed{{{answer}}}",
        [LatexExtractionConfig(boxed_match_priority=0)],
        parsing_timeout=None,
        raise_on_error=True,
    )
