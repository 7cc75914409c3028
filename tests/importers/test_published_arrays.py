"""Importing the published arrays, and what the analyses say of them.

The claims are tested on slices that are part of the repository; the published numbers themselves,
to the third digit, on the whole arrays where those are there.
"""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import curves, run_scores
from premem_core.analysis.perturbed import robustness
from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.calibration import calibrate
from premem_core.analysis.studies.leave_one_out import predict_left_out, prediction_errors
from premem_core.analysis.studies.study import analyse, make_study
from premem_core.errors import DataError
from premem_core.importers import published_arrays
from premem_core.importers.published_arrays import Imported
from premem_core.metrics.r2 import identity_r2, linear_r2
from premem_core.problems.examples import read_examples
from premem_core.records import Example
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_runs, read_tasks
from premem_core.store.scores import read_scores
from tests.fixtures import make_slices
from tests.helpers.paths import GSM8K_RUNS, GSM8K_SLICE, MATH_RUNS
from tests.helpers.published import ROWS, make_run, unpack_run

LOW = "gsm8k_orig_6epochs_full_lr5e-07_bs128"  # memorized next to nothing


def read_imported(source, folder, **options):
    store = Store(folder)
    published_arrays.import_published(store, source, **options)
    [task] = read_tasks(store)
    return run_scores.read_task(store, task)


