"""What a scoring backend does: continue prompts, and say how likely a given continuation is."""

from collections.abc import Sequence
from typing import Protocol

from premem_core.errors import UsageError
from premem_core.types import Checkpoint, Completion, Sampling, TargetScore

BACKENDS = ("hf",)


class Backend(Protocol):
    """One loaded checkpoint. Arithmetic over what it returns lives elsewhere."""

    def sample(
        self, prompts: Sequence[str], sampling: Sampling, stop: Sequence[str], seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """`sampling.samples` completions of each prompt, drawn with that prompt's own seed."""

    def target_nll(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
        """Mean negative log-likelihood per token (nats) of each target given its prompt."""

    def close(self) -> None:
        """Free the weights."""


def load(name: str, checkpoint: Checkpoint) -> Backend:
    """Load `checkpoint` into the backend called `name`.

    Raises:
        UsageError: there is no such backend.
        CheckpointError: the checkpoint cannot be loaded.
    """
    if name == "hf":
        from premem_core.backends.hf import HFBackend

        return HFBackend(checkpoint)
    raise UsageError(f"backend '{name}' is unknown; choose one of: {', '.join(BACKENDS)}")
