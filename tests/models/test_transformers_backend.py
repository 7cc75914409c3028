from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata

from premem_core.errors import CheckpointError, DataError
from premem_core.models.backend import Ending, Request
from premem_core.models.decoding import draw
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.prompts import PromptTemplate
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Checkpoint, Example, Sampling
from tests.helpers import texts, tiny
from tests.helpers.texts import one_batch as samples

PROMPTS = [
    "1+1?\nAnswer:",
    "A much longer question about 23 + 48, is it not?\nAnswer:",
    "é\nAnswer:",
]
STOP = ("\nDone.",)
TARGETS = [" 2\nDone.", " It is 71, as everyone knows.\n#### 71\nDone.", " ü\nDone."]


@pytest.fixture(scope="module", params=[True, False], ids=["with BOS", "without BOS"])
def backend(request, tmp_path_factory) -> TransformersBackend:
    folder = tiny.save_base(tmp_path_factory.mktemp("model"), bos=request.param, seed=3)
    return TransformersBackend(Checkpoint(folder, 0))


@pytest.fixture(scope="module")
def trained(run_dir) -> TransformersBackend:
    return TransformersBackend(
        Checkpoint(max(run_dir.glob("checkpoint-*"), key=lambda p: int(p.name[11:])), 0)
    )


def sum_prompts(n):
    return [PromptTemplate().fill(e)[0] for e in tiny.sums(0, n)]


def reference_nll(backend: TransformersBackend, prompt: str, target: str) -> float:
    """One example at a time, no padding, the boundary counted in bytes of this byte tokenizer."""
    ids = backend.tokenizer(prompt + target, return_tensors="pt")["input_ids"]
    n = len(target.encode())
    with torch.no_grad():
        log_probabilities = backend.model(ids).logits[0].log_softmax(-1)
    chosen = [log_probabilities[i - 1, ids[0, i]] for i in range(ids.shape[1] - n, ids.shape[1])]
    return -float(torch.stack(chosen).double().mean())


def test_target_nll_equals_a_plain_reference_batched_and_one_by_one(backend):
    together = texts.target_scores(backend, PROMPTS, TARGETS)
    for prompt, target, score in zip(PROMPTS, TARGETS, together, strict=True):
        alone = texts.target_scores(backend, [prompt], [target])[0]
        assert score.nll == pytest.approx(alone.nll, rel=1e-5)
        assert score.nll == pytest.approx(reference_nll(backend, prompt, target), rel=1e-5)
        assert score.tokens == len(target.encode())


@pytest.mark.parametrize("ties", [False, True], ids=["without ties", "with ties"])
def test_ranks_equal_a_plain_computation_batched_and_a_tie_counts_as_higher(tmp_path, ties):
    backend = TransformersBackend(Checkpoint(tiny.save_base(tmp_path, bos=True, seed=3), 0))
    if ties:  # every second token gets the same logit as the one before it
        weights = backend.model.lm_head.weight.data
        weights[1::2] = weights[::2]
    encode = texts.encoder(backend).target
    targets = [encode(Example("", p, t, "")) for p, t in zip(PROMPTS, TARGETS, strict=True)]
    seen = []
    for target, scores in zip(targets, backend.target_scores(targets), strict=True):
        with torch.no_grad():
            logits = backend.model(torch.tensor([target.ids])).logits[0].double().numpy()
        for i, rank in zip(target.scored, scores.ranks.tolist(), strict=True):
            places = rankdata(-logits[i - 1].round(5), method="max")
            assert rank == places[target.ids[i]] - 1
            seen.append(rank)
    assert {rank % 2 for rank in seen} == ({1} if ties else {0, 1})


