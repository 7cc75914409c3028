"""Sampling with transformers: each prompt is computed once, and finished rows leave the batch.

`transformers.generate` computes a prompt once per sample and keeps finished rows to the end. Here a
sample depends only on the logits and on its own stream of random numbers, and not on the other
samples in the batch or before it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from premem_core.errors import CheckpointError
from premem_core.models.backend import Ending, Request
from premem_core.problems.thinking import split_thinking
from premem_core.records import Completion, Sampling

if TYPE_CHECKING:
    import torch

DIVERGED = (
    "the model's logits are not finite, because its training diverged; leave this checkpoint out"
)
MOST_LIKELY = 64  # the nucleus nearly always lies within these tokens; sorting all tokens is slow


class LoadedModel(Protocol):
    """What sampling needs of a loaded model.

    Attributes:
        model: of transformers.
        device: where its weights are, as torch names it.
        takes: the names of the arguments of its forward pass.
        positions: how many tokens it takes; None: any number.
    """

    model: Any
    device: str
    takes: set[str]
    positions: int | None

    def forward(self, input_ids: "torch.Tensor", mask: "torch.Tensor", **extra: Any) -> Any:
        """One forward pass: the model's output for token ids and their attention mask."""


class Stopper:
    """Decides when a completion is finished, and cuts its text there.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: Any, ending: Ending) -> None:
        self.tokenizer, self.ending = tokenizer, ending
        stop = ending.strings
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._left_out = special | set(tokenizer.all_special_ids)
        self._left_out -= ending.kept
        self.tail = max((len(s.encode()) for s in stop), default=0) + 2
        # Only a token that holds the last character of a stop string can complete it. The text is
        # decoded only after such tokens: decoding every row at every step would cost more than a
        # small model's forward pass.
        last = {s[-1] for s in stop}
        pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))]) if stop else []
        self.closing = frozenset(
            i for i, piece in enumerate(pieces) if "\ufffd" in piece or last & set(piece)
        )

    def finished(self, ids: Sequence[int]) -> bool:
        """True when the tokens generated so far end a completion."""
        if ids[-1] in self.ending.tokens:
            return True
        if ids[-1] not in self.closing:
            return False
        text = self._decode(ids[-self.tail :])
        return any(stop in text for stop in self.ending.strings)

    def completion(self, prompt: Sequence[int], ids: Sequence[int], finished: bool) -> Completion:
        """The generated text, cut before the first stop string or the token that ends it."""
        said = ids[:-1] if ids and ids[-1] in self.ending.tokens else ids
        # Decoded together with its prompt, because some tokenizers drop a leading space.
        text = self._decode([*prompt, *said])[len(self._decode(prompt)) :]
        cuts = [index for index in map(text.find, self.ending.strings) if index >= 0]
        return Completion(text[: min(cuts, default=len(text))], len(ids), finished)

    def is_thinking(self, request: Request, ids: Sequence[int]) -> bool:
        """Whether the tokens generated so far end inside a thinking trace."""
        marks = self.ending.marks
        if marks is None:
            return False
        text = self.completion(request.prompt, ids, finished=False).text
        return not split_thinking(text, marks, opened=request.opened).finished

    def _decode(self, ids: Sequence[int]) -> str:
        shown = [i for i in ids if i not in self._left_out]
        text: str = self.tokenizer.decode(shown, clean_up_tokenization_spaces=False)
        return text


def generate(
    backend: LoadedModel,
    requests: Sequence[Request],
    sampling: Sampling,
    stopper: Stopper,
) -> list[list[Completion]]:
    """The completions of each request, which must ask for at least one sample."""
    import torch

    prompts = [request.prompt for request in requests]
    of_prompt = np.repeat(np.arange(len(requests)), [len(r.numbers) for r in requests])
    uniforms = torch.from_numpy(
        np.stack(
            [_uniforms(r.seed, j, sampling.max_new_tokens) for r in requests for j in r.numbers]
        )
    ).to(backend.device)
    with torch.inference_mode():
        input_ids, mask = _left_padded(prompts, backend.device)
        cache = _preallocated_cache(backend.model.config)
        # Only the logits of the last position are needed, and with a large vocabulary the logits
        # of whole prompts would take much memory.
        last = {"logits_to_keep": 1} if "logits_to_keep" in backend.takes else {}
        output = backend.forward(input_ids, mask, past_key_values=cache, use_cache=True, **last)
        check_finite(output.logits[:, -1])
        logits = output.logits[:, -1]
        if len(of_prompt) > len(prompts):
            prompt_rows = torch.from_numpy(of_prompt).to(backend.device)
            cache.batch_select_indices(prompt_rows)
            logits, mask = logits[prompt_rows], mask[prompt_rows]
        generated: list[list[int]] = [[] for _ in of_prompt]
        ended, done = [False] * len(generated), [False] * len(generated)
        positions = backend.positions or math.inf
        budgets = [min(sampling.max_new_tokens, positions - len(prompts[i])) for i in of_prompt]
        thinking = sampling.max_thinking_tokens
        active = list(range(len(generated)))  # for each line of the batch, its row of `generated`
        for step in range(sampling.max_new_tokens):
            tokens = draw(logits, uniforms[:, step], sampling.temperature, sampling.top_p)
            for row, token in zip(active, tokens.tolist(), strict=True):
                if not done[row]:
                    generated[row].append(token)
                    ended[row] = stopper.finished(generated[row])
                    done[row] = ended[row] or len(generated[row]) == budgets[row]
                    if not done[row] and len(generated[row]) == thinking:
                        request = requests[of_prompt[row]]
                        done[row] = stopper.is_thinking(request, generated[row])
            alive = [line for line, row in enumerate(active) if not done[row]]
            if not alive:
                break
            if len(alive) <= 0.85 * len(active):  # not at every step, because it copies the cache
                keep = torch.tensor(alive, device=backend.device)
                cache.batch_select_indices(keep)
                tokens, mask, uniforms = tokens[keep], mask[keep], uniforms[keep]
                active = [active[line] for line in alive]
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
            output = backend.forward(tokens[:, None], mask, past_key_values=cache, use_cache=True)
            logits = output.logits[:, -1]
    completions: list[list[Completion]] = [[] for _ in requests]
    for i, ids, finished in zip(of_prompt, generated, ended, strict=True):
        completions[i].append(stopper.completion(prompts[i], ids, finished))
    return completions


def engine_completion(
    ids: Sequence[int], finished: bool, request: Request, stopper: Stopper, thinking: int | None
) -> Completion:
    """The completion of an engine's token ids, decoded as the transformers backend does it.

    Args:
        finished: whether the engine ended it because of its text.
        thinking: as `Sampling.max_thinking_tokens`, which the engine does not know: a trace that
            exceeds it is cut here.
    """
    is_longer = thinking is not None and len(ids) > thinking
    if is_longer and stopper.is_thinking(request, ids[:thinking]):
        ids, finished = ids[:thinking], False
    return stopper.completion(request.prompt, ids, finished)


def engine_seed(seed: int, number: int) -> int:
    """A seed of 63 bits for sample `number`."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def check_finite(logits: "torch.Tensor") -> None:
    """Check that the logits (rows, vocabulary) of a model are finite.

    Raises:
        CheckpointError: a logit is NaN or infinite, because the model diverged in training.
    """
    if not bool(logits.isfinite().all()):
        raise CheckpointError(DIVERGED)


