"""One example's completions, graded by whose grades count, and what of them is copied."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from premem_core import regrading
from premem_core.store import Store
from premem_core.types import Grade

FEWEST_WORDS = 4  # in a row that make a copied passage


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text; `marked` where it is also in the text that it is held against."""

    text: str
    marked: bool


def completions(
    store: Store,
    run: str,
    split: str,
    example: int,
    perturbation: str = "",
    step: int | None = None,
    grades: Sequence[Path] | None = None,
) -> pd.DataFrame:
    """EXAMPLE_COMPLETION_COLUMNS of the store, grades in words; by checkpoint and sample.

    `grade` is the one that counts. Where it was set by hand, `override` and what follows say so.
    Without a row where the run's scores were imported.

    Args:
        grades: `regraded` of the run, where it is known.
    """
    found = regraded(store, run) if grades is None else grades
    if step is not None:
        found = [shard for shard in found if shard.name.startswith(f"{step:08d}.")]
    rows = store.example_completions(run, split, example, perturbation, step, found)
    return rows.assign(grade=[in_words(grade) for grade in rows["grade"]])


def regraded(store: Store, run: str) -> list[Path]:
    """The shards of another grader whose grades count for a run; none where its scorer's do."""
    if not store.other_graders(run):
        return []
    graders = regrading.read_graders(store, run)
    if graders.in_force == graders.original:
        return []
    return regrading.shards_in_force(store, graders)


def sampled_steps(counts: pd.DataFrame, example: int, perturbation: str = "") -> list[int]:
    """At which checkpoints completions of a training example were drawn.

    Args:
        counts: `Store.counts` of the run.
    """
    of = (counts["example"] == example) & (counts["perturbation"] == perturbation)
    drawn = counts[of & (counts["split"] == "train") & (counts["samples"] > 0)]
    return sorted(drawn["step"].tolist())


def graded(row: Mapping[Any, Any]) -> str:
    """A row's grade in words: 'correct', or 'incorrect (set by hand)'."""
    return f"{row['grade']}{' (set by hand)' if isinstance(row['reason'], str) else ''}"


def in_words(grade: int) -> str:
    """'correct', 'incorrect', 'unparsed' or 'timeout'."""
    return Grade(grade).name.lower()


def copied(completion: str, solution: str) -> tuple[Passage, ...]:
    """The completion in passages, marked where the solution says the same, word for word.

    >>> copied("So 3 and 4 make 7, done", "First: so 3 and 4 make 7!")
    (Passage(text='So 3 and 4 make 7', marked=True), Passage(text=', done', marked=False))
    """
    return matched(completion, solution, FEWEST_WORDS)


@lru_cache(maxsize=2048)  # a page asks again at every change of its threshold
def matched(text: str, other: str, fewest: int = 1) -> tuple[Passage, ...]:
    """A text in passages, marked where at least so many words in a row are in the other too."""
    ours, theirs = (_words(each) for each in (text, other))
    match = SequenceMatcher(
        None, [w.lower() for w, *_ in ours], [w.lower() for w, *_ in theirs], autojunk=False
    )
    passages, end = [], 0
    for block in match.get_matching_blocks():
        if block.size < fewest or not block.size:
            continue
        start, stop = ours[block.a][1], ours[block.a + block.size - 1][2]
        if start > end:
            passages.append(Passage(text[end:start], marked=False))
        passages.append(Passage(text[start:stop], marked=True))
        end = stop
    rest = [Passage(text[end:], marked=False)] if end < len(text) else []
    return (*passages, *rest)


@lru_cache(maxsize=2048)
def copied_share(passages: tuple[Passage, ...]) -> float:
    """The share of the words that are marked; 0 of no word."""
    words = [(len(_words(p.text)), p.marked) for p in passages]
    total = sum(n for n, _ in words)
    return sum(n for n, marked in words if marked) / total if total else 0.0


def _words(text: str) -> list[tuple[str, int, int]]:
    return [(m[0], m.start(), m.end()) for m in re.finditer(r"\w+|[^\w\s]", text)]