@pytest.fixture(scope="module")
def runs(published, tmp_path_factory):
    return read_imported(published, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    return read_imported(GSM8K_RUNS, tmp_path_factory.mktemp("slice"))


@pytest.fixture(params=["sliced", "runs"])
def gsm8k_runs(request):
    """The slice, then the whole arrays where they are there."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["slice", pytest.param("whole", marks=pytest.mark.slow)])
def source(request):
    """What is imported: the slice's zip, then the folder of the whole arrays."""
    return GSM8K_RUNS if request.param == "slice" else request.getfixturevalue("published")


def r2s(runs, threshold):
    points = curves.points([curves.curve(run, threshold) for run in runs])
    x, y, train = (points[c].to_numpy() for c in ("premem", "test_accuracy", "train_accuracy"))
    return identity_r2(x, y), linear_r2(x, y), linear_r2(train, y)


def test_the_published_gsm8k_numbers_are_reproduced(runs):
    assert len(runs) == 13
    assert sum(len(run.steps) for run in runs) == 51
    identity, linear, train = r2s(runs, -2.3)
    assert identity == pytest.approx(0.938, abs=0.002)
    assert linear == pytest.approx(0.942, abs=0.002)
    assert train == pytest.approx(0.396, abs=0.003)


def test_on_a_slice_pm_predicts_test_accuracy_and_train_accuracy_does_not(sliced):
    assert len(sliced) == 13
    assert sum(len(run.steps) for run in sliced) == 51
    identity, linear, train = r2s(sliced, -2.3)
    assert identity > 0.90
    assert linear > 0.90
    assert train < 0.45


def test_the_math_runs_show_it_too_and_most_come_without_the_rows_trained_on(tmp_path):
    math = read_imported(MATH_RUNS, tmp_path)
    assert len(math) == 11
    assert sum(len(run.steps) for run in math) == 42
    sizes = [len(run.examples) for run in math]
    assert sizes.count(300) == 9  # the full runs
    identity, linear, train = r2s(math, -1.7)
    assert identity > 0.85
    assert linear > 0.85
    assert train < 0.05


def test_the_slice_holds_rows_of_the_whole_arrays(published):
    whole = make_slices.slice_arrays(published, "gsm8k")
    with zipfile.ZipFile(GSM8K_RUNS) as archive:
        assert set(archive.namelist()) == set(whole)
        for name, array in whole.items():
            np.testing.assert_array_equal(np.load(io.BytesIO(archive.read(name))), array)


@pytest.mark.parametrize("estimator", ["plain", "jackknife"])
def test_the_optimal_threshold_lies_where_the_paper_has_it_and_on_a_plateau(gsm8k_runs, estimator):
    best = curves.best_threshold(gsm8k_runs, estimator)
    assert -2.40 <= best.log_log_threshold <= -2.20
    assert best.plateau[0] < best.log_log_threshold < best.plateau[1]


def test_the_optimal_threshold_has_the_r2_that_the_method_says(runs):
    best = curves.best_threshold(runs)
    assert best.r2 >= 0.938
    assert r2s(runs, best.log_log_threshold)[0] == pytest.approx(best.r2, abs=1e-9)


def test_the_papers_own_choice_of_arrays_gives_the_papers_number(published, tmp_path):
    identity, linear, train = r2s(read_imported(published, tmp_path, fewest_samples=True), -2.3)
    assert (identity, linear, train) == pytest.approx((0.935, 0.940, 0.398), abs=0.001)


def test_the_papers_own_choice_of_arrays_is_the_smallest_of_each_checkpoint(sliced, tmp_path):
    fewest = {
        run.run: run.samples for run in read_imported(GSM8K_RUNS, tmp_path, fewest_samples=True)
    }
    assert sorted(fewest.values()) == [5] * 12 + [50]
    assert sorted(run.samples for run in sliced) == [5] * 8 + [10] + [50] * 4


def test_the_jackknife_raises_r2_and_chooses_its_own_threshold(runs):
    lines = [curves.curve(run, -2.3, "jackknife") for run in runs]
    points = curves.points(lines)
    r2 = identity_r2(points["premem"].to_numpy(), points["test_accuracy"].to_numpy())
    assert r2 > r2s(runs, -2.3)[0]
    best = curves.best_threshold(runs, "jackknife")
    assert -2.40 <= best.log_log_threshold <= -2.20
    at_best = curves.points(
        [curves.curve(run, best.log_log_threshold, "jackknife") for run in runs]
    )
    assert best.r2 == pytest.approx(
        identity_r2(at_best["premem"].to_numpy(), at_best["test_accuracy"].to_numpy())
    )
    assert best.r2 >= r2


@pytest.mark.parametrize(
    ("which", "full", "half", "quarter"), [("sliced", 300, 157, 58), ("runs", 7473, 3736, 1868)]
)
def test_half_and_quarter_runs_count_only_the_rows_that_they_trained_on(
    request, which, full, half, quarter
):
    sizes = {run.run: len(run.examples) for run in request.getfixturevalue(which)}
    assert sizes["gsm8k_orig_6epochs_half_lr2e-05_bs128"] == half
    assert sizes["gsm8k_orig_12epochs_quarter_lr2e-05_bs128"] == quarter
    assert sizes["gsm8k_orig_6epochs_full_lr2e-05_bs128"] == full


def test_a_zip_gives_what_its_folder_gives(tmp_path):
    name = "gsm8k_orig_1epochs_full_lr5e-05_bs128"
    folder = unpack_run(tmp_path / "folder", name)
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        for file in folder.rglob("*.npy"):
            archive.write(file, f"deep/inside/{file.relative_to(tmp_path / 'folder')}")
    [from_zip] = published_runs(tmp_path / "runs.zip")
    [from_folder] = published_runs(tmp_path / "folder")
    assert from_zip.name == from_folder.name == name
    np.testing.assert_array_equal(from_zip.checkpoints[0].nll, from_folder.checkpoints[0].nll)
    np.testing.assert_array_equal(
        from_zip.checkpoints[0].train.correct, from_folder.checkpoints[0].train.correct
    )


def published_runs(path):
    return published_arrays.read_published(path)


def copy_without_named_rows(source, folder):
    """The published runs, without `subsample_idxs.npy` in the full ones."""
    if source.is_file():
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
    else:
        for file in source.rglob("*.npy"):
            link = folder / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    named = list(folder.glob("*_full_*/subsample_idxs.npy"))
    assert len(named) == 11
    for file in named:
        file.unlink()
    return folder


def test_full_runs_without_the_rows_trained_on_give_the_same_fit_to_the_byte(source, tmp_path):
    printed: list[str] = []
    for runs in (source, copy_without_named_rows(source, tmp_path / "copy")):
        store = tmp_path / f"store{len(printed)}"
        published_arrays.import_published(Store(store), runs)
        fit = ["fit", "--store", str(store), "--task", "gsm8k", "--json"]
        printed.append(CliRunner().invoke(app, fit).stdout)
    assert json.loads(printed[0])["n_runs"] == 13
    assert printed[0] == printed[1]


@pytest.mark.parametrize("size", ["half", "quarter"])
def test_a_part_run_without_the_rows_trained_on_is_refused_in_one_sentence(tmp_path, size):
    run = make_run(tmp_path)
    run = run.rename(tmp_path / f"toy_orig_2epochs_{size}_lr0.001_bs2")
    (run / "subsample_idxs.npy").unlink()
    with pytest.raises(DataError, match=f"no subsample_idxs.npy.*which rows this {size} run was"):
        published_arrays.read_published(tmp_path)


def test_a_full_run_that_names_some_rows_is_of_those_rows(tmp_path):
    make_run(tmp_path).rename(tmp_path / "toy_orig_1epochs_full_lr0.001_bs2")
    [run] = published_arrays.read_published(tmp_path)
    np.testing.assert_array_equal(run.rows, ROWS)
    assert len(run.checkpoints[0].nll) == len(ROWS)


def test_perturbed_scores_of_the_first_rows_are_those_of_the_rows_that_were_trained_on(tmp_path):
    run = make_run(tmp_path / "runs")
    grades = np.array([[0, 0], [0, 1], [1, 1], [2, 0]])  # of rows 0 to 3; row 4 was not asked
    np.save(run / "checkpoint-3" / "train_first_answer_types2_seed2.npy", grades)
    np.save(run / "checkpoint-3" / "train_we_answer_types2_seed2_temp0.8.npy", grades[::-1])
    store = Store(tmp_path / "store")
    published_arrays.import_published(store, tmp_path / "runs")
    assert robustness.perturbed_steps(store, run.name) == {"first": [3], "we-know-that": [3]}
    [scores] = run_scores.read_task(store, "toy")
    answers = robustness.read_answers(store, run.name, 3, "first")
    found = robustness.measure_robustness(scores, answers, -2.3)
    ids = read_task_examples(store, "toy", "train").set_index("example")["id"]
    asked = {ids[int(str(e))]: a for e, a in found.examples["perturbed_accuracy"].items()}
    assert asked == {"1": 0.5, "3": 0.5}
    assert (found.left_out, found.not_asked, found.unknown) == (0, 1, 0)
    grades_of_all = run_scores.read_task(store, "toy")[0].accuracy
    np.testing.assert_array_equal(grades_of_all, scores.accuracy)


def test_the_largest_array_counts_and_rows_keep_their_numbers(tmp_path):
    run = make_run(tmp_path / "runs")
    store = Store(tmp_path / "store")
    imported = published_arrays.import_published(store, tmp_path / "runs")
    assert imported == Imported([run.name], [])
    [scores] = run_scores.read_task(store, "toy")
    grades = np.load(run / "checkpoint-3" / "train_answer_types4_seed2.npy")
    assert scores.samples == 4
    ids = read_task_examples(store, "toy", "train").set_index("example")["id"]
    assert [ids[e] for e in scores.examples] == ["1", "3", "4"]
    np.testing.assert_allclose(scores.accuracy[0], (grades[[1, 3, 4]] == 0).mean(axis=1))
    np.testing.assert_allclose(scores.nll[0], np.log(np.linspace(1, 2, 6)[[1, 3, 4]]))


def test_texts_can_be_attached_later_and_a_second_import_adds_nothing(tmp_path):
    make_run(tmp_path / "runs")
    store = Store(tmp_path / "store")
    published_arrays.import_published(store, tmp_path / "runs")
    texts = [Example("x", f"question {i}", f"solution {i}", str(i)) for i in range(6)]
    again = published_arrays.import_published(store, tmp_path / "runs", train=texts)
    assert again == Imported([], [])
    assert read_task_examples(store, "toy", "train")["question"].tolist()[4] == "question 4"
    scores = read_scores(store, "toy")
    assert scores["split"].value_counts().to_dict() == {"test": 5, "train": 3, "unseen": 3}
    # The rows that the run was not trained on have no samples, and the NLL of the same solution.
    unseen = scores[scores["split"] == "unseen"]
    assert not unseen["samples"].any()
    assert unseen["nll"].notna().all()
    assert not set(unseen["example"]) & set(scores.loc[scores["split"] == "train", "example"])
    [run] = run_scores.read_task(store, "toy")
    np.testing.assert_array_equal(run.unseen_nll, unseen["nll"].to_numpy()[None])


def test_the_problems_of_the_slice_are_those_of_its_arrays(tmp_path):
    unpack_run(tmp_path, "gsm8k_orig_3epochs_full_lr5e-05_bs128")
    [run] = published_arrays.read_published(tmp_path)
    problems = read_examples(GSM8K_SLICE / "train.jsonl").examples
    lengths = [len(problems[row].solution) for row in run.rows]
    # A solution's characters and tokens grow together only where both are of one problem.
    assert np.corrcoef(lengths, run.checkpoints[0].tokens)[0, 1] > 0.9


def test_texts_of_another_data_set_are_refused_and_nothing_is_imported(tmp_path):
    make_run(tmp_path / "runs")
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match="2 problems but the arrays have"):
        published_arrays.import_published(
            store, tmp_path / "runs", train=[Example("a", "q", "s", "1")] * 2
        )
    assert read_runs(store).empty


