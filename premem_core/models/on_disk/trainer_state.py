"""`trainer_state.json`: what transformers' Trainer, and all that builds on it, logged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json

SAME = 1.001  # two logged learning rates with a smaller ratio are the same one
DROP = 1.5  # between two logs, no schedule falls by as much from a constant rate


@dataclass(frozen=True, slots=True)
class TrainerState:
    """What is known of a checkpoint from its log; a value that is missing there is None.

    Attributes:
        max_steps: the steps of the whole training.
        save_steps: the steps between two checkpoints, which the Trainer ignores where it saves by
            epoch.
        batch_size: per device.
        rates: pairs of a step and the learning rate that was logged there.
        rewarded: whether rewards are logged, as by trainers that learn from rewards or preferences.
    """

    step: int | None = None
    max_steps: int | None = None
    save_steps: int | None = None
    epoch: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    rates: tuple[tuple[int, float], ...] = ()
    rewarded: bool = False

    @property
    def rate(self) -> float | None:
        """The learning rate that was logged last."""
        return self.rates[-1][1] if self.rates else None

    @property
    def highest_rate(self) -> float | None:
        """The highest learning rate of the whole history."""
        return max((rate for _, rate in self.rates), default=None)


def read_trainer_state(folder: Path) -> TrainerState:
    """The trainer's state in a checkpoint's folder; all of it is None if there is none.

    Raises:
        CheckpointError: the file is not what the Trainer writes.
    """
    file = folder / "trainer_state.json"
    if not file.exists():
        return TrainerState()
    state = read_json(file)
    try:
        logs = [log for log in state.get("log_history", []) if "learning_rate" in log]
        return TrainerState(
            step=_whole(state.get("global_step")),
            max_steps=_whole(state.get("max_steps")),
            save_steps=_every(state.get("save_steps")),
            epoch=_number(state.get("epoch")),
            epochs=_number(state.get("num_train_epochs")),
            batch_size=_whole(state.get("train_batch_size")),
            rates=tuple((int(log.get("step", 0)), float(log["learning_rate"])) for log in logs),
            rewarded=any(
                str(name) == "reward" or str(name).startswith("rewards/")
                for log in state.get("log_history", [])
                for name in log
            ),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not what transformers' Trainer writes ({error}); copy it again, or delete "
            "it, and the epoch and the learning rate stay unknown"
        ) from error


def rate_changes(state: TrainerState) -> list[tuple[int, float, float]]:
    """Where the learning rate jumped, as it does in a run that was resumed with another one.

    Returns:
        Steps, each with the rate before and after. The rate jumped where it rose although it had
        fallen or been constant before, and where it fell steeply from a constant.

    >>> rates = ((10, 1e-5), (20, 2e-5), (30, 2e-5), (40, 1e-5), (50, 1e-5), (60, 4e-5))
    >>> rate_changes(TrainerState(rates=rates))
    [(40, 2e-05, 1e-05), (60, 1e-05, 4e-05)]
    """
    changes = []
    settled = constant = False
    for (_, before), (step, after) in zip(state.rates, state.rates[1:], strict=False):
        rose, fell = after > before * SAME, after < before / SAME
        if (rose and settled) or (fell and constant and after * DROP < before):
            changes.append((step, before, after))
        constant = not rose and not fell
        settled = not rose
    return changes


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _every(value: Any) -> int | None:
    """A number of steps; None for a fraction of the training, which it may be too."""
    return int(value) if isinstance(value, int | float) and value >= 1 else None


def _whole(value: Any) -> int | None:
    return None if not value else int(value)
