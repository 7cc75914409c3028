"""Premem in Python: read a store, and compute pre-memorization accuracy of your own arrays.

Importing this package loads nothing heavy: each name is loaded when it is first used. Every error
that Premem raises on purpose is a `PrememError`, whose message is one sentence.

Example:
    import premem_core as premem

    store = premem.open_store("store")
    table = store.premem("demo")
    columns = ["run", "step", "train_accuracy", "premem", "premem_half", "test_accuracy"]
    print(table[columns].round(3).to_string(index=False))

    done = premem.analyse(store.study("demo"))
    print(f"threshold t = log log PPL = {done.log_log_threshold:.3f}")
    print(f"identity R² of PM against test accuracy = {done.r2.identity:.3f}")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from premem_core.analysis.studies.study import Analysis, Study, analyse
    from premem_core.api.own_arrays import best_threshold
    from premem_core.api.store_reader import StoreReader, open_store
    from premem_core.dashboard import figures
    from premem_core.errors import PrememError
    from premem_core.metrics.pre_memorization import masked_accuracy, memorized, premem_accuracy
    from premem_core.metrics.r2 import identity_r2, linear_r2
    from premem_core.metrics.thresholds import ThresholdFit

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "PrememError",
    "StoreReader",
    "Study",
    "ThresholdFit",
    "analyse",
    "best_threshold",
    "figures",
    "identity_r2",
    "linear_r2",
    "masked_accuracy",
    "memorized",
    "open_store",
    "premem_accuracy",
]

_HOMES = {
    "premem_core.analysis.studies.study": ("Analysis", "Study", "analyse"),
    "premem_core.api.own_arrays": ("best_threshold",),
    "premem_core.api.store_reader": ("StoreReader", "open_store"),
    "premem_core.errors": ("PrememError",),
    "premem_core.metrics.pre_memorization": ("masked_accuracy", "memorized", "premem_accuracy"),
    "premem_core.metrics.r2": ("identity_r2", "linear_r2"),
    "premem_core.metrics.thresholds": ("ThresholdFit",),
}


def __getattr__(name: str) -> Any:
    if name == "figures":
        return import_module("premem_core.dashboard.figures")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
