"""One checkpoint: traces of completions, where a perturbation begins them or their answers."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from premem_core.grading.graders import make_grader
from premem_core.models.backend import TokenScores
from premem_core.problems.prompts import ChatTemplate
from premem_core.records import Completion, Example, Grade, Sampling
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.scoring.work_left import find_work_left
from premem_core.store.database import Store
from premem_core.store.scores import read_counts
from premem_core.store.shards import ShardWriter, find_shards
from tests.helpers.chat_templates import CHATML, THINKING, chat_tokenizer

ANSWER = "2*3 = 6\n#### 6"
THOUGHT = f"<think>\n2 by 3 is 6.\n</think>\n\n{ANSWER}"
SPEC = ScoringSpec(
    "r",
    "gsm8k",
    template=ChatTemplate(),
    thinking="<think>…</think>",
    sampling=Sampling(samples=2),
    perturbations=("first",),
)


class Scripted:
    """A backend that says the same two texts whatever it is asked, and notes the requests."""

    texts = ("It is 6.\n#### 6", "It is 6.\n#### 6</think>\n\n#### 6")
    end_tokens = frozenset[int]()
    positions: int | None = None

    def __init__(self, template: str) -> None:
        self.tokenizer = chat_tokenizer(template)
        self.opened: dict[str, bool] = {}

    def target_scores(self, targets):
        lengths = [len(target.scored) for target in targets]
        return [TokenScores(np.zeros(n), np.zeros(n, np.int64)) for n in lengths]

    def sample(self, batches, sampling, ending):
        for batch in batches:
            for request in batch:
                prompt = self.tokenizer.decode(list(request.prompt))
                self.opened[prompt.rpartition("assistant")[2]] = request.opened
            yield [[Completion(self.texts[j], 9, True) for j in r.numbers] for r in batch]

    def switch(self, checkpoint):
        raise NotImplementedError

    def close(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("template", "solution", "prompt", "is_open"),
    [
        (THINKING, ANSWER, "\n<think>\n\n</think>\n\nFirst", False),
        (THINKING, THOUGHT, "\n<think>\nFirst", True),
        (CHATML, THOUGHT, "\n<think>\nFirst", True),
        (CHATML, ANSWER, "\nFirst", False),
    ],
)
def test_grades_traces_and_budgets_follow_where_the_perturbed_prompt_ends(
    template, solution, prompt, is_open, tmp_path
):
    store, backend = Store(tmp_path), Scripted(template)
    example = Example("a", "2 times 3?", solution, "6")
    queries = [Query(1, "train", example), Query(1, "train", example, "first")]
    work = find_work_left(SPEC, [10], queries, read_counts(store, "r"))
    with make_grader(SPEC.grader) as grader:
        writer = ShardWriter(str(tmp_path), "r")
        score_checkpoint(work, 10, backend, grader, writer, lambda *_: None)
    assert backend.opened[prompt] == is_open
    [shard] = find_shards(tmp_path / "inbox", perturbation="first")
    rows = pq.read_table(shard).to_pylist()
    bytes_of_trace = [len(text.partition("</think>")[0]) for text in Scripted.texts]
    closing = len("</think>")
    if is_open:
        assert [row["grade"] for row in rows] == [Grade.UNPARSED, Grade.CORRECT]
        assert [row["trace_tokens"] for row in rows] == [
            bytes_of_trace[0], bytes_of_trace[1] + closing,
        ]  # fmt: skip
    else:  # a closing mark without an opening one ends a trace
        assert [row["grade"] for row in rows] == [Grade.CORRECT, Grade.CORRECT]
        assert [row["trace_tokens"] for row in rows] == [0, bytes_of_trace[1] + closing]


def test_one_chunk_may_hold_prompts_that_end_inside_a_trace_and_others(tmp_path):
    store, backend = Store(tmp_path), Scripted(CHATML)
    examples = [Example("a", "2 times 3?", THOUGHT, "6"), Example("b", "2 by 3?", ANSWER, "6")]
    queries = [Query(n, "train", e, p) for p in ("", "first") for n, e in enumerate(examples, 1)]
    spec = replace(SPEC, sampling=Sampling(samples=1))
    work = find_work_left(spec, [10], queries, read_counts(store, "r"))
    with make_grader(spec.grader) as grader:
        writer = ShardWriter(str(tmp_path), "r")
        score_checkpoint(work, 10, backend, grader, writer, lambda *_: None)
    [shard] = find_shards(tmp_path / "inbox", perturbation="first")
    grades = {row["example"]: row["grade"] for row in pq.read_table(shard).to_pylist()}
    assert grades == {1: Grade.UNPARSED, 2: Grade.CORRECT}
