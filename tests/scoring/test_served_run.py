"""Jobs whose backend is a running server, as the command starts them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from premem_core.models.checkpoints import read_run
from premem_core.models.server import completions_client
from premem_core.scoring import job_process
from premem_core.scoring.executors.worker import Assignment, Event, Worker
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_scores
from tests.helpers.commands import premem
from tests.helpers.endpoints import Served
from tests.helpers.model_server import model_server

KEY = "sk-very-secret"
RUN = "sums-lr5e-3"


class ExecutorHere:
    """One worker, in this process, where a test can change its patience."""

    free = 1

    def __init__(self, *_: object) -> None:
        self.events: list[Event] = []

    def submit(self, assignment: Assignment) -> None:
        one = Worker()
        one.work(assignment, self.events.append)
        if one.backend is not None:
            one.backend.close()

    def wait(self, seconds: float) -> list[Event]:
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Work in this process, and wait for no server; tests/vllm has workers of their own."""
    monkeypatch.setattr(job_process, "LocalExecutor", ExecutorHere)
    monkeypatch.setattr(completions_client, "RETRIES", 2)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


@pytest.fixture
def score(run_dir, data, tmp_path):
    """The command, made short."""

    def run(*options, store="store"):
        return premem(
            *("score", run_dir, "--train", data[0], "--store", tmp_path / store),
            *(
                "--task",
                "sums",
                "--train-sample",
                12,
                "--chunk-examples",
                4,
                "--samples",
                2,
                "--temperature",
                0,
            ),
            *("--max-new-tokens", 8, *options),
        )

    return run


@contextmanager
def serving(run_dir: Path, *steps: int, fault=lambda body: None, port: int = 0) -> Iterator[Served]:
    run = read_run(run_dir)
    models = {str(c.path): c for c in run.checkpoints if c.step in steps}
    with model_server(models, fault, port=port) as there:
        yield there


def at(there: Served) -> tuple[str, ...]:
    return ("--backend", "server", "--endpoint", there.url)


def scores(store: Store) -> pd.DataFrame:
    return read_scores(store, "sums")


def steps(run_dir: Path) -> list[int]:
    return [checkpoint.step for checkpoint in read_run(run_dir).checkpoints]


@pytest.mark.slow
def test_a_run_is_scored_checkpoint_after_checkpoint_as_they_are_served(score, run_dir, tmp_path):
    first, *later = steps(run_dir)
    with serving(run_dir, first) as there:
        done = score(*at(there))
        assert done.returncode == 0, done.stderr
        assert f"checkpoint {first}: served as '{run_dir}/checkpoint-{first}'" in done.stderr
        left = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
        assert left == [
            f"left out: checkpoint-{step}, {there.url} does not serve it; serve it, and extend the "
            "job (--extend)"
            for step in later
        ]
    with serving(run_dir, *later) as there:
        refused = score(*at(there), "--resume")
        assert "checkpoints was" in refused.stderr
        assert "--extend" in refused.stderr
        done = score(*at(there), "--extend")
        assert done.returncode == 0, done.stderr
        assert f"checkpoint {first}: {there.url} does not serve it now" in done.stderr
        asked = len(there.asked)
        assert score(*at(there), "--resume").returncode == 0
        assert len(there.asked) == asked + 1  # whether it can score
    assert score("--backend", "hf", store="hf").returncode == 0
    ours, theirs = (scores(Store(tmp_path / name)) for name in ("store", "hf"))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)


def test_a_server_that_goes_away_ends_the_job_in_one_sentence_and_nothing_is_lost(
    score, run_dir, tmp_path
):
    last = steps(run_dir)[-1]
    sampled = []

    def going(body):
        if "stop" in body:
            sampled.append(body)
        return (503, {"error": {"message": "gone"}}) if len(sampled) > 10 else None

    with serving(run_dir, last, fault=going) as there:
        ended = score(*at(there), "--checkpoints", last)
        assert ended.returncode == 1
        [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert "503 - gone; finished results are kept: resume the job when it answers" in error
        store = Store(tmp_path / "store")
        [state] = read_checkpoints(store, RUN)["state"]
        assert state != "failed"
        port, known = there.server.server_port, sampled[:10]
    with serving(run_dir, last, port=port) as there:
        done = premem("jobs", "run", RUN, "--store", tmp_path / "store")
        assert done.returncode == 0, done.stderr
        again = [body for body in there.asked if "stop" in body]
    drawn = read_completions(store, RUN, last, "train", "")
    assert len(drawn) == 24
    assert not drawn.duplicated(["example", "sample"]).any()
    # The first chunk, of 8 completions, was finished.
    assert len(again) == 16
    finished = [(body["prompt"], body["seed"]) for body in known]
    assert sum((body["prompt"], body["seed"]) in finished for body in again) == 2


def test_the_key_reaches_the_server_and_no_file(score, run_dir, tmp_path, monkeypatch):
    last = steps(run_dir)[-1]
    with serving(run_dir, last) as there:
        options = (*at(there), "--checkpoints", last, "--key-variable", "KEY_OF_TEST")
        missing = score(*options)
        assert "the environment variable KEY_OF_TEST is not set" in missing.stderr
        assert not (tmp_path / "store").exists()
        monkeypatch.setenv("KEY_OF_TEST", KEY)
        assert score(*options).returncode == 0
        assert {headers["authorization"] for headers in there.headers} == {f"Bearer {KEY}"}
    execution = json.loads(next(tmp_path.glob("store/jobs/*/execution.json")).read_text())
    assert execution["key_variable"] == "KEY_OF_TEST"
    for file in (tmp_path / "store").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_what_the_server_cannot_do_is_said_before_anything_is_created(score, run_dir, tmp_path):
    last = steps(run_dir)[-1]
    without = model_server(
        {str(c.path): c for c in read_run(run_dir).checkpoints}, change=dict.clear
    )
    with without as there:
        refused = score(*at(there))
        assert refused.returncode == 2
        assert "gives no log-probabilities of a prompt, which scoring needs" in refused.stderr
    with serving(run_dir) as there:
        refused = score(*at(there), "--checkpoints", last)
        assert refused.returncode == 2
        assert "serves no checkpoint of" in refused.stderr
        assert f"say which model holds one: --served {last}=NAME" in refused.stderr
    refused = score(*at(there))
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--backend", "server"), "needs the URL of a running server"),
        (("--endpoint", "http://localhost:8000/v1"), "give --backend server too"),
        (("--backend", "hf", "--served", "1=a"), "give --backend server too"),
        (("--backend", "server", "--served", "a"), "not of the form CHECKPOINT=MODEL"),
        (("--backend", "server", "--endpoint", "localhost"), "must be a URL such as"),
        (
            ("--backend", "server", "--endpoint", "http://x/v1", "--executor", "ray"),
            "leave out --executor ray",
        ),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(options, sentence, score, tmp_path):
    refused = score(*options)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert not (tmp_path / "store").exists()


def test_problems_longer_than_the_server_takes_are_left_out_and_the_rest_is_estimated(
    score, run_dir
):
    models = {str(c.path): c for c in read_run(run_dir).checkpoints}
    with model_server(models, positions=34) as there:
        shown = score(*at(there), "--dry-run")
        assert "problems left out: " in shown.stderr
        assert "and the model takes 33" in shown.stderr
    with model_server(models) as there:
        estimated = score(*at(there), "--estimate")
        assert estimated.returncode == 0, estimated.stderr
        assert "Estimate: at most" in estimated.stderr
