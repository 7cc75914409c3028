"""The server backend: a running OpenAI-compatible server samples and measures.

Only token ids go to the server and come back, so a checkpoint's own tokenizer, templates and ends
are those in its folder on this machine. Its weights are not read.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from premem_core.errors import CheckpointError, DataError, EndpointError, UsageError
from premem_core.models import loading
from premem_core.models.backend import Ending, Request, Target, TokenScores
from premem_core.models.decoding import DIVERGED, Stopper, engine_completion, engine_seed
from premem_core.models.encoding.stops import check_length
from premem_core.models.server import completions_client
from premem_core.models.server.completions_client import Answer, PromptToken, ServedModel
from premem_core.models.server.served_models import Server
from premem_core.records import Checkpoint, Completion, Sampling

PROBE = "The answer is 1 + 2 = 3."  # a text that shows whether server and folder agree
SECONDS = 0.1  # between two looks whether more requests can be sent
# A server takes what a request does not say from the model's generation config.
PLAIN = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class ServerBackend:
    """One checkpoint that a server serves.

    Args:
        checkpoint: the checkpoint, of which tokenizer and configuration are read.

    Raises:
        CheckpointError: the server does not serve the checkpoint, or a model with another
            vocabulary; or training diverged.
        UsageError: the server gives no log-probabilities of prompts, or no token ids.
        EndpointError: the server does not answer; also from the methods.
    """

    def __init__(self, checkpoint: Checkpoint, server: Server) -> None:
        self.server = server
        self._client = server.connect()
        try:
            self.switch(checkpoint)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; requests under way are cancelled."""
        self._client.close()

    def switch(self, checkpoint: Checkpoint) -> None:
        """Go on with another checkpoint of the run.

        Raises:
            CheckpointError, UsageError, EndpointError: as the class; the former one stays.
        """
        model = self.server.models.get(checkpoint.step)
        if model is None:
            raise CheckpointError(
                f"{self.server.endpoint} does not serve {checkpoint.path}; serve it, or say with "
                "--served under which name it is served, and resume the job"
            )
        tokenizer = loading.load_tokenizer(checkpoint.path, adapter_base=checkpoint.adapter_base)
        ends, positions = loading.read_configuration(checkpoint, tokenizer)
        self._check(checkpoint, model, tokenizer)
        self.checkpoint, self.model, self.tokenizer = checkpoint, model, tokenizer
        self.end_tokens = ends
        self.positions: int | None = min(filter(None, (positions, model.positions)), default=None)
        self._last_stopper: Stopper | None = None  # kept, because a new one decodes all tokens

    def target_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        """The log-probability and the rank of each scored token of each target.

        The server generates one token after them, so a text may have one token less than the model
        has positions.

        Raises:
            DataError: a text has too many tokens, or the server refuses it.
            CheckpointError: training diverged.
        """
        for target in targets:
            check_length(len(target.ids) + 1, self.positions, target.ids, self.tokenizer)
        answers = [_prompt_scores(self._client, self.model, target.ids) for target in targets]
        try:
            return [
                _token_scores(_chosen(self._answer(future, target.ids), target.ids, target.scored))
                for future, target in zip(answers, targets, strict=True)
            ]
        finally:
            _cancel(answers)

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, ending: Ending
    ) -> Iterator[list[list[Completion]]]:
        """Yield, for each batch in order, the completions of its requests.

        A completion ends before the first stop string. While there are more batches, at least two
        of them are at the server, and enough requests to keep it busy.

        Raises:
            DataError: a prompt leaves no position for a completion, or the server refuses it.
        """
        source, more = iter(batches), True
        opened: deque[_Batch] = deque()
        enough = 2 * completions_client.AT_ONCE
        try:
            while True:
                while more and (len(opened) < 2 or sum(b.unfinished() for b in opened) < enough):
                    batch = next(source, None)
                    more = batch is not None
                    if batch is not None:
                        opened.append(self._open(batch, sampling, ending))
                if not opened:
                    return
                if opened[0].wait(SECONDS):
                    yield self._completions(opened[0], sampling, self._stopper(ending))
                    opened.popleft()
        finally:
            _cancel(future for batch in opened for future in batch.all())

    def _open(self, requests: Sequence[Request], sampling: Sampling, ending: Ending) -> "_Batch":
        for request in requests:
            ids = request.prompt
            check_length(len(ids) + 1, self.positions, ids, self.tokenizer)
        return _Batch(
            requests,
            [
                [
                    self._client.submit(
                        self.model.name,
                        request.prompt,
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_tokens=self._most_tokens(request, sampling),
                        stop=list(ending.strings),
                        stop_token_ids=sorted(ending.tokens),
                        # A mark of thinking may be a special token; a stop string may hold it.
                        skip_special_tokens=not ending.kept,
                        seed=engine_seed(request.seed, j),
                        **PLAIN,
                    )
                    for j in request.numbers
                ]
                for request in requests
            ],
        )

    def _completions(
        self, batch: "_Batch", sampling: Sampling, stopper: Stopper
    ) -> list[list[Completion]]:
        return [
            [self._completion(future, request, sampling, stopper) for future in futures]
            for request, futures in zip(batch.requests, batch.futures, strict=True)
        ]

    def _completion(
        self, future: Future[Answer], request: Request, sampling: Sampling, stopper: Stopper
    ) -> Completion:
        answer = self._answer(future, request.prompt)
        ids, reason = answer.token_ids or (), answer.finish_reason
        most = self._most_tokens(request, sampling)
        if reason not in ("stop", "length") or (reason == "length" and len(ids) < most):
            raise EndpointError(
                f"the server {self.server.endpoint} ended a completion after {len(ids)} of {most} "
                f"tokens ('{reason}'); start it without a limit of its own, and resume the job"
            )
        thinking = sampling.max_thinking_tokens
        return engine_completion(ids, reason == "stop", request, stopper, thinking)

    def _most_tokens(self, request: Request, sampling: Sampling) -> int:
        if self.positions is None:
            return sampling.max_new_tokens
        return min(sampling.max_new_tokens, self.positions - len(request.prompt))

    def _answer(self, future: Future[Answer], ids: Sequence[int]) -> Answer:
        try:
            return future.result()
        except DataError as error:
            text = self.tokenizer.decode(ids[:40])[:60]
            raise DataError(f"the prompt {text!r} cannot be scored: {error}") from error

    def _stopper(self, ending: Ending) -> Stopper:
        if self._last_stopper is None or self._last_stopper.ending != ending:
            self._last_stopper = Stopper(self.tokenizer, ending)
        return self._last_stopper

    def _check(self, checkpoint: Checkpoint, model: ServedModel, tokenizer: Any) -> None:
        """Check that a model gives what is needed, and has the vocabulary of a tokenizer."""
        ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        url = self.server.endpoint
        try:
            answer = _prompt_scores(self._client, model, ids).result()
        except DataError as error:
            raise UsageError(
                f"the model '{model.name}' cannot score {checkpoint.path}: {error}"
            ) from error
        if answer.prompt_logprobs is None or answer.token_ids is None:
            lacking = "token ids" if answer.prompt_logprobs else "log-probabilities of a prompt"
            raise UsageError(
                f"the server {url} gives no {lacking}, which scoring needs; serve the checkpoint "
                "with vllm serve, or choose another backend"
            )
        chosen = _chosen(answer, ids, range(1, len(ids)))
        for token, i in zip(chosen, ids[1:], strict=True):
            text, ours = token.decoded_token, tokenizer.decode([i])
            # Some tokenizers drop the space before a token that stands alone.
            if text is not None and text.strip() != ours.strip():
                raise CheckpointError(
                    f"the token {i} is {ours!r} in {checkpoint.path}, but {text!r} in the model "
                    f"'{model.name}' of {url}; serve the checkpoint itself (--served says which "
                    "model holds it)"
                )
        _token_scores(chosen)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The requests of a batch, and the answers to come for the samples of each."""

    requests: Sequence[Request]
    futures: list[list[Future[Answer]]]

    def all(self) -> Iterator[Future[Answer]]:
        return itertools.chain.from_iterable(self.futures)

    def unfinished(self) -> int:
        return sum(not future.done() for future in self.all())

    def wait(self, seconds: float) -> bool:
        """Wait at most this long; return True if all are answered, or one failed."""
        _, waiting = wait(self.all(), seconds, return_when=FIRST_EXCEPTION)
        return not waiting or any(f.done() and f.exception() for f in self.all())


def _prompt_scores(
    client: completions_client.CompletionsClient, model: ServedModel, ids: Sequence[int]
) -> Future[Answer]:
    return client.submit(model.name, ids, temperature=0, max_tokens=1, prompt_logprobs=0)


def _chosen(answer: Answer, ids: Sequence[int], places: Iterable[int]) -> list[PromptToken]:
    """What the model gives the tokens of a prompt at these places."""
    rows = answer.prompt_logprobs or ()
    return [(rows[place] or {})[ids[place]] for place in places]


def _token_scores(tokens: Sequence[PromptToken]) -> TokenScores:
    values = np.array([token.logprob for token in tokens], np.float64)  # None becomes NaN
    if not np.isfinite(values).all():
        raise CheckpointError(DIVERGED)
    return TokenScores(values, np.array([token.rank - 1 for token in tokens], np.int64))


def _cancel(futures: Iterable[Future[Answer]]) -> None:
    for future in futures:
        future.cancel()
