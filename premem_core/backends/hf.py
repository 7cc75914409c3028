"""The transformers backend: any causal language model in safetensors, on CPU, CUDA or MPS."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from premem_core import causal_lm
from premem_core.backends.decoding import Stopper, check_finite, generate
from premem_core.causal_lm import encode_pair
from premem_core.errors import DataError
from premem_core.types import Checkpoint, Completion, Sampling, TargetScore

if TYPE_CHECKING:
    import torch

MOST_ROWS = 1024  # sequences decoded together, memory permitting
MOST_ROWS_CPU = 192  # more only pushes keys and values out of the processor's cache
TOKENS = 16_384  # tokens, padding included, in one forward pass of target_nll
LOGIT_BYTES = 2 * 2**30  # for the logits of such a pass, which a large vocabulary makes huge
CACHE_BYTES = 2 * 2**30  # for keys and values, where free memory is not known


class HFBackend:
    """One checkpoint (or PEFT adapter over its base) in memory.

    Args:
        checkpoint: where the weights are.
        device: "cpu", "cuda" or "mps"; by default the best that is there.
        dtype: "float32" or "bfloat16"; by default float32 on CPU, bfloat16 elsewhere.

    Raises:
        CheckpointError: the tokenizer or the weights cannot be loaded.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str | None = None, dtype: str | None = None
    ) -> None:
        import torch

        self.device = device or _best_device()
        self.dtype = getattr(torch, dtype or ("float32" if self.device == "cpu" else "bfloat16"))
        self.tokenizer, loaded = causal_lm.load(
            checkpoint.path, self.dtype, adapter_base=checkpoint.adapter_base
        )
        self.model: Any = loaded.to(self.device).eval()
        self.rows = MOST_ROWS_CPU if self.device == "cpu" else MOST_ROWS
        # Both are halved whenever memory runs out.
        self.tokens = min(
            TOKENS, LOGIT_BYTES // (self.model.config.get_text_config().vocab_size * 4)
        )
        # An adapter's forward hides its model's arguments behind **kwargs.
        inner = self.model.get_base_model() if checkpoint.adapter_base else self.model
        self.takes = set(inspect.signature(inner.forward).parameters)
        self.positions = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", None
        )
        self.end_tokens = _end_tokens(self.model, self.tokenizer)
        self._last_stopper: Stopper | None = None  # making one reads the whole vocabulary

    def close(self) -> None:
        """Free the weights and the accelerator's cache."""
        import torch

        del self.model
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def target_nll(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
        """Mean NLL per target token, in nats (paper, section 3: PPL is its exponential).

        What a target token is, `causal_lm.encode_pair` says.

        Raises:
            DataError: a target has no token that can be scored.
        """
        pairs = [encode_pair(self.tokenizer, p, t) for p, t in zip(prompts, targets, strict=True)]
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
        self._check_length(len(pairs[order[0]][0]), prompts[order[0]])
        scores: dict[int, TargetScore] = {}
        while len(scores) < len(order):
            rest = order[len(scores) :]
            longest = len(pairs[rest[0]][0])
            batch = rest[: max(1, self.tokens // longest)]
            try:
                results = self._batch_nll([pairs[i] for i in batch])
            except _out_of_memory() as error:
                self.tokens = _halved(self.tokens, longest, error)
                continue
            scores.update(zip(batch, results, strict=True))
        return [scores[i] for i in range(len(pairs))]

    def sample(
        self, prompts: Sequence[str], sampling: Sampling, stop: Sequence[str], seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """`sampling.samples` completions of each prompt, cut before the first stop string."""
        if not prompts:
            return []
        ids = [self._encode_prompt(prompt) for prompt in prompts]
        stopper = self._stopper(tuple(stop))
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        self._check_length(len(ids[order[0]]) + 1, prompts[order[0]])
        longest = len(ids[order[0]]) + sampling.max_new_tokens
        self.rows = min(self.rows, self._rows_that_fit(longest))
        completions: dict[int, list[Completion]] = {}
        while len(completions) < len(order):
            rest = order[len(completions) :]
            batch = rest[: max(1, self.rows // sampling.samples)]
            try:
                results = generate(
                    self, [ids[i] for i in batch], [seeds[i] for i in batch], sampling, stopper
                )
            except _out_of_memory() as error:
                self.rows = _halved(self.rows, sampling.samples, error)
                continue
            completions.update(zip(batch, results, strict=True))
        return [completions[i] for i in range(len(ids))]

    def forward(self, input_ids: "torch.Tensor", mask: "torch.Tensor", **extra: Any) -> Any:
        """One pass over `input_ids` (rows, new tokens) with `mask` (rows, all tokens so far).

        Positions count real tokens only, so left padding changes nothing.
        """
        if "position_ids" in self.takes:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
            extra["position_ids"] = positions[:, -input_ids.shape[1] :]
        return self.model(input_ids=input_ids, attention_mask=mask, **extra)

    def _check_length(self, tokens: int, prompt: str) -> None:
        if self.positions is not None and tokens > self.positions:
            raise DataError(
                f"{tokens} tokens are needed for the prompt {prompt[:60]!r} and what follows it, "
                f"but the model takes {self.positions}; leave such problems out"
            )

    def _stopper(self, stop: tuple[str, ...]) -> Stopper:
        if self._last_stopper is None or self._last_stopper.stop != stop:
            # A stop string that is a special token is never part of decoded text.
            special = {
                i for i in self.tokenizer.convert_tokens_to_ids(list(stop)) if i is not None
            } & set(self.tokenizer.all_special_ids)
            self._last_stopper = Stopper(self.tokenizer, stop, self.end_tokens | special)
        return self._last_stopper

    def _rows_that_fit(self, tokens: int) -> int:
        """How many sequences of that length the key/value cache has room for."""
        import torch

        config = self.model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", 1)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        heads = getattr(config, "num_key_value_heads", None) or heads
        row = 2 * config.num_hidden_layers * heads * width * self.dtype.itemsize * tokens
        free = 0.5 * torch.cuda.mem_get_info()[0] if self.device == "cuda" else CACHE_BYTES
        return max(1, int(free // row))

    def _encode_prompt(self, prompt: str) -> list[int]:
        encoded = self.tokenizer(prompt, return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        # A tokenizer that appends EOS would make the model continue a finished text.
        while (
            ids and ids[-1] in self.end_tokens and encoded["offset_mapping"][len(ids) - 1][1] == 0
        ):
            ids.pop()
        if not ids:
            raise DataError("a prompt is empty for this tokenizer; give the template some text")
        return ids

    def _batch_nll(self, pairs: Sequence[tuple[list[int], int]]) -> list[TargetScore]:
        import torch

        with torch.inference_mode():
            width = max(len(ids) for ids, _ in pairs)
            input_ids = torch.zeros(len(pairs), width, dtype=torch.long)
            mask = torch.zeros_like(input_ids)
            wanted = torch.zeros_like(input_ids, dtype=torch.bool)
            for row, (ids, first) in enumerate(pairs):
                input_ids[row, : len(ids)] = torch.tensor(ids)
                mask[row, : len(ids)] = 1
                wanted[row, first : len(ids)] = True
            input_ids, mask = input_ids.to(self.device), mask.to(self.device)
            logits = self.forward(input_ids, mask, use_cache=False).logits
            check_finite(logits[:, -1])
            scores = []
            for row in range(len(pairs)):  # row by row: float32 logits of a whole batch are huge
                at = wanted[row].nonzero()[:, 0].to(self.device)
                losses = torch.nn.functional.cross_entropy(
                    logits[row, at - 1].float(), input_ids[row, at], reduction="none"
                )
                scores.append(TargetScore(float(losses.cpu().double().mean()), len(at)))
            return scores


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _out_of_memory() -> type[BaseException]:
    import torch

    return torch.OutOfMemoryError


def _halved(size: int, smallest: int, error: BaseException) -> int:
    import torch

    if size <= smallest:
        raise error
    torch.cuda.empty_cache()
    return max(smallest, size // 2)
