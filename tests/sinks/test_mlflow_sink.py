"""MLflow: points in its own database or files, found again, added to, replaced."""

import pytest

pytest.importorskip("mlflow")

from mlflow import MlflowClient
from mlflow.entities import ViewType

from premem_core.errors import PushError
from premem_core.sinks import mlflow_sink
from premem_core.sinks.series import Destination, Series


@pytest.fixture(scope="module", params=["files", pytest.param("database", marks=pytest.mark.slow)])
def uri(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        files = request.param == "files"
        yield f"file:{folder}/mlruns" if files else f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def project(request):
    return request.node.name


@pytest.fixture
def client(uri):
    return MlflowClient(tracking_uri=uri)


def history(client, run, name):
    return [(m.step, m.value) for m in client.get_metric_history(run, name)]


def runs(client, project, view=ViewType.ACTIVE_ONLY):
    experiment = client.get_experiment_by_name(project)
    return client.search_runs([experiment.experiment_id], run_view_type=view)


def test_every_point_is_there_once_however_often_it_is_pushed(series, project, uri, client):
    to = Destination(project, 'it\'s "lr1"', uri=uri)
    first = mlflow_sink.push(series, to)
    again = mlflow_sink.push(series, to)
    assert (first.points, again.points, again.run) == (5, 0, first.run)
    [run] = runs(client, project)
    assert run.info.run_name == to.name
    assert run.info.status == "FINISHED"
    assert run.data.params["premem/log_log_threshold"] == "-2.3"
    for name in series.points[5]:
        expected = [(step, values[name]) for step, values in series.points.items()]
        assert history(client, first.run, name) == expected


def test_a_later_checkpoint_is_added_and_other_values_take_the_place_of_the_earlier(
    series, other_series, project, uri, client
):
    to = Destination(project, "lr1", uri=uri)
    some = Series(series.run, series.settings, dict(list(series.points.items())[:3]))
    run = mlflow_sink.push(some, to).run
    more = mlflow_sink.push(series, to)
    assert (more.run, more.points, more.replaced) == (run, 2, False)
    other = mlflow_sink.push(other_series, to)
    assert (other.points, other.replaced) == (5, True)
    assert [each.info.run_id for each in runs(client, project)] == [other.run]
    assert len(runs(client, project, ViewType.ALL)) == 2  # MLflow can restore the first
    steps = [step for step, _ in history(client, other.run, "premem/premem")]
    assert steps == [1, 2, 3, 4, 5]


def test_the_trainers_run_gets_the_points_beside_its_loss_and_keeps_them(
    series, other_series, project, uri, client
):
    trainer = client.create_run(client.create_experiment(project), run_name="sft").info.run_id
    for step in range(6):
        client.log_metric(trainer, "train/loss", 1 / (1 + step), step=step)
    to = Destination(project, "lr1", into=trainer, uri=uri)
    assert mlflow_sink.push(series, to).points == 5
    assert mlflow_sink.push(series, to).points == 0
    assert len(runs(client, project)) == 1
    assert [step for step, _ in history(client, trainer, "premem/premem")] == [1, 2, 3, 4, 5]
    with pytest.raises(PushError, match="other values of an earlier push"):
        mlflow_sink.push(other_series, to)
    assert len(history(client, trainer, "premem/premem")) == 5
    assert len(history(client, trainer, "train/loss")) == 6


def test_what_mlflow_refuses_is_one_sentence(series, project, uri):
    with pytest.raises(PushError, match=r"did not take the points: Run .*nosuch"):
        mlflow_sink.push(series, Destination(project, "lr1", into="nosuch", uri=uri))


def test_the_password_of_a_database_is_not_repeated(series, project):
    with pytest.raises(PushError) as caught:
        mlflow_sink.push(series, Destination(project, "lr1", uri="nosuch://me:secret@db/mlflow"))
    assert "nosuch://…@db/mlflow" in str(caught.value)
    assert "secret" not in str(caught.value)
