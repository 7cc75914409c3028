"""Scratch jobs: what a page asks in a process of its own is what a command would say."""

import math
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from premem_core.errors import JobError
from premem_core.models.encoding.template_choice import compare_templates
from premem_core.scoring.preparation import scratch_job
from premem_core.scoring.preparation.prepare import PreparedJob, prepare
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.scoring.preparation.scratch_job import ask_about, compare_apart
from tests.helpers.commands import premem


@pytest.fixture
def job(run_dir, data, tmp_path) -> PreparedJob:
    """A job over a copy of the run's last checkpoint, some of whose problems cannot be scored."""
    last = sorted(run_dir.glob("checkpoint-*"), key=lambda f: int(f.name[11:]))[-1]
    shutil.copytree(last, tmp_path / "run" / last.name)
    prepared = prepare(ScoreRequest(tmp_path / "run", data[0], data[1], backend="hf"))
    longer = replace(prepared.train[0], id="long", question="1+1? " * 60)
    return replace(prepared, train=(*prepared.train[:6], longer), test=prepared.test[:2])


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("in_this_process")
def test_a_preview_that_is_asked_apart_is_the_one_of_this_process(job, scratch):
    apart = job.inspect_apart()
    assert apart == job.inspect()
    assert [(left.split, left.id) for left in apart.left_out] == [("train", "long")]
    assert len(apart.examples) == 3
    assert list(scratch.iterdir()) == []  # nobody keeps the job
    assert job.without(apart.left_out).train == job.train[:6]


@pytest.fixture
def in_this_process(monkeypatch):
    """The command as `python -m premem_core` runs it, without the seconds of its imports."""
    monkeypatch.setattr(subprocess, "run", lambda command, **_: premem(*command[3:]))


@pytest.mark.usefixtures("in_this_process")
def test_templates_compared_apart_are_those_compared_here(job):
    short = job.without(job.inspect().left_out)
    apart = compare_apart(short)
    here = compare_templates(short.data.run.checkpoints[-1], short.train)
    assert [one.option for one in apart] == [one.option for one in here]
    assert [one.nll for one in apart[:2]] == pytest.approx([one.nll for one in here[:2]], rel=1e-4)
    assert math.isnan(apart[-1].nll)  # there is no chat template


def test_an_nll_of_zero_is_known(job, monkeypatch):
    answer = {"compared": [{"name": "a", "option": "--plain", "nll": 0.0},
                           {"name": "b", "option": "--chat", "nll": None}]}  # fmt: skip
    monkeypatch.setattr(scratch_job, "ask_about", lambda *_: answer)
    zero, unknown = compare_apart(job)
    assert zero.nll == 0.0
    assert math.isnan(unknown.nll)


@pytest.mark.usefixtures("in_this_process")
def test_the_reason_of_a_failure_is_one_sentence(job, scratch):
    (job.data.run.checkpoints[-1].path / "tokenizer.json").write_text("{")
    with pytest.raises(JobError) as refused:
        job.inspect_apart()
    message = str(refused.value)
    assert "cannot be loaded" in message
    assert len(message.splitlines()) == 1
    assert not message.startswith("error: ")
    assert list(scratch.iterdir()) == []


def test_a_process_that_ends_without_a_reason_gives_its_last_words(job, monkeypatch):
    def died(*_, **__):
        return subprocess.CompletedProcess([], -9, "", "x" * 400 + "Killed")

    monkeypatch.setattr(subprocess, "run", died)
    with pytest.raises(JobError, match=r"^x{294}Killed$"):
        ask_about(job, "inspect")


def test_an_answer_that_does_not_come_is_not_waited_for(job, scratch, monkeypatch):
    monkeypatch.setattr(scratch_job, "SECONDS", 0)
    with pytest.raises(JobError, match="there was no answer within 0 minutes; use the "):
        ask_about(job, "inspect")
    assert list(scratch.iterdir()) == []
