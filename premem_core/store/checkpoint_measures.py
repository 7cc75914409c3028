"""Measures of a checkpoint besides its samples: weights, and the NLL without the question."""

import pandas as pd

from premem_core.store.database import Store, read_frame

BASELINE_COLUMNS = ("run", "step", "name", "value", "settings")


def add_baseline(
    store: Store, run: str, step: int, name: str, value: float, settings: str = ""
) -> None:
    """Keep a number that was computed of a checkpoint's weights, in place of a former one.

    Args:
        settings: how; values with other settings do not compare.
    """
    with store.writing() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?)",
            [run, step, name, value, settings],
        )


def add_unconditional_nll(store: Store, run: str, step: int, nll: pd.Series) -> None:
    """Keep the loss of solutions without their question, nats per token by example number."""
    rows = pd.DataFrame({"run": run, "step": step, "example": nll.index, "nll": nll.to_numpy()})
    with store.writing() as connection:
        connection.register("rows", rows)
        connection.execute("INSERT OR REPLACE INTO alone SELECT run, step, example, nll FROM rows")


def read_baselines(store: Store, run: str) -> pd.DataFrame:
    """BASELINE_COLUMNS of one run, in training order."""
    return read_frame(
        store, "SELECT * FROM baselines WHERE run = ? ORDER BY name, step", BASELINE_COLUMNS, [run]
    )


def read_unconditional_nll(store: Store, run: str) -> pd.DataFrame:
    """The loss of a run's solutions without their question: step, example, nll."""
    return read_frame(
        store,
        "SELECT step, example, nll FROM alone WHERE run = ? ORDER BY step, example",
        ("step", "example", "nll"),
        [run],
    )
