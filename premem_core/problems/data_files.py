"""Data files: what a person names as data — a file, several, a pattern, a folder, a hub's data set.

A folder is one that the package `datasets` wrote with `save_to_disk`, or one laid out as on a hub:
`train.jsonl`, `data/train-00000-of-00001.parquet`, `train/part.parquet`.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from premem_core.errors import DataError
from premem_core.problems.rows import FORMATS, file_kind

Split = Literal["train", "test"]
Source = Path | Sequence[Path]

# The splits that stand for the one asked for, where it is not there by its own name.
_NAMES = {
    "train": ("train", "training", "train_sft"),
    "test": ("test", "validation", "dev", "eval"),
}
_SHARDS = "state.json"  # names the files of a data set that `save_to_disk` wrote
_HUB = re.compile(
    r"hf:/+(?:datasets/)?(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.+))?"
)


def find_data_files(source: Source, split: Split = "train") -> list[Path]:
    """The files that a person means, in a fixed order.

    Args:
        source: the path of a file or of a folder, a pattern such as `data/train-*.parquet`, the
            address `hf://datasets/owner/name[/file]` of a data set on a hub, or several of these.
        split: which split of a folder or a data set is meant.

    Raises:
        DataError: nothing is there, a folder holds no data of the split, or the hub cannot be
            reached.
    """
    sources = [source] if isinstance(source, Path) else source
    files = [file for one in sources for file in _files(one, split)]
    if not files:
        raise DataError("there is no data file; give at least one.")
    return files


def source_name(source: Source) -> str:
    """The source as messages name it.

    >>> source_name([Path("a.jsonl"), Path("b.jsonl")])
    'a.jsonl and 1 more'
    """
    if isinstance(source, Path):
        return str(source)
    return f"{source[0]} and {len(source) - 1} more" if len(source) > 1 else str(source[0])


def _files(source: Path, split: Split) -> list[Path]:
    if hub := _HUB.fullmatch(source.as_posix()):
        return _hub_files(source, hub["name"], hub["revision"], hub["path"], split)
    if os.path.isdir(source) and file_kind(source) not in FORMATS:
        return _folder_files(source, split)
    if re.search(r"[*?\[]", str(source)) and not os.path.exists(source):
        root = Path(source.anchor or ".")
        found = sorted(root.glob(str(source.relative_to(source.anchor))))
        if not found:
            raise DataError(f"no file matches {source}; check the pattern.")
        return found
    return [source]


def _folder_files(folder: Path, split: Split) -> list[Path]:
    splits = folder / "dataset_dict.json"
    if splits.exists():
        names = _read_json(splits).get("splits", [])
        return _folder_files(folder / _split_named(folder, split, names), split)
    state = folder / _SHARDS
    if state.exists():
        named = [str(file.get("filename")) for file in _read_json(state).get("_data_files", [])]
        if outside := [name for name in named if PurePath(name).name != name]:
            raise DataError(f"{state} names {outside[0]!r}; expected files in the same folder.")
        return [folder / name for name in named]
    found = _of_split((file.relative_to(folder) for file in folder.rglob("*")), split)
    if not found:
        raise DataError(
            f"{folder} holds no {split} data; expected a data set saved with save_to_disk, or "
            f"files named {split}… of the types {', '.join(FORMATS)}."
        )
    return [folder / name for name in found]


def _split_named(folder: Path, split: Split, names: Sequence[str]) -> str:
    found = next((name for name in _NAMES[split] if name in names), None)
    if found is None:
        raise DataError(
            f"{folder} has the splits {', '.join(names)}, and none is named "
            f"{' or '.join(_NAMES[split])}; give the folder of one of them."
        )
    return found


def _of_split(files: Iterable[PurePath], split: Split) -> list[PurePath]:
    """The data files of a split, by their names or their folders' names; all if none has one."""
    data = sorted(file for file in files if file_kind(Path(file)) in FORMATS)
    data = [file for file in data if not file.name.startswith((".", "dataset_info", "state"))]
    for name in _NAMES[split]:
        word = re.compile(rf"{name}(?![a-z])", re.IGNORECASE)
        if found := [f for f in data if any(map(word.match, f.parts))]:
            return found
    any_split = re.compile(rf"({'|'.join(sum(_NAMES.values(), ()))})(?![a-z])", re.IGNORECASE)
    named = any(any_split.match(part) for file in data for part in file.parts)
    return [] if named or split == "test" else data


def _hub_files(
    source: Path, name: str, revision: str | None, path: str | None, split: Split
) -> list[Path]:
    try:
        from huggingface_hub import HfApi, hf_hub_download

        names = [path] if path and not path.endswith("/") else []
        if not names:
            listed = HfApi().list_repo_files(name, repo_type="dataset", revision=revision)
            names = [str(file) for file in _of_split(map(PurePath, listed), split)]
        return [
            Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))
            for file in names
        ]
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{source} cannot be read from the hub ({reason}); give a file on this machine."
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not readable JSON ({error}); save the data again.") from None
    return content if isinstance(content, dict) else {}
