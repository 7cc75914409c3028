"""Which folders of a run are its checkpoints, and at which steps of training they were saved.

transformers' Trainer, and with it TRL, Axolotl, LLaMA-Factory and Unsloth, writes
`checkpoint-<step>` and often leaves the final model in the run's own folder; torchtune writes
`epoch_<n>`, counted from 0; verl writes `global_step_<n>/actor/huggingface`; loops written by hand
write `step_500`, `epoch-3` or `final`.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.adapters import is_adapter
from premem_core.models.on_disk.same_weights import same_weights
from premem_core.models.on_disk.trainer_state import TrainerState, read_trainer_state
from premem_core.models.on_disk.weights import ADAPTER, conversion, holds_model, is_deepspeed

NUMBERED = re.compile(
    r"(?:(?:checkpoint|ckpt|model)[-_])?(?:epoch[-_=]?(?P<epoch>\d+))?[-_]?"
    r"(?:(?:global[-_]?)?(?:checkpoint|ckpt|steps?|iter)[-_=]?(?P<step>\d+))?",
    re.IGNORECASE,
)
FINAL = re.compile(r"(?:final|last|end)(?:[-_](?:model|checkpoint|adapter))?", re.IGNORECASE)
BEST = re.compile(r"best(?:[-_](?:model|checkpoint|adapter))?", re.IGNORECASE)
# Somewhere in a name that is not understood, as in step_120_hf.
STEP = re.compile(r"(?:checkpoint|ckpt|steps?|iter)[-_=]?(\d+)", re.IGNORECASE)
# Where in a checkpoint's folder the model may be.
INSIDE = (".", "huggingface", "actor/huggingface", "lora_adapter", "actor/lora_adapter", "actor")
DEEPEST = 4  # folders below the one in which runs are looked for


@dataclass(frozen=True, slots=True)
class Found:
    """One folder that may be a checkpoint.

    Attributes:
        name: by which the user can name it.
        path: the folder with its weights.
        step: None if it is not known.
        reason: why it cannot be used; None if nothing is known against it.
        note: what was chosen for it without a file that says it; None if nothing was.
    """

    name: str
    path: Path
    step: int | None = None
    epoch: float | None = None
    state: TrainerState = field(default_factory=TrainerState)
    reason: str | None = None
    note: str | None = None


def find_runs(path: Path) -> list[Path]:
    """The folders of all runs at or below a folder, in the order of their names.

    A whole model that lies alone beside runs is taken to be their base model, not a run.
    """
    if is_run(path):
        return [path]
    found = list(_runs_below(path, DEEPEST))
    several = [run for run in found if named_folders(run)]
    alone = [run for run in found if is_adapter(run) or (run / "trainer_state.json").exists()]
    return [run for run in found if run in several or run in alone] or found


def run_names(path: Path, runs: Sequence[Path]) -> dict[str, Path]:
    """A name for each of the runs below a folder: its path from there, joined by hyphens.

    Where two paths give the same name, a digest of the path is added, so that a run keeps its name.

    >>> list(run_names(Path("runs"), [Path("runs/sft/lr1"), Path("runs/lr2")]))
    ['sft-lr1', 'lr2']
    """
    parts = [run.relative_to(path).parts or (path.resolve().name,) for run in runs]
    names = ["-".join(part) for part in parts]
    return {
        name if names.count(name) == 1 else f"{name}-{_digest('/'.join(part))}": run
        for name, part, run in zip(names, parts, runs, strict=True)
    }


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:6]


def is_run(path: Path) -> bool:
    """True if a folder holds checkpoints or is one."""
    return bool(named_folders(path)) or (is_readable(path) and _looks_like_checkpoint(path))


def is_readable(path: Path) -> bool:
    """True if it is a folder whose files this user may list and read."""
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)


def find_checkpoints(path: Path, steps: Mapping[str, int]) -> tuple[list[Found], list[str]]:
    """The checkpoints of a run in training order, also unusable ones, and notes on what was chosen.

    Args:
        steps: steps that the user gave, by the name of the folder.

    Raises:
        CheckpointError: `steps` names a folder that is not there.
    """
    folders = named_folders(path)
    for name in steps:
        if name not in folders and (path / name).is_dir():
            folders[name] = _inside(path / name)
    root = _root_name(path, folders)
    if root is not None:
        folders[root] = path
    if unknown := sorted(set(steps) - set(folders)):
        raise CheckpointError(
            f"{path} has no checkpoint named {unknown[0]!r}; it has: {', '.join(sorted(folders))}"
        )
    found = [_read(name, folder) for name, folder in folders.items()]
    found = [replace(f, step=steps.get(f.name, f.step)) for f in found]
    found, notes = _with_epochs(found, steps)
    found = _with_final(found, path, root)
    if folders:
        found += _not_understood(path, folders)
    return sorted(found, key=lambda f: (f.step is None, f.step or 0)), notes


def without_copies(
    found: Iterable[Found], steps: Mapping[str, int]
) -> tuple[list[Found], list[str]]:
    """Leave out a final or best model that is another checkpoint's once more, and say so.

    Args:
        steps: steps that the user gave; a folder with one is kept.
    """
    found = sorted(found, key=lambda f: -(f.step or 0))
    own = [f for f in found if _numbers(f.name) or f.name in steps]
    kept, notes = list(own), []
    for f in found:
        if f in own:
            continue
        if same := next((o for o in own if same_weights(f.path, o.path)), None):
            notes.append(f"{f.path} is left out, because it holds the same weights as {same.name}")
        else:
            kept.append(f)
    return kept, notes


def without_repeats(
    found: Iterable[Found], steps: Mapping[str, int]
) -> tuple[list[Found], list[str]]:
    """Leave out what has the step of another one, and say so.

    A folder whose step the user gave comes first, and then a numbered one.
    """
    first: dict[int | None, Found] = {}
    notes = []

    def rank(f: Found) -> tuple[bool, ...]:
        return not _holds_weights(f.path), f.name not in steps, not _numbers(f.name)

    for f in sorted(found, key=rank):
        if f.step in first:
            notes.append(
                f"{f.path} is left out, because {first[f.step].name} is the model at step {f.step}"
            )
        else:
            first[f.step] = f
    return sorted(first.values(), key=lambda f: f.step or 0), notes


def _runs_below(path: Path, depth: int) -> Iterator[Path]:
    if depth == 0 or not is_readable(path):
        return
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if is_run(folder):
            yield folder
        else:
            yield from _runs_below(folder, depth - 1)


def named_folders(path: Path) -> dict[str, Path]:
    """The folders in a run that are named as checkpoints are, each with where its model is.

    There are none in a folder that does not exist or cannot be read.
    """
    if not is_readable(path):
        return {}
    found = {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        other = FINAL.fullmatch(folder.name) or BEST.fullmatch(folder.name)
        # A numbered folder counts even if it is empty, so that it is named as left out.
        if _numbers(folder.name) or (other and _is_checkpoint(folder)):
            found[folder.name] = _inside(folder)
    if _configured(path):  # then DeepSpeed's shards are a part of the checkpoint in this folder
        found = {
            name: folder
            for name, folder in found.items()
            if not (is_readable(folder) and is_deepspeed(folder))
        }
    return found


def _not_understood(path: Path, folders: Mapping[str, Path]) -> Iterator[Found]:
    """The other folders in a run that hold models, which only the user can say to be checkpoints.

    Args:
        folders: those that are understood, each with where its model is.
    """
    known = {folder.resolve() for folder in folders.values()}
    for folder in sorted(p for p in path.iterdir() if not p.name.startswith(".")):
        if not is_readable(folder):
            continue
        place = _inside(folder)
        if _holds_weights(place) and place.resolve() not in known:
            number = STEP.search(folder.name)
            given = shlex.quote(f"{folder.name}={number[1] if number else 'STEP'}")
            reason = (
                f"its name is not that of a checkpoint; if it is one, say its step: --step {given}"
            )
            yield Found(folder.name, place, reason=reason)


def _is_checkpoint(folder: Path) -> bool:
    return is_readable(folder) and _looks_like_checkpoint(_inside(folder))


def step_in_name(name: str) -> int | None:
    """The step in the name of a checkpoint's folder; None if it does not hold one.

    >>> step_in_name("checkpoint-120"), step_in_name("epoch-3"), step_in_name("final")
    (120, None, None)
    """
    step = _numbers(name).get("step")
    return None if step is None else int(step)


def _numbers(name: str) -> dict[str, str]:
    """The step and the epoch in the name of a folder, as far as they are there."""
    match = NUMBERED.fullmatch(name)
    return {k: v for k, v in match.groupdict().items() if v} if match else {}


def _inside(folder: Path) -> Path:
    """Where in a checkpoint's folder the model is."""
    places = [folder / place for place in INSIDE if is_readable(folder / place)]
    for test in (_holds_weights, _looks_like_checkpoint):
        for place in places:
            if test(place):
                return place
    return folder