def test_arrays_that_do_not_belong_together_are_refused(tmp_path):
    make_run(tmp_path, perplexities=np.ones(2))
    with pytest.raises(DataError, match="train_perplexities has 2 rows"):
        published_arrays.read_published(tmp_path)


def test_a_pickled_array_is_never_loaded(tmp_path):
    run = make_run(tmp_path)
    np.save(run / "subsample_idxs.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a readable \.npy"):
        published_arrays.read_published(tmp_path)


@pytest.mark.parametrize("content", [None, b"not a zip"])
def test_a_source_without_runs_is_one_sentence(tmp_path, content):
    source = tmp_path / "source"
    if content is None:
        source.mkdir()
    else:
        source.write_bytes(content)
    with pytest.raises(DataError, match="source"):
        published_arrays.read_published(source)


def test_runs_of_one_task_must_share_one_test_set(tmp_path):
    make_run(tmp_path / "a")
    run = make_run(tmp_path / "b").rename(tmp_path / "b" / "toy_orig_2epochs_half_lr0.001_bs2")
    np.save(run / "checkpoint-3" / "test_answer_types4_seed2.npy", np.zeros((3, 4), dtype=np.int64))
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match="must share one test set"):
        published_arrays.import_published(store, tmp_path)
    assert read_runs(store).empty


