"""ifd: what instruction-following difficulty needs of a scored run."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core import jobs
from premem_core.commands.options import StoreOption, existing_store, say, task_of
from premem_core.question_left_out import leave_question_out


def ifd(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    store: StoreOption = Path("store"),
    backend: Annotated[
        str | None, typer.Option(help="vllm or hf; default: the one that is installed.")
    ] = None,
) -> None:
    """Measure a run's solutions without their questions; `curate --strategy ifd` ranks by them.

    Example: python -m premem_core ifd --store store --run lr2e-5
    """
    home = existing_store(store)
    task_of(home, run)
    n = leave_question_out(home, run, *jobs.training_of(home, run), backend, say)
    typer.echo(f"{n:,} solutions of '{run}' are measured without their question")
