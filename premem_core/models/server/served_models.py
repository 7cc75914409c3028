"""Served models: which model of a server holds which checkpoint of a run."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from premem_core.endpoint_address import EndpointAddress, read_key
from premem_core.errors import UsageError
from premem_core.models.server.completions_client import CompletionsClient, ServedModel
from premem_core.records import Checkpoint, Run


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and its models that hold checkpoints of one run.

    Attributes:
        endpoint: its URL, including /v1.
        models: by the checkpoint's step.
        names: of all its models.
        key_variable: the environment variable that holds its key; None if it needs none.
    """

    endpoint: str
    models: Mapping[int, ServedModel] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    key_variable: str | None = None

    @property
    def positions(self) -> int | None:
        """The most tokens that each of these models takes; None if the server does not say."""
        return min((m.positions for m in self.models.values() if m.positions), default=None)

    def connect(self) -> CompletionsClient:
        """A client for the server.

        Raises:
            UsageError: the URL cannot be used, or the environment variable is not set.
        """
        return CompletionsClient(EndpointAddress(self.endpoint, read_key(self.key_variable)))


def find_server(
    endpoint: str, run: Run, *, named: Mapping[str, str], key_variable: str | None = None
) -> Server:
    """The server at an endpoint, with the models that hold checkpoints of a run.

    Args:
        named: names of models by the folder's name or the step of the checkpoint that they hold,
            where the model's name does not say it.

    Raises:
        EndpointError: the server does not answer.
        UsageError: the URL or the key cannot be used, or as `match_models`.
    """
    server = Server(endpoint, key_variable=key_variable)
    with closing(server.connect()) as client:
        there = client.models()
    names = tuple(model.name for model in there)
    return replace(server, models=match_models(run, there, named), names=names)


def match_models(
    run: Run, there: Sequence[ServedModel], named: Mapping[str, str]
) -> dict[int, ServedModel]:
    """The model that holds each checkpoint of a run, by step; checkpoints without one are left out.

    A model holds the checkpoint that `named` says, or else the one whose folder it was loaded from.
    Where its origin is no folder of this machine, the end of its origin or name decides
    (lr2e-5/checkpoint-100), or a name that is the folder's (checkpoint-100).

    Args:
        there: the server's models.

    Raises:
        UsageError: `named` names no checkpoint of the run or no model of the server, or several
            models could hold one checkpoint.
    """
    _check_named(run, there, named)
    found = {}
    for checkpoint in run.checkpoints:
        keys = {str(checkpoint.step), folder_name(run, checkpoint)}
        given = [named[key] for key in keys if key in named]
        fitting = [model for model in there if model.name in given] if given else [
            model for model in there if model.name not in named.values()
            and _holds(model, run, checkpoint)
        ]  # fmt: skip
        if len(fitting) > 1:
            raise UsageError(
                f"{folder_name(run, checkpoint)} could be the served model '{fitting[0].name}' or "
                f"'{fitting[1].name}'; say which: --served {checkpoint.step}={fitting[0].name}"
            )
        if fitting:
            found[checkpoint.step] = fitting[0]
    return found


def folder_name(run: Run, checkpoint: Checkpoint) -> str:
    """The name of a checkpoint's folder in its run; that of the run if it is a checkpoint."""
    inside = checkpoint.path.relative_to(run.path).parts
    return inside[0] if inside else run.path.resolve().name


def _check_named(run: Run, there: Sequence[ServedModel], named: Mapping[str, str]) -> None:
    known = {str(c.step) for c in run.checkpoints} | {folder_name(run, c) for c in run.checkpoints}
    models = [model.name for model in there]
    for checkpoint, model in named.items():
        if checkpoint not in known:
            raise UsageError(
                f"--served {checkpoint}={model} names no checkpoint of {run.path}; give the name "
                "of its folder or its step"
            )
        if model not in models:
            raise UsageError(
                f"--served {checkpoint}={model} names a model that the server does not have; it "
                f"has: {', '.join(models) or 'none'}"
            )


def _holds(model: ServedModel, run: Run, checkpoint: Checkpoint) -> bool:
    """Whether a model's name or origin is the folder of a checkpoint."""
    origin = Path(model.root or model.name)
    if origin.is_absolute() and origin.exists():  # a folder of this machine is what it is
        return origin.resolve() == checkpoint.path.resolve()
    name = folder_name(run, checkpoint)
    folder, inside = checkpoint.path.resolve().parts, checkpoint.path.relative_to(run.path).parts
    whole = folder[-max(2, 1 + len(inside)) :]  # from the run's name on
    ends = {whole, whole[:2]}
    known = [Path(text).parts for text in (model.name, origin)]
    return any(parts == (name,) or parts[-len(end) :] == end for parts in known for end in ends)
