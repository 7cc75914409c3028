"""Scratch jobs: a command about a job that nobody keeps, run in a separate process.

The dashboard asks this way what the model sees and what a job would take, because its own process
must neither load a model nor fork.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from premem_core.errors import JobError
from premem_core.models.encoding.template_choice import Compared
from premem_core.store.database import Store

if TYPE_CHECKING:
    from premem_core.scoring.preparation.prepare import PreparedJob

SECONDS = 600  # after which the process is stopped


def ask_about(job: "PreparedJob", command: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """What `premem jobs <command>` answers about a job, as JSON.

    Args:
        options: of the command.

    Raises:
        JobError: the command failed; the message gives its reason.
    """
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        job.create(Store(scratch))
        arguments = [command, job.spec.run, "--store", scratch, "--json", *options]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "premem_core", "jobs", *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise JobError(
                f"there was no answer within {SECONDS // 60} minutes; use the command line"
            ) from None
        if done.returncode:
            reason = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            raise JobError(reason[-1].removeprefix("error: ") if reason else done.stderr[-300:])
        answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def compare_apart(job: "PreparedJob") -> list[Compared]:
    """`compare_templates` for the problems of a job.

    Raises:
        JobError: the checkpoint cannot be loaded.
    """
    compared = ask_about(job, "templates")["compared"]
    # JSON has no NaN.
    return [
        replace(Compared(**one), nll=math.nan) if one["nll"] is None else Compared(**one)
        for one in compared
    ]
