"""Kept checkpoints: hard links to a checkpoint's files, which a trainer cannot delete.

A trainer with `save_total_limit` deletes its older checkpoints while it goes on. A hard link takes
no space on the disk, and keeps a file until the link is removed too. Where links are not possible,
as on another disk, files are copied. The state of the optimizer is not kept.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.files import replace_file, unfinished_name
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.weights import ADAPTER, holds_model

# The states of optimizers and random generators, and pickles, none of which is scored.
NOT_KEPT = (".pt", ".pth", ".bin", ".distcp", ".pkl")
SETTLED = 10.0  # s without a change, after which a folder without trainer_state.json is whole


def seems_finished(folder: Path) -> bool:
    """Whether nothing more will be written into a checkpoint's folder.

    transformers' Trainer writes `trainer_state.json` last. Without one, the folder counts as
    finished when none of its files has changed for SETTLED seconds.
    """
    if (folder / "trainer_state.json").exists():
        return True
    times = [file.stat().st_mtime for file in _files(folder)]
    return bool(times) and time.time() - max(times) > SETTLED


def keep_checkpoint(folder: Path, kept: Path, adapter_base: str | None = None) -> None:
    """Keep the files of a checkpoint in another folder, which appears when it is complete.

    Args:
        adapter_base: the base model of an adapter. Where that is a folder, what is kept names it in
            full, because the adapter may name it by a path that begins at the run.

    Raises:
        CheckpointError: the checkpoint was deleted meanwhile, or there is no space for a copy;
            nothing is left of it.
    """
    unfinished = kept.with_name(unfinished_name(kept.name))
    try:
        unfinished.mkdir(parents=True)
        for file in _files(folder):
            _link(file, unfinished / file.name)
        if adapter_base is not None and os.path.isdir(adapter_base):
            config = unfinished / "adapter_config.json"
            content = read_json(config) | {"base_model_name_or_path": os.path.abspath(adapter_base)}
            # In place of the link, and not into it: the trainer's file stays as it is.
            replace_file(config, json.dumps(content, indent=1).encode())
        unfinished.rename(kept)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not kept.exists():  # another process may have kept it meanwhile
            raise CheckpointError(f"{folder} cannot be kept ({error.strerror or error})") from error


def kept_names(kept: Path) -> set[str]:
    """The names of the checkpoints that are kept in a folder, which need not exist."""
    there = kept.iterdir() if kept.is_dir() else ()
    return {folder.name for folder in there if folder.suffix != ".tmp"}


def keeps_weights(kept: Path) -> bool:
    """Whether a kept checkpoint still has its weights."""
    return holds_model(kept) or (kept / ADAPTER).exists()


def release_weights(kept: Path) -> None:
    """Remove the weights of a kept checkpoint, which may be the last link to them."""
    for file in _files(kept):
        if ".safetensors" in file.suffixes:
            file.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        for entry in sorted(folder.iterdir()):
            if entry.is_file() and entry.suffix not in NOT_KEPT:
                yield entry


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file.resolve(), link)  # of a symbolic link, as the Hugging Face cache has, the file
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, link)
