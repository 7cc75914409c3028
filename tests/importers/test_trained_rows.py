"""Named rows that are not the trained ones are noticed; a run that cannot be judged is not."""

import numpy as np
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.importers.published_arrays import import_published, read_published
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from tests.helpers.paths import GSM8K_RUNS, MATH_RUNS
from tests.helpers.published import unpack_run

QUARTER = "gsm8k_orig_12epochs_quarter_lr2e-05_bs128"
LOW = "gsm8k_orig_6epochs_full_lr5e-07_bs128"
WRONG_HALF = "math_orig_6epochs_half_lr2e-05_bs24"


def warning_of(folder):
    [run] = read_published(folder)
    return run.warning


def test_the_published_half_run_that_names_other_rows_is_imported_with_a_warning(tmp_path):
    store = Store(tmp_path)
    imported = import_published(store, MATH_RUNS)
    assert len(imported.runs) == len(read_runs(store)) == 11
    [warning] = imported.warnings
    assert warning.startswith(f"{WRONG_HALF}, checkpoint 936: 54.4 % of the 160 rows")
    assert "46.4 % of the 140 other rows (t = -2.3, perplexity below 1.1055)" in warning
    assert "the named rows are probably not those of this run" in warning


def test_the_command_prints_the_warning(tmp_path):
    command = ["import-published", str(MATH_RUNS), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert f"warning: {WRONG_HALF}, checkpoint 936" in done.stderr
    assert done.stderr.count("warning") == 1
    assert "11 runs imported" in done.stderr


def test_the_published_gsm8k_runs_name_the_rows_that_they_were_trained_on(tmp_path):
    assert import_published(Store(tmp_path), GSM8K_RUNS).warnings == []


@pytest.mark.parametrize("named", ["other rows only", "rows at random", "all rows but a few"])
def test_wrong_names_are_noticed_whatever_they_share_with_the_right_ones(tmp_path, named):
    file = unpack_run(tmp_path, QUARTER) / "subsample_idxs.npy"
    right = np.load(file)
    others = np.setdiff1d(np.arange(300), right)
    assert warning_of(tmp_path) is None
    rng = np.random.default_rng(0)
    wrong = {
        "other rows only": others[:100],
        "rows at random": rng.choice(300, len(right), replace=False),
        "all rows but a few": np.concatenate([others, right[:5]]),
    }
    np.save(file, wrong[named])
    assert f"{QUARTER}, checkpoint 168" in warning_of(tmp_path)


def test_a_run_that_memorized_little_is_not_judged(tmp_path):
    np.save(unpack_run(tmp_path, LOW) / "subsample_idxs.npy", np.arange(150))
    assert warning_of(tmp_path) is None


def test_nothing_is_said_where_the_other_rows_have_no_perplexities(tmp_path):
    run = unpack_run(tmp_path, QUARTER)
    wrong = np.arange(100)
    np.save(run / "subsample_idxs.npy", wrong)
    assert warning_of(tmp_path) is not None
    for file in run.glob("*/train_perplexities.npy"):
        perplexities = np.load(file)
        perplexities[100:] = np.nan
        np.save(file, perplexities)
    assert warning_of(tmp_path) is None
