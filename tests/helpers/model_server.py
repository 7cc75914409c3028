"""A completions server on this machine, which computes with the transformers backend.

It answers as `vllm serve` does, which tests/vllm compares with the real one.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from premem_core.models.backend import Ending, Request, Target
from premem_core.models.decoding import Stopper, generate
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint, Sampling
from tests.helpers.endpoints import Served, listening

Fault = Callable[[dict], tuple[int, dict] | None]  # a status and a body instead of an answer
Change = Callable[[dict], None]


class _Ids(Stopper):
    """Keeps the token ids of a completion, and whether it is finished."""

    drawn: tuple[list[int], bool]

    def completion(self, prompt, ids, finished):
        self.drawn = list(ids), finished
        return super().completion(prompt, ids, finished)


@contextmanager
def model_server(
    models: Mapping[str, Checkpoint],
    fault: Fault = lambda body: None,
    change: Change = lambda choice: None,
    *,
    port: int = 0,
    positions: int = 256,
) -> Iterator[Served]:
    """Serves checkpoints by these names; `change` may alter what it answers."""
    loaded: dict[str, TransformersBackend] = {}
    lock = threading.Lock()

    def answer(path: str, body: dict) -> tuple[int, bytes]:
        status, said = 200, dict[str, object]()
        if path == "/v1/models":
            said = {"data": [_card(name, models[name], positions) for name in models]}
        elif body["model"] not in models:
            status, said = 404, {"error": {"message": f"no model {body['model']}"}}
        elif found := fault(body):
            status, said = found
        else:
            with lock:
                name = body["model"]
                if name not in loaded:
                    loaded[name] = TransformersBackend(models[name], device="cpu")
                choice = _choice(loaded[name], body)
                change(choice)
                said = {"choices": [choice]}
        return status, json.dumps(said).encode()

    with listening(answer, port=port) as there:
        yield there


def _card(name: str, checkpoint: Checkpoint, positions: int) -> dict:
    parent = checkpoint.adapter_base
    return {
        "id": name, "object": "model", "root": str(checkpoint.path), "parent": parent,
        "max_model_len": None if parent else positions,
    }  # fmt: skip


def _choice(backend: TransformersBackend, body: dict) -> dict:
    ids = tuple(body["prompt"])
    sampling = Sampling(1, body["temperature"], body.get("top_p", 1), body["max_tokens"])
    ending = Ending(tuple(body.get("stop", ())), frozenset(body.get("stop_token_ids", ())))
    stopper = _Ids(backend.tokenizer, ending)
    request = Request(ids, body.get("seed", 0), range(1))
    generate(backend, [request], sampling, stopper)
    drawn, finished = stopper.drawn
    choice: dict[str, object] = {
        "index": 0,
        "text": "",
        "finish_reason": "stop" if finished else "length",
    }
    if body.get("return_token_ids"):
        choice["token_ids"] = drawn
    if body.get("prompt_logprobs") is not None:
        choice["prompt_logprobs"] = [None, *_prompt_tokens(backend, ids)]
    return choice


def _prompt_tokens(backend: TransformersBackend, ids: tuple[int, ...]) -> Iterator[dict]:
    [scores] = backend.target_scores([Target(ids, tuple(range(1, len(ids))))])
    rows = zip(ids[1:], scores.log_probabilities.tolist(), scores.ranks.tolist(), strict=True)
    for i, logprob, rank in rows:
        decoded = backend.tokenizer.decode([i])
        yield {i: {"logprob": logprob, "rank": rank + 1, "decoded_token": decoded}}
