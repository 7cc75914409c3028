"""The real engine on a checkpoint of the demo study, against the transformers backend in float32.

`make test-vllm` shows the numbers compared.
"""

import numpy as np
import pytest

from premem_core.errors import DataError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.metrics.intervals import mean_interval
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.models.vllm_backend import VLLMBackend
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Example, Grade, Sampling
from tests.helpers import texts
from tests.helpers.paths import DEMO

pytestmark = pytest.mark.vllm

CHECKPOINT = Checkpoint(DEMO / "runs" / "lr3e-3_ep15_n1000" / "checkpoint-378", 378)
TEMPLATE = PromptTemplate()
STOP = TEMPLATE.stop
Z99_OVER_Z90 = 2.5758 / 1.6449


@pytest.fixture(scope="module")
def examples():
    return read_examples(DEMO / "train_1000.jsonl").examples


@pytest.fixture(scope="module")
def filled(examples):
    """Prompts and targets."""
    return tuple(zip(*map(TEMPLATE.fill, examples), strict=True))


@pytest.fixture(scope="module")
def engine():
    backend = VLLMBackend(CHECKPOINT)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def reference():
    return TransformersBackend(CHECKPOINT, device="cpu", dtype="float32")


def batch(backend, prompts, samples, first_seed=0):
    return [
        texts.request(backend, p, first_seed + i, range(samples)) for i, p in enumerate(prompts)
    ]


def one_batch(backend, prompts, sampling, stop=STOP):
    return texts.one_batch(backend, prompts, sampling, stop)


def accuracies(sampled, examples):
    """Each question's share of correct samples."""
    said = [completion.text for completions in sampled for completion in completions]
    answers = [e.answer for e, c in zip(examples, sampled, strict=True) for _ in c]
    graded = make_grader("gsm8k").grade(said, answers)
    correct = np.array([grade.grade == Grade.CORRECT for grade in graded], float)
    return correct.reshape(len(sampled), -1).mean(1)


def test_target_nlls_are_those_of_transformers(engine, reference, filled):
    prompts, targets = (texts[:400] for texts in filled)
    scores = [texts.target_scores(b, prompts, targets) for b in (engine, reference)]
    assert [score.tokens for score in scores[0]] == [score.tokens for score in scores[1]]
    ours, theirs = (np.array([score.nll for score in of_one]) for of_one in scores)
    difference = np.abs(ours / theirs - 1).max()
    print(f"\nNLL of 400 targets: largest relative difference {difference:.1e}")
    assert difference < 1e-3


def test_ranks_of_target_tokens_are_those_of_transformers(engine, reference, filled):
    encode = texts.encoder(reference).target
    pairs = [texts[:200] for texts in filled]
    targets = [encode(Example("", p, t, "")) for p, t in zip(*pairs, strict=True)]
    ours, theirs = (
        np.concatenate([scores.ranks for scores in b.target_scores(targets)])
        for b in (engine, reference)
    )
    print(f"\nranks: {np.mean(ours == theirs):.3%} of {len(ours):,} tokens the same, "
          f"the greedy choice {np.mean(ours == 0):.3%} and {np.mean(theirs == 0):.3%}")  # fmt: skip
    assert np.mean(ours == theirs) > 0.99
    assert np.abs(ours - theirs).max() <= 2  # rounding changes the order of nearly equal tokens


def test_greedy_completions_are_those_of_transformers(engine, reference, filled):
    prompts = filled[0][:200]
    sampling = Sampling(samples=1, temperature=0, max_new_tokens=200)
    ours, theirs = (one_batch(b, prompts, sampling) for b in (engine, reference))
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"\ngreedy completions: {same} of {len(prompts)} identical")
    assert same >= 0.99 * len(prompts)


def test_sampled_accuracies_are_those_of_transformers(engine, reference, filled, examples):
    n, sampling = 200, Sampling(samples=5)
    ours, theirs = (
        accuracies(one_batch(backend, filled[0][:n], sampling), examples[:n])
        for backend in (engine, reference)
    )
    for name, values in (("vllm", ours), ("hf", theirs)):
        mean, half = mean_interval(values)
        print(f"\n{name}: accuracy {mean:.4f} ± {half:.4f} (90 %), {n} questions × 5 samples")
    # The questions are the same: the difference of a question's two accuracies is what varies.
    difference, half = mean_interval(ours - theirs)
    half *= Z99_OVER_Z90
    print(f"difference, by question: {difference:+.4f} ± {half:.4f} (99 %)")
    assert 0.1 < theirs.mean() < 0.9
    assert half < 0.05
    assert abs(difference) < half


def test_a_sample_depends_on_its_own_seed_and_not_on_its_neighbours(engine, filled):
    sampling = Sampling(samples=5, max_new_tokens=60)
    together = one_batch(engine, filled[0][:20], sampling)
    assert all(len({completion.text for completion in drawn}) > 1 for drawn in together[:5])
    few = [
        texts.request(engine, filled[0][7], 7, range(3, 5)),
        texts.request(engine, filled[0][9], 9, range(0)),
    ]
    [alone] = engine.sample([few], sampling, texts.ending(engine, STOP))
    assert alone == [together[7][3:], []]


