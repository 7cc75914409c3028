"""Arrays that cannot be right are refused in one sentence, and those that can be are read."""

import numpy as np
import pytest

from premem_core.errors import DataError
from premem_core.importers.published_arrays import read_published
from premem_core.metrics.pre_memorization import memorized
from tests.helpers.published import ROWS, make_run

PERPLEXITIES = "checkpoint-3/train_perplexities.npy"
TRAIN = "checkpoint-3/train_answer_types4_seed2.npy"
TEST = "checkpoint-3/test_answer_types4_seed2.npy"
PERTURBED = "checkpoint-3/train_first_answer_types2_seed2.npy"
TOKENS = "checkpoint-3/train_num_tokens.npy"
NAMED = "subsample_idxs.npy"


def perplexities(**changes):
    """Of six rows; `row_4=0.5` changes one."""
    values = np.linspace(1.1, 2, 6)
    for row, value in changes.items():
        values[int(row.removeprefix("row_"))] = value
    return values


def grades(value, dtype=np.int64):
    array = np.ones((6, 4), dtype)
    array[3, 2] = value
    return array


WRONG = {
    "a perplexity below 1": (PERPLEXITIES, perplexities(row_0=0.35), "holds 0.35 in row 0"),
    "logged perplexities": (PERPLEXITIES, np.log(perplexities()), "in row 0 .*save exp of them"),
    "a trained row's NaN": (PERPLEXITIES, perplexities(row_4=np.nan), "holds nan in row 4"),
    "an infinite perplexity": (PERPLEXITIES, perplexities(row_4=np.inf), "holds inf in row 4"),
    "perplexities as booleans": (PERPLEXITIES, np.ones(6, dtype=bool), "values of type bool"),
    "perplexities as text": (PERPLEXITIES, np.full(6, "1.5"), "values of type <U3"),
    "perplexities in columns": (PERPLEXITIES, np.ones((6, 4)), r"shape \(6, 4\)"),
    "one perplexity": (PERPLEXITIES, np.float64(1.5), r"shape \(\)"),
    "a train grade of 4": (TRAIN, grades(4), "holds 4 in row 3 .*3 timeout"),
    "a test grade of -1": (TEST, grades(-1), "holds -1 in row 3"),
    "a perturbed grade of 9": (PERTURBED, grades(9), "holds 9 in row 3"),
    "grades as booleans": (TRAIN, grades(False, bool), "values of type bool; grades are whole"),
    "a grade of a half": (TRAIN, grades(0.5, float), "holds 0.5 in row 3"),
    "a grade of NaN": (TRAIN, grades(np.nan, float), "holds nan in row 3"),
    "no samples": (TRAIN, np.zeros((6, 0), dtype=np.int64), r"shape \(6, 0\)"),
    "no test rows": (TEST, np.zeros((0, 4), dtype=np.int64), r"shape \(0, 4\)"),
    "one sample without its axis": (TRAIN, np.zeros(6, dtype=np.int64), r"shape \(6,\)"),
    "fewer grades than perplexities": (TRAIN, grades(0)[:5], "has 5 rows, but .* has 6"),
    "more grades than perplexities": (TRAIN, np.zeros((7, 4), dtype=int), "has 7 rows, but .* 6"),
    "a row named twice": (NAMED, np.array([4, 1, 4]), "names row 4 2 times"),
    "a row number below 0": (NAMED, np.array([4, -1]), "holds -1 in row 1"),
    "a row that is not there": (NAMED, np.array([4, 6]), "names row 6, but .* has 6 rows"),
    "rows as a mask": (NAMED, np.array([True, False] * 3), "type bool; rows are numbered"),
    "a row number of a half": (NAMED, np.array([4, 1.5]), "holds 1.5 in row 1"),
    "no rows": (NAMED, np.empty(0, dtype=np.int64), r"shape \(0,\)"),
    "a solution of no tokens": (TOKENS, np.array([9, 9, 0, 9, 9, 9]), "holds 0 in row 2"),
    "fewer token counts": (TOKENS, np.full(5, 9), "train_num_tokens has 5 rows"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_an_array_that_cannot_be_is_refused_in_one_sentence(tmp_path, wrong):
    file, array, message = WRONG[wrong]
    run = make_run(tmp_path)
    np.save(run / file, array)
    with pytest.raises(DataError, match=message) as refused:
        read_published(tmp_path)
    assert "\n" not in str(refused.value)
    assert run.name in str(refused.value)


def test_checkpoints_with_different_numbers_of_rows_are_refused(tmp_path):
    run = make_run(tmp_path / "six")
    other = make_run(tmp_path / "seven", n=7)
    (other / "checkpoint-3").rename(run / "checkpoint-2")
    with pytest.raises(DataError, match=r"checkpoint-2: train_perplexities has 7 rows, but .* 6"):
        read_published(tmp_path / "six")


def test_an_archive_of_arrays_is_refused_where_one_array_belongs(tmp_path):
    run = make_run(tmp_path)
    with (run / NAMED).open("wb") as file:
        np.savez(file, rows=ROWS)
    with pytest.raises(DataError, match=r"an \.npz archive; expected one \.npy array"):
        read_published(tmp_path)


def test_a_perplexity_of_exactly_1_is_memorized_at_every_threshold(tmp_path):
    make_run(tmp_path, perplexities=perplexities(row_1=1.0))
    [run] = read_published(tmp_path)
    nll = dict(zip(run.rows, run.checkpoints[0].nll, strict=True))
    assert nll[1] == 0
    assert memorized(np.array([nll[1], nll[4]]), -50.0).tolist() == [True, False]


def test_a_perplexity_that_was_not_measured_is_needed_only_where_the_row_was_trained_on(tmp_path):
    make_run(tmp_path, perplexities=perplexities(row_0=np.nan, row_2=np.nan, row_5=np.nan))
    [run] = read_published(tmp_path)
    np.testing.assert_allclose(run.checkpoints[0].nll, np.log(perplexities()[ROWS]))


def test_a_timeout_is_a_sample_that_is_neither_correct_nor_unparsed(tmp_path):
    np.save(make_run(tmp_path) / TRAIN, np.tile([0, 1, 2, 3], (6, 1)))
    [run] = read_published(tmp_path)
    counts = run.checkpoints[0].train
    assert (counts.samples[0], counts.correct[0], counts.unparsed[0]) == (4, 1, 1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_whole_numbers_are_read_in_any_type_of_number(tmp_path, dtype):
    run = make_run(tmp_path)
    [before] = read_published(tmp_path)
    for file in (NAMED, TRAIN, TEST):
        np.save(run / file, np.load(run / file).astype(dtype))
    [after] = read_published(tmp_path)
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(
        after.checkpoints[0].train.correct, before.checkpoints[0].train.correct
    )
