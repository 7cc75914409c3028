"""The transformers backend: any causal language model in safetensors, on CPU, CUDA or MPS."""

import bisect
import gc
import inspect
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from premem_core.models import loading
from premem_core.models.backend import Ending, Request, Target, TokenScores
from premem_core.models.decoding import Stopper, check_finite, generate
from premem_core.models.encoding.stops import check_length
from premem_core.models.special_tokens import end_ids
from premem_core.records import Checkpoint, Completion, Sampling

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
T = TypeVar("T")

MOST_ROWS = 1024  # sequences that are decoded together, if memory allows
MOST_ROWS_CPU = 192  # with more, keys and values no longer fit into the processor's cache
TOKENS = 16_384  # tokens in one forward pass over targets, with padding
LOGIT_BYTES = 2 * 2**30  # for the logits of such a pass, which are large for large vocabularies
CACHE_BYTES = 2 * 2**30  # for keys and values, where the free memory is unknown


class TransformersBackend:
    """One checkpoint, or one PEFT adapter over its base model, in memory.

    Args:
        checkpoint: the checkpoint to load.
        device: "cpu", "cuda" or "mps"; by default the fastest one that there is.
        dtype: "float32" or "bfloat16"; by default float32 on CPU and bfloat16 elsewhere.
        batch_divisor: batches are this many times smaller than usual.

    Raises:
        CheckpointError: the tokenizer or the weights cannot be loaded.
        MemoryError: the weights do not fit into memory; from the methods, the smallest possible
            batch does not.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_divisor: int = 1,
    ) -> None:
        import torch

        self.batch_divisor = batch_divisor
        self.device: str = device or _best_device()
        self.dtype = getattr(torch, dtype or ("float32" if self.device == "cpu" else "bfloat16"))
        self._load(checkpoint)

    def _load(self, checkpoint: Checkpoint) -> None:
        tokenizer, loaded = loading.load_model(
            checkpoint.path,
            self.dtype,
            adapter_base=checkpoint.adapter_base,
            tokenizer=checkpoint.tokenizer,
        )
        with loading.as_checkpoint_error(checkpoint.path):
            model = loaded.to(self.device).eval()
        self._take(checkpoint, tokenizer, model)

    @classmethod
    def of_model(cls, checkpoint: Checkpoint, tokenizer: Any, model: Any) -> Self:
        """A backend of a model that is loaded already, as a trainer has it, on its own device.

        Args:
            checkpoint: the checkpoint that the model's weights were just saved to.
        """
        backend = cls.__new__(cls)
        parameter = next(model.parameters())
        backend.batch_divisor, backend.dtype = 1, parameter.dtype
        backend.device = parameter.device.type
        backend._take(checkpoint, tokenizer, model)
        return backend

    def _take(self, checkpoint: Checkpoint, tokenizer: Any, model: Any) -> None:
        self.checkpoint, self.tokenizer = checkpoint, tokenizer
        self.model: Any = model
        # Both are halved whenever memory runs out.
        most = MOST_ROWS_CPU if self.device == "cpu" else MOST_ROWS
        self.rows = max(1, most // self.batch_divisor)
        logits = LOGIT_BYTES // (self.model.config.get_text_config().vocab_size * 4)
        self.tokens = max(1, min(TOKENS, logits) // self.batch_divisor)
        # PEFT's forward has only **kwargs, so the arguments are those of the model inside.
        inner = self.model.get_base_model() if checkpoint.adapter_base else self.model
        self.takes = set(inspect.signature(inner.forward).parameters)
        self.positions: int | None = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", None
        )
        self.end_tokens = end_ids(self.tokenizer, self.model.generation_config.eos_token_id)
        self._last_stopper: Stopper | None = None  # kept, because a new one decodes all tokens

    def close(self) -> None:
        """Free the weights and the accelerator's cache."""
        import torch

        former = None if self.model is None else weakref.ref(self.model)
        self.model = self._last_stopper = None
        if former and former():  # it refers to itself
            gc.collect()  # which takes a quarter of a second
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def switch(self, checkpoint: Checkpoint) -> None:
        """Replace the loaded checkpoint: a whole model by any other, an adapter over its base.

        A whole model is loaded as into a new backend, after the former one is freed. To copy
        weights into the former one would save nothing: what takes long, beside reading files, is
        to start a process, its libraries and its GPU.

        Raises:
            CheckpointError: the checkpoint cannot be loaded. A former adapter stays loaded; after
                a whole model nothing is loaded.
            MemoryError: the weights do not fit into memory.
        """
        if checkpoint.adapter_base is None and self.checkpoint.adapter_base is None:
            self.close()
            self._load(checkpoint)
            return
        loading.check_same_base(self.checkpoint, checkpoint)
        tokenizer = loading.load_tokenizer(checkpoint.path, adapter_base=checkpoint.adapter_base)
        loading.switch_adapter(self.model, checkpoint.path)
        self.checkpoint, self.tokenizer, self._last_stopper = checkpoint, tokenizer, None

    def target_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        """The log-probability and the rank of each scored token of each target.

        Raises:
            DataError: a text has more tokens than the model has positions.
        """
        order = sorted(range(len(targets)), key=lambda i: -len(targets[i].ids))
        for i in order[:1]:
            ids = targets[i].ids
            check_length(len(ids), self.positions, ids, self.tokenizer)
        found: dict[int, TokenScores] = {}
        while len(found) < len(order):
            rest = order[len(found) :]
            longest = len(targets[rest[0]].ids)
            batch = rest[: max(1, self.tokens // longest)]
            results = _within_memory(self._batch_scores, [targets[i] for i in batch])
            if results is None:
                self.tokens = _halved(longest * len(batch), longest)
                continue
            found.update(zip(batch, results, strict=True))
        return [found[i] for i in range(len(targets))]

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, ending: Ending
    ) -> Iterator[list[list[Completion]]]:
        """Yield, for each batch in order, the completions of its requests.

        A completion ends before the first stop string.

        Raises:
            DataError: a prompt leaves no position for a completion.
        """
        for batch in batches:
            yield self._sample_batch(batch, sampling, self._stopper(ending))

    def _sample_batch(
        self, requests: Sequence[Request], sampling: Sampling, stopper: Stopper
    ) -> list[list[Completion]]:
        completions: list[list[Completion]] = [[] for _ in requests]
        prompts = [request.prompt for request in requests]
        left = [(i, requests[i].numbers) for i in range(len(requests)) if requests[i].numbers]
        left.sort(key=lambda item: -len(prompts[item[0]]))
        for i, _ in left[:1]:
            check_length(len(prompts[i]) + 1, self.positions, prompts[i], self.tokenizer)
            fitting = self._rows_that_fit(len(prompts[i]) + sampling.max_new_tokens)
        while left:
            batch, rest = _split(left, min(self.rows, fitting))
            results = _within_memory(
                generate,
                self,
                [replace(requests[i], numbers=numbers) for i, numbers in batch],
                sampling,
                stopper,
            )
            if results is None:
                self.rows = _halved(sum(len(numbers) for _, numbers in batch), 1)
                continue
            for (i, _), drawn in zip(batch, results, strict=True):
                completions[i] += drawn
            left = rest
        return completions

    def forward(self, input_ids: "torch.Tensor", mask: "torch.Tensor", **extra: Any) -> Any:
        """One forward pass of the model.

        Positions count only real tokens, so that padding on the left makes no difference.

        Args:
            input_ids: (rows, new tokens).
            mask: (rows, all tokens so far).
        """
        if "position_ids" in self.takes:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
            extra["position_ids"] = positions[:, -input_ids.shape[1] :]
        return self.model(input_ids=input_ids, attention_mask=mask, **extra)

    def _stopper(self, ending: Ending) -> Stopper:
        if self._last_stopper is None or self._last_stopper.ending != ending:
            self._last_stopper = Stopper(self.tokenizer, ending)
        return self._last_stopper

    def _rows_that_fit(self, tokens: int) -> int:
        """How many sequences of this many tokens fit into the memory for keys and values."""
        import torch

        config = self.model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", 1)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        heads = getattr(config, "num_key_value_heads", None) or heads
        row = 2 * config.num_hidden_layers * heads * width * self.dtype.itemsize * tokens
        free = CACHE_BYTES
        if self.device == "cuda":
            # What the last batch has used is free too, although torch keeps it for the next one.
            kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
            free = (torch.cuda.mem_get_info()[0] + kept) // 2
        return max(1, free // row // self.batch_divisor)

    def _batch_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        import torch

        with torch.inference_mode():
            width = max(len(target.ids) for target in targets)
            input_ids = torch.zeros(len(targets), width, dtype=torch.long)
            mask = torch.zeros_like(input_ids)
            for row, target in enumerate(targets):
                input_ids[row, : len(target.ids)] = torch.tensor(target.ids)
                mask[row, : len(target.ids)] = 1
            input_ids, mask = input_ids.to(self.device), mask.to(self.device)
            logits = self.forward(input_ids, mask, use_cache=False).logits
            check_finite(logits[:, -1])
            found = []
            for row, target in enumerate(targets):  # float32 logits of all rows need much memory
                positions = torch.tensor(target.scored, device=self.device)
                of_row, ids = logits[row, positions - 1].float(), input_ids[row, positions]
                losses = torch.nn.functional.cross_entropy(of_row, ids, reduction="none")
                ranks = (of_row >= of_row.gather(1, ids[:, None])).sum(1) - 1
                found.append(TokenScores(-losses.cpu().double().numpy(), ranks.cpu().numpy()))
            return found


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _split(
    left: Sequence[tuple[int, range]], rows: int
) -> tuple[list[tuple[int, range]], list[tuple[int, range]]]:
    """Split requests into those with at most `rows` samples together, and the rest.

    A request that has more samples than that is split itself.

    >>> _split([(0, range(3)), (1, range(3)), (2, range(3))], 7)
    ([(0, range(0, 3)), (1, range(0, 3))], [(2, range(0, 3))])
    >>> _split([(0, range(3))], 2)
    ([(0, range(0, 2))], [(0, range(2, 3))])
    """
    ends = list(itertools.accumulate(len(numbers) for _, numbers in left))
    whole = bisect.bisect_right(ends, rows)
    if whole:
        return list(left[:whole]), list(left[whole:])
    i, numbers = left[0]
    return [(i, numbers[:rows])], [(i, numbers[rows:]), *left[1:]]


def _within_memory(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """The result of `work`, or None when memory ran out."""
    import torch

    try:
        return work(*args, **kwargs)
    except (MemoryError, RuntimeError) as error:
        if not loading.is_out_of_memory(error):
            raise
    # Outside the `except` block, so that the tensors of the failed call are no longer referenced.
    torch.cuda.empty_cache()
    return None


def _halved(size: int, smallest: int) -> int:
    if size <= smallest:
        raise MemoryError("there is no memory for even one sequence; free some, or use fewer jobs")
    return max(smallest, size // 2)