def test_long_prompts_of_more_tokens_than_a_pass_takes_keep_their_seeds(engine, filled):
    # On CPU a seeded request whose prompt is split over two passes would kill the engine.
    long = ["\n\n".join(filled[0][i : i + 5]) for i in range(60)]
    sampling = Sampling(samples=2, max_new_tokens=6)
    together = one_batch(engine, long, sampling)
    [alone] = engine.sample(
        [[texts.request(engine, long[50], 50, range(2))]],
        sampling,
        texts.ending(engine, STOP),
    )
    assert alone == [together[50]]


def test_batches_come_back_in_order_and_two_are_in_the_engine(engine, filled):
    read = []

    def batches():
        for start in range(0, 80, 20):
            read.append(start)
            yield batch(engine, filled[0][start : start + 20], 2, start)
        yield []

    stream = engine.sample(batches(), Sampling(max_new_tokens=30), texts.ending(engine, STOP))
    first = next(stream)
    assert len(read) >= 2
    streamed = [first, *stream]
    assert [len(completions) for completions in streamed] == [20, 20, 20, 20, 0]
    together = next(
        engine.sample(
            [batch(engine, filled[0][:80], 2)],
            Sampling(max_new_tokens=30),
            texts.ending(engine, STOP),
        )
    )
    same = sum(
        a == b for a, b in zip([c for part in streamed for c in part], together, strict=True)
    )
    assert same >= 79  # rounding differs with the batch


def test_a_stream_that_is_left_early_leaves_nothing_in_the_engine(engine, filled):
    batches = [
        batch(engine, filled[0][:20], 2),
        batch(engine, filled[0][:200], 2),
    ]  # more than fits at once
    stream = engine.sample(batches, Sampling(max_new_tokens=20), texts.ending(engine, STOP))
    next(stream)
    assert engine.engine.has_unfinished_requests()
    stream.close()
    assert not engine.engine.has_unfinished_requests()
    assert not engine._outputs


def test_nlls_may_be_asked_for_while_samples_are_drawn(engine, filled):
    batches = [batch(engine, filled[0][:20], 2), batch(engine, filled[0][20:40], 2)]
    sampling = Sampling(max_new_tokens=30)
    expected = list(engine.sample(batches, sampling, texts.ending(engine, STOP)))
    stream = engine.sample(batches, sampling, texts.ending(engine, STOP))
    first = next(stream)
    texts.target_scores(engine, filled[0][:9], filled[1][:9])
    same = sum(
        a == b
        for ours, theirs in zip([first, *stream], expected, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert same >= 39


def test_a_completion_ends_before_its_stop_string_and_says_whether_it_ended(engine, filled):
    whole = one_batch(engine, filled[0][:20], Sampling(1, 0, 1, 200))
    assert all(c.finished and "Done" not in c.text and "####" in c.text for [c] in whole)
    cut = one_batch(engine, filled[0][:20], Sampling(1, 0, 1, 3))
    assert all(not c.finished and c.tokens == 3 for [c] in cut)
    earlier = one_batch(engine, filled[0][:20], Sampling(1, 0, 1, 200), ("\n####", "\nDone."))
    for [short], [long] in zip(earlier, whole, strict=True):
        assert short.finished
        assert short.text == long.text[: long.text.index("\n####")]
        assert short.tokens < long.tokens


def test_nlls_are_right_where_the_prefix_cache_holds_the_prompt(
    engine, reference, filled, monkeypatch
):
    long = ["\n\n".join(filled[0][i : i + 6]) for i in (0, 0, 6, 0)]
    targets = filled[1][:4]
    expected = [score.nll for score in texts.target_scores(reference, long, targets)]
    cached: list[int] = []
    step = engine.engine.step

    def watched():
        outputs = step()
        cached.extend(output.num_cached_tokens for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(engine.engine, "step", watched)
    for _ in range(2):
        one_batch(engine, long, Sampling(samples=3, max_new_tokens=4))
    assert max(cached) >= 128  # else this proves nothing
    for _ in range(2):
        cached.clear()
        assert [s.nll for s in texts.target_scores(engine, long, targets)] == pytest.approx(
            expected, 1e-4
        )
        assert max(cached) == 0


def test_what_does_not_fit_is_named(engine, filled):
    with pytest.raises(DataError, match=f"but the model takes {engine.positions}"):
        one_batch(engine, ["x " * 5000], Sampling(1))
    with pytest.raises(DataError, match=f"but the model takes {engine.positions}"):
        texts.target_scores(engine, ["x " * 5000], ["y"])
    with pytest.raises(UsageError, match="temperature must be in"):
        one_batch(engine, filled[0][:1], Sampling(1, temperature=3))
    assert not engine.engine.has_unfinished_requests()
