"""Reading the `.npy` files of the published layout; a file that cannot be right is refused.

The layout is described in `published_arrays.py` and in docs/method.md, section 3. Every function
raises DataError with one sentence that names the file, the value and what was expected.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from premem_core.errors import DataError
from premem_core.records import Grade

Folder = Path | zipfile.Path  # a folder on disk or inside a zip file
LARGEST_COUNT = 2**31 - 1  # the largest number that the store's columns hold

GRADES = "grades are whole numbers: " + ", ".join(
    f"{grade.value} {grade.name.lower()}" for grade in Grade
)
PERPLEXITIES = (
    "a perplexity is exp(NLL per token), so it is finite and at least 1; if the file holds NLLs or "
    "logarithms of perplexities, save exp of them"
)
ROW_NUMBERS = "rows are numbered with whole numbers from 0, and no row is named twice"
TOKEN_COUNTS = "a solution has a whole number of tokens, at least 1"


def read_grades(file: Folder) -> NDArray[np.int64]:
    """Grades as codes of `records.Grade`, (rows, samples)."""
    grades = _load(file)
    if grades.ndim != 2 or 0 in grades.shape:
        raise DataError(
            f"{file} has the shape {grades.shape}; expected (rows, samples), with at least one of "
            "both"
        )
    return _in_range(file, _whole_numbers(file, grades, GRADES), 0, max(Grade), GRADES)


def read_perplexities(file: Folder) -> NDArray[np.float64]:
    """The perplexity of each target, (rows,); NaN where it was not measured.

    A perplexity of exactly 1 is allowed: rounding gives it for a memorized target.
    """
    perplexities = _load(file)
    _check_column(file, perplexities)
    if perplexities.dtype.kind not in "fiu":
        raise DataError(f"{file} holds values of type {perplexities.dtype}; {PERPLEXITIES}")
    perplexities = perplexities.astype(np.float64)
    return _in_range(file, perplexities, 1, sys.float_info.max, PERPLEXITIES)


def read_token_counts(file: Folder) -> NDArray[np.int64]:
    """The number of tokens of each target, (rows,)."""
    counts = _load(file)
    _check_column(file, counts)
    counts = _whole_numbers(file, counts, TOKEN_COUNTS)
    return _in_range(file, counts, 1, LARGEST_COUNT, TOKEN_COUNTS)


def read_row_numbers(file: Folder) -> NDArray[np.int64]:
    """The numbers of the rows that a run was trained on, (rows,), without repetitions."""
    rows = _load(file)
    _check_column(file, rows)
    rows = _whole_numbers(file, rows, ROW_NUMBERS)
    _in_range(file, rows, 0, LARGEST_COUNT, ROW_NUMBERS)
    values, times = np.unique(rows, return_counts=True)
    if (times > 1).any():
        raise DataError(
            f"{file} names row {values[times > 1][0]} {times[times > 1][0]} times; {ROW_NUMBERS}"
        )
    return rows


def _load(file: Folder) -> NDArray:
    try:
        array = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a readable .npy array ({error}); copy it again") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is an .npz archive; expected one .npy array; save it with np.save")
    return array


def _check_column(file: Folder, array: NDArray) -> None:
    if array.ndim != 1 or not len(array):
        raise DataError(
            f"{file} has the shape {array.shape}; expected (rows,), with at least one row"
        )


def _whole_numbers(file: Folder, array: NDArray, expected: str) -> NDArray[np.int64]:
    """The array as int64; floats are accepted where they are whole numbers."""
    if array.dtype.kind not in "fiu":  # booleans are refused: True would mean "incorrect"
        raise DataError(f"{file} holds values of type {array.dtype}; {expected}")
    _refuse(file, array, ~np.isfinite(array) | (array != np.floor(array)), expected)
    return array.astype(np.int64)


def _in_range(file: Folder, array: NDArray, low: float, high: float, expected: str) -> NDArray:
    _refuse(file, array, (array < low) | (array > high), expected)  # a NaN passes
    return array


def _refuse(file: Folder, array: NDArray, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise DataError if any value is wrong; the message names the first one."""
    if wrong.any():
        row, *_ = np.argwhere(wrong)[0]
        raise DataError(
            f"{file} holds {array[wrong][0]} in row {row} ({wrong.sum()} such values); {expected}"
        )
