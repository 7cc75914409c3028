"""Trackio: points in its database on this machine, found again, added to, replaced."""

import sqlite3

import pytest

pytest.importorskip("trackio")

import trackio
from trackio import context_vars, sqlite_storage, utils
from trackio.sqlite_storage import SQLiteStorage

from premem_core.errors import PushError, UsageError
from premem_core.sinks import trackio_sink
from premem_core.sinks.series import Destination, Series

TO = Destination("p", "lr1")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Trackio reads its variables when it is imported."""
    for module in (trackio, utils, sqlite_storage):
        if hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    for variable in trackio_sink.ELSEWHERE:
        monkeypatch.delenv(variable, raising=False)
    yield tmp_path
    context_vars.current_run.set(None)
    context_vars.current_project.set(None)


def rows(folder, name):
    """Step and value of every row that Trackio's database has of a metric."""
    with sqlite3.connect(folder / "p.db") as connection:
        return connection.execute(
            f"SELECT step, json_extract(metrics, '$.\"{name}\"') FROM metrics "
            f"WHERE json_extract(metrics, '$.\"{name}\"') IS NOT NULL ORDER BY step"
        ).fetchall()


def test_every_point_is_there_once_however_often_it_is_pushed(series, folder):
    first = trackio_sink.push(series, TO)
    again = trackio_sink.push(series, TO)
    assert (first.points, again.points, again.run) == (5, 0, "lr1")
    for name in series.points[5]:
        expected = [(step, values[name]) for step, values in series.points.items()]
        assert rows(folder, name) == expected
    config = SQLiteStorage.get_run_config("p", "lr1")
    assert config["premem/log_log_threshold"] == -2.3


def test_a_later_checkpoint_is_added_and_other_values_take_the_place_of_the_earlier(
    series, other_series, folder
):
    some = Series(series.run, series.settings, dict(list(series.points.items())[:3]))
    trackio_sink.push(some, TO)
    more = trackio_sink.push(series, TO)
    assert (more.points, more.replaced) == (2, False)
    other = trackio_sink.push(other_series, TO)
    assert (other.points, other.replaced) == (5, True)
    name = "premem/premem"
    assert rows(folder, name) == [(step, v[name]) for step, v in other_series.points.items()]
    assert SQLiteStorage.get_runs("p") == ["lr1"]


def test_the_trainers_run_gets_the_points_beside_its_loss_and_keeps_them(
    series, other_series, folder
):
    run = trackio.init("p", "sft", auto_log_gpu=False, auto_log_cpu=False, embed=False)
    for step in range(6):
        run.log({"loss": 1 / (1 + step)}, step=step)
    run.finish()
    into = Destination("p", "lr1", into="sft")
    assert trackio_sink.push(series, into).points == 5
    assert trackio_sink.push(series, into).points == 0
    assert [step for step, _ in rows(folder, "premem/premem")] == [1, 2, 3, 4, 5]
    with pytest.raises(PushError, match="other values of an earlier push"):
        trackio_sink.push(other_series, into)
    with pytest.raises(UsageError, match="run 'sft' that is not from a push; give --into 'sft'"):
        trackio_sink.push(series, Destination("p", "sft"))
    assert len(rows(folder, "loss")) == 6
    assert SQLiteStorage.get_runs("p") == ["sft"]


def test_a_run_that_is_not_there_and_another_machine_are_refused(series, folder, monkeypatch):
    with pytest.raises(UsageError, match="no run 'sft'; check --into"):
        trackio_sink.push(series, Destination("p", "lr1", into="sft"))
    with pytest.raises(UsageError, match=r"Trackio refuses the project: .*'p_system'"):
        trackio_sink.push(series, Destination("p_system", "lr1"))
    monkeypatch.setenv("TRACKIO_SPACE_ID", "owner/space")
    with pytest.raises(UsageError, match="TRACKIO_SPACE_ID is set"):
        trackio_sink.push(series, TO)
    assert not list(folder.iterdir())
