"""The transformers backend on the GPU against the CPU in float32.

NLLs and greedy completions in float32 and bfloat16: of a checkpoint of the demo, and of a random
Llama that is as wide as one of 1B weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu.sizes import DEMO, Sizes, random_llama, random_prompts
from premem_core.models.backend import Ending, Request, Target, TokenScores
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Completion, Sampling

DTYPES = ("float32", "bfloat16")
# The largest difference of an NLL, as a share of it or of 1 nat.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model's results on the device against those on the CPU in float32.

    `difference` is the largest one of an NLL, in nats; `top_same` the share of tokens for which
    both or neither have rank 0; `greedy_same` the share of greedy completions that are the same.
    """

    model: str
    dtype: str
    targets: int
    tokens: int
    nll: float
    difference: float
    top_same: float
    greedy: int
    greedy_same: float
    passed: bool


def correctness(sizes: Sizes, device: str) -> Iterator[Agreement]:
    """The demo's third checkpoint on its own problems, and a wide random model on random ones."""
    [folder] = (DEMO / "runs").glob("*/checkpoint-567")
    problems = read_examples(DEMO / "train_1000.jsonl").examples[: sizes.problems]

    def demo(device: str, dtype: str) -> tuple[list[TokenScores], list[Completion]]:
        backend = TransformersBackend(Checkpoint(folder, 567), device=device, dtype=dtype)
        encoder = make_encoder(PromptTemplate(), backend.tokenizer, backend.end_tokens)
        targets, prompts = (
            [encoder.target(p) for p in problems],
            [encoder.prompt(p) for p in problems],
        )
        return results(backend, targets, prompts, sizes.new_tokens, encoder.ending)

    prompts = random_prompts(sizes.wide, max(4, sizes.problems // 4), sizes.prompt)
    targets = [Target(ids, tuple(range(len(ids) // 2, len(ids)))) for ids in prompts]

    def wide(device: str, dtype: str) -> tuple[list[TokenScores], list[Completion]]:
        backend = random_llama(sizes.wide, device, dtype)
        return results(backend, targets, prompts, 32, Ending())

    for name, measured in (("demo", demo), ("wide", wide)):
        reference = measured("cpu", "float32")
        for dtype in DTYPES:
            yield agreement(name, dtype, reference, measured(device, dtype))


def results(
    backend: TransformersBackend,
    targets: Sequence[Target],
    prompts: Sequence[tuple[int, ...]],
    new_tokens: int,
    ending: Ending,
) -> tuple[list[TokenScores], list[Completion]]:
    """The scores of the targets, and the greedy completion of each prompt."""
    settings = Sampling(temperature=0.0, max_new_tokens=new_tokens)
    requests = [Request(prompt, 0, range(1)) for prompt in prompts]
    drawn = next(backend.sample([requests], settings, ending))
    scores = backend.target_scores(targets)
    backend.close()
    return scores, [completion for [completion] in drawn]


def agreement(
    model: str,
    dtype: str,
    reference: tuple[list[TokenScores], list[Completion]],
    other: tuple[list[TokenScores], list[Completion]],
) -> Agreement:
    """Compare the scores and completions of the same targets and prompts."""
    (scores, completions), (other_scores, other_completions) = reference, other
    nlls, other_nlls = mean_nlls(scores), mean_nlls(other_scores)
    off = np.abs(nlls - other_nlls)
    top, other_top = (np.concatenate([s.ranks == 0 for s in each]) for each in (scores, other[0]))
    same = np.mean([a == b for a, b in zip(completions, other_completions, strict=True)])
    # In bfloat16 the first of two tokens that are nearly as likely is often the other one.
    passed = (off / np.maximum(1, nlls)).max() <= TOLERANCE[dtype]
    passed &= bool(dtype != "float32" or same >= 0.95)
    return Agreement(
        model, dtype, len(scores), len(top), float(nlls.mean()), float(off.max()),
        float(np.mean(top == other_top)), len(completions), float(same), bool(passed),
    )  # fmt: skip


def mean_nlls(scores: Sequence[TokenScores]) -> np.ndarray:
    """(targets,) nats per token."""
    return np.array([-of_one.log_probabilities.mean() for of_one in scores])
