"""The options of `score` and `jobs`: what becomes of them."""

from pathlib import Path

import pytest

from premem_core.commands import jobs as job_commands
from premem_core.commands.score_options import ScoreOptions
from premem_core.errors import UsageError
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import job_files, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.prepare import ScoreRequest
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store

RUN, TRAIN = Path("runs/lr2e-5"), Path("train.jsonl")


def test_without_options_a_request_is_the_default_one():
    assert ScoreOptions(run_dir=RUN, train=[TRAIN]).request() == ScoreRequest(RUN, (TRAIN,))


def test_every_option_reaches_the_request():
    request = ScoreOptions(
        run_dir=RUN, train=[TRAIN], run="", task="t", plan="lazy", log_log_threshold=0.0,
        samples=2, temperature=0.0, seed=0, perturb=["first"], perturb_all=True,
        perturb_template=[r"polite=Please:\n{question}"], perturb_file=["hand=a=b.jsonl"],
        prompt_template=r"{question}\n", stop="", workers=2, measure_weights=True,
        base=Path("/base"),
    ).request()  # fmt: skip
    assert (request.run, request.task, request.log_log_threshold) == (None, "t", 0.0)
    assert request.sampling == Sampling(2, 0.0, 0.95, 512, 0)
    assert (request.perturbations, request.perturb_all) == (("first",), True)
    assert request.perturbation_texts == {"polite": "Please:\n{question}"}
    assert request.perturbation_files == {"hand": Path("a=b.jsonl")}
    assert isinstance(request.template, PromptTemplate)
    assert (request.template.prompt, request.stop) == ("{question}\n", ())
    assert request.execution == Execution(workers=2, weights=True, base="/base")


@pytest.mark.parametrize(
    "given",
    [
        {"perturb_template": ["nameless"]},
        {"perturb_template": ["a={question}", "a={question}"]},
        {"perturb_template": ["a={question}"], "perturb_file": ["a=file.jsonl"]},
    ],
)
def test_each_perturbation_of_ones_own_needs_a_name_of_its_own(given):
    with pytest.raises(UsageError, match="give it a unique name"):
        ScoreOptions(run_dir=RUN, train=[TRAIN], **given).request()


def test_extending_a_job_to_a_threshold_of_zero_is_extending_it(
    run_dir, data, tmp_path, monkeypatch
):
    store = Store(tmp_path)
    train, test = (examples.read_examples(file).examples for file in data)
    spec = ScoringSpec("sums", "gsm8k", plan="lazy", log_log_threshold=-2.3)
    jobs.create_job(store, spec, checkpoints.read_run(run_dir), "sums", train, test)
    monkeypatch.setattr(job_commands, "run_job", lambda store, run: None)
    job_commands.jobs_extend("sums", tmp_path, log_log_threshold=0.0)
    assert job_files.read_job_spec(store, "sums").log_log_threshold == 0.0
    job_commands.jobs_extend("sums", tmp_path, samples=6, perturb=["first"])  # the rest stays
    extended = job_files.read_job_spec(store, "sums")
    assert (extended.plan, extended.log_log_threshold) == ("lazy", 0.0)
    assert (extended.sampling.samples, extended.perturbations) == (6, ("first",))
