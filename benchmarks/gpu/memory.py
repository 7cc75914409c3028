"""Memory that runs out on the GPU.

A tensor takes the GPU's memory, so that the first batch fails. Batches must be halved, and the
results must be those without that tensor.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu.correctness import TOLERANCE, mean_nlls
from benchmarks.gpu.sizes import Sizes, random_llama, random_prompts
from premem_core.models.backend import Ending, Request, Target
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Sampling


@dataclass(frozen=True, slots=True)
class Halving:
    """The size of batches before and after memory ran out, and the share of same results."""

    what: str
    free: int
    before: int
    after: int
    same: float
    passed: bool


def memory(sizes: Sizes, device: str) -> Iterator[Halving]:
    """Short sequences with a large vocabulary: the logits need more than keys and values."""
    prompts = random_prompts(sizes.wide, 1024, 8)
    backend = random_llama(sizes.wide, device, "float32", drawn_on=device)
    yield halved_targets(backend, prompts[:128], sizes.free_for_targets)
    yield halved_samples(backend, prompts, sizes.free_for_samples)


def halved_targets(
    backend: TransformersBackend, prompts: Sequence[tuple[int, ...]], free: int
) -> Halving:
    """Score targets of 63 tokens with all memory, and with little."""
    targets = [Target(ids * 8, tuple(range(1, 8 * len(ids)))) for ids in prompts]
    nlls, before = mean_nlls(backend.target_scores(targets)), backend.tokens
    with only_free(free):
        off = np.abs(mean_nlls(backend.target_scores(targets)) - nlls)
    same = float((off <= TOLERANCE["float32"] * np.maximum(1, nlls)).mean())
    passed = backend.tokens < before and same == 1
    return Halving("tokens of targets", free, before, backend.tokens, same, passed)


def halved_samples(
    backend: TransformersBackend, prompts: Sequence[tuple[int, ...]], free: int
) -> Halving:
    """Sample 8 tokens after each prompt with all memory, and with little."""
    requests = [Request(prompt, i, range(1)) for i, prompt in enumerate(prompts)]
    sampling = Sampling(max_new_tokens=8)
    drawn, before = next(backend.sample([requests], sampling, Ending())), backend.rows
    with only_free(free):
        again = next(backend.sample([requests], sampling, Ending()))
    same = float(np.mean([a == b for a, b in zip(drawn, again, strict=True)]))
    # With other batches, rounding alone may move a random number across a token's border.
    passed = backend.rows < before and same >= 0.98
    return Halving("rows of samples", free, before, backend.rows, same, passed)


@contextmanager
def only_free(free: int) -> Iterator[None]:
    """Take all of the GPU's memory but `free` bytes."""
    import torch

    torch.cuda.empty_cache()
    taken = torch.empty(torch.cuda.mem_get_info()[0] - free, dtype=torch.uint8, device="cuda")
    yield
    del taken
    torch.cuda.empty_cache()
