"""Sampling by hand: one prompt pass shared by n samples, finished rows leave the batch.

`transformers.generate` computes each prompt n times and keeps finished rows to the end. What a
sample becomes here depends only on the logits and on its own stream of uniforms: not on its
neighbours in the batch, nor on what was sampled before it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from premem_core.errors import CheckpointError
from premem_core.models.backend import Request
from premem_core.records import Completion, Sampling

if TYPE_CHECKING:
    import torch

    from premem_core.models.transformers_backend import TransformersBackend

MOST_LIKELY = 64  # tokens that nearly always hold the nucleus; sorting a whole vocabulary is slow


class Stopper:
    """Knows when a row is finished, and cuts its text there.

    Args:
        tokenizer: a fast tokenizer.
        stop: strings that end a completion; they are not part of it.
        end_tokens: token ids that end a completion.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], end_tokens: frozenset[int]) -> None:
        self.tokenizer, self.stop, self.end_tokens = tokenizer, tuple(stop), end_tokens
        self.tail = max((len(s.encode()) for s in stop), default=0) + 2
        # A stop string can only be completed by a token that holds its last character: decoding
        # every row at every step would cost more than a small model's forward pass.
        last = {s[-1] for s in stop}
        pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))]) if stop else []
        self.closing = frozenset(
            i for i, piece in enumerate(pieces) if "\ufffd" in piece or last & set(piece)
        )

    def finished(self, ids: Sequence[int]) -> bool:
        """True when the tokens generated so far end a completion."""
        if ids[-1] in self.end_tokens:
            return True
        if ids[-1] not in self.closing:
            return False
        text = self._decode(ids[-self.tail :])
        return any(stop in text for stop in self.stop)

    def completion(self, prompt: Sequence[int], ids: Sequence[int], finished: bool) -> Completion:
        """The generated text, cut before the first stop string."""
        # Decoded after its prompt: alone, some tokenizers would drop its leading space.
        text = self._decode([*prompt, *ids])[len(self._decode(prompt)) :]
        cuts = [at for at in (text.find(stop) for stop in self.stop) if at >= 0]
        return Completion(text[: min(cuts, default=len(text))], len(ids), finished)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def generate(
    backend: "TransformersBackend",
    prompts: Sequence[Sequence[int]],
    requests: Sequence[Request],
    sampling: Sampling,
    stopper: Stopper,
) -> list[list[Completion]]:
    """Every request's samples, at least one of each; `prompts` are the requests' token ids."""
    import torch

    of_prompt = np.repeat(np.arange(len(requests)), [len(r.numbers) for r in requests])
    uniforms = torch.from_numpy(
        np.stack(
            [_uniforms(r.seed, j, sampling.max_new_tokens) for r in requests for j in r.numbers]
        )
    ).to(backend.device)
    with torch.inference_mode():
        input_ids, mask = _left_padded(prompts, backend.device)
        cache = _roomy_cache(backend.model.config)
        # Only the last position's logits: those of whole prompts are huge with a large vocabulary.
        last = {"logits_to_keep": 1} if "logits_to_keep" in backend.takes else {}
        output = backend.forward(input_ids, mask, past_key_values=cache, use_cache=True, **last)
        check_finite(output.logits[:, -1])
        logits = output.logits[:, -1]
        if len(of_prompt) > len(prompts):
            each = torch.from_numpy(of_prompt).to(backend.device)
            cache.batch_select_indices(each)
            logits, mask = logits[each], mask[each]
        generated: list[list[int]] = [[] for _ in of_prompt]
        ended, done = [False] * len(generated), [False] * len(generated)
        positions = backend.positions or math.inf
        budgets = [min(sampling.max_new_tokens, positions - len(prompts[i])) for i in of_prompt]
        active = list(range(len(generated)))  # which row each line of the batch belongs to
        for step in range(sampling.max_new_tokens):
            tokens = draw(logits, uniforms[:, step], sampling.temperature, sampling.top_p)
            for row, token in zip(active, tokens.tolist(), strict=True):
                if not done[row]:
                    generated[row].append(token)
                    ended[row] = stopper.finished(generated[row])
                    done[row] = ended[row] or len(generated[row]) == budgets[row]
            alive = [line for line, row in enumerate(active) if not done[row]]
            if not alive:
                break
            if len(alive) <= 0.85 * len(active):  # compacting copies the cache, so not every time
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


def check_finite(logits: "torch.Tensor") -> None:
    """Refuse the logits (rows, vocabulary) of a model that diverged.

    Raises:
        CheckpointError: one of them is not a number, or infinite.
    """
    if not bool(logits.isfinite().all()):
        raise CheckpointError("the model's logits are not finite: its training diverged")


def draw(
    logits: "torch.Tensor", uniforms: "torch.Tensor", temperature: float, top_p: float
) -> "torch.Tensor":
    """One token per row by inverting the nucleus distribution's CDF at that row's uniform.

    Args:
        logits: (rows, vocabulary).
        uniforms: (rows,) in [0, 1).
        temperature: 0 takes the most likely token.
        top_p: the smallest set of most likely tokens with at least this mass is drawn from
            (Holtzman et al. 2020).

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
    chosen = chosen.minimum(kept.sum(-1) - 1)  # rounding must not step out of the nucleus
    return chosen if order is None else order.gather(-1, chosen[:, None])[:, 0]


def _likely(probabilities: "torch.Tensor", top_p: float) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Each row's most likely tokens, descending, at least those that make up `top_p`."""
    if probabilities.shape[-1] > MOST_LIKELY:
        top = probabilities.topk(MOST_LIKELY, dim=-1)
        if bool((top.values.sum(-1) >= top_p).all()):
            return top.values, top.indices
    return probabilities.sort(-1, descending=True)


def _roomy_cache(config: Any) -> Any:
    """A DynamicCache whose full-attention layers keep spare room.

    The library's layer copies all keys and values at every token to append one; with many rows
    that costs more than reading the weights.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        room: tuple[Any, Any] | None = None  # buffers of which keys and values are the filled part

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            if self.room is None or end > self.room[0].shape[-2]:
                self.room = (
                    _with_room(self.keys, key_states, start, end),
                    _with_room(self.values, value_states, start, end),
                )
            for buffer, new in zip(self.room, (key_states, value_states), strict=True):
                buffer[..., start:end, :] = new
            self.keys, self.values = (buffer[..., :end, :] for buffer in self.room)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            super().batch_select_indices(indices)
            self.room = None

    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def _with_room(filled: Any, like: Any, start: int, end: int) -> Any:
    """A buffer for `end` tokens and half as many again, that begins with what is filled."""
    rows, heads, _, width = like.shape
    buffer = like.new_empty(rows, heads, end + max(32, end // 2), width)
    if start:
        buffer[..., :start, :] = filled
    return buffer


def _uniforms(seed: int, number: int, steps: int) -> np.ndarray:
    """(steps,) float32: one draw per token of sample `number`."""
    return np.random.default_rng([seed, number]).random(steps, dtype=np.float32)


def _left_padded(
    prompts: Sequence[Sequence[int]], device: str
) -> tuple["torch.Tensor", "torch.Tensor"]:
    import torch

    width = max(len(ids) for ids in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return input_ids.to(device), mask.to(device)
