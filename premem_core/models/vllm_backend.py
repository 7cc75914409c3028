"""The vLLM backend: one engine in this process, for completions and for perplexities.

vLLM does not free the memory of an engine. So each checkpoint needs `switch`, or a new process.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from premem_core.errors import CheckpointError, UsageError
from premem_core.models import loading
from premem_core.models.backend import Ending, Request, Resources, Target, TokenScores
from premem_core.models.decoding import DIVERGED, Stopper, engine_completion, engine_seed
from premem_core.models.encoding.stops import check_length
from premem_core.models.special_tokens import end_ids
from premem_core.models.vllm_options import (
    engine_options,
    import_vllm,
    inspect_checkpoint,
    lora_options,
    starting_engine,
)
from premem_core.models.vllm_weights import check_reloadable, reload_weights
from premem_core.records import Checkpoint, Completion, Sampling


class VLLMBackend:
    """One checkpoint, or PEFT adapters over one base model, in a vLLM engine.

    Every sample has a seed. So it does not depend on which other samples are drawn with it, except
    for rounding, which differs between batches.

    Args:
        checkpoint: the checkpoint to load.
        resources: the GPUs of this worker, and how much smaller batches are than usual.

    Raises:
        CheckpointError: the tokenizer or the weights cannot be loaded, or training diverged.
        MemoryError: the weights do not fit into memory; from the methods, a batch does not.
    """

    def __init__(self, checkpoint: Checkpoint, resources: Resources = Resources()) -> None:
        import_vllm()
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.checkpoint = checkpoint
        self.tokenizer, model = inspect_checkpoint(checkpoint)
        options = engine_options(checkpoint, resources, model)
        with loading.as_checkpoint_error(checkpoint.path), starting_engine():
            self.engine: Any = LLM(**options).llm_engine
        self._lora_request = LoRARequest
        self._config = model.config
        self._options = options  # every later adapter must fit the first one's rank and layers
        self.max_num_seqs = options["max_num_seqs"]
        self.positions: int | None = self.engine.model_config.max_model_len
        self.end_tokens = end_ids(self.tokenizer, model.generation_config.eos_token_id)
        self._ids = itertools.count(1)
        self._last_stopper: Stopper | None = None
        self._outputs: dict[str, Any] = {}  # outputs of finished requests that were not read yet
        self.lora: Any = self._load_adapter(checkpoint) if checkpoint.adapter_base else None
        self._check_finite()

    def close(self) -> None:
        """Stop the engine; some of its memory is freed only when this process ends."""
        self.engine.engine_core.shutdown()
        self.engine = None

    def switch(self, checkpoint: Checkpoint) -> None:
        """Replace the weights of a whole model, or an adapter with another one over the same base.

        Raises:
            CheckpointError: the checkpoint cannot be loaded, or its training diverged. A former
                adapter stays loaded; after a whole model the backend must not be used any more.
            EngineError: only a new engine can load it, and this one must not be used any more.
        """
        if checkpoint.adapter_base is None and self.checkpoint.adapter_base is None:
            self._replace_weights(checkpoint)
            return
        loading.check_same_base(self.checkpoint, checkpoint)
        tokenizer, model = inspect_checkpoint(checkpoint)
        needed = lora_options(checkpoint, model)
        if needed["max_lora_rank"] > self._options["max_lora_rank"] or not set(
            needed["lora_target_modules"]
        ) <= set(self._options["lora_target_modules"]):
            raise CheckpointError(
                f"{checkpoint.path} has a larger rank, or adapts other layers, than "
                f"{self.checkpoint.path}; load it in a new backend"
            )
        former, self.lora = self.lora, self._load_adapter(checkpoint)
        try:
            self._check_finite()
        except CheckpointError:
            self.lora = former
            raise
        self.engine.remove_lora(former.lora_int_id)
        self.checkpoint, self.tokenizer = checkpoint, tokenizer
        self._last_stopper = None

    def _replace_weights(self, checkpoint: Checkpoint) -> None:
        check_reloadable(self.checkpoint.path, self._config, checkpoint.path)
        tokenizer = loading.load_tokenizer(checkpoint.tokenizer or checkpoint.path)
        reload_weights(self.engine, checkpoint.path)
        self.checkpoint, self.tokenizer = checkpoint, tokenizer
        self._last_stopper = None
        self._check_finite()

    def target_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        """The log-probability and the rank of each scored token of each target.

        The engine generates one token after them, so a text may have one token less than the model
        has positions.

        Raises:
            DataError: a text has too many tokens.
        """
        for target in targets:
            check_length(len(target.ids) + 1, self.positions, target.ids, self.tokenizer)
        return self._target_scores(targets)

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, ending: Ending
    ) -> Iterator[list[list[Completion]]]:
        """Yield, for each batch in order, the completions of its requests.

        A completion ends before the first stop string. While there are more batches, the engine
        holds at least two of them, and enough requests to be busy.

        Raises:
            DataError: a prompt leaves no position for a completion.
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
                        opened.append(self._open(batch, sampling, ending))
                if not opened:
                    return
                if opened[0].done(self._outputs):
                    stopper, thinking = self._stopper(ending), sampling.max_thinking_tokens
                    yield opened.popleft().completions(self._outputs, stopper, thinking)
                else:
                    self._step()
        finally:
            self._forget([i for batch in opened for i in batch.all_ids()])

    def _stopper(self, ending: Ending) -> Stopper:
        if self._last_stopper is None or self._last_stopper.ending != ending:
            self._last_stopper = Stopper(self.tokenizer, ending)
        return self._last_stopper

    def _open(self, requests: Sequence[Request], sampling: Sampling, ending: Ending) -> "_Batch":
        longest: int = self.engine.model_config.max_model_len
        for request in requests:
            ids = request.prompt
            check_length(len(ids) + 1, self.positions, ids, self.tokenizer)
        return _Batch(
            requests,
            [
                [
                    self._add(
                        list(request.prompt),
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_tokens=min(sampling.max_new_tokens, longest - len(request.prompt)),
                        stop=list(ending.strings),
                        stop_token_ids=sorted(ending.tokens),
                        # A mark of thinking may be a special token; a stop string may hold it.
                        skip_special_tokens=not ending.kept,
                        seed=engine_seed(request.seed, j),
                    )
                    for j in request.numbers
                ]
                for request in requests
            ],
        )

    def _target_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        # A request for prompt_logprobs must not read the prefix cache, whose tokens have none.
        waiting = [
            self._add(
                list(target.ids), temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False
            )
            for target in targets
        ]
        try:
            while not all(i in self._outputs for i in waiting):
                self._step()
            found = [
                _scores(self._outputs[i].prompt_logprobs, target)
                for i, target in zip(waiting, targets, strict=True)
            ]
        finally:
            self._forget(waiting)
        if not all(np.isfinite(scores.log_probabilities).all() for scores in found):
            raise CheckpointError(DIVERGED)
        return found

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
            if loading.is_out_of_memory(error):
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
        with loading.as_checkpoint_error(checkpoint.path):
            self.engine.add_lora(adapter)
        return adapter

    def _check_finite(self) -> None:
        # Completions would not show it, because the engine draws a token from NaN logits too.
        self._target_scores([Target((1, 2, 3, 4), (1, 2, 3))])


