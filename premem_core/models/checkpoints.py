"""Reading a run's folder: its checkpoints in training order, without loading weights."""

import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from premem_core.errors import CheckpointError
from premem_core.models import loading, tokenizer_files
from premem_core.models.on_disk import adapters, base_models, run_folders, weights
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.kept_checkpoints import keeps_weights, kept_names
from premem_core.models.on_disk.run_folders import Found, find_runs, run_names
from premem_core.models.on_disk.trainer_state import TrainerState, rate_changes
from premem_core.records import BASE_STEP, Checkpoint, Run, SkippedCheckpoint

__all__ = [
    "base_checkpoint",
    "check_checkpoint",
    "find_runs",
    "read_run",
    "run_names",
    "with_kept",
]


def read_run(
    path: Path,
    *,
    only: Collection[int | str] | None = None,
    steps: Mapping[str, int] | None = None,
    base: Path | None = None,
    check: bool = True,
) -> Run:
    """The run in a folder: its checkpoints, or the folder itself if it is one.

    A checkpoint that cannot be used is left out, and named in `Run.skipped`. What had to be chosen
    is said in `Run.notes`.

    Args:
        only: the steps or the names of folders of the checkpoints to read; None for all of them.
        steps: steps of checkpoints by the name of the folder, for those whose step no file says.
        base: the folder of the base model of adapters, where it is not the one that they name.
        check: also check every checkpoint with `check_checkpoint`, and leave out a final model
            with the same weights as another one. A job reads its run without, because it has
            chosen its checkpoints before.

    Raises:
        CheckpointError: there is no checkpoint that can be used, or none with a step or name that
            is given, or one that `only` names cannot be used; the folder holds several runs.
    """
    path, steps = Path(path), steps or {}
    _check_folder(path, base)
    found, notes = run_folders.find_checkpoints(path, steps)
    if not found:
        raise _no_checkpoint(path)
    usable, skipped = [], []
    for candidate in found if only is None else _chosen(path, found, only):
        try:
            usable.append((candidate, _read_checkpoint(path, candidate, base, check)))
        except CheckpointError as error:
            if only is not None:
                raise
            skipped.append(SkippedCheckpoint(candidate.path, str(error)))
    if not usable:
        raise _none_usable(path, skipped)
    kept = [candidate for candidate, _ in usable]
    kept, copies = run_folders.without_copies(kept, steps) if check else (kept, [])
    kept, repeats = run_folders.without_repeats(kept, steps)
    chosen = [candidate.note for candidate in kept if candidate.note]
    read = {candidate.name: checkpoint for candidate, checkpoint in usable}
    log = _fullest([candidate.state for candidate in found])
    return Run(
        path=path,
        checkpoints=tuple(read[candidate.name] for candidate in kept),
        learning_rate=log.highest_rate,
        rewarded=log.rewarded,
        epochs=log.epochs,
        batch_size=log.batch_size,
        skipped=_without_bases(skipped, read.values()),
        notes=(*notes, *chosen, *copies, *repeats, *_rate_notes(log)),
    )


