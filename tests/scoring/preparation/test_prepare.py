"""One preparation of a job for command and page: what is read, chosen, checked and said."""

import json
from dataclasses import replace

import pytest

from premem_core.errors import CheckpointError, DataError, JobError, UsageError
from premem_core.problems import examples
from premem_core.problems.fields import FieldNames
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import job_files
from premem_core.scoring.job_files import Execution
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest, read_requested_data
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.runs import read_runs


@pytest.fixture
def request_(run_dir, data) -> ScoreRequest:
    train, test = data
    return ScoreRequest(run_dir, train, test, backend="hf", sampling=Sampling(samples=3))


def no_threshold(task, segment, plan):
    raise AssertionError("no threshold is needed")


def test_what_a_request_leaves_open_is_chosen_from_run_and_data(request_, run_dir, data):
    job = prepare(request_, find_threshold=no_threshold)
    assert (job.spec.run, job.task, job.spec.grader) == (run_dir.name, data[0].parent.name, "gsm8k")
    assert (len(job.train), len(job.test), len(job.steps)) == (48, 40, 3)
    assert (job.completions, job.perplexities, job.avoidable) == (3 * 88 * 3, 3 * 88, 0)
    assert job.spec.template == PromptTemplate()
    assert job.spec.thinking is None
    assert job.summary()[-1] == "completions in all: 792"


def test_a_request_may_name_everything(request_):
    fields = FieldNames("question", "answer", "hash")
    named = replace(request_, run="", task="t", grader="math", fields=fields, train_sample=10)
    with pytest.raises(JobError, match="run's name ''"):  # an empty name is a name
        prepare(named)
    job = prepare(replace(named, run="r", template=PromptTemplate("Q: {question}")))
    assert (job.spec.run, job.task, job.spec.grader) == ("r", "t", "math")
    assert job.spec.template == PromptTemplate("Q: {question}")
    assert len(job.train) == 10
    assert "train problems to score: 10, drawn at random" in job.summary()


def test_test_problems_are_held_out_where_they_have_solutions_and_not_only_answers(
    request_, data, tmp_path
):
    assert prepare(request_).spec.held_out
    assert not prepare(replace(request_, test_file=None)).spec.held_out
    answers = tmp_path / "answers.jsonl"
    rows = map(json.loads, data[1].read_text().splitlines())
    final = ({**row, "answer": row["answer"].rpartition("#### ")[2]} for row in rows)
    answers.write_text("\n".join(map(json.dumps, final)))
    job = prepare(replace(request_, test_file=answers))
    assert (job.spec.held_out, job.perplexities) == (False, 3 * 48)


@pytest.mark.parametrize("threshold", [-2.3, 0.0])
def test_a_plans_threshold_is_the_one_given_also_when_it_is_zero(request_, threshold):
    lazy = replace(request_, plan="lazy", log_log_threshold=threshold)
    job = prepare(lazy, find_threshold=no_threshold)
    assert job.spec.log_log_threshold == threshold
    assert job.avoidable == 3 * 48 * 3
    assert job.summary()[-2] == "completions in all: at most 792"
    assert job.summary()[-1].startswith(
        f"plan lazy, t = {threshold:.3f}: Up to 432 of the completions"
    )


def test_a_plan_without_a_threshold_gets_its_tasks_or_is_refused(request_):
    final = replace(request_, plan="final", task="sums")
    asked = []
    job = prepare(final, find_threshold=lambda task, segment, plan: asked.append(task) or -2.1)
    assert (asked, job.spec.log_log_threshold) == (["sums"], -2.1)
    with pytest.raises(UsageError, match="the final plan needs the threshold below which"):
        prepare(final)


def test_a_budget_is_for_the_plan_last_and_there_is_only_one(request_):
    last = replace(request_, plan="last", log_log_threshold=-2.3)
    job = prepare(replace(last, precision=4.0))  # 48 training problems
    assert (job.spec.share, job.spec.sampling.samples) == (1.0, 4)
    assert (job.completions, job.avoidable) == (3 * (48 + 40) * 4, 3 * 48 * 4)
    assert job.summary()[-1].startswith("precision: 48 problems, 4 samples each")
    job = prepare(replace(last, generations=3 * (20 + 40)))
    assert (job.spec.share, job.spec.sampling.samples) == (20 / 48, 1)
    assert (job.completions, job.avoidable) == (3 * (20 + 40), 3 * 20)
    for wrong, message in (
        (replace(last, precision=1.0, generations=9), "give only one of them"),
        (replace(last, generations=9), "too few: 3 checkpoints with 40 test problems"),
        (replace(request_, precision=1.0), "is for the plan last, not for full"),
        (replace(request_, share=0.5), "a share is for the plan last only"),
        (replace(last, share=0.0), "over 0 and at most 1, not 0.0"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare(wrong)


def test_data_that_was_read_already_is_not_read_again(request_, monkeypatch):
    data = read_requested_data(request_)
    monkeypatch.setattr(examples, "read_rows", no_threshold)
    assert prepare(request_, data).data is data


def test_bad_rows_are_refused_or_counted(request_, data, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(data[0].read_text() + '{"question": 3}\n')
    with pytest.raises(DataError, match="line 49"):
        prepare(replace(request_, train_file=file))
    job = prepare(replace(request_, train_file=file, skip_bad=True))
    assert job.summary()[1] == f"train: 48 problems from {file}, 1 bad rows left out"


def test_a_mistake_is_found_before_anything_is_made(request_, tmp_path):
    for wrong, error in (
        (replace(request_, run_folder=tmp_path), CheckpointError),
        (replace(request_, train_file=tmp_path / "none.jsonl"), DataError),
        (replace(request_, fields=FieldNames(answer="nonsense")), UsageError),
        (replace(request_, grader="magic"), UsageError),
        (replace(request_, perturbations=("magic",)), UsageError),
        (replace(request_, perturbation_texts={"own": "no place"}), UsageError),
        (replace(request_, perturbation_texts={"first": "{question}!"}), UsageError),
        (replace(request_, template=PromptTemplate("no place")), UsageError),
    ):
        with pytest.raises(error):
            prepare(wrong)
    assert not list(tmp_path.iterdir())


def test_a_prepared_job_is_created_as_it_was_requested(request_, data, tmp_path):
    first = examples.read_examples(data[0]).examples[0]
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"id": first.id, "question": "What is it?"}))
    job = prepare(
        replace(
            request_,
            run="again",
            task="sums",
            perturbations=("first", "first"),
            perturbation_texts={"polite": "Please: {question}"},
            perturbation_files={"other": file},
            train_sample=47,
            execution=Execution(workers=2),
        )
    )
    assert job.spec.perturbations == ("first", "polite", "other")
    store = Store(tmp_path / "store")
    folder = job.create(store)
    assert job_files.read_job_spec(store, "again") == job.spec
    assert job_files.read_execution(folder) == Execution(workers=2)
    assert read_runs(store)["train_examples"].tolist() == [48]  # what the run was trained on
    test = len(job.test)
    assert len(read_perturbed_examples(store, "sums", "polite")) == 47 + test  # its control
    with pytest.raises(JobError, match="already in"):
        job.create(store)
    assert job.create(store, resume=True) == folder
