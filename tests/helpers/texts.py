"""Texts for backends: prompts and targets as typed, in the token ids that a backend takes."""

from collections.abc import Sequence

from premem_core.models.backend import Backend, Ending, Request
from premem_core.models.encoding.plain import PlainEncoder
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Completion, Example, Sampling, TargetScore
from premem_core.scoring.checkpoint import target_score


def encoder(backend: Backend, stop: Sequence[str] = ()) -> PlainEncoder:
    """Takes the question as the prompt and the solution as the target, as they are."""
    template = PromptTemplate("{question}", "{solution}", tuple(stop))
    return PlainEncoder(template, backend.tokenizer, backend.end_tokens)


def ending(backend: Backend, stop: Sequence[str] = ()) -> Ending:
    return encoder(backend, stop).ending


def request(backend: Backend, prompt: str, seed: int, numbers: range) -> Request:
    return Request(encoder(backend).prompt(Example("", prompt, "", "")), seed, numbers)


def target_scores(
    backend: Backend, prompts: Sequence[str], targets: Sequence[str]
) -> list[TargetScore]:
    encode = encoder(backend).target
    encoded = [encode(Example("", p, t, "")) for p, t in zip(prompts, targets, strict=True)]
    found = backend.target_scores(encoded)
    return list(map(target_score, encoded, found))


def one_batch(
    backend: Backend,
    prompts: Sequence[str],
    sampling: Sampling,
    stop: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    numbers: Sequence[range] | None = None,
) -> list[list[Completion]]:
    """One batch: `sampling.samples` of each prompt, or the `numbers` given for each."""
    seeds = range(len(prompts)) if seeds is None else seeds
    numbers = numbers or [range(sampling.samples)] * len(prompts)
    requests = [request(backend, *item) for item in zip(prompts, seeds, numbers, strict=True)]
    [completions] = backend.sample([requests], sampling, ending(backend, stop))
    return completions
