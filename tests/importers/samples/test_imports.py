"""Imported completions in a store: counted once, found again, and completed by a scoring job."""

import json
from pathlib import Path

import pytest

import premem_core as premem
from premem_core.analysis import curves, run_scores
from premem_core.errors import DataError, JobError, PrememWarning, UsageError
from premem_core.grading.graded_completions import read_graded_completions
from premem_core.grading.regrade import regrade_run
from premem_core.importers.samples import imports
from premem_core.importers.samples.imports import prepare_import
from premem_core.importers.samples.request import SampleRequest
from premem_core.records import KnownSampling, Sampling
from premem_core.scoring import job_process
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints, read_runs
from premem_core.store.sample_imports import read_sample_imports
from premem_core.store.scores import read_counts, read_lengths
from premem_core.store.shards.committed_shards import withdraw_broken
from tests.helpers import tiny

TRAIN, TEST = tiny.sums(0, 48), tiny.sums(48, 40)
FEW = TRAIN[:4]


def rows(file: Path, *values: dict) -> Path:
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


def answered(example, step: int, *right: bool, **more) -> dict:
    """A row of a plain file: completions that are right or wrong."""
    answers = [example.answer if one else "-1" for one in right]
    return {
        "id": example.id,
        "step": step,
        "completion": [f"#### {answer}" for answer in answers],
        **more,
    }


def bring(store: Store, file: Path, split="train", train=FEW, test=(), **options):
    options = {"task": "sums", "grader": "gsm8k"} | options
    request = SampleRequest([file], "sums", split, train, test, **options)
    prepared = prepare_import(store, request)
    prepared.write(store)
    return prepared


def totals(store: Store, split="train") -> dict[int, tuple[int, int]]:
    counts = read_counts(store, "sums")
    sums = counts[counts["split"] == split].groupby("step")[["samples", "correct"]].sum()
    return {int(step): (row["samples"], row["correct"]) for step, row in sums.iterrows()}


def score(store: Store, run_dir, data, *, samples=2, test=False, mix=False, extend=False, **more):
    request = ScoreRequest(
        run_dir,
        (data[0],),
        (data[1],) if test else None,
        run="sums",
        task="sums",
        backend="hf",
        sampling=Sampling(samples=samples, max_new_tokens=30),
        only=("240",),
        **more,
    )
    prepare(request).create(store, extend=extend, mix_settings=mix)
    return job_process.run_job(store, "sums")


def test_completions_with_nlls_make_a_scored_run_without_a_model(tmp_path):
    store = Store(tmp_path / "store")
    file = rows(
        tmp_path / "plain.jsonl",
        *(answered(e, 10, True, False, nll=0.9, tokens=7) for e in FEW),
        *(answered(e, 20, True, True, nll=0.01, tokens=7) for e in FEW[:2]),
        *(answered(e, 20, True, True, nll=0.8, tokens=7) for e in FEW[2:]),
    )
    bring(store, file)
    [run] = run_scores.read_task(store, "sums")
    curve = curves.curve(run, -2.3)
    assert curve.train.tolist() == [0.5, 1.0]
    assert curve.premem.tolist() == [0.5, 0.75]  # two are memorized and had 0.5 before
    assert curve.memorized.tolist() == [0.0, 0.5]
    assert read_lengths(store, "sums")["finished"].isna().all()  # the file does not tell it
    assert read_checkpoints(store, "sums")["state"].tolist() == ["scored", "scored"]
    assert read_runs(store)[["source", "grader", "train_examples"]].to_numpy().tolist() == [
        ["imported", "gsm8k", 4]
    ]


def test_without_nlls_the_checkpoint_waits_so_that_no_page_takes_it_for_unmemorized(tmp_path):
    store = Store(tmp_path / "store")
    bring(store, rows(tmp_path / "a.jsonl", *(answered(e, 10, True) for e in FEW)))
    assert read_checkpoints(store, "sums")["state"].tolist() == ["waiting"]
    assert totals(store) == {10: (4, 4)}
    nlls = [{"id": e.id, "step": 10, "nll": 0.5} for e in FEW]
    bring(store, rows(tmp_path / "b.jsonl", *nlls))
    assert read_checkpoints(store, "sums")["state"].tolist() == ["scored"]


