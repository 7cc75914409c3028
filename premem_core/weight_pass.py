"""A pass over a scored run's weights: what two of the simpler predictors need (METHOD, section 7).

Each number is kept in the store as soon as it is known, and not computed again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from premem_core import checkpoints, gradients, weights
from premem_core.errors import CheckpointError, DataError, UsageError
from premem_core.store import Store
from premem_core.types import Checkpoint, Example, PromptTemplate

Measure = Literal["distance", "gradient_variance"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def weight_pass(
    store: Store,
    run: str,
    examples: Sequence[Example],
    template: PromptTemplate,
    base: Path | None,
    measures: Sequence[Measure] = MEASURES,
    say: Callable[[str], None] = lambda _: None,
) -> dict[int, str]:
    """Measure the scored checkpoints of a run whose folders the store knows.

    Args:
        examples: training examples, for the gradient.
        template: how an example becomes text.
        base: folder of the model that the run began with; adapters need none.
        say: told what is being done, before it is.

    Returns:
        Why, for the checkpoints that something could not be measured of, by step.

    Raises:
        UsageError: as `scored_folders`; or a whole model's distance is asked for without `base`.
    """
    known = store.baselines(run).set_index(["step", "name"]).index
    failed: dict[int, str] = {}
    for step, path in scored_folders(store, run).items():
        for measure in measures:
            if (step, measure) in known:
                continue
            say(f"checkpoint {step}: {measure.replace('_', ' ')}")
            try:
                [checkpoint] = checkpoints.read_run(store.path / path, check=False).checkpoints
                if measure == "distance":
                    value, settings = weights.distance(checkpoint, base), _origin(checkpoint, base)
                else:
                    value = gradients.gradient_variance(checkpoint, examples, template)
                    settings = gradients.settings(checkpoint, len(examples))
            except (CheckpointError, DataError, MemoryError) as error:
                failed[step] = str(error)
                continue
            store.add_baseline(run, step, measure, value, settings)
    return failed


def _origin(checkpoint: Checkpoint, base: Path | None) -> str:
    return f"from {base.resolve().name}" if base and not checkpoint.adapter_base else "of ΔW"


def scored_folders(store: Store, run: str) -> dict[int, str]:
    """The folders of a run's scored checkpoints, by step.

    Raises:
        UsageError: none is scored, or the store knows no folder of them.
    """
    found = store.checkpoints(run).query("state == 'scored'")
    if found.empty:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if found["path"].isna().all():
        raise UsageError(
            f"the run '{run}' was imported, so the store knows no folder of its checkpoints; score "
            "the run from its own folder, under another name"
        )
    return dict(zip(found["step"].tolist(), found["path"], strict=True))