def test_without_a_prompt_the_first_token_follows_the_bos_or_is_given(backend):
    for target, score in zip(
        TARGETS, texts.target_scores(backend, ["", "", ""], TARGETS), strict=True
    ):
        ids = backend.tokenizer(target, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probabilities = backend.model(ids).logits[0].log_softmax(-1)
        chosen = [log_probabilities[i - 1, ids[0, i]] for i in range(1, ids.shape[1])]
        assert score.tokens == len(chosen)
        assert score.nll == pytest.approx(-float(torch.stack(chosen).double().mean()), rel=1e-5)


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(trained, monkeypatch):
    sampling = Sampling(samples=3, max_new_tokens=20)
    prompts = sum_prompts(8)
    expected = samples(trained, prompts, sampling, STOP)
    forward, sizes = trained.forward, []

    def small_memory(input_ids, mask, **extra):
        sizes.append(len(mask))
        if len(mask) > 6:
            raise torch.OutOfMemoryError
        return forward(input_ids, mask, **extra)

    monkeypatch.setattr(trained, "forward", small_memory)
    monkeypatch.setattr(trained, "rows", 24)
    assert samples(trained, prompts, sampling, STOP) == expected
    assert max(sizes) > 6


def test_memory_that_torch_keeps_from_the_last_batch_makes_the_next_one_no_smaller(
    trained, monkeypatch
):
    def fitting(free, reserved):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2**20)
        return trained._rows_that_fit(100)

    monkeypatch.setattr(trained, "device", "cuda")
    first = fitting(free=2**29, reserved=2**20)
    assert first > 1
    assert fitting(free=2**27, reserved=2**20 + 2**29 - 2**27) == first


def test_a_sample_depends_on_its_own_seed_and_not_on_its_neighbours(trained):
    prompts = sum_prompts(12)
    sampling = Sampling(samples=4, temperature=1.5, top_p=1.0, max_new_tokens=24)
    together = samples(trained, prompts, sampling, STOP)
    for i in (0, 5, 11):
        assert samples(trained, [prompts[i]], sampling, STOP, [i]) == [together[i]]
    fewer = Sampling(samples=2, temperature=1.5, top_p=1.0, max_new_tokens=24)
    alone = samples(trained, prompts[:1], fewer, STOP, [0])[0]
    assert alone == together[0][:2]
    assert len({c.text for c in together[0]}) > 1


def test_any_numbers_may_be_drawn_and_are_the_same_samples(trained):
    prompts, sampling = sum_prompts(3), Sampling(temperature=1.5, top_p=1.0, max_new_tokens=24)
    whole = samples(trained, prompts, sampling, STOP)
    some = samples(trained, prompts, sampling, STOP, numbers=[range(3, 5), range(0), range(1)])
    assert some == [whole[0][3:], [], whole[2][:1]]
    assert samples(trained, prompts[:1], sampling, numbers=[range(2, 2)]) == [[]]


def test_batches_come_back_one_by_one_in_order(trained):
    read = []

    def batches():
        for i, prompt in enumerate(sum_prompts(3)):
            read.append(i)
            yield [texts.request(trained, prompt, i, range(2))]
        yield []

    sampling = Sampling(temperature=1.5, max_new_tokens=12)
    stream = trained.sample(batches(), sampling, texts.ending(trained, STOP))
    first = next(stream)
    assert read == [0]
    together = samples(trained, sum_prompts(3), sampling, STOP, numbers=[range(2)] * 3)
    assert [first, *stream] == [[one] for one in together] + [[]]


def test_one_long_chunk_does_not_make_later_batches_small(trained, monkeypatch):
    forward, sizes = trained.forward, []

    def watched(input_ids, mask, **extra):
        sizes.append(len(mask))
        return forward(input_ids, mask, **extra)

    monkeypatch.setattr(trained, "forward", watched)
    monkeypatch.setattr("premem_core.models.transformers_backend.CACHE_BYTES", 4 * 2**20)
    samples(trained, ["x" * 240], Sampling(samples=40, max_new_tokens=400))
    few = max(sizes)
    sizes.clear()
    samples(trained, sum_prompts(4), Sampling(samples=10, max_new_tokens=8))
    assert few < max(sizes) == 40


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate "
                     "memory: you tried to allocate 8 bytes. Error code 12"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)  # fmt: skip
def test_no_memory_for_the_smallest_batch_is_said_so(trained, monkeypatch, error):
    def no_memory(*_, **__):
        raise error

    monkeypatch.setattr(trained, "forward", no_memory)
    for limit in ("rows", "tokens"):
        monkeypatch.setattr(trained, limit, getattr(trained, limit))
    with pytest.raises(MemoryError, match="no memory for even one"):
        samples(trained, sum_prompts(2), Sampling(2, max_new_tokens=4))
    with pytest.raises(MemoryError, match="no memory for even one"):
        texts.target_scores(trained, PROMPTS, TARGETS)


