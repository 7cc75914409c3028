"""Problems that a run was not trained on: their perplexities are measured, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from premem_core.analysis import run_scores
from premem_core.errors import JobError, UsageError
from premem_core.problems.examples import read_examples
from premem_core.records import Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.scores import read_counts
from premem_core.store.shards.shards import completions_folder, find_shards

SHORT = Sampling(samples=1, max_new_tokens=8)


@pytest.fixture(scope="module")
def held_out(data, tmp_path_factory):
    """A file with six of the training problems and two new ones."""
    file = tmp_path_factory.mktemp("held") / "held.jsonl"
    rows = [json.loads(line) for line in data[0].read_text().splitlines()][:6]
    new = [json.loads(line) for line in data[1].read_text().splitlines()][:2]
    for number, row in enumerate(new):
        row["id"] = f"new-{number}"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows + new))
    return file


def request(run_dir, data, held_out=None, **changes):
    asked = ScoreRequest(run_dir, data[0], run="sums", task="t", backend="hf", sampling=SHORT)
    return replace(asked, **{"held_out_file": held_out, **changes})


def nll_by_id(store, split):
    """The NLL of each problem of a split, by step and id."""
    ids = read_task_examples(store, "t", "train").set_index("example")["id"]
    counts = read_counts(store, "sums").query("split == @split")
    return counts.assign(id=counts["example"].map(ids)).set_index(["step", "id"])["nll"]


@pytest.fixture(scope="module")
def scored(run_dir, data, held_out, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    job = prepare(request(run_dir, data, held_out))
    assert (len(job.train), len(job.unseen)) == (42, 8)
    assert "held out: 8 problems" in "\n".join(job.summary())
    assert job.perplexities == 3 * (42 + 8)
    job.create(store)
    assert job_process.run_job(store, "sums").state == "done"
    return store


def test_their_perplexities_are_those_of_training_problems_and_no_sample_is_drawn(
    scored, run_dir, data, tmp_path
):
    counts = read_counts(scored, "sums")
    unseen = counts[counts["split"] == "unseen"]
    assert unseen.groupby("step").size().tolist() == [8, 8, 8]
    assert not unseen["samples"].any()
    assert unseen["nll"].notna().all()
    [run] = run_scores.read_task(scored, "t")
    assert run.unseen_nll.shape == (3, 8)
    assert len(run.examples) == run.trained_on == 42
    # Scored as training problems, the same six have the same perplexities.
    whole = Store(tmp_path)
    prepare(request(run_dir, data)).create(whole)
    assert job_process.run_job(whole, "sums").state == "done"
    by_id, expected = nll_by_id(scored, "unseen"), nll_by_id(whole, "train")
    both = by_id.index.intersection(expected.index)
    assert len(both) == 3 * 6
    np.testing.assert_allclose(by_id[both], expected[both], rtol=1e-4)


def test_an_extension_must_name_them_again_and_measures_nothing_twice(
    scored, run_dir, data, held_out
):
    before = read_counts(scored, "sums").query("split == 'unseen'")
    more = replace(SHORT, samples=2)
    with pytest.raises(JobError, match=r"problems were held out, but none is given \(--held-out\)"):
        prepare(request(run_dir, data, sampling=more)).create(scored, extend=True)
    prepare(request(run_dir, data, held_out, sampling=more)).create(scored, extend=True)
    assert job_process.run_job(scored, "sums").state == "done"
    jobs.extend_job(scored, "sums", samples=3)
    assert job_process.run_job(scored, "sums").state == "done"
    assert read_counts(scored, "sums").query("split == 'unseen'").equals(before)


def test_a_file_that_holds_every_training_problem_is_refused(run_dir, data):
    assert len(read_examples(data[0]).examples) == 48
    with pytest.raises(UsageError, match="so the run would have no training problem"):
        prepare(request(run_dir, data, data[0]))


def test_a_job_remembers_that_its_run_learned_from_rewards(run_dir, data, tmp_path):
    for name, rewarded in (("supervised", False), ("reinforced", True)):
        job = prepare(request(run_dir, data, run=name, train_sample=4))
        job = replace(job, data=replace(job.data, run=replace(job.data.run, rewarded=rewarded)))
        job.create(Store(tmp_path))
        assert job_process.run_job(Store(tmp_path), name).state == "done"
        job.create(Store(tmp_path), resume=True)
    runs = {run.run: run.rewarded for run in run_scores.read_task(Store(tmp_path), "t")}
    assert runs == {"supervised": False, "reinforced": True}


def test_a_larger_test_sample_contains_a_smaller_one(run_dir, data, tmp_path):
    few, more = (
        prepare(request(run_dir, data, test_file=data[1], test_sample=n, train_sample=4))
        for n in (5, 12)
    )
    assert (len(few.test), len(more.test)) == (5, 12)
    assert {e.id for e in few.test} < {e.id for e in more.test}
    assert "test problems to score: 5, drawn at random" in "\n".join(few.summary())
    store = Store(tmp_path)
    few.create(store)
    more.create(store, extend=True)


def test_of_unseen_solutions_no_token_scores_are_kept(scored):
    for split, kept in (("train", True), ("unseen", False)):
        files = find_shards(completions_folder(scored.path, "sums"), split=split, kind="targets")
        for file in files:
            lists = pq.read_table(file)["log_probabilities"]
            assert (lists.null_count == 0) == kept
            assert lists.null_count in (0, len(lists))