def test_runs_of_several_tasks_keep_their_tasks(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b").rename(tmp_path / "b" / "other_orig_1epochs_half_lr0.001_bs2")
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match="several tasks"):
        published_arrays.import_published(store, tmp_path, task="one")
    assert len(published_arrays.import_published(store, tmp_path).runs) == 2
    assert read_tasks(store) == ["other", "toy"]


def test_a_left_out_run_is_predicted_as_well_as_the_method_says(runs):
    rows = leave_one_out(runs, "plain")
    off = prediction_errors(rows)
    assert off.mae == pytest.approx(0.031, abs=0.002)
    assert off.r2 == pytest.approx(0.925, abs=0.005)
    assert rows["log_log_threshold"].between(-2.45, -2.25).all()
    corrected = prediction_errors(leave_one_out(runs, "jackknife"))
    assert corrected.mae <= off.mae + 0.001


@pytest.mark.parametrize("estimator", ["plain", "jackknife"])
def test_on_a_slice_a_left_out_run_is_predicted(sliced, estimator):
    rows = leave_one_out(sliced, estimator)
    off = prediction_errors(rows)
    assert off.mae < 0.045
    assert off.r2 > 0.85
    assert rows["log_log_threshold"].between(-2.45, -2.25).all()


def leave_one_out(runs, estimator):
    of_runs = curves.threshold_steps(runs, estimator)
    return predict_left_out(runs, [run.run for run in runs], of_runs, estimator)