def _holds_weights(path: Path) -> bool:
    return holds_model(path) or (path / ADAPTER).exists()


def _looks_like_checkpoint(path: Path) -> bool:
    return _configured(path) or _holds_weights(path) or conversion(path) is not None


def _configured(path: Path) -> bool:
    return (path / "config.json").exists() or (path / "adapter_config.json").exists()


def _root_name(path: Path, folders: Mapping[str, Path]) -> str | None:
    """The name of the model in the run's own folder; None if there is none that counts."""
    if not folders:
        return path.resolve().name if _looks_like_checkpoint(path) else None
    if not _holds_weights(path):
        return None
    same_kind = any(is_adapter(path) == is_adapter(folder) for folder in folders.values())
    if not same_kind:
        return None  # adapters lie in their base model, or beside what they were merged into
    return path.resolve().name if "final" in folders else "final"


def _read(name: str, folder: Path) -> Found:
    numbers = _numbers(name)
    epoch = numbers.get("epoch")
    state = TrainerState()
    reason: str | None = None
    try:
        if not is_readable(folder):
            raise CheckpointError("it cannot be read (permission denied); ask for the right to")
        state = read_trainer_state(folder)
    except CheckpointError as error:
        reason = str(error)
    return Found(
        name=name,
        path=folder,
        step=int(numbers["step"]) if "step" in numbers else state.step,
        epoch=state.epoch if state.epoch is not None or not epoch else float(epoch),
        state=state,
        reason=reason,
    )


