"""One checkpoint: traces of completions, where a perturbation begins them; tokens of targets."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from premem_core.grading.graders import make_grader
from premem_core.models.backend import TokenScores
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.prompts import ChatTemplate
from premem_core.records import Checkpoint, Completion, Example, Grade, Sampling
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.spec import Query, ScoringSpec, Split
from premem_core.scoring.work_left import find_work_left
from premem_core.store.database import Store
from premem_core.store.scores import commit_inbox, read_counts
from premem_core.store.shards.shards import (
    ShardWriter,
    column_bytes,
    completions_folder,
    find_shards,
)
from premem_core.store.token_scores import read_token_scores, read_token_texts
from tests.helpers import tiny
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


def score_targets(home, run_dir, **changes):
    """Score targets only, of 40 sums and of three test problems, one of which has no solution."""
    last = max(run_dir.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    backend = TransformersBackend(Checkpoint(last, 0))
    long = Example("long", "1+1?", "2" * 300, "2")
    members: list[tuple[Split, Example]] = [("train", e) for e in tiny.sums(0, 40)]
    members += [("test", e) for e in (*tiny.sums(50, 2), long)]
    queries = [Query(n, split, example) for n, (split, example) in enumerate(members)]
    spec = ScoringSpec("r", "gsm8k", sampling=Sampling(samples=0), held_out=True, **changes)
    store = Store(home)
    work = find_work_left(spec, [10, 20], queries, read_counts(store, "r"))
    with make_grader(spec.grader) as grader:
        for step in (10, 20):
            writer = ShardWriter(str(home), "r")
            score_checkpoint(work, step, backend, grader, writer, lambda *_: None)
    commit_inbox(store)
    targets = make_encoder(spec.template, backend.tokenizer, backend.end_tokens).target
    scored = [query.example for query in queries if query.example is not long]
    plain = dict(enumerate(backend.target_scores([targets(example) for example in scored])))
    again = find_work_left(spec, [10, 20], queries, read_counts(store, "r"))
    assert again.with_work() == set()
    return store, plain, scored


def test_every_token_of_every_target_is_kept_and_its_mean_is_the_nll(run_dir, tmp_path):
    store, plain, scored = score_targets(tmp_path, run_dir)
    counts = read_counts(store, "r").query("step == 20").set_index("example")
    assert np.isnan(counts["nll"][42])
    assert counts["tokens"][42] == 0
    for split, numbers in (("train", range(40)), ("test", range(40, 42))):
        found = read_token_scores(store, "r", 20, split)
        assert found.examples.tolist() == list(numbers)
        for number, start, end in zip(numbers, found.offsets, found.offsets[1:], strict=False):
            kept = found.log_probabilities[start:end]
            assert -kept.mean(dtype=float) == pytest.approx(counts["nll"][number], abs=1e-4)
            exact = plain[number].log_probabilities
            assert -exact.mean() == pytest.approx(counts["nll"][number], abs=1e-6)
            assert found.ranks[start:end].tolist() == plain[number].ranks.tolist()
        texts = read_token_texts(store, "r", split)
        for number in numbers:
            assert "".join(texts[number]) == f" {scored[number].solution}\nDone."
    first, second = (
        find_shards(completions_folder(tmp_path, "r"), split="train", step=step)
        for step in (10, 20)
    )
    tokens = sum(len(scores.ranks) for n, scores in plain.items() if n < 40)
    of_scores, of_texts = (
        [column_bytes(file, names) / tokens for file in (*first, *second)]
        for names in (("log_probabilities", "ranks"), ("texts",))
    )
    print(
        f"\nbytes per target token on disk: {of_scores[1]:.2f}, and {of_texts[0]:.2f} for its text"
    )
    assert of_scores[0] == of_scores[1] < 2.5
    assert of_texts[1] < 0.1 < of_texts[0] < 1


def test_without_tokens_only_their_number_and_those_of_rank_0_are_kept(run_dir, tmp_path):
    store, plain, _ = score_targets(tmp_path, run_dir, tokens=False)
    assert len(read_token_scores(store, "r", 10).examples) == 0
    with store.reading() as connection:
        rows = connection.execute(
            "SELECT example, top_tokens FROM scores WHERE step = 10 AND tokens > 0"
        ).fetchall()
    assert dict(rows) == {n: (scores.ranks == 0).sum() for n, scores in plain.items()}
