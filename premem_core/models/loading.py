"""Loading a causal language model in safetensors, with or without an adapter."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import CheckpointError
from premem_core.records import Checkpoint

if TYPE_CHECKING:
    import torch


def load_model(
    path: Path, dtype: "torch.dtype", *, adapter_base: str | None = None, device: str = "cpu"
) -> tuple[Any, Any]:
    """Tokenizer and model of a folder; with `adapter_base`, that model under the folder's adapter.

    On the device "meta" nothing but the files' headers is read: a check that takes no time.

    Raises:
        CheckpointError: they cannot be loaded, or the tokenizer gives no character offsets.
        MemoryError: they do not fit.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = load_tokenizer(path, adapter_base=adapter_base)
    with refusing(path):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            adapter_base or str(path),
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **({"device_map": device} if device != "cpu" else {}),
        )
    model, report = loaded
    _check_missing(path, report["missing_keys"])
    return tokenizer, _with_adapter(model, path) if adapter_base else model


def load_tokenizer(path: Path, *, adapter_base: str | None = None) -> Any:
    """The folder's own tokenizer, or that of the model that its adapter belongs to.

    Raises:
        CheckpointError: it cannot be loaded, or gives no character offsets.
    """
    from transformers import AutoTokenizer

    with refusing(path):
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_folder(path, adapter_base), trust_remote_code=False
        )
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{path} has a slow tokenizer, which gives no character offsets; save a fast one "
            "(tokenizer.json) beside the weights"
        )
    return tokenizer


def tokenizer_folder(path: Path, adapter_base: str | None) -> str:
    """Where a checkpoint's tokenizer is: an adapter's folder need not have one."""
    own = adapter_base is None or (path / "tokenizer_config.json").exists()
    return str(path) if own else str(adapter_base)


def check_same_base(present: Checkpoint, other: Checkpoint) -> None:
    """Refuse to switch between checkpoints that are not adapters over one model.

    Raises:
        CheckpointError: they are not.
    """
    if present.adapter_base is None or present.adapter_base != other.adapter_base:
        raise CheckpointError(
            f"{other.path} cannot take the place of {present.path}: only adapters over the same "
            "model can be switched; load it anew"
        )


def switch_adapter(model: Any, path: Path) -> None:
    """Put a folder's adapter in the place of the one that a PEFT model has.

    Raises:
        CheckpointError: it cannot be loaded; the present one stays.
        MemoryError: the two do not fit side by side.
    """
    present = model.active_adapter
    name = "other" if present == "default" else "default"
    try:
        _load_adapter(model, path, name)
    except (CheckpointError, MemoryError):
        if name in model.peft_config:
            model.delete_adapter(name)
        model.set_adapter(present)
        raise
    model.set_adapter(name)
    model.delete_adapter(present)
    model.eval()


def _with_adapter(model: Any, path: Path) -> Any:
    from peft import PeftConfig, PeftModel

    with refusing(path):
        adapted = PeftModel(model, PeftConfig.from_pretrained(str(path)))
    _load_adapter(adapted, path, "default")
    return adapted


def _load_adapter(model: Any, path: Path, name: str) -> None:
    with refusing(path):
        report = model.load_adapter(str(path), adapter_name=name)
    # Only the adapter's own weights: the base model's are not in its file.
    _check_missing(path, [key for key in report.missing_keys if "lora_" in key])


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever a library finds wrong with a checkpoint's files is the files' fault."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(f"there is no memory for the model at {path}") from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be loaded ({reason}); expected a causal language model with its "
            "tokenizer, saved as safetensors"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's, an accelerator's and torch's CPU allocator's way to say so."""
    import torch

    said = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in said
            for words in ("out of memory", "can't allocate memory", "not enough memory")
        )
    )


def _check_missing(path: Path, missing: Iterable[str]) -> None:
    if names := sorted(missing):
        raise CheckpointError(
            f"{path} lacks {len(names)} weights of its model ({names[0]} is one), "
            "which would be random; save the whole model again"
        )