def _with_epochs(found: list[Found], steps: Mapping[str, int]) -> tuple[list[Found], list[str]]:
    """Give folders that are only numbered by epoch the epoch's number as their step."""
    lacking = [f for f in found if f.step is None and f.epoch is not None]
    if not lacking:
        return found, []
    if any(f.step is not None and f.name not in steps for f in found):
        return found, []  # steps and epochs cannot be put in one order
    first = min(f.epoch or 0 for f in lacking)
    # Counted from 0, as in torchtune, the first one was saved after one epoch.
    shift = 1 if first == 0 else 0
    filled = [
        replace(f, step=int((f.epoch or 0) + shift), epoch=(f.epoch or 0) + shift)
        if f in lacking
        else f
        for f in found
    ]
    counted = f", counted from 0, so {lacking[0].name} is epoch {1 + int(lacking[0].epoch or 0)}"
    return filled, [
        f"{len(lacking)} checkpoints are numbered by epoch{counted if shift else ''}; without "
        "trainer_state.json, the number of the epoch is taken as the step"
    ]


def _with_final(found: list[Found], path: Path, root: str | None) -> list[Found]:
    """Give a final model without a step the one that its run's log, or its place, implies."""
    known = [f for f in found if f.step is not None]
    last = max(known, key=lambda f: f.step or 0, default=None)
    filled = []
    for f in found:
        is_final = f.name == root or FINAL.fullmatch(f.name)
        if f.step is None and f.reason is None and is_final and last is not None:
            f = _as_final(f, last)
        elif f.step is None and f.path == path and len(found) == 1:
            f = replace(f, step=0)
        elif f.step is None and f.reason is None:
            f = replace(
                f, reason=f"nothing says at which step it was saved; say it: --step {f.name}=STEP"
            )
        filled.append(f)
    return filled


def _as_final(f: Found, last: Found) -> Found:
    """A final model with its step, which comes from the last one that has one."""
    planned, at = last.state.max_steps, last.step or 0
    step = max(at, planned or at + 1)
    if step == at:  # it is the same model, which is said elsewhere
        return replace(f, step=step)
    place = "the last of the training" if planned else f"one after {last.name}"
    note = (
        f"{f.path} has no trainer_state.json; it is taken to be the model at step {step}, {place} "
        f"(another one: --step {f.name}=STEP)"
    )
    return replace(f, step=step, note=note)
