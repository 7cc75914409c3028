"""Served run: which checkpoints a job scores whose backend is a running server."""

from collections.abc import Collection
from dataclasses import replace

from premem_core.errors import UsageError
from premem_core.models.backend import Resources
from premem_core.models.load_backend import load_backend
from premem_core.models.server.served_models import Server, find_server
from premem_core.records import Checkpoint, Run, SkippedCheckpoint
from premem_core.scoring.job_files import Execution


def server_of(execution: Execution, run: Run) -> Server:
    """The server of a job, with its models that hold checkpoints of the run.

    Raises:
        UsageError: none is given; or as `find_server`.
        EndpointError: it does not answer.
    """
    if execution.endpoint is None:
        raise UsageError(
            "the backend 'server' needs the URL of a running server; give it, as in "
            "--endpoint http://localhost:8000/v1"
        )
    if execution.executor != "local":
        raise UsageError(
            f"the backend 'server' sends its requests from this machine; leave out --executor "
            f"{execution.executor}"
        )
    return find_server(
        execution.endpoint, run, named=execution.served, key_variable=execution.key_variable
    )


def restrict_to_served(run: Run, server: Server, registered: Collection[int] = ()) -> Run:
    """The run with only the checkpoints that a server serves, or that its job has already.

    The others are named in `Run.skipped`. One request checks that the server can score.

    Args:
        registered: the steps of the checkpoints of the job.

    Raises:
        UsageError, CheckpointError: the server serves no checkpoint, or cannot score it.
    """
    load_backend("server", last_served(run, server), Resources(server=server)).close()
    kept = [c for c in run.checkpoints if c.step in server.models or c.step in registered]
    why = f"{server.endpoint} does not serve it; serve it, and extend the job (--extend)"
    others = [SkippedCheckpoint(c.path, why) for c in run.checkpoints if c not in kept]
    return replace(run, checkpoints=tuple(kept), skipped=(*run.skipped, *others))


def last_served(run: Run, server: Server | None) -> Checkpoint:
    """The last checkpoint of a run; with a server, the last that it serves.

    Raises:
        UsageError: it serves none of them.
    """
    if server is None:
        return run.checkpoints[-1]
    served = [checkpoint for checkpoint in run.checkpoints if checkpoint.step in server.models]
    if not served:
        there = ", ".join(f"'{name}'" for name in server.names) or "nothing"
        raise UsageError(
            f"{server.endpoint} serves no checkpoint of {run.path}, but {there}; serve one, as "
            f"with vllm serve {run.checkpoints[-1].path}, or say which model holds one: --served "
            f"{run.checkpoints[-1].step}=NAME"
        )
    return served[-1]


def served_in_words(run: Run, server: Server) -> list[str]:
    """Which model holds which checkpoint, a sentence for each."""
    lines = []
    for checkpoint in run.checkpoints:
        model = server.models.get(checkpoint.step)
        if model is None:
            lines.append(f"checkpoint {checkpoint.step}: {server.endpoint} does not serve it now")
            continue
        origin = f", from {model.root}" if model.root and model.root != model.name else ""
        lines.append(f"checkpoint {checkpoint.step}: served as '{model.name}'{origin}")
    return lines
