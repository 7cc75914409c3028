r"""The grader `math`: answers compared by math-verify, in worker processes that can be killed.

An answer from MATH's train set: `… so the domain is $\boxed{(-\infty,2)\cup(2,\infty)}$.`
math-verify has time limits, but it reports an answer that exceeds them as "not equal", and they do
not interrupt long integer arithmetic. Here the worker is killed instead, and the grade is TIMEOUT.
"""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as PairTimeout
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from premem_core.grading.grader import UNPARSED, AtOnce, Grader, Seconds
from premem_core.problems.final_answers import (
    after_answer_is,
    after_hashes,
    boxed_lists,
    plain_digits,
    unwrapped,
)
from premem_core.records import Grade, Graded

_CHUNK = 32
_CACHE_LIMIT = 200_000
_WORKER_MEMORY = 4 * 2**30

_Pair = tuple[str, str]  # gold first: math-verify's comparison is not symmetric


class MathGrader(Grader):
    r"""Symbolic equivalence: `\frac12` and `0.5`, sets in any order, intervals, matrices, units.

    The answer is the last `\boxed{…}`, or else the text after "The answer is" or "Answer:", or else
    the text after `####`. Boxes with only a comma or "and" between them are one answer. A
    completion without any of these is UNPARSED. A pair that takes more than `timeout` seconds, or
    more memory than a worker has, is a TIMEOUT.

    Workers are spawned on first use, so a script that grades needs the usual
    `if __name__ == "__main__"`.
    """

    name = "math"

    def __init__(self, *, timeout: Seconds = 5.0, workers: AtOnce | None = None) -> None:
        self._timeout = timeout
        self._workers = workers or min(8, os.cpu_count() or 1)
        self._pool: ProcessPool | None = None
        self._grades: dict[_Pair, Grade] = {}

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is an answer or a whole solution."""
        answers = [next(iter(self.answers(completion)), None) for completion in completions]
        golds = [next(iter(self.answers(r)), plain_digits(unwrapped(r))) for r in references]
        pairs = list(zip(golds, answers, strict=True))
        grades = self._pair_grades({(gold, answer) for gold, answer in pairs if answer is not None})
        return [
            UNPARSED if answer is None else Graded(grades[gold, answer], answer)
            for gold, answer in pairs
        ]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`: one answer or none."""
        answer = final_answer(text)
        return [] if answer is None else [answer]

    def close(self) -> None:
        """Kill the workers; a later `grade` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _pair_grades(self, pairs: set[_Pair]) -> dict[_Pair, Grade]:
        """The grades of pairs, from the cache or from the workers."""
        grades = {pair: self._grades[pair] for pair in pairs & self._grades.keys()}
        grades |= {pair: Grade.CORRECT for pair in pairs if pair[0] == pair[1]}
        grades |= self._verified(sorted(pairs - grades.keys()), _CHUNK)
        if len(self._grades) > _CACHE_LIMIT:
            self._grades.clear()
        self._grades |= grades
        return grades

    def _verified(self, pairs: list[_Pair], chunk_size: int) -> dict[_Pair, Grade]:
        """The grades of pairs, from the workers; a worker gets `chunk_size` pairs at a time."""
        verified: dict[_Pair, Grade] = {}
        ungraded = []
        chunks = [pairs[i : i + chunk_size] for i in range(0, len(pairs), chunk_size)]
        for chunk, grades in self._graded_chunks(chunks):
            if grades is not None:
                verified |= dict(zip(chunk, grades, strict=True))
            elif len(chunk) == 1:
                verified[chunk[0]] = Grade.TIMEOUT
            else:
                ungraded += chunk
        # A pair that hangs leaves its whole chunk without grades, so each is tried alone.
        return verified | self._verified(ungraded, 1) if ungraded else verified

    def _graded_chunks(
        self, chunks: list[list[_Pair]]
    ) -> Iterator[tuple[list[_Pair], list[Grade] | None]]:
        """Yield each chunk with its grades, or with None if its worker was killed or died."""
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
            # Spawned and not forked, because this process may use CUDA and threads.
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
    text = plain_digits(text)
    if boxes := boxed_lists(text):
        return boxes[-1]
    if sentences := after_answer_is(text):
        return sentences[-1]
    # The first ####, because a completion that does not stop goes on with another question.
    return next(map(unwrapped, after_hashes(text)), "") or None


def _prepare_worker() -> None:
    """Import math-verify and limit the memory, once per worker and outside the pairs' time."""
    # math-verify warns that its time limits are off; this grader has other ones.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    _grade_pair(r"\frac{1}{2}", "0.5")
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, FileNotFoundError):  # only Linux enforces such a limit
        return
    # The limit is added to the address space in use, since libraries reserve more with more cores.
    soft = pages * resource.getpagesize() + _WORKER_MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _grade_pairs(pairs: list[_Pair], timeout: float) -> list[Grade]:
    # The parent process kills a worker that hangs. If the parent was killed, the alarm does.
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
            # math-verify may read an answer in several ways. One of them failed; without
            # `raise_on_error` it compares the others.
            equal = verify(*parsed, timeout_seconds=None)
    except MemoryError:
        return Grade.TIMEOUT
    except Exception:  # an answer that cannot be read or compared is not the reference
        return Grade.INCORRECT
    return Grade.CORRECT if equal else Grade.INCORRECT


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Only LaTeX in a box: math-verify's other extractors would take any number in the text.
    return parse(
        f"\\boxed{{{answer}}}",
        [LatexExtractionConfig(boxed_match_priority=0)],
        parsing_timeout=None,
        raise_on_error=True,
    )
