"""Training: the paper's recipe for fine-tuning, and a callback that scores a run while it trains.

Begin with `finetune.py`, which saves a checkpoint per epoch, and `callback.py`. A *watcher* is a
`premem watch`, in another process or on another GPU.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from premem_core.training.callback import PrememCallback

__all__ = ["PrememCallback"]


def __getattr__(name: str) -> Any:
    """The callback, which needs transformers."""
    if name == "PrememCallback":
        from premem_core.training.callback import PrememCallback

        return PrememCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
