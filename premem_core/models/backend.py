"""The interface of a backend: it samples completions and measures the likelihood of targets.

A backend sees token ids only; how an example becomes token ids is told in `encoding/`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Checkpoint, Completion, Sampling

if TYPE_CHECKING:
    from premem_core.models.server.served_models import Server


@dataclass(frozen=True, slots=True)
class Request:
    """A request for numbered samples of one prompt; sample j is drawn with the seed (`seed`, j).

    So a sample does not depend on which other samples are drawn with it, except for rounding.

    Attributes:
        prompt: token ids.
        opened: whether the prompt ends inside a thinking trace.
    """

    prompt: tuple[int, ...]
    seed: int
    numbers: range
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A text as token ids, and which of them are the target, whose likelihood is measured.

    Attributes:
        ids: the token ids, from the first of the text to the last of the target.
        scored: the indices of the target's tokens in `ids`, ascending, none of them 0.
        trace: how many of these tokens, from the first on, are a thinking trace.
    """

    ids: tuple[int, ...]
    scored: tuple[int, ...]
    trace: int = 0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model gives the T scored tokens of a target, in their order.

    Attributes:
        log_probabilities: (T,) float64, in nats.
        ranks: (T,) int64: how many other tokens the model finds at least as likely. 0 is the
            token that greedy decoding chooses; a tie counts as a higher place, as in vLLM.
    """

    log_probabilities: NDArray[np.float64]
    ranks: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a completion.

    Attributes:
        strings: texts that end it; they are not part of it.
        tokens: token ids that end it.
        kept: ids of special tokens that stay in its text, where others are left out.
        marks: the marks of thinking traces; None if there are none.
    """

    strings: tuple[str, ...] = ()
    tokens: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    marks: ThinkingMarks | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one worker.

    Attributes:
        tensor_parallel: the number of GPUs that share one model.
        batch_divisor: batches are this many times smaller than usual; it is doubled whenever a
            worker runs out of memory.
        server: the running server that computes, for the backend "server".
    """

    tensor_parallel: int = 1
    batch_divisor: int = 1
    server: "Server | None" = None


class Backend(Protocol):
    """One loaded checkpoint.

    Attributes:
        tokenizer: the checkpoint's, of transformers.
        end_tokens: the ids that end a text by the checkpoint's own configuration.
        positions: the most tokens that a sequence may have; None if there is no limit.
    """

    tokenizer: Any
    end_tokens: frozenset[int]
    positions: int | None

    def sample(
        self, batches: Iterable[Sequence[Request]], sampling: Sampling, ending: Ending
    ) -> Iterator[list[list[Completion]]]:
        """Yield, for each batch in order, the completions of its requests, one per sample number.

        A backend may read ahead in `batches`, so that its engine always has work.
        `sampling.samples` is not used, because the requests name their samples.
        """

    def target_scores(self, targets: Sequence[Target]) -> list[TokenScores]:
        """The log-probability and the rank of each scored token of each target."""

    def switch(self, checkpoint: Checkpoint) -> None:
        """Replace the loaded checkpoint with another one, as if it were loaded into a new backend.

        Whole models replace each other; an adapter is replaced by one over the same base model.

        Raises:
            CheckpointError: the checkpoint cannot be loaded. A former adapter stays loaded; after
                a whole model the backend must not be used any more.
            EngineError: only a new backend can load it, and this one must not be used any more.
            MemoryError: the weights do not fit into memory.
        """

    def close(self) -> None:
        """Free the weights."""