def test_intervals_hold_the_test_accuracies_of_runs_that_had_none(gsm8k_runs):
    """Each run in turn without its test set, predicted from the other twelve."""
    runs, inside = gsm8k_runs, []
    for n, run in enumerate(runs):
        without = replace(run, test_accuracy=run.test_accuracy[:, :0], test_examples=np.empty(0))
        rows = prediction.predict(without, calibrate("gsm8k", [*runs[:n], *runs[n + 1 :]]))
        truth = run.test_accuracy.mean(axis=1)
        inside += ((rows["low"] <= truth) & (truth <= rows["high"])).tolist()
    print(f"\n90 % intervals hold {sum(inside)} of {len(inside)} test accuracies of 13 runs")
    assert 44 / 51 <= np.mean(inside) <= 0.98


def test_one_run_that_memorized_little_gives_a_warning_and_no_interval(gsm8k_runs):
    alone = [run for run in gsm8k_runs if run.run == LOW]
    done = analyse(make_study(alone, no_baselines(alone)))
    assert done.identity_ci90 is None
    assert done.study.left_out is None
    assert any("There is one run only" in sentence for sentence in done.caveats)


def test_r2_of_the_published_runs_has_an_interval_around_it(runs):
    study = make_study(runs, no_baselines(runs))
    done = analyse(study)
    low, high = done.identity_ci90
    assert 0.85 < low < done.r2.identity < high < 0.99
    assert study.fit.plateau[0] < study.fit.log_log_threshold < study.fit.plateau[1]
    assert not done.caveats


def test_r2_of_a_slice_has_an_interval_around_it(sliced):
    done = analyse(make_study(sliced, no_baselines(sliced)))
    low, high = done.identity_ci90
    assert 0.8 < low < done.r2.identity < high < 0.99


def no_baselines(runs):
    index = pd.MultiIndex.from_tuples(
        [(run.run, step) for run in runs for step in run.steps], names=["run", "step"]
    )
    return pd.DataFrame(index=index, columns=["distance_settings", "gradient_variance_settings"])


def test_the_commands_print_their_contract(source, tmp_path):
    published_arrays.import_published(Store(tmp_path), source)
    saved = tmp_path / "calibration.json"
    fit = ["fit", "--store", str(tmp_path), "--task", "gsm8k", "--json"]
    done = CliRunner().invoke(app, [*fit, "--save-calibration", str(saved)])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    low, high = content["identity_r2_ci90"]
    assert low < content["identity_r2"] < high
    assert content["threshold_plateau"][0] < content["log_log_threshold"]
    assert content["leave_one_run_out"].keys() == {"mae", "rmse", "r2", "runs"}
    assert len(content["leave_one_run_out"]["runs"]) == 13
    assert {row["predictor"] for row in content["baselines"]} >= {"premem", "train_accuracy", "atc"}
    assert content["warnings"] == [] or source == GSM8K_RUNS  # a slice is small, which is said

    run = "gsm8k_orig_3epochs_full_lr2e-05_bs128"
    predict = ["predict", "--store", str(tmp_path), "--run", run, "--json"]
    own, with_file = (
        json.loads(CliRunner().invoke(app, [*predict, *more]).stdout)
        for more in ([], ["--calibration", str(saved)])
    )
    assert len(own["calibration_runs"]) == 12
    assert len(with_file["calibration_runs"]) == 13
    assert [row["step"] for row in own["checkpoints"]] == [58, 116, 174]
    for row in own["checkpoints"]:
        assert row["low"] < row["predicted"] < row["high"]
    assert own["ship"]["step"] == 174
