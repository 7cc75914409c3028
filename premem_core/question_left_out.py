"""The loss of each training solution without its question in front: what IFD is made of.

Instruction-following difficulty (Li et al. 2023): the loss of a solution given its question, over
that of the solution alone. It is taken at a run's first checkpoint, before anything is copied, as
the authors take it of a model that has seen little of the data.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from premem_core import backends, checkpoints
from premem_core.store import Store
from premem_core.types import Example, PromptTemplate
from premem_core.weight_pass import scored_folders

CHUNK = 512  # solutions between two commits


def leave_question_out(
    store: Store,
    run: str,
    examples: Sequence[Example],
    template: PromptTemplate,
    backend: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Measure the solutions of a run at its first scored checkpoint; says how many are known now.

    What is known is kept in the store as it comes, and not measured again.

    Args:
        examples: those that the run was scored on.
        template: how an example becomes text.
        backend: by default the one that is installed.
        say: told what is being done, before it is.

    Raises:
        UsageError: as `scored_folders`.
        CheckpointError: the checkpoint cannot be loaded.
        DataError: a solution has no token that can be scored alone.
    """
    step, path = min(scored_folders(store, run).items())
    task = store.runs().set_index("run")["task"][run]
    numbers = store.examples(task, "train").set_index("id")["example"]
    known = set(store.alone(run).query("step == @step")["example"])
    missing = [each for each in examples if numbers[each.id] not in known]
    if missing:
        say(f"checkpoint {step}: {len(missing):,} solutions without their question")
        [checkpoint] = checkpoints.read_run(store.path / path, check=False).checkpoints
        model = backends.load(backend or backends.default(), checkpoint)
        try:
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                targets = [template.fill(each)[1] for each in chunk]
                scores = model.target_nll([""] * len(chunk), targets)
                index = [int(numbers[each.id]) for each in chunk]
                store.add_alone(run, step, pd.Series([score.nll for score in scores], index))
        finally:
            model.close()
    return len(known) + len(missing)