def test_the_same_file_adds_nothing_and_another_one_adds_samples(tmp_path):
    store = Store(tmp_path / "store")
    first = rows(tmp_path / "a.jsonl", *(answered(e, 10, True, False) for e in FEW))
    bring(store, first)
    version = store.version()
    copied = tmp_path / "copy.jsonl"
    copied.write_bytes(first.read_bytes())
    [part] = bring(store, copied).parts
    assert part.already
    assert store.version() == version
    bring(store, rows(tmp_path / "b.jsonl", answered(FEW[0], 10, True)))
    assert totals(store) == {10: (9, 5)}
    number = int(read_counts(store, "sums")["example"].min())
    drawn = read_graded_completions(store, "sums", "train", number)
    assert drawn["sample"].tolist() == [0, 1, 2]
    assert drawn["grade"].tolist() == ["correct", "incorrect", "correct"]
    known = read_sample_imports(store, "sums")
    assert known["completions"].tolist() == [8, 1]
    assert known["sha256"].str.len().tolist() == [64, 64]


def test_what_is_left_out_is_counted(tmp_path):
    store = Store(tmp_path / "store")
    twice = [*FEW, tiny.Example("again", FEW[0].question, "other", "1")]
    file = rows(
        tmp_path / "a.jsonl",
        {"question": FEW[0].question, "step": 10, "completion": "#### 1"},
        {"question": "7000+1?", "step": 10, "completion": "#### 1"},
        {"question": FEW[1].question, "step": 10, "completion": "#### 1"},
        {"question": FEW[1].question, "step": 20, "completion": "#### 1"},
        {"question": FEW[1].question, "step": "x", "completion": "#### 1"},
    )
    [part] = bring(store, file, train=twice, steps=[10], skip_bad=True).parts
    assert (part.ambiguous, part.unmatched, part.without, len(part.file.bad)) == (1, 1, 4, 1)
    assert totals(store) == {10: (1, 0)}