def test_another_runtime_error_is_not_taken_for_lack_of_memory(trained, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(trained, "forward", broken)
    with pytest.raises(RuntimeError, match="size of tensor"):
        texts.target_scores(trained, PROMPTS, TARGETS)


def test_a_divisor_makes_batches_smaller(run_dir):
    checkpoint = Checkpoint(next(run_dir.glob("checkpoint-*")), 0)
    whole, small = TransformersBackend(checkpoint), TransformersBackend(checkpoint, batch_divisor=8)
    assert (small.rows, small.tokens) == (whole.rows // 8, whole.tokens // 8)


def test_a_completion_ends_before_its_stop_string_and_says_whether_it_ended(trained):
    prompts = sum_prompts(4)
    sampling = Sampling(samples=1, temperature=0, max_new_tokens=40)
    texts = [c[0] for c in samples(trained, prompts, sampling, STOP)]
    assert all(c.finished and "Done" not in c.text and "####" in c.text for c in texts)
    cut = samples(trained, prompts, Sampling(1, 0, 1, 3, 0), STOP)
    assert all(not c[0].finished and c[0].tokens == 3 for c in cut)


def test_greedy_sampling_is_what_transformers_generates(trained):
    prompts = sum_prompts(6)
    ours = samples(trained, prompts, Sampling(1, 0, 1, 12, 0))
    for prompt, completions in zip(prompts, ours, strict=True):
        ids = trained.tokenizer(prompt, return_tensors="pt")
        theirs = trained.model.generate(**ids, do_sample=False, max_new_tokens=12)
        text = trained.tokenizer.decode(theirs[0], skip_special_tokens=True)
        assert completions[0].text == text[len(prompt) :]


def test_draws_follow_the_nucleus_distribution():
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    uniforms = (torch.arange(10_000) + 0.5) / 10_000
    logits = probabilities.log().repeat(10_000, 1)
    everything = draw(logits, uniforms, 1.0, 1.0).bincount(minlength=4) / 10_000
    assert everything.tolist() == pytest.approx(probabilities.tolist(), abs=2e-4)
    nucleus = draw(logits, uniforms, 1.0, 0.75).bincount(minlength=4) / 10_000
    assert nucleus.tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=2e-4)
    cold = draw(logits, uniforms, 0.5, 1.0).bincount(minlength=4) / 10_000
    assert cold.tolist() == pytest.approx((probabilities**2 / (probabilities**2).sum()).tolist(),
                                          abs=2e-4)  # fmt: skip


def test_a_nucleus_wider_than_the_shortcut_is_drawn_from_whole():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 300, generator=generator)
    uniforms = torch.rand(400, generator=generator)
    for sharpness in (0.3, 3.0, 10.0):
        probabilities, order = (logits * sharpness).softmax(-1).sort(-1, descending=True)
        for row, token in enumerate(draw(logits, uniforms, 1 / sharpness, 0.9).tolist()):
            size = int((probabilities[row].cumsum(-1) < 0.9).sum()) + 1
            mass = probabilities[row, :size].cumsum(-1)
            place = int((mass <= uniforms[row] * mass[-1]).sum())
            assert token == order[row, place]


def test_the_measured_frequency_of_a_token_is_its_probability(trained):
    prompt = PromptTemplate().fill(tiny.sums(0, 1)[0])[0]
    sampling = Sampling(samples=600, temperature=2.0, top_p=1.0, max_new_tokens=1)
    drawn = [c.text for c in samples(trained, [prompt], sampling, seeds=[7])[0]]
    ids = trained.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        probabilities = (trained.model(ids).logits[0, -1] / 2).softmax(-1)
    top = int(probabilities.argmax())
    share = np.mean([text == trained.tokenizer.decode([top]) for text in drawn])
    p = float(probabilities[top])
    assert share == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 600) + 0.01)


def test_a_prompt_without_a_target_is_refused(backend):
    with pytest.raises(DataError, match="no token"):
        texts.target_scores(backend, ["2+2?\nAnswer:"], [""])


