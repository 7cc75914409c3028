"""Measures of a checkpoint beside its scores: baselines, unconditional NLLs, known continuations.

The *unconditional NLL* of an example is the NLL of its solution without the question in the prompt.
The *continuation* of a question is known to a model that writes its rest (`scoring.continuations`).
"""

import pandas as pd

from premem_core.store.database import Store, read_frame

CONTINUATION_COLUMNS = ("step", "split", "example", "known")
BASELINE_COLUMNS = ("run", "step", "name", "value", "settings")


def add_baseline(
    store: Store, run: str, step: int, name: str, value: float, settings: str = ""
) -> None:
    """Store a value that was computed from a checkpoint's weights; it replaces a former value.

    Args:
        name: the baseline, such as "gradient_variance".
        settings: the settings of the computation; values with other settings do not compare.
    """
    with store.writing() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?)",
            [run, step, name, value, settings],
        )


def add_unconditional_nll(store: Store, run: str, step: int, nll: pd.Series) -> None:
    """Store the unconditional NLL at a checkpoint.

    Args:
        nll: mean NLL per token, in nats, by example number.
    """
    rows = pd.DataFrame({"run": run, "step": step, "example": nll.index, "nll": nll.to_numpy()})
    with store.writing() as connection:
        connection.register("rows", rows)
        connection.execute("INSERT OR REPLACE INTO alone SELECT run, step, example, nll FROM rows")


def read_baselines(store: Store, run: str) -> pd.DataFrame:
    """BASELINE_COLUMNS of one run, by name and in training order."""
    return read_frame(
        store, "SELECT * FROM baselines WHERE run = ? ORDER BY name, step", BASELINE_COLUMNS, [run]
    )


def read_unconditional_nll(store: Store, run: str) -> pd.DataFrame:
    """The unconditional NLL of a run, in nats per token: columns step, example and nll."""
    return read_frame(
        store,
        "SELECT step, example, nll FROM alone WHERE run = ? ORDER BY step, example",
        ("step", "example", "nll"),
        [run],
    )


def read_continuations(store: Store, run: str) -> pd.DataFrame:
    """CONTINUATION_COLUMNS: whether a model knew each question's continuation.

    `known` is missing (NA) for a question that is too short to tell.
    """
    rows = read_frame(
        store,
        "SELECT step, split, example, known FROM continuations WHERE run = ? ORDER BY ALL",
        CONTINUATION_COLUMNS,
        [run],
    )
    return rows.astype({"known": "boolean"})
