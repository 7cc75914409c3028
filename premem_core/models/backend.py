"""The interface of a backend: it samples completions and measures the NLL of targets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from premem_core.records import Checkpoint, Completion, Sampling, TargetScore


@dataclass(frozen=True, slots=True)
class Request:
    """A request for numbered samples of one prompt; sample j is drawn with the seed (`seed`, j).

    So a sample does not depend on which other samples are drawn with it, except for rounding.
    """

    prompt: str
    seed: int
    numbers: range


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one worker.

    Attributes:
        tensor_parallel: the number of GPUs that share one model.
        batch_divisor: batches are this many times smaller than usual; it is doubled whenever a
            worker runs out of memory.
    """

    tensor_parallel: int = 1
    batch_divisor: int = 1


class Backend(Protocol):
    """One loaded checkpoint."""

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, stop: Sequence[str]
    ) -> Iterator[list[list[Completion]]]:
        """Yield, for each batch in order, the completions of its requests, one per sample number.

        A backend may read ahead in `batches`, so that its engine always has work.
        `sampling.samples` is not used, because the requests name their samples.
        """

    def target_nll(self, prompts: Sequence[str], targets: Sequence[str]) -> list[TargetScore]:
        """Mean NLL per token, in nats, of each target given its prompt."""

    def switch(self, checkpoint: Checkpoint) -> None:
        """Replace the loaded adapter with another one over the same base model.

        Raises:
            CheckpointError: the adapter cannot be loaded; the former one stays loaded.
        """

    def close(self) -> None:
        """Free the weights."""
