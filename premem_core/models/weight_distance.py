"""Distance from initialization: how far fine-tuning moved a model's weights.

Weights are read from safetensors one tensor at a time, so no whole model is ever in memory.
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

# Names of embeddings and output heads in various architectures, and of a buffer of old Llamas.
LEFT_OUT = re.compile(r"embed|\b(wte|wpe|lm_head)\b|\.inv_freq$")
# Ways to initialize an adapter that leave the base model's weights as they are.
STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
PART = 2**24  # elements that are converted to float64 at a time


def distance(checkpoint: Checkpoint, base: Path | None = None) -> float:
    """‖θ − θ₀‖₂ without embeddings and output head (Nagarajan & Kolter 2019).

    Args:
        checkpoint: a whole model, or a LoRA adapter, whose distance is the norm of its ΔW.
        base: the folder of the model that was fine-tuned; an adapter needs none.

    Raises:
        UsageError: `checkpoint` is a whole model and `base` is missing.
        CheckpointError: files are missing, broken or not safetensors; the two models have weights
            of different names or shapes; or the adapter is not plain LoRA.
    """
    if checkpoint.adapter_base is not None:
        return _adapter_distance(checkpoint.path)
    if base is None:
        raise UsageError(
            f"{checkpoint.path} is a whole model, and its distance is measured from the model "
            "before fine-tuning; give its folder with --base"
        )
    check_checkpoint(checkpoint)
    check_checkpoint(Checkpoint(base, 0))
    with ExitStack() as stack:
        tuned, initial = _weights(checkpoint.path, stack), _weights(base, stack)
        if unmatched := sorted(tuned.keys() ^ initial.keys()):
            raise _mismatch(checkpoint.path, base, f"only one of them has {unmatched[0]}")
        total = 0.0
        for name in tuned:
            after, before = (files[name].get_tensor(name) for files in (tuned, initial))
            if after.shape != before.shape:
                shapes = f"{tuple(after.shape)} and {tuple(before.shape)}"
                raise _mismatch(checkpoint.path, base, f"{name} has the shapes {shapes}")
            total += _squared_distance(after, before)
    return math.sqrt(total)


def _weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Name of a weight → the open file that holds it, without those left out."""
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
        f"{path} is not {base} after fine-tuning ({reason}); give the model that the run began with"
    )


def _squared_distance(after: "torch.Tensor", before: "torch.Tensor") -> float:
    parts = zip(after.flatten().split(PART), before.flatten().split(PART), strict=True)
    return sum(float((a.double() - b.double()).square().sum()) for a, b in parts)


def _adapter_distance(path: Path) -> float:
    """The root of Σ ‖ΔW‖² over the modules, where ΔW = scaling · B · A.

    ‖B · A‖² = Σ (BᵀB) ∘ (AAᵀ), whose matrices are rank × rank, so ΔW itself is not computed.
    """
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    # Under target_parameters, A and B hold the matrices of several experts.
    unknown = [k for k in ("use_dora", "alpha_pattern", "target_parameters") if config.get(k)]
    # PiSSA, for example, moves a part of the base's weights into B · A before training.
    if config.get("init_lora_weights") not in STARTS:
        unknown.append("init_lora_weights")
    if config.get("peft_type") != "LORA" or unknown:
        setting = (unknown or ["peft_type"])[0]
        raise _no_plain_lora(path, f"its configuration sets {setting} to {config.get(setting)!r}")
    total = 0.0
    for a, b in _pairs(path / "adapter_model.safetensors"):
        rank = len(a)
        scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        total += scaling**2 * float(((b.T @ b) * (a @ a.T)).sum())
    return math.sqrt(total)


def _pairs(file: Path) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Yield A (rank, inputs) and B (outputs, rank) of each module of an adapter, in float64."""
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
        f"{path} is not a plain LoRA adapter ({reason}); the distance is computed only for those"
    )
