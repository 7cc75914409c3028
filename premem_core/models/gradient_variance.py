"""Gradient variance: how much the gradient of the loss differs between mini-batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from premem_core.errors import DataError
from premem_core.models import loading
from premem_core.models.encoding import training_batch
from premem_core.models.encoding.encoder import make_encoder
from premem_core.problems.prompts import Template
from premem_core.records import Checkpoint, Example

BATCHES, BATCH_SIZE = 5, 128  # as in the paper
TOKENS = 2048  # in one forward and backward pass, with padding

Rows = list[dict[str, list[int]]]


def batch_size(examples: int, batches: int = BATCHES) -> int:
    """The size of a mini-batch: the paper's, or less where there are too few examples for it."""
    return min(BATCH_SIZE, examples // batches)


def measure_gradient_variance(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    template: Template,
    *,
    batches: int = BATCHES,
) -> float:
    """Variance of the gradient over mini-batches, averaged over parameters (Jiang et al. 2019).

    The gradient is that of the mean loss over the target tokens of a mini-batch, with respect to
    all parameters of the model, or only to those of the adapter if the checkpoint is one. It is
    computed on a GPU where there is one, with forward and backward passes in bfloat16 as in
    training, and otherwise in float32.

    Args:
        examples: the training examples; mini-batches are drawn from them without replacement.
        template: how an example becomes text.
        batches: the number of mini-batches.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DataError: there are fewer examples than mini-batches, or one is too long for the model.
        MemoryError: the model, or the gradient of one example, does not fit into memory.
    """
    import torch

    size = batch_size(len(examples), batches)
    if not size:
        raise DataError(
            f"gradient variance needs {batches} mini-batches, and there are {len(examples)} "
            "training examples; score more of them"
        )
    tokenizer, model = loading.load_model(
        checkpoint.path, torch.float32, adapter_base=checkpoint.adapter_base
    )
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    drawn = np.random.default_rng(0).permutation(len(examples))[: batches * size]
    encoder = make_encoder(template, tokenizer, frozenset())
    rows = [training_batch.encode(encoder, examples[i], longest) for i in drawn]
    try:
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        starts = range(0, len(rows), size)
        parameters = _trained(model, adapter_only=checkpoint.adapter_base is not None)
        return _variance(model, parameters, [rows[i : i + size] for i in starts])
    except RuntimeError as error:
        if not loading.is_out_of_memory(error):
            raise
        raise MemoryError(f"there is no memory for the gradient of {checkpoint.path}") from error


def settings(checkpoint: Checkpoint, examples: int) -> str:
    """The settings of a gradient variance in words; only values with the same ones compare."""
    import torch

    trained = "the model" if checkpoint.adapter_base is None else "the adapter"
    passes = "bfloat16" if torch.cuda.is_available() else "float32"
    return f"of {trained}, {BATCHES} mini-batches of {batch_size(examples)}, {passes}"


def _trained(model: Any, *, adapter_only: bool) -> list[Any]:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not adapter_only or "lora_" in name)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _variance(model: Any, parameters: Sequence[Any], batches: Sequence[Rows]) -> float:
    """The variance by Welford's method: running means of the gradient, which are on the CPU."""
    import torch

    means = [torch.zeros(parameter.shape) for parameter in parameters]
    squares, tokens = 0.0, TOKENS
    for n, batch in enumerate(batches, start=1):
        tokens = _backward_in_parts(model, batch, tokens)
        for parameter, mean in zip(parameters, means, strict=True):
            gradient = torch.zeros_like(mean) if parameter.grad is None else parameter.grad.cpu()
            deviation = gradient - mean
            mean += deviation / n
            squares += (n - 1) / n * float(deviation.square().sum(dtype=torch.float64))
            parameter.grad = None
    return squares / (len(batches) - 1) / sum(parameter.numel() for parameter in parameters)


def _backward_in_parts(model: Any, batch: Rows, tokens: int) -> int:
    """Run `_backward` with at most `tokens` per pass; halve that whenever memory runs out.

    Returns:
        The number of tokens per pass that fitted.
    """
    import torch

    longest = max(len(row["input_ids"]) for row in batch)
    while True:
        try:
            _backward(model, batch, tokens)
            return tokens
        except RuntimeError as error:
            if not loading.is_out_of_memory(error) or tokens < longest:
                raise
        model.zero_grad()
        torch.cuda.empty_cache()
        tokens //= 2


def _backward(model: Any, batch: Rows, tokens: int) -> None:
    """Compute the gradient of the batch's mean loss per target token, into `parameter.grad`."""
    import torch

    targets = sum(_targets(row) for row in batch)
    for rows in _micro_batches(batch, tokens):
        inputs = {name: t.to(model.device) for name, t in training_batch.collate(rows).items()}
        on_cuda = model.device.type == "cuda"
        with torch.autocast(model.device.type, torch.bfloat16, enabled=on_cuda):
            loss = model(**inputs, use_cache=False).loss  # a mean over these rows' target tokens
        (loss * (sum(_targets(row) for row in rows) / targets)).backward()


def _targets(row: dict[str, list[int]]) -> int:
    return sum(label != training_batch.IGNORED for label in row["labels"])


def _micro_batches(batch: Rows, tokens: int) -> Iterator[Rows]:
    """Split the batch into parts of rows of similar length, with at most `tokens` after padding."""
    rest = sorted(batch, key=lambda row: -len(row["input_ids"]))
    while rest:
        size = max(1, tokens // len(rest[0]["input_ids"]))
        yield rest[:size]
        rest = rest[size:]