def test_a_diverged_checkpoint_is_refused(tmp_path):
    folder = tiny.save_base(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    backend = TransformersBackend(Checkpoint(folder, 0))
    with pytest.raises(CheckpointError, match="not finite"):
        texts.target_scores(backend, PROMPTS, TARGETS)
    with pytest.raises(CheckpointError, match="not finite"):
        samples(backend, PROMPTS, Sampling(2))


def test_switching_adapters_is_loading_the_other_one(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    one, two, three = (tiny.save_adapter(base, tmp_path / f"{seed}", seed) for seed in range(3))
    sampling = Sampling(samples=2, temperature=1.0, max_new_tokens=12)
    backend = TransformersBackend(one)
    seen = []
    for checkpoint in (two, three, one):
        backend.switch(checkpoint)
        alone = TransformersBackend(checkpoint)
        assert texts.target_scores(backend, PROMPTS, TARGETS) == texts.target_scores(
            alone, PROMPTS, TARGETS
        )
        assert samples(backend, PROMPTS, sampling) == samples(alone, PROMPTS, sampling)
        assert len(backend.model.peft_config) == 1
        seen.append(texts.target_scores(backend, PROMPTS, TARGETS)[0].nll)
    assert len(set(seen)) == 3


def test_an_adapter_that_cannot_be_loaded_leaves_the_present_one(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    one, two = (tiny.save_adapter(base, tmp_path / f"{seed}", seed) for seed in range(2))
    backend = TransformersBackend(one)
    expected = texts.target_scores(backend, PROMPTS, TARGETS)
    file = two.path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(dict(list(tensors.items())[1:]), file)
    for refused, words in (
        (two, "lacks 1 weights"),
        (Checkpoint(tmp_path / "none", 0, adapter_base=str(base)), "cannot be loaded"),
        (Checkpoint(two.path, 0, adapter_base="another"), "same model"),
        (Checkpoint(base, 0), "same model"),
    ):
        with pytest.raises(CheckpointError, match=words):
            backend.switch(refused)
        assert texts.target_scores(backend, PROMPTS, TARGETS) == expected


def test_an_adapter_samples_what_its_base_does_batched_or_alone(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = tiny.byte_tokenizer(bos=True)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2,
                               n_positions=96)).save_pretrained(tmp_path / "base")  # fmt: skip
    tokenizer.save_pretrained(tmp_path / "base")
    base = TransformersBackend(Checkpoint(tmp_path / "base", 0))
    adapter = TransformersBackend(tiny.save_adapter(tmp_path / "base", tmp_path / "adapter"))
    sampling = Sampling(samples=2, max_new_tokens=16)
    together = samples(adapter, PROMPTS, sampling)
    assert together == samples(base, PROMPTS, sampling)
    assert together[0] == samples(adapter, PROMPTS[:1], sampling)[0]


def test_a_prompt_beyond_the_models_positions_is_named_and_a_completion_stops_there(backend):
    long = "x" * 300
    with pytest.raises(DataError, match="but the model takes 256"):
        samples(backend, [long], Sampling(1), seeds=[0])
    with pytest.raises(DataError, match="but the model takes 256"):
        texts.target_scores(backend, [long], ["y"])
    [completion] = samples(backend, ["x" * 250], Sampling(1, max_new_tokens=50), seeds=[0])[0]
    assert completion.tokens <= 6
    assert not completion.finished


def test_a_stop_string_may_be_a_special_token(trained):
    prompts = sum_prompts(2)
    special = trained.tokenizer.bos_token
    stopper = trained._stopper(texts.ending(trained, (special,)))
    assert stopper.finished([5, trained.tokenizer.bos_token_id])
    assert samples(trained, prompts, Sampling(1, max_new_tokens=3), (special,))


def test_a_trace_that_exceeds_its_budget_ends_unfinished_and_other_completions_do_not(backend):
    marks = ThinkingMarks("<think>", "</think>")
    closed = Request(tuple(backend.tokenizer("2+2?")["input_ids"]), 1, range(4))
    opened = replace(closed, opened=True)
    free, budget = Sampling(max_new_tokens=24), Sampling(max_new_tokens=24, max_thinking_tokens=9)

    def drawn(sampling, *requests, **ending):
        [found] = backend.sample([requests], sampling, Ending(**ending))
        return [(c.text, c.tokens, c.finished) for completions in found for c in completions]

    without = drawn(free, closed)
    assert [tokens for _, tokens, _ in without] == [24] * 4
    both = drawn(budget, closed, opened, marks=marks)
    assert both[:4] == without  # the trace was never opened
    assert [(tokens, finished) for _, tokens, finished in both[4:]] == [(9, False)] * 4
    assert drawn(budget, opened) == without  # there are no traces
