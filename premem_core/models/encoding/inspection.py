"""Inspection: what a model would see of a run's examples, token by token, before anything runs.

Only the tokenizer and the configuration of a checkpoint are read, not its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from premem_core.errors import DataError
from premem_core.models import loading
from premem_core.models.backend import Target
from premem_core.models.encoding.encoder import Encoder, make_encoder
from premem_core.models.encoding.inspection_warnings import find_warnings
from premem_core.models.encoding.stops import added_tokens
from premem_core.problems.prompts import Template
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Checkpoint, Example

SHOWN = 3  # examples

Part = Literal["prompt", "trace", "target", "between"]


@dataclass(frozen=True, slots=True)
class SeenToken:
    """One token of an example.

    Attributes:
        part: "prompt"; "target" or "trace", which are scored; or "between": after the prompt, but
            not scored.
        special: whether it was added to the vocabulary as a whole.
    """

    id: int
    text: str
    part: Part
    special: bool


@dataclass(frozen=True, slots=True)
class SeenExample:
    """The tokens of one example."""

    id: str
    tokens: tuple[SeenToken, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A problem that cannot be scored, with the reason."""

    split: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model would see.

    Attributes:
        examples: the first examples.
        stops: what ends a completion: texts, and tokens as texts.
        left_out: the problems that cannot be scored.
        warnings: sentences about what may be wrong.
    """

    examples: tuple[SeenExample, ...]
    stops: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The inspection as `read_inspection` reads it."""
        return asdict(self)


def read_inspection(content: Mapping[str, Any]) -> Inspection:
    """The inspection that `Inspection.as_json` gave."""
    return Inspection(
        tuple(
            SeenExample(seen["id"], tuple(SeenToken(**token) for token in seen["tokens"]))
            for seen in content["examples"]
        ),
        tuple(content["stops"]),
        tuple(LeftOut(**left) for left in content["left_out"]),
        tuple(content["warnings"]),
    )


def inspect_checkpoint(
    checkpoint: Checkpoint,
    template: Template,
    marks: ThinkingMarks | None,
    longest: int | None,
    train: Sequence[Example],
    test: Sequence[Example] = (),
    *,
    spare: int = 0,
    positions: int | None = None,
) -> Inspection:
    """What a checkpoint would see of these problems.

    Args:
        spare: positions that the engine needs beside those of a text.
        positions: how many the engine has, where they are fewer than the checkpoint's.

    Raises:
        CheckpointError: its tokenizer or configuration cannot be loaded.
        DataError: there is no chat template, or no training problem can be scored.
    """
    tokenizer = loading.load_tokenizer(checkpoint.path, adapter_base=checkpoint.adapter_base)
    ends, own = loading.read_configuration(checkpoint, tokenizer)
    encoder = make_encoder(template, tokenizer, ends, marks, longest)
    fewest = min(filter(None, (own, positions)), default=None)
    most = None if fewest is None else fewest - spare
    return inspect_examples(encoder, tokenizer, most, template, train, test, marks)


def inspect_examples(
    encoder: Encoder,
    tokenizer: Any,
    positions: int | None,
    template: Template,
    train: Sequence[Example],
    test: Sequence[Example] = (),
    marks: ThinkingMarks | None = None,
) -> Inspection:
    """What a model would see of these problems.

    Args:
        positions: how many tokens the model takes; None if there is no limit.

    Raises:
        DataError: no training problem can be scored; the message gives the first reason.
    """
    targets: list[tuple[Example, Target]] = []
    left_out: list[LeftOut] = []
    for example in train:
        try:
            target = encoder.target(example)
            _check_fits(len(target.ids), positions)
        except DataError as error:
            left_out.append(LeftOut("train", example.id, str(error)))
        else:
            targets.append((example, target))
    if not targets:
        raise DataError(
            f"none of {len(train)} training problems can be scored; the first because: "
            f"{left_out[0].reason}"
        )
    for example in test:
        try:
            _check_fits(len(encoder.prompt(example)) + 1, positions)
        except DataError as error:
            left_out.append(LeftOut("test", example.id, str(error)))
    return Inspection(
        tuple(_seen(tokenizer, encoder, *item) for item in targets[:SHOWN]),
        _stops(encoder, tokenizer),
        tuple(left_out),
        find_warnings(encoder, tokenizer, template, targets, test, marks),
    )


def _check_fits(tokens: int, positions: int | None) -> None:
    if positions is not None and tokens > positions:
        raise DataError(f"it has {tokens} tokens, and the model takes {positions}")


def _seen(tokenizer: Any, encoder: Encoder, example: Example, target: Target) -> SeenExample:
    scored = {place: n < target.trace for n, place in enumerate(target.scored)}
    special = set(added_tokens(tokenizer).values())
    first = target.scored[0]

    def part(place: int) -> Part:
        if place in scored:
            return "trace" if scored[place] else "target"
        return "prompt" if place < first else "between"

    tokens = (
        SeenToken(i, tokenizer.decode([i]), part(place), i in special)
        for place, i in enumerate(target.ids)
    )
    return SeenExample(example.id, tuple(tokens))


def _stops(encoder: Encoder, tokenizer: Any) -> tuple[str, ...]:
    tokens = [tokenizer.decode([i]) for i in sorted(encoder.ending.tokens)]
    return (*encoder.ending.strings, *tokens)
