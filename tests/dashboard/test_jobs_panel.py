"""The score page's jobs: what a person reads there, and what the buttons do."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from premem_core.dashboard import cached_reads
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.scoring import job_files, jobs
from premem_core.scoring.progress import CheckpointProgress, Progress, write_progress
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples
from tests.helpers.paths import PAGES
from tests.helpers.shown import errors

PAGE = PAGES / "score.py"


@pytest.fixture
def store(run_dir, data, tmp_path, monkeypatch) -> Store:
    """A store with a job of three checkpoints, of which one failed."""
    store = Store(tmp_path)
    train, test = (examples.read_examples(file).examples for file in data)
    spec = ScoringSpec("sums", "gsm8k")
    folder = jobs.create_job(store, spec, checkpoints.read_run(run_dir), "sums", train, test)
    rows = (
        CheckpointProgress(120, "scored", 440, 440),
        CheckpointProgress(240, "failed", 16, 16, "it is not a whole safetensors file"),
        CheckpointProgress(360, "waiting", 0, 440),
    )
    state = Progress(
        "sums", "failed", 456, 896, 12, message="checkpoint 240: it is not whole", checkpoints=rows
    )
    write_progress(folder.state, state)
    monkeypatch.setenv("PREMEM_STORE", str(tmp_path))
    cached_reads.store.clear()
    return store


def show() -> AppTest:
    app = AppTest.from_file(str(PAGE), default_timeout=60).run()
    assert not app.exception
    return app


def test_a_failed_checkpoint_is_named_with_its_reason_once(store):
    app = show()
    words = [element.value for element in [*app.text, *app.caption]]
    assert "sums: failed" in words
    assert "456 of 896 completions · 12 fewer than all samples of all problems" in words
    reasons = [line for line in words if "240" in line]
    assert reasons == ["Checkpoint 240 failed: it is not a whole safetensors file"]
    [table] = app.dataframe
    assert table.value["state"].tolist() == ["scored", "failed", "waiting"]


def test_asking_more_of_a_job_changes_it_and_starts_it(store, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start_job", lambda _, run: started.append(run))
    app = show()
    app.number_input[0].set_value(8)
    [perturbed] = app.multiselect
    perturbed.set_value(["first"])
    app.button(key="FormSubmitter:form-sums-Draw what is missing").click().run()
    assert not app.exception
    assert started == ["sums"]
    spec = job_files.read_job_spec(store, "sums")
    assert (spec.sampling.samples, spec.perturbations) == (8, ("first",))


def test_resume_starts_the_job(store, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start_job", lambda _, run: started.append(run))
    show().button(key="resume-sums").click().run()
    assert started == ["sums"]


@pytest.mark.slow
def test_perturbed_queries_of_ones_own_go_into_the_job(store, run_dir, data, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "start_job", lambda *_: None)
    first = examples.read_examples(data[0]).examples[0]
    file = tmp_path / "Said otherwise.jsonl"
    file.write_text(json.dumps({"id": first.id, "question": "What is it?"}))
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.query_params.update({"folder": str(run_dir), "train": str(data[0]), "perturbed": str(file)})
    app.run()
    [text] = [box for box in app.text_area if box.label == "A text around the question"]
    text.input("Please: solve it").run()
    assert "has no {question} in it" in errors(app)
    [start] = [button for button in app.button if button.label == "Start scoring"]
    assert start.disabled
    text.input("Please: {question}").run()
    [name] = [box for box in app.text_input if box.label == "Name of the run"]
    name.input("again").run()
    [start] = [button for button in app.button if button.label == "Start scoring"]
    start.click().run()
    assert not app.error
    polite = read_perturbed_examples(store, data[0].parent.name, "own-text")
    assert polite["question"].str.startswith("Please: ").all()
    [said] = read_perturbed_examples(store, data[0].parent.name, "said-otherwise").to_dict(
        "records"
    )
    assert said["question"] == "What is it?"


def test_a_mistake_in_the_form_is_said_at_once_and_nothing_can_be_started(store, run_dir, data):
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.query_params.update({"folder": str(run_dir), "train": str(data[0])})
    app.run()
    assert not app.error
    assert any("**3 checkpoints** (steps 120 to 360)" in text.value for text in app.markdown)
    [prompt] = [box for box in app.text_area if box.label == "Prompt"]
    prompt.input("no place for it").run()
    assert "must contain {question}" in errors(app)
    [start] = [button for button in app.button if button.label == "Start scoring"]
    assert start.disabled
    assert not [button for button in app.button if button.label == "Estimate time and disk"]