def with_kept(
    run: Run, kept: Path, *, steps: Mapping[str, int] | None = None, base: Path | None = None
) -> Run:
    """The run, also with the checkpoints that were kept of it while it was trained.

    One that is in both folders is read from the kept one, which the trainer cannot delete, unless
    only the run's has its weights.

    Args:
        kept: the folder of the kept checkpoints, which need not exist.
        steps, base: as for `read_run`.
    """
    if not kept_names(kept):
        return run
    found = {checkpoint.step: checkpoint for checkpoint in run.checkpoints}
    for checkpoint in read_run(kept, steps=steps, base=base, check=False).checkpoints:
        there = found.get(checkpoint.step)
        if there is None or keeps_weights(checkpoint.path) or not keeps_weights(there.path):
            found[checkpoint.step] = checkpoint
    return replace(run, checkpoints=tuple(found[step] for step in sorted(found)))


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check the files of a checkpoint without loading weights.

    Raises:
        CheckpointError: weights are missing, truncated, pickled or in parts; the configuration,
            the tokenizer or an adapter's base model is missing; the adapter does not fit its base;
            or the tokenizer has more tokens than the model.
    """
    path, base = checkpoint.path, checkpoint.adapter_base
    shapes = weights.weight_shapes(path, adapter=base is not None)
    config = path / ("adapter_config.json" if base else "config.json")
    if not config.exists():
        raise CheckpointError(f"{path} holds no {config.name}; copy the model's configuration")
    if base is None:
        _check_whole_model(path, shapes, checkpoint.tokenizer or path)
        _check_quantized(path)
        return
    base_models.check_base(base, config)
    if not os.path.isdir(base):
        return  # the name of a model on a hub, which comes with its tokenizer
    if not (Path(base) / "config.json").exists():
        raise CheckpointError(
            f"{base} holds no config.json, so it is not the base model of {path}; give the folder "
            "of the whole model (--base)"
        )
    _check_quantized(Path(base))
    base_shapes = weights.weight_shapes(Path(base))
    adapters.check_adapter(path, shapes, Path(base), base_shapes)
    tokens = weights.rows(shapes) or weights.rows(base_shapes)
    _check_tokenizer([path, Path(base)], tokens)


def base_checkpoint(run: Run, given: Path | None = None) -> Checkpoint:
    """The base model of a run as a checkpoint of step 0, with the tokenizer of the run's last one.

    A run's own checkpoint of step 0 is its base model.

    Args:
        given: the folder that the user named; None for the base model that the adapters, or else
            the files of the last checkpoint, name.

    Raises:
        CheckpointError: no base model is found, or it cannot be used, or it lacks a token that the
            run's tokenizer has.
    """
    first, last = run.checkpoints[0], run.checkpoints[-1]
    if first.step == BASE_STEP:
        return first
    folder = Path(given or last.adapter_base or _named_base(run))
    if not folder.is_dir():
        raise CheckpointError(
            f"the base model of {run.path} is {folder}, which is not on this machine; give its "
            "folder (--base)"
        )
    tokenizer = Path(loading.tokenizer_folder(last.path, last.adapter_base))
    base = Checkpoint(folder, BASE_STEP, tokenizer=tokenizer)
    check_checkpoint(base)
    _check_vocabulary(base, tokenizer)
    return base


def _named_base(run: Run) -> str:
    """The base model that the configuration or the model card of a run's last checkpoint names."""
    folder = run.checkpoints[-1].path
    for near in (folder, run.path):
        name = base_models.named_in(near)
        if name and Path(name).resolve() not in {c.path.resolve() for c in run.checkpoints}:
            return base_models.find_base(name, (folder, folder.parent, run.path))
    raise CheckpointError(
        f"no file of {run.path} names the base model that it was fine-tuned from; give its folder "
        "(--base)"
    )


def _check_vocabulary(base: Checkpoint, tokenizer: Path) -> None:
    tokens = weights.rows(weights.weight_shapes(base.path))
    last = tokenizer_files.last_token(tokenizer)
    if tokens is not None and last is not None and last[1] >= tokens:
        raise CheckpointError(
            f"the run's tokenizer has the token {last[0]!r} with the id {last[1]}, but its base "
            f"model {base.path} has only {tokens} tokens and cannot read the run's prompts; score "
            "the run without its base model"
        )


def _check_folder(path: Path, base: Path | None) -> None:
    if not os.path.isdir(path):
        raise CheckpointError(f"{path} is not a folder; give a run's folder with checkpoint-<step>")
    if not run_folders.is_readable(path):
        raise CheckpointError(f"{path} cannot be read (permission denied); ask for the right to")
    if base is not None and not os.path.isdir(base):
        raise CheckpointError(f"the base model {base} is not a folder; give its folder")


def _no_checkpoint(path: Path) -> CheckpointError:
    if runs := find_runs(path):
        names = ", ".join(str(run.relative_to(path)) for run in runs)
        return CheckpointError(
            f"{path} is not a run, but holds {len(runs)}: {names}; give one of them, or score all "
            "of them (--all-runs)"
        )
    return CheckpointError(
        f"{path} holds no checkpoint; expected folders named checkpoint-<step>, as transformers' "
        "Trainer writes them, or epoch-<n>, step-<n> or global_step_<n>"
    )


