"""Weights & Biases, offline: what stands in its own files after a push."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

import wandb
from wandb.proto import wandb_internal_pb2

from premem_core.errors import PushError, UsageError
from premem_core.sinks import wandb_sink
from premem_core.sinks.series import Destination
from tests.helpers.wandb_servers import served_wandb

TO = Destination("p", "lr1")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    set_mode(monkeypatch, "offline")
    yield tmp_path
    wandb.teardown()


def set_mode(monkeypatch, mode: str) -> None:
    """W&B reads its variables once, until it is torn down."""
    monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()


def records(file: Path) -> Iterator[Any]:
    """The records of W&B's file: LevelDB's log format behind a header of 7 bytes.

    A record has a checksum (4 bytes), a length (2) and a type (1: whole; 2, 3, 4: a part of one).
    """
    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:  # records do not begin at the end of a block
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield vars(wandb_internal_pb2)["Record"].FromString(parts)
            parts = b""


def written(folder: str) -> list[Any]:
    [file] = Path(folder).glob("*.wandb")
    return list(records(file))


def points(found: list[Any]) -> dict[int, dict[str, float]]:
    rows = [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in found
        if r.HasField("history")
    ]
    return {
        row.pop("premem/step"): {n: v for n, v in row.items() if n.startswith("premem/")}
        for row in rows
    }


def test_every_point_has_its_training_step_as_its_axis(series, folder, capfd):
    pushed = wandb_sink.push(series, TO)
    found = written(pushed.place)
    assert points(found) == {step: dict(values) for step, values in series.points.items()}
    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in found
            if r.HasField("metric")}  # fmt: skip
    assert axes["premem/*"] == "premem/step"
    [run, *_] = [r.run for r in found if r.HasField("run")]
    assert (run.project, run.run_id) == ("p", pushed.run)
    assert run.display_name == f"lr1-{pushed.run[:6]}"
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["premem/log_log_threshold"] == -2.3
    assert capfd.readouterr() == ("", "")


def test_the_same_points_are_written_once_and_others_are_another_run(series, other_series, folder):
    first = wandb_sink.push(series, TO)
    again = wandb_sink.push(series, TO)
    assert (again.points, again.run, again.place) == (0, first.run, first.place)
    other = wandb_sink.push(other_series, TO)
    assert (other.points, other.replaced) == (5, False)
    elsewhere = wandb_sink.push(series, Destination("another project", "lr1"))
    assert elsewhere.points == 5
    assert len({first.run, other.run, elsewhere.run}) == 3
    assert len(list(folder.glob("wandb/offline-run-*"))) == 3


def test_what_a_killed_push_left_is_written_anew(series, folder):
    first = wandb_sink.push(series, TO)
    (Path(first.place) / wandb_sink.WHOLE).unlink()
    again = wandb_sink.push(series, TO)
    assert (again.points, again.run) == (5, first.run)
    assert [str(f) for f in folder.glob("wandb/offline-run-*")] == [again.place]


def test_nothing_about_this_machine_is_written(series, folder):
    place = Path(wandb_sink.push(series, TO).place)
    assert not list((place / "files").iterdir())
    assert not any(r.HasField("stats") or r.HasField("output") for r in written(str(place)))


def test_a_trainers_run_cannot_be_continued_offline_and_a_disabled_tracker_is_said(
    series, folder, monkeypatch
):
    with pytest.raises(UsageError, match="can continue a run only online"):
        wandb_sink.push(series, Destination("p", "lr1", into="abc"))
    set_mode(monkeypatch, "disabled")
    with pytest.raises(UsageError, match="W&B is disabled"):
        wandb_sink.push(series, TO)
    assert not list(folder.glob("wandb/*run-*"))


def test_without_a_key_the_error_is_one_sentence(series, folder, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers
    set_mode(monkeypatch, "online")
    with pytest.raises(PushError, match="W&B did not take the points: ") as caught:
        wandb_sink.push(series, TO)
    assert "\n" not in str(caught.value)


@pytest.fixture
def online(folder, monkeypatch):
    """A server in the place of W&B's, with a trainer's run of five steps."""
    with served_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
        monkeypatch.setenv("HOME", str(folder))
        set_mode(monkeypatch, "online")
        with wandb.init(project="p", id="trainer", settings=wandb_sink._settings()) as run:
            for step in range(5):
                run.log({"loss": 1 / (1 + step)})
        wandb.teardown()
        yield server
        wandb.teardown()


def pushed_steps(server, run: str) -> list[int]:
    return [row["premem/step"] for row in server.rows[run] if "premem/step" in row]


def test_the_trainers_run_gets_the_points_behind_its_loss_and_keeps_them(
    series, other_series, online
):
    into = Destination("p", "lr1", into="trainer")
    assert wandb_sink.push(series, into).points == 5
    again = wandb_sink.push(series, into)
    assert (again.points, again.place) == (0, f"{online.url}/me/p/runs/trainer")
    with pytest.raises(PushError, match="other values of an earlier push"):
        wandb_sink.push(other_series, into)
    losses = [row["loss"] for row in online.rows["trainer"] if "loss" in row]
    assert losses == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert pushed_steps(online, "trainer") == [1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match="has no run 'nosuch'; check --into"):
        wandb_sink.push(series, Destination("p", "lr1", into="nosuch"))


def test_online_too_the_same_points_are_written_once_and_a_half_push_is_completed(series, online):
    run = wandb_sink.push(series, TO).run
    assert wandb_sink.push(series, TO).points == 0
    del online.rows[run][3:]
    assert wandb_sink.push(series, TO).points == 2
    assert pushed_steps(online, run) == [1, 2, 3, 4, 5]
