"""What a scoring backend does: continue prompts, and say how likely a given continuation is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from premem_core.records import Checkpoint, Completion, Sampling, TargetScore


@dataclass(frozen=True, slots=True)
class Request:
    """Samples of one prompt, by number: sample j is drawn with the seed (`seed`, j).

    So a sample is the same whichever others are drawn with it, up to rounding in the engine.
    """

    prompt: str
    seed: int
    numbers: range


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker may use.

    `batch_divisor` makes batches smaller: doubled each time a worker ran out of memory.
    """

    tensor_parallel: int = 1
    batch_divisor: int = 1


class Backend(Protocol):
    """One loaded checkpoint. Arithmetic over what it returns lives elsewhere."""

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, stop: Sequence[str]
    ) -> Iterator[list[list[Completion]]]:
        """For each batch, in order, its requests' completions, one per sample number.

        `batches` is read as work allows, so that an engine need not run dry between two of them.
        `sampling.samples` is not used: the requests say how many.
        """

    def target_nll(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
        """Mean negative log-likelihood per token (nats) of each target given its prompt."""

    def switch(self, checkpoint: Checkpoint) -> None:
        """Go on with another adapter over the same base model.

        Raises:
            CheckpointError: the adapter cannot be loaded; the present one stays.
        """

    def close(self) -> None:
        """Free the weights."""
