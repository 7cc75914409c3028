"""The safetensors files of a checkpoint: which they are, and the shapes in their headers."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json

Shapes = Mapping[str, tuple[int, ...]]

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
PICKLED = ("pytorch_model", "adapter_model", "model", "hf_model", "adapter")
# The input embedding in various architectures, also where PEFT wrapped it or saved a copy of it.
EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)"
    r"(\.modules_to_save|\.base_layer|\.token_adapter\.base_layer)?\.weight$"
)
HEAD = re.compile(
    r"(^|\.)(lm_head|embed_out)"
    r"(\.modules_to_save|\.base_layer|\.token_adapter\.base_layer)?\.weight$"
)


def holds_model(path: Path) -> bool:
    """True if a folder holds the weights of a whole model, as safetensors."""
    return (path / WHOLE).exists() or (path / INDEX).exists()


def weight_shapes(path: Path, *, adapter: bool = False) -> Shapes:
    """The shape of every weight in a folder, by its name.

    Args:
        adapter: read the adapter in the folder, not the whole model.

    Raises:
        CheckpointError: weights are missing, truncated or not safetensors; where another program
            can convert them, the message holds its command.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path, adapter):
        shapes |= _file_shapes(file)
    if not adapter and (path / INDEX).exists():
        _check_index(path, shapes)
    return shapes


def rows(shapes: Shapes, pattern: re.Pattern[str] = EMBEDDING) -> int | None:
    """The rows of the input embedding (or of HEAD), one per token; None if it is not there."""
    return next((s[0] for name, s in shapes.items() if len(s) == 2 and pattern.search(name)), None)


def weight_files(path: Path, adapter: bool) -> list[Path]:
    """The safetensors files of a folder's model, or of its adapter, in the order of their names.

    Raises:
        CheckpointError: there are none.
    """
    if adapter:
        files = [path / ADAPTER] if (path / ADAPTER).exists() else []
    elif (path / INDEX).exists():
        files = _indexed_files(path / INDEX)
    else:
        files = [path / WHOLE] if (path / WHOLE).exists() else []
    if not files:
        raise _no_weights(path, adapter)
    return files


def _indexed_files(index: Path) -> list[Path]:
    weights = read_json(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(f"{index} names no weights; copy or save the checkpoint again")
    names = {str(name) for name in weights.values()}
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(
            f"{index} names {outside[0]!r}; expected names of files in the same folder"
        )
    return sorted(index.parent / name for name in names)


def _check_index(path: Path, shapes: Shapes) -> None:
    named = read_json(path / INDEX)["weight_map"]
    # An output layer that is tied to the embedding may be named and not saved.
    if lacking := sorted(n for n in set(named) - set(shapes) if not HEAD.search(n)):
        raise CheckpointError(
            f"{path} lacks {len(lacking)} weights that {INDEX} names, such as {lacking[0]}; copy "
            "or save the checkpoint again"
        )


def _file_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        raise CheckpointError(f"{file} is missing although the index names it; copy it again")
    try:
        with safe_open(str(file), framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}); copy or save it again"
        ) from error


def _no_weights(path: Path, adapter: bool) -> CheckpointError:
    """What a folder without safetensors needs: a command that converts what is there, if any."""
    if command := conversion(path):
        return CheckpointError(
            f"{path} holds weights in parts, one for each process of the training; merge them "
            f"with: {command}"
        )
    pickled = [p.name for p in sorted(path.glob("*.bin")) + sorted(path.glob("*.pt"))]
    if pickled := [name for name in pickled if name.startswith(PICKLED)]:
        return CheckpointError(
            f"{path} holds {pickled[0]}, a pickle, which Premem never opens; save the model again "
            "with save_pretrained(…, safe_serialization=True)"
        )
    if parts := sorted(path.glob("model-*-of-*.safetensors")):
        return CheckpointError(
            f"{path} holds {parts[0].name} and no {INDEX}, which says what is in it; copy it too"
        )
    name = ADAPTER if adapter else WHOLE
    return CheckpointError(f"{path} holds no weights; expected {name} in it")


def conversion(path: Path) -> str | None:
    """The command that merges the weights that a distributed training left in parts; or None.

    DeepSpeed's, Accelerate's and verl's own tools are named: they open pickles, which we do not.
    """
    here = shlex.quote(str(path))
    if any(is_deepspeed(folder) for folder in path.glob("global_step*")):
        return f"cd {here} && python zero_to_fp32.py . . --safe_serialization"
    if is_deepspeed(path):
        run, tag = shlex.quote(str(path.parent)), shlex.quote(path.name)
        return f"cd {run} && python zero_to_fp32.py . {tag} -t {tag} --safe_serialization"
    parts = sorted(path.glob("*/*.distcp")) or sorted(path.glob("*.distcp"))
    if models := [part.parent for part in parts if "optim" not in part.parent.name]:
        return f"accelerate merge-weights {shlex.quote(str(models[0]))} {here}"
    # verl puts the configuration into huggingface/, and the shards beside it.
    actor = path.parent if path.name == "huggingface" else path
    if any(actor.glob("model_world_size_*_rank_*.pt")):
        shards, merged = (shlex.quote(str(p)) for p in (actor, actor / "huggingface"))
        merger = "python -m verl.model_merger merge --backend fsdp"
        return f"{merger} --local_dir {shards} --target_dir {merged}"
    return None


def is_deepspeed(folder: Path) -> bool:
    """True if a folder holds the parts that DeepSpeed's ZeRO saves."""
    return any(folder.glob("*zero_pp_rank_*")) or any(folder.glob("mp_rank_*_model_states.pt"))
