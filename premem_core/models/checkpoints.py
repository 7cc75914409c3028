"""Reading a run's folder: its checkpoints in training order, without loading weights.

Only JSON files and the headers of safetensors files are opened. `training_args.bin` and `*.pt` are
pickles, which can run code when they are loaded, so they are never opened.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError
from premem_core.models.tokenizer_files import holds_tokenizer
from premem_core.records import Checkpoint, Run

STEP = re.compile(r"checkpoint-(\d+)")
PICKLED = ("pytorch_model", "adapter_model")


@dataclass(frozen=True, slots=True)
class _TrainerState:
    step: int = 0
    epoch: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    learning_rates: tuple[float, ...] = ()


def read_run(path: Path, *, check: bool = True) -> Run:
    """The run in a folder: its checkpoints `checkpoint-<step>`, or the folder itself if it is one.

    Args:
        check: also check every checkpoint with `check_checkpoint`.

    Raises:
        CheckpointError: there is no checkpoint, or (with `check`) one of them cannot be scored.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder; give a run's folder with checkpoint-<step>")
    folders = {int(m[1]): p for p in path.iterdir() if (m := STEP.fullmatch(p.name))}
    if not folders and _is_checkpoint(path):
        folders = {_trainer_state(path).step: path}
    if not folders:
        raise CheckpointError(
            f"{path} holds no checkpoint; expected folders named checkpoint-<step>, "
            "as transformers' Trainer writes them"
        )
    checkpoints = tuple(_read_checkpoint(folders[step], step) for step in sorted(folders))
    if check:
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)
    last = _trainer_state(checkpoints[-1].path)
    return Run(
        path=path,
        checkpoints=checkpoints,
        learning_rate=max(last.learning_rates, default=None),
        epochs=last.epochs,
        batch_size=last.batch_size,
    )


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check the files of a checkpoint without loading weights.

    Raises:
        CheckpointError: weights are missing, truncated or pickled, or the configuration, the
            tokenizer or an adapter's base model is missing.
    """
    _check_weights(checkpoint.path)
    _check_beside_weights(checkpoint)


def _check_beside_weights(checkpoint: Checkpoint) -> None:
    path, base = checkpoint.path, checkpoint.adapter_base
    config = path / ("adapter_config.json" if base else "config.json")
    if not config.exists():
        raise CheckpointError(f"{path} holds no {config.name}; copy the model's configuration")
    _read_json(config)
    folders = [path]
    if base is not None:
        if Path(base).is_absolute() and not Path(base).is_dir():
            raise CheckpointError(
                f"{config} names the base model {base}, which is not there; put it there, or put "
                "it beside the run and give only its folder's name"
            )
        if not Path(base).is_dir():
            return  # the name of a model on a hub, which comes with its tokenizer
        folders.append(Path(base))
    if not any(holds_tokenizer(folder) for folder in folders):
        raise CheckpointError(
            f"{path} holds no tokenizer; copy tokenizer.json and tokenizer_config.json of its base "
            "model into it"
        )


def _check_weights(path: Path) -> None:
    index = path / "model.safetensors.index.json"
    if index.exists():
        weights = _read_json(index).get("weight_map")
        if not isinstance(weights, dict) or not weights:
            raise CheckpointError(f"{index} names no weights; copy or save the checkpoint again")
        names = {str(name) for name in weights.values()}
        if outside := [name for name in names if Path(name).name != name]:
            raise CheckpointError(
                f"{index} names {outside[0]!r}; expected names of files in the same folder"
            )
        files = sorted(path / name for name in names)
    else:
        single = ("adapter_model.safetensors", "model.safetensors")
        files = [path / name for name in single if (path / name).exists()][:1]
    if not files:
        pickled = [p.name for p in path.glob("*.bin") if p.name.startswith(PICKLED)]
        if pickled:
            raise CheckpointError(
                f"{path} holds {sorted(pickled)[0]}, a pickle, which Premem never opens; save the "
                "model again with save_pretrained(…, safe_serialization=True)"
            )
        raise CheckpointError(f"{path} holds no weights; expected model.safetensors in it")
    for file in files:
        _check_safetensors(file)


def _read_checkpoint(path: Path, step: int) -> Checkpoint:
    state = _trainer_state(path)
    return Checkpoint(
        path=path,
        step=step,
        epoch=state.epoch,
        learning_rate=state.learning_rates[-1] if state.learning_rates else None,
        adapter_base=_adapter_base(path),
    )


def _is_checkpoint(path: Path) -> bool:
    return (path / "config.json").exists() or (path / "adapter_config.json").exists()


def _trainer_state(path: Path) -> _TrainerState:
    file = path / "trainer_state.json"
    if not file.exists():
        return _TrainerState()
    state = _read_json(file)
    try:
        rates = [e["learning_rate"] for e in state.get("log_history", []) if "learning_rate" in e]
        return _TrainerState(
            step=int(state.get("global_step", 0)),
            epoch=_number(state.get("epoch")),
            epochs=_number(state.get("num_train_epochs")),
            batch_size=state.get("train_batch_size") and int(state["train_batch_size"]),
            learning_rates=tuple(float(rate) for rate in rates),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not what transformers' Trainer writes ({error}); copy it again, or delete "
            "it, and the epoch and the learning rate stay unknown"
        ) from error


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable JSON ({error}); save it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds {type(content).__name__}; expected a JSON object; save it again"
        )
    return content


def _adapter_base(path: Path) -> str | None:
    file = path / "adapter_config.json"
    if not file.exists():
        return None
    base = _read_json(file).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{file} names no base_model_name_or_path; add the base model's path")
    # The base model of an uploaded run is a relative path. It starts at the checkpoint or at the
    # run's folder, not at the working directory.
    for folder in (path, path.parent):
        if (folder / base).is_dir():
            return str(folder / base)
    return str(base)


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        raise CheckpointError(f"{file} is missing although the index names it; copy it again")
    try:
        with safe_open(str(file), framework="np") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}); copy or save it again"
        ) from error