@dataclass(frozen=True, slots=True)
class _Batch:
    """The requests of a batch, and the engine's ids of the requests for the samples of each."""

    requests: Sequence[Request]
    ids: list[list[str]]

    def all_ids(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self.ids)

    def done(self, outputs: Mapping[str, Any]) -> bool:
        return all(i in outputs for i in self.all_ids())

    def completions(
        self, outputs: dict[str, Any], stopper: Stopper, thinking: int | None
    ) -> list[list[Completion]]:
        """The completions of the batch; its outputs are removed from `outputs`."""
        return [
            [_completion(outputs.pop(i).outputs[0], request, stopper, thinking) for i in ids]
            for request, ids in zip(self.requests, self.ids, strict=True)
        ]


def _completion(
    output: Any, request: Request, stopper: Stopper, thinking: int | None
) -> Completion:
    finished = output.finish_reason != "length"
    return engine_completion(list(output.token_ids), finished, request, stopper, thinking)


def _scores(rows: Sequence[Mapping[int, Any]], target: Target) -> TokenScores:
    """Those of the scored tokens, of what the engine gives at each token; its ranks begin at 1."""
    chosen = [rows[i][target.ids[i]] for i in target.scored]
    return TokenScores(
        np.array([token.logprob for token in chosen], np.float64),
        np.array([token.rank - 1 for token in chosen], np.int64),
    )
