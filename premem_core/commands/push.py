"""push: a run's curves to a tracker, or a curated data set to the hub."""

import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from premem_core.analysis import curves, run_scores
from premem_core.analysis.solutions import solution_measures
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    say,
    takes_options,
    task_of,
    threshold_of,
)
from premem_core.errors import UsageError
from premem_core.installation import require_extra
from premem_core.sinks import mlflow_sink, trackio_sink, wandb_sink
from premem_core.sinks.hub import push_dataset
from premem_core.sinks.series import Destination, Series, make_series

To = Literal["trackio", "wandb", "mlflow", "hub"]
# The environment variables in which trackers themselves look for a project.
PROJECT_VARIABLES = {
    "trackio": "TRACKIO_PROJECT",
    "wandb": "WANDB_PROJECT",
    "mlflow": "MLFLOW_EXPERIMENT_NAME",
}


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The options of `push`, in the order of its help."""

    to: Annotated[To, typer.Option(help="A tracker, or hub for a curated data set.")]
    store: StoreOption = Path("store")
    run: Annotated[str | None, typer.Option(help="The run's name in the store.")] = None
    project: Annotated[
        str | None,
        typer.Option(
            help="The tracker's project, or MLflow's experiment; default: TRACKIO_PROJECT, "
            "WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME, or else premem."
        ),
    ] = None
    name: Annotated[
        str | None, typer.Option(help="The name of the tracker's run; default: that of --run.")
    ] = None
    into: Annotated[
        str | None,
        typer.Option(
            help="Write into this run of the tracker, such as the trainer's, beside its loss: its "
            "id in W&B and MLflow, its name in Trackio."
        ),
    ] = None
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="MLflow's server or database; default: MLFLOW_TRACKING_URI, or MLflow's default."
        ),
    ] = None
    dataset: Annotated[
        Path | None, typer.Option(help="For the hub: a folder that 'curate --out FOLDER' wrote.")
    ] = None
    repo: Annotated[str | None, typer.Option(help="For the hub: OWNER/NAME of the repository.")] = (
        None
    )
    public: Annotated[
        bool, typer.Option("--public", help="For the hub: everyone may read the data.")
    ] = False
    log_log_threshold: ThresholdOption = None
    estimator: EstimatorOption = None
    segment: SegmentOption = "target"
    as_json: JsonOption = False

    def check(self) -> None:
        """UsageError: an option is given for which the chosen place has no use."""
        hub = {"--dataset": self.dataset, "--repo": self.repo, "--public": self.public or None}
        trackers = {"--run": self.run, "--project": self.project}
        trackers |= {"--name": self.name, "--into": self.into}
        mlflow = {"--tracking-uri": self.tracking_uri}
        unused: dict[str, object] = {**trackers} if self.to == "hub" else {**hub}
        unused |= {} if self.to == "mlflow" else mlflow
        given = [option for option, value in unused.items() if value is not None]
        if given:
            raise UsageError(f"--to {self.to} has no use for {given[0]}; omit it")
        if self.name and self.into:
            raise UsageError("--into has a name already, so --name has no use; omit one of them")


@takes_options(PushOptions)
def push(options: PushOptions) -> None:
    """Write a scored run's curves to a tracker, or a curated data set to the hub.

    Every value has the training step of its checkpoint. A push that is repeated adds nothing. A run
    of its own that has other values, such as those of another threshold, is replaced in Trackio and
    MLflow; in W&B another run is made. Nothing is replaced in the run of --into.

    The hub's repository is private unless --public is given; the token is that of 'hf auth login'
    or HF_TOKEN.

    Example: python -m premem_core push --store store --run lr2e-5 --to trackio --project sft
    """
    options.check()
    if options.to == "hub":
        _push_dataset(options)
    else:
        _push_curves(options)


def _push_dataset(options: PushOptions) -> None:
    if options.dataset is None or options.repo is None:
        raise UsageError("--to hub needs --dataset and --repo; give both")
    require_extra("hub")
    address = push_dataset(options.dataset, options.repo, options.public)
    if options.as_json:
        print_json({"address": address})
    else:
        typer.echo(f"{options.dataset} is at {address}")


def _push_curves(options: PushOptions) -> None:
    if options.run is None:
        raise UsageError(f"--to {options.to} needs --run; give the run's name in the store")
    require_extra(options.to)
    series = _read_series(options, options.run)
    project = options.project or os.environ.get(PROJECT_VARIABLES[options.to]) or "premem"
    name = options.name or series.run
    to = Destination(project, name, options.into, options.tracking_uri)
    sinks = {"trackio": trackio_sink.push, "wandb": wandb_sink.push, "mlflow": mlflow_sink.push}
    with redirect_stdout(sys.stderr):  # trackers print to stdout, which is for results
        pushed = sinks[options.to](series, to)
    if options.as_json:
        print_json(asdict(pushed))
    else:
        typer.echo(pushed.in_words())


def _read_series(options: PushOptions, run: str) -> Series:
    store = existing_store(options.store)
    task = task_of(store, run)
    runs = run_scores.read_task(store, task, options.segment)
    scores = run_scores.find_run(runs, run)
    if scores is None:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    estimator = options.estimator or run_scores.default_estimator(runs)
    t = threshold_of(runs, task, options.log_log_threshold, estimator).log_log_threshold
    line = curves.curve(scores, t, estimator)
    if missing := curves.missing_in_words([line]):
        say(f"note: {missing}")
    return make_series(line, task, solution_measures(store, run))