def draw(
    logits: "torch.Tensor", uniforms: "torch.Tensor", temperature: float, top_p: float
) -> "torch.Tensor":
    """Draw one token per row, by inverting the CDF of the nucleus at a uniform random number.

    Args:
        logits: (rows, vocabulary).
        uniforms: (rows,) random numbers in [0, 1).
        temperature: 0 takes the most likely token.
        top_p: tokens are drawn from the nucleus, the smallest set of most likely tokens with at
            least this probability (Holtzman et al. 2020).

    Returns:
        (rows,) token ids.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p < 1:
        probabilities, order = _likely(probabilities, top_p)
    else:
        order = None
    mass = probabilities.cumsum(-1)
    kept = mass - probabilities < top_p
    total = (probabilities * kept).sum(-1)
    chosen = (mass <= (uniforms * total)[:, None]).sum(-1)
    chosen = chosen.minimum(kept.sum(-1) - 1)  # rounding could choose a token outside the nucleus
    return chosen if order is None else order.gather(-1, chosen[:, None])[:, 0]


def _likely(probabilities: "torch.Tensor", top_p: float) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Probabilities and ids of each row's most likely tokens, descending, to `top_p` at least."""
    if probabilities.shape[-1] > MOST_LIKELY:
        top = probabilities.topk(MOST_LIKELY, dim=-1)
        if bool((top.values.sum(-1) >= top_p).all()):
            return top.values, top.indices
    return probabilities.sort(-1, descending=True)


def _preallocated_cache(config: Any) -> Any:
    """A DynamicCache whose full-attention layers allocate more room than they need.

    The library's layer copies all keys and values whenever it appends a token. With many rows
    that takes longer than reading the weights.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):
        # Buffers for keys and values; `keys` and `values` are the filled part of them.
        buffers: tuple[Any, Any] | None = None

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            if self.buffers is None or end > self.buffers[0].shape[-2]:
                self.buffers = (
                    _larger_buffer(self.keys, key_states, start, end),
                    _larger_buffer(self.values, value_states, start, end),
                )
            for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[..., start:end, :] = new
            self.keys, self.values = (buffer[..., :end, :] for buffer in self.buffers)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            super().batch_select_indices(indices)
            self.buffers = None

    cache = DynamicCache(config=config)
    cache.layers = [
        PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def _larger_buffer(filled: Any, like: Any, start: int, end: int) -> Any:
    """A buffer for half as many tokens more than `end`, which begins with the `filled` one."""
    rows, heads, _, width = like.shape
    buffer = like.new_empty(rows, heads, end + max(32, end // 2), width)
    if start:
        buffer[..., :start, :] = filled
    return buffer


def _uniforms(seed: int, number: int, steps: int) -> np.ndarray:
    """(steps,) float32: one random number per token of sample `number`."""
    return np.random.default_rng([seed, number]).random(steps, dtype=np.float32)


def _left_padded(
    prompts: Sequence[Sequence[int]], device: str
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask, (prompts, longest), of prompts padded on the left."""
    import torch

    width = max(len(ids) for ids in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return input_ids.to(device), mask.to(device)