@pytest.mark.parametrize(
    ("row", "options", "error"),
    [
        ({"id": "nobody", "step": 1, "completion": "1"}, {}, "no question of the train problems"),
        ({"id": FEW[0].id, "completion": "1"}, {}, "--step 100"),
        ({"id": FEW[0].id, "step": 1, "completion": "1"}, {"steps": [2]}, "no row is of the steps"),
        ({"id": FEW[0].id, "step": 1, "completion": "1"}, {"grader": "no"}, "no grader 'no'"),
        ({"id": FEW[0].id, "step": 1, "completion": "1"}, {"task": None}, "name its task"),
        ({"id": FEW[0].id, "step": 1, "completion": "1"}, {"train": ()}, "--train"),
    ],
)
def test_what_cannot_be_imported_leaves_the_store_unchanged(row, options, error, tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises((DataError, UsageError), match=error):
        bring(store, rows(tmp_path / "a.jsonl", row), **options)
    assert store.version() == 0
    assert not list((store.path / "inbox").iterdir())


def test_a_question_with_two_nlls_is_refused(tmp_path):
    two = [{"id": FEW[0].id, "step": 1, "nll": nll} for nll in (0.5, 0.6)]
    with pytest.raises(DataError, match=r"the NLLs 0\.5 and 0\.6"):
        bring(Store(tmp_path / "store"), rows(tmp_path / "a.jsonl", *two))


def killed_after(function, place):
    def killed(*arguments, **options):
        if place == "write_shards":
            function(*arguments, **options)
        raise KeyboardInterrupt

    return killed


def test_a_killed_import_is_completed_by_the_same_call(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    file = rows(tmp_path / "a.jsonl", *(answered(e, 10, True, False, nll=0.5) for e in FEW))
    for place in ("commit_inbox", "add_sample_imports"):
        with monkeypatch.context() as killing:
            killing.setattr(
                imports, place, lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                bring(store, file)
    bring(store, file)
    assert totals(store) == {10: (8, 4)}
    assert len(read_sample_imports(store)) == 1
    assert bring(store, file).parts[0].already


def test_a_broken_shard_is_written_again_by_the_same_call(tmp_path):
    store = Store(tmp_path / "store")
    file = rows(tmp_path / "a.jsonl", *(answered(e, 10, True, nll=0.5) for e in FEW))
    bring(store, file)
    [shard] = samples_shards(store, "sums")
    shard.write_bytes(shard.read_bytes()[:60])
    with pytest.warns(PrememWarning, match="empty or cut off"):
        assert withdraw_broken(store, "sums") == 1
    assert totals(store) == {10: (0, 0)}
    bring(store, file)
    assert totals(store) == {10: (4, 4)}


def test_imported_completions_are_graded_again_like_others(tmp_path):
    store = Store(tmp_path / "store")
    bring(store, rows(tmp_path / "a.jsonl", *(answered(e, 10, True, nll=0.5) for e in FEW)))
    assert regrade_run(store, "sums", "exact").newly_graded == 4
    with pytest.raises(UsageError, match="regrade it with that one, import"):
        bring(store, rows(tmp_path / "b.jsonl", answered(FEW[0], 10, False)), grader=None)


def test_other_settings_are_refused_unless_a_person_accepts_them(tmp_path):
    store = Store(tmp_path / "store")
    one = rows(tmp_path / "a.jsonl", answered(FEW[0], 10, True))
    other = rows(tmp_path / "b.jsonl", answered(FEW[0], 10, False))
    bring(store, one, sampling=KnownSampling(0.8))
    with pytest.raises(UsageError, match=r"temperature 0 and 0.8.*--mix-settings"):
        bring(store, other, sampling=KnownSampling(0.0))
    assert totals(store) == {10: (1, 1)}
    bring(store, other, sampling=KnownSampling(0.0), mix_settings=True)
    assert totals(store) == {10: (2, 1)}


def test_a_job_draws_only_what_the_import_lacks(run_dir, data, tmp_path):
    store = Store(tmp_path / "store")
    file = rows(
        tmp_path / "checkpoint-240.jsonl",
        *({"id": e.id, "completion": [f"#### {e.answer}"] * 2} for e in TRAIN[:40]),
        *({"id": e.id, "completion": "#### -1"} for e in TRAIN[40:]),
    )
    bring(store, file, train=TRAIN, sampling=KnownSampling(0.8))
    with pytest.raises(JobError, match=r"of the task 'sums', not 'other'"):
        prepare(ScoreRequest(run_dir, (data[0],), run="sums", task="other")).create(store)
    with pytest.raises(JobError, match=r"temperature 0.8 and 0.5.*--mix-settings"):
        prepare(
            ScoreRequest(
                run_dir, (data[0],), run="sums", task="sums", sampling=Sampling(temperature=0.5)
            )
        ).create(store)
    assert score(store, run_dir, data).state == "done"
    samples = totals(store)[240][0]
    assert samples == 2 * 48
    drawn = [file for file in samples_shards(store, "sums") if "import" not in file.name]
    reader = premem.open_store(store.path)
    completions = reader.completions("sums", 240)
    assert (completions.groupby("example")["sample"].agg(list).map(tuple) == (0, 1)).all()
    assert len(drawn) == 1  # the second sample of the last eight
    [run] = run_scores.read_task(store, "sums")
    assert not curves.curve(run, -2.3).unknown.any()
    [state] = read_checkpoints(store, "sums").to_dict("records")
    assert (state["state"], state["samples"], Path(state["path"]).name) == (
        "scored", 2, "checkpoint-240",
    )  # fmt: skip


def test_a_run_that_was_scored_without_a_test_set_gets_its_test_accuracy(run_dir, data, tmp_path):
    store = Store(tmp_path / "store")
    score(store, run_dir, data, samples=1, train_sample=12)
    tested = rows(
        tmp_path / "a.jsonl", *(answered(e, 240, number < 10) for number, e in enumerate(TEST))
    )
    bring(store, tested, "test", (), TEST, grader=None, sampling=KnownSampling(0.0))
    [run] = run_scores.read_task(store, "sums")
    assert curves.curve(run, -2.3).test.tolist() == [0.25]

    trained = rows(tmp_path / "b.jsonl", *(answered(e, 240, True) for e in TRAIN))
    with pytest.raises(UsageError, match="that its job drew"):
        bring(store, trained, train=TRAIN, grader=None, sampling=KnownSampling(0.0))
    bring(store, trained, train=TRAIN, grader=None)
    assert totals(store)[240][0] == 12 + 48
    [run] = run_scores.read_task(store, "sums")
    assert len(run.examples) == 12  # the job measured the perplexities of these only
    assert curves.curve(run, -2.3).train[0] >= 0.5
