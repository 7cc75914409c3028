"""How far fine-tuning moved a model's weights: its distance from initialization.

Weights are read tensor by tensor from safetensors: no model is ever in memory.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import CheckpointError, UsageError
from premem_core.models.checkpoints import check_checkpoint
from premem_core.records import Checkpoint

if TYPE_CHECKING:
    import torch

# Embeddings and output heads under the names that architectures give them; a buffer of old Llamas.
LEFT_OUT = re.compile(r"embed|\b(wte|wpe|lm_head)\b|\.inv_freq$")
PART = 2**24  # elements in float64 at a time


def distance(checkpoint: Checkpoint, base: Path | None = None) -> float:
    """‖θ − θ₀‖₂, embeddings and output head left out (Nagarajan & Kolter 2019).

    Args:
        checkpoint: a whole model, or a LoRA adapter, whose distance is that of its ΔW alone.
        base: folder of the model that a whole one was fine-tuned from; an adapter needs none.

    Raises:
        UsageError: a whole model without `base`.
        CheckpointError: files are missing, broken or no safetensors; names or shapes of the two
            models differ; the adapter is not plain LoRA.
    """
    if checkpoint.adapter_base is not None:
        return _adapter_distance(checkpoint.path)
    if base is None:
        raise UsageError(
            f"{checkpoint.path} is a whole model, whose distance is that to the model it was "
            "fine-tuned from; give its folder with --base"
        )
    check_checkpoint(checkpoint)
    check_checkpoint(Checkpoint(base, 0))
    with ExitStack() as stack:
        tuned, initial = _weights(checkpoint.path, stack), _weights(base, stack)
        if unmatched := sorted(tuned.keys() ^ initial.keys()):
            raise _mismatch(checkpoint.path, base, f"only one of them has {unmatched[0]}")
        total = 0.0
        for name in tuned:
            one, other = (files[name].get_tensor(name) for files in (tuned, initial))
            if one.shape != other.shape:
                shapes = f"{tuple(one.shape)} and {tuple(other.shape)}"
                raise _mismatch(checkpoint.path, base, f"{name} has the shapes {shapes}")
            total += _squared_distance(one, other)
    return math.sqrt(total)


def _weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """For each weight that counts, the opened file that it is in."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = [stack.enter_context(safe_open(str(folder / n), framework="pt")) for n in names]
    return {
        name: file for file in files for name in file.offset_keys() if not LEFT_OUT.search(name)
    }


def _mismatch(path: Path, base: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} and {base} are not the same model before and after fine-tuning ({reason}); give "
        "the model that the run began with"
    )


def _squared_distance(one: "torch.Tensor", other: "torch.Tensor") -> float:
    parts = zip(one.flatten().split(PART), other.flatten().split(PART), strict=True)
    return sum(float((a.double() - b.double()).square().sum()) for a, b in parts)


def _adapter_distance(path: Path) -> float:
    """The root of Σ ‖ΔW‖² over the modules, ΔW = scaling · B · A.

    ‖B · A‖² = Σ (BᵀB) ∘ (AAᵀ), all of it rank × rank: ΔW itself is never made.
    """
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    unknown = [key for key in ("use_dora", "alpha_pattern") if config.get(key)]
    if config.get("peft_type") != "LORA" or unknown:
        raise _no_plain_lora(path, f"its configuration's {(unknown or ['peft_type'])[0]} says so")
    total = 0.0
    for a, b in _pairs(path / "adapter_model.safetensors"):
        rank = len(a)
        scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        total += scaling**2 * float(((b.T @ b) * (a @ a.T)).sum())
    return math.sqrt(total)


def _pairs(file: Path) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """A (rank, inputs) and B (outputs, rank) of each module of an adapter, float64."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as tensors:
            names = {name for name in tensors.offset_keys() if not LEFT_OUT.search(name)}
            modules = {name.rsplit(".lora_", 1)[0] for name in names}
            if names != {f"{module}.lora_{side}.weight" for module in modules for side in "AB"}:
                raise _no_plain_lora(file, "it holds more than pairs of lora_A and lora_B")
            for module in sorted(modules):
                a, b = (tensors.get_tensor(f"{module}.lora_{side}.weight") for side in "AB")
                if len(a) != b.shape[1]:
                    raise _no_plain_lora(file, f"A and B of {module} have different ranks")
                yield a.double(), b.double()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}); copy or save the adapter again"
        ) from error


def _no_plain_lora(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is no plain LoRA adapter ({reason}); of others the distance is not defined here"
    )
