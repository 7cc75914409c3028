"""Tokens per second of the transformers backend and of `transformers.generate`.

A random Llama of 1B weights in bfloat16, by the number of sequences that are decoded together,
against what the card's own memory and matrix units allow.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.gpu.sizes import Sizes, random_llama, random_prompts
from premem_core.models.backend import Ending, Request
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Sampling

SPECIFIED = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.0e12}  # bytes/s, of NVIDIA's SXM cards
SAMPLES = 4  # of each prompt
ROUNDS = 2
MOST = 190  # seconds in which the next size must probably end


@dataclass(frozen=True, slots=True)
class Card:
    """The measured limits of the device: bytes/s of a copy, read and written, and operations/s."""

    name: str
    memory: int
    copy: float
    specified: float | None
    product: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Generated tokens per second, the mean of the rounds; None where memory ran out.

    `rows` were asked for, `rows_used` were decoded together after the halvings. `limit` is what the
    card allows; `read` the bytes/s that ours reads at least: weights, keys and values at each step.
    """

    rows: int
    rows_used: int
    ours: float
    generate: float | None
    ratio: float | None
    limit: float
    of_limit: float
    read: float


def speed(sizes: Sizes, device: str) -> Iterator[Card | Speed]:
    """Ours and `generate` by turns, with rising numbers of rows until memory or time is used up."""
    started = time.perf_counter()
    card = measure_card(sizes, device)
    yield card
    backend = random_llama(sizes.large, device, "bfloat16", drawn_on=device)
    for rows in sizes.rows:
        prompts = random_prompts(sizes.large, rows // SAMPLES, sizes.prompt)
        backend.rows, begun = rows, time.perf_counter()
        by_turns(backend, prompts, Sampling(max_new_tokens=8))  # pays for kernels
        rounds = [
            by_turns(backend, prompts, Sampling(max_new_tokens=sizes.new_tokens))
            for _ in range(ROUNDS)
        ]
        ours, others = (statistics.mean(seconds) for seconds in zip(*rounds, strict=True))
        yield as_speed(backend, rows, card, sizes, ours, others)
        now = time.perf_counter()
        if backend.rows < rows or math.isinf(others) or now - started + 3 * (now - begun) > MOST:
            break


def by_turns(
    backend: TransformersBackend, prompts: Sequence[tuple[int, ...]], sampling: Sampling
) -> tuple[float, float]:
    """Seconds of ours, and of `generate`, for SAMPLES completions of each prompt with their texts.

    `generate` is as it is by default; infinity if its memory runs out.
    """
    import torch

    torch.cuda.empty_cache()  # of the other one, so that neither finds less memory
    started = time.perf_counter()
    requests = [Request(prompt, i, range(SAMPLES)) for i, prompt in enumerate(prompts)]
    drawn = next(backend.sample([requests], sampling, Ending()))
    ours = time.perf_counter() - started
    expected = len(prompts) * SAMPLES * sampling.max_new_tokens
    check_tokens(sum(each.tokens for of_one in drawn for each in of_one), expected)
    started = time.perf_counter()
    others = generated(backend, prompts, sampling)
    seconds = time.perf_counter() - started
    if others is None:
        return ours, math.inf
    check_tokens(others, expected)
    return ours, seconds


def generated(
    backend: TransformersBackend, prompts: Sequence[tuple[int, ...]], sampling: Sampling
) -> int | None:
    """How many tokens `transformers.generate` drew; None if memory ran out."""
    import torch

    ids = torch.tensor(prompts, device=backend.device)
    try:
        drawn = backend.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True,
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=0,
            num_return_sequences=SAMPLES, max_new_tokens=sampling.max_new_tokens,
        )  # fmt: skip
        backend.tokenizer.batch_decode(drawn)
        return int(drawn[:, ids.shape[1] :].numel())
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()  # here, where the tensors of the failed call are gone
    return None


def check_tokens(drawn: int, expected: int) -> None:
    """End the part where completions are shorter than asked for, so that rates mean nothing."""
    if drawn != expected:
        raise SystemExit(f"{drawn} tokens were drawn instead of {expected}")


def as_speed(
    backend: TransformersBackend, rows: int, card: Card, sizes: Sizes, ours: float, other: float
) -> Speed:
    """Seconds as rates, and as a share of what the card allows."""
    weights = sum(parameter.numel() for parameter in backend.model.parameters())
    size, steps, tokens = backend.dtype.itemsize, sizes.new_tokens, rows * sizes.new_tokens
    kv = sizes.large.kv_numbers * size
    bytes_read = least_read(weights * size, kv, rows, sizes.prompt, steps)
    least = max(bytes_read / card.copy, 2 * weights * tokens / card.product)
    ran = math.isfinite(other)
    return Speed(
        rows, min(rows, backend.rows), tokens / ours, tokens / other if ran else None,
        other / ours if ran else None, tokens / least, least / ours, bytes_read / ours,
    )  # fmt: skip


def least_read(weights: int, kv: int, rows: int, prompt: int, steps: int) -> int:
    """The bytes that decoding reads at least: at each step all weights, keys and values.

    Args:
        weights: bytes of the model.
        kv: bytes of keys and values per token.
    """
    return steps * weights + rows * kv * sum(range(prompt, prompt + steps))


def measure_card(sizes: Sizes, device: str) -> Card:
    """The rates of a large copy and of a large bfloat16 matrix product."""
    import torch

    source = torch.randint(0, 255, (sizes.copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = torch.randn(2, sizes.product, sizes.product, dtype=torch.bfloat16, device=device)
    copying = fastest(lambda: target.copy_(source), device)
    multiplying = fastest(lambda: a @ b, device)
    name, memory = device, 0
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        name, memory = found.name, found.total_memory
    specified = next((rate for card, rate in SPECIFIED.items() if card in name), None)
    rates = 2 * sizes.copied / copying, 2 * sizes.product**3 / multiplying
    return Card(name, memory, rates[0], specified, rates[1])


def fastest(work: Callable[[], object], device: str) -> float:
    """The least seconds of ten repeats."""
    import torch

    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
