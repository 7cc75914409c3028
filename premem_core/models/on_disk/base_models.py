"""The base model of a run: what names it, and where it is, here or in the Hugging Face cache."""

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json

HUB_SECONDS = 4.0  # for an answer of the hub; without a network, a look-up alone can take a minute


def named_in(folder: Path) -> str | None:
    """The base model that a folder's configuration or its model card names; None if they name none.

    Trainers write a model card (README.md); transformers before version 5 kept the name in
    `config.json`.
    """
    from huggingface_hub import metadata_load

    config, card = folder / "config.json", folder / "README.md"
    named = read_json(config).get("_name_or_path") if config.exists() else None
    if not named and card.exists():
        try:
            named = (metadata_load(card) or {}).get("base_model")
        except ValueError:  # its header is no YAML
            named = None
    return named if isinstance(named, str) and named else None


def find_base(name: str, near: Sequence[Path], given: Path | None = None) -> str:
    """The folder of a base model; its name where it must still come from a hub.

    Args:
        name: a path, or the model's name on a hub, as a file of the run gives it.
        near: folders at which a relative path may begin. The working directory is none of them,
            because it says nothing about the run.
        given: the folder that the user named.
    """
    if given is not None:
        return str(given)
    for folder in near:
        if os.path.isdir(folder / name):
            return str(folder / name)
    if Path(name).is_absolute() or not _could_be_on_hub(name):
        return name
    return _cached(name) or name


def check_base(base: str, named_in: Path) -> None:
    """Check that a base model is here, or that a hub answers that it has it.

    Raises:
        CheckpointError: it is neither.
    """
    if os.path.isdir(base):
        return
    if Path(base).is_absolute():
        raise CheckpointError(
            f"{named_in} names the base model {base}, which is not there; give its folder "
            "(--base), or put it beside the run and name it by its folder alone"
        )
    if not _could_be_on_hub(base) or not _on_hub(base):
        raise CheckpointError(
            f"{named_in} names the base model '{base}', which is neither beside the run nor in the "
            "Hugging Face cache, and no hub answers for it; give its folder (--base)"
        )


def _could_be_on_hub(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _cached(name: str) -> str | None:
    """The snapshot of a model in the local cache (HF_HOME), or None."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)  # a run's checkpoints all name the same model
def _on_hub(name: str) -> bool:
    """True if the hub answers soon that it has the model."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=HUB_SECONDS)
        except Exception:  # no network, no such model, no access: it cannot be loaded
            return
        answers.append(True)

    # In a thread, because resolving the hub's address has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return bool(answers)
