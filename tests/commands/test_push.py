"""push: what it reads of a store and where it writes, and options that do not go together."""

import json

import pytest

from tests.helpers import planned
from tests.helpers.commands import premem

RUN = "lr3e-3_ep15_n1000"


def push(store, *arguments: object):
    return premem("push", "--store", store.path, *arguments)


def test_the_curves_of_a_stored_run_arrive_in_a_tracker(demo_store, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sft")
    to = ("--run", RUN, "--to", "mlflow", "--tracking-uri", f"file:{tmp_path}/mlruns")
    done = push(demo_store, *to, "--json")
    assert done.returncode == 0, done.stderr
    pushed = json.loads(done.stdout)
    assert (pushed["points"], pushed["replaced"]) == (5, False)
    client = mlflow.MlflowClient(f"file:{tmp_path}/mlruns")
    run = client.get_run(pushed["run"])
    assert client.get_experiment(run.info.experiment_id).name == "sft"
    assert run.info.run_name == RUN
    steps = [m.step for m in client.get_metric_history(pushed["run"], "premem/test_accuracy")]
    assert steps == [189, 378, 567, 756, 945]
    [row] = [
        point
        for point in json.loads(premem("fit", "--store", demo_store.path, "--task", "demo",
                                       "--json").stdout)["points"]
        if (point["run"], point["step"]) == (RUN, 945)
    ]  # fmt: skip
    assert run.data.metrics["premem/premem"] == row["premem"]
    assert "has all of these points already" in push(demo_store, *to).stdout


def test_what_a_plan_left_unknown_is_told_of(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = planned.store(tmp_path / "store", "lazy")
    to = ("--run", "fast", "--to", "mlflow", "--tracking-uri", f"file:{tmp_path}/mlruns")
    done = push(store, *to, "--log-log-threshold", planned.T - 1)
    assert done.returncode == 0, done.stderr
    assert "note: Pre-memorization accuracy is not known at" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "trackio"), "--to trackio needs --run"),
        (("--to", "hub"), "--to hub needs --dataset and --repo"),
        (("--to", "hub", "--dataset", "d", "--repo", "o/n", "--run", RUN), "has no use for --run"),
        (("--to", "wandb", "--run", RUN, "--tracking-uri", "x"), "has no use for --tracking-uri"),
        (("--to", "mlflow", "--run", RUN, "--public"), "has no use for --public"),
        (("--to", "mlflow", "--run", RUN, "--into", "x", "--name", "y"), "omit one of them"),
        (("--to", "tensorboard", "--run", RUN), "tensorboard"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, words, demo_store):
    done = push(demo_store, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(demo_store, monkeypatch):
    monkeypatch.setattr("premem_core.installation.find_spec", lambda package: None)
    for to, package in (("trackio", "trackio"), ("wandb", "wandb"), ("mlflow", "mlflow")):
        done = push(demo_store, "--run", RUN, "--to", to)
        assert done.returncode == 1
        assert f"the package {package} is not installed" in done.stderr
        assert f"pip install 'premem[{to}]'" in done.stderr