def _none_usable(path: Path, skipped: Sequence[SkippedCheckpoint]) -> CheckpointError:
    [first, *others] = skipped
    if not others:
        return CheckpointError(first.reason)
    return CheckpointError(
        f"none of the {len(skipped)} checkpoints in {path} can be used; of the first: "
        f"{first.reason}"
    )


def _without_bases(
    skipped: Sequence[SkippedCheckpoint], read: Collection[Checkpoint]
) -> tuple[SkippedCheckpoint, ...]:
    """What was left out, except base models of the run's adapters, which are not checkpoints."""
    bases = {Path(c.adapter_base).resolve() for c in read if c.adapter_base}
    return tuple(s for s in skipped if s.path.resolve() not in bases)


def _chosen(path: Path, found: Sequence[Found], only: Collection[int | str]) -> list[Found]:
    """The checkpoints whose steps or names are given."""
    names = {str(name) for name in only}
    keys = [{f.name, str(f.step)} for f in found]
    if unknown := names - set().union(*keys):
        there = ", ".join(f.name if f.step is None else str(f.step) for f in found)
        raise CheckpointError(f"{path} has no checkpoint {sorted(unknown)[0]!r}; it has: {there}")
    return [f for f, known in zip(found, keys, strict=True) if known & names]


def _read_checkpoint(run: Path, found: Found, base: Path | None, check: bool) -> Checkpoint:
    if found.reason is not None or found.step is None:
        raise CheckpointError(f"{found.path}: {found.reason}")
    checkpoint = Checkpoint(
        path=found.path,
        step=found.step,
        epoch=found.epoch,
        learning_rate=found.state.rate,
        adapter_base=_adapter_base(run, found.path, base),
    )
    if check:
        check_checkpoint(checkpoint)
    return checkpoint


def _adapter_base(run: Path, path: Path, given: Path | None) -> str | None:
    if not adapters.is_adapter(path):
        return None
    name = "" if given else adapters.base_name(path)
    return base_models.find_base(name, (path, path.parent, run), given)


def _check_whole_model(path: Path, shapes: weights.Shapes, tokenizer: Path) -> None:
    config = read_json(path / "config.json")
    text = config.get("text_config")
    tokens = weights.rows(shapes)
    named = (text if isinstance(text, dict) else config).get("vocab_size")
    if tokens is not None and isinstance(named, int) and named != tokens:
        raise CheckpointError(
            f"{path / 'config.json'} says {named} tokens, but the embedding has {tokens} rows; "
            "copy the configuration that was saved with the weights"
        )
    if tokenizer == path:
        _check_tokenizer([path], tokens)


def _check_quantized(path: Path) -> None:
    """Unsloth's adapters often name a base in 4 bits, which only one package can read."""
    config = read_json(path / "config.json").get("quantization_config")
    method = config.get("quant_method") if isinstance(config, dict) else None
    if method == "bitsandbytes" and importlib.util.find_spec("bitsandbytes") is None:
        raise CheckpointError(
            f"{path} is quantized with bitsandbytes, which is not installed; install it, or give "
            "the base model as it was before (--base)"
        )


def _check_tokenizer(folders: Sequence[Path], tokens: int | None) -> None:
    """Check that the first tokenizer in some folders has no more tokens than the embedding."""
    folder = next((f for f in folders if tokenizer_files.holds_tokenizer(f)), None)
    if folder is None:
        raise CheckpointError(
            f"{folders[0]} holds no tokenizer; copy tokenizer.json and tokenizer_config.json of "
            "its base model into it"
        )
    last = tokenizer_files.last_token(folder)
    if tokens is not None and last is not None and last[1] >= tokens:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has the token {last[0]!r} with the id {last[1]}, but the "
            f"embedding of {folders[0]} has only {tokens} rows; save the model with its resized "
            "embedding, or copy the tokenizer that it was trained with"
        )


def _fullest(states: Sequence[TrainerState]) -> TrainerState:
    """The state with the longest log; a resumed run's last one holds all of it."""
    return max(states, key=lambda s: (len(s.rates), s.step or 0, s.epochs is not None))


def _rate_notes(log: TrainerState) -> list[str]:
    return [
        f"the learning rate jumped at step {step}, from {before:g} to {after:g}, as when a run is "
        f"resumed with another one; the run is given the highest, {log.highest_rate:g}"
        for step, before, after in rate_changes(log)
    ]
